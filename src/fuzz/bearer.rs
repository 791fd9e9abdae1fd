//! Bearer tokens: parsing the header and checking the token. Only issued tokens are accepted.

use std::sync::LazyLock;

use super::{
    sample::{self, Sample},
    texts,
};
use crate::{
    common::bearer::{self, ACCESS_BYTES_MAX},
    domain::{Bearer, TokenTypeHint, TokenUse},
};

static SAMPLE: LazyLock<Sample> = LazyLock::new(sample::authenticate);

/// Placeholders for parts of real tokens, which differ in every process: an input must have the same meaning in each.
const PLACEHOLDERS: [&str; 4] = ["{head}", "{claims}", "{signature}", "{refresh}"];

pub(super) fn seeds() -> Vec<Vec<u8>> {
    texts(&[
        "Bearer {head}.{claims}.{signature}",
        "bearer {refresh}",
        "{head}.{claims}.{signature}",
        "{refresh}",
        "{head}.eyJzdWIiOiJhZGEifQ.{signature}",
        "{head}.{claims}.",
        "eyJhbGciOiJub25lIn0.{claims}.",
        "{head}..{signature}",
        "{head}.{claims}.{signature}=",
        "{head}.{claims}.{head}.{signature}",
        "wwr_{signature}",
        "wwr_AAAA",
        "Bearer a\nBearer b",
        "Basic YTpi",
        "Bearer  a",
        "BEARER -._~+/=",
    ])
}

/// Each line of the input is one header.
pub(super) fn try_input(input: &[u8]) {
    try_headers(input);
    let Ok(text) = std::str::from_utf8(input) else { return };
    let text = with_real_parts(text);
    try_headers(text.as_bytes());
    try_token(&text);
    if let Some(token) = text.strip_prefix("Bearer ") {
        try_token(token);
    }
}

fn try_headers(input: &[u8]) {
    let values: Vec<&[u8]> = input.split(|byte| *byte == b'\n').collect();
    let Bearer::Token(token) = Bearer::parse(values.iter().copied()) else { return };
    assert_eq!(values.len(), 1, "several headers were accepted");
    assert!(!token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic() && byte != b','), "{token:?}");
    let scheme = &values[0][..values[0].len() - token.len()];
    assert!(scheme.to_ascii_lowercase().trim_ascii_end() == b"bearer", "the header has other text");
    let again = format!("Bearer {token}");
    assert!(matches!(Bearer::parse([again.as_bytes()].into_iter()), Bearer::Token(same) if same == token));
    let twice = [again.as_bytes(), again.as_bytes()];
    assert!(matches!(Bearer::parse(twice.into_iter()), Bearer::Malformed));
}

/// Introspects a token, and parses it as a client does.
fn try_token(text: &str) {
    let Sample { auth, tokens, context } = &*SAMPLE;
    let introspect =
        |hint| sample::wait(auth.introspect_token(context, text, hint)).expect("a store in memory answers");
    let found = introspect(TokenTypeHint::Refresh);
    let is_access = text == tokens.access;
    assert_eq!(found.is_some(), is_access || text == tokens.refresh, "{text}");
    if let Some(found) = found {
        assert_eq!((found.session_id, found.username.as_str()), (tokens.session.id, sample::NAME));
        assert_eq!(found.token_use == TokenUse::Access, is_access);
    }
    assert_eq!(introspect(TokenTypeHint::Access).is_some(), is_access, "{text}");
    let header = bearer::header_of(text);
    assert!(header.is_none_or(|header| text.len() <= ACCESS_BYTES_MAX && text.starts_with(header)), "{text}");
    assert!(!is_access || header.is_some() && bearer::lifetime(text).is_some(), "an issued token was not recognized");
    bearer::lifetime(text);
}

/// Replaces the placeholders with parts of real tokens.
fn with_real_parts(text: &str) -> String {
    let tokens = &SAMPLE.tokens;
    let access: Vec<&str> = tokens.access.split('.').collect();
    let parts = [access[0], access[1], access[2], &tokens.refresh];
    PLACEHOLDERS.iter().zip(parts).fold(text.to_owned(), |text, (name, part)| text.replace(name, part))
}
