//! HTTP/1.1 without a client library: a test sees the exact bytes.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    time::timeout,
};

use super::WAIT_MAX;

/// A response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Reply {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

/// Sends one request and reads its response.
pub async fn http(to: SocketAddr, method: &str, target: &str, headers: &[(&str, &str)], body: &str) -> Reply {
    let mut request = format!("{method} {target} HTTP/1.1\r\nconnection: close\r\n");
    if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
        request.push_str(&format!("host: {to}\r\n"));
    }
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    if !body.is_empty() {
        request.push_str(&format!("content-length: {}\r\n", body.len()));
    }
    request.push_str("\r\n");
    request.push_str(body);
    reply(&raw(to, request.as_bytes()).await)
}

fn reply(response: &[u8]) -> Reply {
    let response = std::str::from_utf8(response).expect("the response is UTF-8");
    let (head, body) = response.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no HTTP response: {response:?}"));
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status line");
    Reply { status, head: head.to_owned(), body: body.to_owned() }
}

/// Sends bytes and reads until the server closes the connection.
pub async fn raw(to: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    exchange(TcpStream::connect(to).await.unwrap(), bytes).await
}

/// Like [`http`] without headers and body, from a loopback address such as 127.1.2.3.
pub async fn http_from(from: [u8; 4], to: SocketAddr, method: &str, target: &str) -> Reply {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((from, 0).into()).unwrap();
    let request = format!("{method} {target} HTTP/1.1\r\nconnection: close\r\nhost: {to}\r\n\r\n");
    reply(&exchange(socket.connect(to).await.unwrap(), request.as_bytes()).await)
}

async fn exchange(mut stream: TcpStream, bytes: &[u8]) -> Vec<u8> {
    // The server can close the connection before it has read everything. Its response is still read.
    drop(stream.write_all(bytes).await);
    let mut response = Vec::new();
    drop(timeout(WAIT_MAX, stream.read_to_end(&mut response)).await.expect("the server closes the connection"));
    response
}
