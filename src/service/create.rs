//! CreateVolume: blank, restored from a snapshot, or cloned from a volume.

use std::sync::Arc;

use super::api::{CreateVolume, Segments, SourceRef, VolumeStatus};
use super::asked::{Wish, same_request, wish};
use super::delete::unfinished;
use super::locks::{Key, Mode};
use super::lookup::is_visible;
use super::pool::Pool;
use super::progress::Running;
use super::transfer::Described;
use super::work::{exclusive, shared, undone};
use super::{Inner, Service};
use crate::backend::Origin;
use crate::volume::capacity::{self, Need, Room};
use crate::volume::size::DEFAULT_SIZE;
use crate::volume::{
    Error, FsType, Kind, Layout, ObjectId, Phase, PoolId, Provisioning, Result, Snapshot, SnapshotId, Source,
    Volume, VolumeId,
};

/// What a volume is copied from, found.
pub(super) enum Found {
    Snapshot(Arc<Snapshot>),
    Volume(Arc<Volume>),
    /// A snapshot on another node, as that node describes it. `source` is what was asked to be copied: the snapshot, or
    /// the volume for which it was cut.
    Remote {
        source: Source,
        described: Described,
    },
}

impl Found {
    fn source(&self) -> Source {
        match self {
            Found::Snapshot(snapshot) => Source::Snapshot(snapshot.id),
            Found::Volume(volume) => Source::Volume(volume.id),
            Found::Remote { source, .. } => *source,
        }
    }

    /// The pool in which its copies lie; `None` means any.
    fn pool(&self) -> Option<PoolId> {
        match self {
            Found::Snapshot(snapshot) => Some(snapshot.id.pool()),
            Found::Volume(volume) => Some(volume.id.pool()),
            Found::Remote { .. } => None,
        }
    }

    fn volume(&self) -> VolumeId {
        match self {
            Found::Snapshot(snapshot) => snapshot.volume,
            Found::Volume(volume) => volume.id,
            Found::Remote { described, .. } => described.volume,
        }
    }

    fn size(&self) -> u64 {
        match self {
            Found::Snapshot(snapshot) => snapshot.size,
            Found::Volume(volume) => volume.size,
            Found::Remote { described, .. } => described.size,
        }
    }

    fn shape(&self) -> (Layout, FsType, bool) {
        match self {
            Found::Snapshot(snapshot) => (snapshot.layout, snapshot.fs, snapshot.raw_written),
            Found::Volume(volume) => (volume.layout, volume.fs, volume.raw_written),
            // Nothing else is sent.
            Found::Remote { described, .. } => (Layout::Image, described.fs, described.raw_written),
        }
    }

    /// What the backend copies itself.
    fn origin(&self) -> Option<Origin<'_>> {
        match self {
            Found::Snapshot(snapshot) => Some(Origin::Snapshot(snapshot)),
            Found::Volume(volume) => Some(Origin::Volume(volume)),
            Found::Remote { .. } => None,
        }
    }
}

impl Service {
    /// Makes a volume, or finds the one that an earlier call of the same request made.
    pub async fn create_volume(&self, request: CreateVolume) -> Result<VolumeStatus> {
        let mut keys = vec![(Key::VolumeName(request.name.as_str().into()), Mode::Exclusive)];
        match &request.source {
            Some(SourceRef::Snapshot(id)) => keys.extend(id.parse::<SnapshotId>().map(shared)),
            Some(SourceRef::Volume(id)) => keys.extend(id.parse::<VolumeId>().map(exclusive)),
            None => {}
        }
        self.work(keys, |inner| async move { inner.create(request, None).await }).await
    }
}

impl Inner {
    /// CreateVolume under its locks. `handle` is set for an inline ephemeral volume.
    pub(super) async fn create(
        self: &Arc<Self>,
        request: CreateVolume,
        handle: Option<Arc<str>>,
    ) -> Result<VolumeStatus> {
        let wish = wish(&request)?;
        let existing = self.catalog().volume_named(&request.name).cloned();
        if let Some(existing) = existing {
            if is_visible(existing.phase) {
                same_request(&existing, &request, &wish)?;
                return Ok(self.status_of(&existing, Vec::new()));
            }
            self.clear_name(&existing).await?;
        }
        self.refuse_elsewhere(&request.requisite)?;
        let found = self.find_source(request.source.as_ref()).await?;
        let pool = self.choose_pool(&request, found.as_ref()).await?;
        let mut volume = self.decide(&request, &wish, &pool, found.as_ref())?;
        volume.ephemeral = handle;
        self.admit(&pool, &volume, found.as_ref()).await?;
        let volume = self.make(&pool, Arc::new(volume), found).await?;
        Ok(self.status_of(&volume, Vec::new()))
    }

    /// Refuses a volume that has to be on other nodes.
    pub(super) fn refuse_elsewhere(&self, requisite: &[Segments]) -> Result<()> {
        if self.is_asked(requisite) {
            return Ok(());
        }
        Err(Error::new(
            Kind::Exhausted,
            format!(
                "accessibility_requirements: none of the requisite topologies is this node, {}",
                self.settings.node_id
            ),
        ))
    }

    /// Makes a name free that an earlier attempt could not undo, or a removal that could not end, still has.
    pub(super) async fn clear_name(&self, existing: &Arc<Volume>) -> Result<()> {
        let removing = match existing.phase {
            // It may be running right now: it has the lock of the id, where a creation has that of the name.
            Phase::Deleting => Some(self.locks.take(vec![exclusive(existing.id)]).await?),
            _ => None,
        };
        let still = self.catalog().volume(existing.id).cloned();
        if let Some(still) = still {
            self.clear_away(&still).await.map_err(unfinished)?;
        }
        drop(removing);
        Ok(())
    }

    /// Finds the source. A source in a pool that is not open here may be on another node: `Exhausted` makes the
    /// scheduler look there, where `NotFound` would end the claim's provisioning.
    async fn find_source(self: &Arc<Self>, source: Option<&SourceRef>) -> Result<Option<Found>> {
        let elsewhere = |pool: PoolId| self.pool(pool).is_err();
        let exhausted = |id: &str| {
            Err(Error::new(
                Kind::Exhausted,
                format!("volume_content_source: {id} is not on this node, {}", self.settings.node_id),
            ))
        };
        match source {
            None => Ok(None),
            Some(SourceRef::Snapshot(id)) => match id.parse::<SnapshotId>() {
                Ok(parsed) if elsewhere(parsed.pool()) => exhausted(id),
                _ => Ok(Some(Found::Snapshot(self.snapshot(id)?))),
            },
            Some(SourceRef::Volume(id)) => match id.parse::<VolumeId>() {
                Ok(parsed) if elsewhere(parsed.pool()) => exhausted(id),
                _ => Ok(Some(Found::Volume(self.settled(self.volume(id)?.id).await?))),
            },
        }
    }

    /// The pool of the source, the one asked for, or else the one with the most room.
    pub(super) async fn choose_pool(
        &self,
        request: &CreateVolume,
        found: Option<&Found>,
    ) -> Result<Arc<Pool>> {
        let asked = match &request.params.pool {
            Some(name) => Some(self.pool_named(name)?),
            None => None,
        };
        if let Some(home) = found.and_then(Found::pool) {
            let home = self.pool(home)?;
            if asked.is_some_and(|asked| asked.id() != home.id()) {
                let why = format!(
                    "the source lies in pool {:?}, and copies stay in the pool of their source: use a StorageClass of that pool",
                    home.backend.info().name
                );
                return Err(Error::invalid("parameters.pool", why));
            }
            return Ok(home);
        }
        if let Some(asked) = asked {
            return Ok(asked);
        }
        let mut pools = self.pools();
        if pools.len() < 2 {
            return pools.pop().ok_or_else(|| {
                Error::new(
                    Kind::Exhausted,
                    "no pool is open on this node: make one with `offshoot pool create`",
                )
            });
        }
        let mut best = None;
        for pool in pools {
            let room = pool.backend.capacity().await.map_or(0, |capacity| capacity.available);
            if best.as_ref().is_none_or(|(most, _)| room > *most) {
                best = Some((room, pool));
            }
        }
        best.map(|(_, pool)| pool).ok_or_else(|| Error::internal("no pool to choose from"))
    }

    /// The volume that the request asks for, or why it cannot be had.
    pub(super) fn decide(
        &self,
        request: &CreateVolume,
        wish: &Wish,
        pool: &Pool,
        found: Option<&Found>,
    ) -> Result<Volume> {
        let backend = &pool.backend;
        let params = &request.params;
        let fs = params.fs_for(wish.fs, FsType::Ext4)?;
        let asked_fs = wish.fs.or(params.fs);
        let mut volume = Volume {
            id: VolumeId::new(pool.id()),
            name: request.name.as_str().into(),
            size: 0,
            layout: Layout::Image,
            fs,
            mount: wish.mount,
            block: wish.block,
            mkfs_options: params.mkfs_options.clone(),
            discard: params.discard,
            mutable: params.mutable.clone(),
            source: found.map(Found::source),
            origin: found.map(Found::volume),
            base: None,
            raw_written: false,
            trust_raw: params.trust_raw,
            created: self.now(),
            published: Vec::new(),
            ephemeral: None,
            claim: params.claim.clone(),
            phase: Phase::Creating,
        };
        let default = match found {
            None => {
                volume.layout = match params.layout {
                    Some(Layout::Image) => backend.layout(wish.mount, true, asked_fs)?,
                    Some(Layout::Subvolume) => match backend.layout(wish.mount, wish.block, asked_fs)? {
                        Layout::Subvolume => Layout::Subvolume,
                        _ => {
                            let why =
                                "a subvolume needs a pool on btrfs, filesystem access, and no other fsType";
                            return Err(Error::invalid("parameters.layout", why));
                        }
                    },
                    _ => backend.layout(wish.mount, wish.block, asked_fs)?,
                };
                if volume.layout == Layout::Subvolume {
                    volume.fs = FsType::Btrfs;
                }
                DEFAULT_SIZE
            }
            Some(found) => {
                self.inherit(&mut volume, wish, asked_fs, found)?;
                found.size()
            }
        };
        let (min, max) = backend.limits(volume.layout, volume.fs, wish.mount);
        volume.size = request.range.pick(default, min, max)?;
        if let Some(found) = found
            && volume.size < found.size()
        {
            return Err(Error::new(
                Kind::OutOfRange,
                format!(
                    "capacity_range: {} bytes is smaller than the source, {} bytes: ask for at least that",
                    volume.size,
                    found.size()
                ),
            ));
        }
        Ok(volume)
    }

    /// A copy is what its source is; what contradicts that is refused rather than ignored.
    fn inherit(
        &self,
        volume: &mut Volume,
        wish: &Wish,
        asked_fs: Option<FsType>,
        found: &Found,
    ) -> Result<()> {
        let (layout, fs, raw_written) = found.shape();
        if layout == Layout::Subvolume && wish.block {
            let why = "the source is a btrfs subvolume, which has no block device: ask for access type mount";
            return Err(Error::invalid("volume_capabilities", why));
        }
        if wish.mount && !raw_written && asked_fs.is_some_and(|asked| asked != fs) {
            let why = format!(
                "the source has {}, and a copy keeps it: leave fsType out or set it to that",
                fs.as_str()
            );
            return Err(Error::invalid("parameters.fsType", why));
        }
        if wish.mount && raw_written && !volume.trust_raw {
            let why = "the source was written as a raw block device, and a filesystem made by a workload is not mounted \
                       unless parameters.allowBlockToFilesystem is \"true\"";
            return Err(Error::invalid("volume_content_source", why));
        }
        volume.layout = layout;
        volume.fs = fs;
        volume.raw_written = raw_written;
        volume.base = match found {
            Found::Snapshot(snapshot) => Some(snapshot.id),
            Found::Remote { source: Source::Snapshot(id), .. } => Some(*id),
            // One that was cut for this copy goes when it is done.
            Found::Remote { .. } | Found::Volume(_) => None,
        };
        Ok(())
    }

    /// Whether the pool has room for it, by the documented formula.
    pub(super) async fn admit(&self, pool: &Pool, volume: &Volume, found: Option<&Found>) -> Result<()> {
        let thick = volume.mutable.provisioning == Provisioning::Thick;
        let needed = match found {
            _ if thick => volume.size,
            Some(Found::Remote { described, .. }) => described.allocated,
            Some(_) if !pool.backend.info().shares_copies => volume.size,
            _ => 0,
        };
        self.admit_bytes(pool, "a new volume", needed).await
    }

    /// Whether the volume's pool has room for `copies` more copies of it, which cost nothing at once where they share
    /// their bytes.
    pub(super) async fn admit_copies(&self, volume: &Volume, what: &str, copies: u64) -> Result<()> {
        let pool = self.pool(volume.id.pool())?;
        let needed = if pool.backend.info().shares_copies { 0 } else { copies * volume.size };
        self.admit_bytes(&pool, what, needed).await
    }

    /// Whether the pool has room for `needed` more bytes now.
    pub(super) async fn admit_bytes(&self, pool: &Pool, what: &str, needed: u64) -> Result<()> {
        let now = pool.backend.capacity().await?;
        let room = Room { available: now.available, promisable: None, reserved: now.reserved };
        let need = Need { bytes: needed, logical: 0 };
        capacity::admit(&pool.backend.info().name, what, &need, &room)
    }

    /// Intent, bytes, record. Undone if any of it fails.
    async fn make(
        self: &Arc<Self>,
        pool: &Arc<Pool>,
        volume: Arc<Volume>,
        found: Option<Found>,
    ) -> Result<Arc<Volume>> {
        pool.begin(&volume).await?;
        self.catalog_mut().put_volume(volume.clone());
        // A blank volume copies nothing, so no progress ever speaks of it.
        let operation = if let Some(Found::Snapshot(_)) = found { "restore" } else { "clone" };
        let mut running = Running::new(self, volume.id, operation);
        let progress = running.progress();
        let made = async {
            match &found {
                Some(Found::Volume(source)) => {
                    let copy = pool.backend.create(&volume, Some(Origin::Volume(source)), progress);
                    self.frozen(std::slice::from_ref(source), copy).await?;
                }
                _ => pool.backend.create(&volume, found.as_ref().and_then(Found::origin), progress).await?,
            }
            pool.backend.settle(&volume, found.is_some()).await?;
            pool.commit(volume.id.into()).await
        };
        if let Err(error) = made.await {
            return Err(undone(volume.id.into(), error, self.clear_away(&volume).await));
        }
        running.whole = true;
        let volume = Arc::new(Volume { phase: Phase::Ready, ..Volume::clone(&volume) });
        self.catalog_mut().put_volume(volume.clone());
        Ok(volume)
    }

    /// Removes the bytes and then the record of a volume that callers cannot see.
    pub(super) async fn clear_away(&self, volume: &Arc<Volume>) -> Result<()> {
        let pool = self.pool(volume.id.pool())?;
        let id = ObjectId::Volume(volume.id);
        if matches!(volume.phase, Phase::Creating | Phase::Receiving { .. }) {
            // The commit may have renamed the intent before it failed.
            pool.condemn(id).await?;
        }
        pool.backend.delete(volume).await?;
        pool.forget(id).await?;
        self.catalog_mut().remove(id);
        Ok(())
    }
}
