//! What happens to a DCT besides the requests of the driver: people and other programs change things, engines go away.
//!
//! These changes are made at once and show at once; nothing of theirs is a job.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::dct::Dct;
use crate::world::{Kind, flag, text};

/// Something somebody else does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case", deny_unknown_fields)]
pub enum Admin {
    /// Deletes an object with all that depends on it.
    Delete {
        /// What it is.
        kind: Kind,
        /// Its id.
        id: String,
    },
    /// Gives an object another name.
    Rename {
        /// What it is.
        kind: Kind,
        /// Its id.
        id: String,
        /// The new name.
        name: String,
    },
    /// Enables a VDB, a dSource or an environment.
    Enable {
        /// What it is.
        kind: Kind,
        /// Its id.
        id: String,
    },
    /// Disables a VDB, a dSource or an environment.
    Disable {
        /// What it is.
        kind: Kind,
        /// Its id.
        id: String,
    },
    /// Locks or unlocks a VDB.
    Lock {
        /// Its id.
        vdb: String,
        /// Whether it is locked from now on.
        locked: bool,
    },
    /// Replaces the addresses that may mount, on every host of an environment.
    Addresses {
        /// The environment.
        environment: String,
        /// All addresses from now on.
        addresses: Vec<String>,
    },
    /// An engine goes away or comes back; its hosts with it.
    Engine {
        /// Its id.
        id: String,
        /// Whether it is there from now on.
        online: bool,
    },
    /// Retention deletes every snapshot that nothing keeps, whatever its age.
    Retention,
}

/// Does it.
pub(crate) fn apply(dct: &mut Dct, what: Admin) -> Result<(), String> {
    let done = change(dct, what);
    dct.world.sync_touched();
    dct.save();
    done
}

fn change(dct: &mut Dct, what: Admin) -> Result<(), String> {
    match what {
        Admin::Delete { kind, id } => {
            dct.there(kind, &id)?;
            match kind {
                Kind::Vdb => dct.drop_vdb(&id, true, true),
                Kind::Snapshot => dct.drop_snapshot(&id),
                Kind::Bookmark => {
                    dct.drop_bookmark(&id);
                    Ok(())
                }
                _ => {
                    dct.world.remove(kind, &id);
                    Ok(())
                }
            }
        }
        Admin::Rename { kind, id, name } => {
            dct.there(kind, &id)?;
            dct.world.set(kind, &id, "name", name);
            Ok(())
        }
        Admin::Enable { kind, id } => switch(dct, kind, &id, true),
        Admin::Disable { kind, id } => switch(dct, kind, &id, false),
        Admin::Lock { vdb, locked } => {
            dct.there(Kind::Vdb, &vdb)?;
            dct.world.set(Kind::Vdb, &vdb, "is_locked", locked);
            Ok(())
        }
        Admin::Addresses { environment, addresses } => {
            dct.there(Kind::Environment, &environment)?;
            each_host(dct, &environment, "nfs_addresses", &json!(addresses));
            dct.export_all(Some(&environment))
        }
        Admin::Engine { id, online } => {
            dct.there(Kind::Engine, &id)?;
            let (status, now) = if online { ("ONLINE", "ONLINE") } else { ("OFFLINE", "CONNECTION_ERROR") };
            dct.world.set(Kind::Engine, &id, "connection_status", status);
            dct.world.set(Kind::Engine, &id, "engine_connection_status", now);
            for env in environments(dct, Some(&id)) {
                each_host(dct, &env, "available", &Value::Bool(online));
            }
            Ok(())
        }
        Admin::Retention => {
            let before = dct.config.retention.replace(std::time::Duration::ZERO);
            dct.retention();
            dct.config.retention = before;
            Ok(())
        }
    }
}

fn switch(dct: &mut Dct, kind: Kind, id: &str, on: bool) -> Result<(), String> {
    let container =
        dct.there(kind, id)?.get("containerization_state").is_some_and(|s| s != "NOT_CONTAINERIZED");
    match kind {
        Kind::Vdb if on => dct.enable(id, container, None),
        Kind::Vdb => dct.disable(id, container),
        _ => {
            dct.world.set(kind, id, "enabled", on);
            Ok(())
        }
    }
}

/// Appends an address to every host that has not got it: another writer, in the middle of what the driver does.
pub(crate) fn rival_address(dct: &mut Dct, address: &str) {
    for env in environments(dct, None) {
        let hosts = dct.world.truth(Kind::Environment, &env).and_then(|d| d.get("hosts").cloned());
        let first = hosts.as_ref().and_then(|h| h.get(0)?.get("nfs_addresses").cloned());
        let mut all = first.and_then(|a| a.as_array().cloned()).unwrap_or_default();
        if !all.iter().any(|a| a == address) {
            all.push(address.into());
        }
        each_host(dct, &env, "nfs_addresses", &Value::Array(all));
        dct.world.sync(Kind::Environment, &env);
        if let Err(e) = dct.export_all(Some(&env)) {
            tracing::warn!("{e}");
        }
    }
}

fn environments(dct: &Dct, engine: Option<&str>) -> Vec<String> {
    let all = dct.world.all_true(Kind::Environment).into_iter();
    let of = all.filter(|d| engine.is_none() || text(d, "engine_id").as_deref() == engine);
    of.filter(|d| flag(d, "enabled")).filter_map(|d| text(d, "id")).collect()
}

fn each_host(dct: &mut Dct, env: &str, field: &str, value: &Value) {
    dct.world.edit(Kind::Environment, env, |doc| {
        for host in doc.get_mut("hosts").and_then(Value::as_array_mut).into_iter().flatten() {
            if let Some(host) = host.as_object_mut() {
                host.insert(field.to_owned(), value.clone());
            }
        }
    });
}
