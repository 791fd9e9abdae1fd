//! The hash workers: threads that take jobs from `hash_queue.rs`, compute them and answer their callers.
//!
//! Guarantees that a job ends its admission, also when its caller has gone, its deadline has passed or a worker panics. Workers
//! run at a lower priority than the I/O threads. Does not know why a job was admitted.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Condvar, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use tokio::sync::oneshot;
use zeroize::Zeroizing;

use super::{
    hash_queue::{HashQueue, JobSource},
    kernel::{Derive, HashInput, Kernel, Workspace},
    pepper::{HashSecret, Pepper},
};
use crate::{
    common::lock::{ignore_poison, lock},
    domain::{
        error::Error,
        event::Event,
        model::{Cost, HashForm, PasswordHash, SALT_BYTES, Scheme, TAG_BYTES},
        ports::{Clock, Entropy, Environment, Observer},
    },
};

/// While other jobs wait, results are held and sent in batches: sending wakes I/O threads whose code and data the hashes
/// have evicted from the CPU caches, which costs the same for one result as for several. A result is held at most this
/// long, and at most this part of the wait of a new job. The queue is flushed before a hash of higher cost.
const HOLD_MAX: Duration = Duration::from_millis(40);
const HOLD_PART_OF_WAIT: u32 = 2;

/// A result whose deadline is nearer than this is not held.
const HOLD_DEADLINE_MIN: Duration = Duration::from_millis(200);

/// The error of a hash that could not be computed: memory for the arena was not available, or a worker panicked.
pub(super) const NOT_HASHED: Error = Error::Overloaded { retry_after: Duration::from_secs(1) };

/// The `nice` value of the workers, so that many logins do not slow down cheap calls.
const WORKER_NICENESS: i32 = 10;

/// The settings of the pool.
#[derive(Debug, Clone, Copy)]
pub struct PoolSettings {
    /// Concurrent hashes. Each worker keeps one arena of the current cost.
    pub workers: usize,
    /// The cost of a new hash.
    pub cost: Cost,
}

/// What the pool, its permits and its workers share.
pub(super) struct PoolState {
    pub(super) settings: PoolSettings,
    pub(super) pepper: Arc<Pepper>,
    state: Mutex<QueueState>,
    work: Condvar,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) entropy: Arc<dyn Entropy>,
    pub(super) observer: Arc<dyn Observer>,
}

/// The queue, and what has left it and is not answered.
pub(super) struct QueueState {
    pub(super) queue: HashQueue<Job>,
    /// Results that are held, and the time of each.
    held: Vec<(Instant, Reply)>,
    pub(super) draining: bool,
    closed: bool,
}

pub(super) struct Job {
    task: Task,
    deadline: Instant,
    queued_at: Instant,
    // Released when the job ends: if the client disconnects, a running hash still occupies its worker.
    admission: Admission,
}

/// What a worker computes, and the channel of the caller.
pub(super) enum Task {
    Hash {
        scheme: Scheme,
        form: HashForm,
        input: Zeroizing<String>,
        answer: oneshot::Sender<Result<PasswordHash, Error>>,
    },
    Verify {
        input: Zeroizing<String>,
        hash: PasswordHash,
        answer: oneshot::Sender<Result<bool, Error>>,
    },
    /// Another check that uses the CPU as long as a hash.
    Check {
        work: Box<dyn FnOnce() -> bool + Send>,
        answer: oneshot::Sender<Result<(bool, Admission), Error>>,
    },
}

/// The result of a job, and the channel of its caller.
pub(super) enum Reply {
    Hashed(oneshot::Sender<Result<PasswordHash, Error>>, Result<PasswordHash, Error>),
    Verified(oneshot::Sender<Result<bool, Error>>, Result<bool, Error>),
    Checked(oneshot::Sender<Result<(bool, Admission), Error>>, Result<(bool, Admission), Error>),
}

/// One admitted job. Dropping it releases the capacity.
pub(super) struct Admission {
    pub(super) pool: Arc<PoolState>,
    pub(super) source: JobSource,
    pub(super) begun: HashBegun,
}

/// Whether the hash of a permit has begun. Once its caller has gone, a hash that has not begun is skipped.
#[derive(Debug, Clone, Default)]
pub(in crate::domain) struct HashBegun(Arc<AtomicBool>);

impl HashBegun {
    /// Whether it has.
    pub(in crate::domain) fn is_set(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }

    fn set(&self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

// === impl PoolState ===

impl PoolState {
    /// Starts the workers. Their arenas are allocated at their first hash.
    pub(super) fn start(
        settings: PoolSettings,
        pepper: Arc<Pepper>,
        kernel: Kernel,
        environment: &Environment,
    ) -> Arc<Self> {
        let state = QueueState {
            queue: HashQueue::new(settings.workers, settings.cost),
            held: Vec::new(),
            draining: false,
            closed: false,
        };
        let shared = Arc::new(Self {
            settings,
            pepper,
            state: Mutex::new(state),
            work: Condvar::new(),
            clock: environment.clock.clone(),
            entropy: environment.entropy.clone(),
            observer: environment.observer.clone(),
        });
        for number in 0..settings.workers {
            let shared = shared.clone();
            thread::Builder::new()
                .name(format!("hash-{number}"))
                .spawn(move || shared.run_worker(kernel))
                .expect("the operating system can start a thread");
        }
        shared
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, QueueState> {
        lock(&self.state)
    }

    /// How a new password is hashed.
    pub(super) fn current_form(&self) -> HashForm {
        HashForm { cost: self.settings.cost, key: self.pepper.current() }
    }

    /// Ends each worker after its current hash, and answers all callers.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        let abandoned = state.queue.take_all();
        let held = std::mem::take(&mut state.held);
        drop(state);
        self.work.notify_all();
        held.into_iter().for_each(|(_, reply)| reply.send());
        // Outside the lock, which dropping an admission takes.
        drop(abandoned);
    }

    /// Runs jobs until the pool is closed: a worker thread.
    fn run_worker(&self, kernel: Kernel) {
        // On other systems this would apply to the whole process.
        #[cfg(target_os = "linux")]
        if let Err(cause) = rustix::process::setpriority_process(None, WORKER_NICENESS) {
            tracing::debug!(%cause, "hash workers run at normal priority");
        }
        let mut workspace = Workspace::new(kernel);
        while let Some(job) = self.next() {
            let deadline = job.deadline;
            let reply = catch_unwind(AssertUnwindSafe(|| self.run(job, &mut workspace))).unwrap_or_else(|_| {
                tracing::error!("hash worker panicked; the panic is logged above");
                workspace = Workspace::new(kernel);
                None
            });
            self.answer(reply, deadline);
        }
    }

    fn next(&self) -> Option<Job> {
        let mut state = self.lock();
        loop {
            if state.closed {
                return None;
            }
            if let Some(job) = state.queue.pop() {
                return Some(job);
            }
            state = ignore_poison(self.work.wait(state));
        }
    }

    /// Runs a job. Releases its admission before the caller receives the result, so that a retry is admitted.
    fn run(&self, job: Job, workspace: &mut Workspace) -> Option<Reply> {
        let Job { task, deadline, queued_at, admission } = job;
        let started = self.clock.monotonic();
        let is_late = started >= deadline;
        let queued = started.saturating_duration_since(queued_at);
        // Set before the channel is checked: a caller that leaves closes the channel first, and then reads this.
        if !matches!(task, Task::Check { .. }) {
            admission.begun.set();
        }
        match task {
            // The caller has gone.
            Task::Hash { answer, .. } if answer.is_closed() => None,
            Task::Verify { answer, .. } if answer.is_closed() => None,
            Task::Check { answer, .. } if answer.is_closed() => None,
            Task::Hash { answer, .. } if is_late => Some(Reply::Hashed(answer, Err(Error::DeadlineExceeded))),
            Task::Verify { answer, .. } if is_late => Some(Reply::Verified(answer, Err(Error::DeadlineExceeded))),
            Task::Check { answer, .. } if is_late => Some(Reply::Checked(answer, Err(Error::DeadlineExceeded))),
            Task::Hash { scheme, form, input, answer } => {
                let mut salt = [0; SALT_BYTES];
                self.entropy.fill(&mut salt);
                let mut tag = [0; TAG_BYTES];
                let HashSecret { bytes: secret, is_available } = self.pepper.secret(form.key);
                assert!(is_available, "a new hash has the current key, or the key with which it was verified");
                let input = HashInput { password: input.as_bytes(), salt: &salt, secret };
                let derived = self.derive(workspace, form.cost, input, &mut tag, queued);
                Some(Reply::Hashed(answer, derived.map(|()| PasswordHash::new(scheme, form, salt, tag))))
            }
            Task::Verify { input, hash, answer } => {
                let mut tag = Zeroizing::new(vec![0; hash.tag_len()]);
                let HashSecret { bytes: secret, is_available } = self.pepper.secret(hash.form.key);
                let input = HashInput { password: input.as_bytes(), salt: &hash.salt, secret };
                let derived = self.derive(workspace, hash.form.cost, input, &mut tag, queued);
                Some(Reply::Verified(answer, derived.map(|()| hash.has_tag(&tag) && is_available)))
            }
            Task::Check { work, answer } => {
                let is_right = work();
                // Does not update the averages, since it is not a hash.
                let took = self.clock.monotonic().saturating_duration_since(started);
                self.observer.on(&Event::ChallengeChecked { queued, took });
                Some(Reply::Checked(answer, Ok((is_right, admission))))
            }
        }
    }

    /// Sends the result of a job and the held results, or holds it if another job follows soon.
    pub(super) fn answer(&self, reply: Option<Reply>, deadline: Instant) {
        let now = self.clock.monotonic();
        let mut state = self.lock();
        state.held.extend(reply.map(|reply| (now, reply)));
        let since = state.held.first().map_or(now, |(since, _)| *since);
        let may_wait = deadline.saturating_duration_since(now) >= HOLD_DEADLINE_MIN;
        let is_usual = |job: &Job| job.task.cost().is_none_or(|cost| cost == self.settings.cost);
        if may_wait && state.queue.peek().is_some_and(is_usual) && !state.closed {
            let hold = HOLD_MAX.min(state.queue.wait() / HOLD_PART_OF_WAIT);
            // The next job to end sends this result too.
            if now.saturating_duration_since(since) + state.queue.time_between_hashes() <= hold {
                return;
            }
        }
        let held = std::mem::take(&mut state.held);
        drop(state);
        held.into_iter().for_each(|(_, reply)| reply.send());
    }

    fn derive(
        &self,
        workspace: &mut Workspace,
        cost: Cost,
        input: HashInput<'_>,
        tag: &mut [u8],
        queued: Duration,
    ) -> Result<(), Error> {
        let started = self.clock.monotonic();
        workspace.derive(cost, input, tag).map_err(|cause| {
            // The parameters were checked when the hash was parsed, so memory is the only cause.
            tracing::error!(cause, ?cost, "password could not be hashed; is memory exhausted?");
            NOT_HASHED
        })?;
        let took = self.clock.monotonic().saturating_duration_since(started);
        if cost.memory_kib > self.settings.cost.memory_kib {
            workspace.shrink();
        }
        // Hashes of other costs do not update the averages.
        if cost == self.settings.cost {
            self.lock().queue.learn(took);
        }
        self.observer.on(&Event::Hashed { queued, took });
        Ok(())
    }
}

// === impl Admission ===

impl Admission {
    /// Queues the job of this admission.
    pub(super) fn submit(self, task: Task, deadline: Instant) {
        let (shared, source) = (self.pool.clone(), self.source);
        let job = Job { task, deadline, queued_at: shared.clock.monotonic(), admission: self };
        let mut state = shared.lock();
        if state.closed {
            // The pool was dropped before its permit. Dropping the job answers it, outside the lock that its admission
            // takes.
            drop(state);
            return drop(job);
        }
        state.queue.push(source, job);
        drop(state);
        shared.work.notify_one();
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        self.pool.lock().queue.release(self.source);
    }
}

// === impl Task, Reply ===

impl Task {
    /// The cost of a hash. `None` for jobs that take as long as one of the current cost.
    fn cost(&self) -> Option<Cost> {
        match self {
            Task::Check { .. } => None,
            Task::Hash { form, .. } => Some(form.cost),
            Task::Verify { hash, .. } => Some(hash.form.cost),
        }
    }
}

impl Reply {
    fn send(self) {
        // An error says that the caller has gone.
        match self {
            Reply::Hashed(answer, result) => drop(answer.send(result)),
            Reply::Verified(answer, result) => drop(answer.send(result)),
            Reply::Checked(answer, result) => drop(answer.send(result)),
        }
    }
}
