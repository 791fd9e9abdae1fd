//! The reset code: 128 random bits that an operator created for one user. Verified before any hash.

use std::fmt;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use zeroize::Zeroizing;

use super::{Factor, Failure, NoPermit, Subject};
use crate::domain::{
    abuse::LimitHold,
    error::Error,
    event::{CodeRefusal, Event},
    model::reset_code_hash,
    password::HashBegun,
    ports::Sleep,
    violation::{Reason, Violation},
};

/// A code as a client sent it.
pub(in crate::domain) struct PresentedCode(Zeroizing<String>);

/// A reset code that a client shows.
pub(in crate::domain) struct ResetCodeFactor<'a>(pub(in crate::domain) &'a PresentedCode);

impl PresentedCode {
    /// Takes any text but the empty one, without its blanks and invisible characters.
    ///
    /// A code that is copied from a message may have blanks or zero-width characters at its ends, and at a line break also
    /// inside. A code consists of printable ASCII, so nothing else can belong to it.
    pub(in crate::domain) fn parse(code: String) -> Result<Self, Violation> {
        let mut code = Zeroizing::new(code);
        code.retain(|c| c.is_ascii_graphic());
        if code.is_empty() {
            return Err(Violation::new("reset_code", Reason::Required, "is required"));
        }
        Ok(Self(code))
    }
}

impl fmt::Debug for PresentedCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PresentedCode")
    }
}

impl Factor for ResetCodeFactor<'_> {
    type Permit = NoPermit;
    type Refusal = CodeRefusal;

    fn hash_begun(_: &NoPermit) -> Option<HashBegun> {
        None
    }

    /// Takes the same time for a user without a code, and where there is no user.
    async fn verify(self, _: NoPermit, subject: Subject<'_>) -> Result<Option<CodeRefusal>, Error> {
        let Subject { user, now, .. } = subject;
        let kept = user.and_then(|user| user.reset);
        let expected = kept.map_or([0; 32], |kept| kept.hash);
        let presented = reset_code_hash(user.map(|user| user.id), &self.0.0);
        let is_right = verify_slices_are_equal(&presented, &expected).is_ok();
        Ok(match (user, kept) {
            (None, _) => Some(CodeRefusal::UnknownUser),
            (Some(user), None) => Some(CodeRefusal::NoCode(user.id)),
            (Some(user), Some(_)) if !is_right => Some(CodeRefusal::WrongCode(user.id)),
            (Some(user), Some(_)) if user.disabled => Some(CodeRefusal::Disabled(user.id)),
            (Some(user), Some(kept)) if kept.expire_time <= now => Some(CodeRefusal::Expired(user.id)),
            (Some(_), Some(_)) => None,
        })
    }

    async fn count_failure(failure: Failure<'_, CodeRefusal>, _: LimitHold, refusal_time: Sleep) -> Result<(), Error> {
        let Failure { limits, environment, context, username, refusal: why, .. } = failure;
        let counted = limits.count_wrong_code(context, username).await;
        // Before the wait: a client that disconnects during it must not try codes that no operator sees.
        if counted.is_ok() {
            environment.note(&Event::PasswordResetRefused { context, why });
        }
        refusal_time.await;
        counted
    }
}
