//! Letting go, in an order that may be broken off anywhere.
//!
//! The pools of a lost node are known from its PersistentVolumes, so those go last, and snapshots are marked first: what
//! is left after a crash is found again. Each object is first set to Retain, so that no sidecar asks the lost node for a
//! deletion that would never come, then deleted by its uid, and only then loses the finalizers that the driver's sidecars
//! have put there and will not take away. Finalizers of others stay: what they guard is theirs to judge.

use std::collections::BTreeSet;
use std::time::Duration;

use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::{Api, Resource as _};
use serde::Serialize;
use serde_json::json;
use tokio::time::Instant;

use super::plan::{Claim, Loss, pool};
use crate::cluster::access::Access;
use crate::cluster::kinds::{self, Known, is_absent, told};

/// The annotation of what is being let go of; its value is the node.
pub(super) const MARK: &str = "offshoot.dev/lost-node";

/// Finalizers of the sidecars and of the snapshot controller begin like this.
const OURS: [&str; 3] = [
    "snapshot.storage.kubernetes.io/",
    "groupsnapshot.storage.kubernetes.io/",
    "external-provisioner.volume.kubernetes.io/",
];

/// Guards a PersistentVolume that is bound.
const PV_PROTECTION: &str = "kubernetes.io/pv-protection";

/// How long claims are waited for, all together: pods may still be on their way out.
const PATIENCE: Duration = Duration::from_secs(10);

/// How it went with one object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Outcome {
    /// What it is.
    pub object: String,
    /// Why it is still there; `None` where it is gone.
    pub remains: Option<String>,
}

/// Lets go of everything in `loss`. One object that cannot be let go of never stops the others. `step` hears of each.
pub async fn release(access: &Access, loss: &Loss, mut step: impl FnMut(&Outcome)) -> Vec<Outcome> {
    let client = &access.client;
    let mut outcomes = Vec::new();
    let mut end = |object: String, result: anyhow::Result<()>| {
        let outcome = Outcome { object, remains: result.err().map(|error| format!("{error:#}")) };
        step(&outcome);
        outcomes.push(outcome);
    };
    // Marks before anything goes. What cannot be marked is tried all the same, and reported there.
    let retain =
        json!({ "metadata": { "annotations": { MARK: loss.node } }, "spec": { "deletionPolicy": "Retain" } });
    let mut unmarked = BTreeSet::new();
    for group in &loss.groups {
        let api = kinds::in_version::<kinds::GroupContent>(client, None, group.version);
        if patch(&api, &group.name, &group.uid, &retain).await.is_err() {
            unmarked.extend(pool(&group.id));
        }
    }
    for snapshot in &loss.snapshots {
        let api = kinds::all::<kinds::Content>(client);
        if patch(&api, &snapshot.name, &snapshot.uid, &retain).await.is_err() {
            unmarked.extend(pool(&snapshot.id));
        }
    }
    // What people see goes first: it is found through what stands for it, never the other way round.
    for group in &loss.groups {
        let mut is_bound = false;
        if let Some(snapshot) = &group.snapshot {
            let api =
                kinds::in_version::<kinds::Group>(client, Some(&snapshot.name.namespace), group.version);
            let gone = delete(&api, snapshot).await;
            is_bound = gone.is_err();
            end(format!("VolumeGroupSnapshot {}", snapshot.name), gone);
        }
        let api = kinds::in_version::<kinds::GroupContent>(client, None, group.version);
        let gone = match is_bound {
            true => Err(waits("VolumeGroupSnapshot")),
            false => remove(&api, &group.name, &group.uid, &retain, false).await,
        };
        end(format!("VolumeGroupSnapshotContent {}", group.name), gone);
    }
    for content in &loss.snapshots {
        let mut is_bound = false;
        if let Some(snapshot) = &content.snapshot {
            let api = kinds::within::<kinds::Snapshot>(client, &snapshot.name.namespace);
            let gone = delete(&api, snapshot).await;
            is_bound = gone.is_err();
            end(format!("VolumeSnapshot {}", snapshot.name), gone);
        }
        let api = kinds::all::<kinds::Content>(client);
        let gone = match is_bound {
            true => Err(waits("VolumeSnapshot")),
            false => remove(&api, &content.name, &content.uid, &retain, false).await,
        };
        end(format!("VolumeSnapshotContent {}", content.name), gone);
    }
    let retain = json!({
        "metadata": { "annotations": { MARK: loss.node } },
        "spec": { "persistentVolumeReclaimPolicy": "Retain" },
    });
    // All claims first: their pods need time to go, and wait for nothing of the others.
    for volume in &loss.volumes {
        _ = patch(&kinds::all::<kinds::Volume>(client), &volume.name, &volume.uid, &retain).await;
        if let Some(claim) = &volume.claim {
            let api = kinds::within::<kinds::Claim>(client, &claim.name.namespace);
            _ = ask_to_delete(&api, &claim.name.name, &claim.uid).await;
        }
    }
    let deadline = Instant::now() + PATIENCE;
    for (n, volume) in loss.volumes.iter().enumerate() {
        // Where something without a mark is left, one volume has to stay by which its pool is found again.
        let is_last = !loss.volumes[n + 1..].iter().any(|other| pool(&other.id) == pool(&volume.id));
        let is_needed = is_last && pool(&volume.id).is_some_and(|pool| unmarked.contains(&pool));
        let mut is_bound = false;
        if let Some(claim) = &volume.claim {
            let gone = claim_gone(access, claim, deadline).await;
            is_bound = gone.is_err();
            end(format!("PersistentVolumeClaim {}", claim.name), gone);
        }
        let api = kinds::all::<kinds::Volume>(client);
        let gone = match is_bound {
            true => Err(waits("PersistentVolumeClaim")),
            false if is_needed => Err(waits("pool's snapshots or groups")),
            false => remove(&api, &volume.name, &volume.uid, &retain, true).await,
        };
        end(format!("PersistentVolume {}", volume.name), gone);
    }
    outcomes
}

/// Why an object is not tried yet.
fn waits(what: &str) -> anyhow::Error {
    anyhow::anyhow!("waits for its {what}; run this again")
}

/// Sets to Retain, deletes, and takes the finalizers away that nobody is left to take away.
async fn remove<K: Known>(
    api: &Api<K>,
    name: &str,
    uid: &str,
    retain: &serde_json::Value,
    unbound: bool,
) -> anyhow::Result<()> {
    patch(api, name, uid, retain).await?;
    ask_to_delete(api, name, uid).await?;
    unpin(api, name, uid, unbound).await
}

/// Deletes what people see of a snapshot, and takes the finalizers of the snapshot controller away.
async fn delete<K: Known>(api: &Api<K>, object: &Claim) -> anyhow::Result<()> {
    ask_to_delete(api, &object.name.name, &object.uid).await?;
    unpin(api, &object.name.name, &object.uid, false).await
}

async fn claim_gone(access: &Access, claim: &Claim, deadline: Instant) -> anyhow::Result<()> {
    let api = kinds::within::<kinds::Claim>(&access.client, &claim.name.namespace);
    ask_to_delete(&api, &claim.name.name, &claim.uid).await?;
    loop {
        // Pods that run nowhere hold the claim; they are for the person to judge, for they may be somebody's only notice.
        match current(&api, &claim.name.name, &claim.uid).await? {
            None => return Ok(()),
            Some(_) if Instant::now() < deadline => tokio::time::sleep(PATIENCE / 20).await,
            Some(found) => {
                let users = crate::cluster::claims::users_of(access, &claim.name).await.unwrap_or_default();
                let held = found.meta().finalizers.clone().unwrap_or_default().join(", ");
                if users.is_empty() {
                    anyhow::bail!("it is being deleted and held by {held}; run this again");
                }
                anyhow::bail!(
                    "pods hold it: {}; delete the node object, or the pods with `kubectl delete pod --force -n {}`, and run this again",
                    users.join(", "),
                    claim.name.namespace
                );
            }
        }
    }
}

/// Takes our finalizers off an object that is being deleted. `unbound` adds the one that guards bound volumes.
async fn unpin<K: Known>(api: &Api<K>, name: &str, uid: &str, unbound: bool) -> anyhow::Result<()> {
    // Somebody else may take one away at the same moment: then it is read again.
    for _ in 0..5 {
        let Some(found) = current(api, name, uid).await? else { return Ok(()) };
        let meta = found.meta();
        if meta.deletion_timestamp.is_none() {
            anyhow::bail!("it is not being deleted");
        }
        let all = meta.finalizers.clone().unwrap_or_default();
        let ours = |finalizer: &String| {
            OURS.iter().any(|start| finalizer.starts_with(start)) || unbound && finalizer == PV_PROTECTION
        };
        let (taken, left): (Vec<String>, Vec<String>) = all.into_iter().partition(ours);
        if taken.is_empty() {
            anyhow::bail!("it is being deleted and held by {}", left.join(", "));
        }
        let patch = json!({ "metadata": { "finalizers": left, "resourceVersion": meta.resource_version } });
        match api.patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await {
            Ok(_) if left.is_empty() => return Ok(()),
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            Err(error) if is_absent(&error) => return Ok(()),
            Err(error) => return Err(told("take its finalizers away", error)),
        }
    }
    anyhow::bail!("its finalizers change all the time; run this again")
}

/// The object of this uid, if it is there.
async fn current<K: Known>(api: &Api<K>, name: &str, uid: &str) -> anyhow::Result<Option<K>> {
    match api.get(name).await {
        Ok(found) => {
            Ok(Some(found).filter(|found| uid.is_empty() || found.meta().uid.as_deref() == Some(uid)))
        }
        Err(error) if is_absent(&error) => Ok(None),
        Err(error) => Err(told("read it", error)),
    }
}

async fn patch<K: Known>(
    api: &Api<K>,
    name: &str,
    uid: &str,
    patch: &serde_json::Value,
) -> anyhow::Result<()> {
    if current(api, name, uid).await?.is_none() {
        return Ok(());
    }
    match api.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await {
        Err(error) if !is_absent(&error) => Err(told("set it to Retain", error)),
        _ => Ok(()),
    }
}

async fn ask_to_delete<K: Known>(api: &Api<K>, name: &str, uid: &str) -> anyhow::Result<()> {
    let preconditions =
        Preconditions { uid: Some(uid.to_owned()).filter(|uid| !uid.is_empty()), resource_version: None };
    match api.delete(name, &DeleteParams::default().preconditions(preconditions)).await {
        Ok(_) => Ok(()),
        // Gone, or another object of the same name, which is not meant.
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
        Err(error) => Err(told("delete it", error)),
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
