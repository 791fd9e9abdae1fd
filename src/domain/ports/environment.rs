//! The clock, the CSPRNG and the observer that all rules share, and the conversion of store errors.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{Clock, Entropy, Observer};
use crate::domain::{
    error::{CorruptRecord, Error, ErrorId, StoreError},
    event::Event,
    model::new_uuid,
};

/// What the rules need besides a store.
#[derive(Clone)]
pub struct Environment {
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub entropy: Arc<dyn Entropy>,
    /// Receives every event.
    pub observer: Arc<dyn Observer>,
}

impl Environment {
    /// Reports `event` to the observer.
    pub fn note(&self, event: &Event<'_>) {
        self.observer.on(event);
    }

    /// Time since `start`.
    pub fn since(&self, start: Instant) -> Duration {
        self.clock.monotonic().saturating_duration_since(start)
    }

    /// Logs `cause` and answers the error id under which the log has it.
    pub fn internal_error(&self, cause: &str) -> Error {
        let id = self.new_error_id();
        tracing::error!(error_id = %id, cause, "internal error");
        Error::Internal(id)
    }

    /// The caller's view of a store's error; notes it, and logs why a document cannot be read.
    pub(in crate::domain) fn store_error(&self, error: StoreError) -> Error {
        self.note(&Event::StoreFailed { error: &error });
        match error {
            StoreError::Unavailable => Error::StoreUnavailable,
            StoreError::OutcomeUnknown => Error::OutcomeUnknown,
            StoreError::Corrupt(CorruptRecord { record, cause }) => {
                let id = self.new_error_id();
                tracing::error!(error_id = %id, record, cause, "a stored document cannot be read");
                Error::CorruptRecord(id)
            }
        }
    }

    fn new_error_id(&self) -> ErrorId {
        ErrorId(new_uuid(self.clock.now(), self.entropy.bytes()))
    }
}

/// What a store answered.
pub(in crate::domain) trait StoreResult<T> {
    /// The same with the caller's view of an error, which is noted.
    fn or_report(self, environment: &Environment) -> Result<T, Error>;
}

impl<T> StoreResult<T> for Result<T, StoreError> {
    fn or_report(self, environment: &Environment) -> Result<T, Error> {
        self.map_err(|error| environment.store_error(error))
    }
}
