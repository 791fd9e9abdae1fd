//! The short run of the fuzzer: every target of `watchword::fuzz` with its seeds, with changed ones, and with whatever
//! broke something once (`fuzz/regressions`). The same inputs every time. `fuzz/run` looks further, guided by coverage.

use std::{fs, panic::catch_unwind, path::Path};

use watchword::fuzz::{TARGETS, Target};

use crate::support::{disk::SeededRandom, is_full};

/// Bytes that mean something to one of the parsers.
const BYTES: &[u8] = b"%&=+,;.:$[]{}\"' \t\n\0\x7f\x80\xc3\xe2\xff\xed09azAZ-_/~";

/// Bytes of an input at most; more than any parser takes.
const INPUT_BYTES_MAX: usize = 8_192;

/// An input made of the seeds: one of them, with some changes.
fn changed(seeds: &[Vec<u8>], chance: &mut SeededRandom) -> Vec<u8> {
    let mut input = seeds[chance.below(seeds.len())].clone();
    for _ in 0..1 + chance.below(4) {
        let at = chance.below(input.len() + 1);
        let end = (at + chance.below(16)).min(input.len());
        match chance.below(7) {
            0 if at < input.len() => input[at] ^= 1 << chance.below(8),
            1 if at < input.len() => input[at] = BYTES[chance.below(BYTES.len())],
            2 => input.insert(at, BYTES[chance.below(BYTES.len())]),
            3 => drop(input.drain(at..end)),
            4 => input.truncate(at),
            5 => {
                let part = input[at..end].repeat(1 + chance.below(64));
                input.splice(at..at, part);
            }
            _ => {
                let other = &seeds[chance.below(seeds.len())];
                let from = chance.below(other.len() + 1);
                input.splice(at..end, other[from..].iter().copied());
            }
        }
    }
    input.truncate(INPUT_BYTES_MAX);
    input
}

/// The first input that breaks a promise, of the seeds and so many changed ones.
fn broken_by(try_input: fn(&[u8]), seeds: &[Vec<u8>], count: usize) -> Option<Vec<u8>> {
    let mut chance = SeededRandom(22);
    let changed = (0..count).map(|_| changed(seeds, &mut chance));
    seeds.iter().cloned().chain(changed).find(|input| catch_unwind(|| try_input(input)).is_err())
}

/// T22. `WATCHWORD_TEST_FULL=1` takes 50 times as many.
#[test]
fn no_changed_input_breaks_a_promise_of_any_parser() {
    let count = if is_full() { 1_000_000 } else { 20_000 };
    let mut broken = Vec::new();
    for Target { name, try_input, seeds } in TARGETS {
        let input = broken_by(try_input, &seeds(), count);
        broken.extend(input.map(|input| format!("{name} by b\"{}\"", input.escape_ascii())));
    }
    assert!(broken.is_empty(), "broken: {}", broken.join("; "));
}

/// The control: a parser with a mistake that no seed meets.
#[test]
fn a_parser_with_a_mistake_is_found_out() {
    let mistaken = |input: &[u8]| {
        let text = String::from_utf8_lossy(input);
        let hops = text.split(',').filter(|hop| !hop.starts_with('[') || hop.ends_with(']') || hop.len() < 4).count();
        assert_eq!(hops, text.split(',').count(), "planted");
    };
    let seeds = (TARGETS.iter().find(|target| target.name == "forwarded").unwrap().seeds)();
    let good: Vec<_> = seeds.into_iter().filter(|seed| !seed.contains(&b'[')).collect();
    assert!(broken_by(mistaken, &good, 5_000).is_some());
}

#[test]
fn what_broke_a_promise_once_does_so_no_more() {
    let entries = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/regressions")).unwrap();
    for folder in entries.map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()) {
        let name = folder.file_name().unwrap().to_str().unwrap();
        let target = TARGETS.iter().find(|target| target.name == name).unwrap_or_else(|| panic!("no target {name}"));
        for file in fs::read_dir(&folder).unwrap() {
            (target.try_input)(&fs::read(file.unwrap().path()).unwrap());
        }
    }
}
