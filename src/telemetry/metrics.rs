//! Counts what happens, for Prometheus to fetch from the ops door.
//!
//! Hears every event first and passes it on. No label holds a name, an address or anything else that a caller chooses.

use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram, info::Info},
    registry::{Registry, Unit},
};

use crate::domain::{Alarm, Event, Observer, Refusal, StoreError};

/// Bounds of the histograms in seconds: fine around what a hash takes, coarse where a caller has given up.
const SECONDS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.015, 0.02, 0.03, 0.05, 0.1, 0.3, 1.0, 5.0];

/// All counters of one node.
pub struct Metrics {
    then: Arc<dyn Observer>,
    registry: Registry,
    logins: Family<Outcome, Counter>,
    registrations: Family<Outcome, Counter>,
    refreshes: Family<Outcome, Counter>,
    store_failures: Family<Outcome, Counter>,
    challenges: Family<Outcome, Counter>,
    challenge_checks: Counter,
    shed: Counter,
    rate_limited: Family<Named, Counter>,
    locks: Counter,
    many_failures: Counter,
    hash: Histogram,
    queued: Histogram,
    store_up: Gauge,
    store_alarms: Family<Setting, Gauge>,
    /// Held while a page is made, so that two at once do not mix.
    page: Mutex<()>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Named {
    limit: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Setting {
    setting: &'static str,
}

impl Metrics {
    /// The media type of a page.
    pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

    /// Counts events before `then` hears them.
    pub fn before(then: Arc<dyn Observer>) -> Self {
        let mut registry = Registry::with_prefix("watchword");
        let (logins, registrations) = (Family::default(), Family::default());
        let (refreshes, store_failures) = (Family::default(), Family::default());
        let (shed, store_up, store_alarms) = (Counter::default(), Gauge::default(), Family::default());
        let (challenges, challenge_checks) = (Family::default(), Counter::default());
        let (rate_limited, locks, many_failures) = (Family::default(), Counter::default(), Counter::default());
        registry.register(
            "rate_limited",
            "Calls that a limit on guessing or registering refused",
            rate_limited.clone(),
        );
        registry.register("failure_caps", "Names that reached --failure-cap", locks.clone());
        let help = "Wrong passwords beyond --failure-alert, for which no call was refused";
        registry.register("failures_over_alert", help, many_failures.clone());
        let (hash, queued) = (Histogram::new(SECONDS), Histogram::new(SECONDS));
        registry.register("build", "The version that runs", Info::new([("version", env!("CARGO_PKG_VERSION"))]));
        registry.register("logins", "Logins by outcome", logins.clone());
        registry.register("registrations", "Registrations by outcome", registrations.clone());
        registry.register("refreshes", "Refresh tokens by what became of them", refreshes.clone());
        registry.register("store_failures", "Calls that the store failed, by outcome", store_failures.clone());
        registry.register("challenges", "Challenges of proof of work by what became of them", challenges.clone());
        let help = "Proofs of work whose key was derived";
        registry.register("challenge_checks", help, challenge_checks.clone());
        registry.register("shed", "Calls turned away because the hash queue was full", shed.clone());
        registry.register_with_unit("hash", "What one password hash took", Unit::Seconds, hash.clone());
        registry.register_with_unit("hash_queue", "How long a hash waited for a worker", Unit::Seconds, queued.clone());
        registry.register("store_up", "1 while the store answers", store_up.clone());
        let help = "1 while this setting must be mended; /readyz says why";
        registry.register("store_alarm", help, store_alarms.clone());
        let page = Mutex::default();
        Self {
            then,
            registry,
            logins,
            registrations,
            refreshes,
            store_failures,
            challenges,
            challenge_checks,
            shed,
            rate_limited,
            locks,
            many_failures,
            hash,
            queued,
            store_up,
            store_alarms,
            page,
        }
    }

    /// The page that Prometheus fetches.
    pub fn page(&self, store_up: bool, alarms: &[Alarm]) -> String {
        let _page = self.page.lock().unwrap_or_else(PoisonError::into_inner);
        self.store_up.set(store_up.into());
        self.store_alarms.clear();
        for alarm in alarms {
            self.store_alarms.get_or_create(&Setting { setting: alarm.setting }).set(1);
        }
        let mut text = String::new();
        encode(&mut text, &self.registry).expect("a string takes any text");
        text
    }

    fn count(&self, event: &Event<'_>) {
        let (counters, outcome) = match event {
            Event::Registered { .. } => (&self.registrations, "ok"),
            Event::RegistrationRepeated { .. } => (&self.registrations, "repeated"),
            Event::NameTaken { .. } => (&self.registrations, "name_taken"),
            Event::LoggedIn { .. } => (&self.logins, "ok"),
            Event::LoginRefused { why: Refusal::UnknownUser, .. } => (&self.logins, "unknown_user"),
            Event::LoginRefused { why: Refusal::WrongPassword(_), .. } => (&self.logins, "wrong_password"),
            Event::LoginRefused { why: Refusal::NoPassword(_), .. } => (&self.logins, "no_password"),
            Event::LoginRefused { why: Refusal::Disabled(_), .. } => (&self.logins, "disabled"),
            Event::LoginRefused { why: Refusal::Locked(_), .. } => (&self.logins, "locked"),
            Event::RateLimited { limit, .. } => {
                self.rate_limited.get_or_create(&Named { limit: limit.name() }).inc();
                return;
            }
            Event::FailureCapReached { .. } => {
                self.locks.inc();
                return;
            }
            Event::ManyFailures => {
                self.many_failures.inc();
                return;
            }
            Event::TokenRefreshed { again: false, .. } => (&self.refreshes, "ok"),
            Event::TokenRefreshed { again: true, .. } => (&self.refreshes, "repeated"),
            Event::TokenReused { .. } => (&self.refreshes, "reused"),
            // Whoever calls with bad tokens shall not fill a page of counters; the audit has them at debug.
            Event::TokenRefused { .. }
            | Event::ClientRefused { .. }
            | Event::SessionEnded { .. }
            | Event::AllSessionsEnded { .. }
            | Event::PasswordChanged { .. }
            | Event::PasswordRehashed { .. }
            | Event::PasswordNotShown { .. }
            | Event::UserChanged { .. }
            | Event::UserDeleted { .. }
            | Event::UserDisabled { .. }
            | Event::SigningKeyRotated { .. } => return,
            Event::StoreFailed { error: StoreError::Unavailable } => (&self.store_failures, "unavailable"),
            Event::StoreFailed { error: StoreError::OutcomeUnknown } => (&self.store_failures, "outcome_unknown"),
            Event::StoreFailed { error: StoreError::Corrupt(_) } => (&self.store_failures, "corrupt_record"),
            Event::ChallengeCreated { .. } => (&self.challenges, "created"),
            Event::ChallengeMissing { .. } => (&self.challenges, "missing"),
            Event::ChallengeRefused { why, .. } => (&self.challenges, why.name()),
            Event::ChallengeAccepted { .. } => (&self.challenges, "accepted"),
            // Accepted or refused follows.
            Event::ChallengeSpent { .. } => return,
            Event::ChallengeChecked { .. } => {
                self.challenge_checks.inc();
                return;
            }
            Event::Overloaded { .. } => {
                self.shed.inc();
                return;
            }
            Event::Hashed { queued, took } => {
                self.queued.observe(queued.as_secs_f64());
                self.hash.observe(took.as_secs_f64());
                return;
            }
        };
        counters.get_or_create(&Outcome { outcome }).inc();
    }
}

impl Observer for Metrics {
    fn on(&self, event: &Event<'_>) {
        self.count(event);
        self.then.on(event);
    }
}
