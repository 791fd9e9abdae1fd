//! The admin API of a running node, as commands call it; and `watchword rotate-signing-key`.

use std::{
    io::{self, ErrorKind},
    path::Path,
    process::ExitCode,
    time::{Duration, SystemTime},
};

use http::Uri;
use hyper_util::rt::TokioIo;
use tokio::{net::UnixStream, time::timeout};
use tonic::{
    Code, Response, Status,
    transport::{Channel, Endpoint},
};
use tower::service_fn;

use super::{print, runtime};
use crate::{
    api::pb::{self, auth_admin_client::AuthAdminClient},
    common::files::only_writer,
    config::AdminClientArgs,
};

/// How long a command waits for its answer.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Connects to the node with these settings.
pub(super) async fn connect(node: &AdminClientArgs) -> Result<AuthAdminClient<Channel>, String> {
    let path = node.listener.socket(&node.data).ok_or("--admin-addr is off: the node has no admin API to call")?;
    let stream = timeout(TIMEOUT, UnixStream::connect(&path)).await.unwrap_or_else(|_| Err(ErrorKind::TimedOut.into()));
    let stream = stream.map_err(|cause| {
        format!(
            "unix:{} does not answer: {cause}; is the node running, as your user? --data-dir or --admin-addr names its socket",
            path.display()
        )
    })?;
    refuse_other_user(&path, &stream)?;
    // One connection: a second one could reach another process.
    let mut once = Some(stream);
    let connect = service_fn(move |_: Uri| {
        let stream = once.take().map(TokioIo::new).ok_or(io::Error::from(ErrorKind::NotConnected));
        async { stream }
    });
    let endpoint = Endpoint::from_static("http://localhost").timeout(TIMEOUT);
    let channel = endpoint.connect_with_connector(connect).await;
    let channel = channel.map_err(|cause| format!("unix:{} does not answer: {cause}", path.display()))?;
    Ok(AuthAdminClient::new(channel))
}

/// Refuses a node of another user, before anything is sent: the socket may be one that another user has put there.
///
/// Root also accepts the user who alone can write the folder of the socket, because a service often has a user of its own.
fn refuse_other_user(path: &Path, stream: &UnixStream) -> Result<(), String> {
    let peer = stream.peer_cred().map_err(|cause| format!("unix:{}: {cause}", path.display()))?.uid();
    let user = rustix::process::geteuid();
    if peer == 0 || peer == user.as_raw() || user.is_root() && path.parent().and_then(only_writer) == Some(peer) {
        return Ok(());
    }
    Err(format!(
        "unix:{}: a process of user {peer} answers, and you are user {}: nothing was sent. Run this as the user of the node; \
         --data-dir or --admin-addr names another socket",
        path.display(),
        user.as_raw()
    ))
}

pub(super) fn rotate_signing_key(node: &AdminClientArgs, drop_old_keys: bool) -> Result<ExitCode, String> {
    let request = pb::RotateSigningKeyRequest { drop_old_keys };
    let answer = runtime()?.block_on(async {
        let answer = connect(node).await?.rotate_signing_key(request).await;
        answer.map(Response::into_inner).map_err(|status| not_rotated(&status))
    })?;
    let use_time = answer.use_time.and_then(|time| SystemTime::try_from(time).ok()).unwrap_or(SystemTime::UNIX_EPOCH);
    let dropped = match drop_old_keys {
        true => {
            "the old keys are dropped: clients refresh their tokens; other services must fetch the public keys again\n"
        }
        false => "",
    };
    print(&format!("{} signs from {} on\n{dropped}", answer.key_id, humantime::format_rfc3339_seconds(use_time)))
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
