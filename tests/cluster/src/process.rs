//! Processes that outlive the program that started them.
//!
//! A process is known by its number and its start time, because numbers are used again: what is ended is always what was
//! started. The record is written to a file, so that another run of the program, or `cluster down` after a crash, finds it.

use std::fs::{self, File};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

/// A process that was started, running or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recorded {
    /// Its number as the host sees it.
    pub pid: i32,
    /// Clock ticks between the kernel's start and the process's.
    pub start_time: u64,
}

impl Recorded {
    /// Records a process that is running now; `None` if there is none with this number.
    #[must_use]
    pub fn of(pid: i32) -> Option<Self> {
        Some(Self { pid, start_time: start_time(pid)? })
    }

    /// Whether it still runs. One that has ended and was not reaped does not.
    #[must_use]
    pub fn is_running(self) -> bool {
        start_time(self.pid) == Some(self.start_time)
    }

    /// Sends a signal, if it still runs.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn signal(self, signal: Signal) -> Result<()> {
        if !self.is_running() {
            return Ok(());
        }
        match kill(Pid::from_raw(self.pid), signal) {
            Ok(()) | Err(Errno::ESRCH) => Ok(()),
            Err(error) => Err(error).with_context(|| format!("cannot send {signal} to process {}", self.pid)),
        }
    }

    /// Waits until it does not run any more.
    ///
    /// # Errors
    /// If it still runs after the time limit.
    pub fn wait(self, limit: Duration) -> Result<()> {
        let end = Instant::now() + limit;
        while self.is_running() {
            if Instant::now() > end {
                bail!("process {} has not ended after {} s", self.pid, limit.as_secs());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// Kills it and waits for its end.
    ///
    /// # Errors
    /// If it has not ended 30 s later.
    pub fn kill(self) -> Result<()> {
        self.signal(Signal::SIGKILL)?;
        self.wait(Duration::from_secs(30))
    }

    /// Ends it politely, and with force after the time limit.
    ///
    /// # Errors
    /// If it has not ended 30 s after that.
    pub fn stop(self, patience: Duration) -> Result<()> {
        self.signal(Signal::SIGTERM)?;
        if self.wait(patience).is_err() { self.kill() } else { Ok(()) }
    }

    /// Reads a record; `None` if there is none.
    ///
    /// # Errors
    /// If the file cannot be read. One that was cut off by a crash counts as none.
    pub fn load(file: &Path) -> Result<Option<Self>> {
        match fs::read(file) {
            Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("cannot read {}", file.display())),
        }
    }

    /// Writes the record.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn save(self, file: &Path) -> Result<()> {
        let write = || -> Result<()> { Ok(serde_json::to_writer(File::create(file)?, &self)?) };
        write().with_context(|| format!("cannot write {}", file.display()))
    }
}

/// When a process started; `None` if it is not there or has ended.
fn start_time(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may contain anything.
    let mut fields = stat[stat.rfind(')')? + 1..].split_ascii_whitespace();
    let state = fields.next()?;
    if matches!(state, "Z" | "X") {
        // The first thread has ended; others that have not yet still hold what the process had open.
        let threads = fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count);
        if threads <= 1 {
            return None;
        }
    }
    fields.nth(18)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_running_until_it_has_ended_and_a_later_one_is_not_taken_for_it() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let recorded = Recorded::of(pid).unwrap();
        assert!(recorded.is_running());
        assert!(!Recorded { start_time: recorded.start_time + 1, ..recorded }.is_running());
        recorded.kill().unwrap();
        assert!(!recorded.is_running(), "not reaped, but ended");
        child.wait().unwrap();
        assert!(!recorded.is_running());
    }
}
