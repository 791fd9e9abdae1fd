//! Counts what happens, for Prometheus to fetch from the ops door.
//!
//! Hears every event first and passes it on. No label holds a name, an address or anything else that a caller chooses.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram, info::Info},
    registry::{Registry, Unit},
};

use super::Audit;
use crate::domain::{ConfigurationWarning, Event, Observer, StoreError};

/// Bounds of the histograms of hashes in seconds: fine around what a hash takes, coarse where a caller has given up.
const SECONDS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.015, 0.02, 0.03, 0.05, 0.1, 0.3, 1.0, 5.0];

/// Bounds of the histograms of calls in seconds: OpenTelemetry's, and finer ones below a millisecond, where checks of tokens
/// are, and around a hash.
const CALL_SECONDS: [f64; 22] = [
    0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.015, 0.02, 0.025, 0.03, 0.05, 0.075, 0.1,
    0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 10.0,
];

/// All counters of one node.
pub struct Metrics {
    then: Arc<Audit>,
    registry: Registry,
    logins: Counters,
    registrations: Counters,
    refreshes: Counters,
    password_resets: Counters,
    store_failures: Counters,
    shed: Counters,
    limited: Counters,
    failure_caps: Counter,
    many_failures: Counter,
    challenges: Counters,
    challenge_checks: Counter,
    hash: Histogram,
    queued: Histogram,
    calls: Family<Call, Histogram, fn() -> Histogram>,
    requests: Family<Request, Histogram, fn() -> Histogram>,
    hash_queue_depth: Gauge,
    audit_up: Gauge,
    store_up: Gauge,
    store_alarms: Family<Setting, Gauge>,
    /// Held while a page is made, so that two at once do not mix.
    page: Mutex<()>,
}

/// What a page shows that is not counted but is so now.
#[derive(Debug)]
pub struct Now<'a> {
    /// Whether the store answers.
    pub store_up: bool,
    /// What is wrong with its settings.
    pub alarms: &'a [ConfigurationWarning],
    /// Whether the audit is written, and no line was lost since the last one that was.
    pub audit_up: bool,
    /// Hashes that wait for a worker.
    pub hash_queue_depth: usize,
}

/// Counters that differ in the value of one label.
struct Counters {
    label: &'static str,
    by_value: Family<[(&'static str, &'static str); 1], Counter>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Setting {
    setting: &'static str,
}

/// The labels of a gRPC call, as OpenTelemetry names them.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Call {
    rpc_method: &'static str,
    rpc_status_code: &'static str,
    rpc_system_name: &'static str,
}

/// The labels of an HTTP request, as OpenTelemetry names them.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Request {
    http_route: &'static str,
    http_request_method: &'static str,
    http_response_status_code: u32,
}

// === impl Metrics ===

impl Metrics {
    /// The media type of a page.
    pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

    /// Counts events before `then` hears them.
    pub fn before(then: Arc<Audit>) -> Self {
        let mut metrics = Self {
            then,
            registry: Registry::default(),
            logins: Counters::by("outcome", &["ok", "refused"]),
            registrations: Counters::by("outcome", &["ok", "repeated", "name_taken"]),
            refreshes: Counters::by("outcome", &["ok", "repeated", "reused"]),
            password_resets: Counters::by("outcome", &["ok", "refused"]),
            store_failures: Counters::by("outcome", &["unavailable", "outcome_unknown", "corrupt_record"]),
            shed: Counters::by("reason", &["hash_queue"]),
            limited: Counters::by("limit", &["address", "account", "address_and_account", "registrations"]),
            failure_caps: Counter::default(),
            many_failures: Counter::default(),
            challenges: Counters::by("outcome", &["created", "missing", "accepted"]),
            challenge_checks: Counter::default(),
            hash: Histogram::new(SECONDS),
            queued: Histogram::new(SECONDS),
            calls: Family::new_with_constructor(|| Histogram::new(CALL_SECONDS)),
            requests: Family::new_with_constructor(|| Histogram::new(CALL_SECONDS)),
            hash_queue_depth: Gauge::default(),
            audit_up: Gauge::default(),
            store_up: Gauge::default(),
            store_alarms: Family::default(),
            page: Mutex::default(),
        };
        metrics.register();
        metrics
    }

    /// Gives everything the name under which a page shows it. docs/reference/metrics.md is compared with this by a test.
    fn register(&mut self) {
        let calls = "gRPC calls, until their status was sent, by method and status";
        self.registry.register_with_unit("rpc_server_call_duration", calls, Unit::Seconds, self.calls.clone());
        let requests = "HTTP requests, until their answer was ready, by route, method and status";
        self.registry.register_with_unit(
            "http_server_request_duration",
            requests,
            Unit::Seconds,
            self.requests.clone(),
        );
        let own = self.registry.sub_registry_with_prefix("watchword");
        own.register("build", "The version that runs", Info::new([("version", env!("CARGO_PKG_VERSION"))]));
        let mut count = |name, help, counters: &Counters| own.register(name, help, counters.by_value.clone());
        count("logins", "Logins by outcome", &self.logins);
        count("registrations", "Registrations by outcome", &self.registrations);
        count("refreshes", "Refresh tokens by what became of them", &self.refreshes);
        count("password_resets", "New passwords by reset codes, by outcome", &self.password_resets);
        count("store_failures", "Calls that the store failed, by outcome", &self.store_failures);
        count("shed", "Calls turned away before any work, by reason", &self.shed);
        count("rate_limited", "Calls that a limit on guessing or registering refused", &self.limited);
        count("challenges", "Challenges of proof of work by what became of them", &self.challenges);
        let help = "Keys of proof of work that were derived; what is refused before costs none";
        own.register("challenge_checks", help, self.challenge_checks.clone());
        own.register("failure_caps", "Names that reached --failure-cap", self.failure_caps.clone());
        let help = "Wrong passwords beyond --failure-alert, for which no call was refused";
        own.register("failures_over_alert", help, self.many_failures.clone());
        own.register_with_unit("hash", "What one password hash took", Unit::Seconds, self.hash.clone());
        own.register_with_unit("hash_queue", "How long a hash waited for a worker", Unit::Seconds, self.queued.clone());
        own.register("hash_queue_depth", "Hashes that wait for a worker", self.hash_queue_depth.clone());
        own.register("audit_dropped", "Events that the audit lost", self.then.dropped().clone());
        own.register("audit_up", "1 while the audit is written and loses nothing", self.audit_up.clone());
        own.register("store_up", "1 while the store answers", self.store_up.clone());
        let help = "1 while this setting must be mended; /readyz says why";
        own.register("store_alarm", help, self.store_alarms.clone());
    }

    /// The page that Prometheus fetches.
    pub fn page(&self, now: &Now<'_>) -> String {
        let _page = self.page.lock().unwrap_or_else(PoisonError::into_inner);
        self.store_up.set(now.store_up.into());
        self.audit_up.set(now.audit_up.into());
        self.hash_queue_depth.set(i64::try_from(now.hash_queue_depth).unwrap_or(i64::MAX));
        self.store_alarms.clear();
        for alarm in now.alarms {
            self.store_alarms.get_or_create(&Setting { setting: alarm.setting }).set(1);
        }
        let mut text = String::new();
        encode(&mut text, &self.registry).expect("a string takes any text");
        text
    }

    fn count(&self, event: &Event<'_>) {
        let (counters, value) = match event {
            Event::Registered { .. } => (&self.registrations, "ok"),
            Event::RegistrationRepeated { .. } => (&self.registrations, "repeated"),
            Event::NameTaken { .. } => (&self.registrations, "name_taken"),
            Event::LoggedIn { .. } => (&self.logins, "ok"),
            // Why is for the audit: whoever reads the counters while he tries a name must not learn whether somebody has it.
            Event::LoginRefused { .. } => (&self.logins, "refused"),
            Event::RateLimited { limit, .. } => (&self.limited, limit.name()),
            Event::ChallengeCreated { .. } => (&self.challenges, "created"),
            Event::ChallengeMissing { .. } => (&self.challenges, "missing"),
            Event::ChallengeRefused { why, .. } => (&self.challenges, why.name()),
            Event::ChallengeAccepted { .. } => (&self.challenges, "accepted"),
            Event::ChallengeChecked { .. } => {
                self.challenge_checks.inc();
                return;
            }
            Event::LockoutThresholdReached { .. } => {
                self.failure_caps.inc();
                return;
            }
            Event::FailureAlert => {
                self.many_failures.inc();
                return;
            }
            Event::PasswordReset { .. } => (&self.password_resets, "ok"),
            Event::PasswordResetRefused { .. } => (&self.password_resets, "refused"),
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
            | Event::ChallengeSpent { .. }
            | Event::ReauthenticationFailed { .. }
            | Event::UserChanged { .. }
            | Event::UserDeleted { .. }
            | Event::AdminActed { .. }
            | Event::SigningKeyRotated { .. } => return,
            Event::StoreFailed { error: StoreError::Unavailable } => (&self.store_failures, "unavailable"),
            Event::StoreFailed { error: StoreError::OutcomeUnknown } => (&self.store_failures, "outcome_unknown"),
            Event::StoreFailed { error: StoreError::Corrupt(_) } => (&self.store_failures, "corrupt_record"),
            Event::Overloaded { .. } => (&self.shed, "hash_queue"),
            Event::Hashed { queued, took } => {
                self.hash.observe(took.as_secs_f64());
                self.queued.observe(queued.as_secs_f64());
                return;
            }
            Event::CallEnded { method, code, took } => {
                let call = Call { rpc_method: method, rpc_status_code: code, rpc_system_name: "grpc" };
                self.calls.get_or_create(&call).observe(took.as_secs_f64());
                return;
            }
            Event::RequestEnded { route, method, status, took } => {
                return self.count_request(route, method, *status, *took);
            }
        };
        counters.add_one(value);
    }

    fn count_request(&self, route: &'static str, method: &'static str, status: u16, took: Duration) {
        let request =
            Request { http_route: route, http_request_method: method, http_response_status_code: status.into() };
        self.requests.get_or_create(&request).observe(took.as_secs_f64());
    }
}

impl Counters {
    /// Each begins at 0: a rate takes no notice of the first step of a counter that was not there before.
    fn by(label: &'static str, values: &[&'static str]) -> Self {
        let counters = Self { label, by_value: Family::default() };
        for value in values {
            drop(counters.by_value.get_or_create(&[(label, *value)]));
        }
        counters
    }

    fn add_one(&self, value: &'static str) {
        self.by_value.get_or_create(&[(self.label, value)]).inc();
    }
}

impl Observer for Metrics {
    fn on(&self, event: &Event<'_>) {
        self.count(event);
        self.then.on(event);
    }
}
