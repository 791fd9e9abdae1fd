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
    limiter::{LimitRequest, RateLimiter, from_address},
};
use crate::domain::{
    error::Limit,
    model::{ByEvidence, ConsecutiveFailures, Evidence, IpPrefix, SessionId, UsernameHash},
};

/// The limits that operators set.
#[derive(Debug, Clone, Copy)]
pub struct RateLimitSettings {
    /// Failed attempts of one client address, at any account.
    pub per_address: Rate,
    /// Failed attempts at one account, from unfamiliar addresses.
    pub per_account: Rate,
    /// Failed attempts of one address, or one session, at one account.
    pub per_address_and_account: Rate,
    /// Failed attempts with proof of work at one account. One address may use a tenth of them.
    pub proof_of_work_per_account: Rate,
    /// Attempts of one client address, right or wrong.
    pub attempts_per_address: Rate,
    /// Attempts at one account, right or wrong.
    pub attempts_per_account: Rate,
    /// Registrations from one address, whatever their outcome.
    pub registrations: Rate,
    /// Calls of one session that change something.
    pub per_session: Rate,
    /// Failed attempts of all clients. Beyond it operators are alerted.
    pub alert: Rate,
    /// Registrations of all clients. Beyond it operators are alerted.
    pub registration_alert: Rate,
    /// Whether calls without a client address and without a session need proof of work while there is an alert, and where
    /// the limit of the account is used up. Calls with an address never do: one botnet would stop all logins.
    pub asks_unknown_for_work: bool,
    /// Lockout threshold: consecutive failed attempts after which the password alone no longer opens an account.
    pub lockout_threshold: u32,
    /// Whether a lockout also applies to familiar addresses and to proof of work.
    pub lockout_is_strict: bool,
}

impl RateLimitSettings {
    /// The limit of an account on failed attempts with this evidence, which all nodes share.
    pub(in crate::domain) fn at_account(&self, evidence: Evidence) -> Option<Rate> {
        match evidence {
            Evidence::None => Some(self.per_account),
            // Each address and each session has a limit of its own, and together they have the lockout threshold.
            Evidence::Familiar => None,
            Evidence::ProofOfWork => Some(self.proof_of_work_per_account),
        }
    }

    /// How many attempts with this evidence may still fail before the lockout, after so many consecutive failed ones that are not
    /// forgotten. `None`: they lock nothing.
    pub(in crate::domain) fn left_before_lockout(&self, failures: &ByEvidence<u32>, evidence: Evidence) -> Option<u32> {
        let count = match (self.lockout_is_strict, evidence) {
            (true, _) => failures.total(),
            (false, Evidence::None | Evidence::Familiar) => *failures.of(evidence),
            // Its price grows instead.
            (false, Evidence::ProofOfWork) => return None,
        };
        Some(self.lockout_threshold.saturating_sub(count))
    }

    /// Whether so many consecutive failed attempts lock the account for attempts with this evidence.
    pub(in crate::domain) fn is_locked(&self, failures: &ConsecutiveFailures, evidence: Evidence) -> bool {
        let is_locked_for_ever = self.lockout_is_strict && failures.lasting >= self.lockout_threshold;
        is_locked_for_ever || self.left_before_lockout(&failures.by_evidence, evidence) == Some(0)
    }
}

/// What is limited. Each key has a GCRA state of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(in crate::domain) enum RateLimitKey {
    /// Failed attempts without evidence.
    FailuresFrom(IpPrefix),
    /// Failed attempts of an address at an account, without proof of work.
    FailuresFromAt(IpPrefix, UsernameHash),
    /// The same of a session.
    FailuresInSession(SessionId),
    /// Failed attempts at an account, whose GCRA state is in the store.
    FailuresAt(UsernameHash, Evidence),
    /// Failed attempts of an address with proof of work at an account.
    ProofOfWorkFailuresFromAt(IpPrefix, UsernameHash),
    /// Attempts at an account that are in flight: bounded in number, not in time.
    InFlight(UsernameHash, Evidence),
    /// All attempts.
    AttemptsFrom(IpPrefix),
    AttemptsAt(UsernameHash),
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
    ResetCodesAt(IpPrefix, UsernameHash),
    /// Wrong client secrets, by peer. `None` for peers on a Unix socket.
    ClientSecrets(Option<IpPrefix>),
    /// Of all clients together.
    Total(Total),
}

/// What is counted over all clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(in crate::domain) enum Total {
    /// Failed attempts, and alerts about them.
    Failures,
    FailureAlerts,
    /// Failed attempts whose source is unknown.
    FailuresWithoutSource,
    /// Registrations, and alerts about them.
    Registrations,
    RegistrationAlerts,
}

/// The cells in a row of the sketch of each table. Failed attempts and registrations of addresses, which botnets cause, have the
/// largest.
const TABLES: [usize; 11] =
    [1 << 18, 1 << 18, 1 << 16, 1 << 16, 1 << 16, 1 << 18, 1 << 16, 1 << 16, 1 << 16, 1 << 16, 1 << 8];

impl RateLimitKey {
    /// The limit, as errors name it.
    pub(in crate::domain) fn limit(&self) -> Limit {
        match self {
            Self::FailuresFrom(_) | Self::ResetCodes(_) | Self::Total(_) => Limit::Address,
            Self::FailuresFromAt(..) | Self::FailuresInSession(_) | Self::ResetCodesAt(..) => Limit::AddressAndAccount,
            Self::FailuresAt(_, Evidence::None | Evidence::Familiar) | Self::InFlight(..) => Limit::Account,
            Self::FailuresAt(_, Evidence::ProofOfWork) | Self::ProofOfWorkFailuresFromAt(..) => Limit::ProofOfWork,
            Self::AttemptsFrom(_) => Limit::AddressAttempts,
            Self::AttemptsAt(_) => Limit::AccountAttempts,
            Self::Registrations(_) => Limit::Registrations,
            Self::SessionChanges(_) | Self::SessionRefreshes(_) | Self::RefreshTokenUses(_) => Limit::Session,
            Self::ClientSecrets(_) => Limit::ClientSecrets,
        }
    }

    /// The table of its GCRA state. A kind of limit disturbs no other.
    fn table(&self) -> usize {
        match self {
            Self::FailuresFrom(_) => 0,
            Self::FailuresFromAt(..) | Self::FailuresInSession(_) => 1,
            Self::ProofOfWorkFailuresFromAt(..) => 2,
            Self::AttemptsFrom(_) => 3,
            // `FailuresAt` and `InFlight` have no state in a table.
            Self::AttemptsAt(_) | Self::FailuresAt(..) | Self::InFlight(..) => 4,
            Self::Registrations(_) => 5,
            Self::SessionChanges(_) | Self::SessionRefreshes(_) => 6,
            Self::RefreshTokenUses(_) => 7,
            Self::ResetCodes(_) | Self::ResetCodesAt(..) => 8,
            Self::ClientSecrets(_) => 9,
            // A few keys, which no client chooses.
            Self::Total(_) => 10,
        }
    }
}
