//! Calls on a fixed schedule, for storms: calls are due independently of earlier responses (open loop), and latency is
//! measured from the due time, so that a stalled server cannot hide it (coordinated omission).

use std::{
    future::Future,
    thread,
    time::{Duration, Instant},
};

use tokio::{runtime, sync::mpsc, task::JoinSet};
use tonic::{Code, Status};

use crate::report::quantile;

/// A schedule is valid only if 99 % of its calls began at most this late.
const LATE_MAX: Duration = Duration::from_millis(10);

/// The delay before the first call of a schedule.
const LEAD: Duration = Duration::from_millis(20);

/// A fixed rate of calls for a time.
#[derive(Clone, Copy)]
pub(crate) struct Schedule {
    /// Calls per second.
    pub(crate) rate: f64,
    pub(crate) time: Duration,
}

/// The timing and outcome of one call.
pub(crate) struct Call {
    /// When the call was due, after the start of the schedule.
    pub(crate) due: Duration,
    /// The delay from the due time to the actual start.
    late: Duration,
    /// The time from the due time to the response.
    pub(crate) took: Duration,
    pub(crate) end: End,
}

/// How a call ended.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Succeeded,
    /// RESOURCE_EXHAUSTED.
    Refused,
    DeadlinePassed,
    Failed(Code),
}

/// All calls of a schedule.
pub(crate) struct Calls {
    /// When the first call was due.
    pub(crate) start: Instant,
    pub(crate) schedule: Schedule,
    pub(crate) all: Vec<Call>,
}

/// Runs a future on a new single-threaded runtime, so that latencies are measured on a separate thread from the flood.
pub(crate) fn on_own_runtime<T>(task: impl Future<Output = T>) -> T {
    runtime::Builder::new_current_thread().enable_all().build().expect("a runtime starts").block_on(task)
}

// === impl Schedule ===

impl Schedule {
    /// Makes the calls, and waits until all have ended.
    pub(crate) async fn run<F>(self, call: impl Fn(usize) -> F) -> Calls
    where
        F: Future<Output = Result<(), Status>> + Send + 'static,
    {
        let count = (self.rate * self.time.as_secs_f64()) as usize;
        let due = move |number: usize| Duration::from_secs_f64(number as f64 / self.rate);
        let start = Instant::now() + LEAD;
        let (is_due, mut dues) = mpsc::unbounded_channel();
        // A sleeping thread is more precise than the timer of the runtime, which has a resolution of one millisecond.
        let pacer = thread::spawn(move || {
            for number in 0..count {
                thread::sleep((start + due(number)).saturating_duration_since(Instant::now()));
                if is_due.send(number).is_err() {
                    return;
                }
            }
        });
        let mut calls = JoinSet::new();
        while let Some(number) = dues.recv().await {
            let answer = call(number);
            calls.spawn(async move {
                let late = start.elapsed().saturating_sub(due(number));
                let answer = answer.await;
                let took = start.elapsed().saturating_sub(due(number));
                Call { due: due(number), late, took, end: End::of(&answer) }
            });
        }
        let all = calls.join_all().await;
        pacer.join().expect("it only sleeps and sends");
        Calls { start, schedule: self, all }
    }
}

// === impl End, Calls ===

impl End {
    pub(crate) fn is_success(self) -> bool {
        self == End::Succeeded
    }

    pub(crate) fn is_refusal(self) -> bool {
        self == End::Refused
    }

    fn of(answer: &Result<(), Status>) -> Self {
        match answer.as_ref().map_err(Status::code) {
            Ok(()) => End::Succeeded,
            Err(Code::ResourceExhausted) => End::Refused,
            // The client's own timer ends the call with CANCELLED.
            Err(Code::DeadlineExceeded | Code::Cancelled) => End::DeadlinePassed,
            Err(code) => End::Failed(code),
        }
    }
}

impl Calls {
    pub(crate) fn count(&self, wanted: impl Fn(End) -> bool) -> usize {
        self.all.iter().filter(|call| wanted(call.end)).count()
    }

    /// Successes per second until the end of the schedule. Later responses are not counted, because no new calls
    /// compete with them.
    pub(crate) fn goodput(&self) -> f64 {
        let in_it = |call: &&Call| call.end == End::Succeeded && call.due + call.took <= self.schedule.time;
        self.all.iter().filter(in_it).count() as f64 / self.schedule.time.as_secs_f64()
    }

    /// The latency quantile of the calls with a wanted outcome, in milliseconds.
    pub(crate) fn millis(&self, wanted: impl Fn(End) -> bool, part: f64) -> f64 {
        let took = self.all.iter().filter(|call| wanted(call.end)).map(|call| call.took.as_secs_f64() * 1e3);
        let mut took: Vec<_> = took.collect();
        took.sort_by(f64::total_cmp);
        quantile(&took, part)
    }

    /// The 99th percentile of the start delay, in milliseconds.
    pub(crate) fn late_millis(&self) -> f64 {
        let mut late: Vec<_> = self.all.iter().map(|call| call.late.as_secs_f64() * 1e3).collect();
        late.sort_by(f64::total_cmp);
        quantile(&late, 0.99)
    }

    /// Whether the generator kept to the schedule.
    pub(crate) fn was_punctual(&self) -> bool {
        self.late_millis() <= LATE_MAX.as_secs_f64() * 1e3
    }

    /// The number of calls by outcome, in one line.
    pub(crate) fn ends(&self) -> String {
        let failed = self.all.iter().find_map(|call| match call.end {
            End::Failed(code) => Some(code),
            End::Succeeded | End::Refused | End::DeadlinePassed => None,
        });
        let code = failed.map(|code| format!(" ({code:?})")).unwrap_or_default();
        format!(
            "{} succeeded, {} refused, {} past their deadline, {} failed{code}, started up to {:.1} ms late",
            self.count(|end| end == End::Succeeded),
            self.count(|end| end == End::Refused),
            self.count(|end| end == End::DeadlinePassed),
            self.count(|end| matches!(end, End::Failed(_))),
            self.late_millis(),
        )
    }
}
