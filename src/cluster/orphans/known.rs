//! What Kubernetes names, read whole or not at all.

use std::collections::BTreeSet;

use anyhow::Result;
use kube::Client;
use kube::api::ListParams;

use super::decide::{Held, Known};
use crate::cluster::access::Access;
use crate::cluster::kinds::{
    self, Claim, Content, Snapshot, Volume, is_absent, snapshot_handle, told, volume_being_cut,
};
use crate::service::{Clock as _, SystemClock};
use crate::volume::ObjectId;

/// Reads the handles of all PersistentVolumes and VolumeSnapshotContents. Those of other drivers count too, and those
/// that people wrote by hand: whatever names an object keeps it.
///
/// # Errors
/// Where a list failed or expired on the way; nothing may be concluded then.
pub async fn read(client: &Client) -> Result<Known> {
    let mut known = Known { began: SystemClock.now(), ..Known::default() };
    let volumes = kinds::each(kinds::all::<Volume>(client), ListParams::default(), |volume| {
        known.named.extend(volume.spec.csi.and_then(|csi| csi.volume_handle.parse::<ObjectId>().ok()));
    });
    volumes.await.map_err(|error| told("list PersistentVolumes", error))?;
    let contents = kinds::each(kinds::all::<Content>(client), ListParams::default(), |content| {
        let handles = [snapshot_handle(&content), volume_being_cut(&content)];
        known
            .named
            .extend(handles.into_iter().flatten().filter_map(|handle| handle.parse::<ObjectId>().ok()));
    });
    known.snapshots = match contents.await {
        Ok(()) => true,
        Err(error) if is_absent(&error) => false,
        Err(error) => return Err(told("list VolumeSnapshotContents", error)),
    };
    known.whole = true;
    Ok(known)
}

/// As [`read`] and [`want`] in one, for what `orphans` finds among what was read first.
///
/// # Errors
/// As [`read`].
pub async fn known_of<'a>(access: &Access, orphans: impl FnOnce(&Known) -> Vec<&'a Held>) -> Result<Known> {
    let mut known = read(&access.client).await?;
    let orphans = orphans(&known);
    want(&access.client, &mut known, &orphans).await?;
    Ok(known)
}

/// Adds which of these orphans were made for a claim or VolumeSnapshot that still exists: its object may be about to be
/// written. Only asked where there are orphans, for there may be many claims.
///
/// # Errors
/// As [`read`].
pub async fn want(client: &Client, known: &mut Known, orphans: &[&Held]) -> Result<()> {
    let uids = |snapshots: bool| -> BTreeSet<&str> {
        let of_kind = orphans.iter().filter(|held| matches!(held.id, ObjectId::Snapshot(_)) == snapshots);
        of_kind.filter_map(|held| held.uid()).collect()
    };
    let (claims, snapshots) = (uids(false), uids(true));
    if !claims.is_empty() {
        let listed = kinds::each(kinds::all::<Claim>(client), ListParams::default(), |claim| {
            known.wanted.extend(claim.metadata.uid.filter(|uid| claims.contains(uid.as_str())));
        });
        listed.await.map_err(|error| told("list PersistentVolumeClaims", error))?;
    }
    if !snapshots.is_empty() {
        let listed = kinds::each(kinds::all::<Snapshot>(client), ListParams::default(), |snapshot| {
            known.wanted.extend(snapshot.metadata.uid.filter(|uid| snapshots.contains(uid.as_str())));
        });
        listed.await.map_err(|error| told("list VolumeSnapshots", error))?;
    }
    Ok(())
}
