//! CreateSnapshot, and the steps that a group snapshot shares with it.

use std::sync::Arc;

use super::api::CreateSnapshot;
use super::delete::unfinished;
use super::group_part::Gate;
use super::locks::{Key, Mode};
use super::lookup::is_visible;
use super::progress::Running;
use super::work::{exclusive, undone};
use super::{Inner, Service};
use crate::volume::record::{Claim, Millis};
use crate::volume::{Error, GroupId, Kind, Phase, Result, Snapshot, SnapshotId, Volume, VolumeId};

impl Service {
    /// Cuts a snapshot, or finds the one that an earlier call of the same request cut.
    pub async fn create_snapshot(&self, request: CreateSnapshot) -> Result<Arc<Snapshot>> {
        let mut keys = vec![(Key::SnapshotName(request.name.as_str().into()), Mode::Exclusive)];
        keys.extend(self.inner.volume_id(&request.volume).map(exclusive));
        self.work(keys, |inner| async move { inner.create_snapshot(request).await }).await
    }

    /// A snapshot by id.
    pub fn get_snapshot(&self, id: &str) -> Result<Arc<Snapshot>> {
        self.inner.snapshot(id)
    }
}

impl Inner {
    async fn create_snapshot(self: &Arc<Self>, request: CreateSnapshot) -> Result<Arc<Snapshot>> {
        let existing = self.catalog().snapshot_named(&request.name).cloned();
        if let Some(existing) = existing {
            if is_visible(existing.phase) {
                return same_request(existing, &request);
            }
            self.clear_snapshot_name(&existing).await?;
        }
        let volume = self.settled(self.volume(&request.volume)?.id).await?;
        if !self.is_asked(&request.requisite) {
            let text = format!(
                "accessibility_requirements: the volume lies on this node only, {}",
                self.settings.node_id
            );
            return Err(Error::new(Kind::Exhausted, text));
        }
        self.admit_copies(&volume, "a new snapshot", 1).await?;
        let snapshot = self.draft(&volume, request.name.as_str().into(), self.now(), None, request.claim);
        let mut cut = self.cut(vec![(volume, snapshot)], None).await?;
        cut.pop().ok_or_else(|| Error::internal("a snapshot was cut and lost"))
    }

    /// Makes a name free that an earlier attempt could not undo, or a removal that could not end, still has.
    async fn clear_snapshot_name(&self, existing: &Arc<Snapshot>) -> Result<()> {
        let removing = match existing.phase {
            // It may be running right now: it has the lock of the id, where a creation has that of the name.
            Phase::Deleting => Some(self.locks.take(vec![exclusive(existing.id)]).await?),
            _ => None,
        };
        let still = self.catalog().snapshot(existing.id).cloned();
        if let Some(still) = still {
            self.clear_away_snapshot(&still).await.map_err(unfinished)?;
        }
        drop(removing);
        Ok(())
    }

    /// A snapshot of `volume` that is to be cut.
    pub(super) fn draft(
        &self,
        volume: &Volume,
        name: Arc<str>,
        created: Millis,
        group: Option<GroupId>,
        claim: Option<Claim>,
    ) -> Snapshot {
        Snapshot {
            id: SnapshotId::new(volume.id.pool()),
            name,
            volume: volume.id,
            size: volume.size,
            layout: volume.layout,
            fs: volume.fs,
            raw_written: volume.raw_written,
            created,
            group,
            undo: false,
            claim,
            phase: Phase::Creating,
        }
    }

    /// Cuts all of `drafts` at one moment: every source is frozen before any is cut, and thawed whatever happens.
    /// Either all are there at the end or none is. With a `gate`, it is passed between the freezing and the cutting.
    pub(super) async fn cut(
        self: &Arc<Self>,
        drafts: Vec<(Arc<Volume>, Snapshot)>,
        gate: Option<Gate>,
    ) -> Result<Vec<Arc<Snapshot>>> {
        let (volumes, drafts): (Vec<_>, Vec<_>) = drafts.into_iter().map(|(v, s)| (v, Arc::new(s))).unzip();
        let mut made: Vec<Arc<Snapshot>> = Vec::with_capacity(drafts.len());
        match self.cut_steps(&volumes, &drafts, gate, &mut made).await {
            Ok(()) => {
                let ready =
                    |s: &Arc<Snapshot>| Arc::new(Snapshot { phase: Phase::Ready, ..Snapshot::clone(s) });
                let ready: Vec<_> = drafts.iter().map(ready).collect();
                let mut catalog = self.catalog_mut();
                ready.iter().for_each(|snapshot| catalog.put_snapshot(snapshot.clone()));
                Ok(ready)
            }
            Err(error) => {
                for snapshot in made {
                    let undo = self.clear_away_snapshot(&snapshot).await;
                    if undo.is_err() {
                        return Err(undone(snapshot.id.into(), error, undo));
                    }
                }
                Err(error)
            }
        }
    }

    async fn cut_steps(
        self: &Arc<Self>,
        volumes: &[Arc<Volume>],
        drafts: &[Arc<Snapshot>],
        gate: Option<Gate>,
        made: &mut Vec<Arc<Snapshot>>,
    ) -> Result<()> {
        for snapshot in drafts {
            self.pool(snapshot.id.pool())?.begin(snapshot).await?;
            self.catalog_mut().put_snapshot(snapshot.clone());
            made.push(snapshot.clone());
        }
        self.frozen(volumes, async {
            if let Some(gate) = gate {
                gate.pass(None, self.settings.freeze_limit).await?;
            }
            for (volume, snapshot) in volumes.iter().zip(drafts) {
                let mut running = Running::new(self, snapshot.id, "snapshot");
                self.pool(snapshot.id.pool())?.backend.cut(volume, snapshot, running.progress()).await?;
                running.whole = true;
            }
            Ok(())
        })
        .await?;
        for snapshot in drafts {
            let pool = self.pool(snapshot.id.pool())?;
            pool.backend.seal(snapshot).await?;
            pool.commit(snapshot.id.into()).await?;
        }
        Ok(())
    }
}

fn same_request(existing: Arc<Snapshot>, request: &CreateSnapshot) -> Result<Arc<Snapshot>> {
    if request.volume.parse::<VolumeId>().ok() == Some(existing.volume) {
        return Ok(existing);
    }
    Err(Error::new(
        Kind::AlreadyExists,
        format!(
            "name: snapshot {:?} exists with another source_volume_id ({}): use another name or the same request",
            existing.name, existing.volume
        ),
    ))
}
