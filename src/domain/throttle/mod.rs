//! Keeps guessing slow: per end user's address, per account, and for both together.
//!
//! Decides from this node's memory, in a fixed amount of it; what outlives the node and is shared by all is `failures.rs`.
//! A call takes its place before the password is looked at, and the place becomes part of the backlog only when the password
//! was wrong; so calls that run side by side get no more guesses than calls in a row. Sources: NIST SP 800-63B-4 3.2.2, ASVS 5.0 6.1.1 and 6.3.1.

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
use self::sketch::Sketch;
use super::{Clock, SessionId, failures::UsernameHash};

/// How long a call waits for others of its key that are under way, of which any may turn out to be no failure.
const OTHERS_WAIT_MAX: Duration = Duration::from_millis(300);

/// Calls that wait for others of one key; those beyond it are refused.
const WAITING_MAX: usize = 64;

/// When to come back where as many are under way as may be.
const SOON: Duration = Duration::from_secs(1);

/// How much guessing is let through.
#[derive(Debug, Clone, Copy)]
pub struct RateLimitSettings {
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
    Account(UsernameHash),
    AddressAndAccount(Place, UsernameHash),
    /// Guesses at an account, from wherever: counted, not limited in time.
    Guesses(UsernameHash),
    /// Those that were paid for.
    Paid(UsernameHash),
    Registrations(Prefix),
    /// Wrong reset codes, which use up nothing of the passwords'.
    Codes(Prefix),
    CodesAtAccount(Prefix, UsernameHash),
    Everybody,
    /// That operators were told of everybody.
    ConfigurationWarning,
}

/// The backlogs of this node.
pub(super) struct RateLimiter {
    state: Mutex<State>,
    clock: Arc<dyn Clock>,
}

struct State {
    sketch: Sketch,
    /// Calls that have taken a place and are not over; each has a few.
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
    throttle: Arc<RateLimiter>,
    key: Key,
    /// The rate of a key whose backlog is remembered here.
    rate: Option<Rate>,
    is_kept: bool,
}

/// What a place is asked for in.
pub(super) struct Backlog {
    pub(super) key: Key,
    pub(super) rate: Rate,
    /// Where it is remembered elsewhere: how long it is, without those who are under way.
    pub(super) known: Option<Duration>,
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

impl RateLimiter {
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
        self.take_in(&mut self.state(), Backlog { key, rate, known: None })
    }

    /// Takes a place in a backlog where no more than `most` of `all` may be under way; without a backlog that is all.
    pub(super) fn try_take_among(
        self: &Arc<Self>,
        all: Key,
        most: u32,
        backlog: Option<Backlog>,
    ) -> Result<Vec<Taken>, Full> {
        let mut state = self.state();
        if state.count_under_way(&all) >= most {
            return Err(state.full(&all, SOON));
        }
        let limited = backlog.map(|backlog| self.take_in(&mut state, backlog)).transpose()?;
        let among = self.taken(&mut state, all, None);
        Ok(limited.into_iter().chain([among]).collect())
    }

    fn take_in(self: &Arc<Self>, state: &mut State, Backlog { key, rate, known }: Backlog) -> Result<Taken, Full> {
        let kept = known.unwrap_or_else(|| state.sketch.backlog(&key, self.clock.monotonic()));
        let under_way = rate.share().saturating_mul(state.count_under_way(&key));
        if let Some(wait) = rate.wait(kept.saturating_add(under_way)) {
            return Err(state.full(&key, wait));
        }
        Ok(self.taken(state, key, known.is_none().then_some(rate)))
    }

    fn taken(self: &Arc<Self>, state: &mut State, key: Key, rate: Option<Rate>) -> Taken {
        state.under_way.entry(key).or_default().count += 1;
        Taken { throttle: self.clone(), key, rate, is_kept: false }
    }

    /// Counts one more for `key` if there is room; otherwise answers how long it is until there is.
    pub(super) fn count(self: &Arc<Self>, key: Key, rate: Rate) -> Result<(), Duration> {
        self.try_take(key, rate).map(Taken::keep).map_err(|full| full.wait)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn count_under_way(&self, key: &Key) -> u32 {
        self.under_way.get(key).map_or(0, |others| others.count)
    }

    fn full(&self, key: &Key, wait: Duration) -> Full {
        // Whoever waits has a share in it.
        let others = self.under_way.get(key).filter(|others| Arc::strong_count(&others.ended) <= WAITING_MAX);
        let ended = others.map(|others| {
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
        if let (Some(rate), true) = (self.rate, self.is_kept) {
            let now = self.throttle.clock.monotonic();
            let backlog = sketch.backlog(&self.key, now);
            sketch.raise(&self.key, now, backlog + rate.share());
        }
        // A place that is given back is for one of those who wait. When nobody is under way any more all of them hear that,
        // whatever it means for them: no more wake-ups than that, or a crowd that waits would cost more than one that is
        // refused.
        if others.get().count == 0 {
            others.remove().ended.notify_waiters();
        } else if !self.is_kept {
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
