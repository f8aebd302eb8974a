//! What a simulated DCT is told about itself: its release, how long things take, and how it decides what nobody published.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::release::Release;

/// What happens to a job that was under way when the simulator ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnRestart {
    /// It goes on.
    Resume,
    /// DCT stops following it: ABANDONED, its work undone.
    Abandon,
}

/// The behaviour of a simulator. Every field has a default that suits a test: no time passes on its own.
#[derive(Clone, Debug)]
pub struct Config {
    /// Release of DCT to play.
    pub release: Release,
    /// How long a job is PENDING.
    pub pending: Duration,
    /// How long a job works, STARTED.
    pub running: Duration,
    /// How long jobs of one type work, by `Job.type`; overrides `running`.
    pub running_by_type: BTreeMap<String, Duration>,
    /// How long a job that has worked stays STARTED with `is_waiting_for_telemetry`.
    pub telemetry: Duration,
    /// How long objects lag a job that is COMPLETED: up to a minute in real life.
    pub lag: Duration,
    /// After what time retention deletes a snapshot that nothing keeps; none for never.
    pub retention: Option<Duration>,
    /// What happens to jobs under way over a restart.
    pub on_restart: OnRestart,
    /// Whether enabling what is enabled, and disabling what is disabled, fails. Not published.
    pub repeat_fails: bool,
    /// Whether a VDB that is disabled refuses to be refreshed and rewound. Not published.
    pub disabled_refuses_refresh: bool,
    /// NFS version of the exports, 3 or 4.
    pub nfs_version: u8,
    /// Whether answers are checked against the interface table; an answer that is not in it becomes a 500 that says so.
    pub check_answers: bool,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            release: Release::LATEST,
            pending: Duration::ZERO,
            running: Duration::ZERO,
            running_by_type: BTreeMap::new(),
            telemetry: Duration::ZERO,
            lag: Duration::ZERO,
            retention: None,
            on_restart: OnRestart::Resume,
            repeat_fails: false,
            disabled_refuses_refresh: false,
            nfs_version: 4,
            check_answers: cfg!(debug_assertions),
        }
    }
}
