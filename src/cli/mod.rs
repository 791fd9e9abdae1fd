//! The commands of the binary. Exit codes: 0 done, 1 failed, 2 a setting is wrong.

mod user;

use std::{
    env,
    error::Error,
    io::{self, IsTerminal, Read, Write},
    net::TcpStream,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::{Duration, SystemTime},
};

use clap::{CommandFactory, FromArgMatches, parser::ValueSource};
use tokio::signal::unix::{SignalKind, signal};
use tonic::{
    Code,
    transport::{Channel, Endpoint},
};

use crate::{
    api::{
        self,
        pb::{self, auth_admin_client::AuthAdminClient},
    },
    app::{Addresses, App, Ended},
    common::host,
    config::{self, Command, CommandLine, Config, Settings, StoreUrl},
    domain::{Environment, System},
    net::Address,
    selftest, store,
    telemetry::{self, Audit, AuditLog},
};

/// How long an operator's command waits for its answer.
const ADMIN_TIMEOUT: Duration = Duration::from_secs(10);

/// How long `healthcheck` waits for an answer.
const HEALTHCHECK_TIMEOUT: Duration = Duration::from_secs(2);

/// Reads the command line and does what it says.
pub fn run() -> ExitCode {
    let matches = CommandLine::command().get_matches();
    let line = CommandLine::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let done = match line.command.clone().unwrap_or(Command::Serve) {
        Command::Serve => serve(&line.settings),
        Command::Descriptor => descriptor(),
        Command::Examples => settings_examples(&line.settings),
        Command::CheckConfig => check_config(&line.settings, &matches),
        Command::Healthcheck => healthcheck(&line.settings),
        Command::RotateSigningKey { drop_old_keys } => rotate_signing_key(&line.settings, drop_old_keys),
        Command::User(what) => user::run(&line.settings, what),
        Command::Selftest { timing: _, samples } => selftest(&line.settings, samples),
        Command::Copy { from, to } => copy(&line.settings, &from, &to),
    };
    match done {
        Ok(code) => code,
        Err(cause) => fail(&cause),
    }
}

fn serve(settings: &Settings) -> Result<ExitCode, String> {
    telemetry::start(settings.log_format, settings.log_level.into(), io::stderr().is_terminal());
    for name in config::unknown_variables(env::vars_os().map(|(name, _)| name)) {
        tracing::warn!(name, "no such setting; is it mistyped?");
    }
    let config = match Config::from_settings(settings) {
        Ok(config) => config,
        Err(error) => return Ok(fail_with(&error.to_string(), 2)),
    };
    let runtime = runtime()?;
    let ended = runtime.block_on(async {
        let open = Open { legacy_routes: config.legacy_routes, reflection: config.reflection };
        let reopens = matches!(config.audit_log, AuditLog::File(_));
        let app = App::start(config, environment()).await.map_err(|error| error.to_string())?;
        // After the start: until then a signal ends the process as it always does, however long a recovery takes.
        let stop = stop_signal().map_err(|cause| format!("cannot listen to signals: {cause}"))?;
        if reopens {
            reopen_on_hangup(app.audit()).map_err(|cause| format!("cannot listen to signals: {cause}"))?;
        }
        announce(&app.addresses(), open)?;
        Ok(match app.run(stop).await {
            Ended::Asked => ExitCode::SUCCESS,
            Ended::StoreFailed => ExitCode::FAILURE,
        })
    });
    // Nobody is left who waits for anything; a thread that hangs on a stuck disk must not keep the process.
    runtime.shutdown_background();
    ended
}

fn environment() -> Environment {
    Environment { clock: Arc::new(System), entropy: Arc::new(System), observer: Arc::new(()) }
}

fn runtime() -> Result<tokio::runtime::Runtime, String> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(host::cores())
        .enable_all()
        .build()
        .map_err(|cause| format!("cannot start the runtime: {cause}"))
}

/// Which parts of the doors there are calls for.
#[derive(Clone, Copy)]
struct Open {
    legacy_routes: bool,
    reflection: bool,
}

/// Waits for SIGTERM or Ctrl-C. The next one ends the process at once.
fn stop_signal() -> io::Result<impl Future<Output = ()>> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    Ok(async move {
        either(&mut terminate, &mut interrupt).await;
        tokio::spawn(async move {
            either(&mut terminate, &mut interrupt).await;
            tracing::warn!("second signal; ending at once");
            std::process::exit(1);
        });
    })
}

/// Opens the audit's file anew at each SIGHUP, as `logrotate` sends after it has moved the old one away.
fn reopen_on_hangup(audit: Arc<Audit>) -> io::Result<()> {
    let mut hangup = signal(SignalKind::hangup())?;
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            audit.reopen();
        }
    });
    Ok(())
}

async fn either(one: &mut tokio::signal::unix::Signal, other: &mut tokio::signal::unix::Signal) {
    tokio::select! {
        _ = one.recv() => {}
        _ = other.recv() => {}
    }
}

/// Says where the node listens: in the log, and with commands to copy when somebody looks.
fn announce(addresses: &Addresses, open: Open) -> Result<(), String> {
    let Addresses { grpc, http, ops, admin } = addresses;
    tracing::info!(api = "grpc", address = %grpc, "listening");
    for (api, address) in [("http", http), ("ops", ops), ("admin", admin)] {
        if let Some(address) = address {
            tracing::info!(api, address = %address, "listening");
        }
    }
    if io::stdout().is_terminal() {
        print(&format!(
            "\nWatchword {} is ready. Try:\n\n{}\n",
            env!("CARGO_PKG_VERSION"),
            examples(grpc, http.as_ref(), open)
        ))?;
    }
    Ok(())
}

fn settings_examples(settings: &Settings) -> Result<ExitCode, String> {
    let config = Config::from_settings(settings).map_err(|error| error.to_string())?;
    let open = Open { legacy_routes: config.legacy_routes, reflection: config.reflection };
    print(&examples(&config.grpc, config.http.as_ref(), open))
}

/// Calls to copy: whatever this node answers.
fn examples(grpc: &Address, http: Option<&Address>, open: Open) -> String {
    const SERVICE: &str = "watchword.auth.v1.Auth";
    let address = match grpc {
        Address::Tcp(address) => format!("-plaintext {address}"),
        // grpcurl takes no relative path.
        Address::Unix(path) => format!("-plaintext -unix {}", absolute(path).display()),
    };
    let user = r#""username":"soham","password":"insecure""#;
    let (flags, address) = address.rsplit_once(' ').expect("flags stand before the address");
    // Without reflection the contract comes from a file.
    let flags = if open.reflection { flags.to_owned() } else { format!("{flags} -protoset watchword.binpb") };
    let mut text = String::new();
    if !open.reflection {
        text.push_str("  watchword descriptor > watchword.binpb\n");
    }
    text.push_str(&format!("  grpcurl {flags} {address} describe {SERVICE}\n"));
    text.push_str(&format!("  grpcurl {flags} -d '{{{user},\"data\":\"testing\"}}' {address} {SERVICE}/Register\n"));
    text.push_str(&format!("  grpcurl {flags} -d '{{{user}}}' {address} {SERVICE}/Login\n"));
    if let Some(http) = http.filter(|_| open.legacy_routes) {
        let target = match http {
            Address::Tcp(address) => format!("'http://{address}"),
            Address::Unix(path) => format!("--unix-socket {} 'http://localhost", absolute(path).display()),
        };
        text.push_str(&format!("  curl {target}/login?username=soham&password=insecure'\n"));
    }
    text
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

fn descriptor() -> Result<ExitCode, String> {
    let mut out = io::stdout();
    if out.is_terminal() {
        return Err("the descriptor set is binary: `watchword descriptor > watchword.binpb`".into());
    }
    out.write_all(api::FILE_DESCRIPTOR_SET).and_then(|()| out.flush()).map_err(|cause| cause.to_string())?;
    Ok(ExitCode::SUCCESS)
}

fn check_config(settings: &Settings, matches: &clap::ArgMatches) -> Result<ExitCode, String> {
    let mut report = String::new();
    for arg in CommandLine::command().get_arguments() {
        let (Some(flag), Some(variable)) = (arg.get_long(), arg.get_env()) else { continue };
        let id = arg.get_id().as_str();
        let value: Vec<_> = matches.get_raw(id).into_iter().flatten().map(|value| value.to_string_lossy()).collect();
        let source = match matches.value_source(id) {
            Some(ValueSource::CommandLine) => "flag".to_owned(),
            Some(ValueSource::EnvVariable) => variable.to_string_lossy().into_owned(),
            _ => "default".to_owned(),
        };
        report.push_str(&format!("--{flag} {} ({source})\n", value.join(" ")));
    }
    for name in config::unknown_variables(env::vars_os().map(|(name, _)| name)) {
        report.push_str(&format!("warning: {name} is no setting\n"));
    }
    print(&report)?;
    let config = match Config::from_settings(settings) {
        Ok(config) => config,
        Err(error) => return Ok(fail_with(&error.to_string(), 1)),
    };
    let store = runtime()?.block_on(store::inspect(&config.store, &config.seal)).map_err(|error| error.to_string())?;
    print(&format!("seal: {:?}\nstore: {store}\nhash workers: {}\n", config.seal, config.hashing.workers))
}

fn copy(settings: &Settings, from: &StoreUrl, to: &StoreUrl) -> Result<ExitCode, String> {
    telemetry::start(settings.log_format, settings.log_level.into(), io::stderr().is_terminal());
    let (from, to) = match (settings.store_at(from), settings.store_at(to)) {
        (Ok(from), Ok(to)) => (from, to),
        (Err(fault), _) | (_, Err(fault)) => return Ok(fail_with(&fault, 2)),
    };
    let report = runtime()?.block_on(store::copy(&from, &to, &environment())).map_err(|error| error.to_string())?;
    print(&report.to_string())?;
    Ok(if report.is_whole() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn selftest(settings: &Settings, samples: u32) -> Result<ExitCode, String> {
    // Whatever cannot be measured must not look like a difference.
    let cannot_tell = |cause: &str| Ok(fail_with(cause, 2));
    let config = match Config::from_settings(settings) {
        Ok(config) => config,
        Err(error) => return cannot_tell(&error.to_string()),
    };
    // A thread of its own for the caller, so that no work of the node runs between its call and its answer.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|cause| format!("cannot start the runtime: {cause}"))?;
    let mut progress = io::stderr();
    let measured = runtime.block_on(async {
        let stop = stop_signal().map_err(|cause| format!("cannot listen to signals: {cause}"))?;
        tokio::select! {
            measured = selftest::timing(&config, samples as usize, &mut progress) => measured,
            () = stop => Err("stopped; nothing was measured to its end".into()),
        }
    });
    match measured {
        Ok(report) => {
            print(&report.to_string())?;
            Ok(ExitCode::from(report.verdict().exit_code()))
        }
        Err(cause) => cannot_tell(&cause),
    }
}

fn rotate_signing_key(settings: &Settings, drop_old_keys: bool) -> Result<ExitCode, String> {
    let request = pb::RotateSigningKeyRequest { drop_old_keys };
    let answer = runtime()?.block_on(async {
        let mut admin = admin(settings).await?;
        let answer = admin.rotate_signing_key(request).await;
        answer.map(tonic::Response::into_inner).map_err(|status| {
            let more = match status.code() {
                // Nothing was executed.
                Code::Unavailable | Code::Aborted => "",
                Code::DataLoss => "; is --seal-key-file of that node the one with which the keys are sealed?",
                _ => "; whether the key was rotated is not known, and it is safe to ask again",
            };
            format!("{}{more}", status.message())
        })
    })?;
    let use_time = answer.use_time.and_then(|time| SystemTime::try_from(time).ok()).unwrap_or(SystemTime::UNIX_EPOCH);
    print(&format!("{} signs from {} on\n", answer.key_id, humantime::format_rfc3339_seconds(use_time)))
}

/// The admin door of the node that runs with these settings.
async fn admin(settings: &Settings) -> Result<AuthAdminClient<Channel>, String> {
    let path = settings.admin_socket().ok_or("--admin-addr is off: there is nobody to ask")?;
    let endpoint = Endpoint::from_shared(format!("unix:{}", path.display())).map_err(|cause| cause.to_string())?;
    let channel = endpoint.timeout(ADMIN_TIMEOUT).connect().await;
    let channel = channel.map_err(|cause| {
        let cause = cause.source().map_or_else(|| cause.to_string(), ToString::to_string);
        format!(
            "unix:{} does not answer: {cause}; is the node running, and yours? --data-dir and --admin-addr say where it is",
            path.display()
        )
    })?;
    Ok(AuthAdminClient::new(channel))
}

fn healthcheck(settings: &Settings) -> Result<ExitCode, String> {
    let address = settings.ops_addr.0.as_ref().ok_or("--ops-addr is off: there is nobody to ask")?;
    let answer = ask_ready(address).map_err(|cause| format!("{address} does not answer: {cause}"))?;
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body).trim();
    if answer.starts_with("HTTP/1.1 200 ") { print(&format!("{body}\n")) } else { Err(body.to_owned()) }
}

fn ask_ready(address: &Address) -> io::Result<String> {
    const REQUEST: &[u8] = b"GET /readyz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    fn ask(mut stream: impl Read + Write) -> io::Result<String> {
        stream.write_all(REQUEST)?;
        let mut answer = String::new();
        stream.take(64 * 1024).read_to_string(&mut answer)?;
        Ok(answer)
    }
    match address {
        Address::Tcp(address) => {
            let stream = TcpStream::connect_timeout(address, HEALTHCHECK_TIMEOUT)?;
            stream.set_read_timeout(Some(HEALTHCHECK_TIMEOUT))?;
            ask(stream)
        }
        Address::Unix(path) => {
            let stream = UnixStream::connect(path)?;
            stream.set_read_timeout(Some(HEALTHCHECK_TIMEOUT))?;
            ask(stream)
        }
    }
}

fn print(text: &str) -> Result<ExitCode, String> {
    io::stdout().write_all(text.as_bytes()).map_err(|cause| cause.to_string())?;
    Ok(ExitCode::SUCCESS)
}

fn fail(cause: &str) -> ExitCode {
    fail_with(cause, 1)
}

fn fail_with(cause: &str, code: u8) -> ExitCode {
    // Nobody to tell when standard error is closed; the exit code says it too.
    drop(writeln!(io::stderr(), "watchword: {cause}"));
    ExitCode::from(code)
}
