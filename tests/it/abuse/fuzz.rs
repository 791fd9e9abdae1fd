//! The short run of the fuzzer: every target of `watchword::fuzz` with its seeds, with mutated seeds, and with the inputs in
//! `fuzz/regressions`. The inputs are the same in each run. `fuzz/run` searches further, guided by coverage.

use std::{fs, panic::catch_unwind, path::Path};

use watchword::fuzz::{TARGETS, Target};

use crate::support::{disk::SeededRandom, is_full};

/// Bytes with a meaning in at least one of the parsers.
const BYTES: &[u8] = b"%&=+,;.:$[]{}\"' \t\n\0\x7f\x80\xc3\xe2\xff\xed09azAZ-_/~";

/// The longest input; more than any parser accepts.
const INPUT_BYTES_MAX: usize = 8_192;

/// One of the seeds, with some mutations.
fn mutated(seeds: &[Vec<u8>], random: &mut SeededRandom) -> Vec<u8> {
    let mut input = seeds[random.below(seeds.len())].clone();
    for _ in 0..1 + random.below(4) {
        let at = random.below(input.len() + 1);
        let end = (at + random.below(16)).min(input.len());
        match random.below(7) {
            0 if at < input.len() => input[at] ^= 1 << random.below(8),
            1 if at < input.len() => input[at] = BYTES[random.below(BYTES.len())],
            2 => input.insert(at, BYTES[random.below(BYTES.len())]),
            3 => drop(input.drain(at..end)),
            4 => input.truncate(at),
            5 => {
                let part = input[at..end].repeat(1 + random.below(64));
                input.splice(at..at, part);
            }
            _ => {
                let other = &seeds[random.below(seeds.len())];
                let from = random.below(other.len() + 1);
                input.splice(at..end, other[from..].iter().copied());
            }
        }
    }
    input.truncate(INPUT_BYTES_MAX);
    input
}

/// The first failing input, of the seeds and `count` mutated seeds.
fn first_failure(try_input: fn(&[u8]), seeds: &[Vec<u8>], count: usize) -> Option<Vec<u8>> {
    let mut random = SeededRandom(22);
    let mutated = (0..count).map(|_| mutated(seeds, &mut random));
    seeds.iter().cloned().chain(mutated).find(|input| catch_unwind(|| try_input(input)).is_err())
}

/// T22. `tests/run --all` runs 50 times as many inputs.
#[test]
fn mutated_inputs_violate_no_invariant_of_any_parser() {
    let count = if is_full() { 1_000_000 } else { 20_000 };
    let mut failures = Vec::new();
    for Target { name, try_input, seeds } in TARGETS {
        let input = first_failure(try_input, &seeds(), count);
        failures.extend(input.map(|input| format!("{name} with b\"{}\"", input.escape_ascii())));
    }
    assert!(failures.is_empty(), "failed: {}", failures.join("; "));
}

/// The control: a parser with a bug that no seed triggers.
#[test]
fn control_parser_with_a_planted_bug_is_detected() {
    let buggy_parser = |input: &[u8]| {
        let text = String::from_utf8_lossy(input);
        let hops = text.split(',').filter(|hop| !hop.starts_with('[') || hop.ends_with(']') || hop.len() < 4).count();
        assert_eq!(hops, text.split(',').count(), "planted");
    };
    let seeds = (TARGETS.iter().find(|target| target.name == "forwarded").unwrap().seeds)();
    let seeds_without_bracket: Vec<_> = seeds.into_iter().filter(|seed| !seed.contains(&b'[')).collect();
    assert!(first_failure(buggy_parser, &seeds_without_bracket, 5_000).is_some());
}

#[test]
fn regression_inputs_violate_no_invariant() {
    let entries = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/regressions")).unwrap();
    for folder in entries.map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()) {
        let name = folder.file_name().unwrap().to_str().unwrap();
        let target = TARGETS.iter().find(|target| target.name == name).unwrap_or_else(|| panic!("no target {name}"));
        for file in fs::read_dir(&folder).unwrap() {
            (target.try_input)(&fs::read(file.unwrap().path()).unwrap());
        }
    }
}
