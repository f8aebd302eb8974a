//! Rewind and refresh: new bytes for a volume that stays what it is.
//!
//! The intent, with the ids of both snapshots, is in the volume's record before anything is cut. The new bytes come in
//! by one rename. So a crash leaves the old content whole or the new content whole, and recovery can tell by the two
//! snapshots:
//!
//! | undo | from | means | recovery |
//! | --- | --- | --- | --- |
//! | not whole | any | nothing was replaced | takes the attempt back |
//! | whole | whole | perhaps replaced | replaces (again) |
//! | whole | condemned, temporary | replaced | ends the phase, then removes it |
//! | whole | gone | perhaps replaced; somebody deleted it | ends the phase; the undo snapshot stays |

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
        match self.cut(both, None).await {
            Ok(_) => self.finish_replacing(&volume).await,
            Err(error) => Err(self.take_back(&volume, error).await),
        }
    }

    /// Keeps the present bytes as an undo snapshot, then puts those of `from` in their place.
    async fn replace(self: &Arc<Self>, volume: Arc<Volume>, from: &Snapshot) -> Result<Replaced> {
        self.check_replaceable(&volume, from.size).await?;
        let (volume, undo) = self.intend(volume, from.id, false).await?;
        match self.cut(vec![(volume.clone(), undo)], None).await {
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
        self.admit_copies(volume, "the undo snapshot", 2).await?;
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

    /// Ends an attempt that replaced nothing. If that fails too, the intent stays, and the next call ends it.
    async fn take_back(&self, volume: &Arc<Volume>, error: Error) -> Error {
        match self.abandon(volume).await {
            Ok(()) => error,
            Err(undo) => Error::new(
                Kind::Unavailable,
                format!("{error}; the intent could not be taken back ({undo}): try again"),
            ),
        }
    }

    /// Brings a replacement to its end, from wherever it stopped.
    pub(super) async fn finish_replacing(self: &Arc<Self>, volume: &Arc<Volume>) -> Result<Replaced> {
        let Phase::Replacing { from, undo, temporary } = volume.phase else {
            return Err(Error::internal(format!("volume {} is not being replaced", volume.id)));
        };
        let undone = self.catalog().snapshot(undo).is_some_and(|undo| undo.phase == Phase::Ready);
        let source = self.catalog().snapshot(from).cloned();
        let source = match source {
            Some(source) if undone && source.phase == Phase::Ready => source,
            // Condemned below, and only after the bytes were replaced.
            Some(source) if undone && temporary && source.phase == Phase::Deleting => {
                return self.replaced(volume, &source, undo, temporary).await;
            }
            _ => {
                self.abandon(volume).await.map_err(retryable)?;
                let text = format!(
                    "the replacement of volume {} did not end and was taken back: ask again",
                    volume.id
                );
                return Err(Error::new(Kind::Unavailable, text));
            }
        };
        let pool = self.pool(volume.id.pool())?;
        let operation = if source.volume == volume.id { "rewind" } else { "refresh" };
        let mut running = Running::new(self, volume.id, operation);
        pool.backend.replace(volume, &source, running.progress()).await.map_err(retryable)?;
        running.whole = true;
        self.replaced(volume, &source, undo, temporary).await
    }

    /// The volume has the bytes of `source`.
    async fn replaced(
        &self,
        volume: &Arc<Volume>,
        source: &Arc<Snapshot>,
        undo: SnapshotId,
        temporary: bool,
    ) -> Result<Replaced> {
        let pool = self.pool(volume.id.pool())?;
        let from = (!temporary).then_some(source.id);
        if temporary {
            // Before the phase ends, or a crash in between would leave a snapshot that nobody asked for.
            pool.condemn(source.id.into()).await.map_err(retryable)?;
            let condemned = Snapshot { phase: Phase::Deleting, ..Snapshot::clone(source) };
            self.catalog_mut().put_snapshot(Arc::new(condemned));
        }
        let (base, raw_written) = (from, source.raw_written);
        let done = Volume { phase: Phase::Ready, base, raw_written, ..Volume::clone(volume) };
        self.save(done).await.map_err(retryable)?;
        if temporary && let Err(error) = self.drop_snapshot(source.id).await {
            // The refresh is done, and nobody would ask for this again. `recover_again` does.
            tracing::warn!(snapshot = %source.id, %error, "a snapshot that served one refresh could not be removed; it is tried again");
        }
        Ok(Replaced { undo, from })
    }

    /// Takes an attempt back that did not replace the volume's bytes, or of which somebody deleted a snapshot since. An
    /// undo snapshot that is whole stays: it may be the only one that has the bytes from before.
    pub(super) async fn abandon(&self, volume: &Arc<Volume>) -> Result<()> {
        if let Phase::Replacing { from, undo, temporary } = volume.phase {
            if self.catalog().snapshot(undo).is_some_and(|undo| undo.phase != Phase::Ready) {
                self.drop_snapshot(undo).await?;
            }
            if temporary {
                self.drop_snapshot(from).await?;
            }
        }
        self.save(Volume { phase: Phase::Ready, ..Volume::clone(volume) }).await
    }

    /// Removes a snapshot that only this replacement knows of, in whatever phase.
    async fn drop_snapshot(&self, id: SnapshotId) -> Result<()> {
        let found = self.catalog().snapshot(id).cloned();
        match found {
            Some(found) if found.phase == Phase::Creating => self.clear_away_snapshot(&found).await,
            Some(_) => self.delete_snapshot(id, None).await,
            None => Ok(()),
        }
    }
}

/// The intent stays, and the retry or the next start goes on from it.
fn retryable(error: Error) -> Error {
    error.with_kind(Kind::Unavailable)
}
