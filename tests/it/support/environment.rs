//! Time that tests move, and events that they read.

use std::{
    sync::Mutex,
    time::{Duration, Instant, SystemTime},
};

use watchword::domain::{Clock, Event, Observer, Refusal, Sleep, System};

/// The machine's clock plus what the test added.
#[derive(Debug, Default)]
pub struct ManualClock {
    /// When it stands still: the time that it shows.
    stopped: Option<(SystemTime, Instant)>,
    ahead: Mutex<Duration>,
    wrong: Mutex<Duration>,
    behind: Mutex<Duration>,
}

impl ManualClock {
    /// A clock that goes only when the test moves it.
    pub fn stopped() -> Self {
        Self { stopped: Some((System.now(), System.monotonic())), ..Self::default() }
    }

    pub fn advance(&self, by: Duration) {
        *self.ahead.lock().unwrap() += by;
    }

    /// Sets the time of day wrong, as on a machine whose clock nobody keeps.
    pub fn advance_wall(&self, by: Duration) {
        *self.wrong.lock().unwrap() += by;
    }
}

impl ManualClock {
    /// Sets the time of day back.
    pub fn set_back(&self, by: Duration) {
        *self.behind.lock().unwrap() += by;
    }
}

impl Clock for ManualClock {
    fn now(&self) -> SystemTime {
        let (now, _) = self.stopped.unwrap_or((System.now(), System.monotonic()));
        now + *self.ahead.lock().unwrap() + *self.wrong.lock().unwrap() - *self.behind.lock().unwrap()
    }

    fn monotonic(&self) -> Instant {
        let (_, now) = self.stopped.unwrap_or((System.now(), System.monotonic()));
        now + *self.ahead.lock().unwrap()
    }

    /// A wait takes as long as it takes, wherever the test has moved the clock.
    fn sleep(&self, duration: Duration) -> Sleep {
        System.sleep(duration)
    }
}

/// What happened, a word each; and when hashes ended and what they took.
#[derive(Debug, Default)]
pub struct Events {
    words: Mutex<Vec<&'static str>>,
    hashes: Mutex<Vec<(Instant, Duration)>>,
}

impl Events {
    pub fn count(&self, word: &str) -> usize {
        self.words.lock().unwrap().iter().filter(|event| **event == word).count()
    }

    /// How many hashes ran at once, at most.
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

impl Observer for Events {
    fn on(&self, event: &Event<'_>) {
        if let Event::Hashed { took, .. } = event {
            self.hashes.lock().unwrap().push((System.monotonic(), *took));
        }
        self.words.lock().unwrap().push(match event {
            Event::Registered { .. } => "registered",
            Event::RegistrationRepeated { .. } => "repeated",
            Event::NameTaken { .. } => "taken",
            Event::LoggedIn { .. } => "logged in",
            Event::LoginRefused { why: Refusal::UnknownUser, .. } => "unknown user",
            Event::LoginRefused { why: Refusal::WrongPassword(_), .. } => "wrong password",
            Event::LoginRefused { why: Refusal::NoPassword(_), .. } => "no password",
            Event::LoginRefused { why: Refusal::Disabled(_), .. } => "disabled",
            Event::TokenRefreshed { again: false, .. } => "refreshed",
            Event::TokenRefreshed { again: true, .. } => "refreshed again",
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
        });
    }
}
