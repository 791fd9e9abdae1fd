//! The bounded hash workers: as many hashes at once as there are workers, and no queue that outlives its callers.
//!
//! [`HashPool::admit`] is the only way to a [`QueuePermit`], and only a `QueuePermit` can hash. Admission is decided by the time
//! the queue would take against the caller's deadline: a queue that fills to the deadline spends a third of its
//! hashes on answers that come too late. Token checks never wait here, and registrations yield to logins. Workers run at a
//! lower priority than the threads that do I/O.

use std::{
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use tokio::sync::oneshot;
use zeroize::Zeroizing;

use super::kernel::{Derive, Kernel, Workspace};
use crate::{
    common::{jitter::jittered, lock::lock},
    domain::{
        context::CallContext,
        error::Error,
        event::Event,
        model::{Cost, Md5Hex, Password, PasswordHash, SALT_BYTES, Scheme, TAG_BYTES},
        ports::{Clock, Entropy, Environment, Observer},
    },
};

/// Hash jobs that may wait, whatever their deadlines. Time decides first; this bounds memory.
const QUEUE_JOBS_MAX: usize = 1_000;

/// How long a job may wait for a worker, however far its caller's deadline is. Beyond this an honest "later" serves
/// the caller better.
const QUEUE_WAIT_MAX: Duration = Duration::from_millis(300);

/// The same for a registration: while logins come faster than they can be hashed nobody registers, and the last third of
/// the queue is theirs, if their callers have time for it.
const QUEUE_WAIT_OF_REGISTRATIONS_MAX: Duration = Duration::from_millis(200);

/// What a hash is thought to take before the first one was measured.
const HASH_TIME_GUESS: Duration = Duration::from_millis(10);

/// A measured average above this refuses nobody by itself: the machine may have stood still for a while.
const HASH_TIME_TRUSTED: Duration = Duration::from_millis(50);

/// One hash raises the average as if it had taken this many times the average at most, for the same reason.
const HASH_TIME_OUTLIER: u32 = 4;

/// While others wait, results are held and answered a few together: an answer wakes threads of I/O whose code and data the
/// hashes have driven out of the processor's caches, which costs as much for one as for some. So long are they held, but
/// for a hash that takes longer than usual, and no longer than this part of what a newcomer waits.
const HOLD_MAX: Duration = Duration::from_millis(40);
const HOLD_PART_OF_WAIT: u32 = 2;

/// Whose deadline is nearer than this is not held.
const HOLD_DEADLINE_MIN: Duration = Duration::from_millis(200);

/// For a hash that could not be made: memory for an arena was not to be had, or a worker panicked.
const NOT_HASHED: Error = Error::Overloaded { retry_after: Duration::from_secs(1) };

/// How much lower the workers' priority is (`nice`), so that a storm of logins does not slow the cheap calls.
const WORKER_NICENESS: i32 = 10;

/// How the pool is set up.
#[derive(Debug, Clone, Copy)]
pub struct PoolSettings {
    /// Hashes at once; each keeps one arena of the current cost.
    pub workers: usize,
    /// What a new hash costs.
    pub cost: Cost,
}

/// The hash workers. Dropping it ends them after the hash that each is at.
pub struct HashPool {
    shared: Arc<PoolShared>,
    decoy: PasswordHash,
}

struct PoolShared {
    settings: PoolSettings,
    queue: Mutex<HashQueue>,
    work: Condvar,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    observer: Arc<dyn Observer>,
}

struct HashQueue {
    jobs: VecDeque<Job>,
    /// Admitted and not finished: slots that are held, jobs that wait, jobs that run.
    admitted: usize,
    /// A moving average of what one hash takes.
    hash_time: Duration,
    /// The same over many hashes: a crowd would fill the queue by the fastest few, and then wait for the others.
    usual_hash_time: Duration,
    /// Results that nobody was told yet, and since when there is each.
    held: Vec<(Instant, Reply)>,
    draining: bool,
    closed: bool,
}

struct Job {
    task: Task,
    deadline: Instant,
    queued_at: Instant,
    // The permit moves into the job: if the client hangs up, a running hash still counts until it ends.
    permit: Permit,
}

enum Task {
    Hash {
        scheme: Scheme,
        input: Zeroizing<String>,
        answer: oneshot::Sender<Result<PasswordHash, Error>>,
    },
    Verify {
        input: Zeroizing<String>,
        hash: PasswordHash,
        answer: oneshot::Sender<Result<bool, Error>>,
    },
    /// Something else that takes the processor for a while, and says yes or no.
    Check {
        work: Box<dyn FnOnce() -> bool + Send>,
        answer: oneshot::Sender<Result<(bool, QueuePermit), Error>>,
    },
}

/// What became of a job, and who waits for it.
enum Reply {
    Hashed(oneshot::Sender<Result<PasswordHash, Error>>, Result<PasswordHash, Error>),
    Verified(oneshot::Sender<Result<bool, Error>>, Result<bool, Error>),
    Checked(oneshot::Sender<Result<(bool, QueuePermit), Error>>, Result<(bool, QueuePermit), Error>),
}

/// Whom a hash is for, which says who yields when there is not room for all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Somebody who has an account: a login, or whatever asks for the password again.
    Account,
    /// Somebody who registers, for the first time or again.
    Registration,
}

/// Room for one hash. Dropped unused, it gives the room back.
#[must_use]
pub struct QueuePermit {
    deadline: Instant,
    permit: Permit,
}

struct Permit(Arc<PoolShared>);

// === impl HashPool ===

impl HashPool {
    /// Starts the workers. Their arenas are allocated at their first hash.
    pub fn start(settings: PoolSettings, kernel: Kernel, environment: &Environment) -> Self {
        let shared = Arc::new(PoolShared {
            settings,
            queue: Mutex::new(HashQueue {
                jobs: VecDeque::new(),
                admitted: 0,
                hash_time: HASH_TIME_GUESS,
                usual_hash_time: HASH_TIME_GUESS,
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
                .spawn(move || shared.work(kernel))
                .expect("a machine that cannot start a thread cannot serve");
        }
        let decoy = shared.made_up_hash();
        Self { shared, decoy }
    }

    /// Asks for room for one hash that ends before `deadline`.
    ///
    /// # Errors
    /// `DeadlineExceeded` when not even one hash fits; `Overloaded` when the queue would take too long; `Draining`.
    pub fn admit(&self, purpose: Purpose, deadline: Instant) -> Result<QueuePermit, Error> {
        let mut queue = self.shared.lock();
        if queue.draining {
            return Err(Error::Draining);
        }
        let workers = self.shared.settings.workers;
        let left = deadline.saturating_duration_since(self.shared.clock.monotonic());
        if left < queue.hash_time.min(HASH_TIME_TRUSTED) {
            return Err(Error::DeadlineExceeded);
        }
        // Whoever finds a free worker is let in whatever the average says: only a hash can correct it.
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
        Ok(QueuePermit { deadline, permit: Permit(self.shared.clone()) })
    }

    /// The same for a call; notes an overload.
    pub(in crate::domain) fn admit_call(&self, context: &CallContext, purpose: Purpose) -> Result<QueuePermit, Error> {
        self.admit(purpose, context.deadline).inspect_err(|error| {
            if let Error::Overloaded { retry_after } = error {
                self.shared.observer.on(&Event::Overloaded { context, retry_after: *retry_after });
            }
        })
    }

    /// A hash that no password has, to spend on unknown users what known ones cost.
    pub(crate) fn decoy(&self) -> PasswordHash {
        self.decoy.clone()
    }

    /// Whether a new hash of the same password would have the same form and cost.
    pub(crate) fn is_current(&self, hash: &PasswordHash) -> bool {
        hash.scheme == Scheme::Argon2id && hash.cost == self.shared.settings.cost
    }

    /// Whether no hash runs or waits.
    pub fn is_idle(&self) -> bool {
        self.shared.lock().admitted == 0
    }

    /// How many hashes wait for a worker.
    pub fn depth(&self) -> usize {
        self.shared.lock().jobs.len()
    }

    /// Admits nobody from now on. What is admitted is finished.
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
        // Outside the lock, which each job's permit takes.
        drop(abandoned);
    }
}

// === impl Purpose ===

impl Purpose {
    fn wait_max(self) -> Duration {
        match self {
            Purpose::Account => QUEUE_WAIT_MAX,
            Purpose::Registration => QUEUE_WAIT_OF_REGISTRATIONS_MAX,
        }
    }
}

// === impl Slot ===

impl QueuePermit {
    /// Hashes a new password.
    pub async fn hash(self, password: Password) -> Result<PasswordHash, Error> {
        self.hash_input(Scheme::Argon2id, Scheme::Argon2id.input(password)).await
    }

    /// Hashes the MD5 of a password that nobody here knows; whoever shows the password is let in by it.
    pub async fn wrap_md5(self, md5: Md5Hex) -> Result<PasswordHash, Error> {
        self.hash_input(Scheme::Argon2idOfMd5, md5.into_input()).await
    }

    async fn hash_input(self, scheme: Scheme, input: Zeroizing<String>) -> Result<PasswordHash, Error> {
        let (answer, answered) = oneshot::channel();
        self.submit(Task::Hash { scheme, input, answer });
        answered.await.unwrap_or(Err(NOT_HASHED))
    }

    /// Whether `password` is the one that `hash` was made of.
    pub async fn verify(self, password: Password, hash: PasswordHash) -> Result<bool, Error> {
        let (answer, answered) = oneshot::channel();
        self.submit(Task::Verify { input: hash.scheme.input(password), hash, answer });
        answered.await.unwrap_or(Err(NOT_HASHED))
    }

    /// What `work` says. It takes the place of a hash and should take no longer; the slot comes back, for the hash that it
    /// was asked for.
    pub(in crate::domain) async fn check(
        self,
        work: impl FnOnce() -> bool + Send + 'static,
    ) -> Result<(bool, QueuePermit), Error> {
        let (answer, answered) = oneshot::channel();
        self.submit(Task::Check { work: Box::new(work), answer });
        answered.await.unwrap_or(Err(NOT_HASHED))
    }

    fn submit(self, task: Task) {
        let shared = self.permit.0.clone();
        let queued_at = shared.clock.monotonic();
        let job = Job { task, deadline: self.deadline, queued_at, permit: self.permit };
        let mut queue = shared.lock();
        if queue.closed {
            // A slot that outlived its pool. Dropped outside the lock, which its permit takes, the job is answered.
            drop(queue);
            return drop(job);
        }
        queue.jobs.push_back(job);
        drop(queue);
        shared.work.notify_one();
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.lock().admitted -= 1;
    }
}

// === impl HashQueue ===

impl HashQueue {
    /// How long a newcomer would wait for a worker.
    fn wait(&self, workers: usize) -> Duration {
        let ahead = (self.admitted + 1).saturating_sub(workers);
        let rounds = u32::try_from(ahead).unwrap_or(u32::MAX);
        let hash_time = self.hash_time.max(self.usual_hash_time);
        shared_out(hash_time.saturating_mul(rounds), workers)
    }

    fn learn(&mut self, took: Duration) {
        let took = took.min(self.hash_time * HASH_TIME_OUTLIER);
        self.hash_time = (self.hash_time * 7 + took) / 8;
        self.usual_hash_time = (self.usual_hash_time * 63 + took.min(HASH_TIME_TRUSTED)) / 64;
    }
}

/// What all workers together take for what would take one so long.
fn shared_out(time: Duration, workers: usize) -> Duration {
    time / u32::try_from(workers).unwrap_or(1).max(1)
}

// === impl PoolShared ===

impl PoolShared {
    fn lock(&self) -> MutexGuard<'_, HashQueue> {
        // Nothing that can panic runs under the lock, and numbers are whole after every line.
        lock(&self.queue)
    }

    /// A worker's life.
    fn work(&self, kernel: Kernel) {
        // Elsewhere it is the whole process that would be slowed.
        #[cfg(target_os = "linux")]
        if let Err(cause) = rustix::process::setpriority_process(None, WORKER_NICENESS) {
            tracing::debug!(%cause, "hash workers keep the normal priority");
        }
        let mut workspace = Workspace::new(kernel);
        while let Some(job) = self.next() {
            let deadline = job.deadline;
            let reply = catch_unwind(AssertUnwindSafe(|| self.run(job, &mut workspace))).unwrap_or_else(|_| {
                tracing::error!("a hash panicked; the panic is logged above");
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
            queue = self.work.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Gives the room back, so that a caller who hears the answer and asks again finds it.
    fn run(&self, job: Job, workspace: &mut Workspace) -> Option<Reply> {
        let Job { task, deadline, queued_at, permit } = job;
        let started = self.clock.monotonic();
        let late = started >= deadline;
        let queued = started.saturating_duration_since(queued_at);
        match task {
            // Nobody waits for the answer any more: the hash would only keep others waiting.
            Task::Hash { answer, .. } if answer.is_closed() => None,
            Task::Verify { answer, .. } if answer.is_closed() => None,
            Task::Check { answer, .. } if answer.is_closed() => None,
            Task::Hash { answer, .. } if late => Some(Reply::Hashed(answer, Err(Error::DeadlineExceeded))),
            Task::Verify { answer, .. } if late => Some(Reply::Verified(answer, Err(Error::DeadlineExceeded))),
            Task::Check { answer, .. } if late => Some(Reply::Checked(answer, Err(Error::DeadlineExceeded))),
            Task::Hash { scheme, input, answer } => {
                let mut salt = [0; SALT_BYTES];
                self.entropy.fill(&mut salt);
                let mut tag = [0; TAG_BYTES];
                let derived = self.derive(workspace, self.settings.cost, &input, &salt, &mut tag, queued);
                Some(Reply::Hashed(answer, derived.map(|()| PasswordHash::new(scheme, self.settings.cost, salt, tag))))
            }
            Task::Verify { input, hash, answer } => {
                let mut tag = Zeroizing::new(vec![0; hash.tag_len()]);
                let derived = self.derive(workspace, hash.cost, &input, &hash.salt, &mut tag, queued);
                Some(Reply::Verified(answer, derived.map(|()| hash.has_tag(&tag))))
            }
            Task::Check { work, answer } => {
                let is_right = work();
                // It says nothing about what a hash takes, so nothing is learnt of it.
                let took = self.clock.monotonic().saturating_duration_since(started);
                self.observer.on(&Event::ChallengeChecked { queued, took });
                Some(Reply::Checked(answer, Ok((is_right, QueuePermit { deadline, permit }))))
            }
        }
    }

    /// Answers a job that has ended, and those that were held; or holds it, when another one follows.
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
            // The next to end answers for this one too.
            let until_the_next = shared_out(queue.hash_time, workers);
            if now.saturating_duration_since(since) + until_the_next <= hold {
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
        input: &str,
        salt: &[u8],
        tag: &mut [u8],
        queued: Duration,
    ) -> Result<(), Error> {
        let started = self.clock.monotonic();
        workspace.derive(cost, input.as_bytes(), salt, tag).map_err(|cause| {
            // Parameters were checked when they were read, so it can only be memory.
            tracing::error!(cause, ?cost, "a password could not be hashed; is memory short?");
            NOT_HASHED
        })?;
        let took = self.clock.monotonic().saturating_duration_since(started);
        if cost.memory_kib > self.settings.cost.memory_kib {
            workspace.shrink();
        }
        // A stored hash of other parameters says nothing about the next one.
        if cost == self.settings.cost {
            self.lock().learn(took);
        }
        self.observer.on(&Event::Hashed { queued, took });
        Ok(())
    }

    fn made_up_hash(&self) -> PasswordHash {
        let (mut salt, mut tag) = ([0; SALT_BYTES], [0; TAG_BYTES]);
        self.entropy.fill(&mut salt);
        self.entropy.fill(&mut tag);
        PasswordHash::new(Scheme::Argon2id, self.settings.cost, salt, tag)
    }

    /// `wait` plus up to a quarter, so that callers who were refused together do not come back together.
    fn jittered(&self, wait: Duration) -> Duration {
        let [random] = self.entropy.bytes();
        jittered(wait, wait / 4, random)
    }
}

// === impl Task, Reply ===

impl Task {
    /// What a stored hash costs; a new one costs the usual, and nothing costs more.
    fn cost(&self) -> Option<Cost> {
        match self {
            Task::Hash { .. } | Task::Check { .. } => None,
            Task::Verify { hash, .. } => Some(hash.cost),
        }
    }
}

impl Reply {
    fn send(self) {
        // The caller may have gone meanwhile.
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
    async fn a_check_takes_the_place_of_a_hash_keeps_it_and_says_nothing_about_what_one_takes() {
        let pool = pool();
        let before = pool.shared.lock().hash_time;
        let (held, release) = std::sync::mpsc::channel::<()>();
        let slow = pool.admit(Purpose::Account, in_seconds(5)).unwrap();
        let slow = tokio::spawn(slow.check(move || release.recv().is_ok()));
        assert_eq!(pool.shared.lock().admitted, 1, "it counts");
        let waiting = pool.admit(Purpose::Account, in_seconds(5)).unwrap();
        let waiting = tokio::spawn(waiting.check(|| false));
        held.send(()).unwrap();
        let [(yes, permit), (no, other)] = [slow.await.unwrap().ok().unwrap(), waiting.await.unwrap().ok().unwrap()];
        assert!(yes && !no);
        assert_eq!(pool.shared.lock().admitted, 2, "the places are for the hashes that come next");
        drop((permit, other));
        assert_eq!(pool.shared.lock().admitted, 0, "or are given back");
        assert_eq!(pool.shared.lock().hash_time, before);
    }

    #[tokio::test]
    async fn a_check_that_panics_or_comes_too_late_says_neither_yes_nor_no() {
        let pool = pool();
        let permit = pool.admit(Purpose::Account, in_seconds(5)).unwrap();
        assert_eq!(permit.check(|| panic!("a bug on order")).await.err(), Some(NOT_HASHED));
        let late = QueuePermit { deadline: System.monotonic(), ..pool.admit(Purpose::Account, in_seconds(5)).unwrap() };
        assert_eq!(late.check(|| true).await.err(), Some(Error::DeadlineExceeded));
    }

    fn in_seconds(seconds: u64) -> Instant {
        System.monotonic() + Duration::from_secs(seconds)
    }

    #[tokio::test]
    async fn a_machine_that_stood_still_for_a_minute_hashes_again() {
        let pool = pool();
        // What one hash looks like that the machine slept through, again and again.
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

    #[tokio::test]
    async fn a_slot_that_is_dropped_gives_its_room_back_and_so_does_a_caller_who_leaves() {
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
    async fn what_is_held_is_answered_when_those_who_follow_have_left() {
        let pool = pool();
        let verify = || pool.admit(Purpose::Account, in_seconds(5)).unwrap();
        let mut rounds = 0;
        while rounds < 200 {
            // Room that nobody uses yet: newcomers would wait long, so results are held long.
            let waiting: Vec<_> = (0..5).map(|_| verify()).collect();
            let stays = verify().verify(Password::parse("any".into()).unwrap(), pool.decoy());
            let leaves = verify().verify(Password::parse("any".into()).unwrap(), pool.decoy());
            let (mut stays, mut leaves) = (Box::pin(stays), Box::pin(leaves));
            // On a busy machine the worker may be done with both before they are looked at.
            if futures_util::poll!(&mut stays).is_ready() || futures_util::poll!(&mut leaves).is_ready() {
                continue;
            }
            rounds += 1;
            drop(leaves);
            let answered = tokio::time::timeout(Duration::from_secs(5), stays).await;
            assert_eq!(answered.expect("it is answered"), Ok(false));
            drop(waiting);
        }
    }

    #[tokio::test]
    async fn a_result_is_held_while_others_wait_but_not_near_its_deadline_nor_for_a_costly_hash() {
        let usual = Cost { memory_kib: 64, passes: 1, lanes: 1 };
        let costly = Cost { memory_kib: 1_024, ..usual };
        for (seconds, next, is_held) in [(5, usual, true), (0, usual, false), (5, costly, false)] {
            // Nobody works, so what waits goes on waiting.
            let pool = pool_of(0);
            let permit = || pool.admit(Purpose::Account, in_seconds(5)).unwrap();
            let _waiting: Vec<_> = (0..10).map(|_| permit()).collect();
            let hash = PasswordHash::new(Scheme::Argon2id, next, [0; SALT_BYTES], [0; TAG_BYTES]);
            let mut other = Box::pin(permit().verify(Password::parse("any".into()).unwrap(), hash));
            assert!(futures_util::poll!(&mut other).is_pending());
            let (answer, mut answered) = oneshot::channel();
            pool.shared.answer(Some(Reply::Verified(answer, Ok(true))), in_seconds(seconds));
            assert_eq!(answered.try_recv().is_err(), is_held, "{seconds} s left, then {next:?}");
        }
    }

    #[tokio::test]
    async fn registrations_yield_to_logins() {
        let pool = pool();
        let admitted = |purpose| {
            let slots: Vec<_> = iter::from_fn(|| pool.admit(purpose, in_seconds(5)).ok()).collect();
            (slots.len(), slots)
        };
        let (registrations, held) = admitted(Purpose::Registration);
        let (logins, held_too) = admitted(Purpose::Account);
        assert!(registrations > 0 && logins > 0, "{registrations} registrations, then {logins} logins");
        drop((held, held_too));
        let _held = admitted(Purpose::Account);
        assert_eq!(admitted(Purpose::Registration).0, 0, "logins fill the queue");
    }

    #[tokio::test]
    async fn jobs_that_wait_when_the_pool_ends_are_answered() {
        // Nobody works, so what waits goes on waiting.
        let pool = pool_of(0);
        let [permit, late] = [(), ()].map(|()| pool.admit(Purpose::Account, in_seconds(5)).unwrap());
        let waiting = tokio::spawn(permit.verify(Password::parse("any".into()).unwrap(), pool.decoy()));
        while pool.shared.lock().jobs.is_empty() {
            tokio::task::yield_now().await;
        }
        drop(pool);
        assert_eq!(waiting.await.unwrap(), Err(NOT_HASHED));
        assert_eq!(late.hash(Password::parse("any".into()).unwrap()).await, Err(NOT_HASHED), "after its end");
    }
}
