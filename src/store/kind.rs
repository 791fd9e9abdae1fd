//! The table of document kinds: one line for each kind.
//!
//! Keys, tables, expiry, change notices, the order of a scan and the rules of a copy follow from a line. A new kind is one
//! line here and its codec in `codec/`. Does not know how a store keeps documents, nor what is in them.

use std::time::SystemTime;

use super::codec;
use crate::domain::{ChangeNotice, Changed};

/// What the bytes of a document are. The embedded store has one type of table for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Content {
    /// UTF-8 text.
    Text,
    /// A JSON object.
    Json,
}

/// Reads from a document when it expires; `None` when it stays.
type ReadExpireTime = fn(&[u8]) -> Result<Option<SystemTime>, String>;

/// One line of the table.
struct KindProperties {
    name: &'static str,
    content: Content,
    expire_time: Option<ReadExpireTime>,
    changed: Option<fn(&str) -> Option<Changed>>,
    is_short_lived: bool,
}

macro_rules! kinds {
    ($(
        $(#[$doc:meta])+
        $kind:ident = $name:literal {
            content: $content:ident, expire_time: $expire_time:expr, changed: $changed:expr, is_short_lived: $short:literal
        }
    )+) => {
        /// What a document is. Documents are scanned and copied in the order of the variants.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Kind {
            $($(#[$doc])+ $kind,)+
        }

        /// In the order of the variants, so that a kind is its own index.
        const PROPERTIES: &[KindProperties] = &[$(KindProperties {
            name: $name,
            content: Content::$content,
            expire_time: $expire_time,
            changed: $changed,
            is_short_lived: $short,
        },)+];

        impl Kind {
            /// Every kind, in the order in which they are scanned and copied.
            pub const ALL: &[Kind] = &[$(Kind::$kind,)+];
        }
    };
}

// `Kind = "name in keys and tables"`, then:
// - content: what the bytes are;
// - expire_time: reads from a document when it expires; `None` for kinds whose documents all stay;
// - changed: reads from the name of a key what a change notice reports; `None` for kinds that no token check reads;
// - is_short_lived: documents may expire during a copy, so a copy does not compare them afterwards.
kinds! {
    /// A username, under the user's id. Before users: an id without a user is harmless, a user without an id is not.
    Id = "id" { content: Text, expire_time: None, changed: None, is_short_lived: false }
    /// A user, under the username.
    User = "user" { content: Json, expire_time: None, changed: Some(codec::user::changed), is_short_lived: false }
    /// The key ring, under the empty name.
    Keys = "keys" { content: Json, expire_time: None, changed: None, is_short_lived: false }
    /// Which pepper keys password hashes need, under the empty name.
    PepperKeys = "pepper" { content: Json, expire_time: None, changed: None, is_short_lived: false }
    /// A single-use secret that was spent, under its hash.
    Once = "once" { content: Json, expire_time: Some(codec::once::expire_time), changed: None, is_short_lived: true }
    /// The failed attempts of a username, under its keyed hash.
    FailedAttempts = "fail" { content: Json, expire_time: Some(codec::failures::expire_time), changed: None, is_short_lived: false }
    /// The list of a user's sessions, under the user's id.
    Sessions = "sessions" { content: Json, expire_time: None, changed: None, is_short_lived: false }
    /// A session, under its id.
    Session = "session" { content: Json, expire_time: Some(codec::session::expire_time), changed: Some(codec::session::changed), is_short_lived: false }
}

impl Kind {
    /// The kind's name in keys and tables.
    pub fn name(self) -> &'static str {
        self.properties().name
    }

    /// The kind of that name.
    pub(super) fn of_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.name() == name)
    }

    pub(super) fn content(self) -> Content {
        self.properties().content
    }

    /// When a document of this kind expires; `None` when it stays.
    pub(super) fn expire_time(self, document: &[u8]) -> Result<Option<SystemTime>, String> {
        self.properties().expire_time.map_or(Ok(None), |read| read(document))
    }

    /// What a change of the document `name` means to token checks; `None` for kinds that they do not read.
    pub(super) fn change_notice(self, name: &str) -> Option<ChangeNotice<Changed>> {
        let changed = self.properties().changed?;
        // A name that cannot exist is never watched, so something else is wrong: report that anything may have changed.
        Some(changed(name).map_or(ChangeNotice::Anything, ChangeNotice::Changed))
    }

    /// Whether documents may expire between the two readings of a copy.
    pub(super) fn is_short_lived(self) -> bool {
        self.properties().is_short_lived
    }

    fn properties(self) -> &'static KindProperties {
        &PROPERTIES[self as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_its_own_index_and_has_a_unique_name() {
        for (index, kind) in Kind::ALL.iter().enumerate() {
            assert_eq!(*kind as usize, index);
            assert_eq!(Kind::of_name(kind.name()), Some(*kind), "{kind:?}");
        }
        assert_eq!(Kind::of_name("future"), None);
    }
}
