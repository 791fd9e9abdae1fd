//! The key ring: the signing keys and the secrets, stored once and shared by all nodes.
//!
//! The first node creates it. Signing keys and the secrets of refresh tokens and challenges are used for 90 days. The next
//! one is published a day before it is used, so that nodes and caches of public keys have it by then. An old one is kept
//! read-only until the last thing that was made with it has expired. The secret of keyed hashes changes only when an
//! attacker may know it. Sources: NIST SP 800-57 part 1 section 5.3; ASVS 5.0 11.1.1.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use super::{
    secret::{NewSecret, StoredSecret},
    signing_key::StoredKey,
};
use crate::common::time::{is_credible, to_the_millisecond};

/// How long a key or a secret is used, and how long before that it is published.
const USED_FOR: Duration = Duration::from_secs(90 * 86_400);
const PUBLISHED_AHEAD: Duration = Duration::from_secs(86_400);

/// How long a new signing key needs to reach all verifiers: clients may cache the public keys for five minutes
/// (`http/well_known.rs`).
const PROPAGATION_TIME: Duration = Duration::from_secs(600);

/// How long an old signing key and an old challenge secret are kept after the successor is in use: longer than the lifetime
/// of any access token and of any challenge.
const KEPT_FOR: Duration = Duration::from_secs(2 * 3_600);

/// How long an old secret of refresh tokens or of keyed hashes is kept: a session lives for 90 days at most, and so does a
/// failure counter.
const SECRET_KEPT_FOR: Duration = Duration::from_secs(91 * 86_400);

/// Secrets of one kind at most. Only `--drop-old-keys`, again and again, makes more; the oldest then go first.
const SECRETS_MAX: usize = 8;

/// The stored key ring. Each list has its newest element last.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyRing {
    /// The keys that sign access tokens.
    pub signing: Vec<StoredKey>,
    /// The secrets of refresh tokens.
    pub refresh: Vec<StoredSecret>,
    /// The secrets that sign challenges.
    pub challenges: Vec<StoredSecret>,
    /// The secrets of the keyed hashes of usernames and addresses.
    pub hashes: Vec<StoredSecret>,
    /// Raised to end every session of every user at once.
    pub session_epoch: u64,
}

impl KeyRing {
    /// A key ring for a new store. Everything in it is used at once, since no client can have cached older keys.
    pub(in crate::domain) fn new(now: SystemTime, new_secret: NewSecret<'_>) -> Self {
        let secret = || vec![StoredSecret::new(new_secret(), now, now)];
        Self {
            signing: vec![StoredKey::new(now, now)],
            refresh: secret(),
            challenges: secret(),
            hashes: secret(),
            session_epoch: 0,
        }
    }

    /// The key ring as it should be at `now`, or `None` if nothing changes.
    pub(in crate::domain) fn rotated(&self, now: SystemTime, new_secret: NewSecret<'_>) -> Option<Self> {
        let mut next = self.repaired(now);
        let KeyRing { signing, refresh, challenges, hashes, session_epoch: _ } = &mut next;
        if is_due(signing.iter().map(|key| key.use_time), now) {
            signing.push(StoredKey::new(now, now + PUBLISHED_AHEAD));
        }
        for secrets in [&mut *refresh, &mut *challenges] {
            if is_due(secrets.iter().map(|secret| secret.use_time), now) {
                secrets.push(StoredSecret::new(new_secret(), now, now + PUBLISHED_AHEAD));
            }
        }
        remove_obsolete(signing, |key| key.use_time, now, KEPT_FOR);
        remove_obsolete(challenges, |secret| secret.use_time, now, KEPT_FOR);
        remove_obsolete(refresh, |secret| secret.use_time, now, SECRET_KEPT_FOR);
        remove_obsolete(hashes, |secret| secret.use_time, now, SECRET_KEPT_FOR);
        (next != *self).then_some(next)
    }

    /// The key ring whose next signing key signs as soon as it has reached all verifiers, and that key.
    pub(in crate::domain) fn rotated_early(&self, now: SystemTime) -> (Self, StoredKey) {
        let mut ring = self.clone();
        if !self.signing.iter().any(|key| key.use_time > now) {
            ring.signing.push(StoredKey::new(now, now + PROPAGATION_TIME));
        }
        let next = ring.signing.iter_mut().max_by_key(|key| key.use_time).expect("a key was just added");
        next.use_time = next.use_time.min((next.create_time + PROPAGATION_TIME).max(now));
        let next = next.clone();
        (ring, next)
    }

    /// The key ring after a theft: nothing that the thief can make with the old one is accepted. Answers its signing
    /// key too.
    ///
    /// Everything is new and used at once. Old secrets stay only where the stored value decides: a refresh token of an old
    /// secret is valid if the session has the hash of its secret, and a keyed hash can only be looked up.
    pub(in crate::domain) fn replaced(&self, now: SystemTime, new_secret: NewSecret<'_>) -> (Self, StoredKey) {
        let key = StoredKey::new(now, now);
        let after = |old: &[StoredSecret]| {
            let exposed = old.iter().cloned().map(|secret| StoredSecret { is_exposed: true, ..secret });
            let excess = (old.len() + 1).saturating_sub(SECRETS_MAX);
            exposed.skip(excess).chain([StoredSecret::new(new_secret(), now, now)]).collect()
        };
        let ring = Self {
            signing: vec![key.clone()],
            refresh: after(&self.refresh),
            challenges: vec![StoredSecret::new(new_secret(), now, now)],
            hashes: after(&self.hashes),
            session_epoch: self.session_epoch,
        };
        (ring, key)
    }

    /// The key ring that ends all sessions.
    pub(in crate::domain) fn with_sessions_ended(&self) -> Self {
        Self { session_epoch: self.session_epoch.saturating_add(1), ..self.clone() }
    }

    /// The key ring without times that a wrong clock wrote: what is "used from next year" is used soon.
    fn repaired(&self, now: SystemTime) -> Self {
        let mut ring = self.clone();
        let KeyRing { signing, refresh, challenges, hashes, session_epoch: _ } = &mut ring;
        repair(signing.iter_mut().map(|key| (&mut key.create_time, &mut key.use_time)), now);
        for secrets in [refresh, challenges, hashes] {
            repair(secrets.iter_mut().map(|secret| (&mut secret.create_time, &mut secret.use_time)), now);
        }
        if ring != *self {
            tracing::warn!("times of the key ring are in the future: a clock was wrong; they were corrected");
        }
        ring
    }
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyRing")
    }
}

/// Whether the next key or secret must be published now.
fn is_due(use_times: impl Iterator<Item = SystemTime>, now: SystemTime) -> bool {
    use_times.max().is_none_or(|newest| now + PUBLISHED_AHEAD >= newest + USED_FOR)
}

/// Removes those whose successor has been in use for longer than `kept_for`.
fn remove_obsolete<T>(keys: &mut Vec<T>, use_time: fn(&T) -> SystemTime, now: SystemTime, kept_for: Duration) {
    let successors: Vec<_> = keys.iter().map(use_time).filter(|used| *used + kept_for < now).collect();
    keys.retain(|key| !successors.iter().any(|successor| *successor > use_time(key)));
}

/// Corrects the times of creation and of use that are later than any right clock could have written them at `now`. Where
/// another key is in use, verifiers get the time that they need.
fn repair<'a>(times: impl Iterator<Item = (&'a mut SystemTime, &'a mut SystemTime)>, now: SystemTime) {
    let is_right = |created: SystemTime, used: SystemTime| {
        is_credible(created, now) && used.checked_sub(PUBLISHED_AHEAD).is_none_or(|ahead| is_credible(ahead, now))
    };
    let (right, wrong): (Vec<_>, Vec<_>) = times.partition(|(created, used)| is_right(**created, **used));
    let is_one_in_use = right.iter().any(|(_, used)| **used <= now);
    let use_time = to_the_millisecond(if is_one_in_use { now + PROPAGATION_TIME } else { now });
    for (created, used) in wrong {
        *created = (*created).min(to_the_millisecond(now));
        *used = use_time;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);
    const YEAR: Duration = Duration::from_secs(365 * 86_400);
    const TEN_MINUTES: Duration = Duration::from_secs(600);

    /// Different secrets, without a CSPRNG.
    fn counting() -> impl Fn() -> [u8; 32] {
        let made = std::cell::Cell::new(0);
        move || {
            made.set(made.get() + 1);
            [made.get(); 32]
        }
    }

    fn start() -> SystemTime {
        SystemTime::UNIX_EPOCH + 1_000 * DAY
    }

    #[test]
    fn next_key_is_published_a_day_before_it_is_used() {
        let (start, new_secret) = (start(), counting());
        let ring = KeyRing::new(start, &new_secret);
        assert_eq!(ring.rotated(start + 88 * DAY, &new_secret), None);
        let next = ring.rotated(start + 89 * DAY, &new_secret).expect("a day ahead");
        assert_eq!((next.signing.len(), next.refresh.len(), next.challenges.len(), next.hashes.len()), (2, 2, 2, 1));
        assert_eq!(next.signing[1].use_time, start + 90 * DAY);
        assert_eq!(StoredSecret::in_use(&next.refresh, start + 89 * DAY), Some(&ring.refresh[0]));
        assert_eq!(StoredSecret::in_use(&next.refresh, start + 90 * DAY), Some(&next.refresh[1]));
        assert_eq!(next.rotated(start + 90 * DAY, &new_secret), None, "a token of the old key is still valid");
        let after = start + 90 * DAY + Duration::from_secs(2 * 3_600 + 1);
        let alone = next.rotated(after, &new_secret).expect("the old key is removed");
        assert_eq!((&alone.signing[..], &alone.challenges[..]), (&next.signing[1..], &next.challenges[1..]));
        assert_eq!(alone.refresh, next.refresh, "a refresh token outlives a signing key");
        let later = alone.rotated(start + 182 * DAY, &new_secret).expect("no session of the old secret is left");
        assert!(!later.refresh.contains(&ring.refresh[0]));
    }

    #[test]
    fn key_of_an_early_rotation_signs_after_the_propagation_time() {
        let (start, new_secret) = (start(), counting());
        let (ring, next) = KeyRing::new(start, &new_secret).rotated_early(start + DAY);
        assert_eq!((ring.signing.len(), next.use_time), (2, start + DAY + TEN_MINUTES));
        let (again, same) = ring.rotated_early(start + DAY + TEN_MINUTES / 2);
        assert!(again == ring && same == next, "a repeated rotation creates no second key");
        let (_, later) = ring.rotated_early(start + DAY + TEN_MINUTES);
        assert_ne!(later.private, next.private, "the previous key already signs");

        let waiting = KeyRing::new(start, &new_secret).rotated(start + 89 * DAY, &new_secret).expect("a day ahead");
        let (early, next) = waiting.rotated_early(start + 89 * DAY + Duration::from_secs(3_600));
        assert_eq!(early.signing.len(), 2, "a key that was published already is used");
        assert_eq!(next.use_time, start + 89 * DAY + Duration::from_secs(3_600), "it was published an hour ago");
    }

    #[test]
    fn key_ring_that_was_unused_for_years_has_a_signing_key() {
        let (start, new_secret) = (start(), counting());
        let now = start + 2_000 * DAY;
        let next = KeyRing::new(start, &new_secret).rotated(now, &new_secret).expect("the key is old");
        assert!(next.signing.iter().any(|key| key.use_time <= now));
    }

    #[test]
    fn replaced_ring_makes_nothing_with_old_secrets_even_those_published_ahead() {
        let (start, new_secret) = (start(), counting());
        let old = KeyRing::new(start, &new_secret).rotated(start + 89 * DAY, &new_secret).expect("a day ahead");
        let (ring, key) = old.replaced(start + 89 * DAY, &new_secret);
        assert!(ring.signing == [key] && ring.challenges.len() == 1 && !old.challenges.contains(&ring.challenges[0]));
        for (secrets, before) in [(&ring.refresh, &old.refresh), (&ring.hashes, &old.hashes)] {
            for now in [start + 89 * DAY, start + 91 * DAY] {
                let in_use = StoredSecret::in_use(secrets, now).unwrap();
                assert!(before.iter().all(|before| before.secret != in_use.secret));
            }
        }
        let many = (0..20).fold(ring, |ring, _| ring.replaced(start + 89 * DAY, &new_secret).0);
        assert_eq!((many.refresh.len(), many.hashes.len(), many.challenges.len()), (SECRETS_MAX, SECRETS_MAX, 1));
        assert!(!many.refresh.last().unwrap().is_exposed, "the newest stays");
    }

    #[test]
    fn key_that_a_wrong_clock_wrote_is_used_soon() {
        let (start, new_secret) = (start(), counting());
        let (ring, next) = KeyRing::new(start, &new_secret).rotated_early(start + YEAR);
        assert_eq!(next.use_time, start + YEAR + TEN_MINUTES);
        let repaired = ring.rotated(start + DAY, &new_secret).expect("its times are wrong");
        let times: Vec<_> = repaired.signing.iter().map(|key| (key.create_time, key.use_time)).collect();
        assert_eq!(times, [(start, start), (start + DAY, start + DAY + TEN_MINUTES)]);
        assert_eq!(repaired.rotated(start + DAY, &new_secret), None, "it is corrected once");

        let alone = KeyRing::new(start + YEAR, &new_secret).rotated(start, &new_secret).expect("its times are wrong");
        assert_eq!((alone.signing.len(), alone.signing[0].use_time), (1, start));
        assert!([&alone.refresh, &alone.challenges, &alone.hashes].iter().all(|list| list[0].use_time == start));
    }
}
