//! Query strings and form bodies: parsed like the WHATWG URL standard does, or refused.

use std::collections::HashSet;

use super::texts;
use crate::http::form::{FormFields, decode};

pub(super) fn seeds() -> Vec<Vec<u8>> {
    texts(&[
        "username=soham&password=insecure&data=testing",
        "a=1&a=2&%61=3",
        "a=%C3%A9+%2B%25%41&b==&&c",
        "a=100%&b=%4&%=%ff",
        "a=%ED%A0%80",
        "%E2%82%AC=\u{20ac}",
        "0&1&2&3&4&5&6&7&8&9&a&b&c&d&e&f&g&h&i&j&k&l&m&n&o&p&q&r&s&t&u&v",
    ])
}

pub(super) fn try_input(input: &[u8]) {
    let read = FormFields::parse_form(input);
    let Ok(text) = std::str::from_utf8(input) else { return assert!(read.is_err(), "invalid UTF-8 was accepted") };
    assert_eq!(decode(&encode(text)).ok().as_deref(), Some(text), "decoding undoes encoding");

    let Ok(mut query) = read else { return };
    // The WHATWG parser replaces invalid UTF-8, which ours refuses. Everything else must be equal.
    let theirs: Vec<_> = form_urlencoded::parse(input).into_owned().collect();
    assert!(theirs.len() <= 32, "too many parameters were accepted");
    let names: HashSet<_> = theirs.iter().map(|(name, _)| name).collect();
    assert_eq!(query.repeats(), names.len() < theirs.len());
    for name in names {
        let first = theirs.iter().find(|(other, _)| other == name).map(|(_, value)| value.clone());
        assert_eq!(query.take(name), first, "not the first value of the name");
    }
}

/// Encodes every byte as `%XX`.
fn encode(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}
