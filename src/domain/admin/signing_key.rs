//! What operators change in the key ring: the signing key before the schedule does, and the epoch of all sessions.

use std::sync::Arc;

use super::Admin;
use crate::domain::{
    context::CallContext,
    error::Error,
    event::{AdminAction, Event},
    model::{PublicKey, StoredKey},
    ports::StoreResult,
};

impl Admin {
    /// Creates the next signing key, or returns the one that is published already. With `drop_old_keys` it signs at once,
    /// all secrets are new, and nothing that can be made with the old key ring is accepted: for a stolen key ring.
    ///
    /// # Errors
    /// `Conflict`; `StoreUnavailable`; `OutcomeUnknown`. It is safe to retry.
    pub async fn rotate_signing_key(
        self: &Arc<Self>,
        context: &CallContext,
        drop_old_keys: bool,
    ) -> Result<(PublicKey, StoredKey), Error> {
        let (this, context) = (self.clone(), context.clone());
        let rotated = self.completion.run(async move {
            let rotated = this.rotate(drop_old_keys).await;
            let refusal = match &rotated {
                Ok((public, _, true)) => {
                    let (context, key_id) = (&context, &public.key_id);
                    this.environment.note(&Event::SigningKeyRotated { context, key_id, dropped: drop_old_keys });
                    return rotated;
                }
                Ok((_, _, false)) => None,
                Err(error) => Some(error),
            };
            let act = AdminAction::RotateSigningKey;
            this.environment.note(&Event::AdminActed { context: &context, act, user: None, refusal });
            rotated
        });
        rotated.await.map(|(public, key, _)| (public, key))
    }

    /// Ends all sessions of all users: on this node at once, on others within a second.
    ///
    /// # Errors
    /// `Conflict`; `StoreUnavailable`; `OutcomeUnknown`. It is safe to retry.
    pub async fn revoke_all_users_sessions(self: &Arc<Self>, context: &CallContext) -> Result<(), Error> {
        let (this, context) = (self.clone(), context.clone());
        let revoked = self.completion.run(async move {
            let changed = this.keys.change(|ring, _| (ring.with_sessions_ended(), ())).await;
            let revoked = changed.or_report(&this.environment).and_then(|changed| changed.ok_or(Error::Conflict));
            let (act, refusal) = (AdminAction::RevokeAllUsersSessions, revoked.as_ref().err());
            this.environment.note(&Event::AdminActed { context: &context, act, user: None, refusal });
            revoked.map(drop)
        });
        revoked.await
    }

    async fn rotate(&self, drop_old_keys: bool) -> Result<(PublicKey, StoredKey, bool), Error> {
        let new_secret = || self.environment.entropy.bytes();
        let changed = self.keys.change(|ring, now| match drop_old_keys {
            true => ring.replaced(now, &new_secret),
            false => ring.rotated_early(now),
        });
        let changed = changed.await.or_report(&self.environment)?;
        let (key, is_new) = changed.ok_or(Error::Conflict)?;
        let public = key.public();
        let public = public.ok_or_else(|| self.environment.internal_error("a new signing key cannot be decoded"))?;
        Ok((public, key, is_new))
    }
}
