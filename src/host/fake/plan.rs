//! When the process dies, and which calls fail.
//!
//! A sweep runs a use case once to count its calls, and then once for each of them, dead just before it, just after
//! it, and in the middle of it. Dead means: this handle's calls have no effect any more, until the machine is handed
//! to a new process by [`Fake::restart`](super::Fake::restart).

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Fake;
use crate::host::Cause;

/// One call that was made to the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// The method of the trait.
    pub name: &'static str,
    /// The path that it was mainly about.
    pub path: PathBuf,
    /// Whether it changes the machine.
    pub mutating: bool,
}

/// Called before a call has its effect, outside the machine's lock.
pub type Hook = Arc<dyn Fn(&Fake, &Call) + Send + Sync>;

/// Where in a call the process dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// It does not happen.
    Before,
    /// What has several steps is left half done: an empty clone, a cut-off copy, a device without direct I/O. What
    /// has one step does not happen.
    During,
    /// It happens, and nobody hears of it.
    After,
}

/// What is to happen to one call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    Pass,
    Dead,
    Fail(Cause),
    Crash(Moment),
}

/// The plan of one machine.
#[derive(Default)]
pub(super) struct Plan {
    /// The process that is alive; handles of earlier ones are dead.
    pub(super) epoch: u64,
    pub(super) crashed: bool,
    pub(super) count_all: bool,
    pub(super) counted: usize,
    pub(super) crash: Option<(usize, Moment)>,
    pub(super) failures: Vec<(usize, Cause)>,
    pub(super) failing: Vec<(&'static str, Cause)>,
    pub(super) calls: Vec<Call>,
    pub(super) hook: Option<Hook>,
}

impl Plan {
    /// Counts a call and says what is to happen to it.
    pub(super) fn enter(
        &mut self,
        epoch: u64,
        name: &'static str,
        path: &Path,
        mutating: bool,
    ) -> (Verdict, Call) {
        let call = Call { name, path: path.to_owned(), mutating };
        if self.crashed || epoch != self.epoch {
            return (Verdict::Dead, call);
        }
        self.calls.push(call.clone());
        let always = self.failing.iter().find(|(failing, _)| *failing == name);
        if let Some((_, cause)) = always {
            return (Verdict::Fail(cause.clone()), call);
        }
        if !mutating && !self.count_all {
            return (Verdict::Pass, call);
        }
        self.counted += 1;
        if let Some((_, cause)) = self.failures.iter().find(|(n, _)| *n == self.counted) {
            return (Verdict::Fail(cause.clone()), call);
        }
        match self.crash {
            Some((n, moment)) if n == self.counted => {
                self.crashed = moment == Moment::Before;
                (Verdict::Crash(moment), call)
            }
            _ => (Verdict::Pass, call),
        }
    }

    /// Forgets what was planned and counted, for the next process.
    pub(super) fn restart(&mut self) -> u64 {
        *self = Plan { epoch: self.epoch + 1, count_all: self.count_all, ..Plan::default() };
        self.epoch
    }
}
