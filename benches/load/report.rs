//! The table of results, as text and as JSON.

use std::{fs, path::Path};

use serde_json::{Value, json};

use self::Gate::{AtLeast, AtMost};

/// The number of bootstrap resamples for an interval.
const RESAMPLES: usize = 2_000;

/// All figures and notes, in the order in which they were added.
#[derive(Default)]
pub(crate) struct Report {
    figures: Vec<Figure>,
    notes: Vec<String>,
}

/// A gate: the required value of a figure, and a stretch goal.
#[derive(Clone, Copy)]
pub(crate) enum Gate {
    AtLeast(f64, f64),
    AtMost(f64, f64),
}

struct Figure {
    name: String,
    unit: &'static str,
    gate: Option<Gate>,
    /// Sorted; at least one.
    samples: Vec<f64>,
}

// === impl Report ===

impl Report {
    /// Adds a figure without a gate.
    pub(crate) fn show(&mut self, name: impl Into<String>, unit: &'static str, samples: Vec<f64>) {
        self.add(name.into(), unit, None, samples);
    }

    /// Adds a figure with a gate.
    pub(crate) fn gate(&mut self, name: impl Into<String>, unit: &'static str, gate: Gate, samples: Vec<f64>) {
        self.add(name.into(), unit, Some(gate), samples);
    }

    fn add(&mut self, name: String, unit: &'static str, gate: Option<Gate>, mut samples: Vec<f64>) {
        samples.sort_by(f64::total_cmp);
        self.figures.push(Figure { name, unit, gate, samples });
    }

    /// Adds a line of text.
    pub(crate) fn note(&mut self, note: String) {
        self.notes.push(note);
    }

    /// Whether a figure misses its gate.
    pub(crate) fn has_missed_gate(&self) -> bool {
        self.figures.iter().any(|figure| figure.is_met() == Some(false))
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
        fs::write(folder.join("load.json"), text).expect("cargo writes into the target folder");
    }
}

// === impl Figure ===

impl Figure {
    /// The 95 % confidence interval of the median: a bootstrap with resamples of the samples.
    fn interval(&self) -> [f64; 2] {
        let mut random = 0x9e37_79b9_7f4a_7c15_u64;
        let mut medians: Vec<_> = (0..RESAMPLES)
            .map(|_| {
                let drawn = self.samples.iter().map(|_| {
                    // Xorshift with a fixed seed: equal samples give equal intervals.
                    random ^= random << 13;
                    random ^= random >> 7;
                    random ^= random << 17;
                    self.samples[(random % self.samples.len() as u64) as usize]
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

/// The median of sorted numbers; at least one.
pub(crate) fn median(sorted: &[f64]) -> f64 {
    f64::midpoint(sorted[(sorted.len() - 1) / 2], sorted[sorted.len() / 2])
}

/// The quantile of sorted numbers. Infinite without numbers, so that it meets no upper gate.
pub(crate) fn quantile(sorted: &[f64], part: f64) -> f64 {
    let rank = (sorted.len() as f64 * part).ceil() as usize;
    sorted.get(rank.max(1) - 1).copied().unwrap_or(f64::INFINITY)
}

/// The number with about four digits.
fn short(number: f64) -> String {
    match number {
        ..10.0 => format!("{number:.3}"),
        ..100.0 => format!("{number:.1}"),
        _ => format!("{number:.0}"),
    }
}
