//! Jobs: how they ended, and those that an earlier attempt left running.
//!
//! A controller that was killed has started things that go on without it. The first time that a process works on a VDB
//! it therefore asks what is running there and waits for that; from then on it knows, as all its work on one VDB goes
//! one after the other. So the question costs one request per VDB and process, and none after that.

use jiff::Timestamp;

use super::Inner;
use super::id::VolumeHandle;
use crate::backend::delphix::{Dct, Failure, Fault, Filter, Job, JobStatus, Sort, Started};
use crate::volume::Result;

/// Most jobs of one object that are looked at.
pub(super) const MOST: u16 = 50;

/// How a job ended that did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// Its work is done.
    Well,
    /// Nobody knows: it vanished or is not followed any more. Only the object tells.
    Unknown,
}

/// Waits for what was started.
pub(super) async fn ended(dct: &Dct, started: &Started) -> Result<Ended, Failure> {
    match &started.job {
        Some(job) => ended_job(dct, job).await,
        None => Ok(Ended::Well),
    }
}

/// Waits for a job.
pub(super) async fn ended_job(dct: &Dct, job: &str) -> Result<Ended, Failure> {
    match dct.finish(job).await {
        Ok(_) => Ok(Ended::Well),
        Err(failure) => match failure.fault() {
            Fault::JobVanished
            | Fault::JobFailed { status: JobStatus::Timedout | JobStatus::Abandoned, .. } => {
                Ok(Ended::Unknown)
            }
            _ => Err(failure),
        },
    }
}

/// Whether the job ended without having done its work.
pub(super) fn failed(failure: &Failure) -> bool {
    matches!(failure.fault(), Fault::JobFailed { .. })
}

/// Whether objects may not show yet what this job did.
pub(super) fn recent(dct: &Dct, job: &Job) -> bool {
    let lag = i64::try_from(dct.settings().timing.lag.as_millis()).unwrap_or(i64::MAX);
    let at = job.update_time.or(job.start_time);
    let since = at.map(|at| Timestamp::now().as_millisecond().saturating_sub(at.as_millisecond()));
    since.is_none_or(|since| since < lag)
}

/// Waits for the jobs of the list that are still running. Whether there were any.
pub(super) async fn wait_for_running(dct: &Dct, jobs: &[Job]) -> Result<bool> {
    let mut any = false;
    for job in jobs.iter().filter(|job| !job.status.is_end()) {
        any = true;
        match ended_job(dct, &job.id).await {
            Ok(_) => {}
            // It is somebody else's failure, or an earlier attempt's: what matters is how the object is now.
            Err(failure) if failed(&failure) => {
                tracing::warn!(job = job.id, %failure, "a job that was running before has failed");
            }
            Err(failure) => return Err(failure.into()),
        }
    }
    Ok(any)
}

impl Inner {
    /// Waits for what an earlier attempt started on the VDB. Whether the VDB may still look as before some job.
    pub(super) async fn settled(&self, dct: &Dct, id: &VolumeHandle) -> Result<bool> {
        if self.calm().contains(id) {
            return Ok(false);
        }
        let jobs = dct.first::<Job>(Filter::eq("target_id", &id.vdb), Sort::Down("start_time"), MOST).await?;
        let any = wait_for_running(dct, &jobs).await?;
        self.calm().insert(id.clone());
        Ok(any || jobs.iter().any(|job| recent(dct, job)))
    }
}
