//! Counts what an HTTP/2 peer sends beside the bodies of requests, against the requests that come of it.
//!
//! h2 itself ends floods of resets (CVE-2023-44487, CVE-2025-8671), of CONTINUATION (RUSTSEC-2024-0332) and of small DATA
//! (RUSTSEC-2026-0258). It answers or reads on without end: PING (CVE-2019-9512), SETTINGS (CVE-2019-9515), PRIORITY,
//! WINDOW_UPDATE and frames of unknown types (CVE-2019-9513), RST_STREAM of streams that are gone, and requests whose
//! headers are too large. Only frames are told apart here; what they mean is h2's business.

use std::time::Duration;

use tokio::time::Instant;

/// Frames a second that need no request: pings, acknowledgements, resets of calls from before. One read of h2 is less.
const FREE_FRAMES_PER_SECOND: usize = 1_000;

/// Frames that one request may come with: its head in parts, window updates and pings for its answer, its reset.
const FRAMES_PER_REQUEST: usize = 20;

/// A frame counts once more for each of these bytes, which take time to decode; the largest head counts nine times.
const FRAME_BYTES: usize = 2_048;

const SECOND: Duration = Duration::from_secs(1);

/// What an HTTP/2 connection begins with (RFC 9113 3.4).
pub(super) const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const HEAD_BYTES: usize = 9;

/// The type of frames that carry bodies. h2 has a budget for small ones, flow control for large ones.
const DATA: u8 = 0;

/// One connection's count.
#[derive(Debug)]
pub(super) struct Frames {
    next: Next,
    /// When the present second began, how many requests there had been by then, and the frames since.
    second: Instant,
    requests_before: usize,
    frames: usize,
}

/// What the next byte is part of.
#[derive(Debug)]
enum Next {
    /// So many bytes of the preface have come.
    Preface(usize),
    /// HTTP/1, where a peer can ask for nothing but answers.
    NotFrames,
    /// So many bytes of a frame's head have come.
    Head(usize, [u8; HEAD_BYTES]),
    /// So many bytes are left of a frame.
    Payload(usize),
}

impl Frames {
    pub(super) fn new(now: Instant) -> Self {
        Self { next: Next::Preface(0), second: now, requests_before: 0, frames: 0 }
    }

    /// Takes what was read, and the number of requests that have begun; answers whether it is a flood.
    pub(super) fn are_a_flood(&mut self, read: &[u8], requests: usize, now: Instant) -> bool {
        if now.saturating_duration_since(self.second) >= SECOND {
            (self.second, self.requests_before, self.frames) = (now, requests, 0);
        }
        self.count(read);
        self.frames > FREE_FRAMES_PER_SECOND + FRAMES_PER_REQUEST * (requests - self.requests_before)
    }

    fn count(&mut self, mut bytes: &[u8]) {
        while let Some((&byte, rest)) = bytes.split_first() {
            match &mut self.next {
                Next::Preface(seen) if byte == PREFACE[*seen] => {
                    *seen += 1;
                    if *seen == PREFACE.len() {
                        self.next = Next::Payload(0);
                    }
                    bytes = rest;
                }
                Next::Preface(_) | Next::NotFrames => {
                    self.next = Next::NotFrames;
                    return;
                }
                Next::Head(seen, head) => {
                    head[*seen] = byte;
                    *seen += 1;
                    if *seen == HEAD_BYTES {
                        let [high, middle, low, kind, ..] = *head;
                        let length = u32::from_be_bytes([0, high, middle, low]) as usize;
                        if kind != DATA {
                            self.frames += 1 + length / FRAME_BYTES;
                        }
                        self.next = Next::Payload(length);
                    }
                    bytes = rest;
                }
                Next::Payload(0) => self.next = Next::Head(0, [0; HEAD_BYTES]),
                Next::Payload(left) => {
                    let here = bytes.len().min(*left);
                    *left -= here;
                    bytes = &bytes[here..];
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
    fn frames_are_counted_however_their_bytes_arrive() {
        let bytes =
            [PREFACE.to_vec(), frame(4, 18), frame(6, 8), frame(0, 20_000), frame(1, 5_000), frame(2, 0)].concat();
        for size in [1, 2, 7, 9, 1_000, bytes.len()] {
            let mut frames = Frames::new(Instant::now());
            bytes.chunks(size).for_each(|chunk| frames.count(chunk));
            assert_eq!(frames.frames, 6, "in parts of {size}");
        }
    }

    #[test]
    fn requests_and_time_pay_for_frames() {
        let begin = Instant::now();
        let mut frames = Frames::new(begin);
        assert!(!frames.are_a_flood(PREFACE, 0, begin));
        assert!(!frames.are_a_flood(&frame(6, 8).repeat(1_000), 0, begin));
        assert!(!frames.are_a_flood(&frame(1, 20).repeat(20), 1, begin), "a request pays for twenty");
        assert!(frames.are_a_flood(&frame(6, 8), 1, begin));
        assert!(!frames.are_a_flood(&frame(6, 8).repeat(1_000), 1, begin + SECOND));
        assert!(frames.are_a_flood(&frame(6, 8), 1, begin + SECOND), "what a request paid for is gone with its second");
    }

    #[test]
    fn http_1_has_no_frames() {
        let now = Instant::now();
        let mut frames = Frames::new(now);
        assert!(!frames.are_a_flood(b"PRIVATE / HTTP/1.1\r\n", 0, now));
        assert!(!frames.are_a_flood(&frame(6, 0).repeat(10_000), 0, now));
    }
}
