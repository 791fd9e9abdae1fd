//! The table of the page: a row for each attack.

use std::fs;

use super::{
    attack::Attack,
    outcome::{Outcome, Way},
};
use crate::support::{is_full, program::root};

const PAGE: &str = "docs/security/brute-force.md";

const HEAD: &str = "\
| attacker | attempts sent | verified | most at one account | victim from a new address | with proof of work | \
from the familiar address | in a session | honest logins refused | honest logins with proof of work | records of failures |
|---|---|---|---|---|---|---|---|---|---|---|
";

pub fn table(simulated: &[(Attack, Outcome)]) -> String {
    simulated.iter().fold(HEAD.to_owned(), |table, (attack, outcome)| table + &row(attack, outcome) + "\n")
}

fn row(attack: &Attack, outcome: &Outcome) -> String {
    let Outcome { attempts, victim, honest, honest_with_work, records } = outcome;
    let works = match attack.card {
        None => String::new(),
        Some(_) => format!(", for {} basic works", spaced(attempts.works)),
    };
    let cells = [
        attack.name.to_owned(),
        format!("{}{works}", spaced(attempts.sent.into())),
        spaced(attempts.verified().into()),
        spaced(attempts.at_one_account().into()),
        victim.of(Way::NewAddress).to_string(),
        victim.of(Way::ProofOfWork).to_string(),
        victim.of(Way::FamiliarAddress).to_string(),
        victim.of(Way::Session).to_string(),
        format!("{} of {}", honest.tried - honest.right, honest.tried),
        honest_with_work.to_string(),
        format!("{}, {}", spaced(records.0 as u64), bytes(records.1 as u64)),
    ];
    format!("| {} |", cells.join(" | "))
}

/// Compares the rows with the page, or writes the table there. A row that is scaled down is not compared, nor one of several
/// nodes: whether one more attempt is verified depends on which node stores first.
pub fn assert_page_has(simulated: &[(Attack, Outcome)], table: &str) {
    let text = fs::read_to_string(root().join(PAGE)).unwrap();
    if std::env::var_os("WATCHWORD_TEST_WRITE").is_some() {
        assert!(is_full(), "the table has the figures of the long form: WATCHWORD_TEST_FULL=1");
        fs::write(root().join(PAGE), text.replace(&table_of(&text), table)).unwrap();
    } else {
        let compared = simulated.iter().filter(|(attack, _)| attack.scale == 1 && attack.nodes == 1);
        let rows = compared.map(|(attack, outcome)| row(attack, outcome));
        let missing: Vec<_> = rows.filter(|row| !table_of(&text).contains(row)).collect();
        assert!(missing.is_empty(), "{PAGE} should have these rows:\n\n{}", missing.join("\n"));
    }
}

/// The table as the page has it.
fn table_of(page: &str) -> String {
    let first = HEAD.split('|').nth(1).unwrap();
    let lines = page.lines().skip_while(|line| !line.starts_with(&format!("|{first}|")));
    lines.take_while(|line| line.starts_with('|')).map(|line| format!("{line}\n")).collect()
}

/// A number with a space before each group of three digits.
fn spaced(number: u64) -> String {
    let digits = number.to_string();
    let groups: Vec<_> = digits.as_bytes().rchunks(3).rev().map(|group| str::from_utf8(group).unwrap()).collect();
    groups.join(" ")
}

fn bytes(number: u64) -> String {
    match number {
        0..10_000 => format!("{} B", spaced(number)),
        10_000..10_000_000 => format!("{} kB", spaced(number.div_ceil(1_000))),
        10_000_000.. => format!("{} MB", number.div_ceil(1_000_000)),
    }
}
