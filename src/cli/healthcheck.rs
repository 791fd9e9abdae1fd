//! `watchword healthcheck`: asks the ops listener of a running node, for containers without curl.

use std::{
    io::{self, Read, Write},
    net::TcpStream,
    os::unix::net::UnixStream,
    process::ExitCode,
    time::Duration,
};

use super::print;
use crate::{config::OpsListenerArgs, net::Address};

/// How long it waits to connect, and for the answer.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Bytes of an answer that are read.
const ANSWER_BYTES_MAX: u64 = 64 * 1024;

pub(super) fn run(ops: &OpsListenerArgs) -> Result<ExitCode, String> {
    let address = ops.ops_addr.0.as_ref().ok_or("--ops-addr is off: the node has no ops listener to ask")?;
    let answer = ask_ready(address).map_err(|cause| {
        format!("{address} does not answer: {cause}; is the node running? --ops-addr names its ops listener")
    })?;
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body).trim();
    if answer.starts_with("HTTP/1.1 200 ") { print(&format!("{body}\n")) } else { Err(body.to_owned()) }
}

fn ask_ready(address: &Address) -> io::Result<String> {
    match address {
        Address::Tcp(address) => {
            let stream = TcpStream::connect_timeout(address, TIMEOUT)?;
            stream.set_read_timeout(Some(TIMEOUT))?;
            ask(stream)
        }
        Address::Unix(path) => {
            let stream = UnixStream::connect(path)?;
            stream.set_read_timeout(Some(TIMEOUT))?;
            ask(stream)
        }
    }
}

fn ask(mut stream: impl Read + Write) -> io::Result<String> {
    stream.write_all(b"GET /readyz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.take(ANSWER_BYTES_MAX).read_to_string(&mut answer)?;
    Ok(answer)
}
