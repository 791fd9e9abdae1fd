//! Real gateways, proxies and browsers in front of Watchword, with the files of `deploy/`.
//!
//! Each test replaces only addresses and certificates in the file. `tests/run` installs the programs. Caddy and Chromium
//! are large, so their tests run in the long form alone.

mod browser;
mod envoy;
mod paths;
mod proxies;

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use tempfile::TempDir;
use tokio::{
    net::TcpStream,
    process::{Child, Command},
    time::timeout,
};

use crate::support::{
    WAIT_MAX,
    program::{root, succeeds, tool},
};

/// A running program, which is killed when dropped, and its folder.
struct Running {
    _child: Child,
    _folder: TempDir,
    port: u16,
}

/// A file of `deploy/` with replacements, each of which must apply.
fn deployed(file: &str, changes: &[(&str, &str)]) -> String {
    replaced(file, fs::read_to_string(root().join("deploy").join(file)).unwrap(), changes)
}

/// The text of a file with replacements, each of which must apply.
fn replaced(file: &str, mut text: String, changes: &[(&str, &str)]) -> String {
    for (from, to) in changes {
        assert!(text.contains(from), "{file} has no {from:?}");
        text = text.replace(from, to);
    }
    text
}

/// A port that is free now. Programs that cannot report a port that they choose get one of these.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Starts a program and waits until it accepts connections at the port.
async fn start(command: &mut Command, folder: TempDir, port: u16) -> Running {
    let log = folder.path().join("log");
    let output = || Stdio::from(fs::File::options().create(true).append(true).open(&log).unwrap());
    let mut child = command.stdin(Stdio::null()).stdout(output()).stderr(output()).kill_on_drop(true).spawn().unwrap();
    let log = || fs::read_to_string(&log).unwrap_or_default();
    let accepted = async {
        while TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], port))).await.is_err() {
            assert!(child.try_wait().unwrap().is_none(), "{command:?} ended:\n{}", log());
            pause().await;
        }
    };
    let in_time = timeout(WAIT_MAX, accepted).await;
    assert!(in_time.is_ok(), "{command:?} does not listen:\n{}", log());
    Running { _child: child, _folder: folder, port }
}

/// Waits for another process, which no test clock moves.
async fn pause() {
    tokio::time::sleep(Duration::from_millis(20)).await;
}

/// A certificate for `auth.example.com`, its key, and both in one file.
struct Certificate {
    cert: PathBuf,
    key: PathBuf,
    both: PathBuf,
}

async fn certificate(folder: &Path) -> Certificate {
    let (cert, key, both) = (folder.join("cert.pem"), folder.join("key.pem"), folder.join("both.pem"));
    let mut openssl = Command::new(tool("openssl"));
    openssl.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]);
    openssl.args(["-subj", "/CN=auth.example.com", "-addext", "subjectAltName=DNS:auth.example.com"]);
    succeeds(openssl.arg("-keyout").arg(&key).arg("-out").arg(&cert)).await;
    fs::write(&both, [fs::read(&cert).unwrap(), fs::read(&key).unwrap()].concat()).unwrap();
    Certificate { cert, key, both }
}
