//! What a job does to the engine when it works: the part that is not VDBs and timeflows (those are in [`crate::engine`]).
//!
//! An action checks before it changes, so that a job that fails has changed nothing. Its errors are `error_details`.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::clock;
use crate::dct::Dct;
use crate::world::{Doc, Kind, doc, flag, text};

/// The work of a job.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Action {
    Provision { vdb: String, doc: Doc, snapshot: Option<String>, container: bool },
    Enable { vdb: String, container: bool, owner: Option<String> },
    Disable { vdb: String, container: bool },
    Repoint { vdb: String, snapshot: String, how: String },
    Undo { vdb: String },
    Switch { vdb: String, flow: String },
    DeleteVdb { vdb: String, force: bool, all: bool },
    Update { kind: Kind, id: String, fields: Doc },
    Snapshot { kind: Kind, dataset: String },
    KeepSnapshot { snapshot: String, fields: Doc },
    DeleteSnapshot { snapshot: String, all: bool },
    FillBookmark { bookmark: String, take: Vec<String>, have: Vec<String> },
    DeleteBookmark { bookmark: String },
    Host { env: String, host: String, fields: Doc },
    Switched { kind: Kind, id: String, on: bool },
    Nothing,
}

type Done = Result<Option<Value>, String>;

impl Dct {
    /// Does the work of a job.
    pub(crate) fn act(&mut self, action: &Action) -> Done {
        match action.clone() {
            Action::Provision { vdb, doc, snapshot, container } => {
                self.provision(&vdb, doc, snapshot.as_deref(), container)?;
            }
            Action::Enable { vdb, container, owner } => self.enable(&vdb, container, owner.as_deref())?,
            Action::Disable { vdb, container } => self.disable(&vdb, container)?,
            Action::Repoint { vdb, snapshot, how } => self.repoint(&vdb, &snapshot, &how)?,
            Action::Undo { vdb } => self.undo_refresh(&vdb)?,
            Action::Switch { vdb, flow } => self.switch(&vdb, &flow)?,
            Action::DeleteVdb { vdb, force, all } => self.drop_vdb(&vdb, force, all)?,
            Action::Update { kind, id, fields } => {
                self.there(kind, &id)?;
                self.world.edit(kind, &id, |doc| doc.extend(fields));
            }
            Action::Snapshot { kind, dataset } => {
                self.take_snapshot(kind, &dataset)?;
            }
            Action::KeepSnapshot { snapshot, fields } => self.keep_snapshot(&snapshot, fields)?,
            Action::DeleteSnapshot { snapshot, all } => self.delete_snapshot(&snapshot, all)?,
            Action::FillBookmark { bookmark, take, have } => self.fill_bookmark(&bookmark, &take, have)?,
            Action::DeleteBookmark { bookmark } => {
                self.there(Kind::Bookmark, &bookmark)?;
                self.drop_bookmark(&bookmark);
            }
            Action::Host { env, host, fields } => self.update_host(&env, &host, &fields)?,
            Action::Switched { kind, id, on } => {
                self.there(kind, &id)?;
                self.world.set(kind, &id, "enabled", on);
            }
            Action::Nothing => {}
        }
        Ok(None)
    }

    /// Fails if the engine has no such object (any more).
    pub(crate) fn there(&self, kind: Kind, id: &str) -> Result<&Doc, String> {
        self.world.truth(kind, id).ok_or_else(|| format!("{} {id} is no longer on the engine", kind.model()))
    }

    /// Takes a snapshot of a dataset and returns its id.
    pub(crate) fn take_snapshot(&mut self, kind: Kind, dataset: &str) -> Result<String, String> {
        let of = self.there(kind, dataset)?.clone();
        if kind == Kind::Dsource && !flag(&of, "enabled") {
            return Err(format!("dSource {dataset} is disabled and cannot be snapshotted"));
        }
        let engine = text(&of, "engine_id").unwrap_or_default();
        let flow = text(&of, "current_timeflow_id").unwrap_or_default();
        let path = self.flow_path(&flow).ok_or_else(|| format!("timeflow {flow} has no data"))?;
        let id = self.world.next_id(&engine, "APPDATA_SNAPSHOT");
        self.store.copy(&self.store.live(&engine, &path), &self.store.snapshot(&id))?;
        let now = clock::text(self.world.now);
        let snapshot = doc(json!({
            "id": id, "name": format!("@{now}"), "dataset_id": dataset, "dataset_name": of.get("name"),
            "engine_id": engine, "engine_name": of.get("engine_name"), "creation_time": now, "timestamp": now,
            "start_timestamp": now, "timezone": "UTC", "timeflow_id": flow, "consistency": "CRASH_CONSISTENT",
            "temporary": false, "is_replica": false, "effective_retain_forever": false, "tags": [],
            "appdata_toolkit": of.get("toolkit_id"), "appdata_metadata": "{}",
        }));
        self.world.add(Kind::Snapshot, &id, snapshot, Doc::new());
        Ok(id)
    }

    fn keep_snapshot(&mut self, id: &str, fields: Doc) -> Result<(), String> {
        self.there(Kind::Snapshot, id)?;
        self.world.edit(Kind::Snapshot, id, |doc| {
            doc.remove("expiration");
            doc.remove("retain_forever");
            doc.extend(fields);
        });
        self.reckon_keep(id);
        Ok(())
    }

    /// Works out how long a snapshot really stays: by its own wish, or by a bookmark that holds it.
    pub(crate) fn reckon_keep(&mut self, id: &str) {
        let Some(own) = self.world.truth(Kind::Snapshot, id).cloned() else { return };
        let marks = self.marks_of(id);
        let forever = flag(&own, "retain_forever") || marks.iter().any(|m| !m.contains_key("expiration"));
        let last = marks.iter().chain([&own]).filter_map(|d| text(d, "expiration")).max();
        self.world.edit(Kind::Snapshot, id, |doc| {
            doc.insert("effective_retain_forever".to_owned(), forever.into());
            match last.filter(|_| !forever) {
                Some(day) => doc.insert("effective_expiration".to_owned(), day.into()),
                None => doc.remove("effective_expiration"),
            };
        });
    }

    /// The bookmarks that hold a snapshot.
    fn marks_of(&self, snapshot: &str) -> Vec<Doc> {
        let all = self.world.all_true(Kind::Bookmark).into_iter();
        all.filter(|doc| snapshots_of(doc).iter().any(|s| s == snapshot)).cloned().collect()
    }

    /// What keeps a snapshot from being deleted: children and bookmarks, as (type, id).
    pub(crate) fn holders(&self, snapshot: &str) -> Vec<(&'static str, String)> {
        let mut all = Vec::new();
        for vdb in self.world.all_true(Kind::Vdb) {
            let id = text(vdb, "id").unwrap_or_default();
            // From the timeflow a VDB is on, back over the snapshots it was made from.
            let mut flow = text(vdb, "current_timeflow_id");
            while let Some(at) = flow.take() {
                let Some(parent) = self.world.text(Kind::Timeflow, &at, "parent_snapshot_id") else { break };
                if parent == snapshot {
                    let own = self.world.text(Kind::Timeflow, &at, "dataset_id");
                    let same = self.world.text(Kind::Snapshot, snapshot, "dataset_id") == own;
                    all.push(if same { ("TIMEFLOW", at.clone()) } else { ("VDB", id.clone()) });
                }
                flow = self.world.text(Kind::Snapshot, &parent, "timeflow_id");
            }
        }
        let marks = self.marks_of(snapshot);
        all.extend(marks.iter().filter_map(|m| Some(("BOOKMARK", text(m, "id")?))));
        all.dedup();
        all
    }

    fn delete_snapshot(&mut self, id: &str, all: bool) -> Result<(), String> {
        self.there(Kind::Snapshot, id)?;
        let holders = self.holders(id);
        let pinned = holders.iter().find(|(what, _)| !all || *what == "TIMEFLOW");
        if let Some((what, by)) = pinned {
            return Err(format!("snapshot {id} cannot be deleted: {what} {by} depends on it"));
        }
        for (what, by) in holders {
            match what {
                "VDB" => self.drop_vdb(&by, true, true)?,
                _ => self.drop_bookmark(&by),
            }
        }
        self.drop_snapshot(id)
    }

    /// Takes a snapshot and its data away.
    pub(crate) fn drop_snapshot(&mut self, id: &str) -> Result<(), String> {
        self.store.remove(&self.store.snapshot(id))?;
        self.world.remove(Kind::Snapshot, id);
        Ok(())
    }

    /// Takes the snapshots that a bookmark is to hold and makes it ACTIVE.
    fn fill_bookmark(&mut self, id: &str, take: &[String], mut have: Vec<String>) -> Result<(), String> {
        self.there(Kind::Bookmark, id)?;
        for vdb in take {
            match self.take_snapshot(Kind::Vdb, vdb) {
                Ok(snapshot) => have.push(snapshot),
                Err(e) => {
                    self.drop_bookmark(id);
                    return Err(e);
                }
            }
        }
        let (mut vdbs, mut dsources) = (Vec::new(), Vec::new());
        for snapshot in &have {
            let of = self.there(Kind::Snapshot, snapshot)?;
            let (at, dataset) = (of.get("timestamp").cloned(), text(of, "dataset_id").unwrap_or_default());
            let (flow, name) = (of.get("timeflow_id"), of.get("dataset_name"));
            if self.world.truth(Kind::Vdb, &dataset).is_some() {
                let root = self.world.text(Kind::Vdb, &dataset, "root_parent_id");
                vdbs.push(doc(json!({"vdb_id": dataset, "vdb_name": name, "snapshot_id": snapshot,
                    "timeflow_id": flow, "data_timestamp": at, "root_parent_id": root})));
            } else {
                dsources
                    .push(doc(json!({"dsource_id": dataset, "dsource_name": name, "snapshot_id": snapshot,
                    "timeflow_id": flow, "data_timestamp": at})));
            }
        }
        let at = have.first().and_then(|s| self.world.text(Kind::Snapshot, s, "timestamp"));
        let of =
            |list: &[Doc], field: &str| list.iter().filter_map(|d| d.get(field).cloned()).collect::<Value>();
        let fields = doc(json!({
            "bookmark_status": "ACTIVE", "status": "ACTIVE", "data_timestamp": at,
            "vdb_ids": of(&vdbs, "vdb_id"), "vdb_names": of(&vdbs, "vdb_name"),
            "dsource_ids": of(&dsources, "dsource_id"), "dsource_names": of(&dsources, "dsource_name"),
            "vdbs": vdbs, "dsources": dsources,
        }));
        self.world.edit(Kind::Bookmark, id, |doc| doc.extend(fields));
        have.iter().for_each(|s| self.reckon_keep(s));
        Ok(())
    }

    /// Takes a bookmark away. Its snapshots stay, now subject to retention.
    pub(crate) fn drop_bookmark(&mut self, id: &str) {
        let held = self.world.truth(Kind::Bookmark, id).map(snapshots_of).unwrap_or_default();
        self.world.remove(Kind::Bookmark, id);
        held.iter().for_each(|s| self.reckon_keep(s));
    }

    fn update_host(&mut self, env: &str, host: &str, fields: &Doc) -> Result<(), String> {
        self.there(Kind::Environment, env)?;
        self.world.edit(Kind::Environment, env, |doc| {
            for one in doc.get_mut("hosts").and_then(Value::as_array_mut).into_iter().flatten() {
                if let Some(one) = one.as_object_mut().filter(|h| text(h, "id").as_deref() == Some(host)) {
                    one.extend(fields.clone());
                }
            }
        });
        self.export_all(Some(env))
    }
}

/// The snapshots a bookmark holds.
pub(crate) fn snapshots_of(bookmark: &Doc) -> Vec<String> {
    let lists = ["vdbs", "dsources"].iter().filter_map(|f| bookmark.get(*f)?.as_array()).flatten();
    lists.filter_map(|m| text(m.as_object()?, "snapshot_id")).collect()
}
