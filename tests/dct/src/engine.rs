//! VDBs and their timeflows: provision, enable, refresh, rewind, delete.
//!
//! A timeflow is a line of a VDB's data and has a directory of its own. Refresh and rewind begin a new one from a snapshot, undo
//! and switch go back to an old one; in each case the export path changes with it, and clients of the old path have lost it.

use serde_json::{Value, json};

use crate::clock;
use crate::dct::Dct;
use crate::world::{Doc, Kind, doc, flag, text};

type Done = Result<(), String>;

impl Dct {
    pub(crate) fn provision(&mut self, id: &str, vdb: Doc, snapshot: Option<&str>, container: bool) -> Done {
        if let Some(snapshot) = snapshot {
            self.there(Kind::Snapshot, snapshot)?;
        }
        let env = text(&vdb, "environment_id").unwrap_or_default();
        self.environment_ready(&env)?;
        let same = |d: &&Doc| d.get("name") == vdb.get("name") && d.get("engine_id") == vdb.get("engine_id");
        if let Some(other) = self.world.all_true(Kind::Vdb).into_iter().find(same) {
            let id = text(other, "id").unwrap_or_default();
            return Err(format!(
                "name {} is in use by VDB {id}",
                vdb.get("name").cloned().unwrap_or_default()
            ));
        }
        let now = clock::text(self.world.now);
        self.world.add(Kind::Vdb, id, vdb, Doc::new());
        let flow = match self.new_timeflow(id, snapshot, "INITIAL") {
            Ok(flow) => flow,
            Err(e) => {
                self.world.remove(Kind::Vdb, id);
                return Err(e);
            }
        };
        let fields = doc(json!({
            "enabled": !container, "status": if container { "Unknown" } else { "RUNNING" }, "creation_date": now,
            "containerization_state": if container { "READY_FOR_CONTAINER" } else { "NOT_CONTAINERIZED" },
            "nfs_version": self.config.nfs_version, "nfs_version_reason": "DEFAULT",
            "nfs_encryption_enabled": false,
        }));
        self.world.edit(Kind::Vdb, id, |doc| doc.extend(fields));
        self.activate(id, &flow);
        // A job that fails leaves nothing behind.
        self.export(id).inspect_err(|_| self.forget(id))
    }

    /// Takes away a VDB that did not come to be. What cannot be removed of it is only rubbish in a directory.
    fn forget(&mut self, vdb: &str) {
        if let Err(e) = self.drop_vdb(vdb, true, true) {
            tracing::warn!("{e}");
        }
    }

    /// Begins a timeflow with the data of a snapshot, or with none. It is not active yet.
    fn new_timeflow(&mut self, vdb: &str, snapshot: Option<&str>, how: &str) -> Result<String, String> {
        let of = self.there(Kind::Vdb, vdb)?;
        let engine = text(of, "engine_id").unwrap_or_default();
        let group = text(of, "group_name").and_then(|name| self.group_number(&engine, &name));
        let group = group.ok_or_else(|| format!("VDB {vdb} is in no group"))?;
        let number = |id: &str| id.rsplit('-').next().unwrap_or_default().to_owned();
        let flow = self.world.next_id(&engine, "APPDATA_TIMEFLOW");
        let path = format!(
            "domain0/group-{group}/appdata_container-{}/appdata_timeflow-{}/datafile",
            number(vdb),
            number(&flow)
        );
        let dir = self.store.live(&engine, &path);
        match snapshot {
            Some(snapshot) => self.store.copy(&self.store.snapshot(snapshot), &dir)?,
            None => self.store.make(&dir)?,
        }
        let from = snapshot.and_then(|s| self.world.truth(Kind::Snapshot, s)).cloned().unwrap_or_default();
        let now = clock::text(self.world.now);
        let parent = text(&from, "dataset_id");
        let is_dsource = parent.as_ref().is_some_and(|p| self.world.truth(Kind::Dsource, p).is_some());
        let timeflow = doc(json!({
            "id": flow, "name": format!("{how}@{now}"), "dataset_id": vdb, "engine_id": engine, "is_active": false,
            "creation_type": how, "creation_timestamp": now, "parent_snapshot_id": snapshot, "is_replica": false,
            "parent_point_timestamp": from.get("timestamp"), "parent_point_timeflow_id": from.get("timeflow_id"),
            "source_data_timestamp": from.get("timestamp"), "tags": [],
            "parent_dsource_id": parent.as_ref().filter(|_| is_dsource),
            "parent_vdb_id": parent.as_ref().filter(|_| !is_dsource),
        }));
        let hidden = doc(json!({"path": path}));
        self.world.add(Kind::Timeflow, &flow, timeflow, hidden);
        Ok(flow)
    }

    fn group_number(&self, engine: &str, name: &str) -> Option<String> {
        let mut all = self.world.all_true(Kind::Group).into_iter();
        let group = all.find(|g| {
            text(g, "engine_id").as_deref() == Some(engine) && text(g, "name").as_deref() == Some(name)
        })?;
        Some(text(group, "id")?.rsplit('-').next()?.to_owned())
    }

    /// Puts a VDB on a timeflow: its current one becomes the previous, and the export path is the new one's.
    fn activate(&mut self, vdb: &str, flow: &str) {
        let now = clock::text(self.world.now);
        let before = self.world.text(Kind::Vdb, vdb, "current_timeflow_id");
        if let Some(before) = &before {
            self.world.set(Kind::Timeflow, before, "is_active", false);
        }
        let path = self.flow_path(flow);
        let from = self.world.text(Kind::Timeflow, flow, "parent_point_timestamp");
        self.world.edit(Kind::Timeflow, flow, |doc| {
            doc.insert("is_active".to_owned(), true.into());
            doc.insert("activation_timestamp".to_owned(), now.clone().into());
        });
        let fields = doc(json!({
            "current_timeflow_id": flow, "previous_timeflow_id": before, "exported_data_directory": path,
            "parent_timeflow_timestamp": from, "parent_timeflow_timezone": "UTC", "last_refreshed_date": now,
        }));
        self.world.edit(Kind::Vdb, vdb, |doc| doc.extend(fields));
        if let Some(owner) = self.world.hidden(Kind::Vdb, vdb, "owner").cloned() {
            // New data of a VDB that runs in a container belongs to the container's user as the old did.
            if let Some(Err(e)) = owner.as_str().map(|o| self.give(vdb, o)) {
                tracing::warn!("{e}");
            }
        }
    }

    pub(crate) fn enable(&mut self, vdb: &str, container: bool, owner: Option<&str>) -> Done {
        let of = self.there(Kind::Vdb, vdb)?;
        if flag(of, "enabled") && self.config.repeat_fails {
            return Err(format!("VDB {vdb} is enabled already"));
        }
        self.environment_ready(&text(of, "environment_id").unwrap_or_default())?;
        if let Some(owner) = owner {
            self.give(vdb, owner)?;
            self.world.hide(Kind::Vdb, vdb, "owner", owner);
        }
        let before = self.there(Kind::Vdb, vdb)?.clone();
        self.set_enabled(vdb, true, container);
        self.export(vdb).inspect_err(|_| self.world.edit(Kind::Vdb, vdb, |doc| *doc = before))
    }

    pub(crate) fn disable(&mut self, vdb: &str, container: bool) -> Done {
        let of = self.there(Kind::Vdb, vdb)?;
        if !flag(of, "enabled") && self.config.repeat_fails {
            return Err(format!("VDB {vdb} is disabled already"));
        }
        self.set_enabled(vdb, false, container);
        self.export(vdb)
    }

    fn set_enabled(&mut self, vdb: &str, on: bool, container: bool) {
        let state = match (container, on) {
            (true, true) => "RUNNING_IN_CONTAINER",
            (true, false) => "READY_FOR_CONTAINER",
            (false, _) => "NOT_CONTAINERIZED",
        };
        self.world.edit(Kind::Vdb, vdb, |doc| {
            doc.insert("enabled".to_owned(), on.into());
            doc.insert("status".to_owned(), if on { "RUNNING" } else { "Unknown" }.into());
            doc.insert("containerization_state".to_owned(), state.into());
        });
    }

    /// Gives a VDB's data to `uid:gid`.
    fn give(&self, vdb: &str, owner: &str) -> Done {
        let wrong = || format!("ownership_spec {owner:?} is not like 999:999");
        let (uid, gid) = owner.split_once(':').ok_or_else(wrong)?;
        let (uid, gid) = (uid.parse().map_err(|_| wrong())?, gid.parse().map_err(|_| wrong())?);
        let engine = self.world.text(Kind::Vdb, vdb, "engine_id").unwrap_or_default();
        match self.vdb_path(vdb) {
            Some(path) => self.store.give(&self.store.live(&engine, &path), uid, gid),
            None => Ok(()),
        }
    }

    /// Refreshes or rewinds: begins a timeflow from a snapshot.
    pub(crate) fn repoint(&mut self, vdb: &str, snapshot: &str, how: &str) -> Done {
        let of = self.there(Kind::Vdb, vdb)?;
        if !flag(of, "enabled") && self.config.disabled_refuses_refresh {
            return Err(format!("VDB {vdb} is disabled"));
        }
        self.there(Kind::Snapshot, snapshot)?;
        let flow = self.new_timeflow(vdb, Some(snapshot), how)?;
        self.move_to(vdb, &flow, how == "REFRESH")
    }

    pub(crate) fn undo_refresh(&mut self, vdb: &str) -> Done {
        self.there(Kind::Vdb, vdb)?;
        let may = self.world.hidden(Kind::Vdb, vdb, "undo").and_then(Value::as_bool).unwrap_or(false);
        let before = self.world.text(Kind::Vdb, vdb, "previous_timeflow_id").filter(|_| may);
        let before = before.ok_or_else(|| format!("VDB {vdb} has no refresh to undo"))?;
        self.there(Kind::Timeflow, &before)?;
        self.move_to(vdb, &before, false)
    }

    pub(crate) fn switch(&mut self, vdb: &str, flow: &str) -> Done {
        self.there(Kind::Vdb, vdb)?;
        if text(self.there(Kind::Timeflow, flow)?, "dataset_id").as_deref() != Some(vdb) {
            return Err(format!("timeflow {flow} is not of VDB {vdb}"));
        }
        self.move_to(vdb, flow, false)
    }

    /// Puts a VDB on a timeflow and exports it there; where that is refused it is on its old one again, no longer exported.
    fn move_to(&mut self, vdb: &str, flow: &str, undo: bool) -> Done {
        let before = self.there(Kind::Vdb, vdb)?.clone();
        self.activate(vdb, flow);
        if let Err(e) = self.export(vdb) {
            self.world.set(Kind::Timeflow, flow, "is_active", false);
            if let Some(old) = text(&before, "current_timeflow_id") {
                self.world.set(Kind::Timeflow, &old, "is_active", true);
            }
            self.world.edit(Kind::Vdb, vdb, |doc| *doc = before);
            return Err(e);
        }
        self.world.hide(Kind::Vdb, vdb, "undo", undo);
        Ok(())
    }

    /// The VDBs provisioned from a dataset.
    pub(crate) fn children(&self, dataset: &str) -> Vec<String> {
        let all = self.world.all_true(Kind::Vdb).into_iter();
        let of = all.filter(|d| text(d, "parent_id").as_deref() == Some(dataset));
        of.filter_map(|d| text(d, "id")).collect()
    }

    pub(crate) fn drop_vdb(&mut self, vdb: &str, force: bool, all: bool) -> Done {
        let of = self.there(Kind::Vdb, vdb)?;
        let (engine, env) = (text(of, "engine_id").unwrap_or_default(), text(of, "environment_id"));
        let children = self.children(vdb);
        if let Some(child) = children.first().filter(|_| !all) {
            return Err(format!("VDB {vdb} cannot be deleted: VDB {child} was provisioned from it"));
        }
        if !force && flag(of, "enabled") {
            self.environment_ready(&env.unwrap_or_default())?;
        }
        children.iter().try_for_each(|child| self.drop_vdb(child, force, true))?;
        self.set_enabled(vdb, false, false);
        self.export(vdb)?;
        let own = |world: &crate::world::World, kind: Kind| -> Vec<String> {
            let docs = world.all_true(kind).into_iter();
            docs.filter(|d| text(d, "dataset_id").as_deref() == Some(vdb))
                .filter_map(|d| text(d, "id"))
                .collect()
        };
        let marks = self.world.all_true(Kind::Bookmark).into_iter().filter(|m| {
            let ids = m.get("vdb_ids").and_then(Value::as_array);
            ids.is_some_and(|ids| ids.iter().any(|id| id.as_str() == Some(vdb)))
        });
        let marks: Vec<String> = marks.filter_map(|m| text(m, "id")).collect();
        marks.iter().for_each(|id| self.drop_bookmark(id));
        for snapshot in own(&self.world, Kind::Snapshot) {
            self.drop_snapshot(&snapshot)?;
        }
        for flow in own(&self.world, Kind::Timeflow) {
            // The tree is at container/timeflow/datafile; with its last timeflow the container's directory goes.
            if let Some(path) = self.flow_path(&flow) {
                let dir = self.store.live(&engine, &path);
                self.store.remove(dir.ancestors().nth(2).unwrap_or(&dir))?;
            }
            self.world.remove(Kind::Timeflow, &flow);
        }
        self.world.remove(Kind::Vdb, vdb);
        Ok(())
    }

    /// Fails if an environment or its host is not there to do anything.
    fn environment_ready(&self, env: &str) -> Done {
        let doc = self.there(Kind::Environment, env)?;
        if !flag(doc, "enabled") {
            return Err(format!("environment {env} is disabled"));
        }
        let hosts = doc.get("hosts").and_then(Value::as_array);
        match hosts.into_iter().flatten().find(|h| h.get("available") == Some(&Value::Bool(false))) {
            Some(host) => Err(format!("host {} of environment {env} cannot be reached", host["hostname"])),
            None => Ok(()),
        }
    }
}
