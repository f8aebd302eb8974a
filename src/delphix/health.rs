//! What is wrong with a volume: what others did behind our back, and what the engine says.
//!
//! A VDB that an admin disabled or a node that was taken off a list shows up as a pod that hangs in NFS, hours later and
//! far away. So each look at a volume holds what is there against what our tags say should be, and names the difference.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use tokio::try_join;

use super::Inner;
use super::api::VolumeStatus;
use super::id::VolumeHandle;
use super::tags::Record;
use crate::backend::delphix::{Dct, Engine, Filter, Job, JobStatus, Sort, Vdb};
use crate::backend::{Fault, Severity};
use crate::volume::Result;

/// What its owner was told about a volume already.
#[derive(Default)]
pub(super) struct Told(Mutex<HashSet<(VolumeHandle, &'static str)>>);

fn fault(severity: Severity, reason: &'static str, message: String) -> Fault {
    Fault { severity, reason, message }
}

/// What can be told from a list.
pub(super) fn faults(vdb: &Vdb, record: &Record, engines: &[Engine]) -> Vec<Fault> {
    let mut faults = Vec::new();
    let engine = vdb.engine_id.as_deref().and_then(|id| engines.iter().find(|engine| engine.id == id));
    if let Some(engine) = engine.filter(|engine| engine.online() == Some(false)) {
        let name = engine.name.as_deref().unwrap_or(&engine.id);
        let status = engine.engine_connection_status.as_deref().unwrap_or("offline");
        let message = format!("the DCT does not reach engine {name} ({status}): look at the engine");
        faults.push(fault(Severity::Inaccessible, "EngineOffline", message));
    }
    if let Some(has) = record.published.first()
        && vdb.enabled == Some(false)
    {
        let message = format!(
            "VDB {} is disabled, though node {} has it: enable it in the DCT, or stop what uses it",
            vdb.id, has.node.name
        );
        faults.push(fault(Severity::Inaccessible, "DisabledWhilePublished", message));
    }
    if vdb.is_locked == Some(true) {
        let by = vdb.locked_by_name.as_deref().unwrap_or("somebody");
        let message = format!("VDB {} is locked by {by}: it cannot be published, rewound or deleted", vdb.id);
        faults.push(fault(Severity::Degraded, "Locked", message));
    }
    if record.replacing.is_some() {
        let message = "a rewind or refresh of the volume has not ended: ask for it again".to_owned();
        faults.push(fault(Severity::Degraded, "ReplacementUnfinished", message));
    }
    faults
}

impl Inner {
    /// All that can be found out about one volume.
    pub(super) async fn all_faults(&self, dct: &Dct, vdb: &Vdb, record: &Record) -> Result<Vec<Fault>> {
        let engine = async {
            match &vdb.engine_id {
                Some(id) => Ok(dct.engine(id).await?),
                None => Ok(None),
            }
        };
        let environment = async {
            match &vdb.environment_id {
                Some(id) if !record.published.is_empty() => Ok(dct.environment(id).await?.ok_or(id)),
                _ => Ok(Err(&vdb.id)),
            }
        };
        let jobs = async {
            let of = Filter::eq("target_id", &vdb.id);
            dct.first::<Job>(of, Sort::Down("start_time"), 1).await
        };
        let (engine, environment, jobs) = try_join!(engine, environment, jobs)
            .map_err(|failure: crate::backend::delphix::Failure| crate::volume::Error::from(failure))?;
        let mut faults = faults(vdb, record, &engine.into_iter().collect::<Vec<_>>());
        if let Some(job) = jobs.first()
            && matches!(job.status, JobStatus::Failed | JobStatus::Canceled)
        {
            let what = job.r#type.as_deref().unwrap_or("a job");
            let why = job.error_details.as_deref().unwrap_or("it does not say why");
            let message =
                format!("the last job of VDB {}, {what}, is {}: {why}", vdb.id, job.status.as_str());
            faults.push(fault(Severity::Degraded, "JobFailed", message));
        }
        if record.published.is_empty() {
            return Ok(faults);
        }
        match environment {
            Err(id) => {
                let message =
                    format!("environment {id} of the volume is gone: nothing is exported there any more");
                faults.push(fault(Severity::Inaccessible, "EnvironmentGone", message));
            }
            Ok(environment) => {
                for has in &record.published {
                    let lacks = environment.hosts.iter().any(|host| {
                        let listed =
                            |address: &String| host.nfs_addresses.iter().flatten().any(|one| one == address);
                        let addresses: Vec<String> =
                            has.node.addresses.iter().map(ToString::to_string).collect();
                        !addresses.iter().all(listed)
                    });
                    if lacks {
                        let message = format!(
                            "node {} is not let in by environment {} any more: put its address back on nfs_addresses",
                            has.node.name, environment.id
                        );
                        faults.push(fault(Severity::Inaccessible, "AddressRemoved", message));
                    }
                }
            }
        }
        Ok(faults)
    }

    /// Tells the owner of a volume what is wrong with it, once for as long as it is.
    pub(super) async fn tell_of_faults(&self, status: &VolumeStatus) {
        let id = &status.volume.id;
        let news: Vec<&Fault> = {
            let mut told = self.told.0.lock().unwrap_or_else(PoisonError::into_inner);
            told.retain(|(of, reason)| of != id || status.faults.iter().any(|fault| fault.reason == *reason));
            status.faults.iter().filter(|fault| told.insert((id.clone(), fault.reason))).collect()
        };
        for fault in news {
            self.tell(status.volume.claim.as_ref(), fault.reason, &fault.message).await;
        }
    }
}
