//! A stream with limits for its peer: time for the first bytes, no flood of frames, progress in reading responses, and a pace
//! of refused calls.
//!
//! hyper-util waits without limit for the bytes that distinguish HTTP/2 from HTTP/1, so a client that sends nothing, or one
//! byte a minute, would hold a connection for ever. Once the length of the HTTP/2 preface has arrived, the timeouts of the
//! protocols apply. `frame_flood.rs` decides which frames are too many; `activity.rs` measures how long writes wait,
//! and `refusals.rs` decides how long the stream is not read.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep, sleep_until},
};

use super::{
    activity::{ConnectionActivity, PendingWrite},
    frame_flood::{FrameFlood, PREFACE},
    refusals::ConnectionRefusals,
};

/// The first bytes that are timed: the length of the HTTP/2 preface. No useful request of HTTP/1.1 is shorter.
const FIRST_BYTES: usize = PREFACE.len();

/// A stream with limits for its peer.
#[derive(Debug)]
pub(super) struct LimitedStream<S> {
    stream: S,
    first_bytes_left: usize,
    first_bytes_timeout: Pin<Box<Sleep>>,
    flood: FrameFlood,
    activity: ConnectionActivity,
    refusals: Arc<ConnectionRefusals>,
    /// Ends the current pause in reading.
    pause: Option<Pin<Box<Sleep>>>,
    /// Exists while the last write is pending, because the peer does not read.
    pending: Option<PendingWrite>,
}

impl<S> LimitedStream<S> {
    /// Limits `stream`, whose peer must send the first bytes within `first_bytes_timeout`.
    pub(super) fn new(
        stream: S,
        first_bytes_timeout: Duration,
        activity: ConnectionActivity,
        refusals: Arc<ConnectionRefusals>,
    ) -> Self {
        let flood = FrameFlood::new(Instant::now());
        Self {
            stream,
            first_bytes_left: FIRST_BYTES,
            first_bytes_timeout: Box::pin(sleep(first_bytes_timeout)),
            flood,
            activity,
            refusals,
            pause: None,
            pending: None,
        }
    }

    /// Whether the stream may be read now. Otherwise wakes the task when it may.
    fn poll_unpaused(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while let Some(until) = self.refusals.paused_until(Instant::now()) {
            let pause = self.pause.get_or_insert_with(|| Box::pin(sleep_until(until)));
            pause.as_mut().reset(until);
            ready!(pause.as_mut().poll(cx));
        }
        self.pause = None;
        Poll::Ready(())
    }

    fn track<T>(&mut self, polled: Poll<T>) -> Poll<T> {
        match polled {
            Poll::Ready(_) => self.pending = None,
            Poll::Pending if self.pending.is_none() => self.pending = Some(self.activity.pending_write()),
            Poll::Pending => {}
        }
        polled
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for LimitedStream<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_unpaused(cx));
        let before = buf.filled().len();
        let polled = Pin::new(&mut this.stream).poll_read(cx, buf);
        let read = &buf.filled()[before..];
        this.first_bytes_left = this.first_bytes_left.saturating_sub(read.len());
        if this.flood.is_flood(read, this.activity.requests_begun(), Instant::now()) {
            return Poll::Ready(Err(io::Error::other("too many HTTP/2 frames for the number of requests")));
        }
        if polled.is_pending() && this.first_bytes_left > 0 && this.first_bytes_timeout.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for LimitedStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.track(polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, parts);
        self.track(polled)
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
