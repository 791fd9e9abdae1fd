//! A proxy between a client and a server that fails as it is told.
//!
//! What it can do: delay with jitter, swallow everything without a FIN (a black hole), reset, close one direction,
//! slice into small pieces, cut after a number of bytes, and swallow the k-th reply of a server that speaks RESP, with
//! the connection cut behind it as TCP would, or - a lie that no network tells - without.

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

/// What the proxy does to every connection, those that stand included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NetworkCondition {
    /// Bytes pass.
    Normal,
    /// Bytes pass after a while between these two.
    Slow(Duration, Duration),
    /// Nothing passes in either direction, and nobody is told.
    BlackHole,
    /// Connections are reset, new ones as soon as they are accepted.
    Reset,
    /// The client's half is closed; replies still pass.
    HalfClosed,
    /// Bytes pass a few at a time.
    Sliced(usize),
    /// Nobody listens: new connections are refused as a closed port refuses.
    Closed,
}

/// What happens to the k-th reply from now on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LostReply {
    /// The connection is reset instead.
    ThenReset,
    /// It is missing, and what comes after it passes: later replies answer earlier questions.
    ThenContinue,
}

/// A running proxy; its connections end when it is dropped.
pub struct Proxy {
    pub address: SocketAddr,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

struct Shared {
    server: SocketAddr,
    weather: watch::Sender<NetworkCondition>,
    /// Bytes from the server that still pass on each connection from now on; below zero there is no such limit.
    cut_after: AtomicI64,
    /// Replies that still pass; the next is lost. Below zero none is.
    replies_until_loss: AtomicI64,
    lost: Mutex<LostReply>,
    accepted: AtomicU64,
    chance: AtomicU64,
}

impl Proxy {
    /// Listens on a free port and passes everything to `server`.
    pub async fn before(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            server: ([127, 0, 0, 1], server).into(),
            weather: watch::Sender::new(NetworkCondition::Normal),
            cut_after: AtomicI64::new(-1),
            replies_until_loss: AtomicI64::new(-1),
            lost: Mutex::new(LostReply::ThenReset),
            accepted: AtomicU64::new(0),
            chance: AtomicU64::new(1),
        });
        let accepting = tokio::spawn(shared.clone().accept(listener));
        Self { address, shared, accepting }
    }

    pub fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    pub fn set(&self, weather: NetworkCondition) {
        self.shared.weather.send_replace(weather);
    }

    /// Resets every connection once this many more bytes came from the server.
    pub fn cut_after(&self, bytes: i64) {
        self.shared.cut_after.store(bytes, Ordering::SeqCst);
    }

    /// Loses one reply, after `pass` more replies.
    pub fn lose_reply_after(&self, pass: i64, how: LostReply) {
        *self.shared.lost.lock().unwrap() = how;
        self.shared.replies_until_loss.store(pass, Ordering::SeqCst);
    }

    /// Connections that were ever accepted.
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
        let mut weather = self.weather.subscribe();
        let mut listener = Some(listener);
        loop {
            let closed = *weather.borrow_and_update() == NetworkCondition::Closed;
            match &listener {
                _ if closed => listener = None,
                None => listener = Some(TcpListener::bind(address).await.unwrap()),
                Some(_) => {}
            }
            let Some(open) = &listener else {
                drop(weather.changed().await);
                continue;
            };
            tokio::select! {
                accepted = open.accept() => {
                    let (client, _) = accepted.unwrap();
                    self.accepted.fetch_add(1, Ordering::SeqCst);
                    tokio::spawn(self.clone().serve(client));
                }
                _ = weather.changed() => {}
            }
        }
    }

    async fn serve(self: Arc<Self>, client: TcpStream) {
        let mut weather = self.weather.subscribe();
        if matches!(*weather.borrow_and_update(), NetworkCondition::Reset | NetworkCondition::Closed) {
            return reset(&client);
        }
        let Ok(server) = TcpStream::connect(self.server).await else { return reset(&client) };
        client.set_nodelay(true).unwrap();
        server.set_nodelay(true).unwrap();
        // A dropped stream then sends RST, not FIN.
        reset(&server);
        let (client_in, client_out) = client.into_split();
        let (server_in, server_out) = server.into_split();
        // The streams were moved into the pumps and end with them.
        tokio::select! {
            () = self.pump(client_in, server_out, None) => {}
            () = self.pump(server_in, client_out, Some(Replies::default())) => {}
            () = self.told_to_reset(&mut weather) => {}
        }
    }

    async fn told_to_reset(&self, weather: &mut watch::Receiver<NetworkCondition>) {
        while !matches!(*weather.borrow_and_update(), NetworkCondition::Reset | NetworkCondition::Closed) {
            if weather.changed().await.is_err() {
                return;
            }
        }
    }

    /// Passes bytes in one direction until an end or a fault ends it.
    async fn pump(&self, mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut replies: Option<Replies>) {
        // Whoever ends first is heard as a reset by the other side.
        reset(to.as_ref());
        let is_from_server = replies.is_some();
        let mut weather = self.weather.subscribe();
        let mut buffer = vec![0; 64 * 1024];
        loop {
            self.wait_while_nothing_passes(&mut weather, is_from_server).await;
            let Ok(count @ 1..) = from.read(&mut buffer).await else { return };
            // Read before the weather turned bad and not sent yet: as good as on the way.
            self.wait_while_nothing_passes(&mut weather, is_from_server).await;
            let mut bytes = buffer[..count].to_vec();
            if let Some(replies) = &mut replies {
                match self.lose(replies, &bytes) {
                    Some(left) => bytes = left,
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

    async fn wait_while_nothing_passes(&self, weather: &mut watch::Receiver<NetworkCondition>, is_from_server: bool) {
        loop {
            let now = *weather.borrow_and_update();
            let stuck = now == NetworkCondition::BlackHole || (now == NetworkCondition::HalfClosed && !is_from_server);
            if !stuck || weather.changed().await.is_err() {
                return;
            }
        }
    }

    async fn deliver(&self, to: &mut OwnedWriteHalf, bytes: &[u8]) -> bool {
        let now = *self.weather.borrow();
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

    /// What is left of `bytes` when the reply that must be lost is taken out; `None` when the connection must end.
    fn lose(&self, replies: &mut Replies, bytes: &[u8]) -> Option<Vec<u8>> {
        if self.replies_until_loss.load(Ordering::SeqCst) < 0 {
            replies.skip(bytes);
            return Some(bytes.to_vec());
        }
        let mut left = Vec::with_capacity(bytes.len());
        for (part, is_last_part) in replies.split(bytes) {
            let is_lost = self.replies_until_loss.load(Ordering::SeqCst) == 0;
            if is_last_part {
                self.replies_until_loss.fetch_sub(1, Ordering::SeqCst);
            }
            if !is_lost {
                left.extend_from_slice(part);
            } else if *self.lost.lock().unwrap() == LostReply::ThenReset {
                self.replies_until_loss.store(-1, Ordering::SeqCst);
                return None;
            }
        }
        Some(left)
    }

    /// Shortens `bytes` to what may still pass; false when that was the last.
    fn may_pass(&self, bytes: &mut Vec<u8>) -> bool {
        let left = self.cut_after.load(Ordering::SeqCst);
        if left < 0 {
            return true;
        }
        let passes = usize::try_from(left).unwrap().min(bytes.len());
        let is_last = passes < bytes.len();
        bytes.truncate(passes);
        self.cut_after.store(if is_last { -1 } else { left - passes as i64 }, Ordering::SeqCst);
        !is_last
    }

    /// 0 to 99, the same numbers in every run.
    fn percent(&self) -> u32 {
        let next = |state: u64| state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let state = self.chance.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |state| Some(next(state))).unwrap();
        ((state >> 33) % 100) as u32
    }
}

fn reset(stream: &TcpStream) {
    // Gone already is as good.
    drop(SockRef::from(stream).set_linger(Some(Duration::ZERO)));
}

/// Where the replies of a RESP stream begin and end.
#[derive(Default)]
struct Replies {
    line: Vec<u8>,
    /// Bytes of a string that are still to come, its line end included.
    string: usize,
    /// Values that are still to come in this reply.
    values: usize,
    /// It is no reply: nobody asked for it.
    is_push: bool,
}

impl Replies {
    fn skip(&mut self, bytes: &[u8]) {
        drop(self.split(bytes));
    }

    /// Cuts `bytes` at the ends of replies; each part says whether a reply ends with it.
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

    /// Takes one byte; true when it is the last of a reply.
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
        // A server that does not speak RESP passes too; only no reply of it can be lost.
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
fn replies_are_told_apart_wherever_the_bytes_are_cut() {
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
