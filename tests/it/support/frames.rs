//! Raw HTTP/2 frames: a test sends what no correct client sends.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use super::WAIT_MAX;

/// The client connection preface (RFC 9113, section 3.4).
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

pub const ACK: u8 = 1;
pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;

/// A received frame.
#[derive(Debug)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub payload: Vec<u8>,
}

/// Encodes a frame.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A SETTINGS frame with one setting.
pub fn setting(id: u16, value: u32) -> Vec<u8> {
    frame(SETTINGS, 0, 0, &[&id.to_be_bytes()[..], &value.to_be_bytes()].concat())
}

/// The header block of a call to `path`.
pub fn call_head(path: &str, more: &[(&str, &str)]) -> Vec<u8> {
    // Static table (RFC 7541, appendix A): method POST, scheme http.
    let mut block = vec![0x83, 0x86];
    let standard =
        [(":path", path), (":authority", "localhost"), ("content-type", "application/grpc"), ("te", "trailers")];
    for (name, value) in standard.iter().chain(more) {
        block.extend(header(name, value));
    }
    block
}

/// One header as a literal field, without Huffman coding (RFC 7541, section 6.2.2).
pub fn header(name: &str, value: &str) -> Vec<u8> {
    let length =
        |text: &str| u8::try_from(text.len()).ok().filter(|length| *length < 127).expect("less than 127 bytes");
    [&[0, length(name)], name.as_bytes(), &[length(value)], value.as_bytes()].concat()
}

/// A complete call on one stream.
pub fn call(stream: u32, path: &str, more: &[(&str, &str)], message: &[u8]) -> Vec<u8> {
    let head = frame(HEADERS, END_HEADERS, stream, &call_head(path, more));
    [head, frame(DATA, END_STREAM, stream, message)].concat()
}

/// Reads the next frame; `None` when the server has closed the connection.
pub async fn next_frame(stream: &mut (impl AsyncRead + Unpin)) -> Option<Frame> {
    let mut head = [0; 9];
    timeout(WAIT_MAX, stream.read_exact(&mut head)).await.expect("the server sends a frame or closes").ok()?;
    let mut payload = vec![0; usize::from(head[1]) << 8 | usize::from(head[2])];
    stream.read_exact(&mut payload).await.ok()?;
    Some(Frame { kind: head[3], flags: head[4], payload })
}

/// Reads until the server closes the connection, and returns what it sent. Panics after [`WAIT_MAX`].
pub async fn closed(mut stream: impl AsyncRead + Unpin) -> Vec<u8> {
    let mut received = Vec::new();
    drop(timeout(WAIT_MAX, stream.read_to_end(&mut received)).await.expect("the server closes the connection"));
    received
}

/// Connects and sends the preface and `bytes`.
pub async fn begun(to: SocketAddr, bytes: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(to).await.unwrap();
    stream.set_nodelay(true).unwrap();
    // The server can close the connection before it has read everything.
    drop(stream.write_all(&[PREFACE, bytes].concat()).await);
    stream
}
