//! Refresh (the source's data), rewind (its own earlier data), undo and switch: all begin or return to a timeflow.

use super::{find, not_simulated};
use crate::actions::{Action, snapshots_of};
use crate::dct::Dct;
use crate::http::{Call, Refused, Reply};
use crate::jobs::answer;
use crate::world::{Doc, Kind, text};

pub(super) fn serve(dct: &mut Dct, call: &Call) -> Reply {
    let id = call.param(0).to_owned();
    let vdb = find::unlocked(dct, &id)?;
    let (job_type, action) = match call.op.path.rsplit('/').next().unwrap_or_default() {
        "undo_refresh" => ("VDB_UNDO_REFRESH", Action::Undo { vdb: id.clone() }),
        "switch_timeflow" => {
            let flow = call.text("timeflow_id").ok_or_else(|| Refused::bad("timeflow_id is needed"))?;
            find::shown(dct, Kind::Timeflow, flow)?;
            ("VDB_SWITCH_TIMEFLOW", Action::Switch { vdb: id.clone(), flow: flow.to_owned() })
        }
        "refresh_by_snapshot" | "refresh_by_timestamp" | "refresh_from_bookmark" => {
            let snapshot = snapshot(dct, call, &vdb, false)?;
            ("VDB_REFRESH", Action::Repoint { vdb: id.clone(), snapshot, how: "REFRESH".to_owned() })
        }
        "rollback_by_snapshot" | "rollback_by_timestamp" | "rollback_from_bookmark" => {
            let snapshot = snapshot(dct, call, &vdb, true)?;
            ("VDB_ROLLBACK", Action::Repoint { vdb: id.clone(), snapshot, how: "ROLLBACK".to_owned() })
        }
        _ => return Err(not_simulated(call)),
    };
    let name = text(&vdb, "name").unwrap_or_default();
    Ok((200, Some(answer(dct.start_job(job_type, (Kind::Vdb, id), &name, action)))))
}

/// The snapshot a refresh or a rewind is to begin from.
fn snapshot(dct: &Dct, call: &Call, vdb: &Doc, rewind: bool) -> Result<String, Refused> {
    let id = text(vdb, "id").unwrap_or_default();
    let parent = text(vdb, "parent_id");
    let of = if rewind { Some(id.clone()) } else { parent.clone() };
    let of = of.ok_or_else(|| Refused::bad(format!("VDB {id} has no source to be refreshed from")));
    let path = call.op.path.as_str();
    let found = if path.ends_with("_snapshot") {
        match call.text("snapshot_id") {
            Some(one) => find::shown(dct, Kind::Snapshot, one)?.clone(),
            None => find::newest(dct, &of?, None, None)?,
        }
    } else if path.ends_with("_timestamp") {
        let flow = call.text("timeflow_id");
        let dataset = match (call.text("dataset_id"), flow) {
            (Some(_), Some(_)) => return Err(Refused::bad("timeflow_id and dataset_id exclude each other")),
            (Some(one), None) => find::dataset(dct, one)?.1,
            (None, Some(flow)) => {
                text(find::shown(dct, Kind::Timeflow, flow)?, "dataset_id").unwrap_or_default()
            }
            (None, None) => of?,
        };
        find::newest(dct, &dataset, point(call)?.as_deref(), flow)?
    } else {
        let mark = call.text("bookmark_id").ok_or_else(|| Refused::bad("bookmark_id is needed"))?;
        let held = marked(dct, mark)?;
        let own = held.iter().find(|s| text(s, "dataset_id").as_ref() == Some(&id));
        let parents = held.iter().find(|s| text(s, "dataset_id") == parent);
        let best = if rewind { own } else { parents.or(own) };
        best.cloned().ok_or_else(|| Refused::bad(format!("bookmark {mark} has nothing for VDB {id}")))?
    };
    let dataset = text(&found, "dataset_id").unwrap_or_default();
    let related =
        dataset == id || (!rewind && (Some(&dataset) == parent.as_ref() || same_root(dct, vdb, &dataset)));
    if !related {
        return Err(Refused::bad(format!("a snapshot of dataset {dataset} is not one for VDB {id}")));
    }
    Ok(text(&found, "id").unwrap_or_default())
}

/// The point in time a call names; none for the latest.
pub(super) fn point(call: &Call) -> Result<Option<String>, Refused> {
    match (call.text("timestamp"), call.text("timestamp_in_database_timezone")) {
        (Some(_), Some(_)) => {
            Err(Refused::bad("timestamp and timestamp_in_database_timezone exclude each other"))
        }
        (Some(at), None) => Ok(Some(at.to_owned())),
        // The simulated databases are in UTC.
        (None, Some(at)) => Ok(Some(format!("{at}Z"))),
        (None, None) => Ok(None),
    }
}

/// The snapshots of a bookmark that is ready.
pub(super) fn marked(dct: &Dct, mark: &str) -> Result<Vec<Doc>, Refused> {
    let id = find::id(dct, Kind::Bookmark, mark, None)?;
    let doc = find::shown(dct, Kind::Bookmark, &id)?;
    if text(doc, "bookmark_status").as_deref() != Some("ACTIVE") {
        return Err(Refused::bad(format!("bookmark {id} is not ACTIVE")));
    }
    let all = snapshots_of(doc).into_iter();
    Ok(all.filter_map(|s| dct.world.truth(Kind::Snapshot, &s).cloned()).collect())
}

fn same_root(dct: &Dct, vdb: &Doc, dataset: &str) -> bool {
    let root = text(vdb, "root_parent_id");
    root.is_some()
        && (root.as_deref() == Some(dataset) || dct.world.text(Kind::Vdb, dataset, "root_parent_id") == root)
}
