//! Fuzz targets for the parsers of untrusted input: each accepts any bytes, and panics if a property is violated.
//!
//! Only under the feature `fuzz`, which only the tests and `fuzz/` enable. The targets are in the crate because the parsers
//! are private. `tests/it/abuse/fuzz.rs` is the short run, `fuzz/run` the long one. Guarantees that an input has the same
//! result in every run. Does not know the fuzzer.

mod altcha;
mod bearer;
mod forwarded;
mod host;
mod phc;
mod query;
mod sample;
mod username;

/// A fuzz target.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Its name on the command line, and of its folder in `fuzz/regressions`.
    pub name: &'static str,
    /// Runs one input. Panics if a property is violated.
    pub try_input: fn(&[u8]),
    /// The first inputs: valid ones, and those that reach deep code.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// All targets.
pub const TARGETS: [Target; 7] = [
    Target { name: "altcha", try_input: altcha::try_input, seeds: altcha::seeds },
    Target { name: "bearer", try_input: bearer::try_input, seeds: bearer::seeds },
    Target { name: "forwarded", try_input: forwarded::try_input, seeds: forwarded::seeds },
    Target { name: "host", try_input: host::try_input, seeds: host::seeds },
    Target { name: "phc", try_input: phc::try_input, seeds: phc::seeds },
    Target { name: "query", try_input: query::try_input, seeds: query::seeds },
    Target { name: "username", try_input: username::try_input, seeds: username::seeds },
];

/// Texts as inputs.
fn texts(texts: &[&str]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}
