//! Volumes grow: XFS while it is mounted, ext4 at the next mount.
//!
//! ext4 would grow while it is mounted too, but the kernel asks for CAP_SYS_RESOURCE in the first user namespace, which root of a
//! container that CI runs in may not have. The driver then answers that it is retried at the next mount.

use std::rc::Rc;

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use crate::objects::{CLAIM, POD, condition};
use crate::space::{Claim, Pod, Space};

fn to(size: &str) -> Value {
    json!({"spec": {"resources": {"requests": {"storage": size}}}})
}

const SIZE: &str = "df -m /data | tail -n 1 | awk '{print $2}'";

pub(crate) async fn online(space: Rc<Space>) -> Result<()> {
    space.claim(Claim::new("data", "e2e-xfs", "512Mi")).await?;
    space.start(Pod::new("user").claim("data", "/data")).await?;
    space.exec("user", "echo kept >/data/file").await?;
    for (size, mib) in [("1Gi", 1024), ("1536Mi", 1536)] {
        space.patch(CLAIM, "data", to(size)).await?;
        space.sized("data", size).await?;
        let has: u64 = space.exec("user", SIZE).await?.parse()?;
        ensure!(has * 10 > mib * 8, "the filesystem has {has} MiB of {mib}");
    }
    let found = space.exec("user", "cat /data/file").await?;
    ensure!(found == "kept", "the file holds {found}");
    // A raw device in use grows too.
    space.claim(Claim::new("disk", "e2e", "64Mi").block()).await?;
    space.start(Pod::new("raw").device("disk", "/dev/disk")).await?;
    space.patch(CLAIM, "disk", to("128Mi")).await?;
    space.sized("disk", "128Mi").await?;
    let has = space.exec("raw", "blockdev --getsize64 /dev/disk").await?;
    ensure!(has == (128_u64 << 20).to_string(), "the device has {has} bytes");
    Ok(())
}

pub(crate) async fn offline(space: Rc<Space>) -> Result<()> {
    space.claim(Claim::new("data", "e2e", "64Mi")).await?;
    space.once(Pod::new("writer").script("echo kept >/data/file; sync").claim("data", "/data")).await?;
    space.patch(CLAIM, "data", to("256Mi")).await?;
    space
        .becomes(CLAIM, "data", "waits for its next mount", |claim| {
            Ok(condition(claim, "FileSystemResizePending", "True").is_some())
        })
        .await?;
    space.start(Pod::new("reader").claim("data", "/data")).await?;
    space.sized("data", "256Mi").await?;
    let (has, found) =
        (space.exec("reader", SIZE).await?.parse::<u64>()?, space.exec("reader", "cat /data/file").await?);
    ensure!(has > 200 && found == "kept", "the filesystem has {has} MiB, the file holds {found}");
    space.remove(POD, "reader").await
}
