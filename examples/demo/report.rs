//! What each step took.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

/// The steps so far.
#[derive(Default)]
pub(crate) struct Report {
    steps: Vec<(String, Duration)>,
}

impl Report {
    /// Runs a step and notes its time.
    pub(crate) async fn step<T>(&mut self, what: &str, step: impl Future<Output = Result<T>>) -> Result<T> {
        let start = Instant::now();
        let result = step.await.with_context(|| what.to_owned())?;
        self.add(what, start.elapsed());
        Ok(result)
    }

    /// Notes a step that is done.
    pub(crate) fn add(&mut self, what: &str, took: Duration) {
        println!("  ✓ {what} ({})", duration(took));
        self.steps.push((what.to_owned(), took));
    }

    /// Prints all steps as a table.
    pub(crate) fn print(&self) {
        let mut table = comfy_table::Table::new();
        table.load_style(comfy_table::presets::UTF8_FULL_CONDENSED).set_header(["step", "took"]);
        for (what, took) in &self.steps {
            table.add_row([what.clone(), duration(*took)]);
        }
        println!("\n{table}");
    }
}

fn duration(took: Duration) -> String {
    match took.as_millis() {
        ms @ ..10_000 => format!("{ms} ms"),
        ms => format!("{:.1} s", ms as f64 / 1000.0),
    }
}

/// Bytes for a person.
pub(crate) fn bytes(n: u64) -> String {
    bytesize::ByteSize(n).to_string()
}
