//! How answers look: tables for people, one JSON document for programs, ids alone for scripts.
//!
//! Names and messages come from whoever made a volume, so they are escaped before a terminal sees them: a name may
//! hold line breaks, and text that drives a terminal must not reach one. A table is drawn with lines on a terminal
//! and with plain columns elsewhere, where `awk` and `cut` read it. JSON has bytes and RFC 3339 times, under names
//! that do not change.

use std::io::{self, IsTerminal as _, Write as _};

use anyhow::{Context as _, Result};
use clap::ValueEnum;
use comfy_table::{CellAlignment, ColumnConstraint, ContentArrangement, Table, presets};
use serde::Serialize;

use crate::volume::record::Millis;

/// How a command answers.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Output {
    /// How the answer looks: a table for people, or one JSON document with bytes and RFC 3339 times
    #[arg(long = "output", short = 'o', value_enum, value_name = "FORMAT", default_value_t = Format::Table)]
    format: Format,

    /// Print ids only, or nothing where there is none to print; no progress
    #[arg(long, short)]
    pub(super) quiet: bool,
}

/// See [`Output`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people
    Table,
    /// For programs
    Json,
}

impl Output {
    /// Prints `value` as JSON, or `ids` if quiet, or what `people` draws.
    pub(super) fn print(
        &self,
        value: &impl Serialize,
        ids: &[&str],
        people: impl FnOnce(&Style) -> String,
    ) -> Result<()> {
        if self.format == Format::Json {
            return print(&json(value)?);
        }
        if self.quiet {
            return print(&ids.iter().map(|id| format!("{id}\n")).collect::<String>());
        }
        print(&people(&Style::of_stdout()))
    }

    /// Whether a person reads the answer.
    pub(super) fn is_for_people(&self) -> bool {
        self.format == Format::Table && !self.quiet
    }
}

fn json(value: &impl Serialize) -> Result<String> {
    let mut text = serde_json::to_string_pretty(value).context("cannot write the answer as JSON")?;
    text.push('\n');
    Ok(text)
}

/// Writes to standard output. A reader that has seen enough (`| head`) is no error.
pub(super) fn print(text: &str) -> Result<()> {
    #[cfg(test)]
    if capture::took(text) {
        return Ok(());
    }
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result.context("cannot write the answer"),
    }
}

/// Catches the answers of commands that run on this thread, for tests.
#[cfg(test)]
pub(super) mod capture {
    use std::cell::RefCell;

    thread_local!(static CAUGHT: RefCell<Option<String>> = const { RefCell::new(None) });

    /// From now on, answers are caught.
    pub(in crate::cli) fn start() {
        CAUGHT.set(Some(String::new()));
    }

    /// What was caught since.
    pub(in crate::cli) fn end() -> String {
        CAUGHT.take().unwrap_or_default()
    }

    pub(super) fn took(text: &str) -> bool {
        CAUGHT.with_borrow_mut(|caught| caught.as_mut().map(|caught| caught.push_str(text)).is_some())
    }
}

/// What the reader's side can show.
#[derive(Debug, Clone, Copy)]
pub(super) struct Style {
    /// Lines and columns that fit the window.
    pub(super) terminal: bool,
    /// Box characters.
    pub(super) utf8: bool,
}

impl Style {
    fn of_stdout() -> Style {
        let terminal = io::stdout().is_terminal();
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"]
            .iter()
            .find_map(|name| std::env::var(name).ok().filter(|value| !value.is_empty()))
            .unwrap_or_default()
            .to_ascii_lowercase();
        Style { terminal, utf8: terminal && (locale.contains("utf-8") || locale.contains("utf8")) }
    }

    /// For what is said beside the answer.
    pub(super) fn of_stderr() -> Style {
        Style { terminal: false, utf8: false }
    }

    /// What a file or a pipe gets.
    #[cfg(test)]
    pub(super) const PLAIN: Style = Style { terminal: false, utf8: false };

    /// Draws a table. A heading that begins with `>` makes its column right-aligned.
    pub(super) fn table(&self, headings: &[&str], rows: Vec<Vec<String>>) -> String {
        let mut table = Table::new();
        table.load_style(match (self.terminal, self.utf8) {
            (true, true) => presets::UTF8_FULL_CONDENSED,
            (true, false) => presets::ASCII_FULL_CONDENSED,
            (false, _) => presets::NOTHING,
        });
        if self.terminal {
            table.set_content_arrangement(ContentArrangement::Dynamic);
        } else {
            table.force_no_tty();
        }
        table.set_header(headings.iter().map(|heading| heading.trim_start_matches('>')));
        table.add_rows(
            rows.into_iter().map(|row| row.into_iter().map(|cell| clean(&cell)).collect::<Vec<_>>()),
        );
        for (column, heading) in table.column_iter_mut().zip(headings) {
            if heading.starts_with('>') {
                column.set_cell_alignment(CellAlignment::Right);
            }
            if heading.trim_start_matches('>') == "ID" {
                // An id that is broken over two lines cannot be copied.
                column.set_constraint(ColumnConstraint::ContentWidth);
            }
            if !self.terminal {
                column.set_padding((0, 2));
            }
        }
        let lines: Vec<String> = table.lines().map(|line| line.trim_end().to_owned() + "\n").collect();
        lines.concat()
    }
}

/// Draws `key: value` lines with the values under each other; empty values are left out.
pub(super) fn sheet(lines: &[(&str, String)]) -> String {
    let shown = || lines.iter().filter(|(_, value)| !value.is_empty());
    let width = shown().map(|(key, _)| key.chars().count()).max().unwrap_or(0);
    shown().map(|(key, value)| format!("{key:width$}  {}\n", clean(value))).collect()
}

/// Text without what drives a terminal or turns its direction.
pub(super) fn clean(text: &str) -> String {
    let harmless =
        |c: char| !(c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'));
    if text.chars().all(harmless) {
        return text.to_owned();
    }
    let mut shown = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if harmless(c) { shown.push(c) } else { shown.extend(c.escape_default()) }
    }
    shown
}

/// Bytes with three digits, in the units that `--size` takes: `1.5Gi`.
pub(super) fn human(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
    if bytes < 1024 {
        return bytes.to_string();
    }
    #[allow(clippy::cast_precision_loss, reason = "three digits are shown")]
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    // 999.5 and more would be shown with four digits.
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let digits = if value < 9.995 {
        2
    } else if value < 99.95 {
        1
    } else {
        0
    };
    let mut text = format!("{value:.digits$}");
    if digits > 0 {
        text.truncate(text.trim_end_matches('0').trim_end_matches('.').len());
    }
    text + UNITS[unit]
}

/// How long ago, in one unit: `5m`. Empty where the time is not known.
pub(super) fn age(then: Option<Millis>, now: Millis) -> String {
    let Some(then) = then else { return String::new() };
    let seconds = now.saturating_sub(then).max(0) / 1000;
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7200 => format!("{}m", seconds / 60),
        7200..172_800 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// A moment in RFC 3339, UTC, to the millisecond.
pub(super) fn rfc3339(millis: Millis) -> String {
    jiff::Timestamp::from_millisecond(millis).map(|time| format!("{time:.3}")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_three_digits_and_the_units_that_are_read_back() {
        fn check(bytes: u64, expect: &str) {
            assert_eq!(human(bytes), expect, "{bytes}");
        }
        check(0, "0");
        check(1023, "1023");
        check(1024, "1Ki");
        check(1536, "1.5Ki");
        check(1023 * 1024, "1Mi");
        check(10 << 30, "10Gi");
        check((10 << 30) + (1 << 29), "10.5Gi");
        check(123 << 20, "123Mi");
        check(u64::MAX, "16Ei");
    }

    #[test]
    fn ages_have_one_unit() {
        fn check(seconds: i64, expect: &str) {
            assert_eq!(age(Some(1_000_000), 1_000_000 + seconds * 1000), expect);
        }
        check(-5, "0s");
        check(119, "119s");
        check(121, "2m");
        check(7200, "2h");
        check(200_000, "2d");
        assert_eq!(age(None, 0), "");
    }

    #[test]
    fn times_are_rfc_3339() {
        assert_eq!(rfc3339(1_700_000_000_123), "2023-11-14T22:13:20.123Z");
    }

    #[test]
    fn a_name_cannot_drive_the_terminal() {
        fn check(text: &str, expect: &str) {
            assert_eq!(clean(text), expect);
        }
        check("datenbank-ü", "datenbank-ü");
        check("a\u{1b}[2Jb\nc", "a\\u{1b}[2Jb\\nc");
        check("a\u{202e}b", "a\\u{202e}b");
    }

    #[test]
    fn tables_are_drawn_for_windows_and_for_pipes() {
        let draw = |terminal, utf8| {
            let rows = vec![vec!["v-1".into(), "1Gi".into()], vec!["v-22".into(), "10Mi".into()]];
            Style { terminal, utf8 }.table(&["ID", ">SIZE"], rows)
        };
        insta::assert_snapshot!("table_utf8", draw(true, true));
        insta::assert_snapshot!("table_ascii", draw(true, false));
        insta::assert_snapshot!("table_plain", draw(false, false));
    }
}
