//! `watchword serve`: starts the service, says where it listens, and stops it on a signal.

use std::{
    env,
    io::{self, IsTerminal},
    process::ExitCode,
    sync::Arc,
};

use tokio::{
    runtime::Runtime,
    signal::unix::{Signal, SignalKind, signal},
};

use super::{
    environment,
    examples::{Open, examples},
    fail_with, print, runtime,
};
use crate::{
    app::{Addresses, App, StopReason},
    config::{self, Config, ConfigError, LogArgs, Settings},
    telemetry::{self, Audit},
};

/// Why a node did not start, or ended.
enum ServeError {
    Settings(ConfigError),
    Node(String),
}

impl From<String> for ServeError {
    fn from(cause: String) -> Self {
        ServeError::Node(cause)
    }
}

pub(super) fn run(settings: &Settings) -> Result<ExitCode, String> {
    let LogArgs { log_format, log_level } = settings.logging.log;
    let colours = io::stderr().is_terminal();
    telemetry::start_buffered(log_format, log_level.into(), colours)
        .map_err(|cause| format!("cannot start the log: {cause}"))?;
    let runtime = runtime()?;
    let ended = serve(settings, &runtime);
    runtime.block_on(telemetry::close_log());
    // No caller is left; a thread that hangs on a stuck disk must not keep the process.
    runtime.shutdown_background();
    match ended {
        Ok(code) => Ok(code),
        Err(ServeError::Settings(error)) => Ok(fail_with(&error.to_string(), 2)),
        Err(ServeError::Node(cause)) => Err(cause),
    }
}

fn serve(settings: &Settings, runtime: &Runtime) -> Result<ExitCode, ServeError> {
    // Before all else: without a handler the first process of a container ignores SIGTERM, and SIGHUP ends a node.
    let signals = {
        let _context = runtime.enter();
        signal(SignalKind::hangup()).and_then(|hangup| Ok((stop_signal()?, hangup)))
    };
    let (stop, hangup) = signals.map_err(|cause| format!("cannot listen to signals: {cause}"))?;
    for name in config::unknown_variables(env::vars_os().map(|(name, _)| name)) {
        tracing::warn!(name, "no such setting; is it mistyped?");
    }
    runtime.block_on(async {
        tokio::pin!(stop);
        // On a thread of its own: a start may block it, while a large store recovers or a disk hangs, and a runtime of one core
        // would then see no signal.
        let (handle, settings) = (runtime.handle().clone(), settings.clone());
        #[expect(clippy::disallowed_methods, reason = "one thread, until the node has started")]
        let start = tokio::task::spawn_blocking(move || handle.block_on(start(settings)));
        let (app, open) = tokio::select! {
            started = start => started.map_err(|cause| cause.to_string())??,
            () = &mut stop => {
                tracing::info!("signal during the start; ending at once");
                return Ok(ExitCode::SUCCESS);
            }
        };
        reopen_on_hangup(hangup, app.audit());
        if let Err(cause) = announce(&app.addresses(), open) {
            tracing::warn!(cause, "the example calls cannot be printed");
        }
        Ok(match app.run(stop).await {
            StopReason::Requested => ExitCode::SUCCESS,
            StopReason::StoreFailed => ExitCode::FAILURE,
        })
    })
}

/// Reads the files of the settings, and starts a node.
async fn start(settings: Settings) -> Result<(App, Open), ServeError> {
    let config = Config::from_settings(&settings).map_err(ServeError::Settings)?;
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    let open = Open { legacy_routes: config.legacy_routes, reflection: config.reflection };
    let app = App::start(config, environment()).await.map_err(|error| error.to_string())?;
    Ok((app, open))
}

/// Waits for SIGTERM or Ctrl-C. The next one ends the process at once.
pub(super) fn stop_signal() -> io::Result<impl Future<Output = ()>> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    Ok(async move {
        either(&mut terminate, &mut interrupt).await;
        tokio::spawn(async move {
            either(&mut terminate, &mut interrupt).await;
            tracing::warn!("second signal; ending at once");
            telemetry::close_log().await;
            std::process::exit(1);
        });
    })
}

/// Reopens the file of the audit log, if there is one, at each SIGHUP, which `logrotate` sends after it has moved the old
/// file away.
fn reopen_on_hangup(mut hangup: Signal, audit: Arc<Audit>) {
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            audit.reopen();
        }
    });
}

async fn either(one: &mut Signal, other: &mut Signal) {
    tokio::select! {
        _ = one.recv() => {}
        _ = other.recv() => {}
    }
}

/// Says where the node listens: in the log, and on a terminal with example calls.
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
