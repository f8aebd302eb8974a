//! DeleteVolume. What does not exist is deleted already; what is not ours is left alone.
//!
//! An engine deletes a VDB with all its snapshots, and a DCT the bookmarks with them. Whoever made a snapshot counts on it,
//! so a volume with snapshots is refused and they are named, also those that others made. What only a clone was made from
//! goes with the clone; see [`super::clone`].

use std::sync::Arc;

use tokio::try_join;

use super::id::{SnapshotHandle, VolumeHandle};
use super::look::gone;
use super::snapshot::{foreign_vdb, snapshots_of};
use super::tags::{Mark, Record, Use, goes_with, handle};
use super::{Driver, Inner, again};
use crate::backend::delphix::{Bookmark, Dct, Filter, Vdb};
use crate::volume::{Error, Result};

impl Driver {
    /// Removes a volume.
    ///
    /// # Errors
    /// [`crate::volume::Kind::Precondition`] while a node has it, or naming what was made from it.
    pub async fn delete_volume(&self, id: &str) -> Result<()> {
        let Ok(id) = id.parse::<VolumeHandle>() else { return Ok(()) };
        let dct = self.inner.dct(&id.dct)?.clone();
        self.on_volume(id.clone(), |inner| async move { inner.delete(&dct, &id).await }).await
    }
}

impl Inner {
    async fn delete(self: &Arc<Self>, dct: &Dct, id: &VolumeHandle) -> Result<()> {
        let lagging = self.settled(dct, id).await?;
        let of = Filter::contains("vdb_ids", &id.vdb);
        let (vdb, bookmarks) = try_join!(dct.vdb(&id.vdb), dct.bookmarks(of))?;
        let Some(vdb) = vdb.filter(|vdb| !gone(Some(vdb))) else {
            self.calm().remove(id);
            return self.remove_what_goes_with(dct, &id.vdb).await;
        };
        let Some(record) = Record::read(&self.owner, &vdb.tags) else {
            return Err(foreign_vdb(&vdb.id, &vdb.tags));
        };
        if let Some(has) = record.published.first() {
            let text =
                format!("volume {id} is still published to node {}: unpublish it first", has.node.name);
            return Err(Error::precondition(text));
        }
        let own = self.own_bookmarks(dct, id, bookmarks)?;
        let children: Vec<String> = match dct.vdb_dependencies(&id.vdb).await {
            Err(failure) if failure.is_not_found() => Vec::new(),
            found => found?
                .iter()
                .map(|child| {
                    let id = handle(dct.name(), child.dataset_id.as_deref().unwrap_or_default());
                    format!("volume {id} ({})", child.dataset_name.as_deref().unwrap_or_default())
                })
                .collect(),
        };
        if !children.is_empty() {
            let text = format!(
                "volume {id} cannot be deleted: {} were made from it; delete them first",
                children.join(", ")
            );
            return Err(Error::precondition(text));
        }
        if !record.entered.is_empty() {
            self.close(dct, &vdb, &record, &[], &[], lagging).await?;
        }
        for bookmark in own {
            self.drop_bookmark(dct, &bookmark).await.map_err(again)?;
        }
        self.let_go_of_origin(dct, &vdb, &record).await?;
        self.remove(dct, &vdb, lagging).await?;
        self.calm().remove(id);
        if record.origin.is_some() {
            self.remove_what_goes_with(dct, &id.vdb).await?;
        }
        Ok(())
    }

    /// The bookmarks of a volume that nobody counts on.
    fn own_bookmarks(&self, dct: &Dct, id: &VolumeHandle, all: Vec<Bookmark>) -> Result<Vec<Bookmark>> {
        let all = all.into_iter().filter(|of| of.bookmark_status.as_deref() != Some("DELETING"));
        let (own, others): (Vec<_>, Vec<_>) = all
            .partition(|of| Mark::read(&self.owner, &of.tags).is_some_and(|mark| mark.use_ != Use::Snapshot));
        if others.is_empty() {
            return Ok(own);
        }
        let name = |of: &Bookmark| {
            let name = of.name.as_deref().unwrap_or_default();
            match Mark::read(&self.owner, &of.tags) {
                Some(_) => format!("snapshot {} ({name})", SnapshotHandle::new(dct.name(), &of.id)),
                None => format!("bookmark {} ({name}), which is not ours", of.id),
            }
        };
        let named: Vec<String> = others.iter().map(name).collect();
        let text = format!(
            "volume {id} has snapshots that would go with it: {}; delete them first",
            named.join(", ")
        );
        Err(Error::precondition(text))
    }

    /// Before a clone goes: what it was made from is noted to go with it, as nothing will lead there after.
    async fn let_go_of_origin(&self, dct: &Dct, vdb: &Vdb, record: &Record) -> Result<()> {
        let Some(origin) = &record.origin else { return Ok(()) };
        let Some(bookmark) = dct.bookmark(origin).await? else { return Ok(()) };
        if Mark::read(&self.owner, &bookmark.tags).is_none_or(|mark| mark.use_ != Use::Origin) {
            return Ok(());
        }
        for snapshot in snapshots_of(&bookmark) {
            match dct.tag_snapshot(&snapshot, &[goes_with(&vdb.id)]).await {
                Err(failure) if failure.is_not_found() => {}
                result => result?,
            }
        }
        self.drop_bookmark(dct, &bookmark).await.map_err(again)
    }

    async fn remove(&self, dct: &Dct, vdb: &Vdb, lagging: bool) -> Result<()> {
        match self.remove_vdb(dct, &vdb.id).await {
            // It may be gone already, and only still show.
            Err(_) if lagging && dct.until_vdb(&vdb.id, "to be gone", gone).await.is_ok() => Ok(()),
            result => result.map_err(|error| error.context(format!("VDB {} cannot be deleted", vdb.id))),
        }
    }
}
