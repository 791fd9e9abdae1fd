//! Replaces the signing key when an operator wants it, before the schedule does.

use std::sync::Arc;

use super::{AdminAction, Auth, CallContext, Error, Event, KeyRing, PublicKey, StoredKey};

impl Auth {
    /// Makes the next signing key, or answers the one that waits already. With `drop_old_keys` it signs at once and every
    /// token of the old ones is refused: for a key that was stolen. Done to the end and noted, as everything of operators.
    ///
    /// # Errors
    /// `Conflict`; `StoreUnavailable`; `OutcomeUnknown`: try again.
    pub async fn rotate_signing_key(
        self: &Arc<Self>,
        context: &CallContext,
        drop_old_keys: bool,
    ) -> Result<(PublicKey, StoredKey), Error> {
        let rotated = self.run_to_completion(context, move |auth, context| async move {
            let rotated = auth.rotate(drop_old_keys).await;
            let (is_new, refusal) = match &rotated {
                Ok((public, _, true)) => {
                    let key_id = &public.key_id;
                    auth.note(&Event::SigningKeyRotated { context: &context, key_id, dropped: drop_old_keys });
                    (true, None)
                }
                Ok((_, _, false)) => (false, None),
                Err(error) => (false, Some(error)),
            };
            if !is_new {
                let act = AdminAction::RotateSigningKey;
                auth.note(&Event::AdminActed { context: &context, act, user: None, refusal });
            }
            rotated.map(|(public, key, _)| (public, key))
        });
        rotated.await
    }

    async fn rotate(&self, drop_old_keys: bool) -> Result<(PublicKey, StoredKey, bool), Error> {
        let change = if drop_old_keys { KeyRing::replaced } else { KeyRing::hastened };
        let changed = self.keys.change(&*self.store, self.clock(), &*self.environment.entropy, change).await;
        let (key, is_new) = changed.map_err(|error| self.store_error(error))?.ok_or(Error::Conflict)?;
        let public = key.public().ok_or_else(|| self.internal_error("a key that was just made cannot be read"))?;
        Ok((public, key, is_new))
    }
}
