//! Keeps guessing slow: per end user's address, per account, and for both together.
//!
//! Decides from this node's memory, in a fixed amount of it; what outlives the node and is shared by all is `failures.rs`.
//! A call takes its place before the password is looked at and gives it back unless the password was wrong, so calls that
//! run side by side get no more guesses than calls in a row. Sources: NIST SP 800-63B-4 3.2.2, ASVS 5.0 6.1.1 and 6.3.1.

mod rate;
mod sketch;

use std::{
    collections::HashMap,
    net::IpAddr,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{Notify, futures::Notified},
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
    /// Something that was under way has ended.
    ended: Notify,
    clock: Arc<dyn Clock>,
}

struct State {
    sketch: Sketch,
    /// Calls that have taken a place and are not over: as many as may wait for a hash, and each has a few.
    under_way: HashMap<Key, u32>,
}

/// A place in a backlog. Dropped, it is given back.
#[must_use]
pub(super) struct Taken {
    throttle: Arc<Throttle>,
    key: Key,
    /// What the place takes of the backlog, unless it is kept.
    raised: Option<Raised>,
}

/// No place in a backlog.
pub(super) struct Full {
    /// Until there is one.
    pub(super) wait: Duration,
    /// So many of those who have one are under way: any of them may give it back.
    pub(super) others: u32,
}

/// What is left of the time that a call waits for others.
pub(super) struct Patience(Pin<Box<Sleep>>);

/// It is over.
pub(super) struct Impatient;

impl Throttle {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        let state = State { sketch: Sketch::new(clock.monotonic()), under_way: HashMap::new() };
        Self { state: Mutex::new(state), ended: Notify::new(), clock }
    }

    /// Takes a place in the backlog of `key`; or answers how long it is until there is one.
    pub(super) async fn take(self: &Arc<Self>, key: Key, rate: Rate) -> Result<Taken, Duration> {
        let mut patience = self.patience();
        loop {
            let ended = self.ended();
            match self.try_take(key, rate, Duration::ZERO) {
                Ok(taken) => return Ok(taken),
                Err(Full { others: 0, wait }) => return Err(wait),
                Err(Full { wait, .. }) => patience.wait(ended).await.map_err(|Impatient| wait)?,
            }
        }
    }

    /// Takes a place at once in a backlog that is at least `known` long.
    pub(super) fn try_take(self: &Arc<Self>, key: Key, rate: Rate, known: Duration) -> Result<Taken, Full> {
        self.take_in(&mut self.state(), key, rate, known)
    }

    /// The same where no more than `most` may be under way, whatever their rate; without a rate that is all. Answers the
    /// places, and how many are under way with this one.
    pub(super) fn try_take_among(
        self: &Arc<Self>,
        all: Key,
        most: u32,
        limited: Option<(Key, Rate, Duration)>,
    ) -> Result<(Vec<Taken>, u32), Full> {
        let mut state = self.state();
        let others = state.under_way(&all);
        if others >= most {
            return Err(Full { wait: SOON, others });
        }
        let limited = limited.map(|(key, rate, known)| self.take_in(&mut state, key, rate, known)).transpose()?;
        let among = self.taken(&mut state, all, None);
        Ok((limited.into_iter().chain([among]).collect(), others + 1))
    }

    fn take_in(self: &Arc<Self>, state: &mut State, key: Key, rate: Rate, known: Duration) -> Result<Taken, Full> {
        let now = self.clock.monotonic();
        let backlog = state.sketch.backlog(&key, now).max(known);
        if let Some(wait) = rate.wait(backlog) {
            return Err(Full { wait, others: state.under_way(&key) });
        }
        let raised = state.sketch.raise(&key, now, backlog + rate.share());
        Ok(self.taken(state, key, Some(raised)))
    }

    fn taken(self: &Arc<Self>, state: &mut State, key: Key, raised: Option<Raised>) -> Taken {
        *state.under_way.entry(key).or_default() += 1;
        Taken { throttle: self.clone(), key, raised }
    }

    /// The next end of something that is under way now.
    pub(super) fn ended(&self) -> Pin<Box<Notified<'_>>> {
        let mut ended = Box::pin(self.ended.notified());
        ended.as_mut().enable();
        ended
    }

    /// How long one call waits for others.
    pub(super) fn patience(&self) -> Patience {
        Patience(Box::pin(tokio::time::sleep(OTHERS_WAIT_MAX)))
    }

    /// Counts one more for `key` if there is room; otherwise says that there is none.
    pub(super) fn count(self: &Arc<Self>, key: Key, rate: Rate) -> Result<(), Duration> {
        self.try_take(key, rate, Duration::ZERO).map(Taken::keep).map_err(|full| full.wait)
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
    fn under_way(&self, key: &Key) -> u32 {
        self.under_way.get(key).copied().unwrap_or(0)
    }
}

impl Patience {
    /// Waits for an end.
    pub(super) async fn wait(&mut self, ended: Pin<Box<Notified<'_>>>) -> Result<(), Impatient> {
        tokio::select! {
            () = ended => Ok(()),
            () = &mut self.0 => Err(Impatient),
        }
    }
}

impl Taken {
    /// It was a failure.
    pub(super) fn keep(mut self) {
        self.raised = None;
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        let mut state = self.throttle.state();
        if let Some(raised) = self.raised {
            state.sketch.lower(&self.key, raised);
        }
        if let Some(others) = state.under_way.get_mut(&self.key) {
            *others -= 1;
            if *others == 0 {
                state.under_way.remove(&self.key);
            }
        }
        drop(state);
        self.throttle.ended.notify_waiters();
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
