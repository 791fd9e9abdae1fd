//! The table, for people and as JSON.

use std::{fs, path::Path};

use serde_json::{Value, json};

use self::Gate::{AtLeast, AtMost};

/// What was measured, in the order in which it was told.
#[derive(Default)]
pub(crate) struct Report {
    figures: Vec<Figure>,
    notes: Vec<String>,
}

/// What a figure should be.
#[derive(Clone, Copy)]
pub(crate) enum Gate {
    AtLeast(f64),
    AtMost(f64),
}

struct Figure {
    name: &'static str,
    unit: &'static str,
    gate: Option<Gate>,
    /// In order; at least one.
    samples: Vec<f64>,
}

// === impl Report ===

impl Report {
    /// Takes a figure's samples.
    pub(crate) fn show(&mut self, name: &'static str, unit: &'static str, samples: Vec<f64>) {
        self.take(name, unit, None, samples);
    }

    /// Takes the samples of a figure that has a gate.
    pub(crate) fn gate(&mut self, name: &'static str, unit: &'static str, gate: Gate, samples: Vec<f64>) {
        self.take(name, unit, Some(gate), samples);
    }

    fn take(&mut self, name: &'static str, unit: &'static str, gate: Option<Gate>, mut samples: Vec<f64>) {
        samples.sort_by(f64::total_cmp);
        self.figures.push(Figure { name, unit, gate, samples });
    }

    /// Takes a line of text.
    pub(crate) fn note(&mut self, note: String) {
        self.notes.push(note);
    }

    /// Prints the table and writes the file of that name.
    pub(crate) fn publish(&self, name: &str) {
        println!("\n{:<43} {:>11} {:>15}   spread", "figure", "value", "gate");
        for figure in &self.figures {
            println!("{}", figure.line());
        }
        for note in &self.notes {
            println!("{note}");
        }
        let figures: Vec<_> = self.figures.iter().map(Figure::json).collect();
        let text = format!("{:#}\n", json!({ "figures": figures, "notes": self.notes }));
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("bench");
        fs::create_dir_all(&folder).expect("cargo writes beside it");
        fs::write(folder.join(name).with_extension("json"), text).expect("cargo writes beside it");
    }
}

// === impl Figure ===

impl Figure {
    fn median(&self) -> f64 {
        let (low, high) = (self.samples[(self.samples.len() - 1) / 2], self.samples[self.samples.len() / 2]);
        (low + high) / 2.0
    }

    fn spread(&self) -> [f64; 2] {
        [self.samples[0], self.samples[self.samples.len() - 1]]
    }

    fn is_met(&self) -> Option<bool> {
        Some(match self.gate? {
            AtLeast(gate) => self.median() >= gate,
            AtMost(gate) => self.median() <= gate,
        })
    }

    fn line(&self) -> String {
        let value = format!("{} {:<5}", short(self.median()), self.unit);
        let gate = match self.gate {
            None => String::new(),
            Some(AtLeast(gate)) => format!(">= {}", short(gate)),
            Some(AtMost(gate)) => format!("<= {}", short(gate)),
        };
        let verdict = match self.is_met() {
            None => "",
            Some(true) => " met",
            Some(false) => " MISSED",
        };
        let [low, high] = self.spread();
        format!("{:<43} {value:>11} {:>15}   {} .. {}", self.name, gate + verdict, short(low), short(high))
    }

    fn json(&self) -> Value {
        let gate = self.gate.map(|gate| match gate {
            AtLeast(gate) => json!({ "at_least": gate }),
            AtMost(gate) => json!({ "at_most": gate }),
        });
        json!({
            "figure": self.name, "value": self.median(), "unit": self.unit, "gate": gate, "met": self.is_met(),
            "spread": self.spread(), "samples": self.samples.len(),
        })
    }
}

/// About four digits.
fn short(number: f64) -> String {
    match number {
        ..10.0 => format!("{number:.3}"),
        ..100.0 => format!("{number:.1}"),
        _ => format!("{number:.0}"),
    }
}
