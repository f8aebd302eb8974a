//! Is there a VDB of this name, or is one being made?
//!
//! The name is what is searched for, the tags are what is believed, and the jobs tell of what does not show yet. One
//! request for each; everything after a lost answer, a deadline or a crash begins here.

use tokio::try_join;

use super::Inner;
use super::jobs::{MOST, recent, wait_for_running};
use super::tags::{Owner, Record};
use crate::backend::delphix::{Dct, Fault, Filter, Job, JobStatus, Sort, Vdb};
use crate::volume::{Error, Kind, Result};

/// How often it is looked again after something that was running has ended.
const ROUNDS: usize = 4;

/// What a search for a name found.
#[derive(Debug)]
pub(super) enum Look {
    /// Nothing has the name and nothing is being made.
    Free,
    /// A VDB of ours.
    Ours(Box<Vdb>, Box<Record>),
    /// A VDB of ours that a failed job left: it is not what was asked for.
    Half(Box<Vdb>),
}

/// Whether a VDB is gone for a caller: it is not there, or in the recycle bin.
pub(super) fn gone(vdb: Option<&Vdb>) -> bool {
    vdb.is_none_or(|vdb| vdb.recycle_bin == Some(true))
}

impl Inner {
    /// Looks for the VDB of the volume `volume`, whose own name is `name`, and waits for what is being made.
    ///
    /// # Errors
    /// [`Kind::AlreadyExists`] if a VDB that is not ours has the name.
    pub(super) async fn look(&self, dct: &Dct, volume: &str, name: &str) -> Result<Look> {
        let mut waited = Vec::new();
        for _ in 0..ROUNDS {
            let named = Sort::Down("start_time");
            let (vdbs, jobs) = try_join!(
                dct.vdbs(Filter::eq("name", name)),
                dct.first::<Job>(Filter::eq("target_name", name), named, MOST)
            )?;
            if wait_for_running(dct, &jobs).await? {
                continue;
            }
            let mut vdbs: Vec<Vdb> = vdbs.into_iter().filter(|vdb| !gone(Some(vdb))).collect();
            vdbs.sort_by(|a, b| (a.creation_date, &a.id).cmp(&(b.creation_date, &b.id)));
            for vdb in &vdbs {
                let Some(record) =
                    Record::read(&self.owner, &vdb.tags).filter(|record| record.name == volume)
                else {
                    continue;
                };
                let vdb = Box::new(vdb.clone());
                if record.published.is_empty() && half_made(&vdb, &jobs) {
                    return Ok(Look::Half(vdb));
                }
                return Ok(Look::Ours(vdb, Box::new(record)));
            }
            if let Some(vdb) = vdbs.first() {
                return Err(taken(name, vdb));
            }
            // What a job made may not show yet. What one deleted is of no interest.
            let hidden = jobs.iter().find(|job| {
                matches!(job.status, JobStatus::Completed | JobStatus::Timedout | JobStatus::Abandoned)
                    && recent(dct, job)
                    && !job.r#type.as_deref().is_some_and(|of| of.to_ascii_uppercase().contains("DELETE"))
                    && job.target_id.as_ref().is_some_and(|id| !waited.contains(id))
            });
            let Some(id) = hidden.and_then(|job| job.target_id.clone()) else { return Ok(Look::Free) };
            waited.push(id.clone());
            match dct.until_vdb(&id, "to show", |vdb| vdb.is_some()).await {
                Err(failure) if *failure.fault() != Fault::Lagging => return Err(failure.into()),
                _ => {}
            }
        }
        let why = format!("what happens to VDB {name} does not come to rest: ask again");
        Err(Error::new(Kind::Unavailable, why))
    }
}

/// Whether a failed job left this VDB: the job began before the VDB did, and nothing happened to it since.
fn half_made(vdb: &Vdb, jobs: &[Job]) -> bool {
    let mut own = jobs.iter().filter(|job| job.target_id.as_deref() == Some(&vdb.id));
    let (Some(job), None) = (own.next(), own.next()) else { return false };
    let before = match (job.start_time, vdb.creation_date) {
        (Some(start), Some(made)) => start <= made,
        _ => true,
    };
    before && matches!(job.status, JobStatus::Failed | JobStatus::Canceled)
}

fn taken(name: &str, vdb: &Vdb) -> Error {
    let whose = match Owner::of_other(&vdb.tags) {
        Some(other) => format!("belongs to {other}"),
        None => "is not tagged as ours".to_owned(),
    };
    let text = format!(
        "name: VDB {} has the name {name} and {whose}: rename or delete it, or use another name",
        vdb.id
    );
    Error::new(Kind::AlreadyExists, text)
}
