//! How long failed attempts are stored: their records exist for no more hours together than there were attempts.
//!
//! The scale is 1 to 60 000: an hour has 12 attempts, where a node with 200 hashes a second has 720 000.

use std::{
    collections::HashMap,
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use futures_util::{StreamExt, stream};
use tempfile::TempDir;
use tonic::transport::Channel;
use watchword::{
    api::pb,
    domain::Clock,
    store::{Change, Document, DocumentKey, DocumentStore, Embedded, Kind, Memory, ScanPages},
};

use super::{RATE_LIMITS, UNLIMITED_RATES};
use crate::support::{App, ManualClock, StoreKind, reason};

const HOUR: Duration = Duration::from_secs(3_600);

/// The attempts of an hour are made in six steps. Not quite a divisor of it, so that no record ends just at a step.
const STEP: Duration = Duration::from_secs(601);
const ATTEMPTS_PER_STEP: usize = 2;
const ATTEMPTS_PER_HOUR: usize = 6 * ATTEMPTS_PER_STEP;

const DAYS: usize = 4;
const STEPS: usize = DAYS * 24 * 6;

/// What an attacker does in each step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Attack {
    /// Tries each made-up name once.
    NewNames,
    /// Comes back to each name just before its record ends, and tries new names with what is left.
    Returning,
    /// Prepares names, so that the most records exist in the last step.
    OneMoment,
}

/// An exact account of the records: the name of each, and until when it is kept.
#[derive(Default)]
struct Records {
    forget_times: HashMap<String, SystemTime>,
    names: usize,
}

impl Records {
    fn failed(&mut self, name: &str, now: SystemTime) {
        let forget_time = self.forget_times.entry(name.to_owned()).or_insert(now);
        *forget_time = now.max(*forget_time) + HOUR;
    }

    fn count(&self, now: SystemTime) -> usize {
        self.forget_times.values().filter(|forget_time| **forget_time >= now).count()
    }

    fn new_name(&mut self) -> String {
        self.names += 1;
        format!("madeup{}", self.names)
    }

    /// The names to try in this step.
    fn next(&mut self, attack: Attack, step: usize, now: SystemTime) -> Vec<String> {
        let mut names = Vec::new();
        if attack == Attack::Returning {
            let ends = |forget_time: &SystemTime| (now..now + STEP).contains(forget_time);
            let ending = self.forget_times.iter().filter(|(_, forget_time)| ends(forget_time));
            names.extend(ending.map(|(name, _)| name.clone()).take(ATTEMPTS_PER_STEP));
        }
        if attack == Attack::OneMoment {
            let hours_left = (STEPS - 1 - step) / 6;
            // In the last hours, each name has as many attempts as it needs to be there in the last step.
            let tries = hours_left + 1;
            let is_hour = (STEPS - 1 - step).is_multiple_of(6);
            let count = if is_hour { ATTEMPTS_PER_HOUR / tries } else { 0 };
            for _ in 0..count {
                let name = self.new_name();
                names.extend(std::iter::repeat_n(name, tries));
            }
            return names;
        }
        while names.len() < ATTEMPTS_PER_STEP {
            names.push(self.new_name());
        }
        names
    }
}

async fn fail(channel: &Channel, username: &str) {
    let request = pb::LoginRequest {
        username: username.into(),
        password: "wrong password".into(),
        challenge_solution: String::new(),
    };
    let error = pb::auth_client::AuthClient::new(channel.clone()).login(request).await.unwrap_err();
    assert_eq!(reason(&error), "INVALID_CREDENTIALS", "{username}");
}

pub async fn stored_records(documents: &dyn DocumentStore) -> usize {
    let (mut count, mut pages) = (0, ScanPages::new(documents, Some(Kind::FailedAttempts)));
    while let Some(page) = pages.next().await.unwrap() {
        count += page.len();
    }
    count
}

fn open(kind: StoreKind, folder: &Path, clock: Arc<ManualClock>) -> Arc<dyn DocumentStore> {
    match kind {
        StoreKind::Embedded => Arc::new(Embedded::open(folder, clock).unwrap()),
        StoreKind::Memory | StoreKind::Redis => Arc::new(Memory::new(clock)),
    }
}

/// Made-up names leave on average as many records as an hour has attempts, and few times as many in one moment.
#[tokio::test(flavor = "multi_thread")]
async fn made_up_names_keep_records_for_no_more_hours_than_attempts() {
    for kind in [StoreKind::Memory, StoreKind::Embedded] {
        for attack in [Attack::NewNames, Attack::Returning, Attack::OneMoment] {
            let (folder, clock) = (TempDir::new().unwrap(), Arc::new(ManualClock::stopped()));
            let documents = open(kind, folder.path(), clock.clone());
            let app = App::on(documents.clone()).args(&RATE_LIMITS).args(&UNLIMITED_RATES);
            let app = app.args(&["--failure-cap", "1000"]).clock(clock.clone()).start().await;
            let channel = app.channel().await;
            let (mut records, mut attempts, mut record_time, mut most) = (Records::default(), 0, Duration::ZERO, 0);
            for step in 0..STEPS {
                let names = records.next(attack, step, clock.now());
                attempts += u32::try_from(names.len()).unwrap();
                for name in &names {
                    fail(&channel, name).await;
                    records.failed(name, clock.now());
                }
                app.rules.store_failed_attempts().await;
                let stored = stored_records(&*documents).await;
                if !names.is_empty() {
                    assert_eq!(stored, records.count(clock.now()), "{kind:?}, {attack:?}, step {step}");
                }
                most = most.max(stored);
                record_time += u32::try_from(stored).unwrap() * STEP;
                clock.advance(STEP);
            }
            assert!(record_time <= attempts * (HOUR + STEP), "{kind:?}, {attack:?}: {record_time:?}, {attempts}");
            let bound = match attack {
                Attack::NewNames | Attack::Returning => ATTEMPTS_PER_HOUR,
                // 1 + 1/2 + 1/3 and so on of the attempts of an hour.
                Attack::OneMoment => (1..=ATTEMPTS_PER_HOUR).map(|hours| ATTEMPTS_PER_HOUR / hours).sum(),
            };
            assert_eq!(most, bound, "{kind:?}, {attack:?}");
            app.stopped().await;
        }
    }
}

/// However many documents arrive at once, as many that have expired are deleted meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn expired_records_are_deleted_faster_than_any_flood_stores_new_ones() {
    const FLOOD: usize = 2_000;
    for kind in [StoreKind::Memory, StoreKind::Embedded] {
        let (folder, clock) = (TempDir::new().unwrap(), Arc::new(ManualClock::stopped()));
        let documents = open(kind, folder.path(), clock.clone());
        let mut file_bytes = Vec::new();
        for day in 0..8 {
            let floods =
                stream::iter(0..FLOOD).map(|number| insert(&*documents, format!("{day}-{number}"), clock.now()));
            floods.buffer_unordered(512).collect::<()>().await;
            let stored = stored_records(&*documents).await;
            // What the last day left is deleted while the new documents are stored.
            assert_eq!(stored, FLOOD, "{kind:?}, day {day}");
            file_bytes.push(std::fs::metadata(folder.path().join("watchword.redb")).map_or(0, |file| file.len()));
            clock.advance(Duration::from_secs(86_400));
        }
        assert!(file_bytes[7] <= 2 * file_bytes[1], "{kind:?}: {file_bytes:?}");
        documents.close().await;
    }
}

async fn insert(documents: &dyn DocumentStore, name: String, now: SystemTime) {
    let time = humantime::format_rfc3339_millis(now + HOUR);
    let bytes = format!(r#"{{"v":1,"count":1,"last_time":"{time}","forget_time":"{time}","clear_time":"{time}"}}"#);
    let document = Document { bytes: bytes.into_bytes(), expire_time: Some(now + HOUR) };
    let key = DocumentKey::new(Kind::FailedAttempts, name);
    documents.change(Vec::new(), key, Change::Insert(document)).await.unwrap();
}
