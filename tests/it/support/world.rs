//! Time that tests move, and events that they read.

use std::{
    sync::Mutex,
    time::{Duration, Instant, SystemTime},
};

use watchword::domain::{Clock, Event, Observer, Refusal, System};

/// The machine's clock plus what the test added.
#[derive(Debug, Default)]
pub struct ManualClock {
    ahead: Mutex<Duration>,
    wrong: Mutex<Duration>,
    behind: Mutex<Duration>,
}

impl ManualClock {
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
        System.now() + *self.ahead.lock().unwrap() + *self.wrong.lock().unwrap() - *self.behind.lock().unwrap()
    }

    fn monotonic(&self) -> Instant {
        System.monotonic() + *self.ahead.lock().unwrap()
    }
}

/// What happened, a word each.
#[derive(Debug, Default)]
pub struct Events(Mutex<Vec<&'static str>>);

impl Events {
    pub fn count(&self, word: &str) -> usize {
        self.0.lock().unwrap().iter().filter(|event| **event == word).count()
    }
}

impl Observer for Events {
    fn on(&self, event: &Event<'_>) {
        self.0.lock().unwrap().push(match event {
            Event::Registered { .. } => "registered",
            Event::RegistrationRepeated { .. } => "repeated",
            Event::NameTaken { .. } => "taken",
            Event::LoggedIn { .. } => "logged in",
            Event::LoginRefused { why: Refusal::UnknownUser, .. } => "unknown user",
            Event::LoginRefused { why: Refusal::WrongPassword(_), .. } => "wrong password",
            Event::LoginRefused { why: Refusal::Disabled(_), .. } => "disabled",
            Event::TokenRefreshed { again: false, .. } => "refreshed",
            Event::TokenRefreshed { again: true, .. } => "refreshed again",
            Event::TokenReused { .. } => "reused",
            Event::TokenRefused { .. } => "token refused",
            Event::ClientRefused { .. } => "client refused",
            Event::SessionEnded { .. } => "session ended",
            Event::AllSessionsEnded { .. } => "all sessions ended",
            Event::PasswordChanged { .. } => "password changed",
            Event::PasswordNotShown { .. } => "password not shown",
            Event::UserChanged { .. } => "user changed",
            Event::UserDeleted { .. } => "user deleted",
            Event::UserDisabled { .. } => "user disabled",
            Event::SigningKeyRotated { .. } => "signing key rotated",
            Event::StoreFailed { .. } => "store failed",
            Event::Hashed { .. } => "hashed",
            Event::Overloaded { .. } => "overloaded",
        });
    }
}
