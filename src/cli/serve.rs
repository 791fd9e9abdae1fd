//! `watchword serve`: starts the service, says where it listens, and stops it on a signal.

use std::{
    env,
    io::{self, IsTerminal},
    process::ExitCode,
    sync::Arc,
};

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{
    environment,
    examples::{Open, examples},
    fail_with, print, runtime, start_log,
};
use crate::{
    app::{Addresses, App, StopReason},
    config::{self, Config, Settings},
    telemetry::{Audit, AuditLog},
};

pub(super) fn run(settings: &Settings) -> Result<ExitCode, String> {
    start_log(&settings.logging.log);
    for name in config::unknown_variables(env::vars_os().map(|(name, _)| name)) {
        tracing::warn!(name, "no such setting; is it mistyped?");
    }
    let config = match Config::from_settings(settings) {
        Ok(config) => config,
        Err(error) => return Ok(fail_with(&error.to_string(), 2)),
    };
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    let runtime = runtime()?;
    let ended = runtime.block_on(async {
        let open = Open { legacy_routes: config.legacy_routes, reflection: config.reflection };
        let reopens = matches!(config.audit_log, AuditLog::File(_));
        let app = App::start(config, environment()).await.map_err(|error| error.to_string())?;
        // After the start: until then a signal ends the process at once, even during a long recovery of the store.
        let stop = stop_signal().map_err(|cause| format!("cannot listen to signals: {cause}"))?;
        if reopens {
            reopen_on_hangup(app.audit()).map_err(|cause| format!("cannot listen to signals: {cause}"))?;
        }
        announce(&app.addresses(), open)?;
        Ok(match app.run(stop).await {
            StopReason::Requested => ExitCode::SUCCESS,
            StopReason::StoreFailed => ExitCode::FAILURE,
        })
    });
    // No caller is left; a thread that hangs on a stuck disk must not keep the process.
    runtime.shutdown_background();
    ended
}

/// Waits for SIGTERM or Ctrl-C. The next one ends the process at once.
pub(super) fn stop_signal() -> io::Result<impl Future<Output = ()>> {
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

/// Reopens the file of the audit log at each SIGHUP, which `logrotate` sends after it has moved the old file away.
fn reopen_on_hangup(audit: Arc<Audit>) -> io::Result<()> {
    let mut hangup = signal(SignalKind::hangup())?;
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            audit.reopen();
        }
    });
    Ok(())
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
