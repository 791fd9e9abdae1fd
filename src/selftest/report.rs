//! The report: a table, a verdict for each pair, and one verdict for all.

use std::fmt;

use super::{AccountPair, Comparison, Role, Series, THRESHOLD, TestedApi};
use crate::domain::password::Cost;

/// The result of the measurements.
#[derive(Debug)]
pub struct TimingReport {
    /// The kind of store.
    pub(super) store: &'static str,
    pub(super) cost: Cost,
    /// The median duration of a hash in the node, in microseconds.
    pub hash_us: f64,
    pub(super) samples: usize,
    /// A finding for each pair on each API.
    pub findings: Vec<Finding>,
}

/// The finding for one pair on one API.
#[derive(Debug)]
pub struct Finding {
    /// The API.
    pub api: TestedApi,
    /// What the second account is.
    pub name: &'static str,
    /// The purpose of the pair.
    pub role: Role,
    /// HashCounter that each call costs.
    pub hashes_each: u64,
    /// The comparison of the times in each measurement, in microseconds.
    pub times_us: Vec<Comparison>,
    /// Whether all responses had the same bytes.
    pub is_same_answer: bool,
    /// Whether every call cost the expected number of hashes: one for a login, none for a reset.
    pub is_same_cost: bool,
}

/// The verdict for all pairs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The controls are correct, and no pair differs.
    NothingFound,
    /// A pair differs.
    Differs,
    /// The controls are not correct.
    TooNoisy,
}

impl TimingReport {
    /// The verdict for all pairs.
    pub fn verdict(&self) -> Verdict {
        let differs = |role| self.findings.iter().filter(move |found| found.role == role).map(Finding::differs);
        let is_sound = differs(Role::Planted).all(|found| found) && !differs(Role::Control).any(|found| found);
        match (is_sound, differs(Role::Secret).any(|found| found)) {
            (false, _) => Verdict::TooNoisy,
            (true, true) => Verdict::Differs,
            (true, false) => Verdict::NothingFound,
        }
    }
}

impl Finding {
    pub(super) fn new(api: TestedApi, pair: &AccountPair, one: &Series, other: &Series) -> Self {
        let mut found = Self {
            api,
            name: pair.name,
            role: pair.role,
            hashes_each: pair.call.hashes(),
            times_us: Vec::new(),
            is_same_answer: true,
            is_same_cost: true,
        };
        found.add(one, other);
        found
    }

    /// Adds a measurement.
    pub(super) fn add(&mut self, one: &Series, other: &Series) {
        self.times_us.push(Comparison::of(&one.times_us, &other.times_us));
        self.is_same_answer &= one.responses.len() == 1 && one.responses == other.responses;
        self.is_same_cost &= [one, other].iter().all(|series| series.hashes_each.iter().eq(&[self.hashes_each]));
    }

    /// Whether all measurements so far find a difference in the same direction.
    pub fn differs(&self) -> bool {
        let slower = self.times_us.iter().all(|times| times.t >= THRESHOLD);
        let faster = self.times_us.iter().all(|times| times.t <= -THRESHOLD);
        slower || faster || !self.is_same_answer || !self.is_same_cost
    }

    /// The verdict in the table.
    fn verdict_text(&self) -> String {
        if !self.is_same_answer {
            return "DIFFERENT RESPONSE".into();
        }
        if !self.is_same_cost {
            return "DIFFERENT NUMBER OF HASHES".into();
        }
        match (self.role, self.differs(), self.times_us.len()) {
            (Role::Planted, true, _) => "found, as it must be".into(),
            (Role::Planted, false, _) => "NOT FOUND".into(),
            (Role::Control | Role::Secret, true, count) => format!("A DIFFERENCE, {count} times of {count}"),
            (Role::Control | Role::Secret, false, 1) => "no difference found".into(),
            (Role::Control | Role::Secret, false, count) => format!("no difference found in measurement {count}"),
        }
    }
}

impl Verdict {
    /// The exit code of the command.
    pub fn exit_code(self) -> u8 {
        match self {
            Verdict::NothingFound => 0,
            Verdict::Differs => 1,
            Verdict::TooNoisy => 2,
        }
    }
}

impl fmt::Display for TimingReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (cost, hash_us) = (self.cost, self.hash_us);
        writeln!(
            f,
            "Store: {}. A hash takes {:.2} ms here (Argon2id m={} KiB, t={}, p={}). The wrong password of a user against\n\
             others, {} calls each, one at a time; times as the caller waits, in medians; |t| from {THRESHOLD} on is a difference.\n",
            self.store,
            hash_us / 1e3,
            cost.memory_kib,
            cost.passes,
            cost.lanes,
            self.samples,
        )?;
        writeln!(f, "api   against                           ms     ms there  difference           |t|  verdict")?;
        for found in &self.findings {
            let times = &found.times_us[0];
            let ts: Vec<_> = found.times_us.iter().map(|times| format!("{:.1}", times.t.abs())).collect();
            writeln!(
                f,
                "{:5} {:31} {:7.3} {:7.3} {:+8.1} µs {:+6.2} % {:>7}  {}",
                found.api.name(),
                found.name,
                times.medians[0] / 1e3,
                times.medians[1] / 1e3,
                times.difference(),
                times.difference() / hash_us * 100.0,
                ts[0],
                found.verdict_text(),
            )?;
        }
        for api in TestedApi::ALL {
            let of_control = |found: &&Finding| found.api == api && found.role == Role::Control;
            for control in self.findings.iter().filter(of_control) {
                let resolution = control.times_us[0].resolution;
                writeln!(
                    f,
                    "{}: a difference of {resolution:.0} µs, {:.1} % of a hash, would be found nine times in ten.",
                    api.name(),
                    resolution / hash_us * 100.0,
                )?;
            }
        }
        f.write_str(match self.verdict() {
            Verdict::NothingFound => "no difference found\n",
            Verdict::Differs => "A DIFFERENCE WAS FOUND\n",
            Verdict::TooNoisy => "this machine is too noisy to tell\n",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A finding whose measurements have these values of t.
    fn found(role: Role, ts: &[f64]) -> Finding {
        let times = |t: &f64| Comparison { medians: [4_000.0, 4_001.0], t: *t, resolution: 20.0 };
        let times_us = ts.iter().map(times).collect();
        Finding {
            api: TestedApi::Grpc,
            name: "another user",
            role,
            hashes_each: 1,
            times_us,
            is_same_answer: true,
            is_same_cost: true,
        }
    }

    fn report(secret: Finding, control: &[f64], planted: &[f64]) -> TimingReport {
        let findings = vec![found(Role::Control, control), secret, found(Role::Planted, planted)];
        TimingReport { store: "embedded", cost: Cost::DEFAULT, hash_us: 4_000.0, samples: 500, findings }
    }

    #[test]
    fn difference_needs_every_measurement_in_the_same_direction() {
        let differs = |ts: &[f64]| found(Role::Secret, ts).differs();
        assert!(differs(&[4.5, 5.0, 9.0, 30.0]) && differs(&[-4.5, -5.0, -9.0, -30.0]));
        assert!(!differs(&[4.4]) && !differs(&[9.0, 9.0, 9.0, 4.4]) && !differs(&[9.0, 9.0, -9.0]));
        assert!(Finding { is_same_answer: false, ..found(Role::Secret, &[0.0]) }.differs());
        assert!(Finding { is_same_cost: false, ..found(Role::Secret, &[0.0]) }.differs());
    }

    #[test]
    fn verdict_is_too_noisy_when_controls_fail() {
        let (equal, other) = (|| found(Role::Secret, &[1.0]), || found(Role::Secret, &[9.0; 4]));
        for (secret, control, planted, verdict, words) in [
            (equal(), &[1.0][..], &[9.0; 4][..], Verdict::NothingFound, "no difference found\n"),
            (other(), &[1.0], &[9.0; 4], Verdict::Differs, "A DIFFERENCE WAS FOUND\n"),
            (equal(), &[1.0], &[9.0, 1.0], Verdict::TooNoisy, "this machine is too noisy to tell\n"),
            (other(), &[9.0; 4], &[9.0; 4], Verdict::TooNoisy, "this machine is too noisy to tell\n"),
        ] {
            let report = report(secret, control, planted);
            assert_eq!(report.verdict(), verdict);
            let text = report.to_string();
            assert!(text.ends_with(words), "{text}");
        }
        assert_eq!([Verdict::NothingFound, Verdict::Differs, Verdict::TooNoisy].map(Verdict::exit_code), [0, 1, 2]);
        let text = report(Finding { is_same_answer: false, ..equal() }, &[1.0], &[9.0; 4]).to_string();
        assert!(text.contains("DIFFERENT RESPONSE") && text.contains("would be found"), "{text}");
    }
}
