//! The clock, the observer and the log of a test: the test moves the clock, counts the events and reads the log.

use std::{
    io::{self, Write},
    sync::{Arc, Condvar, Mutex},
    time::{Duration, Instant, SystemTime},
};

use tokio::{sync::watch, time::timeout};
use tracing_subscriber::fmt::MakeWriter;
use watchword::domain::{Clock, Event, Observer, Refusal, Sleep, System};

use super::WAIT_MAX;

/// The system clock plus the offsets that the test sets.
#[derive(Debug, Default)]
pub struct ManualClock {
    /// The fixed time of a stopped clock.
    stopped: Option<(SystemTime, Instant)>,
    /// Waits up to this long end at once.
    skipped_wait_max: Duration,
    advanced: Mutex<Duration>,
    wall_advanced: Mutex<Duration>,
    wall_set_back: Mutex<Duration>,
}

impl ManualClock {
    /// A clock that moves only when the test moves it.
    pub fn stopped() -> Self {
        Self { stopped: Some((System.now(), System.monotonic())), ..Self::default() }
    }

    /// A stopped clock with the same time in every run. The time that hides what a refusal took passes at once.
    pub fn simulated() -> Self {
        let start = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let skipped_wait_max = Duration::from_millis(10);
        Self { stopped: Some((start, System.monotonic())), skipped_wait_max, ..Self::default() }
    }

    pub fn advance(&self, by: Duration) {
        *self.advanced.lock().unwrap() += by;
    }

    /// Moves only the wall clock forward, as on a machine without time synchronization.
    pub fn advance_wall(&self, by: Duration) {
        *self.wall_advanced.lock().unwrap() += by;
    }

    /// Moves only the wall clock back.
    pub fn set_back(&self, by: Duration) {
        *self.wall_set_back.lock().unwrap() += by;
    }
}

impl Clock for ManualClock {
    fn now(&self) -> SystemTime {
        let (now, _) = self.stopped.unwrap_or((System.now(), System.monotonic()));
        now + *self.advanced.lock().unwrap() + *self.wall_advanced.lock().unwrap() - *self.wall_set_back.lock().unwrap()
    }

    fn monotonic(&self) -> Instant {
        let (_, now) = self.stopped.unwrap_or((System.now(), System.monotonic()));
        now + *self.advanced.lock().unwrap()
    }

    /// Waits for the real duration: moving the clock does not shorten a sleep.
    fn sleep(&self, duration: Duration) -> Sleep {
        if duration <= self.skipped_wait_max { Box::pin(std::future::ready(())) } else { System.sleep(duration) }
    }
}

/// Records the name of each event, and when each hash ended and how long it took.
#[derive(Debug, Default)]
pub struct Events {
    names: watch::Sender<Vec<&'static str>>,
    hashes: Mutex<Vec<(Instant, Duration)>>,
    workers_held: Mutex<bool>,
    workers_released: Condvar,
}

impl Events {
    pub fn count(&self, name: &str) -> usize {
        count_of(&self.names.borrow(), name)
    }

    /// Waits until there have been so many events of this name. Panics after [`WAIT_MAX`].
    pub async fn reached(&self, name: &str, count: usize) {
        let mut names = self.names.subscribe();
        let reached = names.wait_for(|names| count_of(names, name) >= count);
        drop(timeout(WAIT_MAX, reached).await.expect("the events happen").expect("the sender is in self"));
    }

    /// Whether each hash worker stops after the hash it is at.
    pub fn hold_workers(&self, held: bool) {
        *self.workers_held.lock().unwrap() = held;
        self.workers_released.notify_all();
    }

    /// The highest number of hashes that ran at the same time.
    pub fn hashes_at_once_max(&self) -> isize {
        let hashes = self.hashes.lock().unwrap();
        let mut changes: Vec<_> = hashes.iter().flat_map(|(end, took)| [(*end - *took, 1), (*end, -1)]).collect();
        changes.sort();
        let running = changes.iter().scan(0_isize, |running, (_, change)| {
            *running += change;
            Some(*running)
        });
        running.max().unwrap_or_default()
    }
}

fn count_of(names: &[&str], name: &str) -> usize {
    names.iter().filter(|event| **event == name).count()
}

impl Observer for Events {
    fn on(&self, event: &Event<'_>) {
        if let Event::Hashed { took, .. } = event {
            self.hashes.lock().unwrap().push((System.monotonic(), *took));
        }
        let name = match event {
            Event::Registered { .. } => "registered",
            Event::RegistrationRepeated { .. } => "repeated",
            Event::NameTaken { .. } => "taken",
            Event::LoggedIn { .. } => "logged in",
            Event::LoginRefused { why: Refusal::UnknownUser, .. } => "unknown user",
            Event::LoginRefused { why: Refusal::WrongPassword(_), .. } => "wrong password",
            Event::LoginRefused { why: Refusal::NoPassword(_), .. } => "no password",
            Event::LoginRefused { why: Refusal::PepperKeyMissing(_), .. } => "pepper key missing",
            Event::LoginRefused { why: Refusal::Disabled(_), .. } => "disabled",
            Event::AttemptAbandoned { .. } => "abandoned",
            Event::RegistrationAlert => "registration alert",
            Event::TokenRefreshed { again: false, .. } => "refreshed",
            Event::TokenRefreshed { again: true, .. } => "refreshed again",
            Event::RefreshRepeatRefused { .. } => "repeated elsewhere",
            Event::TokenReused { .. } => "reused",
            Event::TokenRefused { .. } => "token refused",
            Event::ClientRefused { .. } => "client refused",
            Event::SessionEnded { .. } => "session ended",
            Event::AllSessionsEnded { .. } => "all sessions ended",
            Event::PasswordChanged { .. } => "password changed",
            Event::PasswordRehashed { .. } => "password rehashed",
            Event::ReauthenticationFailed { .. } => "password not shown",
            Event::UserChanged { .. } => "user changed",
            Event::UserDeleted { .. } => "user deleted",
            Event::PasswordReset { .. } => "password reset",
            Event::PasswordResetRefused { .. } => "reset code refused",
            Event::AdminActed { .. } => "operated",
            Event::SigningKeyRotated { .. } => "signing key rotated",
            Event::LoginRefused { why: Refusal::Locked(_), .. } => "locked",
            Event::RateLimited { .. } => "rate limited",
            Event::LockoutThresholdReached { .. } => "failure cap reached",
            Event::FailureAlert => "many failures",
            Event::StoreFailed { .. } => "store failed",
            Event::ChallengeCreated { .. } => "challenge created",
            Event::ChallengeMissing { .. } => "challenge missing",
            Event::ChallengeRefused { why, .. } => why.name(),
            Event::ChallengeSpent { .. } => "challenge spent",
            Event::ChallengeAccepted { .. } => "challenge accepted",
            Event::ChallengeChecked { .. } => "challenge checked",
            Event::Hashed { .. } => "hashed",
            Event::CallEnded { .. } => "call ended",
            Event::RequestEnded { .. } => "request ended",
            Event::Overloaded { .. } => "overloaded",
            Event::AttemptsInFlight => "attempts in flight",
        };
        self.names.send_modify(|names| names.push(name));
        if let Event::Hashed { .. } = event {
            drop(self.workers_released.wait_while(self.workers_held.lock().unwrap(), |held| *held).unwrap());
        }
    }
}

/// The output of a log subscriber.
#[derive(Clone, Default)]
pub struct LogOutput(Arc<Mutex<Vec<u8>>>);

impl LogOutput {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }
}

impl Write for LogOutput {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for LogOutput {
    type Writer = LogOutput;

    fn make_writer(&'a self) -> LogOutput {
        self.clone()
    }
}
