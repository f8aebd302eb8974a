//! What a start does about work that a crash interrupted.
//!
//! Every record says by its phase what the next step is. One object that cannot be recovered is reported and left as
//! it is; it never keeps the others, or the pool, from being used.

use std::sync::Arc;

use super::node::Mounted;
use super::pool::{Pool, blocking};
use super::{Inner, Service};
use crate::store::{Loaded, Unfinished};
use crate::volume::{Error, FsType, Layout, Mutable, ObjectId, Phase, Result, Snapshot, Volume};

impl Inner {
    /// Puts what the records say into the catalogue.
    pub(super) fn adopt(&self, loaded: Loaded) {
        let mut catalog = self.catalog_mut();
        loaded.volumes.into_iter().for_each(|volume| catalog.put_volume(Arc::new(volume)));
        loaded.snapshots.into_iter().for_each(|snapshot| catalog.put_snapshot(Arc::new(snapshot)));
        loaded.groups.into_iter().for_each(|group| catalog.put_group(Arc::new(group)));
    }

    /// Finds what is mounted, thaws what a crash left frozen, and finishes or undoes what was interrupted.
    pub(super) async fn recover(self: &Arc<Self>, pool: &Arc<Pool>) -> Result<()> {
        self.find_uses(pool).await?;
        let id = pool.id();
        let groups: Vec<_> =
            self.catalog().groups().values().filter(|group| group.id.pool() == id).cloned().collect();
        for group in groups {
            if matches!(group.phase, Phase::Creating | Phase::Deleting) {
                report(group.id.into(), self.clear_away_group(&group).await);
            }
        }
        let snapshots: Vec<_> = self
            .catalog()
            .snapshots()
            .values()
            .filter(|snapshot| snapshot.id.pool() == id)
            .cloned()
            .collect();
        for snapshot in snapshots {
            if matches!(snapshot.phase, Phase::Creating | Phase::Deleting) {
                report(snapshot.id.into(), self.clear_away_snapshot(&snapshot).await);
            }
        }
        let volumes: Vec<_> =
            self.catalog().volumes().values().filter(|volume| volume.id.pool() == id).cloned().collect();
        for volume in volumes {
            let done = match volume.phase {
                Phase::Creating | Phase::Deleting => self.clear_away(&volume).await,
                Phase::Replacing { .. } => self.finish_replacing(&volume).await.map(|_| ()),
                Phase::Growing { .. } => self.finish_growing(&volume).await.map(|_| ()),
                // An inline volume lives as long as its pod's mount, and a reboot takes the mount away.
                Phase::Ready if volume.ephemeral.is_some() && !self.uses.any(volume.id) => {
                    self.delete(volume.id).await
                }
                Phase::Ready => continue,
            };
            report(volume.id.into(), done);
        }
        for unfinished in &pool.unfinished {
            report(unfinished.id, self.undo_unfinished(pool, *unfinished).await);
        }
        Ok(())
    }

    async fn find_uses(self: &Arc<Self>, pool: &Arc<Pool>) -> Result<()> {
        for (id, entry) in pool.backend.mounted().await? {
            let block = entry.node_rdev.is_some();
            if !block {
                let (host, target) = (self.host.clone(), entry.target.clone());
                let thawed = blocking(move || host.thaw(&target).map_err(Error::from)).await;
                match thawed {
                    Ok(true) => {
                        tracing::warn!(volume = %id, target = %entry.target.display(), "thawed a filesystem that an interrupted copy left frozen")
                    }
                    Ok(false) => {}
                    Err(error) => {
                        tracing::error!(volume = %id, %error, "cannot tell whether a filesystem is frozen; if writers hang, run fsfreeze -u on it")
                    }
                }
            }
            self.uses.add(id, Mounted::found(entry));
        }
        Ok(())
    }

    /// An object of which a power cut left only the name. Where the name alone does not prove that it was never
    /// whole, its bytes must be none.
    async fn undo_unfinished(&self, pool: &Pool, unfinished: Unfinished) -> Result<()> {
        for layout in [Layout::Image, Layout::Subvolume] {
            match unfinished.id {
                ObjectId::Volume(id) => {
                    let volume = nameless(id, layout);
                    if !unfinished.certain {
                        let usage = pool.backend.volume_usage(&volume).await.unwrap_or_default();
                        if usage.own + usage.shared > 0 {
                            let text =
                                "its record is empty but it has bytes: look at `offshoot orphans list`";
                            return Err(Error::internal(text));
                        }
                    }
                    pool.backend.delete(&volume).await?;
                }
                ObjectId::Snapshot(id) => {
                    let of = nameless(crate::volume::VolumeId::new(id.pool()), layout);
                    let snapshot = Snapshot { id, ..self.draft(&of, "".into(), 0, None, None) };
                    if !unfinished.certain {
                        let usage = pool.backend.snapshot_usage(&snapshot).await.unwrap_or_default();
                        if usage.own + usage.shared > 0 {
                            let text =
                                "its record is empty but it has bytes: look at `offshoot orphans list`";
                            return Err(Error::internal(text));
                        }
                    }
                    pool.backend.delete_snapshot(&snapshot).await?;
                }
                ObjectId::Group(_) => {}
            }
        }
        pool.condemn(unfinished.id).await?;
        pool.forget(unfinished.id).await
    }
}

impl Service {
    /// Tries once more to finish or undo what could not be at start.
    pub async fn recover_again(&self) -> Result<()> {
        for pool in self.inner.pools() {
            self.inner.recover(&pool).await?;
        }
        Ok(())
    }
}

fn nameless(id: crate::volume::VolumeId, layout: Layout) -> Volume {
    Volume {
        id,
        name: "".into(),
        size: 0,
        layout,
        fs: FsType::Ext4,
        mount: false,
        block: false,
        mkfs_options: Vec::new(),
        discard: false,
        mutable: Mutable::default(),
        source: None,
        origin: None,
        base: None,
        raw_written: false,
        trust_raw: false,
        created: 0,
        published: Vec::new(),
        ephemeral: None,
        claim: None,
        phase: Phase::Creating,
    }
}

fn report(id: ObjectId, done: Result<()>) {
    match done {
        Ok(()) => tracing::info!(%id, "finished what a crash had interrupted"),
        Err(error) => {
            tracing::error!(%id, %error, "cannot finish what a crash had interrupted; it stays as it is and is tried again")
        }
    }
}
