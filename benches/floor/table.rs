//! Medians, their spread, and the ratios.

use std::collections::HashMap;
use std::fmt;

use crate::contender::Contender;

/// The figures of each program, by measure and round.
pub struct Table {
    rounds: usize,
    order: Vec<String>,
    values: HashMap<(String, usize), Vec<f64>>,
}

impl Table {
    /// An empty one.
    pub fn new(rounds: usize) -> Self {
        Self { rounds, order: Vec::new(), values: HashMap::new() }
    }

    /// Adds one figure of one round.
    pub fn add(&mut self, measure: &str, contender: Contender, value: f64) {
        if !self.order.iter().any(|known| known == measure) {
            self.order.push(measure.to_owned());
        }
        self.values.entry((measure.to_owned(), contender.column())).or_default().push(value);
    }

    fn median(&self, measure: &str, column: usize) -> f64 {
        let mut all = self.values.get(&(measure.to_owned(), column)).cloned().unwrap_or_default();
        all.sort_by(f64::total_cmp);
        all.get(all.len() / 2).copied().unwrap_or(f64::NAN)
    }

    /// The median; with several rounds, also the lowest and highest figure.
    fn cell(&self, measure: &str, column: usize) -> String {
        let median = self.median(measure, column);
        let all = self.values.get(&(measure.to_owned(), column)).map_or(&[][..], Vec::as_slice);
        if self.rounds == 1 {
            return short(median);
        }
        let lowest = all.iter().copied().fold(f64::INFINITY, f64::min);
        let highest = all.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        format!("{} ({}–{})", short(median), short(lowest), short(highest))
    }
}

/// A number with three significant digits.
fn short(value: f64) -> String {
    match value {
        value if value >= 100.0 => format!("{value:.0}"),
        value if value >= 10.0 => format!("{value:.1}"),
        value => format!("{value:.2}"),
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| measure | floor A | floor B | floor C | doorman | doorman / B | doorman / C | C / B |")?;
        writeln!(f, "| --- | --- | --- | --- | --- | --- | --- | --- |")?;
        for measure in &self.order {
            write!(f, "| {measure}")?;
            for column in 0..4 {
                write!(f, " | {}", self.cell(measure, column))?;
            }
            let [_, b, c, doorman] = [0, 1, 2, 3].map(|column| self.median(measure, column));
            writeln!(f, " | {:.2} | {:.2} | {:.2} |", doorman / b, doorman / c, c / b)?;
        }
        Ok(())
    }
}
