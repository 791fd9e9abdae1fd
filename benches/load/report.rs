//! The table, for people and as JSON.

use std::{fs, path::Path};

use serde_json::{Value, json};

use self::Gate::{AtLeast, AtMost};

/// Resamples behind an interval.
const RESAMPLES: usize = 2_000;

/// What was measured, in the order in which it was told.
#[derive(Default)]
pub(crate) struct Report {
    figures: Vec<Figure>,
    notes: Vec<String>,
}

/// What a figure must be, and what it should be.
#[derive(Clone, Copy)]
pub(crate) enum Gate {
    AtLeast(f64, f64),
    AtMost(f64, f64),
}

struct Figure {
    name: String,
    unit: &'static str,
    gate: Option<Gate>,
    /// In order; at least one.
    samples: Vec<f64>,
}

// === impl Report ===

impl Report {
    /// Takes a figure's samples.
    pub(crate) fn show(&mut self, name: impl Into<String>, unit: &'static str, samples: Vec<f64>) {
        self.take(name.into(), unit, None, samples);
    }

    /// Takes the samples of a figure that has a gate.
    pub(crate) fn gate(&mut self, name: impl Into<String>, unit: &'static str, gate: Gate, samples: Vec<f64>) {
        self.take(name.into(), unit, Some(gate), samples);
    }

    fn take(&mut self, name: String, unit: &'static str, gate: Option<Gate>, mut samples: Vec<f64>) {
        samples.sort_by(f64::total_cmp);
        self.figures.push(Figure { name, unit, gate, samples });
    }

    /// Takes a line of text.
    pub(crate) fn note(&mut self, note: String) {
        self.notes.push(note);
    }

    /// Prints the table and writes `load.json` into `folder`.
    pub(crate) fn publish(&self, folder: &Path) {
        println!("\n{:<52} {:>11} {:>15} {:>8}   95% interval", "figure", "median", "gate", "stretch");
        for figure in &self.figures {
            println!("{}", figure.line());
        }
        for note in &self.notes {
            println!("{note}");
        }
        let figures: Vec<_> = self.figures.iter().map(Figure::json).collect();
        let text = format!("{:#}\n", json!({ "figures": figures, "notes": self.notes }));
        fs::write(folder.join("load.json"), text).expect("cargo writes beside it");
    }
}

// === impl Figure ===

impl Figure {
    /// Where the median of all runs may well be, judged by medians of samples drawn from ours (bootstrap).
    fn interval(&self) -> [f64; 2] {
        let mut chance = 0x9e37_79b9_7f4a_7c15_u64;
        let mut medians: Vec<_> = (0..RESAMPLES)
            .map(|_| {
                let drawn = self.samples.iter().map(|_| {
                    // Xorshift: the same interval from the same samples.
                    chance ^= chance << 13;
                    chance ^= chance >> 7;
                    chance ^= chance << 17;
                    self.samples[(chance % self.samples.len() as u64) as usize]
                });
                let mut drawn: Vec<_> = drawn.collect();
                drawn.sort_by(f64::total_cmp);
                median(&drawn)
            })
            .collect();
        medians.sort_by(f64::total_cmp);
        [medians[RESAMPLES / 40], medians[RESAMPLES - 1 - RESAMPLES / 40]]
    }

    fn is_met(&self) -> Option<bool> {
        Some(match self.gate? {
            AtLeast(gate, _) => median(&self.samples) >= gate,
            AtMost(gate, _) => median(&self.samples) <= gate,
        })
    }

    fn line(&self) -> String {
        let value = format!("{} {:<5}", short(median(&self.samples)), self.unit);
        let (gate, stretch) = match self.gate {
            None => (String::new(), String::new()),
            Some(AtLeast(gate, stretch)) => (format!(">= {}", short(gate)), short(stretch)),
            Some(AtMost(gate, stretch)) => (format!("<= {}", short(gate)), short(stretch)),
        };
        let verdict = match self.is_met() {
            None => "",
            Some(true) => " met",
            Some(false) => " MISSED",
        };
        let [low, high] = self.interval().map(short);
        format!("{:<52} {value:>11} {:>15} {stretch:>8}   {low} .. {high}", self.name, gate + verdict)
    }

    fn json(&self) -> Value {
        let gate = self.gate.map(|gate| match gate {
            AtLeast(gate, stretch) => json!({ "at_least": gate, "stretch": stretch }),
            AtMost(gate, stretch) => json!({ "at_most": gate, "stretch": stretch }),
        });
        json!({
            "figure": self.name, "median": median(&self.samples), "unit": self.unit, "gate": gate,
            "met": self.is_met(), "interval": self.interval(), "samples": self.samples,
        })
    }
}

/// Of numbers in order; at least one.
pub(crate) fn median(sorted: &[f64]) -> f64 {
    f64::midpoint(sorted[(sorted.len() - 1) / 2], sorted[sorted.len() / 2])
}

/// The number that the given part of the numbers in order does not exceed. Nothing meets no gate: it is infinite.
pub(crate) fn quantile(sorted: &[f64], part: f64) -> f64 {
    let rank = (sorted.len() as f64 * part).ceil() as usize;
    sorted.get(rank.max(1) - 1).copied().unwrap_or(f64::INFINITY)
}

/// About four digits.
fn short(number: f64) -> String {
    match number {
        ..10.0 => format!("{number:.3}"),
        ..100.0 => format!("{number:.1}"),
        _ => format!("{number:.0}"),
    }
}
