//! One volume's life over CSI, every call timed.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use crate::calls::From;
use crate::server::{Access, Client};
use crate::stats::Table;

const GIB: i64 = 1 << 30;

/// Runs and times one call.
pub(crate) async fn timed<T>(
    table: &mut Table,
    row: &str,
    column: &str,
    call: impl Future<Output = Result<T>>,
) -> Result<(T, Duration)> {
    let begun = Instant::now();
    let result = call.await.with_context(|| format!("{column}: {row}"))?;
    let took = begun.elapsed();
    table.took(row, column, took);
    Ok((result, took))
}

/// A whole life with copies. Sizes of new volumes are all the same, so that all but the very first find a template.
pub(crate) async fn life(
    client: &mut Client,
    column: &str,
    name: &str,
    fs: &'static str,
    data: &[u8],
    table: &mut Table,
) -> Result<()> {
    let access = Access::Mount(fs);
    timed(table, "Probe (the cost of a call)", column, client.probe()).await?;
    let create = client.create(name, GIB, access, From::Nothing);
    let (volume, _) = timed(table, "CreateVolume", column, create).await?;
    client.make_paths(&volume)?;
    let (offered, took) = untimed(client.controller_publish(&volume)).await?;
    if offered {
        table.took("ControllerPublishVolume", column, took);
    }
    let (_, staged) = timed(table, "NodeStageVolume, blank", column, client.stage(&volume)).await?;
    let (_, published) = timed(table, "NodePublishVolume", column, client.publish(&volume)).await?;
    table.took("NodeStage + NodePublish, blank", column, staged + published);
    std::fs::write(volume.target.join("data"), data)?;
    timed(table, "NodeGetVolumeStats", column, client.stats(&volume)).await?;

    let snapshot = client.snapshot(format!("{name}-snapshot"), &volume);
    let (snapshot, _) = timed(table, "CreateSnapshot, in use", column, snapshot).await?;
    let restore = client.create(format!("{name}-restored"), GIB, access, From::Snapshot(&snapshot));
    let (restored, _) = timed(table, "CreateVolume from a snapshot", column, restore).await?;
    let clone = client.create(format!("{name}-cloned"), GIB, access, From::Volume(&volume.id));
    let (cloned, _) = timed(table, "CreateVolume from a volume in use", column, clone).await?;

    if fs == "xfs" {
        let expand = client.expand(&volume, GIB + GIB / 4);
        let (node, _) = timed(table, "ControllerExpandVolume, in use", column, expand).await?;
        if node {
            let expand = client.node_expand(&volume, GIB + GIB / 4);
            timed(table, "NodeExpandVolume, in use", column, expand).await?;
        }
    }
    timed(table, "NodeUnpublishVolume", column, client.unpublish(&volume)).await?;
    timed(table, "NodeUnstageVolume", column, client.unstage(&volume)).await?;
    let (_, staged) = timed(table, "NodeStageVolume, formatted", column, client.stage(&volume)).await?;
    let (_, published) = timed(table, "NodePublishVolume", column, client.publish(&volume)).await?;
    table.took("NodeStage + NodePublish, formatted", column, staged + published);
    timed(table, "NodeUnpublishVolume", column, client.unpublish(&volume)).await?;
    timed(table, "NodeUnstageVolume", column, client.unstage(&volume)).await?;
    client.make_paths(&cloned)?;
    timed(table, "NodeStageVolume, a copy (replays its journal)", column, client.stage(&cloned)).await?;
    client.unstage(&cloned).await?;
    if fs == "ext4" {
        let expand = client.expand(&volume, GIB + GIB / 4);
        timed(table, "ControllerExpandVolume, not in use", column, expand).await?;
    }
    let (offered, took) = untimed(client.controller_unpublish(&volume)).await?;
    if offered {
        table.took("ControllerUnpublishVolume", column, took);
    }

    timed(table, "DeleteSnapshot", column, client.delete_snapshot(&snapshot)).await?;
    for copy in [restored, cloned] {
        timed(table, "DeleteVolume, a copy", column, client.delete(&copy)).await?;
    }
    timed(table, "DeleteVolume", column, client.delete(&volume)).await?;
    Ok(())
}

/// The life of a volume as a short-lived pod gives it one: no copies. Not timed call by call.
pub(crate) async fn short_life(client: &mut Client, name: &str) -> Result<()> {
    let volume = client.create(name, GIB, Access::Mount("ext4"), From::Nothing).await.context("create")?;
    client.make_paths(&volume)?;
    client.controller_publish(&volume).await.context("controller publish")?;
    client.stage(&volume).await.context("stage")?;
    client.publish(&volume).await.context("publish")?;
    client.unpublish(&volume).await.context("unpublish")?;
    client.unstage(&volume).await.context("unstage")?;
    client.controller_unpublish(&volume).await.context("controller unpublish")?;
    client.delete(&volume).await.context("delete")
}

async fn untimed<T>(call: impl Future<Output = Result<T>>) -> Result<(T, Duration)> {
    let begun = Instant::now();
    let result = call.await?;
    Ok((result, begun.elapsed()))
}
