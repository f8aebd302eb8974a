//! What a simulated DCT has before anybody asks it for anything: an engine, an environment with a host, groups, a dSource.

use std::fs;

use serde_json::json;

use crate::clock;
use crate::dct::Dct;
use crate::world::{Doc, Kind, doc};

/// Ids of what one engine was seeded with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seeded {
    /// The engine.
    pub engine: String,
    /// The environment.
    pub environment: String,
    /// Its host.
    pub host: String,
    /// Its repository.
    pub repository: String,
    /// The first of two groups.
    pub group: String,
    /// The dSource, with one snapshot.
    pub dsource: String,
    /// That snapshot.
    pub snapshot: String,
}

/// Adds one more engine with everything a driver needs. The dSource holds three small files.
pub(crate) fn engine(dct: &mut Dct, hostname: &str) -> Result<Seeded, String> {
    let engine = dct.world.next("engine").to_string();
    let name = format!("engine{engine}");
    dct.world.add_shown(Kind::Engine, &engine, doc(json!({
        "id": engine, "uuid": format!("564d0000-0000-0000-0000-{engine:0>12}"), "name": name, "hostname": hostname,
        "version": "2026.2.0.0", "type": "VIRTUALIZATION", "status": "CREATED", "connection_status": "ONLINE",
        "engine_connection_status": "ONLINE", "data_storage_capacity": 1_u64 << 40, "data_storage_used": 1_u64 << 34,
        "using_object_storage": false, "insecure_ssl": false, "cpu_core_count": 8, "memory_size": 1_u64 << 36, "tags": [],
    })));
    let toolkit = dct.world.next_id(&engine, "APPDATA_TOOLKIT");
    dct.world.add_shown(Kind::Toolkit, &toolkit, doc(json!({
        "id": toolkit, "name": null, "identifier": "unstructured-files", "pretty_name": "Unstructured files",
        "engine_id": engine, "engine_name": name, "status": "ACTIVE", "type": "Toolkit", "version": "1.0.0",
        "host_types": ["UNIX"], "tags": [], "virtual_source_definition": {"parameters": {}},
    })));
    let group = groups(dct, &engine, &name);
    let environment = dct.world.next_id(&engine, "UNIX_HOST_ENVIRONMENT");
    let host = dct.world.next_id(&engine, "UNIX_HOST");
    let repository = dct.world.next_id(&engine, "APPDATA_REPOSITORY");
    dct.world.add_shown(Kind::Environment, &environment, doc(json!({
        "id": environment, "name": format!("surrogate{engine}"), "engine_id": engine, "engine_name": name,
        "enabled": true, "is_cluster": false, "is_windows_target": false, "os_type": "UNIX", "is_replica": false,
        "hosts": [{"id": host, "hostname": format!("surrogate{engine}.example"), "nfs_addresses": [],
            "os_name": "Linux", "available": true, "ssh_port": 22, "toolkit_path": "/opt/toolkit"}],
        "repositories": [{"id": repository, "name": "Unstructured files", "database_type": "Unstructured Files",
            "allow_provisioning": true, "is_staging": true, "toolkit_id": toolkit, "version": "1.0.0"}],
        "env_users": [{"user_ref": format!("{engine}-HOST_USER-1"), "username": "delphix", "primary_user": true,
            "auth_type": "PasswordCredential"}],
        "tags": [],
    })));
    let source = dct.world.next_id(&engine, "APPDATA_STAGED_SOURCE_CONFIG");
    dct.world.add_shown(Kind::Source, &source, doc(json!({
        "id": source, "name": "demo", "environment_id": environment, "repository": repository, "toolkit_id": toolkit,
        "is_dsource": true, "database_type": "Unstructured Files", "linking_enabled": true, "tags": [],
    })));
    let (dsource, snapshot) = dsource(dct, &engine, &name, "demo", &toolkit, &source)?;
    Ok(Seeded { engine, environment, host, repository, group, dsource, snapshot })
}

fn groups(dct: &mut Dct, engine: &str, engine_name: &str) -> String {
    let mut first = None;
    for name in ["Untitled", "Kubernetes"] {
        let id = dct.world.next_id(engine, "GROUP");
        let group = json!({"id": id, "name": name, "engine_id": engine, "engine_name": engine_name});
        dct.world.add_shown(Kind::Group, &id, doc(group));
        first.get_or_insert(id);
    }
    first.unwrap_or_default()
}

/// A dSource with a small tree and one snapshot of it.
fn dsource(
    dct: &mut Dct,
    engine: &str,
    engine_name: &str,
    name: &str,
    toolkit: &str,
    source: &str,
) -> Result<(String, String), String> {
    let id = dct.world.next_id(engine, "APPDATA_CONTAINER");
    let flow = dct.world.next_id(engine, "APPDATA_TIMEFLOW");
    let number = |id: &str| id.rsplit('-').next().unwrap_or_default().to_owned();
    let path = format!(
        "domain0/group-1/appdata_container-{}/appdata_timeflow-{}/datafile",
        number(&id),
        number(&flow)
    );
    let dir = dct.store.live(engine, &path);
    dct.store.make(&dir.join("data"))?;
    for (file, text) in [("README", "demo data\n"), ("data/rows", "1\n2\n3\n"), ("data/empty", "")] {
        fs::write(dir.join(file), text).map_err(|e| format!("{file} cannot be written: {e}"))?;
    }
    let now = clock::text(dct.world.now);
    let timeflow = json!({"id": flow, "name": "default", "dataset_id": id, "engine_id": engine, "is_active": true,
        "creation_type": "INITIAL", "creation_timestamp": now, "tags": []});
    dct.world.add(Kind::Timeflow, &flow, doc(timeflow), doc(json!({"path": path})));
    let dsource: Doc = doc(json!({
        "id": id, "name": name, "engine_id": engine, "engine_name": engine_name, "group_name": "Untitled",
        "database_type": "Unstructured Files", "is_appdata": true, "enabled": true, "status": "RUNNING",
        "toolkit_id": toolkit, "plugin_version": "1.0.0", "current_timeflow_id": flow, "source_id": source,
        "source_name": name, "creation_date": now, "exported_data_directory": path, "storage_size": 4096,
        "is_replica": false, "is_detached": false, "tags": [],
    }));
    dct.world.add(Kind::Dsource, &id, dsource, Doc::new());
    let snapshot = dct.take_snapshot(Kind::Dsource, &id)?;
    // Without a wish of its own the first retention run would leave the demo without a source.
    dct.world.set(Kind::Snapshot, &snapshot, "retain_forever", true);
    dct.reckon_keep(&snapshot);
    dct.world.sync_touched();
    Ok((id, snapshot))
}
