//! Calls on a fixed schedule, for storms: when a call is due does not depend on how the others fared (open loop), and it
//! is timed from when it was due, so that a server that stalls cannot hide it (coordinated omission).

use std::{
    future::Future,
    thread,
    time::{Duration, Instant},
};

use tokio::{runtime, sync::mpsc, task::JoinSet};
use tonic::{Code, Status};

use crate::report::quantile;

/// A schedule counts only when almost all of its calls (99 %) began at most this late.
const LATE_MAX: Duration = Duration::from_millis(10);

/// Between the making of a schedule and its first call.
const LEAD: Duration = Duration::from_millis(20);

/// So many calls a second, for so long.
#[derive(Clone, Copy)]
pub(crate) struct Schedule {
    pub(crate) rate: f64,
    pub(crate) time: Duration,
}

/// One call.
pub(crate) struct Call {
    /// When it was to begin, after the schedule's start.
    pub(crate) due: Duration,
    /// How much later it began.
    late: Duration,
    /// From when it was due to its answer.
    pub(crate) took: Duration,
    pub(crate) end: End,
}

/// How a call ended.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Succeeded,
    /// For want of room.
    Refused,
    DeadlinePassed,
    Failed(Code),
}

/// All calls of a schedule.
pub(crate) struct Calls {
    /// When the first was due.
    pub(crate) start: Instant,
    pub(crate) schedule: Schedule,
    pub(crate) all: Vec<Call>,
}

/// Runs a future on a runtime of this thread's own: whoever measures latencies shares no thread with a flood.
pub(crate) fn alone<T>(task: impl Future<Output = T>) -> T {
    runtime::Builder::new_current_thread().enable_all().build().expect("a runtime can be had").block_on(task)
}

// === impl Schedule ===

impl Schedule {
    /// Makes the calls, and waits for the last one's end.
    pub(crate) async fn run<F>(self, call: impl Fn(usize) -> F) -> Calls
    where
        F: Future<Output = Result<(), Status>> + Send + 'static,
    {
        let count = (self.rate * self.time.as_secs_f64()) as usize;
        let due = move |number: usize| Duration::from_secs_f64(number as f64 / self.rate);
        let start = Instant::now() + LEAD;
        let (is_due, mut dues) = mpsc::unbounded_channel();
        // A thread that sleeps is more exact than a runtime's timer, which counts milliseconds.
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
            // The client's own timer says CANCELLED.
            Err(Code::DeadlineExceeded | Code::Cancelled) => End::DeadlinePassed,
            Err(code) => End::Failed(code),
        }
    }
}

impl Calls {
    pub(crate) fn count(&self, wanted: impl Fn(End) -> bool) -> usize {
        self.all.iter().filter(|call| wanted(call.end)).count()
    }

    /// Successes a second until the schedule's end: what is answered after it, nothing comes beside it any more.
    pub(crate) fn goodput(&self) -> f64 {
        let in_it = |call: &&Call| call.end == End::Succeeded && call.due + call.took <= self.schedule.time;
        self.all.iter().filter(in_it).count() as f64 / self.schedule.time.as_secs_f64()
    }

    /// What so large a part of the calls with a wanted end took at most, in milliseconds.
    pub(crate) fn millis(&self, wanted: impl Fn(End) -> bool, part: f64) -> f64 {
        let took = self.all.iter().filter(|call| wanted(call.end)).map(|call| call.took.as_secs_f64() * 1e3);
        let mut took: Vec<_> = took.collect();
        took.sort_by(f64::total_cmp);
        quantile(&took, part)
    }

    /// Milliseconds by which almost all calls were late at most.
    pub(crate) fn late_millis(&self) -> f64 {
        let mut late: Vec<_> = self.all.iter().map(|call| call.late.as_secs_f64() * 1e3).collect();
        late.sort_by(f64::total_cmp);
        quantile(&late, 0.99)
    }

    /// Whether the load was the one that was meant.
    pub(crate) fn was_punctual(&self) -> bool {
        self.late_millis() <= LATE_MAX.as_secs_f64() * 1e3
    }

    /// Every kind of end with its count, in a line.
    pub(crate) fn ends(&self) -> String {
        let failed = self.all.iter().find_map(|call| match call.end {
            End::Failed(code) => Some(code),
            End::Succeeded | End::Refused | End::DeadlinePassed => None,
        });
        let words = failed.map(|code| format!(" ({code:?})")).unwrap_or_default();
        format!(
            "{} succeeded, {} refused, {} past their deadline, {} failed{words}, begun up to {:.1} ms late",
            self.count(|end| end == End::Succeeded),
            self.count(|end| end == End::Refused),
            self.count(|end| end == End::DeadlinePassed),
            self.count(|end| matches!(end, End::Failed(_))),
            self.late_millis(),
        )
    }
}
