//! A simulated DCT without its network: the world, the data, the exports, and time passing over them.

use std::path::PathBuf;

use crate::clock::{self, Millis};
use crate::config::Config;
use crate::data::Store;
use crate::export::{Export, Exported};
use crate::faults::Faults;
use crate::state;
use crate::world::{Doc, Event, Kind, World, flag, text};

/// Everything behind the one lock of a simulator.
pub(crate) struct Dct {
    pub(crate) world: World,
    pub(crate) config: Config,
    pub(crate) store: Store,
    pub(crate) exports: Box<dyn Export>,
    pub(crate) faults: Faults,
    /// Where the state is kept, if it is.
    pub(crate) state: Option<PathBuf>,
    /// The change that is in the state file.
    pub(crate) saved: u64,
}

impl Dct {
    /// Lets time pass up to `now`: jobs step on, telemetry arrives, retention deletes.
    pub(crate) fn tick(&mut self, now: Millis) {
        while let Some(due) = self.world.pop_due(now) {
            self.world.now = self.world.now.max(due.at);
            match due.event {
                Event::Job(id) => self.job_step(&id),
                Event::Sync(refs) => {
                    for (kind, id) in refs {
                        self.world.sync(kind, &id);
                    }
                }
            }
        }
        self.world.now = self.world.now.max(now);
        self.retention();
        self.save();
    }

    /// Writes the state if it has changed. A simulator that cannot keep its state says so and goes on.
    pub(crate) fn save(&mut self) {
        if self.world.changes == self.saved {
            return;
        }
        if let Some(path) = &self.state
            && let Err(e) = state::save(path, &self.world)
        {
            tracing::error!("the state cannot be written to {}: {e}", path.display());
            return;
        }
        self.saved = self.world.changes;
    }

    /// Deletes what has expired: snapshots past their date or, without any wish about them, past the retention time; and
    /// bookmarks past their date. A snapshot that a bookmark holds or a child depends on stays.
    pub(crate) fn retention(&mut self) {
        let today = clock::day(self.world.now);
        let over = |doc: &Doc| text(doc, "expiration").is_some_and(|day| day < today);
        let ids = |docs: Vec<&Doc>| docs.into_iter().filter_map(|d| text(d, "id")).collect::<Vec<_>>();
        let marks = self.world.all_true(Kind::Bookmark).into_iter().filter(|d| over(d)).collect();
        for id in ids(marks) {
            self.drop_bookmark(&id);
            self.world.sync(Kind::Bookmark, &id);
        }
        let limit = self.config.retention.map(clock::millis);
        let aged = |doc: &Doc| {
            let made = text(doc, "creation_time").and_then(|t| clock::parse(&t)).unwrap_or(Millis::MAX);
            limit.is_some_and(|limit| self.world.now.saturating_sub(made) >= limit)
        };
        let gone = self.world.all_true(Kind::Snapshot).into_iter().filter(|d| {
            !flag(d, "retain_forever") && (over(d) || (!d.contains_key("expiration") && aged(d)))
        });
        for id in ids(gone.collect()) {
            if self.holders(&id).is_empty() && self.drop_snapshot(&id).is_ok() {
                // Nobody started a job for this, so nothing else makes it visible.
                self.world.sync(Kind::Snapshot, &id);
            }
        }
    }

    /// Exports a VDB that is enabled to its host's addresses as they are now, and takes any other path of it off.
    pub(crate) fn export(&mut self, vdb: &str) -> Result<(), String> {
        let Some(doc) = self.world.truth(Kind::Vdb, vdb) else { return Ok(()) };
        let (engine, enabled) = (text(doc, "engine_id").unwrap_or_default(), flag(doc, "enabled"));
        let env = text(doc, "environment_id").unwrap_or_default();
        let path = self.vdb_path(vdb);
        let old = self.world.hidden(Kind::Vdb, vdb, "exported").and_then(|v| v.as_str().map(str::to_owned));
        if let Some(old) = old.filter(|old| !enabled || path.as_ref() != Some(old)) {
            self.exports.unexport(&format!("/{old}"))?;
            self.world.hide(Kind::Vdb, vdb, "exported", serde_json::Value::Null);
        }
        let Some(path) = path.filter(|_| enabled) else { return Ok(()) };
        let what = Exported {
            path: format!("/{path}"),
            dir: self.store.live(&engine, &path),
            clients: self.clients(&env),
            nfs_version: self.config.nfs_version,
        };
        self.exports.export(&what)?;
        self.world.hide(Kind::Vdb, vdb, "exported", path);
        Ok(())
    }

    /// Exports again all VDBs of an environment, or of all.
    pub(crate) fn export_all(&mut self, env: Option<&str>) -> Result<(), String> {
        let vdbs = self.world.all_true(Kind::Vdb).into_iter();
        let on = vdbs.filter(|d| env.is_none() || text(d, "environment_id").as_deref() == env);
        let ids: Vec<String> = on.filter_map(|d| text(d, "id")).collect();
        ids.iter().try_for_each(|id| self.export(id))
    }

    /// The addresses that may mount what an environment's host has: `nfs_addresses`, or the host itself without any.
    fn clients(&self, env: &str) -> Vec<String> {
        let hosts = self.world.truth(Kind::Environment, env).and_then(|d| d.get("hosts")?.as_array());
        let mut all = Vec::new();
        for host in hosts.into_iter().flatten().filter_map(|h| h.as_object()) {
            let listed: Vec<String> = host
                .get("nfs_addresses")
                .and_then(|a| a.as_array())
                .into_iter()
                .flatten()
                .filter_map(|a| a.as_str().map(str::to_owned))
                .collect();
            all.extend(if listed.is_empty() { text(host, "hostname").into_iter().collect() } else { listed });
        }
        all
    }

    /// The export path of the timeflow a VDB is on, without leading slash.
    pub(crate) fn vdb_path(&self, vdb: &str) -> Option<String> {
        let flow = self.world.text(Kind::Vdb, vdb, "current_timeflow_id")?;
        self.flow_path(&flow)
    }

    /// The export path of a timeflow, without leading slash.
    pub(crate) fn flow_path(&self, flow: &str) -> Option<String> {
        self.world.hidden(Kind::Timeflow, flow, "path")?.as_str().map(str::to_owned)
    }
}
