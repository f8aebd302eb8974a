//! Claims and pods, as scenarios describe them before they are made.

use serde_json::{Value, json};

/// The last line of a script's log: without it the log is not whole.
pub(crate) const END: &str = "(end)";

/// A claim to be made.
#[derive(Debug, Clone)]
pub(crate) struct Claim(Value);

impl Claim {
    /// A filesystem for one node.
    #[must_use]
    pub(crate) fn new(name: &str, class: &str, size: &str) -> Self {
        Self(json!({
            "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name, "labels": {}},
            "spec": {"storageClassName": class, "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}},
        }))
    }

    /// A raw device instead of a filesystem.
    #[must_use]
    pub(crate) fn block(self) -> Self {
        self.with("volumeMode", json!("Block"))
    }

    /// With the content of a snapshot.
    #[must_use]
    pub(crate) fn of_snapshot(self, snapshot: &str) -> Self {
        self.with(
            "dataSource",
            json!({"apiGroup": "snapshot.storage.k8s.io", "kind": "VolumeSnapshot", "name": snapshot}),
        )
    }

    /// With the content of another claim.
    #[must_use]
    pub(crate) fn of_claim(self, claim: &str) -> Self {
        self.with("dataSource", json!({"kind": "PersistentVolumeClaim", "name": claim}))
    }

    /// With the label that group snapshots select by.
    #[must_use]
    pub(crate) fn in_group(mut self, group: &str) -> Self {
        self.0["metadata"]["labels"]["group"] = json!(group);
        self
    }

    /// With a field of the spec.
    #[must_use]
    pub(crate) fn with(mut self, field: &str, value: Value) -> Self {
        self.0["spec"][field] = value;
        self
    }

    /// The object.
    #[must_use]
    pub(crate) fn object(self) -> Value {
        self.0
    }
}

/// A pod of one container to be made.
#[derive(Debug, Clone)]
pub(crate) struct Pod(Value);

impl Pod {
    /// It does nothing, for as long as it is let.
    #[must_use]
    pub(crate) fn new(name: &str) -> Self {
        let idle = "trap 'exit 0' TERM; while :; do sleep 60 & wait $!; done";
        Self(json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
            "spec": {
                "terminationGracePeriodSeconds": 1, "automountServiceAccountToken": false, "enableServiceLinks": false,
                "containers": [{
                    "name": "main", "image": "localhost/offshoot-test/busybox:1", "imagePullPolicy": "Never",
                    "command": ["sh", "-c", idle], "volumeMounts": [], "volumeDevices": [],
                }],
                "volumes": [],
            },
        }))
    }

    /// It runs a script once. The last line of its log is [`END`].
    #[must_use]
    pub(crate) fn script(self, script: &str) -> Self {
        // A container that ends while containerd still starts it may lose its last lines (containerd says "shim disconnected").
        let script = format!("trap 'echo \"{END}\"; sleep 0.3' EXIT\n{script}");
        self.container("command", json!(["sh", "-ec", script])).with("restartPolicy", json!("Never"))
    }

    /// A claim's filesystem at a path.
    #[must_use]
    pub(crate) fn claim(self, claim: &str, path: &str) -> Self {
        self.volume(json!({"persistentVolumeClaim": {"claimName": claim}}), path)
    }

    /// A claim's device at a path.
    #[must_use]
    pub(crate) fn device(mut self, claim: &str, path: &str) -> Self {
        let name = self.add(json!({"persistentVolumeClaim": {"claimName": claim}}));
        push(
            &mut self.0["spec"]["containers"][0]["volumeDevices"],
            json!({"name": name, "devicePath": path}),
        );
        self
    }

    /// A volume of any kind at a path.
    #[must_use]
    pub(crate) fn volume(mut self, volume: Value, path: &str) -> Self {
        let name = self.add(volume);
        push(&mut self.0["spec"]["containers"][0]["volumeMounts"], json!({"name": name, "mountPath": path}));
        self
    }

    /// Only on one node.
    #[must_use]
    pub(crate) fn on(self, node: &str) -> Self {
        self.with("nodeSelector", json!({"kubernetes.io/hostname": node}))
    }

    /// With a field of the spec.
    #[must_use]
    pub(crate) fn with(mut self, field: &str, value: Value) -> Self {
        self.0["spec"][field] = value;
        self
    }

    /// With a field of the container.
    #[must_use]
    pub(crate) fn container(mut self, field: &str, value: Value) -> Self {
        self.0["spec"]["containers"][0][field] = value;
        self
    }

    /// A pod written down elsewhere.
    #[must_use]
    pub(crate) fn of(object: Value) -> Self {
        Self(object)
    }

    /// The object.
    #[must_use]
    pub(crate) fn object(self) -> Value {
        self.0
    }

    fn add(&mut self, mut volume: Value) -> String {
        let volumes = &mut self.0["spec"]["volumes"];
        let name = format!("v{}", volumes.as_array().map_or(0, Vec::len));
        volume["name"] = json!(name);
        push(volumes, volume);
        name
    }
}

fn push(list: &mut Value, item: Value) {
    if let Some(list) = list.as_array_mut() {
        list.push(item);
    }
}
