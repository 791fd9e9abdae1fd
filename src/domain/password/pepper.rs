//! The pepper: keys outside the store that password hashes need, so that a copy of the store alone verifies no password.
//!
//! A key is the secret value K of Argon2id (RFC 9106 section 3.1; keyed hashing of NIST SP 800-63B-4 section 3.1.1.2; pepper
//! of OWASP's Password Storage Cheat Sheet). A hash names the key that it needs, and the first key of the file makes new
//! hashes. A new key does not replace an older one at once: a hash gets another key only at a login, which has the password,
//! and until then needs the older one. The id of a key is derived from it, so that two keys cannot have the same name by
//! mistake. Does not know users, nor which keys their hashes need.

use std::fmt;

use zeroize::Zeroizing;

use crate::{
    common::{
        files::{KEY_BYTES, entries, key_from_hex},
        sha256::sha256_of,
    },
    domain::model::PepperKeyId,
};

/// Keys and retired ids in the file at most.
const ENTRIES_MAX: usize = 64;

/// What is hashed in the place of a key that is not there, so that the time is equal. No tag of it is ever accepted.
const NO_KEY: [u8; KEY_BYTES] = [0; KEY_BYTES];

/// The pepper keys of a node.
#[derive(Default)]
pub struct Pepper {
    /// The first entry is `plain`: new hashes have no key.
    is_plain: bool,
    keys: Vec<PepperKey>,
    retired: Vec<PepperKeyId>,
}

struct PepperKey {
    id: PepperKeyId,
    bytes: Zeroizing<[u8; KEY_BYTES]>,
}

/// The secret of a stored hash.
pub(super) struct HashSecret<'a> {
    pub(super) bytes: &'a [u8],
    /// Whether it is the one that the hash needs. If not, no password matches.
    pub(super) is_available: bool,
}

impl Pepper {
    /// No keys: hashes without a pepper.
    pub fn none() -> Self {
        Self::default()
    }

    /// Parses a file with one entry in each line: a key of 64 hexadecimal digits; `retired` and the id of a key that no user
    /// needs any more; or, in the first place, `plain`: new hashes have no key yet. The first key makes new hashes. Blank
    /// lines and lines that begin with `#` are skipped.
    ///
    /// # Errors
    /// The number of a line that is none of these, and what is expected. Never its content.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut pepper = Self::none();
        for (number, line) in entries(text) {
            pepper.add(line).map_err(|fault| format!("line {number}: {fault}"))?;
            if pepper.keys.len() + pepper.retired.len() > ENTRIES_MAX {
                return Err(format!("has more than {ENTRIES_MAX} keys"));
            }
        }
        if pepper.is_none() { Err("holds no key".into()) } else { Ok(pepper) }
    }

    fn add(&mut self, line: &str) -> Result<(), String> {
        if line == "plain" {
            if self.is_plain || !self.keys.is_empty() || !self.retired.is_empty() {
                return Err("plain can only be the first entry: hashes without a key are always verified".into());
            }
            self.is_plain = true;
        } else if let Some(id) = line.strip_prefix("retired ") {
            self.retired.push(PepperKeyId::parse(id.trim()).map_err(|fault| format!("the retired id {fault}"))?);
        } else {
            let key = key_from_hex(line).map(PepperKey::new).ok_or_else(|| {
                format!(
                    "expected {} hexadecimal digits (`openssl rand -hex {KEY_BYTES}`), retired and an id, or plain",
                    2 * KEY_BYTES
                )
            })?;
            self.keys.push(key);
        }
        let ids: Vec<_> = self.keys.iter().map(|key| key.id).chain(self.retired.iter().copied()).collect();
        let is_repeated = (1..ids.len()).any(|at| ids[..at].contains(&ids[at]));
        if is_repeated { Err("a key is there twice, or is also retired".into()) } else { Ok(()) }
    }

    /// The id of the key of new hashes; `None` if they have none.
    pub fn current(&self) -> Option<PepperKeyId> {
        self.keys.first().filter(|_| !self.is_plain).map(|key| key.id)
    }

    /// Whether the key is there.
    pub fn holds(&self, id: PepperKeyId) -> bool {
        self.key(id).is_some()
    }

    /// Whether the key is neither there nor retired.
    pub fn is_missing(&self, id: PepperKeyId) -> bool {
        !self.holds(id) && !self.is_retired(id)
    }

    /// Whether no file was given.
    pub fn is_none(&self) -> bool {
        !self.is_plain && self.keys.is_empty() && self.retired.is_empty()
    }

    /// Whether the operator has given the key up: users that need it cannot log in.
    pub fn is_retired(&self, id: PepperKeyId) -> bool {
        self.retired.contains(&id)
    }

    /// The secret of a hash that names this key.
    pub(super) fn secret(&self, id: Option<PepperKeyId>) -> HashSecret<'_> {
        match id.map(|id| self.key(id)) {
            None => HashSecret { bytes: &[], is_available: true },
            Some(Some(key)) => HashSecret { bytes: &*key.bytes, is_available: true },
            Some(None) => HashSecret { bytes: &NO_KEY, is_available: false },
        }
    }

    fn key(&self, id: PepperKeyId) -> Option<&PepperKey> {
        self.keys.iter().find(|key| key.id == id)
    }
}

impl PepperKey {
    fn new(bytes: Zeroizing<[u8; KEY_BYTES]>) -> Self {
        let [a, b, c, d, ..] = sha256_of([b"watchword pepper key".as_slice(), &*bytes]);
        Self { id: PepperKeyId(u32::from_be_bytes([a, b, c, d])), bytes }
    }
}

// Shows the ids of keys, and no key.
impl fmt::Debug for Pepper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plain = self.is_plain.then(|| "plain".to_owned());
        let retired = self.retired.iter().map(|id| format!("retired {id}"));
        f.debug_list().entries(plain).entries(self.keys.iter().map(|key| key.id.to_string())).entries(retired).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
    const TWO: &str = "FFEEDDCCBBAA99887766554433221100ffeeddccbbaa99887766554433221100";

    #[test]
    fn first_key_is_current_and_every_key_is_available() {
        let pepper = Pepper::parse(&format!("# of the nodes\n\n{TWO}\n {ONE} \nretired 00c0ffee\n")).unwrap();
        let [two, one] = [0, 1].map(|at| pepper.keys[at].id);
        assert!(pepper.current() == Some(two) && pepper.holds(one) && two != one);
        assert!(pepper.secret(Some(one)).is_available && pepper.secret(None).bytes.is_empty());
        let retired = PepperKeyId::parse("00c0ffee").unwrap();
        assert!(pepper.is_retired(retired) && !pepper.holds(retired));
        let absent = pepper.secret(Some(retired));
        assert!(!absent.is_available && absent.bytes.len() == KEY_BYTES, "it costs as much");
        let shown = format!("{pepper:?}");
        assert_eq!(shown, format!("[\"{two}\", \"{one}\", \"retired 00c0ffee\"]"));
    }

    #[test]
    fn plain_in_the_first_place_makes_hashes_without_a_key() {
        let pepper = Pepper::parse(&format!("plain\n{ONE}")).unwrap();
        assert!(pepper.current().is_none() && pepper.holds(pepper.keys[0].id));
        assert!(Pepper::parse("plain").unwrap().current().is_none());
    }

    #[test]
    fn other_files_are_refused_without_their_content() {
        for (text, fault) in [
            ("", "holds no key"),
            ("# nothing\n", "holds no key"),
            (&ONE[1..], "line 1: expected 64"),
            (&format!("{ONE}\n{ONE}"), "line 2: a key is there twice"),
            (&format!("{ONE}\nplain"), "line 2: plain can only be the first"),
            ("plain\nplain", "line 2: plain can only be the first"),
            ("retired 00C0FFEE", "line 1: the retired id"),
            ("retired 00c0ffee\nretired 00c0ffee", "line 2: a key is there twice"),
            (&format!("é{}", &ONE[2..]), "line 1: expected 64"),
        ] {
            let refused = Pepper::parse(text).unwrap_err();
            assert!(refused.starts_with(fault), "{text}: {refused}");
            assert!(!refused.contains(&ONE[4..12]), "{refused}");
        }
    }
}
