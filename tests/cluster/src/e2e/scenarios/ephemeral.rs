//! Volumes that belong to a pod.

use std::rc::Rc;

use anyhow::{Result, ensure};
use serde_json::json;

use crate::objects::{CLAIM, POD};
use crate::setup::{DRIVER, Env};
use crate::space::{Claim, Pod, Space};

pub(crate) async fn inline(space: Rc<Space>) -> Result<()> {
    for node in Env::nodes() {
        let volume = json!({"csi": {"driver": DRIVER, "fsType": "ext4", "volumeAttributes": {"pool": "fast", "size": "64Mi"}}});
        space.start(Pod::new(node).volume(volume, "/data").on(node)).await?;
        let mib: u64 = space
            .exec(node, "echo here >/data/file; df -m /data | tail -n 1 | awk '{print $2}'")
            .await?
            .parse()?;
        ensure!((40..=64).contains(&mib), "an inline volume of 64 MiB has {mib}");
        space.remove(POD, node).await?;
        // A new pod of the same name has a new volume.
        let volume = json!({"csi": {"driver": DRIVER, "volumeAttributes": {"pool": "fast"}}});
        space.start(Pod::new(node).volume(volume, "/data").on(node)).await?;
        let files = space.exec(node, "ls /data").await?;
        ensure!(!files.contains("file"), "it holds {files}");
        space.remove(POD, node).await?;
    }
    // A parameter that there is not is said at the pod.
    let volume = json!({"csi": {"driver": DRIVER, "volumeAttributes": {"sise": "64Mi"}}});
    space.make(Pod::new("wrong").volume(volume, "/data").object()).await?;
    space.told("wrong", &["sise"]).await.map(|_| ())
}

pub(crate) async fn generic(space: Rc<Space>) -> Result<()> {
    let claim = |class: &str| {
        json!({"ephemeral": {"volumeClaimTemplate": {"spec": {"accessModes": ["ReadWriteOnce"],
        "storageClassName": class, "resources": {"requests": {"storage": "64Mi"}}}}}})
    };
    space.start(Pod::new("user").volume(claim("e2e"), "/data").volume(claim("e2e-now"), "/more")).await?;
    space.exec("user", "echo here | tee /data/file /more/file; sync").await?;
    space.remove(POD, "user").await?;
    space.gone(CLAIM, "user-v0").await?;
    space.gone(CLAIM, "user-v1").await?;
    // A claim of that name that is not the pod's is not taken.
    space.claim(Claim::new("other-v0", "e2e", "64Mi")).await?;
    space.make(Pod::new("other").volume(claim("e2e"), "/data").object()).await?;
    space.told("other", &["not created for pod"]).await.map(|_| ())
}
