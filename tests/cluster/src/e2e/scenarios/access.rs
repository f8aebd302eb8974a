//! Who may use a volume, and how.

use std::rc::Rc;

use anyhow::{Result, ensure};
use serde_json::json;

use crate::objects::{POD, condition};
use crate::space::{Claim, Pod, Space};

pub(crate) async fn run(space: Rc<Space>) -> Result<()> {
    one_pod(&space).await?;
    read_only(&space).await?;
    group(&space).await
}

async fn one_pod(space: &Space) -> Result<()> {
    space.claim(Claim::new("single", "e2e", "64Mi").with("accessModes", json!(["ReadWriteOncePod"]))).await?;
    space.start(Pod::new("first").claim("single", "/data")).await?;
    space.make(Pod::new("second").claim("single", "/data").object()).await?;
    let refused = space
        .becomes(POD, "second", "is refused", |pod| Ok(condition(pod, "PodScheduled", "False").is_some()))
        .await?;
    let why = condition(&refused, "PodScheduled", "False").unwrap_or_default();
    ensure!(why.contains("ReadWriteOncePod"), "the second pod waits, but for another reason: {why}");
    space.remove(POD, "first").await?;
    space.running("second").await?;
    space.remove(POD, "second").await
}

async fn read_only(space: &Space) -> Result<()> {
    space.claim(Claim::new("shared", "e2e", "64Mi")).await?;
    space.once(Pod::new("writer").script("echo there >/data/file; sync").claim("shared", "/data")).await?;
    let only_read = json!({"persistentVolumeClaim": {"claimName": "shared", "readOnly": true}});
    let script = "cat /data/file; if echo more >/data/more; then exit 1; fi; grep ' /data ' /proc/mounts | cut -d ' ' -f 4 | cut -d , -f 1";
    let said = space.once(Pod::new("reader").script(script).volume(only_read, "/data")).await?;
    ensure!(said.starts_with("there") && said.contains("Read-only") && said.trim().ends_with("ro"), "{said}");
    Ok(())
}

/// A user who is not root may write by a group of the pod.
async fn group(space: &Space) -> Result<()> {
    space.claim(Claim::new("grouped", "e2e", "64Mi")).await?;
    let security = json!({"runAsUser": 1000, "runAsGroup": 1000, "runAsNonRoot": true, "fsGroup": 2345});
    let script = "echo mine >/data/file; stat -c '%g %u' /data /data/file | tr '\\n' ' '";
    let pod = Pod::new("member").script(script).claim("grouped", "/data").with("securityContext", security);
    let said = space.once(pod).await?;
    ensure!(said.trim() == "2345 0 2345 1000", "group and owner of the folder and a file: {said}");
    Ok(())
}
