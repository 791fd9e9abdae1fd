//! The hash pool: a fixed number of workers (`hash_worker.rs`) that compute password hashes, behind the bounded queue of
//! `hash_queue.rs`.
//!
//! [`HashPool::admit`] is the only way to a [`QueuePermit`], and only a `QueuePermit` can hash. Admission compares the
//! expected wait with the caller's deadline: a queue that is filled up to the deadline would spend a third of its hashes on
//! answers that are too late. Token checks never use the pool.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use tokio::sync::oneshot;
use zeroize::Zeroizing;

use super::{
    hash_queue::{JobSource, Purpose},
    hash_worker::{Admission, HashBegun, NOT_HASHED, PoolSettings, PoolState, Task},
    kernel::Kernel,
    pepper::Pepper,
};
use crate::{
    common::{jitter::jittered, lock::lock},
    domain::{
        context::CallContext,
        error::Error,
        event::Event,
        model::{HashForm, Md5Hex, Password, PasswordHash, PepperKeyId, SALT_BYTES, Scheme, TAG_BYTES},
        ports::{ConfigurationWarning, Entropy, Environment},
    },
};

/// Pepper keys that are missing and remembered at most: a writer of the store can name any number of them.
const MISSING_KEYS_MAX: usize = 16;

/// The hash pool. Dropping it ends each worker after its current hash.
pub struct HashPool {
    shared: Arc<PoolState>,
    decoy: PasswordHash,
    /// Keys that stored hashes needed and that are neither there nor retired.
    missing_keys: Mutex<BTreeSet<PepperKeyId>>,
}

/// Permission to compute one hash. Dropped unused, it is released.
#[must_use]
pub struct QueuePermit {
    deadline: Instant,
    admission: Admission,
}

// === impl HashPool ===

impl HashPool {
    /// Starts the workers, without a pepper. Their arenas are allocated at their first hash.
    pub fn start(settings: PoolSettings, kernel: Kernel, environment: &Environment) -> Self {
        Self::with_pepper(settings, Arc::new(Pepper::none()), kernel, environment)
    }

    /// Starts the workers.
    pub fn with_pepper(settings: PoolSettings, pepper: Arc<Pepper>, kernel: Kernel, environment: &Environment) -> Self {
        let shared = PoolState::start(settings, pepper, kernel, environment);
        let decoy = random_hash(&*environment.entropy, shared.current_form());
        Self { shared, decoy, missing_keys: Mutex::default() }
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
                Err(Error::Overloaded { retry_after: self.jittered(retry_after) })
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
        let mut missing = lock(&self.missing_keys);
        if pepper.is_missing(key) && missing.len() < MISSING_KEYS_MAX && missing.insert(key) {
            tracing::error!(%key, "a password hash needs a pepper key that --pepper-key-file lacks; its user cannot log in");
        }
        true
    }

    /// The warning that stored hashes needed pepper keys that are missing and not retired.
    pub fn pepper_warning(&self) -> Option<ConfigurationWarning> {
        let missing: Vec<_> = lock(&self.missing_keys).iter().map(ToString::to_string).collect();
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

    /// `wait` plus up to a quarter, so that callers that were refused together do not retry together.
    fn jittered(&self, wait: Duration) -> Duration {
        let [random] = self.shared.entropy.bytes();
        jittered(wait, wait / 4, random)
    }
}

/// A hash that no password matches.
fn random_hash(entropy: &dyn Entropy, form: HashForm) -> PasswordHash {
    let (mut salt, mut tag) = ([0; SALT_BYTES], [0; TAG_BYTES]);
    entropy.fill(&mut salt);
    entropy.fill(&mut tag);
    PasswordHash::new(Scheme::Argon2id, form, salt, tag)
}

impl Drop for HashPool {
    fn drop(&mut self) {
        self.shared.close();
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
        self.admission.submit(Task::Hash { scheme, form, input, answer }, self.deadline);
        received.await.unwrap_or(Err(NOT_HASHED))
    }

    /// Whether the hash of this permit has begun.
    pub(in crate::domain) fn begun(&self) -> HashBegun {
        self.admission.begun.clone()
    }

    /// Whether `password` matches `hash`.
    pub async fn verify(self, password: Password, hash: PasswordHash) -> Result<bool, Error> {
        let (answer, received) = oneshot::channel();
        let task = Task::Verify { input: hash.scheme.input(password), hash, answer };
        self.admission.submit(task, self.deadline);
        received.await.unwrap_or(Err(NOT_HASHED))
    }

    /// Runs `work` in a worker, which should take no longer than a hash. Returns its result, and the permit for a hash.
    pub(in crate::domain) async fn check(
        self,
        work: impl FnOnce() -> bool + Send + 'static,
    ) -> Result<(bool, QueuePermit), Error> {
        let (answer, received) = oneshot::channel();
        let deadline = self.deadline;
        self.admission.submit(Task::Check { work: Box::new(work), answer }, deadline);
        let (is_right, admission) = received.await.unwrap_or(Err(NOT_HASHED))?;
        Ok((is_right, QueuePermit { deadline, admission }))
    }
}

#[cfg(test)]
mod tests {
    use std::iter;

    use super::*;
    use crate::domain::{
        model::Cost,
        password::hash_worker::Reply,
        ports::{Clock, System},
    };

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
    async fn users_are_served_round_robin_with_an_attacker_who_has_many_jobs() {
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
