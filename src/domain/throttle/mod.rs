//! Keeps guessing slow: per end user's address, per account, and for both together.
//!
//! Decides from this node's memory, in a fixed amount of it; what outlives the node and is shared by all is `failures.rs`.
//! A call takes its place before the password is looked at and gives it back unless the password was wrong, so calls that
//! run side by side get no more guesses than calls in a row. Sources: NIST SP 800-63B-4 3.2.2, ASVS 5.0 6.1.1 and 6.3.1.

mod rate;
mod sketch;

use std::{
    collections::{HashMap, hash_map::Entry},
    net::IpAddr,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{Notify, futures::OwnedNotified},
    time::Sleep,
};

pub use self::rate::Rate;
use self::sketch::{Raised, Sketch};
use super::{Clock, SessionId, failures::NameTag};

/// How long a call waits for others of its key that are under way, of which any may turn out to be no failure.
const OTHERS_WAIT_MAX: Duration = Duration::from_millis(300);

/// When to come back where as many are under way as may be.
pub(super) const SOON: Duration = Duration::from_secs(1);

/// How much guessing is let through.
#[derive(Debug, Clone, Copy)]
pub struct ThrottleSettings {
    /// Failures of one end user's address, at whatever accounts.
    pub per_address: Rate,
    /// Failures at one account, from wherever nobody has signed in before.
    pub per_account: Rate,
    /// Failures of one address, or one session, at one account.
    pub per_address_and_account: Rate,
    /// Registrations from one address, whatever becomes of them.
    pub registrations: Rate,
    /// Failures of everybody; beyond it operators are told and nobody is refused, since one botnet would stop all logins.
    pub alert: Rate,
    /// Consecutive failures after which the password alone no longer opens an account.
    pub failure_cap: u32,
    /// Whether it then opens it nowhere, rather than nowhere new.
    pub failure_cap_is_strict: bool,
}

/// Which limit refused a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// Of the end user's address.
    Address,
    /// Of the account.
    Account,
    /// Of the address at this account.
    AddressAndAccount,
    /// Registrations of the address.
    Registrations,
}

impl Limit {
    /// The limit's name in answers and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Limit::Address => "address",
            Limit::Account => "account",
            Limit::AddressAndAccount => "address_and_account",
            Limit::Registrations => "registrations",
        }
    }
}

/// What one end user has for an address: all of an IPv4 address, and of an IPv6 address the 64 bits that a network gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Prefix(pub(super) IpAddr);

impl Prefix {
    pub(super) fn of(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V6(v6) => IpAddr::V6((u128::from(v6) & !u128::from(u64::MAX)).into()),
            v4 @ IpAddr::V4(_) => v4,
        })
    }
}

/// Where a guess is made from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Place {
    Address(Prefix),
    /// By somebody who is signed in.
    Session(SessionId),
}

/// What has a backlog of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Key {
    Address(Prefix),
    Account(NameTag),
    AddressAndAccount(Place, NameTag),
    /// Guesses at an account, from wherever: counted, not limited in time.
    Guesses(NameTag),
    Registrations(Prefix),
    /// Wrong reset codes, which use up nothing of the passwords'.
    Codes(Prefix),
    CodesAtAccount(Prefix, NameTag),
    Everybody,
}

/// The backlogs of this node.
pub(super) struct Throttle {
    state: Mutex<State>,
    clock: Arc<dyn Clock>,
}

struct State {
    sketch: Sketch,
    /// Calls that have taken a place and are not over: as many as may wait for a hash, and each has a few.
    under_way: HashMap<Key, UnderWay>,
}

#[derive(Default)]
struct UnderWay {
    count: u32,
    /// Those who wait for one of them to end.
    ended: Arc<Notify>,
}

/// A place in a backlog. Dropped, it is given back.
#[must_use]
pub(super) struct Taken {
    throttle: Arc<Throttle>,
    key: Key,
    /// What the place takes of the backlog.
    raised: Option<Raised>,
    is_kept: bool,
}

/// No place in a backlog.
pub(super) struct Full {
    /// Until there is one.
    pub(super) wait: Duration,
    /// When some of those who have one are under way, any of whom may give it back: the next of them to do so.
    ended: Option<Pin<Box<OwnedNotified>>>,
}

/// What is left of the time that a call waits for others.
pub(super) struct Patience(Pin<Box<Sleep>>);

impl Throttle {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        let state = State { sketch: Sketch::new(clock.monotonic()), under_way: HashMap::new() };
        Self { state: Mutex::new(state), clock }
    }

    /// Takes a place in the backlog of `key`; or answers how long it is until there is one.
    pub(super) async fn take(self: &Arc<Self>, key: Key, rate: Rate) -> Result<Taken, Duration> {
        let mut patience = Patience::new();
        loop {
            match self.try_take(key, rate) {
                Ok(taken) => return Ok(taken),
                Err(full) => patience.wait(full).await?,
            }
        }
    }

    /// Takes a place at once.
    fn try_take(self: &Arc<Self>, key: Key, rate: Rate) -> Result<Taken, Full> {
        self.take_in(&mut self.state(), key, rate, Duration::ZERO)
    }

    /// Takes a place in the backlog of `limited`, which is at least so long, where no more than `most` of `all` may be under
    /// way; without a limit that is all. Answers the places, and how many are under way with this one.
    pub(super) fn try_take_among(
        self: &Arc<Self>,
        all: Key,
        most: u32,
        limited: Option<(Key, Rate, Duration)>,
    ) -> Result<(Vec<Taken>, u32), Full> {
        let mut state = self.state();
        let others = state.under_way.get(&all).map_or(0, |others| others.count);
        if others >= most {
            return Err(state.full(&all, SOON));
        }
        let limited = limited.map(|(key, rate, known)| self.take_in(&mut state, key, rate, known)).transpose()?;
        let among = self.taken(&mut state, all, None);
        Ok((limited.into_iter().chain([among]).collect(), others + 1))
    }

    fn take_in(self: &Arc<Self>, state: &mut State, key: Key, rate: Rate, known: Duration) -> Result<Taken, Full> {
        let now = self.clock.monotonic();
        let backlog = state.sketch.backlog(&key, now).max(known);
        if let Some(wait) = rate.wait(backlog) {
            return Err(state.full(&key, wait));
        }
        let raised = state.sketch.raise(&key, now, backlog + rate.share());
        Ok(self.taken(state, key, Some(raised)))
    }

    fn taken(self: &Arc<Self>, state: &mut State, key: Key, raised: Option<Raised>) -> Taken {
        state.under_way.entry(key).or_default().count += 1;
        Taken { throttle: self.clone(), key, raised, is_kept: false }
    }

    /// The refusal of a place among `key` that is no matter of time.
    pub(super) fn crowded(&self, key: Key) -> Full {
        self.state().full(&key, SOON)
    }

    /// Counts one more for `key` if there is room; otherwise answers how long it is until there is.
    pub(super) fn count(self: &Arc<Self>, key: Key, rate: Rate) -> Result<(), Duration> {
        self.try_take(key, rate).map(Taken::keep).map_err(|full| full.wait)
    }

    /// Ends the backlog of `key` if nothing of it is under way.
    pub(super) fn clear_if_calm(&self, key: Key) {
        let now = self.clock.monotonic();
        let mut state = self.state();
        if state.under_way(&key) == 0 {
            state.sketch.clear(&key, now);
        }
    }

    /// Ends the backlog of `key`.
    pub(super) fn clear(&self, key: Key) {
        let now = self.clock.monotonic();
        self.state().sketch.clear(&key, now);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn full(&self, key: &Key, wait: Duration) -> Full {
        let ended = self.under_way.get(key).map(|others| {
            let mut ended = Box::pin(others.ended.clone().notified_owned());
            // While nobody can end: none is missed.
            ended.as_mut().enable();
            ended
        });
        Full { wait, ended }
    }
}

impl Patience {
    pub(super) fn new() -> Self {
        Self(Box::pin(tokio::time::sleep(OTHERS_WAIT_MAX)))
    }

    /// Waits until it is worth another try; when it is not, answers how long it is until there is a place.
    pub(super) async fn wait(&mut self, full: Full) -> Result<(), Duration> {
        let Some(ended) = full.ended else { return Err(full.wait) };
        tokio::select! {
            () = ended => Ok(()),
            () = &mut self.0 => Err(full.wait),
        }
    }
}

impl Taken {
    /// It was a failure.
    pub(super) fn keep(mut self) {
        self.is_kept = true;
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        let mut state = self.throttle.state();
        let State { sketch, under_way } = &mut *state;
        let Entry::Occupied(mut others) = under_way.entry(self.key) else { return };
        others.get_mut().count -= 1;
        let gives_back = match (self.raised, self.is_kept) {
            (Some(raised), false) => {
                sketch.lower(&self.key, raised);
                true
            }
            (Some(_), true) => false,
            (None, _) => true,
        };
        // One place is for one of those who wait. When nobody is under way any more, all of them hear that, whatever it
        // means for them: no more wake-ups than that, or a crowd that waits would cost more than one that is refused.
        if others.get().count == 0 {
            others.remove().ended.notify_waiters();
        } else if gives_back {
            others.get().ended.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv6_network_and_every_spelling_of_an_ipv4_address_are_one_address() {
        let of = |text: &str| Prefix::of(text.parse().unwrap());
        assert_eq!(of("2001:db8:1:2::1"), of("2001:db8:1:2:ffff:ffff:ffff:ffff"));
        assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
        assert_eq!(of("::ffff:192.0.2.7"), of("192.0.2.7"));
        assert_ne!(of("192.0.2.7"), of("192.0.2.8"));
    }
}
