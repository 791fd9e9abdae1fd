//! Rate limits in the memory of this node: per client address, per account, for both together, and per session.
//!
//! Takes a fixed amount of memory, whatever the number of keys. A call reserves before the factor is verified, and the
//! reservation counts only if the attempt failed; so attempts side by side get no more than attempts in a row. Does not
//! know what other nodes count: that is `failure_counter.rs`. Sources: NIST SP 800-63B-4 3.2.2, ASVS 5.0 6.1.1 and 6.3.1.

mod gcra;
mod in_flight;
mod limiter;
mod sketch;

pub use self::gcra::Rate;
pub(in crate::domain) use self::{
    in_flight::{Exceeded, LimitRefusal, Reservation},
    limiter::{LimitRequest, RateLimiter},
};
use crate::domain::model::{IpPrefix, SessionId, UsernameHash};

/// The limits that operators set.
#[derive(Debug, Clone, Copy)]
pub struct RateLimitSettings {
    /// Failed attempts of one client address, at any account.
    pub per_address: Rate,
    /// Failed attempts at one account, from unfamiliar addresses.
    pub per_account: Rate,
    /// Failed attempts of one address, or one session, at one account.
    pub per_address_and_account: Rate,
    /// Registrations from one address, whatever their outcome.
    pub registrations: Rate,
    /// Calls of one session that change something.
    pub per_session: Rate,
    /// Failed attempts of all clients. Beyond it operators are alerted and no call is refused: one botnet would stop all
    /// logins.
    pub alert: Rate,
    /// Lockout threshold: consecutive failed attempts after which the password alone no longer opens an account.
    pub lockout_threshold: u32,
    /// Whether a lockout also applies to familiar addresses.
    pub lockout_is_strict: bool,
}

/// Where an attempt comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(in crate::domain) enum AttemptSource {
    Address(IpPrefix),
    /// An authenticated user, who shows the password again.
    Session(SessionId),
}

/// What is limited. Each key has a GCRA state of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(in crate::domain) enum RateLimitKey {
    Address(IpPrefix),
    Account(UsernameHash),
    AddressAndAccount(AttemptSource, UsernameHash),
    /// Attempts at an account that are in flight, from all sources: bounded in number, not in time.
    InFlight(UsernameHash),
    /// Attempts at an account with proof of work.
    ProofOfWork(UsernameHash),
    Registrations(IpPrefix),
    /// Calls with an access token of a session that change something.
    SessionChanges(SessionId),
    /// Refreshes of a session that exchange its token. The thief of an access token uses up nothing of this limit.
    SessionRefreshes(SessionId),
    /// Calls with one refresh token, by the hash of its secret. A holder of an older or a made-up token uses up nothing of the
    /// limit of the session.
    RefreshTokenUses([u8; 32]),
    /// Wrong reset codes, which use up nothing of the limits on passwords.
    ResetCodes(IpPrefix),
    ResetCodesAtAccount(IpPrefix, UsernameHash),
    /// Wrong client secrets, by peer. `None` for peers on a Unix socket.
    ClientSecrets(Option<IpPrefix>),
    /// Failed attempts of all clients.
    AllFailures,
    /// Alerts that were sent about them.
    AlertsSent,
}
