//! What is done to a VDB or a dSource that is there: enable, disable, change, delete.

use serde_json::{Value, json};

use super::{find, not_simulated};
use crate::actions::Action;
use crate::dct::Dct;
use crate::http::{Call, Refused, Reply};
use crate::jobs::answer;
use crate::world::{Doc, Kind, doc, flag, text};

pub(super) fn serve(dct: &mut Dct, call: &Call, kind: Kind) -> Reply {
    if !call.op.path.contains('{') {
        return Err(not_simulated(call));
    }
    let id = call.param(0).to_owned();
    if call.op.path.ends_with("/deletion-dependencies") {
        find::shown(dct, kind, &id)?;
        return Ok((200, Some(dependencies(dct, &id))));
    }
    let (job_type, action) = match kind {
        Kind::Vdb => vdb(dct, call, &id)?,
        _ => dsource(dct, call, &id)?,
    };
    let name = text(find::shown(dct, kind, &id)?, "name").unwrap_or_default();
    Ok((200, Some(answer(dct.start_job(job_type, (kind, id), &name, action)))))
}

fn vdb(dct: &Dct, call: &Call, id: &str) -> Result<(&'static str, Action), Refused> {
    let simulated = ["GET", "PATCH /vdbs/{vdbId}", "/enable", "/disable", "/vdbs/{vdbId}/delete"];
    if !simulated.iter().any(|s| call.op.name.ends_with(s)) {
        return Err(not_simulated(call));
    }
    let doc = find::unlocked(dct, id)?;
    let container = call.flag("container_mode", false);
    // Seen by the vendor with staged AppData: the engine fails where DCT's own defaults are taken.
    let engine_fails = |field: &str| flag(&doc, "is_appdata") && call.flag(field, true);
    let id = id.to_owned();
    match call.op.name.as_str() {
        "POST /vdbs/{vdbId}/enable" => {
            if engine_fails("attempt_start") {
                return Err(Refused::new(500, "the engine fails to enable the VDB: attempt_start"));
            }
            let owner = call.text("ownership_spec").map(str::to_owned);
            if owner.as_ref().is_some_and(|o| o.chars().count() > 1024) {
                return Err(Refused::bad("ownership_spec has more than 1024 characters"));
            }
            Ok(("VDB_ENABLE", Action::Enable { vdb: id, container, owner }))
        }
        "POST /vdbs/{vdbId}/disable" => {
            if engine_fails("attempt_cleanup") {
                return Err(Refused::new(500, "the engine fails to disable the VDB: attempt_cleanup"));
            }
            Ok(("VDB_DISABLE", Action::Disable { vdb: id, container }))
        }
        "POST /vdbs/{vdbId}/delete" => {
            let (force, all) = (call.flag("force", false), call.flag("delete_all_dependent_vdbs", false));
            Ok(("VDB_DELETE", Action::DeleteVdb { vdb: id, force, all }))
        }
        _ => Ok(("VDB_UPDATE", Action::Update { kind: Kind::Vdb, fields: changes(call, &doc)?, id })),
    }
}

/// What a PATCH changes. Of what may be changed only what a VDB shows is kept.
fn changes(call: &Call, vdb: &Doc) -> Result<Doc, Refused> {
    let mounts = ["mount_point", "additional_mount_points"].iter().any(|f| call.body.contains_key(*f));
    if mounts && flag(vdb, "enabled") {
        return Err(Refused::bad("mount points can be changed only while the VDB is disabled"));
    }
    if let Some(mount) = call.text("mount_point").filter(|m| !m.starts_with('/')) {
        return Err(Refused::bad(format!("mount_point is not absolute: {mount:?}")));
    }
    let kept = [
        "name",
        "description",
        "hooks",
        "appdata_source_params",
        "appdata_config_params",
        "config_params",
        "additional_mount_points",
        "mount_point",
        "database_name",
    ];
    Ok(call
        .body
        .iter()
        .filter(|(k, _)| kept.contains(&k.as_str()))
        .map(|(k, v)| (k.clone(), v.clone()))
        .collect())
}

fn dsource(dct: &Dct, call: &Call, id: &str) -> Result<(&'static str, Action), Refused> {
    find::shown(dct, Kind::Dsource, id)?;
    let id = id.to_owned();
    match call.op.name.as_str() {
        "POST /dsources/{dsourceId}/enable" => {
            Ok(("DSOURCE_ENABLE", Action::Switched { kind: Kind::Dsource, id, on: true }))
        }
        "POST /dsources/{dsourceId}/disable" => {
            Ok(("DSOURCE_DISABLE", Action::Switched { kind: Kind::Dsource, id, on: false }))
        }
        _ => Err(not_simulated(call)),
    }
}

/// The VDBs that would have to go before a dataset, those that go last first.
fn dependencies(dct: &Dct, id: &str) -> Value {
    let mut items = Vec::new();
    let mut open = dct.children(id);
    while let Some(child) = open.pop() {
        if let Some(vdb) = dct.world.truth(Kind::Vdb, &child) {
            items.push(doc(json!({
                "dataset_id": child, "dataset_name": vdb.get("name"), "dataset_type": "VDB",
                "engine_id": vdb.get("engine_id"), "parent_id": vdb.get("parent_id"), "is_replica": false,
                "tags": vdb.get("tags"),
            })));
        }
        open.extend(dct.children(&child));
    }
    json!({ "items": items })
}
