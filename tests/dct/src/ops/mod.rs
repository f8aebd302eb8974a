//! The operations that are simulated, by their names in the interface table.

mod bookmarks;
mod environments;
mod find;
mod points;
mod provision;
mod snapshots;
mod tags;
mod vdbs;

use serde_json::Value;

use crate::dct::Dct;
use crate::http::{Call, Refused, Reply};
use crate::page::page;
use crate::world::{Doc, Kind, text};

/// Serves a call that is well-formed.
pub(crate) fn serve(dct: &mut Dct, call: &Call) -> Reply {
    let path = call.op.path.as_str();
    let Some(kind) = Kind::of_path(path) else { return Err(not_simulated(call)) };
    if path.contains("/tags") {
        return tags::serve(dct, call, kind);
    }
    match (call.op.method.as_str(), path) {
        (
            "GET",
            "/bookmarks"
            | "/dsources"
            | "/environments"
            | "/groups"
            | "/jobs"
            | "/management/engines"
            | "/snapshots"
            | "/sources"
            | "/timeflows"
            | "/toolkits"
            | "/vdbs",
        )
        | (
            "POST",
            "/bookmarks/search"
            | "/dsources/search"
            | "/environments/search"
            | "/groups/search"
            | "/jobs/search"
            | "/management/engines/search"
            | "/snapshots/search"
            | "/sources/search"
            | "/timeflows/search"
            | "/toolkits/search"
            | "/vdbs/search",
        ) => list(dct, call, kind, |_| true),
        (
            "GET",
            "/bookmarks/{bookmarkId}"
            | "/dsources/{dsourceId}"
            | "/environments/{environmentId}"
            | "/groups/{groupId}"
            | "/jobs/{jobId}"
            | "/management/engines/{engineId}"
            | "/snapshots/{snapshotId}"
            | "/sources/{sourceId}"
            | "/timeflows/{timeflowId}"
            | "/toolkits/{toolkitId}"
            | "/vdbs/{vdbId}",
        ) => Ok((200, Some(Value::Object(find::shown(dct, kind, call.param(0))?.clone())))),
        (_, path) if path.starts_with("/environments") => environments::serve(dct, call),
        (_, path) if path.starts_with("/snapshots") => snapshots::serve(dct, call),
        (_, path) if path.starts_with("/bookmarks") => bookmarks::serve(dct, call),
        (_, path) if path.starts_with("/jobs") => job(dct, call),
        (_, "/vdbs/{vdbId}/bookmarks" | "/vdbs/{vdbId}/bookmarks/search") => {
            find::shown(dct, Kind::Vdb, call.param(0))?;
            let id = call.param(0).to_owned();
            list(dct, call, Kind::Bookmark, move |doc| {
                let ids = doc.get("vdb_ids").and_then(Value::as_array);
                ids.is_some_and(|ids| ids.iter().any(|v| v.as_str() == Some(&id)))
            })
        }
        (_, path) if path.contains("/snapshots") => snapshots::of_dataset(dct, call, kind),
        (_, "/vdbs/empty_vdb") => provision::empty(dct, call),
        (_, "/vdbs/provision_by_snapshot") => provision::by_snapshot(dct, call),
        (_, "/vdbs/provision_by_timestamp") => provision::by_timestamp(dct, call),
        (_, "/vdbs/provision_from_bookmark") => provision::from_bookmark(dct, call),
        (_, path) if path.starts_with("/vdbs/{vdbId}/re") || path.starts_with("/vdbs/{vdbId}/ro") => {
            points::serve(dct, call)
        }
        (_, "/vdbs/{vdbId}/undo_refresh" | "/vdbs/{vdbId}/switch_timeflow") => points::serve(dct, call),
        (_, path) if path.starts_with("/vdbs") || path.starts_with("/dsources") => {
            vdbs::serve(dct, call, kind)
        }
        _ => Err(not_simulated(call)),
    }
}

fn list(dct: &Dct, call: &Call, kind: Kind, of: impl Fn(&Doc) -> bool) -> Reply {
    let docs = dct.world.all_seen(kind).into_iter().filter(|doc| of(doc)).collect();
    Ok((200, Some(page(call, kind.model(), docs)?)))
}

fn job(dct: &mut Dct, call: &Call) -> Reply {
    let doc = find::shown(dct, Kind::Job, call.param(0))?;
    match call.op.path.as_str() {
        "/jobs/{jobId}/result" => {
            let mut answer = Doc::new();
            answer.insert("job_id".to_owned(), call.param(0).into());
            for field in ["result", "result_type"] {
                answer.extend(doc.get(field).map(|v| (field.to_owned(), v.clone())));
            }
            Ok((200, Some(Value::Object(answer))))
        }
        "/jobs/{jobId}/abandon" => {
            let status = text(doc, "status").unwrap_or_default();
            if dct.abandon(call.param(0)) {
                return Ok((200, None));
            }
            Err(Refused::bad(format!("job {} is {status} and cannot be abandoned", call.param(0))))
        }
        _ => Err(not_simulated(call)),
    }
}

fn not_simulated(call: &Call) -> Refused {
    Refused::new(501, format!("{} is not simulated", call.op.name))
}
