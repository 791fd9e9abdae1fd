//! The rules. No transport, no store and no clock of their own.
//!
//! [`Auth`] is a facade over components, each a folder with the parts that it needs and no more. Imports go down this list,
//! never up: `gateway`, `admin`, `account`, `session`, `authn`, `abuse`, `token`, `password`, `ports`, then `event`, `error`
//! and `context`, then `model` and `violation`. APIs parse input into the types of `model` and call the facade; stores implement [`Store`];
//! `telemetry` implements [`Observer`].

mod abuse;
mod account;
mod admin;
mod assemble;
mod authn;
mod context;
mod error;
mod event;
mod gateway;
mod model;
pub mod password;
mod ports;
mod session;
mod token;
mod violation;

use std::sync::Arc;

use tokio::sync::watch;

use self::{
    abuse::{AttemptLimits, ProofOfWork},
    account::Accounts,
    authn::Authenticator,
    gateway::Gateway,
    session::Sessions,
    token::KeyRingCache,
};
pub use self::{
    abuse::{ChallengeRules, Rate, RateLimitSettings},
    account::{DataChange, PasswordChange, PasswordReset, Registration, Rules, SessionsToEnd},
    admin::{AccountState, Admin, AdminUser, UserSelector},
    authn::{Credentials, CurrentPassword},
    context::{Api, Bearer, CallContext, DEADLINE_DEFAULT, Peer},
    error::{CorruptRecord, Error, ErrorId, Limit, StoreError},
    event::{AdminAction, CodeRefusal, Event, Refusal},
    gateway::{Route, STORE_BUDGET},
    model::{
        AddressHash, ByEvidence, ChallengeFault, ChallengePurpose, ConsecutiveFailures, Evidence, FailedAttempts,
        FailureCount, IpPrefix, KeptCode, KeyRing, Lifetimes, NewChallenge, ORIGIN_HASH_BYTES, Password, PasswordHash,
        PepperKeyId, PublicKey, RefreshOrigin, Repeats, RequestId, ResetCode, SESSIONS_MAX, Session, SessionEnd,
        SessionId, SessionListEntry, Solution, StoredKey, StoredSecret, USERNAME_CHARS_MAX, User, UserData, UserId,
        Username, UsernameHash, WantedChallenge,
    },
    password::{HashPool, Policy},
    ports::{
        ChangeHandler, ChangeNotice, Changed, Claim, Clock, ConfigurationWarning, Elapsed, Entropy, Environment,
        Observer, Replace, Revision, Sleep, Store, StoreHealth, Stored, System, WATCH_DURATION,
    },
    session::{Introspection, SessionPage, TokenTypeHint, TokenUse},
    token::{Claims, Names, TokenSettings, Tokens},
    violation::{Reason, Violation, Violations},
};
pub(crate) use self::{error::Check, model::fingerprint};
pub use crate::common::altcha::Work;

/// The whole service behind every API.
pub struct Auth {
    environment: Environment,
    rules: Rules,
    keys: Arc<KeyRingCache>,
    pool: Arc<HashPool>,
    limits: Arc<AttemptLimits>,
    proof_of_work: Arc<ProofOfWork>,
    authenticator: Arc<Authenticator>,
    sessions: Arc<Sessions>,
    accounts: Arc<Accounts>,
    gateway: Gateway,
    admin: Arc<Admin>,
}

impl Auth {
    /// Registers a user.
    ///
    /// # Errors
    /// `UserAlreadyExists`; `RateLimited`, `ChallengeRequired`, `ChallengeInvalid`, `Overloaded`, `Draining`,
    /// `StoreUnavailable`: nothing was stored; `OutcomeUnknown`; `DeadlineExceeded`; `CorruptRecord`.
    pub async fn register(&self, context: &CallContext, wanted: Registration) -> Result<User, Error> {
        self.accounts.register(context, wanted).await
    }

    /// Authenticates a user by a password and creates a session.
    ///
    /// # Errors
    /// As for [`Self::check_password`].
    pub async fn login(&self, context: &CallContext, credentials: Credentials) -> Result<(User, Tokens), Error> {
        let password = credentials.password.clone();
        let stored = self.authenticator.log_in(context, credentials).await?;
        let created = self.sessions.create(context, &stored.value);
        let (tokens, user) = tokio::join!(created, self.accounts.record_login(context, stored.clone()));
        let tokens = tokens?;
        let session = Some(tokens.session.id);
        self.environment.note(&Event::LoggedIn { context, user: user.id, session });
        self.accounts.rehash(context, &user, password);
        Ok((user, tokens))
    }

    /// Authenticates a user by a password and answers the user, for clients that have no use for tokens.
    ///
    /// # Errors
    /// `InvalidCredentials`; `RateLimited`, `ChallengeRequired`, `ChallengeInvalid`, `Overloaded`, `Draining`,
    /// `StoreUnavailable`: nothing was verified; `DeadlineExceeded`; `CorruptRecord`.
    pub async fn check_password(&self, context: &CallContext, credentials: Credentials) -> Result<User, Error> {
        let password = credentials.password.clone();
        let stored = self.authenticator.log_in(context, credentials).await?;
        self.environment.note(&Event::LoggedIn { context, user: stored.value.id, session: None });
        let user = self.accounts.record_login(context, stored).await;
        self.accounts.rehash(context, &user, password);
        Ok(user)
    }

    /// Creates a challenge of proof of work. One for a login may be for one username.
    ///
    /// # Errors
    /// `StoreUnavailable`; `CorruptRecord`.
    pub async fn create_challenge(
        &self,
        context: &CallContext,
        wanted: &WantedChallenge,
    ) -> Result<NewChallenge, Error> {
        let price = self.limits.price(wanted).await?;
        self.proof_of_work.create(context, wanted, price).await
    }

    /// Exchanges a refresh token for new tokens.
    ///
    /// # Errors
    /// `TokenInvalid`, `TokenExpired`, `TokenRevoked`; `RateLimited`; `StoreUnavailable`, `OutcomeUnknown`: send the same
    /// token with the same request id again.
    pub async fn refresh_token(
        &self,
        context: &CallContext,
        token: &str,
        request_id: Option<RequestId>,
    ) -> Result<Tokens, Error> {
        self.sessions.refresh(context, token, request_id).await
    }

    /// Introspects a token; `None` when it is not active, and for a refresh token without the hint or the right to ask.
    ///
    /// # Errors
    /// `StoreUnavailable`, `CorruptRecord`: not known.
    pub async fn introspect_token(
        &self,
        context: &CallContext,
        token: &str,
        hint: TokenTypeHint,
    ) -> Result<Option<Introspection>, Error> {
        self.sessions.introspect(context, token, hint).await
    }

    /// Ends the session of a token of either kind. A `client` that authenticated ends only its own sessions.
    ///
    /// # Errors
    /// `CallerNotAllowed`; `StoreUnavailable`, `OutcomeUnknown`: try again.
    pub async fn revoke_token(&self, context: &CallContext, client: Option<&str>, token: &str) -> Result<(), Error> {
        self.sessions.revoke_token(context, client, token).await
    }

    /// Counts and reports a caller that sent a wrong client secret.
    ///
    /// # Errors
    /// `RateLimited`.
    pub fn refuse_client(&self, context: &CallContext) -> Result<(), Error> {
        self.limits.count_wrong_client_secret(context)
    }

    /// The user of this call.
    ///
    /// # Errors
    /// Those of an access token; `StoreUnavailable`.
    pub async fn get_user(&self, context: &CallContext) -> Result<User, Error> {
        Ok(self.sessions.authenticate(context).await?.user.value)
    }

    /// Replaces the data of the user of this call.
    ///
    /// # Errors
    /// Those of an access token; `Conflict` when the etag is another one; `RateLimited`; `StoreUnavailable`,
    /// `OutcomeUnknown`.
    pub async fn update_user_data(&self, context: &CallContext, change: DataChange) -> Result<User, Error> {
        self.accounts.update_data(context, change).await
    }

    /// Replaces the password of the user of this call, ends all sessions and creates a new one.
    ///
    /// # Errors
    /// Those of an access token; `InvalidCredentials`; `PasswordPolicy`; `RateLimited`, `ChallengeRequired`,
    /// `ChallengeInvalid`; `Conflict`; `Overloaded`, `Draining`, `StoreUnavailable`: nothing was changed; `OutcomeUnknown`.
    pub async fn change_password(&self, context: &CallContext, change: PasswordChange) -> Result<Tokens, Error> {
        self.accounts.change_password(context, change).await
    }

    /// Replaces the password of the user of a reset code, and ends all sessions.
    ///
    /// # Errors
    /// `InvalidCredentials`; `RateLimited`; `Conflict`, `Overloaded`, `Draining`, `StoreUnavailable`: nothing was changed and
    /// the code is still valid; `OutcomeUnknown`; `DeadlineExceeded`; `CorruptRecord`.
    pub async fn reset_password(&self, context: &CallContext, wanted: PasswordReset) -> Result<(), Error> {
        self.accounts.reset_password(context, wanted).await
    }

    /// Deletes the user of this call and ends all sessions.
    ///
    /// # Errors
    /// As for [`Self::change_password`].
    pub async fn delete_user(&self, context: &CallContext, current: CurrentPassword) -> Result<(), Error> {
        self.accounts.delete(context, current).await
    }

    /// Lists the sessions of the user of this call, newest first: those after `after`, at most `size`.
    ///
    /// # Errors
    /// Those of an access token; `StoreUnavailable`.
    pub async fn list_sessions(
        &self,
        context: &CallContext,
        after: Option<SessionId>,
        size: usize,
    ) -> Result<SessionPage, Error> {
        self.sessions.list(context, after, size).await
    }

    /// Ends one session of the user of this call.
    ///
    /// # Errors
    /// Those of an access token; `RateLimited`; `StoreUnavailable`, `OutcomeUnknown`: try again.
    pub async fn revoke_session(&self, context: &CallContext, id: SessionId) -> Result<(), Error> {
        self.sessions.revoke_session(context, id).await
    }

    /// Ends all sessions of the user of this call, or all but the present one; answers how many were known.
    ///
    /// # Errors
    /// Those of an access token; `Conflict`; `StoreUnavailable`, `OutcomeUnknown`: try again. For all but the present one also
    /// those of [`Self::delete_user`].
    pub async fn revoke_all_sessions(&self, context: &CallContext, which: SessionsToEnd) -> Result<usize, Error> {
        self.accounts.revoke_all_sessions(context, which).await
    }

    /// Authenticates a request that a gateway holds; `None` when it may pass without an identity.
    ///
    /// # Errors
    /// Those of an access token; `StoreUnavailable`; `CorruptRecord`.
    pub async fn authorize(&self, context: &CallContext, route: Route) -> Result<Option<Introspection>, Error> {
        self.gateway.authorize(context, route).await
    }

    /// The use cases of operators.
    pub fn admin(&self) -> &Arc<Admin> {
        &self.admin
    }

    /// What input must satisfy.
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// Issuer, audience and lifetimes of tokens.
    pub fn token_settings(&self) -> &TokenSettings {
        &self.sessions.settings
    }

    /// The public keys of all tokens that are valid now or soon. While the store does not answer, those of a moment ago.
    ///
    /// # Errors
    /// `StoreUnavailable` when they were never read; `CorruptRecord`.
    pub async fn public_keys(&self) -> Result<Vec<PublicKey>, Error> {
        Ok(self.keys.last_key_ring().await?.public_keys())
    }

    /// Whether the stored key ring can be read, now and whenever that changes.
    pub fn keys_readable(&self) -> watch::Receiver<bool> {
        self.keys.readable()
    }

    /// The clock, the CSPRNG and the observer.
    pub fn environment(&self) -> &Environment {
        &self.environment
    }

    /// The hash pool: its queue, and the drain.
    pub fn hash_pool(&self) -> &HashPool {
        &self.pool
    }

    /// Stores the failed attempts that were counted since the last time.
    pub async fn store_failed_attempts(&self) {
        self.limits.store_failed_attempts().await;
    }
}
