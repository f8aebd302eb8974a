//! Rewind and refresh: new bytes for a volume that stays what it is.
//!
//! The intent, with the ids of both snapshots, is in the volume's record before anything is cut. The new bytes come in
//! by one rename. So a crash leaves the old content whole or the new content whole, and recovery can tell: as long as
//! one of the two snapshots is missing nothing was replaced, and the attempt is taken back; once both are there the
//! replacement is done (again) to its end.

use std::sync::Arc;

use super::api::{RefreshFrom, Replaced};
use super::progress::Running;
use super::work::{exclusive, shared};
use super::{Inner, Service};
use crate::volume::{Error, Kind, Phase, Result, Snapshot, SnapshotId, Volume, VolumeId};

impl Service {
    /// Gives a volume the bytes of one of its own snapshots back, in place. Refused while a node has the volume.
    pub async fn rewind_volume(&self, volume: &str, snapshot: &str) -> Result<Replaced> {
        let volume = self.inner.volume(volume)?.id;
        let snapshot = self.inner.snapshot(snapshot)?.id;
        let keys = vec![exclusive(volume), shared(snapshot)];
        self.work(keys, move |inner| async move { inner.rewind(volume, snapshot).await }).await
    }

    /// Gives a copy newer bytes of its source, in place. Refused while a node has the volume.
    pub async fn refresh_volume(&self, volume: &str, from: RefreshFrom) -> Result<Replaced> {
        let volume = self.inner.volume(volume)?;
        let Some(origin) = volume.origin else {
            let why = format!(
                "volume {} was not made from a snapshot or volume, so it has nothing to refresh from",
                volume.id
            );
            return Err(Error::invalid("volume_id", why));
        };
        let (id, mut keys) = (volume.id, vec![exclusive(volume.id)]);
        match from {
            RefreshFrom::Snapshot(snapshot) => {
                let snapshot = self.inner.snapshot(&snapshot)?.id;
                keys.push(shared(snapshot));
                self.work(keys, move |inner| async move { inner.refresh_from(id, origin, snapshot).await })
                    .await
            }
            RefreshFrom::SourceNow => {
                keys.push(exclusive(origin));
                self.work(keys, move |inner| async move { inner.refresh_now(id, origin).await }).await
            }
        }
    }
}

impl Inner {
    async fn rewind(self: &Arc<Self>, volume: VolumeId, snapshot: SnapshotId) -> Result<Replaced> {
        let volume = self.settled(volume).await?;
        let snapshot = self.snapshot(&snapshot.to_string())?;
        if snapshot.volume != volume.id {
            let why = format!(
                "snapshot {} was cut from {}, not from {}: a rewind goes to one of the volume's own snapshots",
                snapshot.id, snapshot.volume, volume.id
            );
            return Err(Error::invalid("snapshot_id", why));
        }
        self.replace(volume, &snapshot).await
    }

    async fn refresh_from(
        self: &Arc<Self>,
        volume: VolumeId,
        origin: VolumeId,
        snapshot: SnapshotId,
    ) -> Result<Replaced> {
        let volume = self.settled(volume).await?;
        let snapshot = self.snapshot(&snapshot.to_string())?;
        if snapshot.volume != origin {
            let why = format!(
                "snapshot {} was cut from {}, but the source of {} is {origin}",
                snapshot.id, snapshot.volume, volume.id
            );
            return Err(Error::invalid("snapshot_id", why));
        }
        self.replace(volume, &snapshot).await
    }

    async fn refresh_now(self: &Arc<Self>, volume: VolumeId, origin: VolumeId) -> Result<Replaced> {
        let volume = self.settled(volume).await?;
        let gone = || {
            let text = format!(
                "the source of volume {}, {origin}, is gone: refresh from one of its snapshots",
                volume.id
            );
            Error::precondition(text)
        };
        let source = self.find_volume(&origin.to_string()).ok_or_else(gone)?;
        self.check_replaceable(&volume, source.size).await?;
        let name = format!("refresh-{}-{}", volume.id, self.now()).into();
        let from = self.draft(&source, name, self.now(), None, None);
        let (volume, undo) = self.intend(volume, from.id, true).await?;
        let both = vec![(source, from), (volume.clone(), undo)];
        match self.cut(both).await {
            Ok(_) => self.finish_replacing(&volume).await,
            Err(error) => Err(self.take_back(&volume, error).await),
        }
    }

    /// Keeps the present bytes as an undo snapshot, then puts those of `from` in their place.
    async fn replace(self: &Arc<Self>, volume: Arc<Volume>, from: &Snapshot) -> Result<Replaced> {
        self.check_replaceable(&volume, from.size).await?;
        let (volume, undo) = self.intend(volume, from.id, false).await?;
        match self.cut(vec![(volume.clone(), undo)]).await {
            Ok(_) => self.finish_replacing(&volume).await,
            Err(error) => Err(self.take_back(&volume, error).await),
        }
    }

    async fn check_replaceable(&self, volume: &Arc<Volume>, size: u64) -> Result<()> {
        if let Some(published) = volume.published.first() {
            let text = format!(
                "volume {} is published to node {}: stop what uses it first",
                volume.id, published.node
            );
            return Err(Error::precondition(text));
        }
        self.refuse_in_use(volume).await?;
        if size > volume.size {
            let text = format!(
                "volume {} has {} bytes and the new content {size}: expand the volume to that first",
                volume.id, volume.size
            );
            return Err(Error::precondition(text));
        }
        let pool = self.pool(volume.id.pool())?;
        let full = if pool.backend.info().shares_copies { 0 } else { 2 * volume.size };
        self.admit_bytes(&pool, "the undo snapshot", full).await?;
        pool.backend.detach(volume).await
    }

    /// Writes the intent, and drafts the undo snapshot that it names.
    async fn intend(
        &self,
        volume: Arc<Volume>,
        from: SnapshotId,
        temporary: bool,
    ) -> Result<(Arc<Volume>, Snapshot)> {
        let mut undo = self.draft(&volume, "".into(), self.now(), None, None);
        undo.name = format!("undo-{}", undo.id).into();
        undo.undo = true;
        let phase = Phase::Replacing { from, undo: undo.id, temporary };
        let volume = Arc::new(Volume { phase, ..Volume::clone(&volume) });
        self.pool(volume.id.pool())?.put(&volume).await?;
        self.catalog_mut().put_volume(volume.clone());
        Ok((volume, undo))
    }

    /// Ends an attempt that replaced nothing.
    async fn take_back(&self, volume: &Arc<Volume>, error: Error) -> Error {
        match self.settle_phase(volume).await {
            Ok(()) => error,
            Err(undo) => Error::new(
                Kind::Unavailable,
                format!("{error}; the intent could not be taken back ({undo}): try again"),
            ),
        }
    }

    /// The volume is ready again, with the content that it has.
    async fn settle_phase(&self, volume: &Arc<Volume>) -> Result<()> {
        let ready = Arc::new(Volume { phase: Phase::Ready, ..Volume::clone(volume) });
        self.pool(volume.id.pool())?.put(&ready).await?;
        self.catalog_mut().put_volume(ready);
        Ok(())
    }

    /// Brings a replacement to its end, from wherever it stopped.
    pub(super) async fn finish_replacing(self: &Arc<Self>, volume: &Arc<Volume>) -> Result<Replaced> {
        let Phase::Replacing { from, undo, temporary } = volume.phase else {
            return Err(Error::internal(format!("volume {} is not being replaced", volume.id)));
        };
        let whole = |id: SnapshotId| {
            let found = self.catalog().snapshot(id).cloned();
            found.filter(|snapshot| snapshot.phase == Phase::Ready)
        };
        let (Some(source), Some(_)) = (whole(from), whole(undo)) else {
            self.abandon(volume, from, undo, temporary).await?;
            let text = format!(
                "the replacement of volume {} had not begun and was taken back: ask again",
                volume.id
            );
            return Err(Error::new(Kind::Unavailable, text));
        };
        let pool = self.pool(volume.id.pool())?;
        let mut running = Running::new(self, volume.id, "replace");
        let unfinished = |error: Error| error.with_kind(Kind::Unavailable);
        pool.backend.replace(volume, &source, running.progress()).await.map_err(unfinished)?;
        running.whole = true;
        let done = Arc::new(Volume {
            phase: Phase::Ready,
            base: (!temporary).then_some(from),
            raw_written: source.raw_written,
            ..Volume::clone(volume)
        });
        pool.put(&done).await.map_err(unfinished)?;
        self.catalog_mut().put_volume(done);
        if temporary {
            self.delete_snapshot(from, None).await?;
        }
        Ok(Replaced { undo, from: (!temporary).then_some(from) })
    }

    /// Takes an attempt back whose snapshots are not both there: nothing was replaced.
    async fn abandon(
        &self,
        volume: &Arc<Volume>,
        from: SnapshotId,
        undo: SnapshotId,
        temporary: bool,
    ) -> Result<()> {
        self.delete_snapshot(undo, None).await?;
        if temporary {
            self.delete_snapshot(from, None).await?;
        }
        self.settle_phase(volume).await
    }
}
