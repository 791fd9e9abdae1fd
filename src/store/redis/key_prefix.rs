//! The prefix of every key in Redis, and the text form of keys.
//!
//! A key is the prefix, the kind's name and the document's name: `watchword:user:ada`. Other programs can use the same Redis
//! with other prefixes. Does not know which documents there are.

use std::{fmt, str::FromStr};

use crate::store::{document::DocumentKey, kind::Kind};

/// Characters of a prefix at most.
const PREFIX_CHARS_MAX: usize = 64;

/// What every key begins with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyPrefix(String);

impl KeyPrefix {
    /// The text form of a document's key.
    pub(super) fn key(&self, key: &DocumentKey) -> String {
        let kind = key.kind.name();
        if key.name.is_empty() { self.own_key(kind) } else { format!("{}{kind}:{}", self.0, key.name) }
    }

    /// Parses what [`key`](Self::key) wrote.
    ///
    /// # Errors
    /// The prefix and the name of an unknown kind.
    pub(super) fn parse(&self, text: &str) -> Result<DocumentKey, String> {
        let rest = text.strip_prefix(&self.0).unwrap_or(text);
        let (kind, name) = rest.split_once(':').unwrap_or((rest, ""));
        let known = Kind::of_name(kind).map(|kind| DocumentKey::new(kind, name));
        known.ok_or_else(|| format!("{}{kind}:", self.0))
    }

    /// The key of something that exists once.
    pub(super) fn own_key(&self, name: &str) -> String {
        format!("{}{name}", self.0)
    }
}

impl FromStr for KeyPrefix {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // No character has a meaning in the patterns of SCAN or in the hash tags of a Cluster.
        let is_allowed = |c: char| c.is_ascii_alphanumeric() || ":_-./".contains(c);
        if text.is_empty() || text.len() > PREFIX_CHARS_MAX || !text.chars().all(is_allowed) {
            return Err(format!("expected 1 to {PREFIX_CHARS_MAX} letters, digits and : _ - . /"));
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for KeyPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_contain_no_character_that_scans_or_clusters_interpret() {
        for text in ["", "a*", "{a}", "a b", "ä", "a?"] {
            assert!(text.parse::<KeyPrefix>().is_err(), "{text:?}");
        }
        let prefix: KeyPrefix = "watchword:".parse().unwrap();
        for (key, text) in [
            (DocumentKey::new(Kind::User, "a:b"), "watchword:user:a:b"),
            (DocumentKey::new(Kind::Sessions, "x"), "watchword:sessions:x"),
            (DocumentKey::new(Kind::Keys, ""), "watchword:keys"),
        ] {
            assert_eq!(prefix.key(&key), text);
            assert!(prefix.parse(text) == Ok(key), "{text}");
        }
        assert_eq!(prefix.parse("watchword:future:x"), Err("watchword:future:".into()));
    }
}
