//! Provisioning: a new VDB from a snapshot, a time, a bookmark, or from nothing.

use serde_json::{Value, json};

use super::{find, points};
use crate::actions::Action;
use crate::dct::Dct;
use crate::http::{Call, Refused, Reply};
use crate::world::{Doc, Kind, doc, flag, text};

pub(super) fn by_snapshot(dct: &mut Dct, call: &Call) -> Reply {
    let snapshot = match (call.text("snapshot_id"), call.text("source_data_id")) {
        (Some(id), source) => {
            let snapshot = find::shown(dct, Kind::Snapshot, id)?.clone();
            if let Some(source) = source
                && text(&snapshot, "dataset_id").as_ref() != Some(&find::dataset(dct, source)?.1)
            {
                return Err(Refused::bad(format!("snapshot {id} is not of {source}")));
            }
            snapshot
        }
        (None, Some(source)) => find::newest(dct, &find::dataset(dct, source)?.1, None, None)?,
        (None, None) => return Err(Refused::bad("snapshot_id or source_data_id is needed")),
    };
    start(dct, call, Some(snapshot), "VDB_PROVISION_BY_SNAPSHOT")
}

pub(super) fn by_timestamp(dct: &mut Dct, call: &Call) -> Reply {
    let (_, source) = find::dataset(dct, call.text("source_data_id").unwrap_or_default())?;
    let snapshot = find::newest(dct, &source, points::point(call)?.as_deref(), call.text("timeflow_id"))?;
    start(dct, call, Some(snapshot), "VDB_PROVISION_BY_TIMESTAMP")
}

pub(super) fn from_bookmark(dct: &mut Dct, call: &Call) -> Reply {
    let mark = call.text("bookmark_id").unwrap_or_default();
    let held = points::marked(dct, mark)?;
    let mut of_vdbs = held.into_iter().filter(|s| {
        let of = text(s, "dataset_id").unwrap_or_default();
        dct.world.truth(Kind::Vdb, &of).is_some()
    });
    let (Some(one), None) = (of_vdbs.next(), of_vdbs.next()) else {
        return Err(Refused::bad(format!("bookmark {mark} is not of exactly one VDB")));
    };
    start(dct, call, Some(one), "VDB_PROVISION_FROM_BOOKMARK")
}

pub(super) fn empty(dct: &mut Dct, call: &Call) -> Reply {
    start(dct, call, None, "VDB_PROVISION_EMPTY")
}

fn start(dct: &mut Dct, call: &Call, snapshot: Option<Doc>, job_type: &str) -> Reply {
    let engine = match (&snapshot, call.text("engine_id")) {
        (Some(snapshot), None) => text(snapshot, "engine_id").unwrap_or_default(),
        (_, Some(wanted)) => find::id(dct, Kind::Engine, wanted, None)?,
        (None, None) => match place_engine(dct, call)? {
            Some(engine) => engine,
            None => return Err(Refused::bad("engine_id, environment_id or repository_id is needed")),
        },
    };
    if snapshot.as_ref().is_some_and(|s| text(s, "engine_id").as_ref() != Some(&engine)) {
        return Err(Refused::bad(format!("the source is not on engine {engine}")));
    }
    let source = snapshot.as_ref().and_then(|s| text(s, "dataset_id"));
    let source = source.map(|id| source_of(dct, &id)).unwrap_or_default();
    let (env, repository) = place(dct, call, &engine, text(&source, "toolkit_id").as_deref())?;
    let group = match call.text("target_group_id") {
        Some(wanted) => find::id(dct, Kind::Group, wanted, Some(&engine))?,
        // Documented as a random one; the first is as random as any, and can be tested.
        None => {
            let mut all = dct.world.all_seen(Kind::Group).into_iter();
            let first = all.find(|g| text(g, "engine_id").as_ref() == Some(&engine));
            first.and_then(|g| text(g, "id")).ok_or_else(|| Refused::bad("the engine has no group"))?
        }
    };
    if let Some(mount) = call.text("mount_point").filter(|m| !m.starts_with('/')) {
        return Err(Refused::bad(format!("mount_point is not absolute: {mount:?}")));
    }
    let id = dct.world.next_id(&engine, "APPDATA_CONTAINER");
    let number = id.rsplit('-').next().unwrap_or_default().to_owned();
    let default = format!("{}_{number}", text(&source, "name").unwrap_or_else(|| "vdb".to_owned()));
    let name = call.text("name").map_or(default, str::to_owned);
    let is_vdb = text(&source, "id").is_some_and(|id| dct.world.seen(Kind::Vdb, &id).is_some());
    let parent = text(&source, "id");
    let (dsource, root) = if is_vdb {
        (text(&source, "parent_dsource_id"), text(&source, "root_parent_id").or_else(|| parent.clone()))
    } else {
        (parent.clone(), parent.clone())
    };
    let place_name = |kind: Kind, id: &str| dct.world.text(kind, id, "name");
    let vdb = doc(json!({
        "id": id, "name": name, "engine_id": engine, "engine_name": place_name(Kind::Engine, &engine),
        "environment_id": env, "environment_name": place_name(Kind::Environment, &env),
        "repository_id": text(&repository, "id"), "group_name": place_name(Kind::Group, &group),
        "database_type": "Unstructured Files", "is_appdata": true, "toolkit_id": repository.get("toolkit_id"),
        "plugin_version": "1.0.0", "database_name": call.text("database_name"), "mount_point": call.text("mount_point"),
        "appdata_source_params": call.body.get("appdata_source_params").cloned().unwrap_or_else(|| json!({})),
        "appdata_config_params": call.body.get("appdata_config_params").cloned().unwrap_or_else(|| json!({})),
        "additional_mount_points": call.body.get("additional_mount_points"),
        "parent_id": parent, "parent_name": source.get("name"), "root_parent_id": root,
        "parent_dsource_id": dsource, "is_replica": false, "is_locked": false,
        "masked": call.flag("masked", false), "vdb_restart": call.body.get("vdb_restart"), "content_type": "NON_CDB",
        "tags": call.body.get("tags").cloned().unwrap_or_else(|| json!([])), "size": 0, "storage_size": 0,
    }));
    let snapshot = snapshot.and_then(|s| text(&s, "id"));
    let container = call.flag("container_mode", false);
    let action = Action::Provision { vdb: id.clone(), doc: vdb, snapshot, container };
    let job = dct.start_job(job_type, (Kind::Vdb, id.clone()), &name, action);
    Ok((200, Some(json!({ "job": job, "vdb_id": id }))))
}

fn source_of(dct: &Dct, id: &str) -> Doc {
    let found = dct.world.seen(Kind::Dsource, id).or_else(|| dct.world.seen(Kind::Vdb, id));
    found.cloned().unwrap_or_default()
}

/// The engine of the environment or repository that a call names.
fn place_engine(dct: &Dct, call: &Call) -> Result<Option<String>, Refused> {
    if let Some(env) = call.text("environment_id") {
        let id = find::id(dct, Kind::Environment, env, None)?;
        return Ok(text(find::shown(dct, Kind::Environment, &id)?, "engine_id"));
    }
    let Some(wanted) = call.text("repository_id") else { return Ok(None) };
    let mut all = dct.world.all_seen(Kind::Environment).into_iter();
    Ok(all.find(|env| repositories(env).any(|r| is(r, wanted))).and_then(|env| text(env, "engine_id")))
}

/// Environment and repository: as named, or by the other of the two, or any that fits if that is asked for.
fn place(dct: &Dct, call: &Call, engine: &str, toolkit: Option<&str>) -> Result<(String, Doc), Refused> {
    let (env, repository) = (call.text("environment_id"), call.text("repository_id"));
    let auto = call.flag("auto_select_repository", false);
    if env.is_none() && repository.is_none() && !auto {
        return Err(Refused::bad("environment_id, repository_id or auto_select_repository is needed"));
    }
    let env = env.map(|e| find::id(dct, Kind::Environment, e, Some(engine))).transpose()?;
    let all = dct.world.all_seen(Kind::Environment).into_iter();
    let here = all.filter(|e| text(e, "engine_id").as_deref() == Some(engine));
    let here = here.filter(|e| env.is_none() || text(e, "id") == env);
    let fits = |r: &&Doc| match repository {
        Some(wanted) => is(r, wanted),
        None => {
            flag(r, "allow_provisioning")
                && (toolkit.is_none() || text(r, "toolkit_id").as_deref() == toolkit)
        }
    };
    let mut found = here.flat_map(|e| repositories(e).filter(fits).map(move |r| (e, r)));
    let Some((env, found)) = found.next() else {
        return Err(match repository {
            Some(wanted) => Refused::gone("repository", wanted),
            None => Refused::bad("no repository there fits the source"),
        });
    };
    if !flag(found, "allow_provisioning") {
        return Err(Refused::bad(format!("repository {} does not allow provisioning", found["id"])));
    }
    if toolkit.is_some() && text(found, "toolkit_id").as_deref() != toolkit {
        return Err(Refused::bad(format!("repository {} does not fit the source's toolkit", found["id"])));
    }
    Ok((text(env, "id").unwrap_or_default(), found.clone()))
}

fn repositories(env: &Doc) -> impl Iterator<Item = &Doc> {
    env.get("repositories").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_object)
}

fn is(repository: &Doc, wanted: &str) -> bool {
    ["id", "name"].iter().any(|field| text(repository, field).as_deref() == Some(wanted))
}
