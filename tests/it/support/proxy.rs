//! A proxy between a client and a server that simulates network faults.
//!
//! It can delay with jitter, drop everything without a FIN (a black hole), reset, close one direction, slice into small
//! pieces, cut after a number of bytes, and drop the k-th reply of a RESP server. After a dropped reply it resets the
//! connection, as TCP would, or continues, which no real network does.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use socket2::SockRef;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    task::JoinHandle,
    time::sleep,
};

/// What the proxy does to every connection, including open ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NetworkCondition {
    /// Bytes pass.
    Normal,
    /// Bytes pass after a random delay between these two durations.
    Slow(Duration, Duration),
    /// Nothing passes in either direction, and neither side gets an error.
    BlackHole,
    /// Open connections are reset, and new ones as soon as they are accepted.
    Reset,
    /// Requests of the client do not pass; replies do.
    HalfClosed,
    /// Bytes pass in slices of this size.
    Sliced(usize),
    /// The port is closed: open connections are reset and new ones are refused.
    Closed,
}

/// What follows a dropped reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LostReply {
    /// The connection is reset.
    ThenReset,
    /// Later replies pass, so each of them appears to answer an earlier request.
    ThenContinue,
}

/// A running proxy. Its connections are reset when it is dropped.
pub struct Proxy {
    pub address: SocketAddr,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

struct Shared {
    server: SocketAddr,
    condition: watch::Sender<NetworkCondition>,
    /// How many more bytes of the server pass. Negative: no limit.
    cut_after: AtomicI64,
    /// How many more replies pass before one is lost. Negative: none is lost.
    replies_until_loss: AtomicI64,
    lost: Mutex<LostReply>,
    accepted: AtomicU64,
    random_state: AtomicU64,
}

impl Proxy {
    /// Listens on a free port and forwards to the port `server`.
    pub async fn before(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            server: ([127, 0, 0, 1], server).into(),
            condition: watch::Sender::new(NetworkCondition::Normal),
            cut_after: AtomicI64::new(-1),
            replies_until_loss: AtomicI64::new(-1),
            lost: Mutex::new(LostReply::ThenReset),
            accepted: AtomicU64::new(0),
            random_state: AtomicU64::new(1),
        });
        let accepting = tokio::spawn(shared.clone().accept(listener));
        Self { address, shared, accepting }
    }

    pub fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    pub fn set(&self, condition: NetworkCondition) {
        self.shared.condition.send_replace(condition);
    }

    /// Resets the connection after this many more bytes of the server.
    pub fn cut_after(&self, bytes: i64) {
        self.shared.cut_after.store(bytes, Ordering::SeqCst);
    }

    /// Loses one reply, after `pass` more replies.
    pub fn lose_reply_after(&self, pass: i64, how: LostReply) {
        *self.shared.lost.lock().unwrap() = how;
        self.shared.replies_until_loss.store(pass, Ordering::SeqCst);
    }

    /// How many connections the proxy has accepted.
    pub fn accepted(&self) -> u64 {
        self.shared.accepted.load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.set(NetworkCondition::Reset);
    }
}

impl Shared {
    async fn accept(self: Arc<Self>, listener: TcpListener) {
        let address = listener.local_addr().unwrap();
        let mut condition = self.condition.subscribe();
        let mut listener = Some(listener);
        loop {
            let closed = *condition.borrow_and_update() == NetworkCondition::Closed;
            match &listener {
                _ if closed => listener = None,
                None => listener = Some(TcpListener::bind(address).await.unwrap()),
                Some(_) => {}
            }
            let Some(open) = &listener else {
                drop(condition.changed().await);
                continue;
            };
            tokio::select! {
                accepted = open.accept() => {
                    let (client, _) = accepted.unwrap();
                    self.accepted.fetch_add(1, Ordering::SeqCst);
                    tokio::spawn(self.clone().serve(client));
                }
                _ = condition.changed() => {}
            }
        }
    }

    async fn serve(self: Arc<Self>, client: TcpStream) {
        let mut condition = self.condition.subscribe();
        if matches!(*condition.borrow_and_update(), NetworkCondition::Reset | NetworkCondition::Closed) {
            return reset(&client);
        }
        let Ok(server) = TcpStream::connect(self.server).await else { return reset(&client) };
        client.set_nodelay(true).unwrap();
        server.set_nodelay(true).unwrap();
        // A dropped stream then sends RST instead of FIN.
        reset(&server);
        let (client_in, client_out) = client.into_split();
        let (server_in, server_out) = server.into_split();
        // The pumps own the streams: when one pump ends, all streams are dropped.
        tokio::select! {
            () = self.pump(client_in, server_out, None) => {}
            () = self.pump(server_in, client_out, Some(Replies::default())) => {}
            () = self.wait_for_reset(&mut condition) => {}
        }
    }

    async fn wait_for_reset(&self, condition: &mut watch::Receiver<NetworkCondition>) {
        while !matches!(*condition.borrow_and_update(), NetworkCondition::Reset | NetworkCondition::Closed) {
            if condition.changed().await.is_err() {
                return;
            }
        }
    }

    /// Forwards bytes in one direction until the stream ends or a fault ends it.
    async fn pump(&self, mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut replies: Option<Replies>) {
        // When one side ends, the other side receives a reset.
        reset(to.as_ref());
        let is_from_server = replies.is_some();
        let mut condition = self.condition.subscribe();
        let mut buffer = vec![0; 64 * 1024];
        loop {
            self.wait_while_blocked(&mut condition, is_from_server).await;
            let Ok(count @ 1..) = from.read(&mut buffer).await else { return };
            // Bytes that were read before the condition changed wait too, as bytes in transit do.
            self.wait_while_blocked(&mut condition, is_from_server).await;
            let mut bytes = buffer[..count].to_vec();
            if let Some(replies) = &mut replies {
                match self.lose(replies, &bytes) {
                    Some(remaining) => bytes = remaining,
                    None => return,
                }
                if !self.may_pass(&mut bytes) {
                    drop(to.write_all(&bytes).await);
                    return;
                }
            }
            if !self.deliver(&mut to, &bytes).await {
                return;
            }
        }
    }

    async fn wait_while_blocked(&self, condition: &mut watch::Receiver<NetworkCondition>, is_from_server: bool) {
        loop {
            let now = *condition.borrow_and_update();
            let is_blocked =
                now == NetworkCondition::BlackHole || (now == NetworkCondition::HalfClosed && !is_from_server);
            if !is_blocked || condition.changed().await.is_err() {
                return;
            }
        }
    }

    async fn deliver(&self, to: &mut OwnedWriteHalf, bytes: &[u8]) -> bool {
        let now = *self.condition.borrow();
        match now {
            NetworkCondition::Slow(least, most) => {
                sleep(least + (most - least) / 100 * self.percent()).await;
                to.write_all(bytes).await.is_ok()
            }
            NetworkCondition::Sliced(size) => {
                for slice in bytes.chunks(size) {
                    if to.write_all(slice).await.is_err() {
                        return false;
                    }
                    tokio::task::yield_now().await;
                }
                true
            }
            NetworkCondition::Normal
            | NetworkCondition::BlackHole
            | NetworkCondition::Reset
            | NetworkCondition::HalfClosed
            | NetworkCondition::Closed => to.write_all(bytes).await.is_ok(),
        }
    }

    /// Removes the reply that must be lost from `bytes`. `None` when the connection must end.
    fn lose(&self, replies: &mut Replies, bytes: &[u8]) -> Option<Vec<u8>> {
        if self.replies_until_loss.load(Ordering::SeqCst) < 0 {
            replies.skip(bytes);
            return Some(bytes.to_vec());
        }
        let mut remaining = Vec::with_capacity(bytes.len());
        for (part, is_last_part) in replies.split(bytes) {
            let is_lost = self.replies_until_loss.load(Ordering::SeqCst) == 0;
            if is_last_part {
                self.replies_until_loss.fetch_sub(1, Ordering::SeqCst);
            }
            if !is_lost {
                remaining.extend_from_slice(part);
            } else if *self.lost.lock().unwrap() == LostReply::ThenReset {
                self.replies_until_loss.store(-1, Ordering::SeqCst);
                return None;
            }
        }
        Some(remaining)
    }

    /// Truncates `bytes` to the limit of [`Proxy::cut_after`]. False when the limit is reached.
    fn may_pass(&self, bytes: &mut Vec<u8>) -> bool {
        let remaining = self.cut_after.load(Ordering::SeqCst);
        if remaining < 0 {
            return true;
        }
        let passes = usize::try_from(remaining).unwrap().min(bytes.len());
        let is_last = passes < bytes.len();
        bytes.truncate(passes);
        self.cut_after.store(if is_last { -1 } else { remaining - passes as i64 }, Ordering::SeqCst);
        !is_last
    }

    /// A pseudorandom number from 0 to 99, the same sequence in every run.
    fn percent(&self) -> u32 {
        let next = |state: u64| state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let state =
            self.random_state.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |state| Some(next(state))).unwrap();
        ((state >> 33) % 100) as u32
    }
}

fn reset(stream: &TcpStream) {
    // The connection may be closed already.
    drop(SockRef::from(stream).set_linger(Some(Duration::ZERO)));
}

/// Finds where the replies of a RESP stream begin and end.
#[derive(Default)]
struct Replies {
    line: Vec<u8>,
    /// How many bytes of a string are still missing, with its line end.
    string: usize,
    /// How many values of this reply are still missing.
    values: usize,
    /// A push message, not a reply.
    is_push: bool,
}

impl Replies {
    fn skip(&mut self, bytes: &[u8]) {
        drop(self.split(bytes));
    }

    /// Splits `bytes` at the ends of replies. Each part has a flag: whether a reply ends with it.
    fn split<'a>(&mut self, bytes: &'a [u8]) -> Vec<(&'a [u8], bool)> {
        let (mut parts, mut start) = (Vec::new(), 0);
        for (at, byte) in bytes.iter().enumerate() {
            if self.push(*byte) {
                parts.push((&bytes[start..=at], true));
                start = at + 1;
            }
        }
        if start < bytes.len() {
            parts.push((&bytes[start..], false));
        }
        parts
    }

    /// Reads one byte. True if it is the last of a reply.
    fn push(&mut self, byte: u8) -> bool {
        if self.string > 0 {
            self.string -= 1;
            return self.string == 0 && self.value_ended();
        }
        self.line.push(byte);
        if byte != b'\n' {
            return false;
        }
        let line = std::mem::take(&mut self.line);
        let digits = line.get(1..line.len().saturating_sub(2)).and_then(|digits| std::str::from_utf8(digits).ok());
        // Other protocols pass too, but their replies cannot be lost.
        let number = || digits.and_then(|digits| digits.parse::<i32>().ok()).unwrap_or(-1);
        if self.values == 0 {
            self.values = 1;
            self.is_push = line[0] == b'>';
        }
        match line[0] {
            b'$' | b'=' if number() >= 0 => {
                self.string = usize::try_from(number()).unwrap() + 2;
                false
            }
            b'*' | b'>' | b'~' if number() > 0 => {
                self.values += usize::try_from(number()).unwrap();
                self.value_ended()
            }
            b'%' if number() > 0 => {
                self.values += 2 * usize::try_from(number()).unwrap();
                self.value_ended()
            }
            _ => self.value_ended(),
        }
    }

    fn value_ended(&mut self) -> bool {
        self.values -= 1;
        self.values == 0 && !self.is_push
    }
}

#[test]
fn replies_are_found_wherever_the_stream_is_cut() {
    let stream = b"+OK\r\n$5\r\nhe\r\nl\r\n$-1\r\n*2\r\n$1\r\na\r\n*1\r\n:7\r\n>2\r\n+x\r\n_\r\n\
        *0\r\n%1\r\n+a\r\n=5\r\ntxt:\n\r\n-ERR x\r\n";
    let whole: Vec<_> = Replies::default().split(stream).into_iter().map(|(part, _)| part.to_vec()).collect();
    assert_eq!(whole.len(), 7, "{whole:?}");
    for cut in 0..stream.len() {
        let mut replies = Replies::default();
        let first = replies.split(&stream[..cut]).into_iter().filter(|(_, ends)| *ends).count();
        let second = replies.split(&stream[cut..]).into_iter().filter(|(_, ends)| *ends).count();
        assert_eq!(first + second, 7, "cut at {cut}");
    }
}
