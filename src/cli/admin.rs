//! The admin API of a running node, as commands call it; and `watchword rotate-signing-key`.

use std::{
    error::Error,
    process::ExitCode,
    time::{Duration, SystemTime},
};

use tonic::{
    Code, Response, Status,
    transport::{Channel, Endpoint},
};

use super::{print, runtime};
use crate::{
    api::pb::{self, auth_admin_client::AuthAdminClient},
    config::AdminClientArgs,
};

/// How long a command waits for its answer.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Connects to the node with these settings.
pub(super) async fn connect(node: &AdminClientArgs) -> Result<AuthAdminClient<Channel>, String> {
    let path = node.listener.socket(&node.data).ok_or("--admin-addr is off: the node has no admin API to call")?;
    let endpoint = Endpoint::from_shared(format!("unix:{}", path.display())).map_err(|cause| cause.to_string())?;
    let channel = endpoint.timeout(TIMEOUT).connect().await;
    let channel = channel.map_err(|cause| {
        let cause = cause.source().map_or_else(|| cause.to_string(), ToString::to_string);
        format!(
            "unix:{} does not answer: {cause}; is the node running, as your user? --data-dir or --admin-addr names its socket",
            path.display()
        )
    })?;
    Ok(AuthAdminClient::new(channel))
}

pub(super) fn rotate_signing_key(node: &AdminClientArgs, drop_old_keys: bool) -> Result<ExitCode, String> {
    let request = pb::RotateSigningKeyRequest { drop_old_keys };
    let answer = runtime()?.block_on(async {
        let answer = connect(node).await?.rotate_signing_key(request).await;
        answer.map(Response::into_inner).map_err(|status| not_rotated(&status))
    })?;
    let use_time = answer.use_time.and_then(|time| SystemTime::try_from(time).ok()).unwrap_or(SystemTime::UNIX_EPOCH);
    print(&format!("{} signs from {} on\n", answer.key_id, humantime::format_rfc3339_seconds(use_time)))
}

fn not_rotated(status: &Status) -> String {
    let more = match status.code() {
        // The node changed nothing.
        Code::Unavailable | Code::Aborted => "",
        Code::DataLoss => "; does --seal-key-file of that node name the key that encrypts the key ring?",
        _ => "; whether the key was rotated is not known, and it is safe to repeat",
    };
    format!("{}{more}", status.message())
}
