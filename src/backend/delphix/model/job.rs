//! Jobs: work of a Data Control Tower that goes on after its answer.

use jiff::Timestamp;
use serde::Deserialize;

models! {
    /// Work of a DCT that goes on after its answer.
    Job {
        @ids {
            /// Its id.
            id,
        }
        @lists {
            /// The engines that work on it.
            engine_ids: String,
            /// Its steps.
            tasks: JobTask,
        }
        /// How it stands.
        status: JobStatus,
        /// Its work is done and cannot fail any more, but objects do not show it yet. Only while STARTED.
        is_waiting_for_telemetry: Option<bool>,
        /// What it does; not a closed set.
        r#type: Option<String>,
        /// Why it failed.
        error_details: Option<String>,
        /// What it warns of.
        warning_message: Option<String>,
        /// The object it works on.
        target_id: Option<String>,
        /// That object's name.
        target_name: Option<String>,
        /// When it began.
        start_time: Option<Timestamp>,
        /// When it last changed.
        update_time: Option<Timestamp>,
        /// How far it is.
        percent_complete: Option<u64>,
    }

    /// A step of a job.
    JobTask {
        /// What it does.
        title: Option<String>,
        /// How it stands.
        status: JobStatus,
        /// How far it is.
        percent_complete: Option<u64>,
    }
}

/// How a job stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum JobStatus {
    /// Not begun.
    Pending,
    /// Begun.
    Started,
    /// The same, of an engine.
    Running,
    /// Waits for another.
    Waiting,
    /// Held by somebody.
    Suspended,
    /// Ended well.
    Completed,
    /// Ended with an error.
    Failed,
    /// Ended by somebody.
    Canceled,
    /// Took too long; its work may be done all the same.
    Timedout,
    /// Not followed any more; its work may be done all the same.
    Abandoned,
    /// Absent or something newer; not an end.
    #[default]
    #[serde(other)]
    Unknown,
}

impl JobStatus {
    /// The word of the DCT.
    pub fn as_str(self) -> &'static str {
        match self {
            JobStatus::Pending => "PENDING",
            JobStatus::Started => "STARTED",
            JobStatus::Running => "RUNNING",
            JobStatus::Waiting => "WAITING",
            JobStatus::Suspended => "SUSPENDED",
            JobStatus::Completed => "COMPLETED",
            JobStatus::Failed => "FAILED",
            JobStatus::Canceled => "CANCELED",
            JobStatus::Timedout => "TIMEDOUT",
            JobStatus::Abandoned => "ABANDONED",
            JobStatus::Unknown => "in an unknown state",
        }
    }

    /// Whether nothing more comes.
    pub fn is_end(self) -> bool {
        matches!(
            self,
            JobStatus::Completed
                | JobStatus::Failed
                | JobStatus::Canceled
                | JobStatus::Timedout
                | JobStatus::Abandoned
        )
    }
}
