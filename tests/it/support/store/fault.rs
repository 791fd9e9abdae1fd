//! A store that fails as the test requests.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use tokio::sync::{Notify, watch};
use watchword::{
    domain::{Clock, CorruptRecord, StoreError, StoreHealth, System},
    store::{
        Change, ChangeOutcome, Document, DocumentKey, DocumentStore, Kind, Memory, ScanCursor, ScanPage,
        UnconditionalWrite,
    },
};

/// How the store fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    None,
    /// Reads and writes are refused and have no effect.
    Down,
    /// Writes take effect, but their reply is lost.
    ReplyLost,
    /// Every document is unreadable.
    Corrupt,
    /// Every call panics.
    Panic,
    /// No call ever completes.
    Hangs,
    /// Writes take effect immediately, and their reply comes when the test sets another fault or none.
    AnswersLate,
    /// The next write takes effect, its reply is lost, and the store is down from then on.
    ReplyLostThenDown,
    /// Sessions are stored without the repeats of their refreshes.
    ForgetsRepeats,
    /// Compare-and-set writes without comparing, and other tasks run before each write.
    ComparesNothing,
    /// A GCRA state of more than four periods of the account's limit is read as none.
    ForgetsLongStates,
    /// Failed attempts are stored without those that a strict lockout never forgets.
    ForgetsLasting,
    /// Other tasks run before each read and write.
    LetsOthersRun,
    /// Accepts a single-use secret again and again.
    SpendsAgain,
    /// Storing a session is refused. Everything else works.
    NoSessions,
    /// Acknowledges failed attempts without storing them.
    ForgetsFailures,
    /// Storing failed attempts is refused. Everything else works.
    NoFailures,
    /// Writes are refused. Reads work.
    WritesNothing,
}

/// A memory store with a fault that the test sets.
pub struct Faulty {
    inner: Memory,
    fault: watch::Sender<Fault>,
    health: watch::Sender<StoreHealth>,
    entered: Notify,
}

impl Faulty {
    pub fn with(fault: Fault) -> Arc<Self> {
        Self::with_clock(fault, Arc::new(System))
    }

    /// A store with the clock of a server, for tests that move it.
    pub fn with_clock(fault: Fault, clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Self {
            inner: Memory::new(clock),
            fault: watch::Sender::new(fault),
            health: watch::Sender::new(StoreHealth::Up),
            entered: Notify::new(),
        })
    }

    pub fn set(&self, fault: Fault) {
        self.fault.send_replace(fault);
    }

    pub fn set_health(&self, health: StoreHealth) {
        self.health.send_replace(health);
    }

    /// Waits until a call hangs ([`Fault::Hangs`]) or waits for its reply ([`Fault::AnswersLate`]).
    pub async fn entered(self: Arc<Self>) {
        self.entered.notified().await;
    }

    async fn before(&self) -> Result<(), StoreError> {
        let fault = *self.fault.borrow();
        match fault {
            Fault::None
            | Fault::ReplyLost
            | Fault::ReplyLostThenDown
            | Fault::ForgetsRepeats
            | Fault::NoFailures
            | Fault::NoSessions
            | Fault::AnswersLate
            | Fault::ForgetsFailures
            | Fault::ForgetsLasting
            | Fault::ForgetsLongStates
            | Fault::WritesNothing
            | Fault::SpendsAgain => Ok(()),
            Fault::ComparesNothing | Fault::LetsOthersRun => {
                tokio::task::yield_now().await;
                Ok(())
            }
            Fault::Down => Err(StoreError::Unavailable),
            Fault::Corrupt => {
                let (record, cause) = ("user of a test".into(), "corrupted by a test".into());
                Err(StoreError::Corrupt(CorruptRecord { record, cause }))
            }
            Fault::Panic => panic!("the test requested a panic"),
            Fault::Hangs => {
                self.entered.notify_one();
                std::future::pending().await
            }
        }
    }

    fn after<T>(&self, reply: T) -> Result<T, StoreError> {
        if *self.fault.borrow() == Fault::ReplyLost { Err(StoreError::OutcomeUnknown) } else { Ok(reply) }
    }
}

fn without(members: &[&str], document: Document) -> Document {
    let mut value: serde_json::Value = serde_json::from_slice(&document.bytes).unwrap();
    for member in members {
        value.as_object_mut().unwrap().remove(*member);
    }
    Document { bytes: serde_json::to_vec(&value).unwrap(), ..document }
}

/// The default period of the limit of an account.
const ACCOUNT_PERIOD: Duration = Duration::from_secs(300);

fn without_long_state(document: &[u8]) -> Vec<u8> {
    let mut value: serde_json::Value = serde_json::from_slice(document).unwrap();
    let time = |member: &str| humantime::parse_rfc3339(value[member].as_str().unwrap()).unwrap();
    if time("clear_time") > time("last_time") + 4 * ACCOUNT_PERIOD {
        value["clear_time"] = value["last_time"].clone();
    }
    serde_json::to_vec(&value).unwrap()
}

#[async_trait]
impl DocumentStore for Faulty {
    async fn get(&self, key: &DocumentKey) -> Result<Option<Vec<u8>>, StoreError> {
        self.before().await?;
        let document = self.inner.get(key).await?;
        let is_forgetful = *self.fault.borrow() == Fault::ForgetsLongStates && key.kind == Kind::FailedAttempts;
        Ok(if is_forgetful { document.map(|document| without_long_state(&document)) } else { document })
    }

    async fn change(
        &self,
        first: Vec<UnconditionalWrite>,
        key: DocumentKey,
        change: Change,
    ) -> Result<ChangeOutcome, StoreError> {
        self.before().await?;
        let fault = *self.fault.borrow();
        if fault == Fault::NoSessions && first.iter().any(|put| put.key.kind == Kind::Session) {
            return Err(StoreError::Unavailable);
        }
        if fault == Fault::WritesNothing || fault == Fault::NoFailures && key.kind == Kind::FailedAttempts {
            return Err(StoreError::Unavailable);
        }
        let is_forgotten = fault == Fault::ForgetsFailures && key.kind == Kind::FailedAttempts;
        if is_forgotten || fault == Fault::SpendsAgain && key.kind == Kind::Once {
            return Ok(ChangeOutcome::Done);
        }
        let change = match change {
            Change::Replace { document, .. }
                if fault == Fault::ComparesNothing
                    || fault == Fault::ForgetsLongStates && key.kind == Kind::FailedAttempts =>
            {
                let seen = self.inner.get(&key).await?.unwrap_or_default().into();
                Change::Replace { seen, document }
            }
            Change::Replace { seen, document } if fault == Fault::ForgetsRepeats && key.kind == Kind::Session => {
                Change::Replace { seen, document: without(&["repeats", "late_repeats"], document) }
            }
            Change::Insert(document) if fault == Fault::ForgetsLasting && key.kind == Kind::FailedAttempts => {
                Change::Insert(without(&["lasting_count"], document))
            }
            Change::Replace { seen, document }
                if fault == Fault::ForgetsLasting && key.kind == Kind::FailedAttempts =>
            {
                Change::Replace { seen, document: without(&["lasting_count"], document) }
            }
            unchanged => unchanged,
        };
        let outcome = self.inner.change(first, key, change).await?;
        if fault == Fault::AnswersLate {
            self.entered.notify_one();
            self.fault.subscribe().wait_for(|fault| *fault != Fault::AnswersLate).await.unwrap();
        }
        if fault == Fault::ReplyLostThenDown {
            self.set(Fault::Down);
            return Err(StoreError::OutcomeUnknown);
        }
        self.after(outcome)
    }

    async fn scan(&self, kind: Option<Kind>, cursor: Option<ScanCursor>) -> Result<ScanPage, StoreError> {
        self.before().await?;
        self.inner.scan(kind, cursor).await
    }

    fn now(&self) -> SystemTime {
        self.inner.now()
    }

    fn health(&self) -> watch::Receiver<StoreHealth> {
        self.health.subscribe()
    }

    async fn close(&self) {}
}
