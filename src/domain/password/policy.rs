//! What a new password must be: long enough, uncommon, and not the username.
//!
//! No composition rules and no expiry (NIST SP 800-63B-4 3.1.1.2, ASVS 6.2.5 and 6.2.10). The list of common
//! passwords is compiled in; `COMMON.md` says where it comes from.

use super::{Password, Violation};
use crate::domain::{Username, error::Reason};

/// The 10 000 most common passwords: lower case, one a line, sorted by bytes.
const COMMON: &str = include_str!("common.txt");

/// Checks a new password against the policy; the first thing to mend is named.
pub(crate) fn check(password: &Password, username: Option<&Username>, chars_min: usize) -> Result<(), Violation> {
    let text = password.as_str();
    let violation = |reason, what: String| Err(Violation::new("password", reason, what));
    if text.chars().count() < chars_min {
        return violation(Reason::TooShort, format!("has fewer than {chars_min} characters"));
    }
    if is_common(text) {
        return violation(Reason::TooCommon, "is one of the most common passwords; choose another".into());
    }
    username.map_or(Ok(()), |username| equals_username(password, username))
}

/// The part of the policy that needs to know whose password it is.
pub(crate) fn equals_username(password: &Password, username: &Username) -> Result<(), Violation> {
    // Compared in canonical form: `Ada@Example.com` is no password for `ada@example.com`.
    if Username::parse(password.as_str()).ok().as_ref() == Some(username) {
        let what = "equals the username; choose another";
        return Err(Violation::new("password", Reason::EqualsUsername, what));
    }
    Ok(())
}

/// Whether the list has `password`, in any case.
fn is_common(password: &str) -> bool {
    let wanted = password.to_lowercase();
    let list = COMMON.as_bytes();
    // Bisects the text itself: no table to build at start, nothing to keep in memory.
    let (mut low, mut high) = (0, list.len());
    while low < high {
        let middle = low.midpoint(high);
        let start = list[..middle].iter().rposition(|&byte| byte == b'\n').map_or(0, |newline| newline + 1);
        let end = list[middle..].iter().position(|&byte| byte == b'\n').map_or(list.len(), |length| middle + length);
        match list[start..end].cmp(wanted.as_bytes()) {
            std::cmp::Ordering::Equal => return true,
            std::cmp::Ordering::Less => low = end + 1,
            std::cmp::Ordering::Greater => high = start,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(password: &str, username: &str) -> Option<Reason> {
        let password = Password::parse(password.into()).unwrap();
        let username = Username::parse(username).unwrap();
        check(&password, Some(&username), 8).err().map(|violation| violation.reason)
    }

    #[test]
    fn the_list_is_sorted_and_whole_and_every_line_is_found() {
        let lines: Vec<&str> = COMMON.lines().collect();
        assert_eq!(lines.len(), 10_000);
        assert!(lines.is_sorted());
        assert!(lines.iter().all(|line| is_common(line)));
    }

    #[test]
    fn common_short_and_self_naming_passwords_are_refused() {
        assert_eq!(reason("passw0rd", "ada"), Some(Reason::TooCommon));
        assert_eq!(reason("PassWord1", "ada"), Some(Reason::TooCommon));
        assert_eq!(reason("seven77", "ada"), Some(Reason::TooShort));
        assert_eq!(reason("Ada@Example.com", "ada@example.com"), Some(Reason::EqualsUsername));
    }

    #[test]
    fn length_counts_characters_not_bytes() {
        assert_eq!(reason("päßwörtü", "ada"), None);
        assert_eq!(reason("日本日本日本日", "ada"), Some(Reason::TooShort));
    }

    #[test]
    fn the_tutorials_password_is_accepted() {
        assert_eq!(reason("insecure", "soham"), None);
    }
}
