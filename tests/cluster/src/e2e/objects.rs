//! Objects of the API server as plain JSON.
//!
//! Scenarios write and read what a person would write and read in YAML. Types of Rust would add nothing to that: the objects come from
//! six API groups, of which three are custom resources.

use anyhow::{Context, Result, anyhow};
use http::Request;
use http::request::Builder;
use kube::Client;
use serde_json::{Value, json};

/// A kind of object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Kind {
    /// As `kind` says it.
    pub(crate) name: &'static str,
    /// As `apiVersion` says it.
    pub(crate) api: &'static str,
    /// As a path says it.
    pub(crate) plural: &'static str,
    /// Whether its objects belong to a namespace.
    pub(crate) namespaced: bool,
}

macro_rules! kinds {
    ($($constant:ident = $name:literal $plural:literal in $api:literal, namespaced $namespaced:literal;)*) => {
        $(
            #[doc = concat!("The kind `", $name, "`.")]
            pub(crate) const $constant: Kind = Kind { name: $name, api: $api, plural: $plural, namespaced: $namespaced };
        )*
        const KINDS: &[Kind] = &[$($constant),*];
    };
}

kinds! {
    NAMESPACE = "Namespace" "namespaces" in "v1", namespaced false;
    NODE = "Node" "nodes" in "v1", namespaced false;
    POD = "Pod" "pods" in "v1", namespaced true;
    EVENT = "Event" "events" in "v1", namespaced true;
    SECRET = "Secret" "secrets" in "v1", namespaced true;
    CLAIM = "PersistentVolumeClaim" "persistentvolumeclaims" in "v1", namespaced true;
    VOLUME = "PersistentVolume" "persistentvolumes" in "v1", namespaced false;
    DEPLOYMENT = "Deployment" "deployments" in "apps/v1", namespaced true;
    DAEMON_SET = "DaemonSet" "daemonsets" in "apps/v1", namespaced true;
    STORAGE_CLASS = "StorageClass" "storageclasses" in "storage.k8s.io/v1", namespaced false;
    CAPACITY = "CSIStorageCapacity" "csistoragecapacities" in "storage.k8s.io/v1", namespaced true;
    ATTRIBUTES_CLASS = "VolumeAttributesClass" "volumeattributesclasses" in "storage.k8s.io/v1", namespaced false;
    CSI_NODE = "CSINode" "csinodes" in "storage.k8s.io/v1", namespaced false;
    SNAPSHOT = "VolumeSnapshot" "volumesnapshots" in "snapshot.storage.k8s.io/v1", namespaced true;
    CONTENT = "VolumeSnapshotContent" "volumesnapshotcontents" in "snapshot.storage.k8s.io/v1", namespaced false;
    GROUP = "VolumeGroupSnapshot" "volumegroupsnapshots" in "groupsnapshot.storage.k8s.io/v1", namespaced true;
    GROUP_CONTENT = "VolumeGroupSnapshotContent" "volumegroupsnapshotcontents" in "groupsnapshot.storage.k8s.io/v1", namespaced false;
}

impl Kind {
    fn path(&self, namespace: &str, name: &str) -> String {
        let root = if self.api.contains('/') { "/apis" } else { "/api" };
        let mut path = format!("{root}/{}", self.api);
        if self.namespaced && !namespace.is_empty() {
            path = format!("{path}/namespaces/{namespace}");
        }
        let slash = if name.is_empty() { "" } else { "/" };
        format!("{path}/{}{slash}{name}", self.plural)
    }
}

/// A client of the API server.
#[derive(Clone)]
pub(crate) struct Objects(Client);

impl Objects {
    /// A client with the rights of another.
    pub(crate) fn new(client: Client) -> Self {
        Self(client)
    }

    /// One object; `None` if it is not there. `namespace` is empty for kinds without one.
    ///
    /// # Errors
    /// If the API server refuses, or does not answer.
    pub(crate) async fn get(&self, kind: Kind, namespace: &str, name: &str) -> Result<Option<Value>> {
        self.send(Request::get(kind.path(namespace, name)), None).await
    }

    /// All objects of a kind, in a namespace, or everywhere if it is empty.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub(crate) async fn list(&self, kind: Kind, namespace: &str) -> Result<Vec<Value>> {
        let list = self.send(Request::get(kind.path(namespace, "")), None).await?;
        let items = list.and_then(|mut list| list.get_mut("items").map(Value::take));
        Ok(items.and_then(|items| items.as_array().cloned()).unwrap_or_default())
    }

    /// Makes an object.
    ///
    /// # Errors
    /// If its kind is unknown, it is there already, or as [`Self::get`].
    pub(crate) async fn create(&self, object: &Value) -> Result<Value> {
        let (kind, namespace) = (kind_of(object)?, text(object, "/metadata/namespace"));
        let path = kind.path(&namespace, "");
        let made = self.send(Request::post(path), Some(("application/json", object))).await?;
        made.with_context(|| format!("namespace {namespace} is not there"))
    }

    /// Changes an object by a merge patch.
    ///
    /// # Errors
    /// If it is not there, or as [`Self::get`].
    pub(crate) async fn patch(
        &self,
        kind: Kind,
        namespace: &str,
        name: &str,
        patch: &Value,
    ) -> Result<Value> {
        let path = kind.path(namespace, name);
        let changed = self.send(Request::patch(path), Some(("application/merge-patch+json", patch))).await?;
        changed.with_context(|| format!("{} {name} is not there", kind.name))
    }

    /// Deletes an object, or nothing if it is not there. `grace` in seconds replaces the object's own.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub(crate) async fn delete(
        &self,
        kind: Kind,
        namespace: &str,
        name: &str,
        grace: Option<u32>,
    ) -> Result<()> {
        let options = json!({"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": grace, "propagationPolicy": "Background"});
        let path = kind.path(namespace, name);
        self.send(Request::delete(path), Some(("application/json", &options))).await.map(|_| ())
    }

    async fn send(&self, request: Builder, body: Option<(&str, &Value)>) -> Result<Option<Value>> {
        let request = match body {
            Some((kind, body)) => request.header("content-type", kind).body(serde_json::to_vec(body)?)?,
            None => request.body(Vec::new())?,
        };
        let what = format!("{} {}", request.method(), request.uri());
        match self.0.request::<Value>(request).await {
            Ok(value) => Ok(Some(value)),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
            Err(kube::Error::Api(status)) => Err(anyhow!("{what}: {}", status.message)),
            Err(error) => Err(error).context(what),
        }
    }
}

fn kind_of(object: &Value) -> Result<Kind> {
    let name = text(object, "/kind");
    let found = KINDS.iter().find(|kind| kind.name == name).copied();
    found.with_context(|| format!("kind {name} is not in the list"))
}

/// The text at a place of an object, such as `/status/phase`; empty if there is none.
pub(crate) fn text(object: &Value, pointer: &str) -> String {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// The name of an object.
pub(crate) fn name(object: &Value) -> String {
    text(object, "/metadata/name")
}

/// The reason and message of a condition, if it has a status.
pub(crate) fn condition(object: &Value, kind: &str, status: &str) -> Option<String> {
    let all = object.pointer("/status/conditions")?.as_array()?;
    let found = all.iter().find(|one| one["type"] == kind && one["status"] == status)?;
    Some(format!("{}: {}", text(found, "/reason"), text(found, "/message")))
}

/// A quantity such as `1Gi` in bytes; `None` if it is none.
pub(crate) fn bytes(quantity: &str) -> Option<u64> {
    let digits = quantity.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let factor = match &quantity[digits.len()..] {
        "" => 1,
        "Ki" => 1 << 10,
        "Mi" => 1 << 20,
        "Gi" => 1 << 30,
        "k" => 1_000,
        "M" => 1_000_000,
        "G" => 1_000_000_000,
        _ => return None,
    };
    Some(digits.parse::<u64>().ok()? * factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_those_of_the_api_server() {
        fn check(kind: Kind, namespace: &str, name: &str, expect: &str) {
            assert_eq!(kind.path(namespace, name), expect);
        }
        check(POD, "a", "b", "/api/v1/namespaces/a/pods/b");
        check(POD, "", "", "/api/v1/pods");
        check(VOLUME, "", "x", "/api/v1/persistentvolumes/x");
        check(CAPACITY, "a", "", "/apis/storage.k8s.io/v1/namespaces/a/csistoragecapacities");
    }

    #[test]
    fn quantities_are_bytes() {
        fn check(quantity: &str, expect: Option<u64>) {
            assert_eq!(bytes(quantity), expect);
        }
        check("512Mi", Some(512 << 20));
        check("1Gi", Some(1 << 30));
        check("1073741824", Some(1 << 30));
        check("10240Ki", Some(10 << 20));
        check("much", None);
    }
}
