//! Snapshots. Making one answers with a job and nothing else: its id is found by looking for what is new.

use serde_json::{Value, json};

use super::{find, list, not_simulated};
use crate::actions::Action;
use crate::dct::Dct;
use crate::http::{Call, Refused, Reply};
use crate::jobs::answer;
use crate::world::{Doc, Kind, doc, flag, text};

/// `/vdbs/{id}/snapshots` and `/dsources/{id}/snapshots`.
pub(super) fn of_dataset(dct: &mut Dct, call: &Call, kind: Kind) -> Reply {
    let id = call.param(0).to_owned();
    let name = text(find::shown(dct, kind, &id)?, "name").unwrap_or_default();
    if call.op.method == "GET" {
        return list(dct, call, Kind::Snapshot, |doc| text(doc, "dataset_id").as_deref() == Some(&id));
    }
    if kind == Kind::Vdb {
        find::unlocked(dct, &id)?;
    }
    let action = Action::Snapshot { kind, dataset: id.clone() };
    let job_type = if kind == Kind::Vdb { "VDB_SNAPSHOT" } else { "DSOURCE_SNAPSHOT" };
    Ok((200, Some(answer(dct.start_job(job_type, (kind, id), &name, action)))))
}

pub(super) fn serve(dct: &mut Dct, call: &Call) -> Reply {
    if call.op.path == "/snapshots/find_by_timestamp" {
        let (kind, dataset) = find::dataset(dct, call.query("dataset_id").unwrap_or_default())?;
        find::shown(dct, kind, &dataset)?;
        let found = find::newest(dct, &dataset, call.query("timestamp"), None);
        let items: Vec<Doc> = found.into_iter().collect();
        return Ok((200, Some(json!({ "items": items }))));
    }
    let id = call.param(0).to_owned();
    let snapshot = find::shown(dct, Kind::Snapshot, &id)?.clone();
    let name = text(&snapshot, "name").unwrap_or_default();
    let target = (Kind::Snapshot, id.clone());
    match (call.op.method.as_str(), call.op.path.as_str()) {
        ("PATCH", "/snapshots/{snapshotId}") => {
            let (day, forever) = (call.body.get("expiration"), call.flag("retain_forever", false));
            if day.is_some() && forever {
                return Err(Refused::bad("expiration and retain_forever exclude each other"));
            }
            let fields = doc(json!({"expiration": day, "retain_forever": forever}));
            let action = Action::KeepSnapshot { snapshot: id, fields };
            Ok((200, Some(answer(dct.start_job("SNAPSHOT_UPDATE", target, &name, action)))))
        }
        ("POST", "/snapshots/{snapshotId}/unset_expiration") => {
            let action = Action::KeepSnapshot { snapshot: id, fields: Doc::new() };
            Ok((200, Some(answer(dct.start_job("SNAPSHOT_UNSET_EXPIRATION", target, &name, action)))))
        }
        ("DELETE", "/snapshots/{snapshotId}") | ("POST", "/snapshots/{snapshotId}/delete") => {
            let all = call.flag("delete_all_dependencies", false);
            let action = Action::DeleteSnapshot { snapshot: id, all };
            Ok((200, Some(answer(dct.start_job("SNAPSHOT_DELETE", target, &name, action)))))
        }
        ("GET", "/snapshots/{snapshotId}/deletion-dependencies") => Ok((200, Some(dependencies(dct, &id)))),
        ("GET", "/snapshots/{snapshotId}/runtime") => Ok((200, Some(json!({"provisionable": true})))),
        _ => Err(not_simulated(call)),
    }
}

fn dependencies(dct: &Dct, id: &str) -> Value {
    let holders = dct.holders(id);
    let objects: Vec<Doc> = holders
        .iter()
        .map(|(what, by)| {
            let kind = match *what {
                "VDB" => Kind::Vdb,
                "TIMEFLOW" => Kind::Timeflow,
                _ => Kind::Bookmark,
            };
            let locked = dct.world.truth(kind, by).is_some_and(|d| flag(d, "is_locked"));
            doc(json!({"object_id": by, "object_type": what, "object_name": dct.world.text(kind, by, "name"),
                "locked": locked, "parent_object_id": id, "parent_object_type": "SNAPSHOT"}))
        })
        .collect();
    // A rewound VDB stays on its own snapshot until it is refreshed.
    let pins = holders.iter().filter(|(what, _)| *what == "TIMEFLOW");
    let actions: Vec<Doc> = pins
        .map(|(_, flow)| {
            let vdb = dct.world.text(Kind::Timeflow, flow, "dataset_id");
            let name = vdb.as_ref().and_then(|v| dct.world.text(Kind::Vdb, v, "name"));
            doc(json!({"action": "REFRESH", "object_id": vdb, "object_name": name, "object_type": "VDB",
                "linked_object_id": id, "linked_object_type": "SNAPSHOT", "locked": false}))
        })
        .collect();
    json!({"object_dependencies": objects, "prerequisite_actions": actions})
}
