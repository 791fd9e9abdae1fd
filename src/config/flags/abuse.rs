//! Flags against brute force and mass registration: rate limits, lockout, proof of work.

use std::{str::FromStr, time::Duration};

use clap::{Args, ValueEnum};

use super::{
    Switch,
    values::{duration_between, number_between},
};
use crate::domain::{ChallengeRules, Rate, RateLimitSettings, Work};

/// Rate limits, lockout and proof of work.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Abuse protection (rate limits, lockout, proof of work)")]
pub struct AbuseArgs {
    /// Rate limits of password attempts, registrations and calls of a session
    #[arg(long, env = "WATCHWORD_THROTTLE", value_name = "WHEN", default_value = "on")]
    pub throttle: Switch,

    /// Failed password attempts from one client address, at all accounts together
    #[arg(long, env = "WATCHWORD_THROTTLE_PER_ADDRESS", value_name = "RATE", default_value = "100/10m")]
    pub throttle_per_address: Rate,

    /// Failed password attempts at one account, from all addresses that have not logged in to it before
    #[arg(long, env = "WATCHWORD_THROTTLE_PER_ACCOUNT", value_name = "RATE", default_value = "10/5m")]
    pub throttle_per_account: Rate,

    /// Failed password attempts at one account from one client address, or in one session
    #[arg(long, env = "WATCHWORD_THROTTLE_PER_ADDRESS_AND_ACCOUNT", value_name = "RATE", default_value = "5/5m")]
    pub throttle_per_address_and_account: Rate,

    /// Failed password attempts with proof of work at one account; one client address may use a tenth of them. The work
    /// doubles with each 100
    #[arg(long, env = "WATCHWORD_THROTTLE_PROOF_OF_WORK_PER_ACCOUNT", value_name = "RATE", default_value = "1000/24h")]
    pub throttle_proof_of_work_per_account: Rate,

    /// Password attempts from one client address, right or wrong: each costs a hash
    #[arg(long, env = "WATCHWORD_THROTTLE_ATTEMPTS_PER_ADDRESS", value_name = "RATE", default_value = "1000/1m")]
    pub throttle_attempts_per_address: Rate,

    /// Password attempts at one account, right or wrong
    #[arg(long, env = "WATCHWORD_THROTTLE_ATTEMPTS_PER_ACCOUNT", value_name = "RATE", default_value = "300/1m")]
    pub throttle_attempts_per_account: Rate,

    /// Registrations from one client address, successful or not. With proof of work they are not limited
    #[arg(long, env = "WATCHWORD_THROTTLE_REGISTRATIONS", value_name = "RATE", default_value = "60/1h")]
    pub throttle_registrations: Rate,

    /// Calls of one session that change something: refreshes, and apart from them UpdateUserData and RevokeSession
    #[arg(long, env = "WATCHWORD_THROTTLE_PER_SESSION", value_name = "RATE", default_value = "120/1m")]
    pub throttle_per_session: Rate,

    /// Failed password attempts of all clients above which the log and a metric raise an alert
    #[arg(long, env = "WATCHWORD_FAILURE_ALERT", value_name = "RATE", default_value = "1000/1m")]
    pub failure_alert: Rate,

    /// Registrations of all clients above which the log and a metric raise an alert
    #[arg(long, env = "WATCHWORD_REGISTRATION_ALERT", value_name = "RATE", default_value = "1000/1h")]
    pub registration_alert: Rate,

    /// What is asked of calls without a client address and without a session during an alert, and at an account whose limit is
    /// used up. challenge: proof of work. alert: nothing more, so an account at its limit is closed for all of them. Calls with
    /// a client address are never refused by an alert
    #[arg(long, env = "WATCHWORD_FAILURE_ALERT_ACTION", value_name = "ACTION", default_value = "challenge")]
    pub failure_alert_action: AlertAction,

    /// Lockout threshold: consecutive failed attempts after which the password alone is refused, for one hour for each of them or
    /// until a new password or an unlock, except from familiar addresses or with proof of work (10 to 1000; NIST SP 800-63B: at
    /// most 100)
    #[arg(long, env = "WATCHWORD_FAILURE_CAP", value_name = "COUNT", default_value_t = 100,
          value_parser = |text: &str| number_between::<u32>(text, 10, 1_000))]
    pub failure_cap: u32,

    /// Lockout without exceptions and without end, as NIST SP 800-63B words it: until a new password or an unlock. Any client can
    /// then lock any user out
    #[arg(long, env = "WATCHWORD_FAILURE_CAP_STRICT")]
    pub failure_cap_strict: bool,

    /// Calls that require proof of work (ALTCHA), about one second in a browser. Challenges are issued with every value
    #[arg(long, env = "WATCHWORD_CHALLENGE", value_name = "CALLS", default_value = "off")]
    pub challenge: Challenge,
}

/// What an alert changes where no client address is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum AlertAction {
    /// Proof of work is required.
    Challenge,
    /// Nothing.
    Alert,
}

/// Which calls require proof of work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Challenge {
    /// None.
    Off,
    /// Registrations.
    Register,
    /// Logins.
    Login,
    /// Both.
    Both,
}

impl AbuseArgs {
    /// The rate limits; none when they are off.
    pub fn rate_limits(&self) -> Option<RateLimitSettings> {
        let settings = RateLimitSettings {
            per_address: self.throttle_per_address,
            per_account: self.throttle_per_account,
            per_address_and_account: self.throttle_per_address_and_account,
            proof_of_work_per_account: self.throttle_proof_of_work_per_account,
            attempts_per_address: self.throttle_attempts_per_address,
            attempts_per_account: self.throttle_attempts_per_account,
            registrations: self.throttle_registrations,
            per_session: self.throttle_per_session,
            alert: self.failure_alert,
            registration_alert: self.registration_alert,
            asks_unknown_for_work: self.failure_alert_action == AlertAction::Challenge,
            lockout_threshold: self.failure_cap,
            lockout_is_strict: self.failure_cap_strict,
        };
        (self.throttle == Switch::On).then_some(settings)
    }
}

// === text forms ===

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || "expected COUNT/TIME such as 10/5m: 1 to 1000000 in 1s to 24h".to_owned();
        let (events, period) = text.split_once('/').ok_or_else(expected)?;
        let events = events.parse().ok().filter(|events| (1..=1_000_000).contains(events)).ok_or_else(expected)?;
        let period =
            duration_between(period, Duration::from_secs(1), Duration::from_secs(86_400)).map_err(|_| expected())?;
        Ok(Self { events, period })
    }
}

impl From<Challenge> for ChallengeRules {
    fn from(calls: Challenge) -> Self {
        let (register, login) = match calls {
            Challenge::Off => (false, false),
            Challenge::Register => (true, false),
            Challenge::Login => (false, true),
            Challenge::Both => (true, true),
        };
        Self { register, login, work: Work::DEFAULT }
    }
}
