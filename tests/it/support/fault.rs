//! A store with faults on order.

use std::{sync::Arc, time::SystemTime};

use async_trait::async_trait;
use tokio::sync::{Notify, watch};
use watchword::{
    domain::{StoreError, StoreHealth, System},
    store::{
        Change, ChangeOutcome, DocumentKey, DocumentStore, Kind, Memory, ScanCursor, ScanPage, UnconditionalWrite,
    },
};

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    None,
    /// Reads and writes are refused before anything happens.
    Down,
    /// Writes happen, and their answer is lost.
    ReplyLost,
    /// Every user is unreadable.
    Corrupt,
    /// A bug.
    Panic,
    /// Never answers.
    Hangs,
    /// Writes happen at once, and their answer comes when there is another fault or none.
    AnswersLate,
    /// Replaces whatever is there, and lets others read before it does.
    ComparesNothing,
    /// Takes every secret for one that nobody has spent.
    SpendsAgain,
    /// Everything works until a session is to be stored.
    NoSessions,
    /// Says that it has stored failures, and has not.
    ForgetsFailures,
    /// Reads work.
    WritesNothing,
}

/// A memory store that fails as it is told.
pub struct Faulty {
    inner: Memory,
    fault: watch::Sender<Fault>,
    pulse: watch::Sender<StoreHealth>,
    entered: Notify,
}

impl Faulty {
    pub fn with(fault: Fault) -> Arc<Self> {
        Arc::new(Self {
            inner: Memory::new(Arc::new(System)),
            fault: watch::Sender::new(fault),
            pulse: watch::Sender::new(StoreHealth::Up),
            entered: Notify::new(),
        })
    }

    pub fn set(&self, fault: Fault) {
        self.fault.send_replace(fault);
    }

    pub fn set_pulse(&self, pulse: StoreHealth) {
        self.pulse.send_replace(pulse);
    }

    /// Waits until a call hangs, or waits for its answer.
    pub async fn entered(self: Arc<Self>) {
        self.entered.notified().await;
    }

    async fn before(&self) -> Result<(), StoreError> {
        let fault = *self.fault.borrow();
        match fault {
            Fault::None
            | Fault::ReplyLost
            | Fault::NoSessions
            | Fault::AnswersLate
            | Fault::ForgetsFailures
            | Fault::WritesNothing
            | Fault::SpendsAgain => Ok(()),
            Fault::ComparesNothing => {
                tokio::task::yield_now().await;
                Ok(())
            }
            Fault::Down => Err(StoreError::Unavailable),
            Fault::Corrupt => Err(StoreError::Corrupt("torn by a test".into())),
            Fault::Panic => panic!("a bug on order"),
            Fault::Hangs => {
                self.entered.notify_one();
                std::future::pending().await
            }
        }
    }

    fn after<T>(&self, answer: T) -> Result<T, StoreError> {
        if *self.fault.borrow() == Fault::ReplyLost { Err(StoreError::OutcomeUnknown) } else { Ok(answer) }
    }
}

#[async_trait]
impl DocumentStore for Faulty {
    async fn get(&self, key: &DocumentKey) -> Result<Option<Vec<u8>>, StoreError> {
        self.before().await?;
        self.inner.get(key).await
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
        if fault == Fault::WritesNothing {
            return Err(StoreError::Unavailable);
        }
        let is_forgotten = fault == Fault::ForgetsFailures && key.kind == Kind::FailedAttempts;
        if is_forgotten || fault == Fault::SpendsAgain && key.kind == Kind::Once {
            return Ok(ChangeOutcome::Done);
        }
        let change = match change {
            Change::Replace { document, .. } if fault == Fault::ComparesNothing => {
                let seen = self.inner.get(&key).await?.unwrap_or_default().into();
                Change::Replace { seen, document }
            }
            careful => careful,
        };
        let outcome = self.inner.change(first, key, change).await?;
        if fault == Fault::AnswersLate {
            self.entered.notify_one();
            self.fault.subscribe().wait_for(|fault| *fault != Fault::AnswersLate).await.unwrap();
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
        self.pulse.subscribe()
    }

    async fn close(&self) {}
}
