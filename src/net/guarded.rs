//! A stream whose peer has to speak in time, to send what is worth reading, and to take what it is sent.
//!
//! hyper-util waits without limit for the bytes that tell HTTP/2 from HTTP/1; whoever connects and says nothing, or one
//! byte a minute, would keep a connection for ever. Once the length of HTTP/2's preface has arrived, the timers of
//! the protocols themselves are at work. Which frames are too many is `frames.rs`, how long bytes may wait for their
//! reader `in_flight.rs`.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep},
};

use super::{
    frames::{Frames, PREFACE},
    in_flight::{InFlight, Untaken},
};

/// The length of HTTP/2's connection preface; no useful request of HTTP/1.1 is shorter.
const ENOUGH: usize = PREFACE.len();

/// A stream with limits for its peer.
#[derive(Debug)]
pub(super) struct Guarded<S> {
    stream: S,
    /// Of the first bytes, and the time for them.
    missing: usize,
    limit: Pin<Box<Sleep>>,
    frames: Frames,
    in_flight: InFlight,
    /// There while the peer's side is full.
    full: Option<Untaken>,
}

impl<S> Guarded<S> {
    /// A stream that must speak within `limit`.
    pub(super) fn new(stream: S, limit: Duration, in_flight: InFlight) -> Self {
        let frames = Frames::new(Instant::now());
        Self { stream, missing: ENOUGH, limit: Box::pin(sleep(limit)), frames, in_flight, full: None }
    }

    fn note<T>(&mut self, polled: Poll<T>) -> Poll<T> {
        match polled {
            Poll::Ready(_) => self.full = None,
            Poll::Pending if self.full.is_none() => self.full = Some(self.in_flight.untaken()),
            Poll::Pending => {}
        }
        polled
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Guarded<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let polled = Pin::new(&mut this.stream).poll_read(cx, buf);
        let read = &buf.filled()[before..];
        this.missing = this.missing.saturating_sub(read.len());
        if this.frames.are_a_flood(read, this.in_flight.begun(), Instant::now()) {
            return Poll::Ready(Err(io::Error::other("too many frames for so few requests")));
        }
        if polled.is_pending() && this.missing > 0 && this.limit.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Guarded<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.note(polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, parts);
        self.note(polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
