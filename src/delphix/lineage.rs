//! Which object came from which, and the engines that have them: what `offshoot tree` and `offshoot pool list` show.
//!
//! Parents outside of ours, dSources and VDBs of others, stand in the answer by id and name, so that the picture begins
//! where the data does.

use tokio::try_join;

use super::api::{EngineStatus, LineageEntry, LineageObject, Page};
use super::create::info;
use super::snapshot::snapshot_info;
use super::tags::{Mark, Record, Use, handle};
use super::{Driver, Inner};
use crate::backend::delphix::{Bookmark, Dct, Filter, Vdb};
use crate::backend::{Fault, Severity};
use crate::service::api::SourceRef;
use crate::volume::page::Ask;
use crate::volume::{Error, Result};

impl Driver {
    /// A page of the lineage, parents before children where the clocks of the engines allow: everything, or what `of` came
    /// from and what came from it.
    ///
    /// # Errors
    /// [`crate::volume::Kind::NotFound`] where `of` is nothing that exists.
    pub async fn lineage(&self, of: Option<&str>, token: &str, max: i32) -> Result<Page<LineageEntry>> {
        let ask: Ask<String> = Ask::parse(token, max)?;
        let mut all = Vec::new();
        for dct in self.inner.dcts.iter() {
            let (volumes, bookmarks) = try_join!(self.inner.volumes(dct), self.inner.bookmarks(dct, None))?;
            all.extend(volumes.iter().map(|(vdb, record)| volume_entry(dct, vdb, record)));
            let snapshots = bookmarks.iter().filter(|(_, mark)| mark.use_ != Use::Origin);
            all.extend(snapshots.map(|(bookmark, mark)| snapshot_entry(dct, bookmark, mark)));
        }
        if let Some(of) = of {
            all = family(all, of).ok_or_else(|| Error::not_found(format!("object {of:?}")))?;
        }
        all.sort_by(|(a, _), (b, _)| a.cmp(b));
        let page = ask.take(all);
        Ok(Page { entries: page.items, next: page.next.unwrap_or_default() })
    }

    /// All engines: what pools are on a machine of one's own.
    pub async fn engines(&self) -> Result<Vec<EngineStatus>> {
        let mut all = Vec::new();
        for dct in self.inner.dcts.iter() {
            all.extend(self.inner.engines_of(dct).await?);
        }
        Ok(all)
    }
}

impl Inner {
    async fn engines_of(&self, dct: &Dct) -> Result<Vec<EngineStatus>> {
        let (engines, volumes, bookmarks) = try_join!(
            async { Ok(dct.engines(Filter::all()).await?) },
            self.volumes(dct),
            self.bookmarks(dct, None)
        )?;
        let count = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
        let status = |engine: &crate::backend::delphix::Engine| {
            let own = |of: &Option<String>| of.as_deref() == Some(&engine.id);
            let on = |bookmark: &Bookmark| {
                let of = super::snapshot::vdb_of(bookmark);
                volumes.iter().any(|(vdb, _)| Some(&vdb.id) == of.as_ref() && own(&vdb.engine_id))
            };
            let offline = (engine.online() == Some(false)).then(|| Fault {
                severity: Severity::Inaccessible,
                reason: "EngineOffline",
                message: format!(
                    "the DCT does not reach it ({}): look at the engine",
                    engine.engine_connection_status.as_deref().unwrap_or("offline")
                ),
            });
            EngineStatus {
                dct: dct.name().to_owned(),
                id: engine.id.clone(),
                name: engine.name.clone().unwrap_or_default(),
                server: dct.data_address(engine).unwrap_or_default().to_owned(),
                total: engine.data_storage_capacity.unwrap_or_default(),
                used: engine.data_storage_used.unwrap_or_default(),
                volumes: count(volumes.iter().filter(|(vdb, _)| own(&vdb.engine_id)).count()),
                snapshots: count(
                    bookmarks.iter().filter(|(of, mark)| mark.use_ != Use::Origin && on(of)).count(),
                ),
                faults: offline.into_iter().collect(),
            }
        };
        Ok(engines.iter().map(status).collect())
    }
}

/// The place of an object: the time of its making, and its id.
fn place(at: Option<jiff::Timestamp>, id: &str) -> String {
    let at = at.map(jiff::Timestamp::as_millisecond).unwrap_or_default().max(0);
    format!("{at:016}.{id}")
}

fn volume_entry(dct: &Dct, vdb: &Vdb, record: &Record) -> (String, LineageEntry) {
    let id = handle(dct.name(), &vdb.id).to_string();
    let (parent, parent_name) = match &record.source {
        Some(SourceRef::Snapshot(id) | SourceRef::Volume(id)) => (Some(id.clone()), None),
        None => (
            vdb.parent_id.as_ref().map(|parent| handle(dct.name(), parent).to_string()),
            vdb.parent_name.clone(),
        ),
    };
    let entry = LineageEntry {
        object: LineageObject::Volume(info(dct, vdb, record)),
        parent,
        parent_name,
        used: vdb.storage_size,
        in_use: !record.published.is_empty(),
    };
    (place(vdb.creation_date, &id), entry)
}

fn snapshot_entry(dct: &Dct, bookmark: &Bookmark, mark: &Mark) -> (String, LineageEntry) {
    let snapshot = snapshot_info(dct, bookmark, mark);
    let place = place(bookmark.creation_date, &snapshot.id.to_string());
    let parent = Some(snapshot.source.to_string());
    let object = LineageObject::Snapshot(snapshot);
    (place, LineageEntry { object, parent, parent_name: None, used: None, in_use: false })
}

fn id_of(entry: &LineageEntry) -> String {
    match &entry.object {
        LineageObject::Volume(volume) => volume.id.to_string(),
        LineageObject::Snapshot(snapshot) => snapshot.id.to_string(),
    }
}

/// The object, what it came from and what came from it; `None` if there is no such object.
fn family(all: Vec<(String, LineageEntry)>, of: &str) -> Option<Vec<(String, LineageEntry)>> {
    let mut up = vec![all.iter().find(|(_, entry)| id_of(entry) == of)?.1.clone()];
    let mut kept = std::collections::HashSet::from([of.to_owned()]);
    while let Some(entry) = up.pop() {
        let parent = all.iter().find(|(_, other)| Some(id_of(other)) == entry.parent);
        if let Some((_, parent)) = parent
            && kept.insert(id_of(parent))
        {
            up.push(parent.clone());
        }
    }
    // Its ancestors' other children are none of its own.
    let mut down = vec![of.to_owned()];
    while let Some(id) = down.pop() {
        let children = all.iter().filter(|(_, entry)| entry.parent.as_ref() == Some(&id));
        down.extend(children.map(|(_, entry)| id_of(entry)).filter(|id| kept.insert(id.clone())));
    }
    Some(all.into_iter().filter(|(_, entry)| kept.contains(&id_of(entry))).collect())
}
