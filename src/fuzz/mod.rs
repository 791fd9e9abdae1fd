//! What strangers send, as targets for a fuzzer: each takes any bytes, and panics when a promise is broken.
//!
//! Only under the feature `fuzz`, which tests and `fuzz/` turn on and nobody else; it is here because the parsers are
//! private, and stay so. `tests/it/fuzz.rs` is the short run, `fuzz/run` the long one.

mod altcha;
mod bearer;
mod forwarded;
mod phc;
mod query;
mod sample;
mod username;

/// Something to fuzz.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// What it is called on the command line, and its folder in `fuzz/regressions`.
    pub name: &'static str,
    /// Tries an input; panics when a promise is broken.
    pub try_input: fn(&[u8]),
    /// Inputs to begin with: good ones, and those that go far.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// All of them.
pub const TARGETS: [Target; 6] = [
    Target { name: "altcha", try_input: altcha::try_input, seeds: altcha::seeds },
    Target { name: "bearer", try_input: bearer::try_input, seeds: bearer::seeds },
    Target { name: "forwarded", try_input: forwarded::try_input, seeds: forwarded::seeds },
    Target { name: "phc", try_input: phc::try_input, seeds: phc::seeds },
    Target { name: "query", try_input: query::try_input, seeds: query::seeds },
    Target { name: "username", try_input: username::try_input, seeds: username::seeds },
];

/// Texts as inputs.
fn texts(texts: &[&str]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}
