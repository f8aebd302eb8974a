//! Everything that only reads: lists, single objects, capacity. Takes no locks.
//!
//! A list asks the DCT for what has our tags, by one search, and is cut into pages here by id: a page begins after the
//! last id of the one before, whatever was made or deleted in between.

use tokio::try_join;

use super::api::{Page, SnapshotFilter, SnapshotInfo, VolumeStatus};
use super::asked::unsuitable_access;
use super::create::info;
use super::id::{SnapshotHandle, VolumeHandle};
use super::look::gone;
use super::params::Params;
use super::resolve::{by, only};
use super::snapshot::{snapshot_info, snapshots_of};
use super::tags::{Mark, Record, Use};
use super::{Driver, Inner};
use crate::backend::delphix::{Bookmark, Dct, Engine, Filter, Vdb};
use crate::service::api::CapacityAnswer;
use crate::volume::page::Ask;
use crate::volume::size::Range;
use crate::volume::{Capability, Error, Result};

impl Driver {
    /// A page of all volumes, by id, each with the nodes that have it and what is wrong with it.
    pub async fn list_volumes(&self, token: &str, max: i32) -> Result<Page<VolumeStatus>> {
        let ask: Ask<VolumeHandle> = Ask::parse(token, max)?;
        let mut all = Vec::new();
        for dct in self.inner.dcts.iter() {
            let (ours, engines) =
                try_join!(self.inner.volumes(dct), async { Ok(dct.engines(Filter::all()).await?) })?;
            all.extend(ours.into_iter().map(|(vdb, record)| {
                let faults = super::health::faults(&vdb, &record, &engines);
                let volume = info(dct, &vdb, &record);
                (volume.id.clone(), VolumeStatus { volume, nodes: nodes(&record), faults })
            }));
        }
        all.sort_by(|(a, _), (b, _)| a.cmp(b));
        let page = ask.take(all);
        for status in &page.items {
            self.inner.tell_of_faults(status).await;
        }
        Ok(Page { entries: page.items, next: page.next.unwrap_or_default() })
    }

    /// One volume, with all that can be found out about what is wrong with it.
    pub async fn get_volume(&self, id: &str) -> Result<VolumeStatus> {
        let id = super::volume_id("volume_id", id)?;
        let dct = self.inner.dct(&id.dct)?;
        let (vdb, record) = self.inner.ours(dct, &id).await?;
        let faults = self.inner.all_faults(dct, &vdb, &record).await?;
        let status = VolumeStatus { volume: info(dct, &vdb, &record), nodes: nodes(&record), faults };
        self.inner.tell_of_faults(&status).await;
        Ok(status)
    }

    /// A page of snapshots, by id. A filter that fits nothing gives an empty page.
    pub async fn list_snapshots(
        &self,
        filter: &SnapshotFilter,
        token: &str,
        max: i32,
    ) -> Result<Page<SnapshotInfo>> {
        let ask: Ask<SnapshotHandle> = Ask::parse(token, max)?;
        let mut all = Vec::new();
        if filter.snapshot.is_empty() {
            let volume: Option<VolumeHandle> = filter.volume.parse().ok();
            if filter.volume.is_empty() || volume.is_some() {
                for dct in self.inner.dcts.iter() {
                    if volume.as_ref().is_none_or(|volume| volume.dct == dct.name()) {
                        all.extend(
                            self.inner
                                .snapshots(dct, volume.as_ref().map(|volume| volume.vdb.as_str()))
                                .await?,
                        );
                    }
                }
            }
        } else if let Ok(id) = filter.snapshot.parse::<SnapshotHandle>()
            && let Ok(dct) = self.inner.dct(&id.dct)
            && let Some((bookmark, mark)) = self.inner.bookmark(dct, &id.bookmark).await?
        {
            all.push(snapshot_info(dct, &bookmark, &mark));
        }
        all.retain(|found| filter.volume.is_empty() || found.source.to_string() == filter.volume);
        all.sort_by(|a, b| a.id.cmp(&b.id));
        let page = ask.take(all.into_iter().map(|found| (found.id.clone(), found)));
        Ok(Page { entries: page.items, next: page.next.unwrap_or_default() })
    }

    /// One snapshot.
    ///
    /// # Errors
    /// [`crate::volume::Kind::NotFound`] also where only the bookmark is left, and the engine's snapshot is gone.
    pub async fn get_snapshot(&self, id: &str) -> Result<SnapshotInfo> {
        let id = super::snapshot_id("snapshot_id", id)?;
        let dct = self.inner.dct(&id.dct)?;
        let missing = || Error::not_found(format!("snapshot {id}"));
        let (bookmark, mark) = self.inner.bookmark(dct, &id.bookmark).await?.ok_or_else(missing)?;
        if let Some(drift) = self.inner.lost(dct, &bookmark).await? {
            return Err(missing().context(drift));
        }
        Ok(snapshot_info(dct, &bookmark, &mark))
    }

    /// Whether a volume can be used in all of these ways; the reason why not as `Some`.
    pub async fn validate(&self, id: &str, capabilities: &[Capability]) -> Result<Option<String>> {
        let id = super::volume_id("volume_id", id)?;
        self.inner.ours(self.inner.dct(&id.dct)?, &id).await?;
        Ok(capabilities.iter().find_map(unsuitable))
    }

    /// Notes another size for a volume, and returns it. A volume never becomes smaller.
    ///
    /// # Errors
    /// [`crate::volume::Kind::OutOfRange`] if it has more than the limit already.
    pub async fn expand(&self, id: &str, range: Range) -> Result<u64> {
        let id = super::volume_id("volume_id", id)?;
        let dct = self.inner.dct(&id.dct)?.clone();
        self.on_volume(id.clone(), |inner| async move {
            let (vdb, record) = inner.ours(&dct, &id).await?;
            inner.resize(&dct, &vdb, &record, range).await
        })
        .await
    }

    /// Room on the engine that volumes with these parameters are made on; on all engines where the parameters leave it open.
    pub async fn get_capacity(&self, params: &Params) -> Result<CapacityAnswer> {
        let inner = &self.inner;
        let dct = inner.dct_of(params.dct.as_deref())?;
        let engines = match &params.engine {
            Some(text) => vec![only("engine", text, None, dct.engines(by(text)).await?)?],
            None if params.source.is_some() || params.environment.is_some() => {
                let target = inner.target(dct, params).await?;
                match target.engine {
                    Some(id) => dct.engine(&id).await?.into_iter().collect(),
                    None => dct.engines(Filter::all()).await?,
                }
            }
            None => dct.engines(Filter::all()).await?,
        };
        let rooms: Vec<u64> = engines.iter().map(room).collect();
        let maximum = rooms.iter().copied().max().unwrap_or_default();
        Ok(CapacityAnswer { available: rooms.iter().sum(), maximum, minimum: 1 })
    }
}

impl Inner {
    /// Our volumes on a DCT.
    pub(super) async fn volumes(&self, dct: &Dct) -> Result<Vec<(Vdb, Record)>> {
        let found = dct.vdbs(self.owner.filter()).await?;
        let record = |vdb: Vdb| Record::read(&self.owner, &vdb.tags).map(|record| (vdb, record));
        Ok(found.into_iter().filter(|vdb| !gone(Some(vdb))).filter_map(record).collect())
    }

    /// Our bookmarks on a DCT, those of clones among them.
    pub(super) async fn bookmarks(&self, dct: &Dct, of: Option<&str>) -> Result<Vec<(Bookmark, Mark)>> {
        let filter = match of {
            Some(vdb) => self.owner.filter().and(Filter::contains("vdb_ids", vdb)),
            None => self.owner.filter(),
        };
        let found = dct.bookmarks(filter).await?;
        let mark = |of: Bookmark| Mark::read(&self.owner, &of.tags).map(|mark| (of, mark));
        Ok(found.into_iter().filter_map(mark).collect())
    }

    /// Our snapshots on a DCT, of one VDB if one is named.
    pub(super) async fn snapshots(&self, dct: &Dct, of: Option<&str>) -> Result<Vec<SnapshotInfo>> {
        let found = self.bookmarks(dct, of).await?.into_iter();
        let found = found.filter(|(bookmark, mark)| {
            mark.use_ != Use::Origin && bookmark.bookmark_status.as_deref() != Some("DELETING")
        });
        Ok(found.map(|(bookmark, mark)| snapshot_info(dct, &bookmark, &mark)).collect())
    }

    /// What became of a snapshot that others have touched; `None` if it is whole.
    pub(super) async fn snapshot_drift(&self, dct: &Dct, bookmark: &str) -> Result<Option<String>> {
        match self.bookmark(dct, bookmark).await? {
            Some((bookmark, _)) => self.lost(dct, &bookmark).await,
            None => Ok(Some("its bookmark is gone: somebody deleted it".to_owned())),
        }
    }

    /// Whether the engine has lost a snapshot that the bookmark names, in words.
    async fn lost(&self, dct: &Dct, bookmark: &Bookmark) -> Result<Option<String>> {
        for id in snapshots_of(bookmark) {
            if dct.snapshot(&id).await?.is_none() {
                let name = bookmark.name.as_deref().unwrap_or_default();
                return Ok(Some(format!(
                    "snapshot {id} of bookmark {name} was deleted on the engine by somebody"
                )));
            }
        }
        Ok(None)
    }
}

/// The ids of the nodes that have a volume.
fn nodes(record: &Record) -> Vec<String> {
    record.published.iter().map(|has| has.node.to_string()).collect()
}

/// Bytes that are free on an engine; none where it is away or does not say.
pub(super) fn room(engine: &Engine) -> u64 {
    if engine.online() == Some(false) {
        return 0;
    }
    let used = engine.data_storage_used.unwrap_or_default();
    engine.data_storage_capacity.unwrap_or_default().saturating_sub(used)
}

/// Why a Delphix volume cannot be used in this way, if it cannot.
pub(super) fn unsuitable(capability: &Capability) -> Option<String> {
    unsuitable_access(&capability.access)
}
