//! The hash pool: a fixed number of workers that compute password hashes, and a bounded queue before them.
//!
//! [`HashPool::admit`] is the only way to a [`QueuePermit`], and only a `QueuePermit` can hash. Admission compares the
//! expected wait with the caller's deadline: a queue that is filled up to the deadline would spend a third of its hashes on
//! answers that are too late. Token checks never use the pool, and registrations yield to logins. Workers run at a lower
//! priority than the I/O threads.

use std::{
    collections::{BTreeSet, VecDeque},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Condvar, Mutex, MutexGuard},
    thread,
    time::{Duration, Instant},
};

use tokio::sync::oneshot;
use zeroize::Zeroizing;

use super::{
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

/// The maximum number of waiting jobs. Bounds memory; usually the wait limits the queue first.
const QUEUE_JOBS_MAX: usize = 1_000;

/// The longest wait for a worker, for any deadline. A longer queue would help no caller: refusing with a retry time is
/// better.
const QUEUE_WAIT_MAX: Duration = Duration::from_millis(300);

/// The longest wait of a registration. The last third of the queue is reserved for logins, so while logins arrive faster
/// than they can be hashed, registrations are refused.
const REGISTRATION_QUEUE_WAIT_MAX: Duration = Duration::from_millis(200);

/// The assumed duration of a hash of the default cost before the first measurement.
const HASH_TIME_INITIAL: Duration = Duration::from_millis(10);

/// An average above this, of hashes of the default cost, does not refuse a call by itself, because the machine may have been
/// suspended.
const HASH_TIME_TRUSTED_MAX: Duration = Duration::from_millis(50);

/// The same for any cost. Below every deadline that leaves time for a hash.
const COSTLY_HASH_TIME_TRUSTED_MAX: Duration = Duration::from_secs(1);

/// Pepper keys that are missing and remembered at most: a writer of the store can name any number of them.
const MISSING_KEYS_MAX: usize = 16;

/// One hash changes the average by at most this many times the average, for the same reason.
const HASH_TIME_OUTLIER_FACTOR: u32 = 4;

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
    queue: Mutex<JobQueue>,
    work: Condvar,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    observer: Arc<dyn Observer>,
}

struct JobQueue {
    jobs: VecDeque<Job>,
    /// Admitted and not finished: unused permits, waiting jobs and running jobs.
    admitted: usize,
    /// The moving average of the duration of one hash.
    hash_time: Duration,
    /// The moving average over more hashes, so that a few fast hashes do not admit too many jobs.
    usual_hash_time: Duration,
    /// The average up to which a call may be refused.
    trusted_hash_time_max: Duration,
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

/// The purpose of a hash, which decides the priority when the queue is nearly full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// A login or a reauthentication.
    Account,
    /// A registration, new or repeated.
    Registration,
}

/// Permission to compute one hash. Dropped unused, it is released.
#[must_use]
pub struct QueuePermit {
    deadline: Instant,
    admission: Admission,
}

/// One admitted job. Dropping it releases the capacity.
struct Admission(Arc<PoolState>);

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
            queue: Mutex::new(JobQueue::new(settings.cost)),
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

    /// Admits one hash that must end before `deadline`.
    ///
    /// # Errors
    /// `DeadlineExceeded` if not even one hash fits; `Overloaded` if the wait would be too long; `Draining`.
    pub fn admit(&self, purpose: Purpose, deadline: Instant) -> Result<QueuePermit, Error> {
        let mut queue = self.shared.lock();
        if queue.draining {
            return Err(Error::Draining);
        }
        let workers = self.shared.settings.workers;
        let left = deadline.saturating_duration_since(self.shared.clock.monotonic());
        if left < queue.hash_time.min(queue.trusted_hash_time_max) {
            return Err(Error::DeadlineExceeded);
        }
        // With a free worker the average is ignored: only a new hash can correct it.
        if queue.admitted >= workers {
            let wait = queue.wait(workers);
            if wait > purpose.wait_max().max(queue.hash_time).min(left / 2)
                || queue.admitted >= workers + QUEUE_JOBS_MAX
            {
                drop(queue);
                return Err(Error::Overloaded { retry_after: self.shared.jittered(wait) });
            }
            if wait + queue.hash_time > left {
                return Err(Error::DeadlineExceeded);
            }
        }
        queue.admitted += 1;
        Ok(QueuePermit { deadline, admission: Admission(self.shared.clone()) })
    }

    /// Admits one hash for a call, and reports an overload to the observer.
    pub(in crate::domain) fn admit_call(&self, context: &CallContext, purpose: Purpose) -> Result<QueuePermit, Error> {
        self.admit(purpose, context.deadline).inspect_err(|error| {
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
        self.shared.lock().admitted == 0
    }

    /// The number of waiting jobs.
    pub fn depth(&self) -> usize {
        self.shared.lock().jobs.len()
    }

    /// Refuses new jobs. Admitted ones are finished.
    pub fn drain(&self) {
        self.shared.lock().draining = true;
    }
}

impl Drop for HashPool {
    fn drop(&mut self) {
        let mut queue = self.shared.lock();
        queue.closed = true;
        let abandoned = std::mem::take(&mut queue.jobs);
        let held = std::mem::take(&mut queue.held);
        drop(queue);
        self.shared.work.notify_all();
        held.into_iter().for_each(|(_, reply)| reply.send());
        // Outside the lock, which dropping an admission takes.
        drop(abandoned);
    }
}

// === impl Purpose ===

impl Purpose {
    fn wait_max(self) -> Duration {
        match self {
            Purpose::Account => QUEUE_WAIT_MAX,
            Purpose::Registration => REGISTRATION_QUEUE_WAIT_MAX,
        }
    }
}

// === impl QueuePermit ===

impl QueuePermit {
    /// Hashes a new password.
    pub async fn hash(self, password: Password) -> Result<PasswordHash, Error> {
        let form = self.admission.0.current_form();
        self.rehash(password, form).await
    }

    /// Hashes a password that was verified, in the form that [`HashPool::upgrade`] says.
    pub(in crate::domain) async fn rehash(self, password: Password, form: HashForm) -> Result<PasswordHash, Error> {
        self.hash_input(Scheme::Argon2id, form, Scheme::Argon2id.input(password)).await
    }

    /// Hashes the MD5 of an unknown password. The password then verifies against this hash.
    pub async fn wrap_md5(self, md5: Md5Hex) -> Result<PasswordHash, Error> {
        let form = self.admission.0.current_form();
        self.hash_input(Scheme::Argon2idOfMd5, form, md5.into_input()).await
    }

    async fn hash_input(self, scheme: Scheme, form: HashForm, input: Zeroizing<String>) -> Result<PasswordHash, Error> {
        let (answer, received) = oneshot::channel();
        self.submit(Task::Hash { scheme, form, input, answer });
        received.await.unwrap_or(Err(NOT_HASHED))
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
        let shared = self.admission.0.clone();
        let queued_at = shared.clock.monotonic();
        let job = Job { task, deadline: self.deadline, queued_at, admission: self.admission };
        let mut queue = shared.lock();
        if queue.closed {
            // The pool was dropped before its permit. Dropping the job answers it, outside the lock that its admission
            // takes.
            drop(queue);
            return drop(job);
        }
        queue.jobs.push_back(job);
        drop(queue);
        shared.work.notify_one();
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        self.0.lock().admitted -= 1;
    }
}

// === impl JobQueue ===

impl JobQueue {
    /// An empty queue, whose expectations are those of hashes of this cost.
    fn new(cost: Cost) -> Self {
        let hash_time = HASH_TIME_INITIAL.saturating_mul(cost.times_default());
        let trusted = HASH_TIME_TRUSTED_MAX.saturating_mul(cost.times_default()).min(COSTLY_HASH_TIME_TRUSTED_MAX);
        Self {
            jobs: VecDeque::new(),
            admitted: 0,
            hash_time: hash_time.min(trusted),
            usual_hash_time: hash_time.min(trusted),
            trusted_hash_time_max: trusted,
            held: Vec::new(),
            draining: false,
            closed: false,
        }
    }

    /// The expected wait of a new job.
    fn wait(&self, workers: usize) -> Duration {
        let ahead = (self.admitted + 1).saturating_sub(workers);
        let rounds = u32::try_from(ahead).unwrap_or(u32::MAX);
        let hash_time = self.hash_time.max(self.usual_hash_time);
        divided_among(hash_time.saturating_mul(rounds), workers)
    }

    /// Updates the averages.
    fn learn(&mut self, took: Duration) {
        let took = took.min(self.hash_time * HASH_TIME_OUTLIER_FACTOR);
        self.hash_time = (self.hash_time * 7 + took) / 8;
        self.usual_hash_time = (self.usual_hash_time * 63 + took.min(self.trusted_hash_time_max)) / 64;
    }
}

/// The time that all workers together need for the work of one worker.
fn divided_among(time: Duration, workers: usize) -> Duration {
    time / u32::try_from(workers).unwrap_or(1).max(1)
}

// === impl PoolState ===

impl PoolState {
    fn lock(&self) -> MutexGuard<'_, JobQueue> {
        lock(&self.queue)
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
        let mut queue = self.lock();
        loop {
            if queue.closed {
                return None;
            }
            if let Some(job) = queue.jobs.pop_front() {
                return Some(job);
            }
            queue = ignore_poison(self.work.wait(queue));
        }
    }

    /// Runs a job. Releases its admission before the caller receives the result, so that a retry is admitted.
    fn run(&self, job: Job, workspace: &mut Workspace) -> Option<Reply> {
        let Job { task, deadline, queued_at, admission } = job;
        let started = self.clock.monotonic();
        let is_late = started >= deadline;
        let queued = started.saturating_duration_since(queued_at);
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
        let mut queue = self.lock();
        queue.held.extend(reply.map(|reply| (now, reply)));
        let since = queue.held.first().map_or(now, |(since, _)| *since);
        let may_wait = deadline.saturating_duration_since(now) >= HOLD_DEADLINE_MIN;
        let is_usual = |job: &Job| job.task.cost().is_none_or(|cost| cost == self.settings.cost);
        if may_wait && queue.jobs.front().is_some_and(is_usual) && !queue.closed {
            let workers = self.settings.workers;
            let hold = HOLD_MAX.min(queue.wait(workers) / HOLD_PART_OF_WAIT);
            // The next job to end sends this result too.
            let until_next = divided_among(queue.hash_time, workers);
            if now.saturating_duration_since(since) + until_next <= hold {
                return;
            }
        }
        let held = std::mem::take(&mut queue.held);
        drop(queue);
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
            self.lock().learn(took);
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
        let before = pool.shared.lock().hash_time;
        let (held, release) = std::sync::mpsc::channel::<()>();
        let slow = pool.admit(Purpose::Account, in_seconds(5)).unwrap();
        let slow = tokio::spawn(slow.check(move || release.recv().is_ok()));
        assert_eq!(pool.shared.lock().admitted, 1, "it is admitted");
        let waiting = pool.admit(Purpose::Account, in_seconds(5)).unwrap();
        let waiting = tokio::spawn(waiting.check(|| false));
        held.send(()).unwrap();
        let [(yes, permit), (no, other)] = [slow.await.unwrap().ok().unwrap(), waiting.await.unwrap().ok().unwrap()];
        assert!(yes && !no);
        assert_eq!(pool.shared.lock().admitted, 2, "the permits are for the hashes that follow");
        drop((permit, other));
        assert_eq!(pool.shared.lock().admitted, 0, "or they are released");
        assert_eq!(pool.shared.lock().hash_time, before);
    }

    #[tokio::test]
    async fn check_that_panics_or_is_too_late_returns_an_error() {
        let pool = pool();
        let permit = pool.admit(Purpose::Account, in_seconds(5)).unwrap();
        assert_eq!(permit.check(|| panic!("planted panic")).await.err(), Some(NOT_HASHED));
        let late = QueuePermit { deadline: System.monotonic(), ..pool.admit(Purpose::Account, in_seconds(5)).unwrap() };
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
            pool.shared.lock().learn(Duration::from_secs(60));
        }
        assert!(pool.shared.lock().hash_time > Duration::from_secs(5));
        for _ in 0..100 {
            let permit = pool.admit(Purpose::Account, in_seconds(1)).unwrap();
            permit.verify(Password::parse("any".into()).unwrap(), pool.decoy()).await.unwrap();
        }
        assert!(pool.shared.lock().hash_time < Duration::from_millis(50));
    }

    #[test]
    fn expectations_of_the_queue_follow_the_cost_of_a_hash() {
        let queue = |memory_kib, passes| JobQueue::new(Cost { memory_kib, passes, lanes: 1 });
        let times = |queue: &JobQueue| [queue.hash_time, queue.usual_hash_time, queue.trusted_hash_time_max];
        let millis = |times: [u64; 3]| times.map(Duration::from_millis);
        assert_eq!(times(&queue(19_456, 2)), millis([10, 10, 50]));
        assert_eq!(times(&queue(64, 1)), millis([10, 10, 50]), "never less");
        let mut costly = queue(65_536, 4);
        assert_eq!(times(&costly), millis([70, 70, 350]));
        assert_eq!(times(&queue(262_144, 16)), millis([1_000, 1_000, 1_000]));
        for _ in 0..1_000 {
            costly.learn(Duration::from_millis(200));
        }
        costly.admitted = 3;
        assert!(costly.wait(1) > Duration::from_millis(590), "three hashes of 200 ms: {:?}", costly.wait(1));
    }

    #[tokio::test]
    async fn dropped_permit_and_dropped_call_release_their_capacity() {
        let pool = pool();
        for _ in 0..2_000 {
            drop(pool.admit(Purpose::Account, in_seconds(5)).unwrap());
        }
        for _ in 0..2_000 {
            let permit = pool.admit(Purpose::Account, in_seconds(5)).unwrap();
            drop(permit.verify(Password::parse("any".into()).unwrap(), pool.decoy()));
        }
        let permit = pool.admit(Purpose::Account, in_seconds(5)).unwrap();
        assert!(!permit.verify(Password::parse("any".into()).unwrap(), pool.decoy()).await.unwrap());
        assert_eq!(pool.shared.lock().admitted, 0);
    }

    #[tokio::test]
    async fn held_result_is_sent_when_the_following_caller_has_gone() {
        let pool = pool();
        let verify = || pool.admit(Purpose::Account, in_seconds(5)).unwrap();
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
            let permit = || pool.admit(Purpose::Account, in_seconds(5)).unwrap();
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

    #[tokio::test]
    async fn registrations_are_refused_before_logins() {
        let pool = pool();
        let admitted = |purpose| {
            let permits: Vec<_> = iter::from_fn(|| pool.admit(purpose, in_seconds(5)).ok()).collect();
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
        let [permit, late] = [(), ()].map(|()| pool.admit(Purpose::Account, in_seconds(5)).unwrap());
        let waiting = tokio::spawn(permit.verify(Password::parse("any".into()).unwrap(), pool.decoy()));
        while pool.shared.lock().jobs.is_empty() {
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
