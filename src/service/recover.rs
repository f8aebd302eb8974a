//! What a start does about work that a crash interrupted.
//!
//! Every record says by its phase what the next step is. One object that cannot be recovered is reported and left as
//! it is; it never keeps the others, or the pool, from being used.

use std::sync::{Arc, PoisonError};

use super::locks::{Key, Mode};
use super::node::Mounted;
use super::pool::{Pool, blocking};
use super::work::exclusive;
use super::{Inner, Service};
use crate::backend::Usage;
use crate::store::{Loaded, Unfinished};
use crate::volume::{
    Error, FsType, GroupId, Kind, Layout, Mutable, ObjectId, Phase, PoolId, Result, Snapshot, SnapshotId,
    Volume, VolumeId,
};

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
        for id in self.interrupted(pool.id()) {
            report(id, self.recover_object(id).await);
        }
        for unfinished in &pool.unfinished {
            report(unfinished.id, self.undo_unfinished(pool, *unfinished).await);
        }
        Ok(())
    }

    /// The objects that a start has something to do about. Groups before their members, and volumes before snapshots:
    /// the phase of a replacement's snapshots says how far it came.
    fn interrupted(&self, pool: PoolId) -> Vec<ObjectId> {
        let catalog = self.catalog();
        let stale = |volume: &&Arc<Volume>| match volume.phase {
            Phase::Ready | Phase::Receiving { .. } => self.is_abandoned(volume),
            _ => true,
        };
        let groups = catalog.groups().values().filter(|group| group.phase != Phase::Ready);
        let volumes = catalog.volumes().values().filter(stale);
        let snapshots = catalog.snapshots().values().filter(|snapshot| snapshot.phase != Phase::Ready);
        let groups = groups.filter(|group| group.home() == pool).map(|group| ObjectId::Group(group.id));
        let volumes = volumes.map(|volume| ObjectId::Volume(volume.id));
        let snapshots = snapshots.map(|snapshot| ObjectId::Snapshot(snapshot.id));
        let objects = volumes.chain(snapshots).filter(|id| id.pool() == pool);
        groups.chain(objects).collect()
    }

    /// An inline volume lives as long as its pod's mount, and a reboot takes the mount away. A copy from another node
    /// waits for its next call, but not for ever.
    fn is_abandoned(&self, volume: &Volume) -> bool {
        match volume.phase {
            Phase::Ready => volume.ephemeral.is_some() && !self.uses.any(volume.id),
            Phase::Receiving { .. } => self.is_forgotten(volume),
            _ => false,
        }
    }

    /// Finishes or undoes what is pending of one object; nothing if nothing is.
    async fn recover_object(self: &Arc<Self>, id: ObjectId) -> Result<()> {
        match id {
            ObjectId::Group(id) => {
                let group = self.catalog().group(id).cloned().filter(|group| group.phase != Phase::Ready);
                match group {
                    Some(group) => self.clear_away_group(&group).await,
                    None => Ok(()),
                }
            }
            ObjectId::Snapshot(id) => {
                let snapshot =
                    self.catalog().snapshot(id).cloned().filter(|snapshot| snapshot.phase != Phase::Ready);
                match snapshot {
                    Some(snapshot) => self.clear_away_snapshot(&snapshot).await,
                    None => Ok(()),
                }
            }
            ObjectId::Volume(id) => {
                let Some(volume) = self.catalog().volume(id).cloned() else { return Ok(()) };
                match volume.phase {
                    Phase::Creating | Phase::Deleting => self.clear_away(&volume).await,
                    Phase::Receiving { .. } if self.is_abandoned(&volume) => self.clear_away(&volume).await,
                    Phase::Receiving { .. } => Ok(()),
                    Phase::Replacing { .. } | Phase::Growing { .. } => match self.settled(id).await {
                        // Taken back is over, too; only its caller has to hear of it.
                        Err(_) if self.volume(&id.to_string())?.phase == Phase::Ready => Ok(()),
                        done => done.map(drop),
                    },
                    Phase::Ready if self.is_abandoned(&volume) => self.delete(id).await,
                    Phase::Ready => Ok(()),
                }
            }
        }
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

    /// Removes the members of a group whose intent lost its content, and with it their names: some of them may be whole.
    async fn delete_members(&self, id: GroupId, certain: bool) -> Result<()> {
        if let Some(missing) = self.unopened.read().unwrap_or_else(PoisonError::into_inner).first() {
            let text = format!("its members may lie in pool {}, which is not open", missing.spec.name);
            return Err(Error::new(Kind::Unavailable, text));
        }
        let members: Vec<_> = {
            let catalog = self.catalog();
            catalog.snapshots().values().filter(|snapshot| snapshot.group == Some(id)).cloned().collect()
        };
        if !certain && !members.is_empty() {
            return Err(Error::internal("its record is empty but it has members: look at its snapshots"));
        }
        for member in members {
            match member.phase {
                Phase::Creating => self.clear_away_snapshot(&member).await?,
                _ => self.delete_snapshot(member.id, Some(id)).await?,
            }
        }
        Ok(())
    }

    /// An object of which a power cut left only the name.
    async fn undo_unfinished(&self, pool: &Pool, unfinished: Unfinished) -> Result<()> {
        // Nothing says which layout it has, and some temporary names are the same in both: the first try may find a
        // subvolume where it looks for a file, and the second one removes it.
        let first = self.remove_unfinished(pool, unfinished, Layout::Image).await;
        self.remove_unfinished(pool, unfinished, Layout::Subvolume).await?;
        if first.is_err() {
            self.remove_unfinished(pool, unfinished, Layout::Image).await?;
        }
        pool.condemn(unfinished.id).await?;
        pool.forget(unfinished.id).await
    }

    /// Where the name alone does not prove that the object was never whole, its bytes must be none.
    async fn remove_unfinished(&self, pool: &Pool, unfinished: Unfinished, layout: Layout) -> Result<()> {
        let usage = match unfinished.id {
            _ if unfinished.certain => Usage::default(),
            ObjectId::Volume(id) => {
                pool.backend.volume_usage(&nameless(id, layout)).await.unwrap_or_default()
            }
            ObjectId::Snapshot(id) => {
                pool.backend.snapshot_usage(&self.nameless_snapshot(id, layout)).await.unwrap_or_default()
            }
            ObjectId::Group(_) => Usage::default(),
        };
        if usage.own + usage.shared > 0 {
            return Err(Error::internal(
                "its record is empty but it has bytes: look at `offshoot orphans list`",
            ));
        }
        match unfinished.id {
            ObjectId::Volume(id) => pool.backend.delete(&nameless(id, layout)).await,
            ObjectId::Snapshot(id) => pool.backend.delete_snapshot(&self.nameless_snapshot(id, layout)).await,
            ObjectId::Group(id) => self.delete_members(id, unfinished.certain).await,
        }
    }

    fn nameless_snapshot(&self, id: SnapshotId, layout: Layout) -> Snapshot {
        let of = nameless(VolumeId::new(id.pool()), layout);
        Snapshot { id, ..self.draft(&of, "".into(), 0, None, None) }
    }
}

impl Service {
    /// Tries once more to finish or undo what could not be at start, or by the call that it is of. What is running has
    /// its locks, and is left to itself.
    pub async fn recover_again(&self) -> Result<()> {
        for pool in self.inner.pools() {
            for id in self.inner.interrupted(pool.id()) {
                let keys = self.inner.keys_of(id);
                let done = self.work(keys, move |inner| async move { inner.recover_object(id).await });
                report(id, done.await);
            }
        }
        Ok(())
    }
}

impl Inner {
    /// All locks under which some call may be working on an object.
    fn keys_of(&self, id: ObjectId) -> Vec<(Key, Mode)> {
        let catalog = self.catalog();
        let mut keys = vec![exclusive(id)];
        match id {
            ObjectId::Volume(id) => {
                let name = catalog.volume(id).map(|volume| Key::VolumeName(volume.name.clone()));
                keys.extend(name.map(|name| (name, Mode::Exclusive)));
            }
            ObjectId::Snapshot(id) => {
                if let Some(snapshot) = catalog.snapshot(id) {
                    keys.push((Key::SnapshotName(snapshot.name.clone()), Mode::Exclusive));
                    keys.push(exclusive(snapshot.volume));
                }
            }
            ObjectId::Group(id) => {
                if let Some(group) = catalog.group(id) {
                    keys.push((Key::SnapshotName(group.name.clone()), Mode::Exclusive));
                    let members = group.members.iter();
                    keys.extend(
                        members.flat_map(|&(volume, snapshot)| [exclusive(volume), exclusive(snapshot)]),
                    );
                }
            }
        }
        keys
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
