//! The stored hash of a password: Argon2id as a PHC string, over the password or over its MD5.
//!
//! `$argon2id-md5$…` is Argon2id over the lower-case hexadecimal MD5 of the password, for users of a database that stored
//! only the MD5 (OWASP Password Storage: layer the hashes, and replace them at the next login). A check costs one Argon2id,
//! as for every other hash. A hash with a pepper names its key in the parameter `keyid`, as the PHC string of Argon2 does
//! for the secret value K (RFC 9106 section 3.1). Stored parameters are bounded: a document with `m=4 GiB` must not exhaust
//! the memory of the node (RUSTSEC-2026-0199 is this mistake elsewhere).

use std::fmt::{self, Write};

use argon2::password_hash::phc::{self, Ident, Output, ParamsString, Salt};
use md5::{Digest, Md5};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::Password;

/// Bytes of a new salt: 128 bits (RFC 9106 section 4).
pub(in crate::domain) const SALT_BYTES: usize = 16;

/// Bytes of a new tag: 256 bits (RFC 9106 section 4).
pub(in crate::domain) const TAG_BYTES: usize = 32;

/// The cost of one hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cost {
    /// Memory in KiB.
    pub memory_kib: u32,
    /// Passes over the memory.
    pub passes: u32,
    /// Lanes, which are computed one after the other.
    pub lanes: u32,
}

impl Cost {
    /// The minimum of OWASP and of ASVS 5.0 Appendix C: 19 MiB, two passes, one lane.
    pub const DEFAULT: Cost = Cost { memory_kib: 19_456, passes: 2, lanes: 1 };

    /// The maximum cost of a hash, stored or new: 256 MiB, 16 passes, 16 lanes.
    pub const MAX: Cost = Cost { memory_kib: 262_144, passes: 16, lanes: 16 };

    /// How many hashes of the default cost take as long as one of this cost: memory times passes, at least 1. Lanes share
    /// the memory, so they add no work.
    pub(in crate::domain) fn times_default(self) -> u32 {
        let work = |cost: Cost| cost.memory_kib.saturating_mul(cost.passes);
        work(self).div_ceil(work(Cost::DEFAULT)).max(1)
    }

    /// Whether this cost has at least the memory and the passes of `other`. More lanes do not make a hash stronger.
    pub(in crate::domain) fn covers(self, other: Cost) -> bool {
        self.memory_kib >= other.memory_kib && self.passes >= other.passes
    }

    fn is_within_bounds(self) -> bool {
        (1..=Self::MAX.lanes).contains(&self.lanes)
            && (1..=Self::MAX.passes).contains(&self.passes)
            && (8 * self.lanes..=Self::MAX.memory_kib).contains(&self.memory_kib)
    }
}

/// The input of Argon2id. Each has its own PHC identifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::domain) enum Scheme {
    /// The password. Every new hash has this scheme.
    Argon2id,
    /// The MD5 of the password, from the original service.
    Argon2idOfMd5,
}

impl Scheme {
    const ALL: [Scheme; 2] = [Scheme::Argon2id, Scheme::Argon2idOfMd5];

    fn name(self) -> &'static str {
        match self {
            Scheme::Argon2id => "argon2id",
            Scheme::Argon2idOfMd5 => "argon2id-md5",
        }
    }

    /// The input of the hash for this password.
    pub(in crate::domain) fn input(self, password: Password) -> Zeroizing<String> {
        match self {
            Scheme::Argon2id => password.0,
            Scheme::Argon2idOfMd5 => Md5Hex::of(&password).0,
        }
    }
}

/// The MD5 of a password in NFC, from the original service: 32 hexadecimal digits. Never stored and never printed, because
/// it is equivalent to the password.
pub struct Md5Hex(Zeroizing<String>);

impl Md5Hex {
    /// Parses the digits in either case. The error does not contain the digits.
    pub fn parse(hex: &str) -> Result<Self, &'static str> {
        if hex.len() != 32 || !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err("is not 32 hexadecimal digits");
        }
        Ok(Self(Zeroizing::new(hex.to_ascii_lowercase())))
    }

    fn of(password: &Password) -> Self {
        let digest = Zeroizing::new(<[u8; 16]>::from(Md5::digest(password.as_str())));
        let mut hex = Zeroizing::new(String::with_capacity(32));
        for byte in *digest {
            write!(hex, "{byte:02x}").expect("writing to a string cannot fail");
        }
        Self(hex)
    }

    /// The input of the hash.
    pub(in crate::domain) fn into_input(self) -> Zeroizing<String> {
        self.0
    }
}

impl fmt::Debug for Md5Hex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Md5Hex")
    }
}

/// The id of a pepper key, as stored hashes name it: eight hexadecimal digits. Derived from the key, which it does not
/// reveal.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct PepperKeyId(pub(in crate::domain) u32);

impl PepperKeyId {
    /// Parses the eight digits in lower case. The error does not contain them.
    pub fn parse(digits: &str) -> Result<Self, &'static str> {
        let is_id = digits.len() == 8 && digits.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
        let id = u32::from_str_radix(digits, 16).ok().filter(|_| is_id);
        id.map(Self).ok_or("is not the id of a pepper key: 8 hexadecimal digits in lower case")
    }
}

impl fmt::Display for PepperKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

impl fmt::Debug for PepperKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// How a hash is computed, beside its scheme.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::domain) struct HashForm {
    pub(in crate::domain) cost: Cost,
    /// The pepper key; `None` for a hash without one.
    pub(in crate::domain) key: Option<PepperKeyId>,
}

/// A hashed password.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash {
    pub(in crate::domain) scheme: Scheme,
    pub(in crate::domain) form: HashForm,
    pub(in crate::domain) salt: Salt,
    tag: Output,
}

impl PasswordHash {
    pub(in crate::domain) fn new(scheme: Scheme, form: HashForm, salt: [u8; SALT_BYTES], tag: [u8; TAG_BYTES]) -> Self {
        let salt = Salt::new(&salt).expect("16 bytes are a salt");
        Self { scheme, form, salt, tag: Output::new(&tag).expect("32 bytes are a tag") }
    }

    /// The pepper key that the hash needs; `None` for a hash without one.
    pub fn pepper_key(&self) -> Option<PepperKeyId> {
        self.form.key
    }

    /// Parses a stored PHC string. The error does not contain its content.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let phc = phc::PasswordHash::new(text).map_err(|_| "is not a PHC string")?;
        let scheme = Scheme::ALL.into_iter().find(|scheme| scheme.name() == phc.algorithm.as_str());
        let scheme = scheme.filter(|_| phc.version == Some(19)).ok_or("is not Argon2id of version 19")?;
        let number = |name: &str| phc.params.get_decimal(name).ok_or("lacks a parameter");
        let cost = Cost { memory_kib: number("m")?, passes: number("t")?, lanes: number("p")? };
        let key = phc.params.get_str("keyid").map(PepperKeyId::parse).transpose();
        let key = key.map_err(|_| "names a pepper key in an unknown form")?;
        if phc.params.iter().count() != 3 + usize::from(key.is_some()) {
            return Err("has unknown parameters");
        }
        if !cost.is_within_bounds() {
            return Err("has parameters out of bounds");
        }
        let form = HashForm { cost, key };
        Ok(Self { scheme, form, salt: phc.salt.ok_or("has no salt")?, tag: phc.hash.ok_or("has no tag")? })
    }

    /// The PHC string to store.
    pub fn to_phc(&self) -> String {
        let mut params = ParamsString::new();
        let HashForm { cost, key } = self.form;
        for (name, value) in [("m", cost.memory_kib), ("t", cost.passes), ("p", cost.lanes)] {
            params.add_decimal(name, value).expect("four short parameters fit");
        }
        if let Some(key) = key {
            params.add_str("keyid", key.to_string().as_str()).expect("four short parameters fit");
        }
        phc::PasswordHash {
            algorithm: Ident::new(self.scheme.name()).expect("a PHC name"),
            version: Some(19),
            params,
            salt: Some(self.salt),
            hash: Some(self.tag),
        }
        .to_string()
    }

    pub(in crate::domain) fn tag_len(&self) -> usize {
        self.tag.len()
    }

    /// Compares `tag` with the tag of this hash, in constant time.
    pub(in crate::domain) fn has_tag(&self, tag: &[u8]) -> bool {
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
    fn phc_string_is_parsed_and_written_back_unchanged() {
        let hash = PasswordHash::parse(TEXT).unwrap();
        assert_eq!(hash.form, HashForm { cost: Cost::DEFAULT, key: None });
        assert_eq!(hash.to_phc(), TEXT);
        assert!(!format!("{hash:?}").contains("AAEC"));
        let of_md5 = TEXT.replacen("argon2id", "argon2id-md5", 1);
        let wrapped = PasswordHash::parse(&of_md5).unwrap();
        assert_eq!(wrapped.to_phc(), of_md5);
        assert!(wrapped != hash, "another scheme is another hash");
        let with_key = TEXT.replacen("p=1", "p=1,keyid=00c0ffee", 1);
        let hash = PasswordHash::parse(&with_key).unwrap();
        assert_eq!(hash.pepper_key().unwrap().to_string(), "00c0ffee");
        assert_eq!(hash.to_phc(), with_key);
    }

    #[test]
    fn cost_covers_another_by_memory_and_passes_alone() {
        let cost = |memory_kib, passes, lanes| Cost { memory_kib, passes, lanes };
        let current = cost(65_536, 3, 1);
        assert!(current.covers(Cost::DEFAULT) && current.covers(current) && current.covers(cost(65_536, 3, 4)));
        assert!(!current.covers(cost(65_537, 2, 1)) && !current.covers(cost(19_456, 4, 1)));
        assert_eq!([Cost::DEFAULT, cost(64, 1, 1), cost(65_536, 3, 4)].map(Cost::times_default), [1, 1, 6]);
    }

    #[test]
    fn md5_is_parsed_in_either_case_and_equals_the_computed_one() {
        let read = |hex| Md5Hex::parse(hex).map(|md5| md5.0.to_string());
        assert_eq!(read("900150983CD24FB0D6963F7D28E17F72"), Ok("900150983cd24fb0d6963f7d28e17f72".into()));
        // RFC 1321 A.5.
        let abc = Password::parse("abc".into()).unwrap();
        assert_eq!(Md5Hex::of(&abc).0.as_str(), "900150983cd24fb0d6963f7d28e17f72");
        for wrong in [
            "",
            "900150983cd24fb0d6963f7d28e17f7",
            "900150983cd24fb0d6963f7d28e17f7g",
            "é00150983cd24fb0d6963f7d28e17f",
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
        assert_eq!(format!("{:?}", Md5Hex::of(&abc)), "Md5Hex");
    }

    #[test]
    fn phc_string_out_of_bounds_or_of_another_scheme_is_refused() {
        for (from, to) in [
            ("m=19456", "m=4194304"),
            ("m=19456", "m=4"),
            ("t=2", "t=65"),
            ("t=2", "t=0"),
            ("p=1", "p=17"),
            ("p=1", "p=4294967295"),
            ("p=1", "p=1,keyid=AA"),
            ("p=1", "p=1,keyid=00C0FFEE"),
            ("p=1", "p=1,keyid=+0c0ffee"),
            ("p=1", "p=1,keyid=00c0ffee0"),
            ("p=1", "p=1,keyid=00c0ffee,keyid=00c0ffee"),
            ("p=1", "p=1,keyid=00c0ffee,data=AAAA"),
            ("argon2id", "argon2i"),
            ("argon2id", "argon2id-md4"),
            ("argon2id", "md5"),
            ("m=19456", "m=-1"),
            ("m=19456", "m=019456"),
            ("m=19456", "m=99999999999999999999"),
            ("v=19", "v=16"),
            ("$AAECAwQFBgcICQoLDA0ODw", ""),
            ("$argon2id", "é"),
        ] {
            let hostile = TEXT.replacen(from, to, 1);
            assert!(PasswordHash::parse(&hostile).is_err(), "{hostile}");
        }
        assert!(PasswordHash::parse("").is_err());
        assert!(PasswordHash::parse(&TEXT.replacen("AAEC", &"A".repeat(10_240), 1)).is_err());
        assert!(PasswordHash::parse("900150983cd24fb0d6963f7d28e17f72").is_err());
    }
}
