//! Rate limit of refused calls on a connection: one with more refusals than its rate is not read for a while.
//!
//! A refused call is any call that ends with an error, whatever the cause. Most cost no hash, but take time of the I/O threads,
//! whose priority is higher than that of the hash workers, so a flood of them would leave the workers little of the cores. While
//! a connection is not read, flow control stops its client; answers to calls that were read are sent. Successful calls are not
//! counted. Does not know why a call was refused.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use http::Response;
use tokio::time::Instant;

use crate::common::lock::lock;

/// Connections that may have refusals at the full rate. If more have refusals, they share that sum, down to a tenth each.
const FULL_RATE_CONNECTIONS: u32 = 5;
const REDUCTION_MAX: u32 = 10;

/// The refusals of this much time at the rate are free at once.
const BURST: Duration = SECOND;

const SECOND: Duration = Duration::from_secs(1);

/// The refusals on all connections of a listener.
#[derive(Debug)]
pub(super) struct ListenerRefusals {
    /// Refusals per second on one connection.
    rate: u32,
    refusing: Mutex<RefusingConnections>,
}

/// How many connections had refusals in the second that began then, and in the one before.
#[derive(Debug)]
struct RefusingConnections {
    second: Instant,
    count: u32,
    count_before: u32,
}

/// The refusals on one connection.
#[derive(Debug)]
pub(super) struct ConnectionRefusals {
    listener: Arc<ListenerRefusals>,
    pace: Mutex<Pace>,
}

#[derive(Debug)]
struct Pace {
    /// When the refusals so far are over at the rate (GCRA).
    over_at: Instant,
    /// The last second in which this connection was counted.
    counted_in: Option<Instant>,
}

impl ListenerRefusals {
    /// No refusals, with this rate of refusals per second on one connection.
    pub(super) fn new(rate: u32, now: Instant) -> Arc<Self> {
        let refusing = RefusingConnections { second: now, count: 0, count_before: 0 };
        Arc::new(Self { rate: rate.max(1), refusing: Mutex::new(refusing) })
    }

    /// A new connection.
    pub(super) fn connection(self: &Arc<Self>, now: Instant) -> Arc<ConnectionRefusals> {
        let pace = Mutex::new(Pace { over_at: now, counted_in: None });
        Arc::new(ConnectionRefusals { listener: self.clone(), pace })
    }

    /// The time that one refusal uses up, where `counted_in` is the last second of the connection.
    fn increment(&self, counted_in: &mut Option<Instant>, now: Instant) -> Duration {
        let mut refusing = lock(&self.refusing);
        let age = now.saturating_duration_since(refusing.second);
        if age >= SECOND {
            let count_before = if age < 2 * SECOND { refusing.count } else { 0 };
            *refusing = RefusingConnections { second: now, count: 0, count_before };
        }
        if *counted_in != Some(refusing.second) {
            *counted_in = Some(refusing.second);
            refusing.count = refusing.count.saturating_add(1);
        }
        let connections = refusing.count.max(refusing.count_before);
        let full = SECOND / self.rate;
        (full * connections / FULL_RATE_CONNECTIONS).clamp(full, full * REDUCTION_MAX)
    }
}

impl ConnectionRefusals {
    /// Counts an answer if it is a refusal: an HTTP error, or a gRPC error without a message.
    pub(super) fn count<B>(&self, answer: &Response<B>, now: Instant) {
        if is_refusal(answer) {
            let mut pace = lock(&self.pace);
            let increment = self.listener.increment(&mut pace.counted_in, now);
            pace.over_at = pace.over_at.max(now) + increment;
        }
    }

    /// Until when the connection is not read; `None` if it is read.
    pub(super) fn paused_until(&self, now: Instant) -> Option<Instant> {
        let until = lock(&self.pace).over_at.checked_sub(BURST)?;
        (until > now).then_some(until)
    }
}

fn is_refusal<B>(answer: &Response<B>) -> bool {
    let (status, grpc_status) = (answer.status(), answer.headers().get("grpc-status"));
    status.is_client_error() || status.is_server_error() || grpc_status.is_some_and(|status| status != "0")
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLIS: Duration = Duration::from_millis(1);

    fn answers() -> [(Response<()>, bool); 5] {
        let grpc = |status: &str| Response::builder().header("grpc-status", status).body(()).unwrap();
        let http = |status: u16| Response::builder().status(status).body(()).unwrap();
        [(http(200), false), (grpc("0"), false), (grpc("16"), true), (http(429), true), (http(503), true)]
    }

    #[test]
    fn http_errors_and_grpc_errors_are_refusals_and_answers_are_not() {
        for (answer, expected) in answers() {
            assert_eq!(is_refusal(&answer), expected, "{answer:?}");
        }
    }

    #[test]
    fn connection_pauses_after_a_burst_until_its_refusals_are_at_the_rate() {
        let begin = Instant::now();
        let refusals = ListenerRefusals::new(1_000, begin).connection(begin);
        let [(success, _), .., (refusal, _)] = answers();
        let count = |count, answer, now| (0..count).for_each(|_| refusals.count(answer, now));
        count(1_000_000, &success, begin);
        count(1_000, &refusal, begin);
        assert_eq!(refusals.paused_until(begin), None, "a second's worth is free");
        count(128, &refusal, begin);
        assert_eq!(refusals.paused_until(begin), Some(begin + 128 * MILLIS));
        assert_eq!(refusals.paused_until(begin + 128 * MILLIS), None);
        count(1, &refusal, begin + 10 * SECOND);
        assert_eq!(refusals.paused_until(begin + 10 * SECOND), None, "the past is over");
    }

    /// A thousand refusals from each connection, one after the other. Returns the longest pause.
    fn pause_of(connections: usize) -> Duration {
        let begin = Instant::now();
        let listener = ListenerRefusals::new(1_000, begin);
        let all: Vec<_> = (0..connections).map(|_| listener.connection(begin)).collect();
        let [.., (refusal, _)] = answers();
        for _ in 0..1_000 {
            all.iter().for_each(|connection| connection.count(&refusal, begin));
        }
        let pauses = all.iter().filter_map(|connection| connection.paused_until(begin));
        pauses.max().map_or(Duration::ZERO, |until| until.saturating_duration_since(begin))
    }

    #[test]
    fn many_connections_with_refusals_share_the_rate_of_five_down_to_a_tenth_each() {
        assert_eq!(pause_of(5), Duration::ZERO);
        let ten = pause_of(10);
        assert!((990 * MILLIS..=SECOND).contains(&ten), "half the rate, so a second more: {ten:?}");
        let crowd = pause_of(200);
        assert!((8 * SECOND..=9 * SECOND).contains(&crowd), "a tenth of the rate: {crowd:?}");
    }
}
