//! Replaces the password of a user who shows a code that an operator made.
//!
//! For whoever has lost the password, or was locked out by somebody else's guesses, so no limit stands in its way: 128
//! bits cannot be guessed, and only wrong codes are limited. The code's hash is in the user's own record, so that spending
//! it and setting the password are one change. A code is looked at before any hash; whatever is refused is refused alike
//! and after the same time. Sources: ASVS 5.0 6.4.2, 6.4.6 and 6.5.1 to 6.5.5, NIST SP 800-63B-4 3.1.1.2.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use aws_lc_rs::{
    constant_time::verify_slices_are_equal,
    digest::{self, SHA256},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use zeroize::Zeroizing;

use super::{
    Auth, CallContext, Check, Entropy, Error, Event, Password, Purpose, Reason, Rules, User, UserId, Username,
    Violation, limits::REFUSAL_TIME_MIN, to_the_millisecond,
};

/// Tells people and scanners of secrets what it is, and keeps it from beginning with a dash.
const PREFIX: &str = "wwc_";

/// What cannot be guessed; from 112 bits on a plain hash does to keep it (ASVS 6.5.2).
const SECRET_BYTES: usize = 16;

/// How long a code is good.
const LIFETIME: Duration = Duration::from_secs(15 * 60);

/// How long a user who has a new password waits until the failures of the old one are forgotten everywhere.
const FORGET_WAIT_MAX: Duration = Duration::from_millis(500);

/// A code that was made and is shown once.
pub struct ResetCode {
    /// What the user sends.
    pub text: Zeroizing<String>,
    /// From then on it is no longer good.
    pub expire_time: SystemTime,
}

// Whoever has it is the user.
impl fmt::Debug for ResetCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ResetCode")
    }
}

/// What is kept of a code.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct KeptCode {
    /// SHA-256 of whose it is and its text.
    pub(crate) hash: [u8; 32],
    /// From then on it is no longer good.
    pub expire_time: SystemTime,
}

impl KeptCode {
    /// What is kept of a code that nobody has, good from `now` on for as long as any.
    pub(crate) fn made_up(now: SystemTime, entropy: &dyn Entropy) -> Self {
        let mut hash = [0; 32];
        entropy.fill(&mut hash);
        Self { hash, expire_time: to_the_millisecond(now + LIFETIME) }
    }
}

impl fmt::Debug for KeptCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeptCode")
    }
}

/// Why a code was refused. Callers never learn it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CodeRefusal {
    /// No user has that name.
    UnknownUser,
    /// The user has no code, or none any more.
    NoCode(UserId),
    /// The user's code is another one.
    WrongCode(UserId),
    /// The right one, too late.
    Expired(UserId),
    /// The right one of somebody who is disabled.
    Disabled(UserId),
}

impl CodeRefusal {
    /// The refusal's name in logs and metrics.
    pub fn name(self) -> &'static str {
        match self {
            CodeRefusal::UnknownUser => "unknown_user",
            CodeRefusal::NoCode(_) => "no_code",
            CodeRefusal::WrongCode(_) => "wrong_code",
            CodeRefusal::Expired(_) => "expired",
            CodeRefusal::Disabled(_) => "disabled",
        }
    }

    /// Whose account it is, if anybody's.
    pub fn user(self) -> Option<UserId> {
        match self {
            CodeRefusal::UnknownUser => None,
            CodeRefusal::NoCode(user)
            | CodeRefusal::WrongCode(user)
            | CodeRefusal::Expired(user)
            | CodeRefusal::Disabled(user) => Some(user),
        }
    }
}

/// A new password, and the code that allows it.
#[derive(Debug)]
pub struct PasswordReset {
    username: Username,
    code: Presented,
    new: Password,
}

/// A code as it came.
struct Presented(Zeroizing<String>);

impl fmt::Debug for Presented {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Presented")
    }
}

impl PasswordReset {
    /// Parses a request, or names all its violations at once: nothing is spent by it.
    pub fn parse(rules: &Rules, username: &str, code: String, new: String) -> Result<Self, Error> {
        let mut check = Check::default();
        let username = check.field(Username::parse(username));
        let code = Presented(Zeroizing::new(code));
        if code.0.is_empty() {
            check.field::<()>(Err(Violation::new("reset_code", Reason::Required, "is required")));
        }
        let new = check.field(Password::parse(new).map_err(|fault| fault.of("new_password")));
        if let Some(new) = &new {
            let policy = rules.password_policy.check(new, username.as_ref());
            check.field(policy.map_err(|fault| fault.of("new_password")));
        }
        check.done_with_new_password("new_password")?;
        match (username, new) {
            (Some(username), Some(new)) => Ok(Self { username, code, new }),
            _ => unreachable!("a part is missing only after a violation"),
        }
    }
}

impl Auth {
    /// Replaces the password of whoever has the code, and ends all sessions. None begins.
    ///
    /// # Errors
    /// `InvalidCredentials`; `RateLimited`; `Conflict`, `Overloaded`, `Draining`, `StoreUnavailable`: nothing was changed and
    /// the code is good as before; `OutcomeUnknown`; `DeadlineExceeded`; `CorruptRecord`.
    pub async fn reset_password(self: &Arc<Self>, context: &CallContext, wanted: PasswordReset) -> Result<(), Error> {
        // It begins now.
        let refused_after = tokio::time::sleep(REFUSAL_TIME_MIN);
        let PasswordReset { username, code, new } = wanted;
        let stored = self.store.user(&username).await.map_err(|error| self.store_error(error))?;
        let accepted = self.check_code(stored.as_ref().map(|stored| &stored.value), &code);
        let seen = match (accepted, stored) {
            (Ok(()), Some(seen)) => seen,
            (Ok(()), None) => unreachable!("nobody's code is refused"),
            (Err(why), _) => {
                let refusal = self.refuse_code(context, &username, why).await;
                refused_after.await;
                return Err(refusal);
            }
        };
        let password = self.admit(context, Purpose::Account)?.hash(new).await?;
        let now = self.store.now();
        let changed = self.run_to_completion(context, |auth, context| async move {
            let changed = auth.change_user_if(
                seen,
                // Whoever else changes the user meanwhile leaves the code, or has spent it.
                |again, before| again.reset == before.reset && !again.disabled,
                |user| {
                    user.set_password(password.clone());
                    user.update_time = now;
                },
            );
            let changed = changed.await?;
            auth.note(&Event::PasswordReset { context: &context, user: changed.id });
            // For the other nodes too, where he may sign in next; what the store is too slow for, this node stores later.
            drop(tokio::time::timeout(FORGET_WAIT_MAX, auth.forget_failures_for_good(&changed.username)).await);
            Ok(())
        });
        match changed.await {
            Err(Error::Conflict) => Err(self.why_not(context, &username, &code).await),
            done => done,
        }
    }

    /// Makes a code for a user, whose hash replaces an older one's.
    pub(super) fn new_code(&self, user: UserId) -> (ResetCode, KeptCode) {
        let text = make(&*self.environment.entropy);
        let expire_time = to_the_millisecond(self.store.now() + LIFETIME);
        let kept = KeptCode { hash: hash_of(Some(user), &text), expire_time };
        (ResetCode { text, expire_time }, kept)
    }

    /// Says whether it is the user's code and good; takes the same time for whoever has none, and for nobody.
    fn check_code(&self, user: Option<&User>, Presented(code): &Presented) -> Result<(), CodeRefusal> {
        let kept = user.and_then(|user| user.reset);
        let expected = kept.map_or([0; 32], |kept| kept.hash);
        let is_right = verify_slices_are_equal(&hash_of(user.map(|user| user.id), code), &expected).is_ok();
        match (user, kept) {
            (None, _) => Err(CodeRefusal::UnknownUser),
            (Some(user), None) => Err(CodeRefusal::NoCode(user.id)),
            (Some(user), Some(_)) if !is_right => Err(CodeRefusal::WrongCode(user.id)),
            (Some(user), Some(_)) if user.disabled => Err(CodeRefusal::Disabled(user.id)),
            (Some(user), Some(kept)) if kept.expire_time <= self.store.now() => Err(CodeRefusal::Expired(user.id)),
            (Some(_), Some(_)) => Ok(()),
        }
    }

    /// What to answer to a code that was good when it was looked at and is perhaps no more.
    async fn why_not(&self, context: &CallContext, username: &Username, code: &Presented) -> Error {
        let again = match self.store.user(username).await {
            Ok(again) => again,
            Err(error) => return self.store_error(error),
        };
        match self.check_code(again.as_ref().map(|again| &again.value), code) {
            Ok(()) => Error::Conflict,
            Err(why) => self.refuse_code(context, username, why).await,
        }
    }

    /// Counts a code that does not count, and says what to answer.
    async fn refuse_code(&self, context: &CallContext, username: &Username, why: CodeRefusal) -> Error {
        if let Err(limited) = self.count_wrong_code(context, username).await {
            return limited;
        }
        self.note(&Event::PasswordResetRefused { context, why });
        Error::InvalidCredentials
    }
}

fn make(entropy: &dyn Entropy) -> Zeroizing<String> {
    let mut secret = Zeroizing::new([0; SECRET_BYTES]);
    entropy.fill(&mut *secret);
    let mut text = Zeroizing::new(PREFIX.to_owned());
    URL_SAFE_NO_PAD.encode_string(secret.as_slice(), &mut text);
    text
}

/// Bound to its user: copied to another record, it opens nothing.
fn hash_of(user: Option<UserId>, text: &str) -> [u8; 32] {
    let mut context = digest::Context::new(&SHA256);
    context.update(user.map_or([0; 16], UserId::bytes).as_slice());
    context.update(text.as_bytes());
    context.finish().as_ref().try_into().expect("SHA-256 has 32 bytes")
}
