//! Samples of one thing for one contender, and all of them together in the order in which they were first seen.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde::Serialize;

/// Measured values of one kind.
#[derive(Debug, Clone, Default)]
pub(crate) struct Samples(Vec<f64>);

impl Samples {
    /// The value that half of them do not exceed.
    pub(crate) fn median(&self) -> f64 {
        self.quantile(0.5)
    }

    /// The smallest of them that this share of them does not exceed; zero where there is none.
    pub(crate) fn quantile(&self, share: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let rank = (share * sorted.len() as f64).ceil() as usize;
        sorted.get(rank.saturating_sub(1)).copied().unwrap_or_default()
    }
}

/// What the report says of samples.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Cell {
    pub(crate) median: f64,
    pub(crate) p99: f64,
    pub(crate) n: usize,
}

/// One section of the report: rows by name, columns by contender.
#[derive(Debug, Default)]
pub(crate) struct Table {
    rows: Vec<String>,
    cells: BTreeMap<(String, String), Samples>,
}

impl Table {
    /// Adds a sample.
    pub(crate) fn note(&mut self, row: &str, column: &str, value: f64) {
        if !self.rows.iter().any(|known| known == row) {
            self.rows.push(row.to_owned());
        }
        self.cells.entry((row.to_owned(), column.to_owned())).or_default().0.push(value);
    }

    /// Adds a time in milliseconds.
    pub(crate) fn took(&mut self, row: &str, column: &str, took: Duration) {
        self.note(row, column, ms(took));
    }

    /// Runs a step that does not wait for others, and adds its time.
    pub(crate) fn run<T>(&mut self, row: &str, column: &str, step: impl FnOnce() -> T) -> T {
        let begun = Instant::now();
        let result = step();
        self.took(row, column, begun.elapsed());
        result
    }

    /// The names of the rows, in the order in which they came.
    pub(crate) fn rows(&self) -> &[String] {
        &self.rows
    }

    /// The columns that have at least one sample.
    pub(crate) fn columns(&self) -> Vec<&str> {
        let mut columns: Vec<_> = self.cells.keys().map(|(_, column)| column.as_str()).collect();
        columns.sort_unstable();
        columns.dedup();
        columns
    }

    /// What there is of a row and column.
    pub(crate) fn cell(&self, row: &str, column: &str) -> Option<Cell> {
        let samples = self.cells.get(&(row.to_owned(), column.to_owned()))?;
        Some(Cell { median: samples.median(), p99: samples.quantile(0.99), n: samples.0.len() })
    }

    /// The median of a row and column.
    pub(crate) fn median(&self, row: &str, column: &str) -> Option<f64> {
        self.cell(row, column).map(|cell| cell.median)
    }
}

/// Milliseconds.
pub(crate) fn ms(took: Duration) -> f64 {
    took.as_secs_f64() * 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_and_p99_are_values_that_were_measured() {
        let samples = |values: &[f64]| Samples(values.to_vec());
        assert_eq!(samples(&[3.0, 1.0, 2.0]).median(), 2.0);
        assert_eq!(samples(&[4.0, 1.0, 2.0, 3.0]).median(), 2.0);
        assert_eq!(samples(&[5.0]).quantile(0.99), 5.0);
        let hundred: Vec<_> = (1..=100).map(f64::from).collect();
        assert_eq!(samples(&hundred).quantile(0.99), 99.0);
        assert_eq!(samples(&[]).median(), 0.0);
    }
}
