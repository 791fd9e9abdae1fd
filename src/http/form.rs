//! `application/x-www-form-urlencoded`, strictly.
//!
//! The first of repeated fields counts. Invalid UTF-8 is an error: most parsers replace it, which would make different
//! passwords equal.

use std::borrow::Cow;

use zeroize::Zeroize;

use crate::domain::{Error, Reason, Violation};

/// Fields in one request at most. No route reads more than five.
const FIELDS_MAX: usize = 32;

/// The fields in the order of arrival. They are wiped when dropped, because one of them is a password.
#[derive(Default)]
pub(crate) struct FormFields(Vec<(String, String)>);

impl FormFields {
    /// Reads a query string.
    pub(crate) fn parse(text: &str) -> Result<Self, Error> {
        let mut fields = Self::default();
        for part in text.split('&').filter(|part| !part.is_empty()) {
            if fields.0.len() == FIELDS_MAX {
                let text = format!("has more than {FIELDS_MAX} parameters");
                return Err(Violation::new("query", Reason::TooLong, text).into());
            }
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            fields.0.push((decode(name)?, decode(value)?));
        }
        Ok(fields)
    }

    /// Reads a form body.
    pub(crate) fn parse_form(body: &[u8]) -> Result<Self, Error> {
        Self::parse(std::str::from_utf8(body).map_err(|_| not_utf8())?)
    }

    /// Adds fields that count only where these have none of the same name.
    pub(crate) fn append(&mut self, mut later: Self) {
        self.0.append(&mut later.0);
    }

    /// Whether a name appears twice, which OAuth forbids (RFC 6749 section 3.2).
    pub(crate) fn repeats(&self) -> bool {
        let names = || self.0.iter().map(|(name, _)| name);
        names().enumerate().any(|(at, name)| names().take(at).any(|earlier| earlier == name))
    }

    /// The first field of a name.
    pub(crate) fn take(&mut self, name: &str) -> Option<String> {
        let (_, value) = self.0.iter_mut().find(|(found, _)| found == name)?;
        Some(std::mem::take(value))
    }
}

impl Drop for FormFields {
    fn drop(&mut self) {
        for (_, value) in &mut self.0 {
            value.zeroize();
        }
    }
}

/// Decodes percent-encoding and `+`. A `%` without two hexadecimal digits is a `%` (WHATWG URL section 1.3).
pub(crate) fn decode(text: &str) -> Result<String, Error> {
    let spaced: Cow<'_, str> = if text.contains('+') { text.replace('+', " ").into() } else { text.into() };
    let bytes = spaced.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let [first, after @ ..] = rest {
        if let (b'%', [high, low, after @ ..]) = (first, after)
            && let (Some(high), Some(low)) = (hex(*high), hex(*low))
        {
            decoded.push(high << 4 | low);
            rest = after;
        } else {
            decoded.push(*first);
            rest = after;
        }
    }
    String::from_utf8(decoded).map_err(|_| not_utf8())
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

fn not_utf8() -> Error {
    Violation::new("query", Reason::Malformed, "is not UTF-8 after percent-decoding").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(text: &str, name: &str) -> Option<String> {
        FormFields::parse(text).unwrap().take(name)
    }

    #[test]
    fn fields_are_decoded_as_browsers_encode_them() {
        assert_eq!(take("a=1&b=x%20y+z", "b").as_deref(), Some("x y z"));
        assert_eq!(take("a=1&a=2", "a").as_deref(), Some("1"));
        assert_eq!(take("a=b=c", "a").as_deref(), Some("b=c"));
        assert_eq!(take("a=%2B%25%41", "a").as_deref(), Some("+%A"));
        assert_eq!(take("a=100%&b=%4", "a").as_deref(), Some("100%"));
        assert_eq!(take("&&a&=x", "a").as_deref(), Some(""));
        assert_eq!(take("a=1", "b"), None);
    }

    #[test]
    fn repeated_name_is_found() {
        assert!(FormFields::parse("a=1&b=2&%61=3").unwrap().repeats());
        assert!(!FormFields::parse("a=1&b=1&A=1").unwrap().repeats());
    }

    #[test]
    fn too_many_fields_are_refused() {
        let query = |count: usize| (0..count).map(|number| format!("p{number}=1&")).collect::<String>();
        assert!(!FormFields::parse(&query(FIELDS_MAX)).unwrap().repeats());
        assert!(FormFields::parse(&query(FIELDS_MAX + 1)).is_err());
        assert!(FormFields::parse_form(query(10_000).as_bytes()).is_err());
    }

    #[test]
    fn invalid_utf8_is_refused() {
        for text in ["a=%FF", "%C3=1", "a=%ED%A0%80"] {
            assert!(FormFields::parse(text).is_err(), "{text}");
        }
        assert!(FormFields::parse_form(b"a=\xFF").is_err());
    }
}
