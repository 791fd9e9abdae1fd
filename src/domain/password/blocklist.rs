//! Lists of forbidden passwords: the 10 000 most common ones, compiled in, and a list of the operator.
//!
//! A list is text in lower case with one password per line, sorted by bytes. It is searched by bisection without an index,
//! so it needs as much memory as its file. `COMMON.md` names the source of the common passwords.

use std::{cmp::Ordering, fmt};

use unicode_normalization::{UnicodeNormalization, is_nfc};

use crate::domain::model::{PASSWORD_BYTES_MAX, with_plain_spaces};

/// The 10 000 most common passwords.
const COMMON: &str = include_str!("common.txt");

/// The maximum size of the operator's list in bytes: about three million passwords. Longer lists add little security (NIST
/// SP 800-63B-4 section 3.1.1.2) and slow down every start.
pub const BLOCKLIST_BYTES_MAX: usize = 32 * 1_024 * 1_024;

/// The operator's own list.
#[derive(Default)]
pub struct Blocklist(String);

impl Blocklist {
    /// Parses one password per line, UTF-8, in any order. Case is ignored; spaces are significant, and are U+0020 as
    /// in passwords. An error names the line, not its content.
    pub fn parse(bytes: Vec<u8>) -> Result<Self, String> {
        if bytes.len() > BLOCKLIST_BYTES_MAX {
            return Err(format!("has more than {BLOCKLIST_BYTES_MAX} bytes"));
        }
        let whole = String::from_utf8(bytes).map_err(|error| {
            let before = &error.as_bytes()[..error.utf8_error().valid_up_to()];
            format!("line {} is not UTF-8", 1 + before.iter().filter(|byte| **byte == b'\n').count())
        })?;
        // Some editors write a byte order mark.
        let text = whole.strip_prefix('\u{feff}').unwrap_or(&whole);
        let too_long = text.lines().position(|line| line.len() > PASSWORD_BYTES_MAX);
        if let Some(before) = too_long {
            return Err(format!(
                "line {} has more than {PASSWORD_BYTES_MAX} bytes, more than a password may have",
                before + 1
            ));
        }
        let text = with_plain_spaces(text);
        let lower = if is_nfc(&text) { text.to_lowercase() } else { text.nfc().collect::<String>().to_lowercase() };
        drop(text);
        drop(whole);
        let mut lines: Vec<_> = lower.lines().filter(|line| !line.is_empty()).collect();
        if lines.is_empty() {
            return Err("contains no password".into());
        }
        lines.sort_unstable();
        lines.dedup();
        Ok(Self(lines.join("\n")))
    }

    /// Whether the list contains `lower`, a password in lower case.
    pub(super) fn contains(&self, lower: &str) -> bool {
        contains_line(&self.0, lower)
    }
}

// Does not print passwords.
impl fmt::Debug for Blocklist {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Blocklist")
    }
}

/// Whether `lower`, a password in lower case, is one of the most common passwords.
pub(super) fn is_common(lower: &str) -> bool {
    contains_line(COMMON, lower)
}

fn contains_line(list: &str, wanted: &str) -> bool {
    let list = list.as_bytes();
    let (mut low, mut high) = (0, list.len());
    while low < high {
        let middle = low.midpoint(high);
        let start = list[..middle].iter().rposition(|&byte| byte == b'\n').map_or(0, |newline| newline + 1);
        let end = list[middle..].iter().position(|&byte| byte == b'\n').map_or(list.len(), |length| middle + length);
        match list[start..end].cmp(wanted.as_bytes()) {
            Ordering::Equal => return true,
            Ordering::Less => low = end + 1,
            Ordering::Greater => high = start,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Blocklist, String> {
        Blocklist::parse(text.as_bytes().to_vec())
    }

    #[test]
    fn common_list_is_sorted_and_every_line_is_found() {
        let lines: Vec<&str> = COMMON.lines().collect();
        assert_eq!(lines.len(), 10_000);
        assert!(lines.is_sorted());
        assert!(lines.iter().all(|line| is_common(line)));
    }

    #[test]
    fn operator_list_is_normalized() {
        let list = parse(
            "\u{feff}zebra-crossing\r\nAbracadabra\n\n  with blanks \nstra\u{df}e\ncafe\u{301} noir\nabracadabra",
        )
        .unwrap();
        for present in ["zebra-crossing", "abracadabra", "  with blanks ", "stra\u{df}e", "caf\u{e9} noir"] {
            assert!(list.contains(present), "{present:?}");
        }
        for absent in
            ["", "zebra", "zebra-crossing\r", "with blanks", "abracadabra\nzebra-crossing", "\u{feff}zebra-crossing"]
        {
            assert!(!list.contains(absent), "{absent:?}");
        }
        assert!(!Blocklist::default().contains(""));
        assert_eq!(format!("{list:?}"), "Blocklist");
    }

    #[test]
    fn parse_error_names_the_line_but_not_its_content() {
        let fault = |bytes: &[u8]| Blocklist::parse(bytes.to_vec()).unwrap_err();
        assert_eq!(fault(b""), "contains no password");
        assert_eq!(fault(b"\n\r\n"), "contains no password");
        assert_eq!(fault(b"fine\nfine too\nsecret \xff\n"), "line 3 is not UTF-8");
        let long = format!("fine\n{}\n", "x".repeat(1_025));
        assert_eq!(fault(long.as_bytes()), "line 2 has more than 1024 bytes, more than a password may have");
        let large = vec![b'\n'; BLOCKLIST_BYTES_MAX + 1];
        assert_eq!(Blocklist::parse(large).unwrap_err(), "has more than 33554432 bytes");
    }
}
