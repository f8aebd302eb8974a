//! What a person sees while a long copy runs.
//!
//! Copies on a pool with reflinks are done before anything could be drawn; on one without, they take as long as their
//! bytes. So nothing is shown for the first half second. After that a terminal gets a bar per copy, anything else gets
//! a line per tenth. All of it goes to standard error: the answer stays alone on standard output.

use std::collections::HashMap;
use std::future::pending;
use std::io::{self, IsTerminal as _, Write as _};
use std::time::Duration;

use anyhow::Result;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use tokio::sync::mpsc;
use tonic::{Response, Status};

use super::output::{clean, human};
use super::session::{Session, bytes, said};
use crate::proto::offshoot::progress::State;
use crate::proto::offshoot::{Progress, WatchProgressRequest};

/// A call that is done by then shows nothing.
const PATIENCE: Duration = Duration::from_millis(500);

/// Waits for `call`, and shows the copies that run meanwhile: those that make `object`, or all if that is not known.
pub(super) async fn watched<T>(
    session: &Session,
    quiet: bool,
    object: Option<&str>,
    call: impl Future<Output = Result<Response<T>, Status>>,
) -> Result<T> {
    if quiet {
        return Ok(call.await.map_err(said)?.into_inner());
    }
    let (send, mut news) = mpsc::channel(16);
    let watching = watch(session, send);
    let patience = tokio::time::sleep(PATIENCE);
    tokio::pin!(call, watching, patience);
    let mut screen = Screen::new(io::stderr().is_terminal());
    let mut long = false;
    let result = loop {
        tokio::select! {
            biased;
            result = &mut call => break result,
            () = &mut patience, if !long => {
                long = true;
                screen.show();
            }
            Some(progress) = news.recv() => {
                if object.is_none_or(|object| object == progress.id) {
                    screen.take(progress, long);
                }
            }
            () = &mut watching => {}
        }
    };
    screen.clear();
    Ok(result.map_err(said)?.into_inner())
}

/// Passes progress on, and never ends: a server that cannot say how far it is still does the work.
async fn watch(session: &Session, to: mpsc::Sender<Progress>) {
    let request = WatchProgressRequest { volume_id: String::new() };
    if let Ok(stream) = session.copies().watch_progress(request).await {
        let mut stream = stream.into_inner();
        while let Ok(Some(progress)) = stream.message().await {
            if to.send(progress).await.is_err() {
                break;
            }
        }
    }
    pending::<()>().await;
}

/// Where progress is shown.
struct Screen {
    terminal: bool,
    /// The last word on each copy, in the order in which they began.
    copies: Vec<Progress>,
    bars: MultiProgress,
    drawn: HashMap<String, ProgressBar>,
    lines: Lines,
}

impl Screen {
    fn new(terminal: bool) -> Screen {
        Screen {
            terminal,
            copies: Vec::new(),
            bars: MultiProgress::new(),
            drawn: HashMap::new(),
            lines: Lines::default(),
        }
    }

    fn take(&mut self, progress: Progress, show: bool) {
        match self.copies.iter_mut().find(|copy| copy.id == progress.id) {
            Some(copy) => *copy = progress.clone(),
            None => self.copies.push(progress.clone()),
        }
        if show {
            self.draw(&progress);
        }
    }

    /// Shows what was kept back until now.
    fn show(&mut self) {
        for progress in self.copies.clone() {
            if progress.state() == State::Running {
                self.draw(&progress);
            }
        }
    }

    fn draw(&mut self, progress: &Progress) {
        if !self.terminal {
            if let Some(line) = self.lines.next(progress) {
                // Nobody is left to tell that standard error is gone.
                let _ = writeln!(io::stderr(), "{line}");
            }
            return;
        }
        let bar = self.drawn.entry(progress.id.clone()).or_insert_with(|| {
            let template =
                "{msg} [{bar:30}] {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} eta {eta}";
            let style =
                ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
            let message = clean(&format!("{} {}", progress.operation, progress.id));
            self.bars.add(ProgressBar::new(0).with_style(style.progress_chars("=> ")).with_message(message))
        });
        bar.set_length(bytes(progress.total_bytes));
        bar.set_position(bytes(progress.done_bytes));
        if progress.state() != State::Running {
            bar.finish();
        }
    }

    fn clear(&self) {
        for bar in self.drawn.values() {
            bar.finish_and_clear();
        }
    }
}

/// Decides which news are worth a line: the first, each further tenth, and the end.
#[derive(Default)]
struct Lines(HashMap<String, u64>);

impl Lines {
    fn next(&mut self, progress: &Progress) -> Option<String> {
        let (done, total) = (bytes(progress.done_bytes), bytes(progress.total_bytes));
        let what = clean(&format!("{} {}", progress.operation, progress.id));
        match progress.state() {
            State::Done => {
                // What began and ended unseen is not worth a line.
                self.0.remove(&progress.id)?;
                return Some(format!("{what}: done, {}", human(total)));
            }
            State::Failed => return Some(format!("{what}: failed after {}", human(done))),
            State::Running | State::UnknownState => {}
        }
        let tenth = u64::try_from(u128::from(done) * 10 / u128::from(total.max(1))).unwrap_or(10).min(10);
        if self.0.get(&progress.id).is_some_and(|last| *last >= tenth) {
            return None;
        }
        self.0.insert(progress.id.clone(), tenth);
        Some(format!("{what}: {} of {} ({}%)", human(done), human(total), tenth * 10))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn news(done: i64, state: State) -> Progress {
        Progress {
            id: "v-1".into(),
            operation: "clone".into(),
            done_bytes: done << 20,
            total_bytes: 100 << 20,
            state: state.into(),
        }
    }

    #[test]
    fn a_log_gets_a_line_per_tenth_and_one_for_the_end() {
        let mut lines = Lines::default();
        let mut said: Vec<String> = (0..=100).filter_map(|n| lines.next(&news(n, State::Running))).collect();
        said.extend(lines.next(&news(100, State::Done)));
        assert_eq!(said.len(), 12);
        assert_eq!(said[0], "clone v-1: 0 of 100Mi (0%)");
        assert_eq!(said[3], "clone v-1: 30Mi of 100Mi (30%)");
        assert_eq!(said[11], "clone v-1: done, 100Mi");
    }

    #[test]
    fn a_copy_that_nobody_saw_ends_in_silence_unless_it_failed() {
        let mut lines = Lines::default();
        assert_eq!(lines.next(&news(100, State::Done)), None);
        assert_eq!(lines.next(&news(50, State::Failed)).unwrap(), "clone v-1: failed after 50Mi");
    }

    #[test]
    fn a_copy_without_bytes_is_no_division_by_zero() {
        let empty = Progress { total_bytes: 0, done_bytes: 0, ..news(0, State::Running) };
        assert_eq!(Lines::default().next(&empty).unwrap(), "clone v-1: 0 of 0 (0%)");
    }
}
