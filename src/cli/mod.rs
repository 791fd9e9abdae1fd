//! The commands of the binary, one file each.
//!
//! Exit codes are the same for all commands: 0 done, 1 failed, 2 a setting is wrong. A command reads only the settings that
//! its `--help` shows. Does not know the rules: it starts a node, or calls the admin API of one.

mod admin;
mod check_config;
mod examples;
mod healthcheck;
mod output;
mod serve;
mod settings_report;
mod user;

use std::{
    env,
    io::{self, IsTerminal, Write},
    process::ExitCode,
    sync::Arc,
};

use self::output::{fail, fail_with, print, warn};
use crate::{
    api,
    common::host,
    config::{Command, CommandLine, Config, ConfigError, LogArgs, StoreAccessArgs, StoreUrl},
    domain::{Environment, System},
    selftest, store, telemetry,
};

/// Reads the command line and runs its command.
pub fn run() -> ExitCode {
    // Before any secret is read.
    if let Err(cause) = host::forbid_memory_dumps() {
        warn(&format!("core dumps cannot be forbidden, and they may have passwords: {cause}"));
    }
    let line = CommandLine::parse(env::args_os()).unwrap_or_else(|error| error.exit());
    let done = match line.command {
        Command::Serve(settings) => serve::run(&settings),
        Command::CheckConfig { settings, json } => check_config::run(&settings, &line.matches, json),
        Command::Healthcheck(ops) => healthcheck::run(&ops),
        Command::User { node, action } => user::run(&node, action),
        Command::RotateSigningKey { node, drop_old_keys } => admin::rotate_signing_key(&node, drop_old_keys),
        Command::Copy { from, to, access, log } => copy(&from, &to, &access, &log),
        Command::Selftest { timing: _, samples, store, redis, users, resources } => {
            selftest(samples, Config::with_defaults(store, redis, *users, resources))
        }
        Command::Examples { grpc, http } => examples::run(&grpc, &http),
        Command::Descriptor => descriptor(),
    };
    match done {
        Ok(code) => code,
        Err(cause) => fail(&cause),
    }
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

fn start_log(log: &LogArgs) {
    telemetry::start(log.log_format, log.log_level.into(), io::stderr().is_terminal());
}

fn descriptor() -> Result<ExitCode, String> {
    let mut out = io::stdout();
    if out.is_terminal() {
        return Err("the descriptor set is binary: `watchword descriptor > watchword.binpb`".into());
    }
    out.write_all(api::FILE_DESCRIPTOR_SET).and_then(|()| out.flush()).map_err(|cause| cause.to_string())?;
    Ok(ExitCode::SUCCESS)
}

fn copy(from: &StoreUrl, to: &StoreUrl, access: &StoreAccessArgs, log: &LogArgs) -> Result<ExitCode, String> {
    start_log(log);
    let (from, to) = match (access.store_at(from, false), access.store_at(to, false)) {
        (Ok(from), Ok(to)) => (from, to),
        (Err(fault), _) | (_, Err(fault)) => return Ok(fail_with(&fault, 2)),
    };
    let report = runtime()?.block_on(store::copy(&from, &to, &environment())).map_err(|error| error.to_string())?;
    print(&report.to_string())?;
    Ok(if report.is_whole() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn selftest(samples: u32, config: Result<Config, ConfigError>) -> Result<ExitCode, String> {
    // A failed measurement must not look like a difference, which is 1.
    let cannot_tell = |cause: &str| Ok(fail_with(cause, 2));
    let config = match config {
        Ok(config) => config,
        Err(error) => return cannot_tell(&error.to_string()),
    };
    // A thread of its own for the caller, so that no work of the node runs between its call and its answer.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|cause| format!("cannot start the runtime: {cause}"))?;
    let mut progress = io::stderr();
    let measured = runtime.block_on(async {
        let stop = serve::stop_signal().map_err(|cause| format!("cannot listen to signals: {cause}"))?;
        selftest::timing(&config, samples as usize, &mut progress, stop).await
    });
    match measured {
        Ok(report) => {
            print(&report.to_string())?;
            Ok(ExitCode::from(report.verdict().exit_code()))
        }
        Err(cause) => cannot_tell(&cause),
    }
}
