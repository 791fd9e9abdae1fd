//! The words that `docs/glossary.md` retires do not appear in code, protocol and documents.
//!
//! Reads the glossary's tables "Retired words" and "Exceptions". A word counts as a whole word in any case, and as a part of
//! an identifier: `open_door`, `OpenDoor`. The glossary itself is left out.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
};

use crate::architecture::{
    report,
    rules::Check,
    tree::{root, text_files},
};

const GLOSSARY: &str = "docs/glossary.md";

/// Longer runs of letters and digits are keys, hashes or tokens, where a word has no meaning.
const IDENTIFIER_CHARS_MAX: usize = 60;

/// The two tables.
struct Glossary {
    /// Retired word -> what to write.
    retired: HashMap<String, String>,
    exceptions: Vec<Exception>,
}

/// Where a retired word may stay.
struct Exception {
    word: String,
    /// Texts around the word.
    texts: Vec<String>,
    /// Folders and files. Empty: everywhere.
    places: Vec<String>,
}

/// A retired word in a line.
#[derive(Debug)]
struct Hit {
    place: String,
    word: String,
    write: String,
}

impl Glossary {
    fn parse(text: &str) -> Self {
        let mut retired = HashMap::new();
        for [words, write] in table(text, "## Retired words") {
            retired.extend(words.split(',').map(|word| (word.trim().to_lowercase(), write.clone())));
        }
        let exceptions = table(text, "## Exceptions").into_iter().map(|[word, places, reason]| {
            assert!(!reason.is_empty(), "{GLOSSARY}: the exception for {word} has no reason");
            let quoted = places.split('`').skip(1).step_by(2).map(str::to_owned);
            let (places, texts) = quoted.partition(|text: &String| {
                !text.contains(' ') && [".rs", ".md", ".proto", "/"].iter().any(|end| text.ends_with(end))
            });
            Exception { word: word.to_lowercase(), texts, places }
        });
        let exceptions = exceptions.collect();
        Self { retired, exceptions }
    }

    fn hits(&self, file: &str, text: &str) -> Vec<Hit> {
        let mut hits = Vec::new();
        for (number, line) in text.lines().enumerate() {
            for (at, word) in words(line) {
                let Some(write) = self.retired.get(&word) else { continue };
                if !self.is_exception(file, line, at, &word) {
                    let place = format!("{file}:{}", number + 1);
                    hits.push(Hit { place, word, write: write.clone() });
                }
            }
        }
        hits
    }

    fn is_exception(&self, file: &str, line: &str, at: usize, word: &str) -> bool {
        self.exceptions.iter().any(|exception| {
            let is_here = exception.places.is_empty() || exception.places.iter().any(|place| file.starts_with(place));
            is_here && exception.is_of(word) && exception.texts.iter().any(|text| surrounds(line, text, at, word))
        })
    }
}

impl Exception {
    /// An exception for `alarm` holds for `alarms`.
    fn is_of(&self, word: &str) -> bool {
        word.trim_end_matches('s') == self.word.trim_end_matches('s')
    }
}

/// Whether `text` is in the line around the word at `at`, and is no part of a longer identifier.
fn surrounds(line: &str, text: &str, at: usize, word: &str) -> bool {
    line.match_indices(text).any(|(start, _)| {
        let end = start + text.len();
        let is_part = |c: char| c.is_alphanumeric() || c == '_';
        start <= at
            && at + word.len() <= end
            && !line[..start].ends_with(|c| is_part(c) && text.starts_with(is_part))
            && !line[end..].starts_with(|c| is_part(c) && text.ends_with(is_part))
    })
}

/// The rows of the table below a heading, without its head.
fn table<const CELLS: usize>(text: &str, heading: &str) -> Vec<[String; CELLS]> {
    let section = text.lines().skip_while(|line| *line != heading).skip(1).take_while(|line| !line.starts_with("## "));
    let rows: Vec<[String; CELLS]> = section
        .filter(|line| line.starts_with('|'))
        .skip(2)
        .map(|line| {
            let cells: Vec<String> =
                line.trim().trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect();
            cells.try_into().unwrap_or_else(|cells| panic!("{GLOSSARY}: {cells:?}"))
        })
        .collect();
    assert!(!rows.is_empty(), "{GLOSSARY}: no table below {heading:?}");
    rows
}

/// The words of a line in lower case, with the byte where each begins. Parts of identifiers are words.
fn words(line: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let is_inside = |c: char| c.is_alphanumeric() || c == '_';
    let mut rest = 0;
    for run in line.split(|c| !is_inside(c)) {
        let start = rest;
        rest += run.len() + line[start + run.len()..].chars().next().map_or(0, char::len_utf8);
        if run.len() <= IDENTIFIER_CHARS_MAX {
            found.extend(parts(run).into_iter().map(|(at, part)| (start + at, part.to_lowercase())));
        }
    }
    found
}

/// The parts of an identifier: `door` and `count` of `door_count`, `Open` and `Door` of `OpenDoor`.
fn parts(run: &str) -> Vec<(usize, &str)> {
    let chars: Vec<(usize, char)> = run.char_indices().collect();
    let mut found = Vec::new();
    let mut start = 0;
    for (index, &(at, c)) in chars.iter().enumerate() {
        let before = index.checked_sub(1).map(|index| chars[index].1);
        let after = chars.get(index + 1).map(|&(_, c)| c);
        let is_word = |c: char| c.is_alphabetic();
        let begins = match before {
            Some(before) if is_word(before) && is_word(c) => {
                // `openDoor`, and `HTTPDoor`.
                c.is_uppercase() && (before.is_lowercase() || after.is_some_and(char::is_lowercase))
            }
            _ => true,
        };
        if begins && start < at {
            found.push((start, &run[start..at]));
        }
        if begins {
            start = at;
        }
    }
    if start < run.len() {
        found.push((start, &run[start..]));
    }
    found
}

/// Every text that must keep to the glossary.
fn texts() -> Vec<(String, String)> {
    let root = root();
    let mut texts = text_files(&root.join("src"), "rs");
    texts.extend(text_files(&root.join("proto/watchword"), "proto"));
    texts.extend(text_files(&root.join("docs"), "md"));
    texts.push(("README.md".into(), fs::read_to_string(root.join("README.md")).unwrap()));
    texts.retain(|(file, _)| file != GLOSSARY);
    texts.sort();
    texts
}

#[test]
#[expect(clippy::print_stdout, reason = "the counts are read with --nocapture")]
fn retired_words_do_not_appear() {
    let glossary = Glossary::parse(&fs::read_to_string(root().join(GLOSSARY)).unwrap());
    let hits: Vec<Hit> = texts().iter().flat_map(|(file, text)| glossary.hits(file, text)).collect();
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for hit in &hits {
        *counts.entry(&hit.word).or_default() += 1;
    }
    println!("retired words: {} in all, {counts:?}", hits.len());
    let lines: Vec<String> =
        hits.iter().map(|hit| format!("{}: `{}`, write: {}", hit.place, hit.word, hit.write)).collect();
    report(Check::RetiredWords, &lines);
}

const SMALL: &str = "\
## Retired words

| retired | write |
|---|---|
| door, doors | listener, API |
| whoever | the caller |
| alarm, alarms | configuration warning |
| nobody | no caller |

## Exceptions

| word | where | reason |
|---|---|---|
| alarm | `store_alarm`, the field `alarms` | contract |
| nobody | `\"name\":\"nobody\"` in `src/store/` | stored |
";

fn found(file: &str, text: &str) -> Vec<String> {
    Glossary::parse(SMALL).hits(file, text).into_iter().map(|hit| format!("{} {}", hit.place, hit.word)).collect()
}

#[test]
fn retired_word_is_found_as_a_word_and_as_a_part_of_an_identifier() {
    for text in
        ["door", "door_count", "OpenDoor", "openDoor", "HTTPDoor", "DOOR_MAX", "door2", "Whoever", "“door”", "é door"]
    {
        assert_eq!(found("src/a.rs", text).len(), 1, "{text}");
    }
    assert_eq!(found("src/a.rs", "// one\nfn f(doors: Whoever) {}"), ["src/a.rs:2 doors", "src/a.rs:2 whoever"]);
    assert_eq!(Glossary::parse(SMALL).hits("README.md", "a door")[0].write, "listener, API");
}

#[test]
fn part_of_a_longer_word_is_not_found() {
    let key = "aDoorB".repeat(20);
    for text in ["indoors", "Indoors", "doorway", "outdoor_count", "Doorway", "ådoor", &key] {
        assert_eq!(found("src/a.rs", text), Vec::<String>::new(), "{text}");
    }
}

#[test]
fn exception_holds_for_its_text_and_place_only() {
    for (file, text, hits) in [
        ("src/a.rs", "`store_alarm`", 0),
        ("src/a.rs", "the field alarms", 0),
        ("src/a.rs", "an alarm, store_alarm", 1),
        ("src/a.rs", "store_alarm_level", 1),
        ("src/store/a.rs", "{\"name\":\"nobody\"}", 0),
        ("src/domain/a.rs", "{\"name\":\"nobody\"}", 1),
        ("src/store/a.rs", "nobody", 1),
    ] {
        assert_eq!(found(file, text).len(), hits, "{file}: {text}");
    }
}
