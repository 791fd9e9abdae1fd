//! Counts events, for Prometheus to fetch from the ops listener.
//!
//! Receives every event first and passes it on. No label contains a name, an address or any other text that a caller
//! chooses.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram, info::Info},
    registry::{Registry, Unit},
};

use super::{Audit, log::LOST};
use crate::{
    common::lock::lock,
    domain::{ConfigurationWarning, Event, Observer, StoreError},
};

/// Bucket bounds of the hash histograms in seconds: fine around the duration of one hash, coarse beyond a caller's deadline.
const HASH_SECONDS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.015, 0.02, 0.03, 0.05, 0.1, 0.3, 1.0, 5.0];

/// Bucket bounds of the call histograms in seconds: those of OpenTelemetry, and finer ones below a millisecond (token
/// checks) and around the duration of one hash.
const CALL_SECONDS: [f64; 22] = [
    0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.015, 0.02, 0.025, 0.03, 0.05, 0.075, 0.1,
    0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 10.0,
];

/// All counters of one node.
pub struct Metrics {
    next: Arc<Audit>,
    registry: Registry,
    logins: Counters,
    registrations: Counters,
    refreshes: Counters,
    password_resets: Counters,
    store_failures: Counters,
    shed: Counters,
    limited: Counters,
    lockouts: Counter,
    failure_alerts: Counter,
    registration_alerts: Counter,
    challenges: Counters,
    challenge_checks: Counter,
    hash_time: Histogram,
    hash_queue_time: Histogram,
    calls: Family<GrpcCallLabels, Histogram, fn() -> Histogram>,
    requests: Family<RequestLabels, Histogram, fn() -> Histogram>,
    hash_queue_depth: Gauge,
    audit_up: Gauge,
    store_up: Gauge,
    store_warnings: Family<SettingLabel, Gauge>,
    /// Held while a page is encoded, so that the gauges of two concurrent pages do not mix.
    page_lock: Mutex<()>,
}

/// The gauges of one page: values that are read when the page is made.
#[derive(Debug)]
pub struct MetricsSnapshot<'a> {
    /// Whether the store answers.
    pub store_up: bool,
    /// Settings that can lose data, or keep users from logging in.
    pub warnings: &'a [ConfigurationWarning],
    /// Whether the audit log is written, and no line was lost since the last write.
    pub audit_up: bool,
    /// Attempts that wait for a hash worker.
    pub hash_queue_depth: usize,
}

/// One counter for each value of a label.
struct Counters {
    label: &'static str,
    by_value: Family<[(&'static str, &'static str); 1], Counter>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SettingLabel {
    setting: &'static str,
}

/// The labels of a gRPC call (OpenTelemetry semantic conventions).
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct GrpcCallLabels {
    rpc_method: &'static str,
    rpc_status_code: &'static str,
    rpc_system_name: &'static str,
}

/// The labels of an HTTP request (OpenTelemetry semantic conventions).
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    http_route: &'static str,
    http_request_method: &'static str,
    http_response_status_code: u32,
}

// === impl Metrics ===

impl Metrics {
    /// The media type of a page.
    pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

    /// Counts each event and passes it on to `next`.
    pub fn before(next: Arc<Audit>) -> Self {
        let mut metrics = Self {
            next,
            registry: Registry::default(),
            logins: Counters::by("outcome", &["ok", "refused"]),
            registrations: Counters::by("outcome", &["ok", "repeated", "name_taken"]),
            refreshes: Counters::by("outcome", &["ok", "repeated", "elsewhere", "reused"]),
            password_resets: Counters::by("outcome", &["ok", "refused"]),
            store_failures: Counters::by("outcome", &["unavailable", "outcome_unknown", "corrupt_record"]),
            shed: Counters::by("reason", &["hash_queue", "attempts_in_flight"]),
            limited: Counters::by("limit", &["address", "account", "address_and_account", "registrations"]),
            lockouts: Counter::default(),
            failure_alerts: Counter::default(),
            registration_alerts: Counter::default(),
            challenges: Counters::by("outcome", &["created", "missing", "accepted"]),
            challenge_checks: Counter::default(),
            hash_time: Histogram::new(HASH_SECONDS),
            hash_queue_time: Histogram::new(HASH_SECONDS),
            calls: Family::new_with_constructor(|| Histogram::new(CALL_SECONDS)),
            requests: Family::new_with_constructor(|| Histogram::new(CALL_SECONDS)),
            hash_queue_depth: Gauge::default(),
            audit_up: Gauge::default(),
            store_up: Gauge::default(),
            store_warnings: Family::default(),
            page_lock: Mutex::default(),
        };
        metrics.register();
        metrics
    }

    /// Registers each metric with its name and help. A test compares docs/reference/metrics.md with this.
    fn register(&mut self) {
        let calls = "gRPC calls until their status was sent, by method and status";
        self.registry.register_with_unit("rpc_server_call_duration", calls, Unit::Seconds, self.calls.clone());
        let requests = "HTTP requests until their response was ready, by route, method and status";
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
        count("refreshes", "Refresh tokens by outcome", &self.refreshes);
        count("password_resets", "Password resets by outcome", &self.password_resets);
        count("store_failures", "Failed requests to the store, by outcome", &self.store_failures);
        count("shed", "Calls refused before any work, by reason", &self.shed);
        count("rate_limited", "Calls that a rate limit refused", &self.limited);
        count("challenges", "Proof-of-work challenges by outcome", &self.challenges);
        let help = "Proof-of-work keys that were derived";
        own.register("challenge_checks", help, self.challenge_checks.clone());
        own.register(
            "failure_caps",
            "Usernames that reached the lockout threshold (--failure-cap)",
            self.lockouts.clone(),
        );
        let help = "Times that the failed attempts of all clients exceeded --failure-alert, once in its period at most";
        own.register("failures_over_alert", help, self.failure_alerts.clone());
        let help =
            "Times that the registrations of all clients exceeded --registration-alert, once in its period at most";
        own.register("registrations_over_alert", help, self.registration_alerts.clone());
        own.register_with_unit("hash", "Duration of one password hash", Unit::Seconds, self.hash_time.clone());
        own.register_with_unit(
            "hash_queue",
            "Time that an attempt waited for a hash worker",
            Unit::Seconds,
            self.hash_queue_time.clone(),
        );
        own.register("hash_queue_depth", "Attempts that wait for a hash worker", self.hash_queue_depth.clone());
        own.register("audit_dropped", "Audit lines that were lost", self.next.dropped().clone());
        own.register("log_dropped", "Log lines that were lost", LOST.lines.clone());
        own.register("audit_up", "1 while the audit log is written and loses no line", self.audit_up.clone());
        own.register("store_up", "1 while the store answers", self.store_up.clone());
        let help = "1 while this setting can lose data or keeps users from logging in; /readyz reports the reason";
        own.register("store_alarm", help, self.store_warnings.clone());
    }

    /// The page that Prometheus fetches.
    pub fn page(&self, now: &MetricsSnapshot<'_>) -> String {
        let _guard = lock(&self.page_lock);
        self.store_up.set(now.store_up.into());
        self.audit_up.set(now.audit_up.into());
        self.hash_queue_depth.set(i64::try_from(now.hash_queue_depth).unwrap_or(i64::MAX));
        self.store_warnings.clear();
        for warning in now.warnings {
            self.store_warnings.get_or_create(&SettingLabel { setting: warning.setting }).set(1);
        }
        let mut text = String::new();
        encode(&mut text, &self.registry).expect("writing to a string cannot fail");
        text
    }

    fn count(&self, event: &Event<'_>) {
        let (counters, value) = match event {
            Event::Registered { .. } => (&self.registrations, "ok"),
            Event::RegistrationRepeated { .. } => (&self.registrations, "repeated"),
            Event::NameTaken { .. } => (&self.registrations, "name_taken"),
            Event::LoggedIn { .. } => (&self.logins, "ok"),
            // The reason is in the audit log only: with it, a reader of the counters could find out whether a username
            // exists.
            Event::LoginRefused { .. } => (&self.logins, "refused"),
            Event::AttemptAbandoned { .. } => (&self.logins, "abandoned"),
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
                self.lockouts.inc();
                return;
            }
            Event::RegistrationAlert | Event::FailureAlert => {
                let is_registrations = matches!(event, Event::RegistrationAlert);
                (if is_registrations { &self.registration_alerts } else { &self.failure_alerts }).inc();
                return;
            }
            Event::PasswordReset { .. } => (&self.password_resets, "ok"),
            Event::PasswordResetRefused { .. } => (&self.password_resets, "refused"),
            Event::TokenRefreshed { again: false, .. } => (&self.refreshes, "ok"),
            Event::TokenRefreshed { again: true, .. } => (&self.refreshes, "repeated"),
            Event::RefreshRepeatRefused { .. } => (&self.refreshes, "elsewhere"),
            Event::TokenReused { .. } => (&self.refreshes, "reused"),
            // Not counted. The audit log has those that matter.
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
            Event::AttemptsInFlight => (&self.shed, "attempts_in_flight"),
            Event::Hashed { queued, took } => {
                self.hash_time.observe(took.as_secs_f64());
                self.hash_queue_time.observe(queued.as_secs_f64());
                return;
            }
            Event::CallEnded { method, code, took } => {
                let call = GrpcCallLabels { rpc_method: method, rpc_status_code: code, rpc_system_name: "grpc" };
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
            RequestLabels { http_route: route, http_request_method: method, http_response_status_code: status.into() };
        self.requests.get_or_create(&request).observe(took.as_secs_f64());
    }
}

impl Counters {
    /// Each value begins at 0, because Prometheus ignores the first step of a counter that did not exist before.
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
        self.next.on(event);
    }
}
