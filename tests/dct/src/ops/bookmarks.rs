//! Bookmarks: a name of the caller's choice for snapshots of one or more datasets. The one object that has its id in the answer.

use serde_json::{Value, json};

use super::{find, not_simulated};
use crate::actions::Action;
use crate::clock;
use crate::dct::Dct;
use crate::http::{Call, Refused, Reply};
use crate::jobs::answer;
use crate::world::{Doc, Kind, doc, text};

pub(super) fn serve(dct: &mut Dct, call: &Call) -> Reply {
    if call.op.name == "POST /bookmarks" {
        return create(dct, call);
    }
    let id = call.param(0).to_owned();
    let name = text(find::shown(dct, Kind::Bookmark, &id)?, "name").unwrap_or_default();
    let target = (Kind::Bookmark, id.clone());
    match call.op.name.as_str() {
        "PATCH /bookmarks/{bookmarkId}" => {
            exclusive(call)?;
            let mut fields = call.body.clone();
            fields.remove("retain_forever");
            let action = Action::Update { kind: Kind::Bookmark, id, fields };
            Ok((200, Some(answer(dct.start_job("BOOKMARK_UPDATE", target, &name, action)))))
        }
        "DELETE /bookmarks/{bookmarkId}" => {
            dct.world.set_shown(Kind::Bookmark, &id, "bookmark_status", "DELETING");
            let action = Action::DeleteBookmark { bookmark: id };
            Ok((200, Some(answer(dct.start_job("BOOKMARK_DELETE", target, &name, action)))))
        }
        _ => Err(not_simulated(call)),
    }
}

fn create(dct: &mut Dct, call: &Call) -> Reply {
    exclusive(call)?;
    let point = ["timestamp", "timestamp_in_database_timezone", "location"];
    if call.body.contains_key("vdb_group_id") || call.body.keys().any(|k| k.starts_with("paas_")) {
        return Err(Refused::new(501, "a bookmark of a VDB group or of PaaS objects is not simulated"));
    }
    let sources =
        ["vdb_ids", "snapshot_ids", "timeflow_ids"].into_iter().filter(|f| call.body.contains_key(*f));
    let [source] = sources.collect::<Vec<_>>()[..] else {
        return Err(Refused::bad("exactly one of vdb_ids, snapshot_ids and timeflow_ids is needed"));
    };
    if (source == "timeflow_ids") != point.iter().any(|f| call.body.contains_key(*f)) {
        return Err(Refused::bad("timeflow_ids and a timestamp belong together"));
    }
    let wanted = call.body.get(source).and_then(Value::as_array).into_iter().flatten();
    let wanted: Vec<&str> = wanted.filter_map(Value::as_str).collect();
    if wanted.is_empty() {
        return Err(Refused::bad(format!("{source} is empty")));
    }
    let (mut take, mut have) = (Vec::new(), Vec::new());
    for one in wanted {
        match source {
            "vdb_ids" => {
                let id = find::id(dct, Kind::Vdb, one, None)?;
                find::unlocked(dct, &id)?;
                take.push(id);
            }
            "snapshot_ids" => {
                have.push(text(find::shown(dct, Kind::Snapshot, one)?, "id").unwrap_or_default())
            }
            _ => {
                let flow = find::shown(dct, Kind::Timeflow, one)?;
                let dataset = text(flow, "dataset_id").unwrap_or_default();
                let at = call.text("timestamp").ok_or_else(|| {
                    Refused::new(501, "a bookmark by location or by database time zone is not simulated")
                })?;
                let snapshot = find::newest(dct, &dataset, Some(at), Some(one))?;
                have.push(text(&snapshot, "id").unwrap_or_default());
            }
        }
    }
    let id = uuid::Uuid::new_v4().simple().to_string();
    let name = call.text("name").unwrap_or_default().to_owned();
    let vdbs: Vec<Option<String>> = take.iter().map(|v| dct.world.text(Kind::Vdb, v, "name")).collect();
    let bookmark: Doc = doc(json!({
        "id": id, "name": name, "creation_date": clock::text(dct.world.now), "bookmark_status": "CREATING",
        "status": "CREATING", "bookmark_type": call.text("bookmark_type").unwrap_or("PRIVATE"),
        "bookmark_source": "DCT", "expiration": call.text("expiration"), "vdb_ids": take, "vdb_names": vdbs,
        "tags": call.body.get("tags").cloned().unwrap_or_else(|| json!([])), "is_replica": false,
    }));
    dct.world.add_shown(Kind::Bookmark, &id, bookmark.clone());
    let action = Action::FillBookmark { bookmark: id.clone(), take, have };
    let job = dct.start_job("BOOKMARK_CREATE", (Kind::Bookmark, id), &name, action);
    Ok((201, Some(json!({ "bookmark": bookmark, "job": job }))))
}

fn exclusive(call: &Call) -> Result<(), Refused> {
    if call.body.contains_key("expiration") && call.flag("retain_forever", false) {
        return Err(Refused::bad("expiration and retain_forever exclude each other"));
    }
    Ok(())
}
