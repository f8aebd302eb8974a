//! Volumes are made when they are asked for, and keep what was written to them.

use std::rc::Rc;

use anyhow::{Result, ensure};

use crate::objects::{CLAIM, POD, text};
use crate::setup::{DRIVER, Env};
use crate::space::{Claim, Pod, Space};

pub(crate) async fn ext4(space: Rc<Space>) -> Result<()> {
    later(&space, "e2e", "ext4", "64Mi").await
}

pub(crate) async fn xfs(space: Rc<Space>) -> Result<()> {
    later(&space, "e2e-xfs", "xfs", "512Mi").await
}

/// One claim on each node, provisioned when its pod has been put there.
async fn later(space: &Space, class: &str, fs: &str, size: &str) -> Result<()> {
    for node in Env::nodes() {
        space.claim(Claim::new(node, class, size)).await?;
        ensure!(text(&space.get(CLAIM, node).await?, "/status/phase") == "Pending", "it waits for no pod");
        let write = format!("grep ' /data {fs} ' /proc/mounts; echo {node} >/data/who; sync");
        space.once(Pod::new(node).script(&write).claim(node, "/data").on(node)).await?;
        let volume = space.bound(node).await?;
        ensure!(text(&volume, "/spec/csi/driver") == DRIVER, "another driver has made it");
        let place = volume.pointer("/spec/nodeAffinity").map(ToString::to_string).unwrap_or_default();
        ensure!(place.contains(node), "the volume says that it can be reached from {place}, not {node}");
    }
    for node in Env::nodes() {
        // Without a node of its own choice: the volume decides.
        space.start(Pod::new("reader").claim(node, "/data")).await?;
        let (found, at) = (space.exec("reader", "cat /data/who").await?, space.node_of("reader").await?);
        ensure!(found == node && at == node, "on {at} the volume of {node} holds {found}");
        space.remove(POD, "reader").await?;
    }
    Ok(())
}

pub(crate) async fn immediate(space: Rc<Space>) -> Result<()> {
    space.claim(Claim::new("data", "e2e-now", "64Mi")).await?;
    let volume = space.bound("data").await?;
    space.start(Pod::new("writer").claim("data", "/data")).await?;
    let at = space.node_of("writer").await?;
    let place = volume.pointer("/spec/nodeAffinity").map(ToString::to_string).unwrap_or_default();
    ensure!(place.contains(&at), "the pod is on {at}, the volume on {place}");
    space.exec("writer", "echo kept >/data/file; sync").await?;
    space.remove(POD, "writer").await?;
    space.start(Pod::new("reader").claim("data", "/data")).await?;
    let found = space.exec("reader", "cat /data/file").await?;
    ensure!(found == "kept", "the file holds {found}");
    // Kept for its users until they have gone.
    space.env.objects.delete(CLAIM, &space.name, "data", None).await?;
    let found = space.exec("reader", "cat /data/file").await?;
    ensure!(found == "kept", "the file holds {found} after its claim was deleted");
    space.remove(POD, "reader").await?;
    space.gone(CLAIM, "data").await
}

pub(crate) async fn block(space: Rc<Space>) -> Result<()> {
    space.claim(Claim::new("disk", "e2e", "64Mi").block()).await?;
    let write = "test -b /dev/disk; dd if=/dev/urandom of=/dev/disk bs=1M count=8 seek=7 conv=fsync 2>/dev/null; md5sum </dev/disk";
    let written = space.once(Pod::new("writer").script(write).device("disk", "/dev/disk")).await?;
    let read = space
        .once(
            Pod::new("reader")
                .script("md5sum </dev/disk; blockdev --getsize64 /dev/disk")
                .device("disk", "/dev/disk"),
        )
        .await?;
    ensure!(read == format!("{written}{}\n", 64 << 20), "written {written}, read {read}");
    Ok(())
}
