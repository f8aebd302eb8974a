//! Snapshots: bookmarks with the name of the snapshot, each over a snapshot that the engine took for it.
//!
//! Asking for a bookmark of a VDB takes the snapshot too, in one request that carries the name and the tags. So there is
//! no moment in which the engine has a snapshot that nobody knows, and an answer that was lost is found by its name. A
//! DCT allows several bookmarks of one name: of two that two controllers made, the older one counts, and whoever made
//! the younger removes it.
//!
//! Deleting takes two requests, bookmark and snapshot. Before the first the snapshot is tagged with the bookmark's id,
//! so that an attempt that stopped in between is ended by the next.

use std::sync::Arc;

use tokio::try_join;

use super::api::SnapshotInfo;
use super::id::SnapshotHandle;
use super::jobs::{Ended, MOST, ended, failed, wait_for_running};
use super::params::SnapshotParams;
use super::tags::{Mark, Owner, Record, Use, goes_with, handle, harmless};
use super::{Driver, Inner, Key, again};
use crate::backend::delphix::{
    Bookmark, BookmarkOf, Dct, Dependency, Failure, Filter, Job, NewBookmark, Sort,
};
use crate::volume::names::check_name;
use crate::volume::{Error, Kind, Result};

/// How often it is looked again after something that was running has ended.
const ROUNDS: usize = 6;

impl Driver {
    /// Takes a snapshot of a volume, or finds the one that an earlier attempt took.
    ///
    /// # Errors
    /// [`Kind::AlreadyExists`] if the name is that of a snapshot of another volume.
    pub async fn create_snapshot(
        &self,
        name: &str,
        volume: &str,
        params: SnapshotParams,
    ) -> Result<SnapshotInfo> {
        check_name("name", name)?;
        let volume = super::volume_id("source_volume_id", volume)?;
        let dct = self.inner.dct(&volume.dct)?.clone();
        let name = name.to_owned();
        self.work(Key::SnapshotName(name.clone()), |inner| async move {
            inner.snapshot(&dct, &name, &volume.vdb, &params).await
        })
        .await
    }

    /// Removes a snapshot: the bookmark and the engine's snapshot that was taken for it, and nothing else.
    ///
    /// # Errors
    /// [`Kind::Precondition`] names the volumes that were made from it, or says that it is not ours.
    pub async fn delete_snapshot(&self, id: &str) -> Result<()> {
        let Ok(id) = id.parse::<SnapshotHandle>() else { return Ok(()) };
        let dct = self.inner.dct(&id.dct)?.clone();
        self.work(
            Key::Snapshot(id.clone()),
            |inner| async move { inner.unsnapshot(&dct, &id.bookmark).await },
        )
        .await
    }
}

/// The VDB that a bookmark is of.
pub(super) fn vdb_of(bookmark: &Bookmark) -> Option<String> {
    let mut points = bookmark.vdbs.iter().filter_map(|point| point.vdb_id.clone());
    bookmark.vdb_ids.first().cloned().or_else(|| points.next_back())
}

/// Whether something can be made from a bookmark.
pub(super) fn ready(bookmark: &Bookmark) -> Result<()> {
    let lost = || {
        Error::precondition(format!("bookmark {} has lost its snapshot: somebody deleted it", bookmark.id))
    };
    match bookmark.bookmark_status.as_deref() {
        None | Some("ACTIVE") => Ok(()),
        Some("INACTIVE") => Err(lost()),
        Some(status) => {
            Err(Error::new(Kind::Unavailable, format!("bookmark {} is {status}: ask again", bookmark.id)))
        }
    }
}

impl Inner {
    async fn snapshot(
        self: &Arc<Self>,
        dct: &Dct,
        name: &str,
        vdb: &str,
        params: &SnapshotParams,
    ) -> Result<SnapshotInfo> {
        let called = harmless(name);
        let missing = || Error::not_found(format!("volume {}", handle(dct.name(), vdb)));
        let (found, there) = try_join!(dct.bookmarks(Filter::eq("name", &called)), dct.vdb(vdb))?;
        let others = |of: &Bookmark| vdb_of(of).as_deref() != Some(vdb);
        let same = found.iter().filter_map(|of| Some((of, self.mark_of(of, name, Use::Snapshot)?)));
        let same: Vec<(&Bookmark, Mark)> = same.collect();
        if let Some((other, _)) = same.iter().find(|(of, _)| others(of)) {
            let of = vdb_of(other).unwrap_or_default();
            let text = format!(
                "name: snapshot {name:?} exists of another source_volume_id ({}): use another name",
                handle(dct.name(), &of)
            );
            return Err(Error::new(Kind::AlreadyExists, text));
        }
        if let Some((bookmark, mark)) = same.into_iter().min_by_key(|(of, _)| age(of))
            && bookmark.bookmark_status.as_deref() == Some("ACTIVE")
        {
            return Ok(snapshot_info(dct, bookmark, &mark));
        }
        let there = there.ok_or_else(missing)?;
        let record =
            Record::read(&self.owner, &there.tags).ok_or_else(|| foreign_vdb(&there.id, &there.tags))?;
        let claim = params.claim.clone();
        let mark = Mark { name: name.to_owned(), size: record.size, use_: Use::Snapshot, claim };
        let bookmark = self.ensure(dct, &called, vdb, &mark, params, found).await?;
        Ok(snapshot_info(dct, &bookmark, &mark))
    }

    /// The bookmark of that name over a fresh snapshot of the VDB: the one that an earlier attempt made, or a new one.
    pub(super) async fn ensure_bookmark(
        &self,
        dct: &Dct,
        called: &str,
        vdb: &str,
        mark: &Mark,
        params: &SnapshotParams,
    ) -> Result<Bookmark> {
        let found = dct.bookmarks(Filter::eq("name", called)).await?;
        self.ensure(dct, called, vdb, mark, params, found).await
    }

    async fn ensure(
        &self,
        dct: &Dct,
        called: &str,
        vdb: &str,
        mark: &Mark,
        params: &SnapshotParams,
        mut found: Vec<Bookmark>,
    ) -> Result<Bookmark> {
        let mut made: Option<String> = None;
        for _ in 0..ROUNDS {
            found.retain(|of| {
                self.mark_of(of, &mark.name, mark.use_).is_some() && vdb_of(of).as_deref() == Some(vdb)
            });
            found.sort_by_key(age);
            let Some(first) = found.first() else {
                let what = NewBookmark {
                    name: called.to_owned(),
                    of: BookmarkOf::Vdb(vdb.to_owned()),
                    tags: mark.tags(&self.owner, params),
                };
                let (started, _) =
                    dct.create_bookmark(&what).await.map_err(|failure| taking(vdb, failure))?;
                made.clone_from(&started.object);
                if let Err(failure) = ended(dct, &started).await {
                    if !failed(&failure) {
                        return Err(again(failure));
                    }
                    // The job of the next search's find is over, so what is left of it is removed there.
                    if let Some(id) = &started.object
                        && let Some(left) = dct.bookmark(id).await.map_err(again)?
                    {
                        self.forget_bookmark(dct, &left).await.map_err(again)?;
                    }
                    return Err(taking(vdb, failure));
                }
                found = dct.bookmarks(Filter::eq("name", called)).await.map_err(again)?;
                continue;
            };
            match first.bookmark_status.as_deref() {
                Some("CREATING" | "DELETING") => self.come_to_rest(dct, first).await?,
                Some("INACTIVE") => {
                    // Nothing can be made from it any more, and nobody has been told of it yet.
                    self.forget_bookmark(dct, first).await.map_err(again)?;
                }
                _ => {
                    let first = first.clone();
                    // Another controller's is older: the one that was made here is one too many.
                    if let Some(double) =
                        found.iter().find(|of| Some(&of.id) == made.as_ref() && of.id != first.id)
                    {
                        self.forget_bookmark(dct, double).await.map_err(again)?;
                    }
                    return Ok(first);
                }
            }
            found = dct.bookmarks(Filter::eq("name", called)).await.map_err(again)?;
        }
        let text = format!("bookmark {called} does not come to rest: ask again");
        Err(Error::new(Kind::Unavailable, text))
    }

    /// Waits for what happens to a bookmark. One whose job is gone with nothing to show for it is removed.
    async fn come_to_rest(&self, dct: &Dct, bookmark: &Bookmark) -> Result<()> {
        let jobs =
            dct.first::<Job>(Filter::eq("target_id", &bookmark.id), Sort::Down("start_time"), MOST).await?;
        if wait_for_running(dct, &jobs).await? {
            return Ok(());
        }
        let before = bookmark.bookmark_status.clone();
        let moved = move |of: Option<&Bookmark>| of.is_none_or(|of| of.bookmark_status != before);
        match dct.until::<Bookmark>(&bookmark.id, "to come to rest", moved).await {
            Ok(_) => Ok(()),
            Err(failure) if *failure.fault() == crate::backend::delphix::Fault::Lagging => {
                self.forget_bookmark(dct, bookmark).await.map_err(again)
            }
            Err(failure) => Err(failure.into()),
        }
    }

    /// A bookmark of ours and what is noted on it.
    pub(super) async fn bookmark(&self, dct: &Dct, id: &str) -> Result<Option<(Bookmark, Mark)>> {
        let Some(bookmark) = dct.bookmark(id).await? else { return Ok(None) };
        Ok(Mark::read(&self.owner, &bookmark.tags)
            .filter(|mark| mark.use_ != Use::Origin)
            .map(|mark| (bookmark, mark)))
    }

    fn mark_of(&self, bookmark: &Bookmark, name: &str, use_: Use) -> Option<Mark> {
        Mark::read(&self.owner, &bookmark.tags).filter(|mark| mark.name == name && mark.use_ == use_)
    }

    async fn unsnapshot(&self, dct: &Dct, id: &str) -> Result<()> {
        let Some(bookmark) = dct.bookmark(id).await? else {
            return self.remove_what_goes_with(dct, id).await;
        };
        match Mark::read(&self.owner, &bookmark.tags) {
            Some(mark) if mark.use_ != Use::Origin => {}
            Some(_) => {
                let text = format!("bookmark {id} belongs to a clone, and goes when that is deleted");
                return Err(Error::precondition(text));
            }
            None => {
                let whose =
                    Owner::of_other(&bookmark.tags).unwrap_or_else(|| "nobody that we know".to_owned());
                let text =
                    format!("bookmark {id} is not one of ours, it belongs to {whose}: delete it in the DCT");
                return Err(Error::precondition(text));
            }
        }
        let children = self.children(dct, &bookmark).await?;
        if !children.is_empty() {
            let text = format!(
                "snapshot {} is in use by {}: delete them first",
                SnapshotHandle::new(dct.name(), id),
                children.join(", ")
            );
            return Err(Error::precondition(text));
        }
        self.forget_bookmark(dct, &bookmark).await.map_err(again)
    }

    /// The VDBs that were made from a bookmark's snapshots, for a message.
    async fn children(&self, dct: &Dct, bookmark: &Bookmark) -> Result<Vec<String>> {
        let mut children = Vec::new();
        for snapshot in snapshots_of(bookmark) {
            for found in self.needed_by(dct, &snapshot).await? {
                if found.action.is_none() && is_vdb(&found) {
                    let name = found.dataset_name.unwrap_or_default();
                    let id = handle(dct.name(), &found.dataset_id.unwrap_or_default());
                    children.push(format!("volume {id} ({name})"));
                }
            }
        }
        Ok(children)
    }

    /// What has to go before a snapshot can; nothing if it is gone itself.
    async fn needed_by(&self, dct: &Dct, snapshot: &str) -> Result<Vec<Dependency>> {
        match dct.snapshot_dependencies(snapshot).await {
            Err(failure) if failure.is_not_found() => Ok(Vec::new()),
            found => Ok(found?),
        }
    }

    /// Removes a bookmark of ours and the snapshots that were taken for it.
    pub(super) async fn forget_bookmark(&self, dct: &Dct, bookmark: &Bookmark) -> Result<()> {
        let snapshots = snapshots_of(bookmark);
        for snapshot in &snapshots {
            ignore_missing(dct.tag_snapshot(snapshot, &[goes_with(&bookmark.id)]).await)?;
        }
        self.drop_bookmark(dct, bookmark).await?;
        for snapshot in &snapshots {
            self.drop_snapshot(dct, snapshot).await?;
        }
        Ok(())
    }

    /// Removes a bookmark and leaves its snapshots.
    pub(super) async fn drop_bookmark(&self, dct: &Dct, bookmark: &Bookmark) -> Result<()> {
        if bookmark.bookmark_status.as_deref() == Some("DELETING") {
            let jobs = Filter::eq("target_id", &bookmark.id);
            let jobs = dct.first::<Job>(jobs, Sort::Down("start_time"), MOST).await?;
            if wait_for_running(dct, &jobs).await? {
                return Ok(());
            }
        }
        match dct.delete_bookmark(&bookmark.id).await {
            Ok(started) => match ended(dct, &started).await {
                Ok(_) => Ok(()),
                // Somebody else was faster.
                Err(failure) if failed(&failure) && dct.bookmark(&bookmark.id).await?.is_none() => Ok(()),
                Err(failure) => Err(failure.into()),
            },
            Err(failure) if failure.is_not_found() => Ok(()),
            Err(failure) => Err(failure.into()),
        }
    }

    /// Removes a snapshot that was taken for something that is gone. What still pins it keeps it: a volume that was
    /// rewound to it, until its next refresh. Retention takes it then.
    async fn drop_snapshot(&self, dct: &Dct, snapshot: &str) -> Result<()> {
        let started = match dct.delete_snapshot(snapshot).await {
            Err(failure) if failure.is_not_found() => return Ok(()),
            started => started?,
        };
        match ended(dct, &started).await {
            Ok(Ended::Well | Ended::Unknown) => Ok(()),
            Err(failure) if failed(&failure) => {
                tracing::warn!(snapshot, %failure, "a snapshot that is not needed any more stays until retention takes it");
                Ok(())
            }
            Err(failure) => Err(failure.into()),
        }
    }

    /// Removes the snapshots that an attempt left which removed the bookmark or VDB they belonged to.
    pub(super) async fn remove_what_goes_with(&self, dct: &Dct, id: &str) -> Result<()> {
        let tag = goes_with(id);
        let left = dct.snapshots(Filter::tag(&tag.key, &tag.value), Sort::Any).await?;
        for snapshot in left.iter().filter(|snapshot| snapshot.tags.contains(&tag)) {
            self.drop_snapshot(dct, &snapshot.id).await.map_err(again)?;
        }
        Ok(())
    }
}

fn age(of: &Bookmark) -> (Option<jiff::Timestamp>, String) {
    (of.creation_date, of.id.clone())
}

fn is_vdb(of: &Dependency) -> bool {
    of.dataset_type.as_deref().is_none_or(|kind| kind.eq_ignore_ascii_case("VDB"))
}

/// The engine's snapshots of a bookmark.
pub(super) fn snapshots_of(bookmark: &Bookmark) -> Vec<String> {
    bookmark.vdbs.iter().filter_map(|point| point.snapshot_id.clone()).collect()
}

fn ignore_missing(result: Result<(), Failure>) -> Result<()> {
    match result {
        Err(failure) if failure.is_not_found() => Ok(()),
        result => Ok(result?),
    }
}

fn taking(vdb: &str, failure: Failure) -> Error {
    if failure.is_not_found() {
        return Error::not_found(format!("volume of VDB {vdb:?}"));
    }
    Error::from(failure).context(format!("a snapshot of VDB {vdb} cannot be taken"))
}

/// The refusal of what is not ours.
pub(super) fn foreign_vdb(vdb: &str, tags: &[crate::backend::delphix::Tag]) -> Error {
    let text = match Owner::of_other(tags) {
        Some(other) => format!("VDB {vdb} belongs to {other}, not to this driver: it is left alone"),
        None => format!("VDB {vdb} is not tagged as ours: adopt it with `offshoot delphix import` first"),
    };
    Error::precondition(text)
}

/// What a caller learns of a snapshot.
pub(super) fn snapshot_info(dct: &Dct, bookmark: &Bookmark, mark: &Mark) -> SnapshotInfo {
    let at = bookmark.data_timestamp.or(bookmark.creation_date);
    SnapshotInfo {
        id: SnapshotHandle::new(dct.name(), &bookmark.id),
        name: mark.name.clone(),
        source: handle(dct.name(), &vdb_of(bookmark).unwrap_or_default()),
        size: mark.size,
        created: at.map(jiff::Timestamp::as_millisecond).unwrap_or_default(),
        ready: bookmark.bookmark_status.as_deref().is_none_or(|status| status == "ACTIVE"),
        undo: mark.use_ == Use::Undo,
    }
}
