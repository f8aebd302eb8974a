//! The result of a run: JSON for programs, Markdown for `docs/performance.md`, and what a person sees.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::published;
use crate::stats::Table;
use crate::targets::Target;

const BEGIN: &str = "<!-- bench: begin. Written by `make bench`; changes by hand are lost. -->";
const END: &str = "<!-- bench: end -->";

/// All sections.
#[derive(Debug, Default)]
pub(crate) struct Tables {
    pub(crate) ext4: Table,
    pub(crate) xfs: Table,
    pub(crate) lives: Table,
    pub(crate) sizes: Table,
    pub(crate) scale: Table,
    pub(crate) start: Table,
    pub(crate) memory: Table,
    pub(crate) fio: Table,
    /// What was said about the run: machine, data written, what was left out.
    pub(crate) notes: Vec<String>,
}

impl Tables {
    fn sections(&self) -> [(&'static str, &'static str, &Table); 8] {
        [
            ("ext4", "Calls of a volume's life, ext4, ms", &self.ext4),
            ("xfs", "Calls of a volume's life, xfs, ms", &self.xfs),
            ("lives", "Whole lives per second", &self.lives),
            ("sizes", "Copies by size, ms", &self.sizes),
            ("scale", "Cost of having many volumes, ms", &self.scale),
            ("start", "Start, ms", &self.start),
            ("memory", "Memory and size, MiB", &self.memory),
            ("fio", "fio, MiB/s", &self.fio),
        ]
    }

    /// Everything for a program.
    pub(crate) fn json(&self, targets: &[Target]) -> Value {
        let sections: BTreeMap<_, _> = self
            .sections()
            .into_iter()
            .map(|(key, title, table)| {
                let rows: Vec<_> = table
                    .rows()
                    .iter()
                    .map(|row| {
                        let cells: BTreeMap<_, _> = table
                            .columns()
                            .into_iter()
                            .filter_map(|column| Some((column, table.cell(row, column)?)))
                            .collect();
                        json!({ "what": row, "cells": cells })
                    })
                    .collect();
                (key, json!({ "title": title, "rows": rows }))
            })
            .collect();
        json!({ "notes": self.notes, "targets": targets, "sections": sections })
    }

    /// Everything for a reader.
    pub(crate) fn markdown(&self, targets: &[Target], plot: Option<&str>) -> String {
        let mut out = String::new();
        for note in &self.notes {
            let _ = writeln!(out, "- {note}");
        }
        out.push_str("\n### Targets\n\n| target | goal | reached | |\n| --- | --- | --- | --- |\n");
        for target in targets {
            let met = if target.met { "met" } else { "**missed**" };
            let _ = writeln!(out, "| {} | {} | {} | {met} |", target.what, target.goal, target.reached);
        }
        if let Some(plot) = plot {
            let _ = write!(out, "\n![Copies by size, calls by number of volumes]({plot})\n");
        }
        for (_, title, table) in self.sections() {
            if !table.rows().is_empty() {
                let _ = write!(out, "\n### {title}\n\n");
                markdown_table(table, &mut out);
            }
        }
        out
    }
}

fn markdown_table(table: &Table, out: &mut String) {
    let columns = ordered(table);
    let known = table.rows().iter().any(|row| published::figure(row).is_some());
    let mut head: Vec<String> = columns.iter().map(|column| (*column).to_owned()).collect();
    if known {
        head.push(format!("*{}*", published::COLUMN));
    }
    let _ = writeln!(out, "| | {} |\n| --- |{}", head.join(" | "), " --- |".repeat(head.len()));
    for row in table.rows() {
        let _ = write!(out, "| {row} |");
        for column in &columns {
            match table.cell(row, column) {
                Some(cell) if cell.n > 1 => {
                    let _ = write!(out, " {} (p99 {}) |", number(cell.median), number(cell.p99));
                }
                Some(cell) => {
                    let _ = write!(out, " {} |", number(cell.median));
                }
                None => out.push_str(" |"),
            }
        }
        if known {
            let _ = write!(out, " {} |", published::figure(row).map(number).unwrap_or_default());
        }
        out.push('\n');
    }
}

/// Offshoot first, then the others; numbers of volumes by size.
fn ordered(table: &Table) -> Vec<&str> {
    let mut columns = table.columns();
    columns.sort_by_key(|column| {
        let number = column.split(' ').next().and_then(|word| word.parse::<u64>().ok());
        (number, *column != "offshoot", *column)
    });
    columns
}

/// A figure with three digits that mean something.
pub(crate) fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

/// Puts the Markdown between the markers of a page.
pub(crate) fn write_between_markers(page: &Path, markdown: &str) -> Result<()> {
    let text = std::fs::read_to_string(page).with_context(|| format!("read {}", page.display()))?;
    let (Some(begin), Some(end)) = (text.find(BEGIN), text.find(END)) else {
        anyhow::bail!("{} has no lines {BEGIN:?} and {END:?}", page.display());
    };
    let text = format!("{}{BEGIN}\n\n{markdown}\n{}", &text[..begin], &text[end..]);
    std::fs::write(page, text).with_context(|| format!("write {}", page.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_figures_replace_only_what_is_between_the_markers() {
        let dir = tempfile::tempdir().unwrap();
        let page = dir.path().join("page.md");
        std::fs::write(&page, format!("before\n{BEGIN}\nold\n{END}\nafter\n")).unwrap();
        write_between_markers(&page, "new").unwrap();
        assert_eq!(
            std::fs::read_to_string(&page).unwrap(),
            format!("before\n{BEGIN}\n\nnew\n{END}\nafter\n")
        );
        std::fs::write(&page, "no markers").unwrap();
        assert!(write_between_markers(&page, "new").is_err());
    }

    #[test]
    fn a_number_has_three_digits() {
        assert_eq!([0.1234, 1.234, 12.34, 123.4].map(number), ["0.123", "1.23", "12.3", "123"]);
    }
}
