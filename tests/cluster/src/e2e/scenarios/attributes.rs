//! Attributes of a volume, given by a class and changed by another.

use std::rc::Rc;

use anyhow::{Context, Result, ensure};
use serde_json::json;

use crate::objects::{CLAIM, text};
use crate::space::{Claim, LIMIT, Pod, Space, until};

pub(crate) async fn run(space: Rc<Space>) -> Result<()> {
    space
        .claim(Claim::new("data", "e2e", "64Mi").with("volumeAttributesClassName", json!("e2e-ahead")))
        .await?;
    space.start(Pod::new("user").claim("data", "/data")).await?;
    ahead(&space, "4096").await?;
    space.patch(CLAIM, "data", json!({"spec": {"volumeAttributesClassName": "e2e-behind"}})).await?;
    space
        .becomes(CLAIM, "data", "has its new class", |claim| {
            Ok(text(claim, "/status/currentVolumeAttributesClassName") == "e2e-behind")
        })
        .await?;
    // While it is mounted.
    ahead(&space, "64").await?;
    let volume = space.bound("data").await?;
    ensure!(
        text(&volume, "/spec/volumeAttributesClassName") == "e2e-behind",
        "the volume's class is another"
    );
    Ok(())
}

/// Waits until the kernel reads so much ahead.
async fn ahead(space: &Space, expect: &str) -> Result<()> {
    let device = space.exec("user", "awk '$2 == \"/data\" {print $1}' /proc/mounts").await?;
    let name = device.strip_prefix("/dev/").context("not a device")?;
    let file = format!("cat /sys/block/{name}/queue/read_ahead_kb");
    until(&format!("the kernel reads {expect} KiB ahead on {device}"), LIMIT, async || {
        Ok((space.exec("user", &file).await? == expect).then_some(()))
    })
    .await
}
