//! HTTP/1.1 by hand: a test sees the very bytes.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    time::timeout,
};

use super::WAIT_MAX;

/// An answer.
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

/// Sends one request and reads its answer.
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

fn reply(answer: &[u8]) -> Reply {
    let answer = std::str::from_utf8(answer).expect("our answers are UTF-8");
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no HTTP answer: {answer:?}"));
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status line");
    Reply { status, head: head.to_owned(), body: body.to_owned() }
}

/// Sends bytes and reads until the other side closes.
pub async fn raw(to: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    exchange(TcpStream::connect(to).await.unwrap(), bytes).await
}

/// Sends one request without a body from an address of this machine's own, such as 127.1.2.3, and reads its answer.
pub async fn http_from(from: [u8; 4], to: SocketAddr, method: &str, target: &str) -> Reply {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((from, 0).into()).unwrap();
    let request = format!("{method} {target} HTTP/1.1\r\nconnection: close\r\nhost: {to}\r\n\r\n");
    reply(&exchange(socket.connect(to).await.unwrap(), request.as_bytes()).await)
}

async fn exchange(mut stream: TcpStream, bytes: &[u8]) -> Vec<u8> {
    // The server may close before it has read everything; what it said before counts.
    drop(stream.write_all(bytes).await);
    let mut answer = Vec::new();
    drop(timeout(WAIT_MAX, stream.read_to_end(&mut answer)).await.expect("the server closes"));
    answer
}
