//! The hash pool: a fixed number of workers that compute password hashes, behind the bounded queue of `hash_queue.rs`.
//!
//! [`HashPool::admit`] is the only way to a [`QueuePermit`], and only a `QueuePermit` can hash. Admission compares the
//! expected wait with the caller's deadline: a queue that is filled up to the deadline would spend a third of its hashes on
//! answers that are too late. Token checks never use the pool. Workers run at a lower priority than the I/O threads.

use std::{
    collections::BTreeSet,
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
    hash_queue::{HashQueue, JobSource, Purpose},
    kernel::{Derive, HashInput, Kernel, Workspace},
    pepper::{HashSecret, Pepper},
};
use crate::{
    common::{
        jitter::jittered,
        lock::{ignore_poison, lock},
    },
    domain::{
        context::CallContext,
        error::Error,
        event::Event,
        model::{Cost, HashForm, Md5Hex, Password, PasswordHash, PepperKeyId, SALT_BYTES, Scheme, TAG_BYTES},
        ports::{Clock, ConfigurationWarning, Entropy, Environment, Observer},
    },
};

/// Pepper keys that are missing and remembered at most: a writer of the store can name any number of them.
const MISSING_KEYS_MAX: usize = 16;

/// While other jobs wait, results are held and sent in batches: sending wakes I/O threads whose code and data the hashes
/// have evicted from the CPU caches, which costs the same for one result as for several. A result is held at most this
/// long, and at most this part of the wait of a new job. The queue is flushed before a hash of higher cost.
const HOLD_MAX: Duration = Duration::from_millis(40);
const HOLD_PART_OF_WAIT: u32 = 2;

/// A result whose deadline is nearer than this is not held.
const HOLD_DEADLINE_MIN: Duration = Duration::from_millis(200);

/// The error of a hash that could not be computed: memory for the arena was not available, or a worker panicked.
const NOT_HASHED: Error = Error::Overloaded { retry_after: Duration::from_secs(1) };

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

/// The hash pool. Dropping it ends each worker after its current hash.
pub struct HashPool {
    shared: Arc<PoolState>,
    decoy: PasswordHash,
}

/// What the pool, its permits and its workers share.
struct PoolState {
    settings: PoolSettings,
    pepper: Arc<Pepper>,
    /// Keys that stored hashes needed and that are neither there nor retired.
    missing_keys: Mutex<BTreeSet<PepperKeyId>>,
    state: Mutex<QueueState>,
    work: Condvar,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    observer: Arc<dyn Observer>,
}

struct QueueState {
    queue: HashQueue<Job>,
    /// Results that are held, and the time of each.
    held: Vec<(Instant, Reply)>,
    draining: bool,
    closed: bool,
}

struct Job {
    task: Task,
    deadline: Instant,
    queued_at: Instant,
    // Released when the job ends: if the client disconnects, a running hash still occupies its worker.
    admission: Admission,
}

enum Task {
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
        answer: oneshot::Sender<Result<(bool, QueuePermit), Error>>,
    },
}

/// The result of a job, and the channel of its caller.
enum Reply {
    Hashed(oneshot::Sender<Result<PasswordHash, Error>>, Result<PasswordHash, Error>),
    Verified(oneshot::Sender<Result<bool, Error>>, Result<bool, Error>),
    Checked(oneshot::Sender<Result<(bool, QueuePermit), Error>>, Result<(bool, QueuePermit), Error>),
}

/// Permission to compute one hash. Dropped unused, it is released.
#[must_use]
pub struct QueuePermit {
    deadline: Instant,
    admission: Admission,
}

/// One admitted job. Dropping it releases the capacity.
struct Admission {
    pool: Arc<PoolState>,
    source: JobSource,
    begun: HashBegun,
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

// === impl HashPool ===

impl HashPool {
    /// Starts the workers, without a pepper. Their arenas are allocated at their first hash.
    pub fn start(settings: PoolSettings, kernel: Kernel, environment: &Environment) -> Self {
        Self::with_pepper(settings, Arc::new(Pepper::none()), kernel, environment)
    }

    /// Starts the workers.
    pub fn with_pepper(settings: PoolSettings, pepper: Arc<Pepper>, kernel: Kernel, environment: &Environment) -> Self {
        let shared = Arc::new(PoolState {
            settings,
            pepper,
            missing_keys: Mutex::default(),
            state: Mutex::new(QueueState {
                queue: HashQueue::new(settings.workers, settings.cost),
                held: Vec::new(),
                draining: false,
                closed: false,
            }),
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
        let decoy = shared.random_hash();
        Self { shared, decoy }
    }

    /// Admits one hash of `source` that must end before `deadline`.
    ///
    /// # Errors
    /// `DeadlineExceeded` if not even one hash fits; `Overloaded` if the wait would be too long; `Draining`.
    pub fn admit(&self, source: JobSource, purpose: Purpose, deadline: Instant) -> Result<QueuePermit, Error> {
        let left = deadline.saturating_duration_since(self.shared.clock.monotonic());
        let mut state = self.shared.lock();
        if state.draining {
            return Err(Error::Draining);
        }
        let admitted = state.queue.admit(source, purpose, left);
        drop(state);
        match admitted {
            Ok(()) => Ok(QueuePermit {
                deadline,
                admission: Admission { pool: self.shared.clone(), source, begun: HashBegun::default() },
            }),
            Err(Error::Overloaded { retry_after }) => {
                Err(Error::Overloaded { retry_after: self.shared.jittered(retry_after) })
            }
            Err(error) => Err(error),
        }
    }

    /// Admits one hash for a call, and reports an overload to the observer.
    pub(in crate::domain) fn admit_call(&self, context: &CallContext, purpose: Purpose) -> Result<QueuePermit, Error> {
        self.admit(JobSource::of(context), purpose, context.deadline).inspect_err(|error| {
            if let Error::Overloaded { retry_after } = error {
                self.shared.observer.on(&Event::Overloaded { context, retry_after: *retry_after });
            }
        })
    }

    /// The decoy hash, which no password matches: it makes a login of an unknown user cost as much as of a known one.
    pub(crate) fn decoy(&self) -> PasswordHash {
        self.decoy.clone()
    }

    /// How a verified hash is computed again; `None` if it is current.
    ///
    /// Never with less memory or fewer passes than the hash has, and never without its key: a hash that is stronger than the
    /// settings stays as it is, so nodes with different settings do not replace each other's hashes in turn.
    pub(in crate::domain) fn upgrade(&self, hash: &PasswordHash) -> Option<HashForm> {
        let current = self.shared.current_form();
        let cost = if current.cost.covers(hash.form.cost) { current.cost } else { hash.form.cost };
        let form = HashForm { cost, key: current.key.or(hash.form.key) };
        (hash.scheme != Scheme::Argon2id || form != hash.form).then_some(form)
    }

    /// Whether the pepper key of the hash is missing, so that no password matches it. The first time for each key is logged.
    pub(in crate::domain) fn lacks_key_of(&self, hash: &PasswordHash) -> bool {
        let pepper = &self.shared.pepper;
        let Some(key) = hash.form.key.filter(|key| !pepper.holds(*key)) else { return false };
        let mut missing = lock(&self.shared.missing_keys);
        if pepper.is_missing(key) && missing.len() < MISSING_KEYS_MAX && missing.insert(key) {
            tracing::error!(%key, "a password hash needs a pepper key that --pepper-key-file lacks; its user cannot log in");
        }
        true
    }

    /// The warning that stored hashes needed pepper keys that are missing and not retired.
    pub fn pepper_warning(&self) -> Option<ConfigurationWarning> {
        let missing: Vec<_> = lock(&self.shared.missing_keys).iter().map(ToString::to_string).collect();
        if missing.is_empty() {
            return None;
        }
        let keys = missing.join(", ");
        let text =
            format!("--pepper-key-file: users cannot log in, because their hashes need keys that it lacks: {keys}");
        Some(ConfigurationWarning { setting: "pepper-key-file", text })
    }

    /// Whether no hash runs or waits.
    pub fn is_idle(&self) -> bool {
        self.shared.lock().queue.admitted() == 0
    }

    /// The number of waiting jobs.
    pub fn depth(&self) -> usize {
        self.shared.lock().queue.waiting()
    }

    /// Refuses new jobs. Admitted ones are finished.
    pub fn drain(&self) {
        self.shared.lock().draining = true;
    }
}

impl Drop for HashPool {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.closed = true;
        let abandoned = state.queue.take_all();
        let held = std::mem::take(&mut state.held);
        drop(state);
        self.shared.work.notify_all();
        held.into_iter().for_each(|(_, reply)| reply.send());
        // Outside the lock, which dropping an admission takes.
        drop(abandoned);
    }
}

// === impl QueuePermit ===

impl QueuePermit {
    /// Hashes a new password.
    pub async fn hash(self, password: Password) -> Result<PasswordHash, Error> {
        let form = self.admission.pool.current_form();
        self.rehash(password, form).await
    }

    /// Hashes a password that was verified, in the form that [`HashPool::upgrade`] says.
    pub(in crate::domain) async fn rehash(self, password: Password, form: HashForm) -> Result<PasswordHash, Error> {
        self.hash_input(Scheme::Argon2id, form, Scheme::Argon2id.input(password)).await
    }

    /// Hashes the MD5 of an unknown password. The password then verifies against this hash.
    pub async fn wrap_md5(self, md5: Md5Hex) -> Result<PasswordHash, Error> {
        let form = self.admission.pool.current_form();
        self.hash_input(Scheme::Argon2idOfMd5, form, md5.into_input()).await
    }

    async fn hash_input(self, scheme: Scheme, form: HashForm, input: Zeroizing<String>) -> Result<PasswordHash, Error> {
        let (answer, received) = oneshot::channel();
        self.submit(Task::Hash { scheme, form, input, answer });
        received.await.unwrap_or(Err(NOT_HASHED))
    }

    /// Whether the hash of this permit has begun.
    pub(in crate::domain) fn begun(&self) -> HashBegun {
        self.admission.begun.clone()
    }

    /// Whether `password` matches `hash`.
    pub async fn verify(self, password: Password, hash: PasswordHash) -> Result<bool, Error> {
        let (answer, received) = oneshot::channel();
        self.submit(Task::Verify { input: hash.scheme.input(password), hash, answer });
        received.await.unwrap_or(Err(NOT_HASHED))
    }

    /// Runs `work` in a worker, which should take no longer than a hash. Returns its result, and the permit for a hash.
    pub(in crate::domain) async fn check(
        self,
        work: impl FnOnce() -> bool + Send + 'static,
    ) -> Result<(bool, QueuePermit), Error> {
        let (answer, received) = oneshot::channel();
        self.submit(Task::Check { work: Box::new(work), answer });
        received.await.unwrap_or(Err(NOT_HASHED))
    }

    fn submit(self, task: Task) {
        let (shared, source) = (self.admission.pool.clone(), self.admission.source);
        let queued_at = shared.clock.monotonic();
        let job = Job { task, deadline: self.deadline, queued_at, admission: self.admission };
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

// === impl PoolState ===

impl PoolState {
    fn lock(&self) -> MutexGuard<'_, QueueState> {
        lock(&self.state)
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
                Some(Reply::Checked(answer, Ok((is_right, QueuePermit { deadline, admission }))))
            }
        }
    }

    /// Sends the result of a job and the held results, or holds it if another job follows soon.
    fn answer(&self, reply: Option<Reply>, deadline: Instant) {
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

    fn random_hash(&self) -> PasswordHash {
        let (mut salt, mut tag) = ([0; SALT_BYTES], [0; TAG_BYTES]);
        self.entropy.fill(&mut salt);
        self.entropy.fill(&mut tag);
        PasswordHash::new(Scheme::Argon2id, self.current_form(), salt, tag)
    }

    /// How a new password is hashed.
    fn current_form(&self) -> HashForm {
        HashForm { cost: self.settings.cost, key: self.pepper.current() }
    }

    /// `wait` plus up to a quarter, so that callers that were refused together do not retry together.
    fn jittered(&self, wait: Duration) -> Duration {
        let [random] = self.entropy.bytes();
        jittered(wait, wait / 4, random)
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

#[cfg(test)]
mod tests {
    use std::iter;

    use super::*;
    use crate::domain::ports::System;

    fn pool() -> HashPool {
        pool_of(1)
    }

    fn pool_of(workers: usize) -> HashPool {
        let environment = Environment { clock: Arc::new(System), entropy: Arc::new(System), observer: Arc::new(()) };
        let settings = PoolSettings { workers, cost: Cost { memory_kib: 64, passes: 1, lanes: 1 } };
        HashPool::start(settings, Kernel::Fast, &environment)
    }

    #[tokio::test]
    async fn check_occupies_a_worker_returns_its_permit_and_does_not_change_the_average() {
        let pool = pool();
        let before = pool.shared.lock().queue.hash_time();
        let (held, release) = std::sync::mpsc::channel::<()>();
        let slow = pool.admit(JobSource::Node, Purpose::Account, in_seconds(5)).unwrap();
        let slow = tokio::spawn(slow.check(move || release.recv().is_ok()));
        assert_eq!(pool.shared.lock().queue.admitted(), 1, "it is admitted");
        let waiting = pool.admit(JobSource::Node, Purpose::Account, in_seconds(5)).unwrap();
        let waiting = tokio::spawn(waiting.check(|| false));
        held.send(()).unwrap();
        let [(yes, permit), (no, other)] = [slow.await.unwrap().ok().unwrap(), waiting.await.unwrap().ok().unwrap()];
        assert!(yes && !no);
        assert_eq!(pool.shared.lock().queue.admitted(), 2, "the permits are for the hashes that follow");
        drop((permit, other));
        assert_eq!(pool.shared.lock().queue.admitted(), 0, "or they are released");
        assert_eq!(pool.shared.lock().queue.hash_time(), before);
    }

    #[tokio::test]
    async fn check_that_panics_or_is_too_late_returns_an_error() {
        let pool = pool();
        let permit = pool.admit(JobSource::Node, Purpose::Account, in_seconds(5)).unwrap();
        assert_eq!(permit.check(|| panic!("planted panic")).await.err(), Some(NOT_HASHED));
        let late = QueuePermit {
            deadline: System.monotonic(),
            ..pool.admit(JobSource::Node, Purpose::Account, in_seconds(5)).unwrap()
        };
        assert_eq!(late.check(|| true).await.err(), Some(Error::DeadlineExceeded));
    }

    fn in_seconds(seconds: u64) -> Instant {
        System.monotonic() + Duration::from_secs(seconds)
    }

    #[tokio::test]
    async fn pool_admits_hashes_again_after_the_machine_was_suspended() {
        let pool = pool();
        // Durations of hashes during which the machine was suspended.
        for _ in 0..50 {
            pool.shared.lock().queue.learn(Duration::from_secs(60));
        }
        assert!(pool.shared.lock().queue.hash_time() > Duration::from_secs(5));
        for _ in 0..100 {
            let permit = pool.admit(JobSource::Node, Purpose::Account, in_seconds(1)).unwrap();
            permit.verify(Password::parse("any".into()).unwrap(), pool.decoy()).await.unwrap();
        }
        assert!(pool.shared.lock().queue.hash_time() < Duration::from_millis(50));
    }

    #[tokio::test]
    async fn dropped_permit_and_dropped_call_release_their_capacity() {
        let pool = pool();
        for _ in 0..2_000 {
            drop(pool.admit(JobSource::Node, Purpose::Account, in_seconds(5)).unwrap());
        }
        for _ in 0..2_000 {
            let permit = pool.admit(JobSource::Node, Purpose::Account, in_seconds(5)).unwrap();
            drop(permit.verify(Password::parse("any".into()).unwrap(), pool.decoy()));
        }
        let permit = pool.admit(JobSource::Node, Purpose::Account, in_seconds(5)).unwrap();
        assert!(!permit.verify(Password::parse("any".into()).unwrap(), pool.decoy()).await.unwrap());
        assert_eq!(pool.shared.lock().queue.admitted(), 0);
    }

    #[tokio::test]
    async fn held_result_is_sent_when_the_following_caller_has_gone() {
        let pool = pool();
        let verify = || pool.admit(JobSource::Node, Purpose::Account, in_seconds(5)).unwrap();
        let mut rounds = 0;
        while rounds < 200 {
            // Unused permits make the expected wait long, so results are held long.
            let waiting: Vec<_> = (0..5).map(|_| verify()).collect();
            let stays = verify().verify(Password::parse("any".into()).unwrap(), pool.decoy());
            let leaves = verify().verify(Password::parse("any".into()).unwrap(), pool.decoy());
            let (mut stays, mut leaves) = (Box::pin(stays), Box::pin(leaves));
            // On a busy machine the worker may have finished both before they are polled.
            if futures_util::poll!(&mut stays).is_ready() || futures_util::poll!(&mut leaves).is_ready() {
                continue;
            }
            rounds += 1;
            drop(leaves);
            let result = tokio::time::timeout(Duration::from_secs(5), stays).await;
            assert_eq!(result.expect("the result is sent"), Ok(false));
            drop(waiting);
        }
    }

    #[tokio::test]
    async fn result_is_not_held_near_its_deadline_or_before_a_hash_of_higher_cost() {
        let usual = Cost { memory_kib: 64, passes: 1, lanes: 1 };
        let costly = Cost { memory_kib: 1_024, ..usual };
        for (seconds, next, is_held) in [(5, usual, true), (0, usual, false), (5, costly, false)] {
            // Without workers the jobs keep waiting.
            let pool = pool_of(0);
            let permit = || pool.admit(JobSource::Node, Purpose::Account, in_seconds(5)).unwrap();
            let _waiting: Vec<_> = (0..10).map(|_| permit()).collect();
            let form = HashForm { cost: next, key: None };
            let hash = PasswordHash::new(Scheme::Argon2id, form, [0; SALT_BYTES], [0; TAG_BYTES]);
            let mut other = Box::pin(permit().verify(Password::parse("any".into()).unwrap(), hash));
            assert!(futures_util::poll!(&mut other).is_pending());
            let (answer, mut received) = oneshot::channel();
            pool.shared.answer(Some(Reply::Verified(answer, Ok(true))), in_seconds(seconds));
            assert_eq!(received.try_recv().is_err(), is_held, "{seconds} s left, then {next:?}");
        }
    }

    /// The order in which one worker runs the jobs of an attacker, who has twelve in the queue, and of three users.
    async fn order_of_jobs(source: fn(&str) -> JobSource) -> Vec<&'static str> {
        let pool = pool();
        let (held, release) = std::sync::mpsc::channel::<()>();
        let first = pool.admit(JobSource::Node, Purpose::Account, in_seconds(5)).unwrap();
        let (begun, is_begun) = std::sync::mpsc::channel::<()>();
        let hold = move || begun.send(()).is_ok() && release.recv().is_ok();
        let mut jobs = vec![tokio::spawn(first.check(hold))];
        while is_begun.try_recv().is_err() {
            tokio::task::yield_now().await;
        }
        let order = Arc::new(Mutex::new(Vec::new()));
        for name in iter::repeat_n("attacker", 12).chain(["ada", "bob", "eve"]) {
            let (permit, order) = (pool.admit(source(name), Purpose::Account, in_seconds(5)).unwrap(), order.clone());
            jobs.push(tokio::spawn(permit.check(move || {
                lock(&order).push(name);
                true
            })));
            while pool.depth() < jobs.len() - 1 {
                tokio::task::yield_now().await;
            }
        }
        held.send(()).unwrap();
        for job in jobs {
            assert!(job.await.unwrap().is_ok());
        }
        lock(&order).clone()
    }

    #[tokio::test]
    async fn users_are_served_in_turn_with_an_attacker_who_has_many_jobs() {
        let source = |name: &str| JobSource::LocalPeer(name.bytes().last().map(u32::from));
        let served = order_of_jobs(source).await;
        assert_eq!(served[..5], ["attacker", "ada", "bob", "eve", "attacker"]);
        // The control: without sources the users wait for all jobs of the attacker.
        assert_eq!(order_of_jobs(|_| JobSource::Node).await[..12], ["attacker"; 12]);
    }

    #[tokio::test]
    async fn registrations_are_refused_before_logins() {
        let pool = pool();
        let admitted = |purpose| {
            let permits: Vec<_> = iter::from_fn(|| pool.admit(JobSource::Node, purpose, in_seconds(5)).ok()).collect();
            (permits.len(), permits)
        };
        let (registrations, held) = admitted(Purpose::Registration);
        let (logins, held_too) = admitted(Purpose::Account);
        assert!(registrations > 0 && logins > 0, "{registrations} registrations, then {logins} logins");
        drop((held, held_too));
        let _held = admitted(Purpose::Account);
        assert_eq!(admitted(Purpose::Registration).0, 0, "logins fill the queue");
    }

    #[tokio::test]
    async fn waiting_jobs_are_answered_when_the_pool_is_dropped() {
        // Without workers the jobs keep waiting.
        let pool = pool_of(0);
        let [permit, late] = [(), ()].map(|()| pool.admit(JobSource::Node, Purpose::Account, in_seconds(5)).unwrap());
        let waiting = tokio::spawn(permit.verify(Password::parse("any".into()).unwrap(), pool.decoy()));
        while pool.depth() == 0 {
            tokio::task::yield_now().await;
        }
        drop(pool);
        assert_eq!(waiting.await.unwrap(), Err(NOT_HASHED));
        assert_eq!(
            late.hash(Password::parse("any".into()).unwrap()).await,
            Err(NOT_HASHED),
            "after the pool was dropped"
        );
    }
}
