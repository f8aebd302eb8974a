//! CreateVolume whose content comes from a snapshot on another node.
//!
//! That takes minutes to hours, in which this node, the other one and the router may crash. So this is the one creation
//! that recovery does not undo: its intent says how far the bytes have come, written after they were forced to the disk,
//! and the next call of the same name goes on from there. Only a final error undoes it, or that nobody asked for it
//! during a day.
//!
//! What comes is another machine's word. It is held to the order, to the snapshot's size and to the number of bytes that
//! were announced; anything else ends the copy, and nothing is ever written outside the unfinished image.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::api::{CreateVolume, SourceRef, VolumeStatus};
use super::asked::{same_request, wish};
use super::create::Found;
use super::locks::{Key, Mode};
use super::lookup::is_visible;
use super::pool::Pool;
use super::progress::Running;
use super::transfer::{Chunk, Chunks, Described, RemoteSnapshot};
use super::work::undone;
use super::{Inner, Service};
use crate::backend::{Progress, Received};
use crate::volume::record::Millis;
use crate::volume::size::{MIB, kept};
use crate::volume::{Error, Kind, Phase, Result, SnapshotId, Volume};

/// Bytes after which what has come is made durable, at the latest.
const FLUSH_BYTES: u64 = 256 * MIB;
/// Milliseconds after which it is.
const FLUSH_AFTER: Millis = 5_000;
/// An unfinished copy that nobody asks for is kept for so many milliseconds.
const KEPT: Millis = 24 * 60 * 60 * 1000;
/// How often a broken stream is opened again before the call ends.
const TRIES: u32 = 6;

/// When each running copy was last asked for, by the volume's name: those calls wait for its lock and can write nothing.
#[derive(Debug, Default)]
pub(super) struct LastAsked(Mutex<HashMap<Arc<str>, Millis>>);

impl LastAsked {
    fn table(&self) -> std::sync::MutexGuard<'_, HashMap<Arc<str>, Millis>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

type Opened = (Described, Box<dyn Chunks>);

/// Why a stream ended before its end.
enum Broken {
    /// The other side's doing: perhaps worth another try.
    There(Error),
    /// Ours.
    Here(Error),
}

impl From<Error> for Broken {
    fn from(error: Error) -> Self {
        Broken::Here(error)
    }
}

/// How far a copy has come.
struct Copy {
    volume: Arc<Volume>,
    from: SnapshotId,
    /// Everything before this byte has come.
    position: u64,
    /// How many bytes have.
    bytes: u64,
    /// What of it is durable.
    flushed: (u64, Millis),
    progress: Progress,
}

impl Service {
    /// Makes a volume from a snapshot on another node, goes on with making it, or finds it.
    ///
    /// # Errors
    /// [`Kind::Busy`] while an earlier call's work goes on, [`Kind::Unavailable`] when the source could not be read to
    /// its end: what has come is kept, and the same call goes on from there.
    pub async fn create_volume_from(
        &self,
        request: CreateVolume,
        from: SnapshotId,
        remote: Arc<dyn RemoteSnapshot>,
    ) -> Result<VolumeStatus> {
        let name: Arc<str> = request.name.as_str().into();
        self.inner.last_asked.table().insert(name.clone(), self.inner.now());
        let keys = vec![(Key::VolumeName(name.clone()), Mode::Exclusive)];
        self.work(keys, move |inner| async move {
            let done = inner.create_from(request, from, &*remote).await;
            inner.last_asked.table().remove(&name);
            done
        })
        .await
    }
}

impl Inner {
    async fn create_from(
        self: &Arc<Self>,
        request: CreateVolume,
        from: SnapshotId,
        remote: &dyn RemoteSnapshot,
    ) -> Result<VolumeStatus> {
        let wish = wish(&request)?;
        let existing = self.catalog().volume_named(&request.name).cloned();
        if let Some(existing) = existing {
            if is_visible(existing.phase) {
                same_request(&existing, &request, &wish)?;
                return Ok(self.status_of(&existing, Vec::new()));
            }
            let same = same_request(&existing, &request, &wish).is_ok();
            if same && matches!(existing.phase, Phase::Receiving { from: begun, .. } if begun == from) {
                let pool = self.pool(existing.id.pool())?;
                return self.receive(&pool, existing, remote, None).await;
            }
            self.clear_name(&existing).await?;
        }
        self.refuse_elsewhere(&request.requisite)?;
        let opened = remote.open(0).await.map_err(|error| match is_passing(&error) {
            // There is no record yet, so this is not "may still be running".
            true => error.with_kind(Kind::Exhausted).context("the source cannot be read now"),
            false => error,
        })?;
        let found = found(&request, from, &opened.0)?;
        let pool = self.choose_pool(&request, Some(&found)).await?;
        let mut volume = self.decide(&request, &wish, &pool, Some(&found))?;
        volume.phase = Phase::Receiving { from, received: 0, bytes: 0, asked: self.now() };
        self.admit(&pool, &volume, Some(&found)).await?;
        let volume = Arc::new(volume);
        self.catalog_mut().put_volume(volume.clone());
        self.receive(&pool, volume, remote, Some(opened)).await
    }

    /// Goes on with a copy until it is whole, is undone, or has to wait for another call.
    async fn receive(
        self: &Arc<Self>,
        pool: &Arc<Pool>,
        volume: Arc<Volume>,
        remote: &dyn RemoteSnapshot,
        opened: Option<Opened>,
    ) -> Result<VolumeStatus> {
        let mut running = Running::new(self, volume.id, "remote copy");
        let progress = running.progress();
        match self.receive_steps(pool, &volume, remote, opened, progress).await {
            Ok(()) => {}
            Err(error) if !error.kind().is_final() => return Err(error),
            Err(error) => {
                let undo = self.clear_away(&volume).await;
                return Err(undone(volume.id.into(), error, undo));
            }
        }
        running.whole = true;
        let volume = Arc::new(Volume { phase: Phase::Ready, ..Volume::clone(&volume) });
        self.catalog_mut().put_volume(volume.clone());
        Ok(self.status_of(&volume, Vec::new()))
    }

    async fn receive_steps(
        self: &Arc<Self>,
        pool: &Arc<Pool>,
        volume: &Arc<Volume>,
        remote: &dyn RemoteSnapshot,
        opened: Option<Opened>,
        progress: Progress,
    ) -> Result<()> {
        let Phase::Receiving { from, received, bytes, .. } = volume.phase else {
            return Err(Error::internal(format!("volume {} is not being received", volume.id)));
        };
        let flushed = (received, self.now());
        let mut copy = Copy { volume: volume.clone(), from, position: received, bytes, flushed, progress };
        // That it was asked for again, and for a new one that it exists.
        self.remember_progress(pool, &mut copy).await?;
        let mut begun = pool.backend.receive_begin(volume, received > 0).await?;
        if begun == Received::Nothing {
            // Forgotten first: an empty image must never be taken for one with bytes in it.
            (copy.position, copy.bytes, copy.flushed.0) = (0, 0, 0);
            self.remember_progress(pool, &mut copy).await?;
            begun = pool.backend.receive_begin(volume, false).await?;
        }
        if begun != Received::Whole {
            self.fetch(pool, &mut copy, remote, opened).await?;
            pool.backend.receive_end(volume).await?;
        }
        pool.backend.settle(volume, true).await?;
        pool.commit(volume.id.into()).await
    }

    /// Reads to the end, opening a broken stream again for as long as there is hope.
    async fn fetch(
        &self,
        pool: &Pool,
        copy: &mut Copy,
        remote: &dyn RemoteSnapshot,
        mut opened: Option<Opened>,
    ) -> Result<()> {
        let mut tries = 0;
        loop {
            let before = copy.position;
            let error = match self.fetch_stream(pool, copy, remote, opened.take()).await {
                Ok(()) => return Ok(()),
                Err(Broken::Here(error)) => return Err(error),
                Err(Broken::There(error)) if !is_passing(&error) => return Err(error),
                Err(Broken::There(error)) => error,
            };
            if copy.position > copy.flushed.0 {
                self.flush(pool, copy).await?;
            }
            if copy.position > before {
                tries = 0;
            }
            // Only the router lets this node in again, and it does that before each call.
            if tries == TRIES || error.kind() == Kind::Denied || self.tracker.is_closed() {
                let text = format!("{} bytes have come, and the next call goes on from there", copy.bytes);
                return Err(error.with_kind(Kind::Unavailable).context(text));
            }
            tracing::warn!(volume = %copy.volume.id, snapshot = %copy.from, %error, "the source of a copy broke off; it is opened again");
            tokio::time::sleep(self.settings.source_patience / 64 * (1 << tries)).await;
            tries += 1;
        }
    }

    async fn fetch_stream(
        &self,
        pool: &Pool,
        copy: &mut Copy,
        remote: &dyn RemoteSnapshot,
        opened: Option<Opened>,
    ) -> Result<(), Broken> {
        let (described, mut chunks) = match opened {
            Some(opened) => opened,
            None => remote.open(copy.position).await.map_err(Broken::There)?,
        };
        check_described(&copy.volume, &described)?;
        (copy.progress)(copy.bytes, described.allocated);
        while let Some(chunk) = chunks.next().await.map_err(Broken::There)? {
            check_chunk(copy, &described, &chunk)?;
            let Chunk { offset, bytes } = chunk;
            let len = bytes.len() as u64;
            pool.backend.receive(&copy.volume, offset, bytes).await?;
            copy.position = offset + len;
            copy.bytes += len;
            (copy.progress)(copy.bytes, described.allocated);
            let due = self.now() - copy.flushed.1 >= FLUSH_AFTER;
            if due || copy.position - copy.flushed.0 >= FLUSH_BYTES {
                self.flush(pool, copy).await?;
            }
            if self.tracker.is_closed() {
                return Err(Broken::There(Error::new(Kind::Unavailable, "the server is stopping")));
            }
        }
        if copy.bytes != described.allocated {
            let text =
                format!("its source sent {} bytes and had announced {}", copy.bytes, described.allocated);
            return Err(Broken::Here(not_the_source(&copy.volume, &text)));
        }
        Ok(())
    }

    /// Makes durable what has come, and then that it has.
    async fn flush(&self, pool: &Pool, copy: &mut Copy) -> Result<()> {
        pool.backend.receive_flush(&copy.volume).await?;
        self.remember_progress(pool, copy).await
    }

    async fn remember_progress(&self, pool: &Pool, copy: &mut Copy) -> Result<()> {
        let now = self.now();
        let asked = self.last_asked(&copy.volume).unwrap_or(now);
        if now - asked > KEPT {
            return Err(Error::new(
                Kind::Exhausted,
                "nobody has asked for this copy for a day: it is given up",
            ));
        }
        let phase = Phase::Receiving { from: copy.from, received: copy.position, bytes: copy.bytes, asked };
        let volume = Arc::new(Volume { phase, ..Volume::clone(&copy.volume) });
        // True whether or not the record of it can be written.
        self.catalog_mut().put_volume(volume.clone());
        copy.volume = volume.clone();
        copy.flushed = (copy.position, now);
        pool.amend(&volume).await
    }

    /// When a call last asked for an unfinished copy; `None` for any other volume.
    fn last_asked(&self, volume: &Volume) -> Option<Millis> {
        let Phase::Receiving { asked, .. } = volume.phase else { return None };
        let heard = self.last_asked.table().get(&volume.name).copied();
        Some(heard.map_or(asked, |heard| heard.max(asked)))
    }

    /// Whether nobody has asked for an unfinished copy for so long that nobody will.
    pub(super) fn is_forgotten(&self, volume: &Volume) -> bool {
        self.last_asked(volume).is_some_and(|asked| self.now() - asked > KEPT)
    }
}

/// The source as the request names it, held against what its node says of it.
fn found(request: &CreateVolume, from: SnapshotId, described: &Described) -> Result<Found> {
    use crate::volume::Source;
    if !described.refused.is_empty() {
        let text = format!("volume_content_source: {}", described.refused);
        return Err(Error::new(Kind::Exhausted, text));
    }
    let source = match &request.source {
        Some(SourceRef::Snapshot(id)) if *id == from.to_string() => Source::Snapshot(from),
        Some(SourceRef::Volume(id)) if *id == described.volume.to_string() => {
            Source::Volume(described.volume)
        }
        _ => {
            let why =
                format!("is neither snapshot {from} nor volume {}, which it was cut from", described.volume);
            return Err(Error::invalid("volume_content_source", why));
        }
    };
    Ok(Found::Remote { source, described: described.clone() })
}

/// Whether another try may succeed.
fn is_passing(error: &Error) -> bool {
    matches!(error.kind(), Kind::Unavailable | Kind::Busy | Kind::Exhausted | Kind::Denied)
}

fn not_the_source(volume: &Volume, text: &str) -> Error {
    Error::internal(format!("volume {} cannot be copied: {text}", volume.id))
}

/// A snapshot never changes, so neither does what is said of it.
fn check_described(volume: &Volume, described: &Described) -> Result<()> {
    let same = (Some(described.volume), described.fs, described.raw_written)
        == (volume.origin, volume.fs, volume.raw_written);
    if same && described.size <= volume.size && described.refused.is_empty() {
        return Ok(());
    }
    Err(not_the_source(volume, "its source is not what it was when the copy began"))
}

fn check_chunk(copy: &Copy, described: &Described, chunk: &Chunk) -> Result<()> {
    let len = chunk.bytes.len() as u64;
    let end = chunk.offset.checked_add(len).filter(|end| *end <= kept(described.size));
    if len > 0 && chunk.offset >= copy.position && end.is_some() {
        return Ok(());
    }
    let text = format!(
        "its source sent {len} bytes at {}, where {} to {} were to come",
        chunk.offset,
        copy.position,
        kept(described.size)
    );
    Err(not_the_source(&copy.volume, &text))
}

/// How long a copy tries to reach its source again, unless the settings say otherwise.
pub(super) const SOURCE_PATIENCE: Duration = Duration::from_secs(60);

#[cfg(test)]
#[path = "receive_tests.rs"]
mod tests;
