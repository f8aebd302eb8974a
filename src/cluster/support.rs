//! What somebody who helps from afar needs to see.
//!
//! Logs, objects and events of the driver, so that nobody has to ask for them one by one. What it must never hold is a
//! secret: no Secret is read, values of environment variables and the copy of a whole manifest that kubectl keeps in an
//! annotation are taken out wherever they stand. What could not be read is named, and the rest is there.

use std::collections::BTreeMap;

use kube::Api;
use kube::api::{ApiResource, DynamicObject, ListParams, LogParams};
use kube::core::GroupVersionKind;
use serde_json::Value;

use super::access::Access;
use super::driver::{AGENT, CONTROLLER, controllers};
use super::kinds::told;

/// Lines of each log.
const LINES: i64 = 5000;

/// What stands for what was taken out.
const REMOVED: &str = "(removed)";

/// Files of a bundle, by their names.
pub type Files = BTreeMap<String, String>;

/// The kinds of object, each with whether all of them are wanted or only what names the driver.
const KINDS: [(&str, &str, &str, &str, Scope); 18] = [
    ("", "v1", "Node", "nodes", Scope::All),
    ("", "v1", "PersistentVolume", "persistentvolumes", Scope::Naming),
    ("", "v1", "PersistentVolumeClaim", "persistentvolumeclaims", Scope::Naming),
    ("", "v1", "Pod", "pods", Scope::Own),
    ("", "v1", "Event", "events", Scope::Own),
    ("apps", "v1", "Deployment", "deployments", Scope::Own),
    ("apps", "v1", "DaemonSet", "daemonsets", Scope::Own),
    ("discovery.k8s.io", "v1", "EndpointSlice", "endpointslices", Scope::Own),
    ("storage.k8s.io", "v1", "CSIDriver", "csidrivers", Scope::Naming),
    ("storage.k8s.io", "v1", "CSINode", "csinodes", Scope::All),
    ("storage.k8s.io", "v1", "CSIStorageCapacity", "csistoragecapacities", Scope::Own),
    ("storage.k8s.io", "v1", "StorageClass", "storageclasses", Scope::Naming),
    ("storage.k8s.io", "v1", "VolumeAttachment", "volumeattachments", Scope::Naming),
    ("storage.k8s.io", "v1", "VolumeAttributesClass", "volumeattributesclasses", Scope::Naming),
    ("snapshot.storage.k8s.io", "v1", "VolumeSnapshotClass", "volumesnapshotclasses", Scope::Naming),
    ("snapshot.storage.k8s.io", "v1", "VolumeSnapshotContent", "volumesnapshotcontents", Scope::Naming),
    (
        "groupsnapshot.storage.k8s.io",
        "v1",
        "VolumeGroupSnapshotContent",
        "volumegroupsnapshotcontents",
        Scope::Naming,
    ),
    ("coordination.k8s.io", "v1", "Lease", "leases", Scope::Own),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scope {
    /// All of the cluster.
    All,
    /// Those that have the driver's name in them.
    Naming,
    /// Those of the driver's namespace.
    Own,
}

/// Collects everything from the API server. Never fails: what is missing is said in `missing.txt`.
pub async fn collect(access: &Access) -> Files {
    let (mut files, mut missing) = (Files::new(), Vec::new());
    let mut pods = Vec::new();
    for labels in [CONTROLLER, AGENT] {
        match controllers(access, labels).await {
            Ok(found) => pods.extend(found),
            Err(error) => missing.push(format!("pods {labels}: {error:#}")),
        }
    }
    let home = access
        .driver_namespace
        .clone()
        .or_else(|| pods.iter().find_map(|pod| pod.metadata.namespace.clone()))
        .unwrap_or_else(|| access.namespace.clone());
    for (group, version, kind, plural, scope) in KINDS {
        let resource =
            ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), plural);
        let api: Api<DynamicObject> = match scope {
            Scope::Own => Api::namespaced_with(access.client.clone(), &home, &resource),
            _ => Api::all_with(access.client.clone(), &resource),
        };
        match objects(api, &access.driver, scope).await {
            Ok(text) if text.is_empty() => {}
            Ok(text) => _ = files.insert(format!("objects/{plural}.yaml"), text),
            Err(error) => missing.push(format!("{plural}: {error:#}")),
        }
    }
    for pod in &pods {
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let api: Api<k8s_openapi::api::core::v1::Pod> = Api::namespaced(access.client.clone(), namespace);
        for container in &pod.spec.containers {
            for previous in [false, true] {
                let params = LogParams {
                    container: Some(container.name.clone()),
                    tail_lines: Some(LINES),
                    timestamps: true,
                    previous,
                    ..LogParams::default()
                };
                let suffix = if previous { ".previous" } else { "" };
                match api.logs(name, &params).await {
                    Ok(text) => _ = files.insert(format!("logs/{name}/{}{suffix}.log", container.name), text),
                    // Most containers have not been started twice.
                    Err(_) if previous => {}
                    Err(error) => missing.push(format!(
                        "{:#}",
                        told(&format!("read the log of {name}/{}", container.name), error)
                    )),
                }
            }
        }
    }
    if !missing.is_empty() {
        files.insert("missing.txt".to_owned(), missing.join("\n") + "\n");
    }
    files
}

async fn objects(api: Api<DynamicObject>, driver: &str, scope: Scope) -> anyhow::Result<String> {
    let mut documents = String::new();
    let mut params = ListParams::default().limit(500);
    loop {
        let page = match api.list(&params).await {
            Ok(page) => page,
            Err(error) if super::kinds::is_absent(&error) => return Ok(documents),
            Err(error) => return Err(told("list them", error)),
        };
        for object in page.items {
            let mut object = serde_json::to_value(object)?;
            if scope == Scope::Naming && !object.to_string().contains(driver) {
                continue;
            }
            redact(&mut object);
            documents += &format!("---\n{}", serde_saphyr::to_string(&object)?);
        }
        match page.metadata.continue_ {
            Some(token) if !token.is_empty() => params.continue_token = Some(token),
            _ => return Ok(documents),
        }
    }
}

/// Takes out what may be secret, and what nobody reads.
fn redact(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(redact),
        Value::Object(fields) => {
            fields.remove("managedFields");
            fields.remove("kubectl.kubernetes.io/last-applied-configuration");
            for key in ["data", "stringData", "binaryData"] {
                if let Some(secret) = fields.get_mut(key) {
                    *secret = Value::String(REMOVED.to_owned());
                }
            }
            for (key, field) in fields.iter_mut() {
                if let (true, Value::Array(variables)) = (key == "env", &mut *field) {
                    for variable in variables.iter_mut().filter_map(|variable| variable.get_mut("value")) {
                        *variable = Value::String(REMOVED.to_owned());
                    }
                }
                redact(field);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::testing::FakeApi;
    use serde_json::json;

    #[tokio::test]
    async fn a_bundle_has_what_helps_and_no_secret() {
        let labels =
            json!({ "app.kubernetes.io/name": "offshoot", "app.kubernetes.io/component": "controller" });
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": { "name": "controller-1", "namespace": "offshoot", "labels": labels, "annotations": {
                "kubectl.kubernetes.io/last-applied-configuration": "MARKER-1" } },
            "spec": { "containers": [{ "name": "offshoot", "image": "i", "env": [{ "name": "TOKEN", "value": "MARKER-2" }] }] },
        });
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "tls", "namespace": "offshoot" },
            "data": { "tls.key": "MARKER-3" },
        });
        let volume = |name: &str, driver: &str| {
            json!({
                "apiVersion": "v1", "kind": "PersistentVolume", "metadata": { "name": name },
                "spec": { "csi": { "driver": driver, "volumeHandle": "h" } },
            })
        };
        let api = FakeApi::with([
            pod,
            secret,
            volume("ours", "csi.offshoot.dev"),
            volume("theirs", "other.example"),
        ]);
        api.fail(http::Method::GET, "csinodes", 403);
        let files = collect(&Access::new(api.client(), "csi.offshoot.dev")).await;
        assert!(files["objects/pods.yaml"].contains("controller-1"));
        assert!(files["objects/persistentvolumes.yaml"].contains("ours"));
        assert!(!files["objects/persistentvolumes.yaml"].contains("theirs"));
        assert!(files.contains_key("logs/controller-1/offshoot.log"));
        assert!(files["missing.txt"].contains("csinodes: cannot list them"), "{}", files["missing.txt"]);
        assert!(files.values().all(|text| !text.contains("MARKER")), "{files:?}");
        assert!(api.log().iter().all(|line| !line.contains("secrets")));
    }
}
