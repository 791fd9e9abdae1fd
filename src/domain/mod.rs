//! The rules. No transport, no store, no clock of its own.
//!
//! [`Auth`] has one method for each thing a user can ask for, each in a file of its name. Doors parse input into the
//! types below and call it; stores implement [`Store`]; `telemetry` implements [`Observer`]. Imports nobody.

mod account;
mod account_state;
mod authenticate;
mod authorize;
mod challenge;
mod change_user;
mod context;
mod environment;
mod error;
mod event;
mod failures;
mod guess;
mod introspect_token;
mod introspection_cache;
mod limits;
mod login;
mod manage_user;
pub mod password;
mod refresh_token;
mod register;
mod rehash;
mod reset_password;
mod revoke_token;
mod rotate_signing_key;
mod session;
mod session_writer;
mod sessions;
mod store;
mod throttle;
mod token;
mod user;
mod username;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::{Semaphore, watch};

use self::password::{Purpose, QueuePermit};
pub use self::{
    account::{DataChange, PasswordChange},
    account_state::AccountState,
    authorize::{Route, STORE_BUDGET},
    challenge::{ChallengeFault, ChallengePurpose, ChallengeRules, NewChallenge},
    context::{Api, Bearer, CallContext, DEADLINE_DEFAULT, Peer},
    environment::{Clock, Entropy, System},
    error::{Error, ErrorId, Reason, Violation, Violations},
    event::{Event, Observer, Refusal},
    failures::{FailedAttempts, UsernameHash},
    introspect_token::{Introspection, TokenUse},
    login::Attempt,
    manage_user::{Account, AdminAction, UserSelector},
    password::{HashPool, Password, PasswordHash, Policy},
    register::Registration,
    reset_password::{CodeRefusal, KeptCode, PasswordReset, ResetCode},
    session::{Ended, Lifetimes, SESSIONS_MAX, Session, SessionId, SessionListEntry},
    sessions::SessionPage,
    store::{
        ChangeHandler, ChangeNotice, Changed, Claim, ConfigurationWarning, Replace, Revision, Store, StoreError,
        StoreHealth, Stored, WATCH_DURATION,
    },
    throttle::{Limit, Rate, RateLimitSettings},
    token::{Claims, KeyRing, Names, PublicKey, StoredKey, TokenSettings, Tokens},
    user::{AddressHash, RequestId, User, UserData, UserId},
    username::{USERNAME_CHARS_MAX, Username},
};
pub(crate) use self::{environment::to_the_millisecond, error::Check, user::fingerprint};
pub use crate::common::altcha::Work;

/// What input must keep to; operators set it.
#[derive(Debug, Clone)]
pub struct Rules {
    /// What a new password must be.
    pub password_policy: Policy,
    /// Bytes of a user's data at most.
    pub data_bytes_max: usize,
    /// Where proof of work is asked for.
    pub challenges: ChallengeRules,
}

/// Register, log in: the whole service behind every door.
pub struct Auth {
    store: Arc<dyn Store>,
    passwords: HashPool,
    rules: Rules,
    tokens: TokenSettings,
    keys: token::Keys,
    introspection_cache: Arc<introspection_cache::IntrospectionCache>,
    /// None where nothing is throttled.
    guards: Option<guess::Guards>,
    session_writer: Arc<session_writer::SessionWriter>,
    user_locks: Arc<change_user::UserLocks>,
    run_to_completion: Arc<Semaphore>,
    renewals: Arc<rehash::RehashTasks>,
    environment: Environment,
}

/// What the rules need of the world around them.
#[derive(Clone)]
pub struct Environment {
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Chance.
    pub entropy: Arc<dyn Entropy>,
    /// Who hears what happens.
    pub observer: Arc<dyn Observer>,
}

impl Auth {
    /// Puts the parts together.
    pub fn new(
        store: Arc<dyn Store>,
        passwords: HashPool,
        rules: Rules,
        tokens: TokenSettings,
        throttle: Option<RateLimitSettings>,
        environment: Environment,
    ) -> Self {
        let introspection_cache =
            Arc::new(introspection_cache::IntrospectionCache::new(tokens.check_reuse, environment.clock.clone()));
        if !tokens.check_reuse.is_zero() {
            let introspection_cache = introspection_cache.clone();
            store.watch(Arc::new(move |news| introspection_cache.hear(news)));
        }
        let guards = throttle.map(|settings| {
            guess::Guards::new(settings, Arc::new(throttle::RateLimiter::new(environment.clock.clone())))
        });
        let session_writer = Arc::new(session_writer::SessionWriter::new(store.clone(), introspection_cache.clone()));
        let (keys, renewals) = (token::Keys::unread(), Arc::default());
        let user_locks = Arc::default();
        let run_to_completion = Arc::new(Semaphore::new(change_user::COMPLETIONS_MAX));
        Self {
            store,
            passwords,
            rules,
            tokens,
            keys,
            introspection_cache,
            guards,
            session_writer,
            user_locks,
            run_to_completion,
            renewals,
            environment,
        }
    }

    /// What input must keep to.
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// The public keys of all tokens that count now or soon.
    ///
    /// # Errors
    /// `StoreUnavailable`.
    pub async fn public_keys(&self) -> Result<Vec<PublicKey>, Error> {
        Ok(self.ring().await?.public_keys())
    }

    /// Whether the keys in the store can be read, now and whenever that changes.
    pub fn keys_readable(&self) -> watch::Receiver<bool> {
        self.keys.readable()
    }

    /// Who makes the tokens: their `iss`.
    pub fn issuer(&self) -> &str {
        &self.tokens.names.issuer
    }

    /// How long tokens and sessions live.
    pub fn lifetimes(&self) -> &Lifetimes {
        &self.tokens.lifetimes
    }

    /// The clock that deadlines are measured by.
    pub fn clock(&self) -> &dyn Clock {
        &*self.environment.clock
    }

    /// Whether no password is hashed or waits to be.
    pub fn is_calm(&self) -> bool {
        self.passwords.is_idle()
    }

    /// How many passwords wait to be hashed.
    pub fn hash_queue_depth(&self) -> usize {
        self.passwords.depth()
    }

    /// Turns new work away from now on; what is running is finished.
    pub fn drain(&self) {
        self.passwords.drain();
    }

    /// Logs `cause` and answers the id under which the log has it.
    pub fn internal_error(&self, cause: &str) -> Error {
        let id = self.new_error_id();
        tracing::error!(error_id = %id, cause, "internal error");
        Error::Internal(id)
    }

    fn new_error_id(&self) -> ErrorId {
        ErrorId(user::new_uuid(self.clock().now(), &*self.environment.entropy))
    }

    /// Says how a gRPC call ended that began at `began`.
    pub fn call_ended(&self, method: &'static str, code: &'static str, began: Instant) {
        self.note(&Event::CallEnded { method, code, took: self.since(began) });
    }

    /// Says how an HTTP request was answered that began at `began`.
    pub fn request_ended(&self, route: &'static str, method: &'static str, status: u16, began: Instant) {
        self.note(&Event::RequestEnded { route, method, status, took: self.since(began) });
    }

    fn since(&self, began: Instant) -> Duration {
        self.clock().monotonic().saturating_duration_since(began)
    }

    fn note(&self, event: &Event<'_>) {
        self.environment.observer.on(event);
    }

    /// The caller's view of a store's error.
    fn store_error(&self, error: StoreError) -> Error {
        self.note(&Event::StoreFailed { error: &error });
        match error {
            StoreError::Unavailable => Error::StoreUnavailable,
            StoreError::OutcomeUnknown => Error::OutcomeUnknown,
            StoreError::Corrupt(cause) => {
                let id = self.new_error_id();
                tracing::error!(error_id = %id, cause, "a stored document cannot be read");
                Error::CorruptRecord(id)
            }
        }
    }

    /// The keys that tokens are made with.
    async fn ring(&self) -> Result<Arc<token::ActiveKeyRing>, Error> {
        let ring = self.keys.ring(&*self.store, &*self.environment.clock, &*self.environment.entropy).await;
        ring.map_err(|error| self.store_error(error))
    }

    /// What a password is compared with: a hash that no password has where there is no user, or none with a password.
    fn hash_to_try(&self, user: Option<&User>) -> PasswordHash {
        user.and_then(|user| user.password.clone()).unwrap_or_else(|| self.passwords.decoy())
    }

    /// Asks for room in the hash queue.
    fn admit(&self, context: &CallContext, purpose: Purpose) -> Result<QueuePermit, Error> {
        self.passwords.admit(purpose, context.deadline).inspect_err(|error| {
            if let Error::Overloaded { retry_after } = error {
                self.note(&Event::Overloaded { context, retry_after: *retry_after });
            }
        })
    }
}
