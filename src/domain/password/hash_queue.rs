//! The queue before the hash workers: which jobs are admitted, and whose job is next.
//!
//! Fair queueing: a job belongs to a source, which is the end user's address where it is known, else the peer. Sources with
//! waiting jobs are served round robin, one job each, and the jobs of one source first in, first out. A job is admitted by its
//! own expected wait in that order. So a source that floods fills its own share and is refused, while a job of any other source
//! waits for one job of each source. With one source this is a FIFO queue. Every operation takes constant time. Does not know
//! what a job does, and reads no clock.

use std::{
    collections::{HashMap, VecDeque, hash_map::Entry},
    time::Duration,
};

use super::hash_time::HashTime;
use crate::domain::{
    context::{CallContext, Peer},
    error::Error,
    model::{Cost, IpPrefix},
};

/// The maximum number of admitted jobs, beside those that run. Bounds memory; usually the wait limits the queue first.
const QUEUE_JOBS_MAX: usize = 1_000;

/// The longest wait for a worker, for any deadline. A longer queue would help no caller: refusing with a retry time is
/// better.
const QUEUE_WAIT_MAX: Duration = Duration::from_millis(300);

/// The longest wait of a registration. The last third of the queue is reserved for logins, so while logins arrive faster
/// than they can be hashed, registrations are refused.
const REGISTRATION_QUEUE_WAIT_MAX: Duration = Duration::from_millis(200);

/// The purpose of a hash, which decides the priority when the queue is nearly full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// A login or a reauthentication.
    Account,
    /// A registration, new or repeated.
    Registration,
}

/// What the queue serves round robin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum JobSource {
    /// The end user's address prefix.
    Client(IpPrefix),
    /// The address prefix of a peer whose end users are not known: they are one source.
    Peer(IpPrefix),
    /// A process on this host, by its operating-system user: its end users are not known either.
    LocalPeer(Option<u32>),
    /// This node itself.
    Node,
}

/// The queue, and the number of jobs that have left it and still occupy a worker.
pub(super) struct HashQueue<J> {
    workers: usize,
    hash_time: HashTime,
    /// Sources with admitted jobs. Each has at least one.
    sources: HashMap<JobSource, SourceJobs<J>>,
    /// The sources with waiting jobs, in round-robin order.
    round: VecDeque<JobSource>,
    /// Admitted and not finished, of all sources.
    admitted: usize,
    waiting: usize,
}

/// The jobs of one source.
struct SourceJobs<J> {
    /// Unused permits, waiting jobs and running jobs.
    admitted: usize,
    waiting: VecDeque<J>,
}

impl JobSource {
    /// The source of the jobs of a call.
    pub(in crate::domain) fn of(context: &CallContext) -> Self {
        match (context.client, context.peer) {
            (Some(client), _) => Self::Client(IpPrefix::of(client)),
            (None, Peer::Ip(address)) => Self::Peer(IpPrefix::of(address)),
            (None, Peer::Local { uid }) => Self::LocalPeer(uid),
        }
    }
}

impl Purpose {
    fn wait_max(self) -> Duration {
        match self {
            Purpose::Account => QUEUE_WAIT_MAX,
            Purpose::Registration => REGISTRATION_QUEUE_WAIT_MAX,
        }
    }
}

impl<J> HashQueue<J> {
    /// An empty queue, whose expectations are those of hashes of this cost.
    pub(super) fn new(workers: usize, cost: Cost) -> Self {
        Self {
            workers,
            hash_time: HashTime::of(cost),
            sources: HashMap::new(),
            round: VecDeque::new(),
            admitted: 0,
            waiting: 0,
        }
    }

    /// Admits one job that must end in the time that is `left`. [`Self::release`] ends it.
    ///
    /// # Errors
    /// `DeadlineExceeded` if not even one hash fits; `Overloaded`, with the expected wait, if that would be too long.
    pub(super) fn admit(&mut self, source: JobSource, purpose: Purpose, left: Duration) -> Result<(), Error> {
        if left < self.hash_time.trusted() {
            return Err(Error::DeadlineExceeded);
        }
        // With a free worker the average is ignored: only a new hash can correct it.
        if self.admitted >= self.workers {
            let wait = self.wait_of(source);
            if wait > purpose.wait_max().max(self.hash_time()).min(left / 2) || self.is_full_for(source) {
                return Err(Error::Overloaded { retry_after: wait });
            }
            if wait + self.hash_time() > left {
                return Err(Error::DeadlineExceeded);
            }
        }
        self.admitted += 1;
        let new = || SourceJobs { admitted: 0, waiting: VecDeque::new() };
        self.sources.entry(source).or_insert_with(new).admitted += 1;
        Ok(())
    }

    /// Ends an admitted job, whether it has run or not.
    pub(super) fn release(&mut self, source: JobSource) {
        let Entry::Occupied(mut jobs) = self.sources.entry(source) else { return };
        self.admitted -= 1;
        jobs.get_mut().admitted -= 1;
        if jobs.get().admitted == 0 {
            jobs.remove();
        }
    }

    /// Queues an admitted job.
    pub(super) fn push(&mut self, source: JobSource, job: J) {
        let jobs = &mut self.sources.get_mut(&source).expect("an admitted job has a source").waiting;
        if jobs.is_empty() {
            self.round.push_back(source);
        }
        jobs.push_back(job);
        self.waiting += 1;
    }

    /// Takes the first job of the next source.
    pub(super) fn pop(&mut self) -> Option<J> {
        let source = self.round.pop_front()?;
        let jobs = &mut self.sources.get_mut(&source)?.waiting;
        let job = jobs.pop_front();
        if !jobs.is_empty() {
            self.round.push_back(source);
        }
        self.waiting -= 1;
        job
    }

    /// The job that [`Self::pop`] would take.
    pub(super) fn peek(&self) -> Option<&J> {
        self.sources.get(self.round.front()?)?.waiting.front()
    }

    /// Takes all waiting jobs. They stay admitted.
    pub(super) fn take_all(&mut self) -> Vec<J> {
        std::iter::from_fn(|| self.pop()).collect()
    }

    /// The number of waiting jobs.
    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    /// Admitted jobs that have not ended: unused permits, waiting jobs and running jobs.
    pub(super) fn admitted(&self) -> usize {
        self.admitted
    }

    /// Updates the expectations by the duration of a hash.
    pub(super) fn learn(&mut self, took: Duration) {
        self.hash_time.learn(took);
    }

    /// The expected duration of a hash.
    pub(super) fn hash_time(&self) -> Duration {
        self.hash_time.recent()
    }

    /// The expected time between the ends of two hashes.
    pub(super) fn time_between_hashes(&self) -> Duration {
        self.divided_among_workers(self.hash_time())
    }

    /// The expected time until all jobs that are admitted now, and one more, are at a worker.
    pub(super) fn wait(&self) -> Duration {
        self.wait_behind(self.ahead())
    }

    /// The expected wait of a new job of `source`. At most one job of each other source is served before each of its jobs.
    fn wait_of(&self, source: JobSource) -> Duration {
        let own = self.admitted_of(source);
        let sources = self.sources.len() + usize::from(own == 0);
        self.wait_behind(self.ahead().min((own + 1).saturating_mul(sources)))
    }

    /// Whether memory has no place for another job of `source`. A source may hold as many as are free, so that some are free
    /// for other sources: one source half of them, two sources a third each, and so on.
    fn is_full_for(&self, source: JobSource) -> bool {
        let free = (self.workers + QUEUE_JOBS_MAX).saturating_sub(self.admitted);
        self.admitted_of(source) >= free
    }

    fn admitted_of(&self, source: JobSource) -> usize {
        self.sources.get(&source).map_or(0, |jobs| jobs.admitted)
    }

    /// Jobs that end before another one is at a worker, the other one included.
    fn ahead(&self) -> usize {
        (self.admitted + 1).saturating_sub(self.workers)
    }

    fn wait_behind(&self, jobs: usize) -> Duration {
        self.divided_among_workers(self.hash_time.of_hashes(jobs))
    }

    /// The time that all workers together need for the work of one worker.
    fn divided_among_workers(&self, time: Duration) -> Duration {
        time / u32::try_from(self.workers).unwrap_or(1).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// A worker that hashes one job in 10 ms.
    fn queue<J>() -> HashQueue<J> {
        HashQueue::new(1, Cost { memory_kib: 64, passes: 1, lanes: 1 })
    }

    fn address(number: u8) -> JobSource {
        JobSource::Client(IpPrefix::of([203, 0, 113, number].into()))
    }

    /// Admits jobs of a source until one is refused, and queues them. Returns how many.
    fn flood(queue: &mut HashQueue<JobSource>, source: JobSource, purpose: Purpose) -> usize {
        let mut admitted = 0;
        while queue.admit(source, purpose, 5 * SECOND).is_ok() {
            queue.push(source, source);
            admitted += 1;
        }
        admitted
    }

    /// How many jobs are served before the job of one user, which comes after twenty jobs of an attacker.
    fn served_before_the_user(source_of_attacker: JobSource, source_of_user: JobSource) -> usize {
        let mut queue = queue();
        for (source, job) in std::iter::repeat_n((source_of_attacker, "attacker"), 20).chain([(source_of_user, "user")])
        {
            queue.admit(source, Purpose::Account, 5 * SECOND).unwrap();
            queue.push(source, job);
        }
        std::iter::from_fn(|| queue.pop()).take_while(|job| *job == "attacker").count()
    }

    #[test]
    fn source_with_one_job_waits_for_one_job_of_a_source_with_many() {
        assert_eq!(served_before_the_user(address(1), address(2)), 1);
        // The control: where all jobs are of one source, the first is served first.
        assert_eq!(served_before_the_user(JobSource::Node, JobSource::Node), 20);
    }

    #[test]
    fn jobs_of_one_source_are_served_in_order_and_sources_round_robin() {
        let mut queue = queue();
        for (source, job) in [(1, "a1"), (1, "a2"), (1, "a3"), (2, "b1"), (2, "b2"), (3, "c1")] {
            queue.admit(address(source), Purpose::Account, 5 * SECOND).unwrap();
            queue.push(address(source), job);
        }
        assert_eq!(queue.peek(), Some(&"a1"));
        assert_eq!([queue.pop(), queue.pop()], [Some("a1"), Some("b1")]);
        // A source that comes back is last in the round.
        queue.release(address(2));
        queue.admit(address(2), Purpose::Account, 5 * SECOND).unwrap();
        queue.push(address(2), "b3");
        let rest: Vec<_> = std::iter::from_fn(|| queue.pop()).collect();
        assert_eq!(rest, ["c1", "a2", "b2", "a3", "b3"]);
        assert_eq!((queue.waiting(), queue.admitted()), (0, 6), "they run");
    }

    #[test]
    fn source_that_floods_is_refused_and_other_sources_are_admitted() {
        let mut queue = queue();
        assert_eq!(flood(&mut queue, address(1), Purpose::Account), 31, "300 ms, and one job runs");
        let refusal = queue.admit(address(1), Purpose::Account, 5 * SECOND).unwrap_err();
        assert_eq!(refusal, Error::Overloaded { retry_after: 31 * SECOND / 100 }, "31 hashes");
        // A short deadline, too: a new source waits for one job of each source, two hashes.
        queue.admit(address(2), Purpose::Account, SECOND / 20).unwrap();
        queue.push(address(2), address(2));
        assert_eq!(flood(&mut queue, address(3), Purpose::Registration), 6, "a third of 200 ms");
        assert!(queue.admit(address(1), Purpose::Account, 5 * SECOND).is_err());
        for honest in 4..=20 {
            assert_eq!(queue.admit(address(honest), Purpose::Account, 5 * SECOND), Ok(()), "{honest}");
        }
    }

    #[test]
    fn many_sources_fill_the_queue_only_up_to_its_bound() {
        let mut queue = queue();
        let admitted: usize = (0..=255).map(|source| flood(&mut queue, address(source), Purpose::Account)).sum();
        // 30 / 1 + 30 / 2 + ... + 30 / 30, each rounded down, and one job that runs.
        assert_eq!(admitted, 112);
    }

    /// Fast hashes, so that only memory bounds the queue.
    #[test]
    fn source_holds_at_most_the_places_that_are_free() {
        let mut queue = queue();
        for _ in 0..1_000 {
            queue.learn(Duration::ZERO);
        }
        let [first, second, third] = [1, 2, 3].map(|source| flood(&mut queue, address(source), Purpose::Account));
        assert_eq!([first, second, third], [501, 250, 125], "as many as are free, and one");
        let others: usize = (4..=255).map(|source| flood(&mut queue, address(source), Purpose::Account)).sum();
        assert_eq!(first + second + third + others, 1 + QUEUE_JOBS_MAX);
        // In the long run sources that flood have equal shares.
        for _ in 0..2_000 {
            let source = queue.pop().unwrap();
            queue.release(source);
            for source in [1, 2, 3] {
                flood(&mut queue, address(source), Purpose::Account);
            }
        }
        let shares = [1, 2, 3].map(|source| queue.admitted_of(address(source)));
        assert!(
            shares.iter().all(|share| [250, 251].contains(share)),
            "a quarter each, and one quarter is free: {shares:?}"
        );
    }

    #[test]
    fn ended_jobs_leave_nothing_behind() {
        let mut queue = queue();
        for source in 0..20 {
            queue.admit(address(source), Purpose::Account, 5 * SECOND).unwrap();
            if source % 2 == 0 {
                queue.push(address(source), source);
            }
        }
        assert_eq!(queue.take_all().len(), 10);
        (0..20).for_each(|source| queue.release(address(source)));
        assert_eq!((queue.admitted(), queue.waiting(), queue.sources.len(), queue.round.len()), (0, 0, 0, 0));
    }
}
