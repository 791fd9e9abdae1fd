//! A guess at a password: what must let it in before the password is looked at, and what its outcome changes.
//!
//! Every way to try a password goes through here: a login on each door, a registration that is sent again, and whatever asks
//! for the password once more. Names that nobody has are treated as those that somebody has, so that no limit tells them
//! apart. A user under attack still gets in: from an address that he signed in from before, in a session, or with proof of
//! work, all of which the account's own limit leaves alone.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use super::{
    Auth, CallContext, ChallengePurpose, Error, Event, Limit, RateLimitSettings, SessionId, StoreError, Stored, User,
    UserId, Username,
    failures::{FailedAttempts, FailureCounter, Standing, UsernameHash},
    password::{Password, PasswordHash, QueuePermit},
    throttle::{Backlog, Full, Key, Patience, Place, Prefix, Rate, RateLimiter, Taken},
};

/// What keeps guessing slow.
pub(super) struct Guards {
    pub(super) settings: RateLimitSettings,
    pub(super) throttle: Arc<RateLimiter>,
    pub(super) unwritten: FailureCounter,
}

/// Guesses at one account that were paid for: as many as eleven machines of two cores can pay for, so that a victim finds
/// room, and no botnet finds more.
const PAID_PER_ACCOUNT: Rate = Rate { most: 100_000, per: Duration::from_secs(3_600) };

/// A guess, until its outcome is known. Dropped before, as when there was no room to hash, it was none; dropped during the
/// hash, by a caller who leaves, it runs against the limit of the address alone.
#[must_use]
pub(super) struct Guess {
    guarded: Option<Guarded>,
}

/// One that is counted; none is where throttles are off.
struct Guarded {
    name: UsernameHash,
    place: Option<Place>,
    /// Its place in the limit of the end user's address.
    address: Option<Taken>,
    taken: Vec<Taken>,
    /// What it makes the account's own backlog longer by.
    backlog: Duration,
    /// The name's failures, as they were read.
    read: Option<FailedAttempts>,
    standing: Standing,
    /// Whether the hash runs or waits: whoever leaves then has cost us one, and is told nothing.
    is_hashed: bool,
}

/// Whether the right password opens the account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lock {
    Open,
    /// After too many failures, where the operator wants that.
    Shut,
}

/// Who guesses, as far as that shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Who {
    /// Anybody.
    Stranger,
    /// Anybody, but with proof of work.
    Payer,
    /// Hardly anybody but the user: from an address that he signed in from before, or in a session.
    Familiar,
}

/// What becomes of a guess.
enum Decision {
    LetIn(Lock),
    /// It takes more than a password.
    NotByPassword,
    Full(Full),
}

impl Guards {
    pub(super) fn new(settings: RateLimitSettings, throttle: Arc<RateLimiter>) -> Self {
        Self { throttle, unwritten: FailureCounter::new(settings.per_account.per), settings }
    }

    /// What becomes of a guess by somebody like that, given what is stored of the name's failures.
    fn decide(&self, guarded: &mut Guarded, who: Who, stored: Option<&FailedAttempts>, now: SystemTime) -> Decision {
        let (settings, name) = (&self.settings, guarded.name);
        loop {
            let standing = self.unwritten.standing(name, stored, now);
            (guarded.standing, guarded.read) = (standing, stored.copied());
            let is_capped = standing.count >= settings.failure_cap;
            let is_shut = is_capped && settings.failure_cap_is_strict;
            let limit = match who {
                Who::Stranger if is_capped && !is_shut => return Decision::NotByPassword,
                Who::Stranger => Some((Key::Account(name), settings.per_account, Some(standing.backlog))),
                Who::Payer => Some((Key::Paid(name), PAID_PER_ACCOUNT, None)),
                // The limit of the place was asked before.
                Who::Familiar => None,
            };
            let limit = limit.map(|(key, rate, known)| Backlog { key, rate, known });
            // No more at once than may still fail.
            let left = if is_capped { u32::MAX } else { settings.failure_cap - standing.count };
            let taken = match self.throttle.try_take_among(Key::Guesses(name), left, limit) {
                Ok(taken) => taken,
                Err(full) => return Decision::Full(full),
            };
            // Whoever was under way and failed before the place was taken is counted by now: counting comes before the end.
            if self.unwritten.standing(name, stored, now) == standing {
                guarded.taken.extend(taken);
                guarded.backlog = if who == Who::Stranger { settings.per_account.share() } else { Duration::ZERO };
                return Decision::LetIn(if is_shut { Lock::Shut } else { Lock::Open });
            }
        }
    }
}

impl Guess {
    fn is_signed_in(&self) -> bool {
        let place = self.guarded.as_ref().and_then(|guarded| guarded.place);
        matches!(place, Some(Place::Session(_)))
    }

    /// Looks at the password.
    pub(super) async fn verify(
        &mut self,
        permit: QueuePermit,
        password: Password,
        hash: PasswordHash,
    ) -> Result<bool, Error> {
        self.is_hashed(true);
        let matches = permit.verify(password, hash).await;
        // There was no hash.
        self.is_hashed(matches.is_ok());
        matches
    }

    fn is_hashed(&mut self, is: bool) {
        if let Some(guarded) = &mut self.guarded {
            guarded.is_hashed = is;
        }
    }
}

impl Drop for Guess {
    fn drop(&mut self) {
        if let Some(Guarded { address, is_hashed: true, .. }) = &mut self.guarded {
            address.take().into_iter().for_each(Taken::keep);
        }
    }
}

impl Auth {
    /// Begins a guess at a name, by whoever is signed in if anybody is: asks the limit that knows nothing of names.
    ///
    /// # Errors
    /// `RateLimited`; `StoreUnavailable`.
    pub(super) async fn guess(
        &self,
        context: &CallContext,
        username: &Username,
        session: Option<SessionId>,
    ) -> Result<Guess, Error> {
        let Some(guards) = &self.guards else { return Ok(Guess { guarded: None }) };
        let name = self.ring().await?.username_hash(username);
        if !guards.unwritten.has_room() {
            // Nobody would count.
            return Err(self.store_error(StoreError::Unavailable));
        }
        let address = context.client.map(Prefix::of);
        let place = session.map(Place::Session).or(address.map(Place::Address));
        let address = match address {
            Some(address) => {
                let taken = guards.throttle.take(Key::Address(address), guards.settings.per_address).await;
                Some(taken.map_err(|wait| self.rate_limited(context, Limit::Address, wait))?)
            }
            None => None,
        };
        let (taken, backlog, read, standing) = (Vec::new(), Duration::ZERO, None, Standing::default());
        let guarded = Guarded { name, place, address, taken, backlog, read, standing, is_hashed: false };
        Ok(Guess { guarded: Some(guarded) })
    }

    /// What is stored of the failures of the name that is guessed at.
    pub(super) async fn failures_of(&self, guess: &Guess) -> Result<Option<Stored<FailedAttempts>>, Error> {
        let Some(guarded) = &guess.guarded else { return Ok(None) };
        self.store.failures(guarded.name).await.map_err(|error| self.store_error(error))
    }

    /// Lets a guess in, given the account, if there is one, and its failures; `paid` with proof of work, which may be asked for
    /// this purpose.
    ///
    /// # Errors
    /// `RateLimited`; `ChallengeRequired` once the password alone is not enough; `StoreUnavailable`.
    pub(super) async fn let_in(
        &self,
        context: &CallContext,
        guess: &mut Guess,
        user: Option<&User>,
        mut failures: Option<Stored<FailedAttempts>>,
        paid: bool,
        purpose: ChallengePurpose,
    ) -> Result<Lock, Error> {
        let Some(guards) = &self.guards else { return Ok(Lock::Open) };
        // Nobody's address costs the same as somebody's.
        let is_known = self.is_known(context, user).await?;
        let who = match paid {
            true => Who::Payer,
            false if guess.is_signed_in() || is_known => Who::Familiar,
            false => Who::Stranger,
        };
        let mut patience = Patience::new();
        loop {
            let Some(guarded) = &mut guess.guarded else { return Ok(Lock::Open) };
            let stored = failures.as_ref().map(|failures| &failures.value);
            match guards.decide(guarded, who, stored, self.store.now()) {
                Decision::LetIn(lock) => return Ok(lock),
                Decision::NotByPassword => return Err(self.challenge_required(context, purpose)),
                // Others of this account may be under way, any of whom may have the right password.
                Decision::Full(full) => {
                    let ended = patience.wait(full).await;
                    ended.map_err(|wait| self.rate_limited(context, Limit::Account, wait))?;
                }
            }
            failures = self.failures_of(guess).await?;
        }
    }

    /// Whether the user has signed in from the caller's address before.
    async fn is_known(&self, context: &CallContext, user: Option<&User>) -> Result<bool, Error> {
        let tag = self.address_hash(context, user.map(|user| user.id)).await?;
        Ok(tag.zip(user).is_some_and(|(tag, user)| user.known_addresses.contains(&tag)))
    }

    /// Takes the proof of work of a guess: see `present_challenge`. One that does not count costs us something and the caller
    /// nothing, so it runs against the limit of the address.
    pub(super) async fn pay(
        &self,
        context: &CallContext,
        guess: &mut Guess,
        purpose: ChallengePurpose,
        solution: &str,
    ) -> Result<Option<QueuePermit>, Error> {
        let room = self.present_challenge(context, purpose, solution).await;
        guess.is_hashed(matches!(room, Err(Error::ChallengeInvalid { .. })));
        room
    }

    /// Asks the limit of the caller's place at the account; whoever has paid need not.
    ///
    /// # Errors
    /// `RateLimited`.
    pub(super) async fn at_account(&self, context: &CallContext, guess: &mut Guess) -> Result<(), Error> {
        let (Some(guards), Some(guarded)) = (&self.guards, &mut guess.guarded) else { return Ok(()) };
        let Some(place) = guarded.place else { return Ok(()) };
        let key = Key::AddressAndAccount(place, guarded.name);
        let taken = guards.throttle.take(key, guards.settings.per_address_and_account).await;
        guarded.taken.push(taken.map_err(|wait| self.rate_limited(context, Limit::AddressAndAccount, wait))?);
        Ok(())
    }

    /// The password was wrong, or opens nothing.
    pub(super) fn guessed_wrong(&self, context: &CallContext, mut guess: Guess, user: Option<UserId>) {
        let (Some(guards), Some(guarded)) = (&self.guards, guess.guarded.take()) else { return };
        let Guarded { name, address, taken, backlog, read, .. } = guarded;
        // Counted before it ends, so that nobody finds it neither counted nor under way.
        let in_a_row = guards.unwritten.failed(name, backlog, read.as_ref(), self.store.now());
        address.into_iter().chain(taken).for_each(Taken::keep);
        if in_a_row == guards.settings.failure_cap {
            self.note(&Event::FailureCapReached { context, user });
        }
        let alert = guards.settings.alert;
        let is_unusual = guards.throttle.count(Key::Everybody, alert).is_err();
        // Told once in that time, or a storm would fill the log.
        if is_unusual && guards.throttle.count(Key::ConfigurationWarning, Rate { most: 1, ..alert }).is_ok() {
            self.note(&Event::ManyFailures);
        }
    }

    /// The password was right: the row of failures is broken, unless it was so long that only another password ends it.
    pub(super) fn guessed_right(&self, mut guess: Guess) {
        let (Some(guards), Some(guarded)) = (&self.guards, guess.guarded.take()) else { return };
        if (1..guards.settings.failure_cap).contains(&guarded.standing.count) {
            guards.unwritten.succeeded(guarded.name, self.store.now());
        }
    }
}
