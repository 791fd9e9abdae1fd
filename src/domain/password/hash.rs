//! The stored form of a password: Argon2id as PHC text.
//!
//! Stored parameters are bounded: a record with `m=4 GiB` must not take the node down (RUSTSEC-2026-0199 is the
//! same mistake elsewhere).

use std::fmt;

use argon2::password_hash::phc::{self, Ident, Output, ParamsString, Salt};
use subtle::ConstantTimeEq;

/// Bytes of a new salt: 128 bits (RFC 9106 4).
pub(super) const SALT_BYTES: usize = 16;

/// Bytes of a new tag: 256 bits (RFC 9106 4).
pub(super) const TAG_BYTES: usize = 32;

/// What one hash costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cost {
    /// Memory in KiB.
    pub memory_kib: u32,
    /// Passes over it.
    pub passes: u32,
    /// Lanes; hashed one after the other.
    pub lanes: u32,
}

impl Cost {
    /// OWASP's minimum, and ASVS 5.0 Appendix C's: 19 MiB, two passes, one lane.
    pub const DEFAULT: Cost = Cost { memory_kib: 19_456, passes: 2, lanes: 1 };

    /// The most that a stored hash may ask for: 256 MiB, 16 passes, 16 lanes.
    const MAX: Cost = Cost { memory_kib: 262_144, passes: 16, lanes: 16 };

    fn is_bearable(self) -> bool {
        (1..=Self::MAX.lanes).contains(&self.lanes)
            && (1..=Self::MAX.passes).contains(&self.passes)
            && (8 * self.lanes..=Self::MAX.memory_kib).contains(&self.memory_kib)
    }
}

/// A hashed password.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash {
    pub(super) cost: Cost,
    pub(super) salt: Salt,
    tag: Output,
}

impl PasswordHash {
    pub(super) fn new(cost: Cost, salt: [u8; SALT_BYTES], tag: [u8; TAG_BYTES]) -> Self {
        let salt = Salt::new(&salt).expect("16 bytes are a salt");
        Self { cost, salt, tag: Output::new(&tag).expect("32 bytes are a tag") }
    }

    /// Reads PHC text as it is stored; says what is wrong with it, without its content.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let phc = phc::PasswordHash::new(text).map_err(|_| "is not PHC text")?;
        if phc.algorithm.as_str() != "argon2id" || phc.version != Some(19) {
            return Err("is not Argon2id of version 19");
        }
        let number = |name: &str| phc.params.get_decimal(name).ok_or("lacks a parameter");
        let cost = Cost { memory_kib: number("m")?, passes: number("t")?, lanes: number("p")? };
        if phc.params.iter().count() != 3 {
            return Err("has unknown parameters");
        }
        if !cost.is_bearable() {
            return Err("has parameters out of bounds");
        }
        Ok(Self { cost, salt: phc.salt.ok_or("has no salt")?, tag: phc.hash.ok_or("has no tag")? })
    }

    /// The PHC text to store.
    pub fn to_phc(&self) -> String {
        let mut params = ParamsString::new();
        for (name, value) in [("m", self.cost.memory_kib), ("t", self.cost.passes), ("p", self.cost.lanes)] {
            params.add_decimal(name, value).expect("three short parameters fit");
        }
        phc::PasswordHash {
            algorithm: Ident::new("argon2id").expect("a PHC name"),
            version: Some(19),
            params,
            salt: Some(self.salt),
            hash: Some(self.tag),
        }
        .to_string()
    }

    pub(super) fn tag_len(&self) -> usize {
        self.tag.len()
    }

    /// Whether `tag` is this hash's tag, in constant time.
    pub(super) fn has_tag(&self, tag: &[u8]) -> bool {
        self.tag.as_bytes().ct_eq(tag).into()
    }
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordHash")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str =
        "$argon2id$v=19$m=19456,t=2,p=1$AAECAwQFBgcICQoLDA0ODw$AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";

    #[test]
    fn stored_text_is_read_and_written_back_unchanged() {
        let hash = PasswordHash::parse(TEXT).unwrap();
        assert_eq!(hash.cost, Cost::DEFAULT);
        assert_eq!(hash.to_phc(), TEXT);
        assert!(!format!("{hash:?}").contains("AAEC"));
    }

    #[test]
    fn hostile_or_foreign_text_is_refused() {
        for (from, to) in [
            ("m=19456", "m=4194304"),
            ("m=19456", "m=4"),
            ("t=2", "t=65"),
            ("t=2", "t=0"),
            ("p=1", "p=17"),
            ("p=1", "p=4294967295"),
            ("p=1", "p=1,keyid=AA"),
            ("argon2id", "argon2i"),
            ("v=19", "v=16"),
            ("$AAECAwQFBgcICQoLDA0ODw", ""),
            ("$argon2id", "é"),
        ] {
            let hostile = TEXT.replacen(from, to, 1);
            assert!(PasswordHash::parse(&hostile).is_err(), "{hostile}");
        }
        assert!(PasswordHash::parse("").is_err());
        assert!(PasswordHash::parse("900150983cd24fb0d6963f7d28e17f72").is_err());
    }
}
