//! Replaces the signing key when an operator wants it, before the schedule does.

use super::{Auth, Caller, Error, Event, KeyRing, PublicKey, Replace, StoredKey, sessions::TRIES_MAX};

impl Auth {
    /// Makes the next signing key, or answers the one that waits already. With `drop_old_keys` it signs at once and every
    /// token of the old ones is refused: for a key that was stolen.
    ///
    /// # Errors
    /// `Conflict`; `StoreUnavailable`; `OutcomeUnknown`: try again.
    pub async fn rotate_signing_key(
        &self,
        caller: &Caller,
        drop_old_keys: bool,
    ) -> Result<(PublicKey, StoredKey), Error> {
        let replace = if drop_old_keys { KeyRing::replaced } else { KeyRing::hastened };
        for _ in 0..TRIES_MAX {
            // Makes the first ring where there is none.
            self.ring().await?;
            let Some(seen) = self.store.keys().await.map_err(|error| self.store_error(error))? else { continue };
            let (ring, next) = replace(&seen.value, self.store.now());
            let replaced = self.store.replace_keys(&seen.revision, &ring).await;
            if replaced.map_err(|error| self.store_error(error))? == Replace::Changed {
                continue;
            }
            self.keys.forget();
            let public = next.public().ok_or_else(|| self.internal_error("a key that was just made cannot be read"))?;
            self.note(&Event::SigningKeyRotated { caller, key_id: &public.key_id, dropped: drop_old_keys });
            return Ok((public, next));
        }
        Err(Error::Conflict)
    }
}
