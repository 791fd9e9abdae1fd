//! Detects floods of HTTP/2 frames: counts the frames that carry no body, relative to the requests that begin.
//!
//! The crate h2 itself ends floods of resets (CVE-2023-44487, CVE-2025-8671), of CONTINUATION (RUSTSEC-2024-0332) and of
//! small DATA (RUSTSEC-2026-0258). It has no limit for PING (CVE-2019-9512), SETTINGS (CVE-2019-9515), PRIORITY,
//! WINDOW_UPDATE and frames of unknown types (CVE-2019-9513), RST_STREAM of closed streams, and requests whose headers are
//! too large. This file only finds the boundaries and types of frames; h2 interprets them.

use std::time::Duration;

use tokio::time::Instant;

/// Frames per second that need no request: pings, acknowledgements, resets of earlier calls. One read of h2 has fewer.
const FREE_FRAMES_PER_SECOND: usize = 1_000;

/// Frames that are allowed for each request: headers and continuations, window updates and pings, its reset.
const FRAMES_PER_REQUEST: usize = 20;

/// A frame counts once, plus once for each of this many bytes, because decoding takes time. The largest header frame counts
/// nine times.
const FRAME_BYTES: usize = 2_048;

const SECOND: Duration = Duration::from_secs(1);

/// The connection preface of HTTP/2 (RFC 9113 section 3.4).
pub(super) const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Bytes of a frame header (RFC 9113 section 4.1).
const HEADER_BYTES: usize = 9;

/// The type of frames that carry bodies. h2 limits small ones by a budget and large ones by flow control.
const DATA: u8 = 0;

/// Counts the frames of one connection, second by second.
#[derive(Debug)]
pub(super) struct FrameFlood {
    state: ParseState,
    /// When the current second began, the requests that had begun before it, and the frames since.
    second: Instant,
    requests_before: usize,
    frames: usize,
}

/// What the next byte belongs to.
#[derive(Debug)]
enum ParseState {
    /// The preface, of which this many bytes were read.
    Preface(usize),
    /// HTTP/1, which has no frames.
    Http1,
    /// A frame header, of which this many bytes were read.
    Header(usize, [u8; HEADER_BYTES]),
    /// A payload, of which this many bytes are left.
    Payload(usize),
}

impl FrameFlood {
    pub(super) fn new(now: Instant) -> Self {
        Self { state: ParseState::Preface(0), second: now, requests_before: 0, frames: 0 }
    }

    /// Counts the frames in `read`. Returns whether this second has too many for the `requests` that have begun.
    pub(super) fn is_flood(&mut self, read: &[u8], requests: usize, now: Instant) -> bool {
        if now.saturating_duration_since(self.second) >= SECOND {
            (self.second, self.requests_before, self.frames) = (now, requests, 0);
        }
        self.count(read);
        self.frames > FREE_FRAMES_PER_SECOND + FRAMES_PER_REQUEST * (requests - self.requests_before)
    }

    fn count(&mut self, mut bytes: &[u8]) {
        while let Some((&byte, rest)) = bytes.split_first() {
            match &mut self.state {
                ParseState::Preface(read) if byte == PREFACE[*read] => {
                    *read += 1;
                    if *read == PREFACE.len() {
                        self.state = ParseState::Payload(0);
                    }
                    bytes = rest;
                }
                ParseState::Preface(_) | ParseState::Http1 => {
                    self.state = ParseState::Http1;
                    return;
                }
                ParseState::Header(read, header) => {
                    header[*read] = byte;
                    *read += 1;
                    if *read == HEADER_BYTES {
                        let [high, middle, low, kind, ..] = *header;
                        let length = u32::from_be_bytes([0, high, middle, low]) as usize;
                        if kind != DATA {
                            self.frames += 1 + length / FRAME_BYTES;
                        }
                        self.state = ParseState::Payload(length);
                    }
                    bytes = rest;
                }
                ParseState::Payload(0) => self.state = ParseState::Header(0, [0; HEADER_BYTES]),
                ParseState::Payload(left) => {
                    let skipped = bytes.len().min(*left);
                    *left -= skipped;
                    bytes = &bytes[skipped..];
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, payload: usize) -> Vec<u8> {
        let length = u32::try_from(payload).unwrap().to_be_bytes();
        [&length[1..], &[kind, 0, 0, 0, 0, 0], &vec![7; payload]].concat()
    }

    #[test]
    fn frames_are_counted_for_every_split_of_the_bytes() {
        let bytes =
            [PREFACE.to_vec(), frame(4, 18), frame(6, 8), frame(0, 20_000), frame(1, 5_000), frame(2, 0)].concat();
        for size in [1, 2, 7, 9, 1_000, bytes.len()] {
            let mut flood = FrameFlood::new(Instant::now());
            bytes.chunks(size).for_each(|chunk| flood.count(chunk));
            assert_eq!(flood.frames, 6, "in parts of {size}");
        }
    }

    #[test]
    fn frames_over_the_allowance_of_requests_and_time_are_a_flood() {
        let begin = Instant::now();
        let mut flood = FrameFlood::new(begin);
        assert!(!flood.is_flood(PREFACE, 0, begin));
        assert!(!flood.is_flood(&frame(6, 8).repeat(1_000), 0, begin));
        assert!(!flood.is_flood(&frame(1, 20).repeat(20), 1, begin), "one request allows twenty");
        assert!(flood.is_flood(&frame(6, 8), 1, begin));
        assert!(!flood.is_flood(&frame(6, 8).repeat(1_000), 1, begin + SECOND));
        assert!(flood.is_flood(&frame(6, 8), 1, begin + SECOND), "the allowance of a request ends with its second");
    }

    #[test]
    fn http_1_bytes_are_never_a_flood() {
        let now = Instant::now();
        let mut flood = FrameFlood::new(now);
        assert!(!flood.is_flood(b"PRIVATE / HTTP/1.1\r\n", 0, now));
        assert!(!flood.is_flood(&frame(6, 0).repeat(10_000), 0, now));
    }
}
