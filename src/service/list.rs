//! Everything that only reads: lists, single objects, capacity and health. Takes no locks.

use std::ops::Bound;
use std::sync::Arc;

use super::api::{CapacityAnswer, Page, Segments, SnapshotFilter, VolumeStatus, named_fs};
use super::lookup::is_visible;
use super::{Inner, Service};
use crate::backend::{Fault, Run, Severity};
use crate::volume::page::Ask;
use crate::volume::params::CreateParams;
use crate::volume::size::kept;
use crate::volume::{
    AccessType, Capability, Error, FsType, Kind, Result, Snapshot, SnapshotId, Volume, VolumeId,
};

impl Service {
    /// A page of all volumes, by id. With `health`, each with what is wrong with it.
    pub async fn list_volumes(&self, token: &str, max: i32, health: bool) -> Result<Page<VolumeStatus>> {
        let page = {
            let ask: Ask<VolumeId> = Ask::parse(token, max)?;
            let catalog = self.inner.catalog();
            let from = ask.after.map_or(Bound::Unbounded, Bound::Excluded);
            let visible =
                catalog.volumes().range((from, Bound::Unbounded)).filter(|(_, v)| is_visible(v.phase));
            ask.take(visible.map(|(&id, volume)| (id, volume.clone())))
        };
        let mut entries = Vec::with_capacity(page.items.len());
        for volume in page.items {
            let faults = if health { self.inner.faults_of(&volume).await } else { Vec::new() };
            entries.push(self.inner.status_of(&volume, faults));
        }
        Ok(Page { entries, next: page.next.unwrap_or_default() })
    }

    /// One volume, with what is wrong with it.
    pub async fn get_volume(&self, id: &str) -> Result<VolumeStatus> {
        let volume = self.inner.volume(id)?;
        let faults = self.inner.faults_of(&volume).await;
        Ok(self.inner.status_of(&volume, faults))
    }

    /// A page of snapshots, by id. A filter that fits nothing gives an empty page.
    pub fn list_snapshots(
        &self,
        filter: &SnapshotFilter,
        token: &str,
        max: i32,
    ) -> Result<Page<Arc<Snapshot>>> {
        let ask: Ask<SnapshotId> = Ask::parse(token, max)?;
        let fits = |s: &Arc<Snapshot>| {
            is_visible(s.phase) && (filter.volume.is_empty() || s.volume.to_string() == filter.volume)
        };
        let page = if filter.snapshot.is_empty() {
            let catalog = self.inner.catalog();
            match filter.volume.parse::<VolumeId>() {
                Ok(volume) => {
                    ask.take(catalog.snapshots_of(volume).filter(|s| fits(s)).map(|s| (s.id, s.clone())))
                }
                Err(_) => {
                    let from = ask.after.map_or(Bound::Unbounded, Bound::Excluded);
                    let rest = catalog.snapshots().range((from, Bound::Unbounded));
                    ask.take(rest.filter(|(_, s)| fits(s)).map(|(&id, s)| (id, s.clone())))
                }
            }
        } else {
            ask.take(self.inner.find_snapshot(&filter.snapshot).filter(fits).map(|s| (s.id, s)))
        };
        Ok(Page { entries: page.items, next: page.next.unwrap_or_default() })
    }

    /// Whether a volume can be used in all of these ways; the reason why not as `Some`.
    pub fn validate_capabilities(&self, id: &str, capabilities: &[Capability]) -> Result<Option<String>> {
        let volume = self.inner.volume(id)?;
        Ok(capabilities.iter().find_map(|capability| unsuitable(&volume, capability)))
    }

    /// Room for volumes with these parameters and capabilities, by the documented formula. Zero where there is none.
    pub async fn get_capacity(
        &self,
        capabilities: &[Capability],
        params: &CreateParams,
        topology: Option<&Segments>,
    ) -> Result<CapacityAnswer> {
        let inner = &self.inner;
        let mut answer = CapacityAnswer { available: 0, maximum: 0, minimum: 0 };
        if topology.is_some_and(|asked| !inner.is_asked(std::slice::from_ref(asked))) {
            return Ok(answer);
        }
        let pools = match &params.pool {
            // A StorageClass may name a pool that other nodes have.
            Some(name) => inner.pool_named(name).into_iter().collect(),
            None => inner.pools(),
        };
        let block = capabilities.iter().any(|capability| capability.access == AccessType::Block);
        let mount = capabilities.iter().any(|capability| capability.access != AccessType::Block) || !block;
        let asked_fs = named_fs(capabilities).or(params.fs);
        let mut minimum = None;
        for pool in pools {
            let Ok(layout) = pool.backend.layout(mount, block, asked_fs) else { continue };
            let room = pool.backend.capacity().await?;
            let (min, max) = pool.backend.limits(layout, asked_fs.unwrap_or(FsType::Ext4), mount);
            answer.available += room.available;
            // A volume lies in one pool.
            answer.maximum = answer.maximum.max(room.available.min(max));
            minimum = Some(minimum.map_or(min, |other: u64| other.min(min)));
        }
        answer.minimum = minimum.unwrap_or_default();
        Ok(answer)
    }

    /// At most `max` runs from byte `start` on that `target` has, or that differ from `base`. Fewer means the end.
    pub async fn changed_blocks(
        &self,
        base: Option<&str>,
        target: &str,
        start: u64,
        max: usize,
    ) -> Result<(Arc<Snapshot>, Vec<Run>)> {
        let target = self.inner.snapshot(target)?;
        let base = match base {
            Some(id) => Some(self.inner.snapshot(id)?),
            None => None,
        };
        if let Some(base) = &base {
            if base.volume != target.volume {
                let why = format!(
                    "{} was cut from {}, and the target from {}",
                    base.id, base.volume, target.volume
                );
                return Err(Error::invalid("base_snapshot_id", why));
            }
            if base.id.pool() != target.id.pool() {
                return Err(Error::invalid("base_snapshot_id", "lies in another pool than the target"));
            }
        }
        let pool = self.inner.pool(target.id.pool())?;
        if !pool.backend.info().tracks_changes {
            let text = format!("pool {} cannot tell which blocks changed", pool.backend.info().name);
            return Err(Error::new(Kind::Unsupported, text));
        }
        if start >= kept(target.size) {
            let text = format!(
                "starting_offset: {start} is at or beyond the end of the snapshot, {} bytes",
                target.size
            );
            return Err(Error::new(Kind::OutOfRange, text));
        }
        let runs = pool.backend.changed(base.as_deref(), &target, start, max).await?;
        Ok((target, runs))
    }
}

impl Inner {
    /// What is wrong with a volume: with its pool, with its bytes, with work that could not end.
    pub(super) async fn faults_of(&self, volume: &Volume) -> Vec<Fault> {
        let pool = match self.pool(volume.id.pool()) {
            Ok(pool) => pool,
            Err(error) => {
                let message = error.to_string();
                return vec![Fault { severity: Severity::Inaccessible, reason: "PoolNotOpen", message }];
            }
        };
        pool.backend.volume_faults(volume).await
    }
}

/// Why a volume cannot be used in this way, if it cannot.
pub(super) fn unsuitable(volume: &Volume, capability: &Capability) -> Option<String> {
    if capability.mode.is_multi_node() && !capability.mode.is_read_only() {
        return Some("access_mode: several nodes cannot write to a volume that lies on one".into());
    }
    match &capability.access {
        AccessType::Block if !volume.block => {
            Some("access_type: the volume was made for filesystem access".into())
        }
        AccessType::Block => None,
        AccessType::Mount { .. } if !volume.mount => {
            Some("access_type: the volume was made for block access".into())
        }
        AccessType::Mount { fs, .. } => fs
            .filter(|&fs| fs != volume.fs)
            .map(|fs| format!("fs_type: the volume has {}, not {}", volume.fs.as_str(), fs.as_str())),
    }
}
