//! Rewind and refresh: other bytes for a volume that stays what it is.
//!
//! The engine begins a new timeflow, and the export path changes with it; it is read again at the next publish, and so a
//! node may not have the volume meanwhile. What was there before is kept in a snapshot of ours first.
//!
//! A tag notes what was begun, from which timeflow, and the name of that snapshot. An attempt that stopped is taken up by
//! the same call: while the timeflow is still the noted one, the replacement is asked for (again, which changes nothing,
//! as nobody can have written); once it is another, it is done.

use std::sync::Arc;

use uuid::Uuid;

use super::api::{RefreshFrom, Replaced, RewindTo};
use super::id::{SnapshotHandle, VolumeHandle};
use super::jobs::{ended, failed};
use super::look::gone;
use super::params::{SnapshotParams, timestamp};
use super::snapshot::{ready, vdb_of};
use super::tags::{Mark, Record, Use, replacing_tag};
use super::{Driver, Inner, again};
use crate::backend::delphix::{Dct, Failure, Fault, Filter, Point, Vdb};
use crate::volume::digest::digest;
use crate::volume::{Error, Kind, Result};

/// What is put in place of the bytes of a volume.
#[derive(Debug, Clone)]
struct Wish {
    /// Back to its own, or on to its source's.
    rewind: bool,
    point: Point,
    from: Option<SnapshotHandle>,
}

impl Wish {
    fn word(&self) -> String {
        let kind = if self.rewind { "rewind" } else { "refresh" };
        let point = match &self.point {
            Point::Latest => "latest".to_owned(),
            Point::Snapshot(id) => format!("snapshot {id}"),
            Point::Timestamp(at) => format!("time {at}"),
            Point::Bookmark(id) => format!("bookmark {id}"),
        };
        format!("{kind}-{:08x}", digest([point.as_str()]) & 0xffff_ffff)
    }
}

/// What the tag says.
struct Intent {
    word: String,
    timeflow: String,
    undo: String,
}

impl Intent {
    fn read(text: &str) -> Option<Intent> {
        let mut words = text.split(' ').map(str::to_owned);
        Some(Intent { word: words.next()?, timeflow: words.next()?, undo: words.next()? })
    }

    fn write(&self) -> String {
        format!("{} {} {}", self.word, self.timeflow, self.undo)
    }
}

impl Driver {
    /// Gives a volume its own earlier bytes back. Refused while a node has it.
    ///
    /// # Errors
    /// [`Kind::Invalid`] for a snapshot of another volume.
    pub async fn rewind(&self, volume: &str, to: RewindTo) -> Result<Replaced> {
        let id = super::volume_id("volume_id", volume)?;
        let wish = match to {
            RewindTo::Snapshot(snapshot) => self.inner.of_ours(&id, &snapshot, true).await?,
            RewindTo::Timestamp(at) => Wish { rewind: true, point: time(&at)?, from: None },
        };
        self.replaced(id, wish).await
    }

    /// Gives a volume newer bytes of its source. Refused while a node has it.
    ///
    /// # Errors
    /// [`Kind::Invalid`] for a snapshot of the volume itself.
    pub async fn refresh(&self, volume: &str, from: RefreshFrom) -> Result<Replaced> {
        let id = super::volume_id("volume_id", volume)?;
        let simple = |point| Wish { rewind: false, point, from: None };
        let wish = match from {
            RefreshFrom::Snapshot(snapshot) => self.inner.of_ours(&id, &snapshot, false).await?,
            RefreshFrom::EngineSnapshot(id) => simple(Point::Snapshot(id)),
            RefreshFrom::Bookmark(id) => simple(Point::Bookmark(id)),
            RefreshFrom::Timestamp(at) => simple(time(&at)?),
            RefreshFrom::Latest => simple(Point::Latest),
        };
        self.replaced(id, wish).await
    }

    async fn replaced(&self, id: VolumeHandle, wish: Wish) -> Result<Replaced> {
        let dct = self.inner.dct(&id.dct)?.clone();
        self.on_volume(id.clone(), |inner| async move { inner.replace(&dct, &id, &wish).await }).await
    }
}

fn time(text: &str) -> Result<Point> {
    timestamp(text).map(Point::Timestamp).map_err(|why| Error::invalid("timestamp", why))
}

impl Inner {
    /// The wish for the bytes of a snapshot of ours.
    async fn of_ours(&self, volume: &VolumeHandle, snapshot: &str, rewind: bool) -> Result<Wish> {
        let id = super::snapshot_id("snapshot_id", snapshot)?;
        if id.dct != volume.dct {
            let why = format!("is on DCT {}, but the volume on {}", id.dct, volume.dct);
            return Err(Error::invalid("snapshot_id", why));
        }
        let missing = || Error::not_found(format!("snapshot {id}"));
        let (bookmark, _) = self.bookmark(self.dct(&id.dct)?, &id.bookmark).await?.ok_or_else(missing)?;
        ready(&bookmark)?;
        let of = vdb_of(&bookmark).unwrap_or_default();
        match (rewind, of == volume.vdb) {
            (true, false) => {
                let why = format!(
                    "snapshot {id} was taken of {}:{of}, not of {volume}: a rewind goes to one of the volume's own snapshots",
                    id.dct
                );
                Err(Error::invalid("snapshot_id", why))
            }
            (false, true) => {
                let why = format!("snapshot {id} was taken of {volume} itself: rewind to it");
                Err(Error::invalid("snapshot_id", why))
            }
            _ => Ok(Wish { rewind, point: Point::Bookmark(id.bookmark.clone()), from: Some(id) }),
        }
    }

    async fn replace(self: &Arc<Self>, dct: &Dct, id: &VolumeHandle, wish: &Wish) -> Result<Replaced> {
        self.settled(dct, id).await?;
        let (vdb, record) = self.ours(dct, id).await?;
        if let Some(has) = record.published.first() {
            let text = format!("volume {id} is published to node {}: stop what uses it first", has.node.name);
            return Err(Error::precondition(text));
        }
        if !wish.rewind && vdb.parent_id.is_none() {
            let why = format!("volume {id} was made empty, so it has nothing to refresh from");
            return Err(Error::invalid("volume_id", why));
        }
        let now = vdb.current_timeflow_id.clone().unwrap_or_default();
        let begun = record.replacing.as_deref().and_then(Intent::read);
        if let Some(other) = begun.as_ref().filter(|begun| begun.word != wish.word()) {
            // Its snapshot stays: the bytes from before may be in it alone.
            dct.untag_vdb(&vdb.id, &[replacing_tag(&other.write())]).await?;
        }
        let intent = match begun.filter(|begun| begun.word == wish.word()) {
            Some(begun) => begun,
            None => {
                let undo = format!("undo-{}", Uuid::now_v7());
                let intent = Intent { word: wish.word(), timeflow: now.clone(), undo };
                dct.tag_vdb(&vdb.id, &[replacing_tag(&intent.write())]).await?;
                intent
            }
        };
        let mark = Mark {
            name: intent.undo.clone(),
            size: record.size,
            use_: Use::Undo,
            claim: record.claim.clone(),
        };
        let (undo, shows) = if now == intent.timeflow {
            let none = SnapshotParams::default();
            let undo = match self.ensure_bookmark(dct, &intent.undo, &vdb.id, &mark, &none).await {
                Ok(undo) => undo,
                Err(error) if error.kind().is_final() => {
                    return Err(self.take_back(dct, &vdb, &intent, error).await);
                }
                Err(error) => return Err(error),
            };
            match self.put(dct, &vdb, &record, wish, &intent).await {
                Ok(shows) => (undo, shows),
                Err(failure) => {
                    let error = Error::from(failure).context(format!("VDB {} keeps its bytes", vdb.id));
                    return Err(match error.kind().is_final() {
                        true => self.take_back(dct, &vdb, &intent, error).await,
                        false => error,
                    });
                }
            }
        } else {
            let found = dct.bookmarks(Filter::eq("name", &intent.undo)).await?;
            let Some(undo) = found.into_iter().next() else {
                dct.untag_vdb(&vdb.id, &[replacing_tag(&intent.write())]).await.map_err(again)?;
                let text = format!(
                    "volume {id} has its new bytes, but the snapshot {} with those from before is gone: somebody deleted it",
                    intent.undo
                );
                return Err(Error::precondition(text));
            };
            (undo, Some(vdb.clone()))
        };
        if let Some(now) = shows.filter(|now| now.enabled == Some(true)) {
            // An engine that refreshes only what is enabled; see `put`.
            self.disable(dct, &now).await.map_err(again)?;
        }
        dct.untag_vdb(&vdb.id, &[replacing_tag(&intent.write())]).await.map_err(again)?;
        let word = if wish.rewind { "Rewound" } else { "Refreshed" };
        let undo = SnapshotHandle::new(dct.name(), &undo.id);
        self.tell(record.claim.as_ref(), word, &format!("the bytes from before are in snapshot {undo}"))
            .await;
        Ok(Replaced { undo, from: wish.from.clone() })
    }

    /// Puts the bytes in place and waits until the VDB shows its new timeflow: the VDB as it is then.
    async fn put(
        &self,
        dct: &Dct,
        vdb: &Vdb,
        record: &Record,
        wish: &Wish,
        intent: &Intent,
    ) -> Result<Option<Vdb>, Failure> {
        let start = async || match wish.rewind {
            true => dct.rollback(&vdb.id, &wish.point).await,
            false => dct.refresh(&vdb.id, &wish.point).await,
        };
        let attempt = async || ended(dct, &start().await?).await;
        if let Err(failure) = attempt().await {
            let asks_for_more = failed(&failure) || matches!(failure.fault(), Fault::Refused { .. });
            if !asks_for_more || vdb.enabled == Some(true) {
                return Err(failure);
            }
            // Whether an engine does it with what is disabled is not published. One that does not says so now.
            let can = dct.capabilities().await?;
            if let Err(error) = self.enable(dct, vdb, record, &can).await {
                tracing::warn!(vdb = vdb.id, %error, "a VDB that did not take other bytes cannot be enabled for it either");
                return Err(failure);
            }
            attempt().await?;
        }
        let before = intent.timeflow.clone();
        let moved = move |vdb: Option<&Vdb>| {
            gone(vdb) || vdb.is_some_and(|vdb| vdb.current_timeflow_id.as_deref() != Some(&before))
        };
        dct.until_vdb(&vdb.id, "to show its new timeflow", moved).await
    }

    /// The answer to an attempt that replaced nothing, after what it made is gone.
    async fn take_back(&self, dct: &Dct, vdb: &Vdb, intent: &Intent, error: Error) -> Error {
        let undo = async {
            if let Some(now) = dct.vdb(&vdb.id).await?.filter(|now| now.enabled == Some(true)) {
                self.disable(dct, &now).await?;
            }
            for bookmark in dct.bookmarks(Filter::eq("name", &intent.undo)).await? {
                self.forget_bookmark(dct, &bookmark).await?;
            }
            match dct.untag_vdb(&vdb.id, &[replacing_tag(&intent.write())]).await {
                Err(failure) if failure.is_not_found() => Ok(()),
                result => Ok::<(), Error>(result?),
            }
        };
        match undo.await {
            Ok(()) => error,
            Err(left) => {
                let text = format!("{error}; the attempt could not be taken back ({left}): try again");
                Error::new(Kind::Unavailable, text)
            }
        }
    }
}
