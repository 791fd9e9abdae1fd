//! Replaces the signing key when an operator wants it, before the schedule does.

use super::{Auth, Caller, Error, Event, KeyRing, PublicKey, StoredKey};

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
        let change = if drop_old_keys { KeyRing::replaced } else { KeyRing::hastened };
        let changed = self.keys.change(&*self.store, self.clock(), &*self.world.entropy, change).await;
        let (key, is_new) = changed.map_err(|error| self.store_error(error))?.ok_or(Error::Conflict)?;
        let public = key.public().ok_or_else(|| self.internal_error("a key that was just made cannot be read"))?;
        if is_new {
            self.note(&Event::SigningKeyRotated { caller, key_id: &public.key_id, dropped: drop_old_keys });
        }
        Ok((public, key))
    }
}
