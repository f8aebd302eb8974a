//! What it costs to have many volumes: latency of each call, resident memory, time to start.
//!
//! One server per number of volumes, all on the same filesystem, asked in turn within one loop: a machine that is slower
//! for a while is slower for all of them.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Result;

use crate::calls::From;
use crate::life::timed;
use crate::server::{Access, Client, Server};
use crate::stats::Table;

const GIB: i64 = 1 << 30;
/// How many creations run at a time while a server is filled.
const LANES: usize = 8;

/// The column of a server with so many volumes.
pub(crate) fn column(volumes: usize) -> String {
    format!("{volumes} volumes")
}

/// Servers with different numbers of volumes.
pub(crate) struct Scale {
    servers: Vec<(usize, Server)>,
}

impl Scale {
    /// Starts and fills one server per number. Notes the resident memory before and after.
    pub(crate) async fn start(
        dir: &Path,
        pools: &Path,
        numbers: &[usize],
        memory: &mut Table,
    ) -> Result<Scale> {
        let mut servers = Vec::new();
        for &number in numbers {
            let server = Server::offshoot(&dir.join(format!("n{number}")), &place(pools, number)).await?;
            memory.note("resident at start, no volumes (MiB)", "offshoot", server.resident()?);
            fill(&server.client, number).await?;
            let row = format!("resident with {number} volumes, as the server that made them (MiB)");
            memory.note(&row, "offshoot", server.resident()?);
            servers.push((number, server));
        }
        Ok(Scale { servers })
    }

    /// Lives, the servers in turn.
    pub(crate) async fn measure(&mut self, rounds: usize, table: &mut Table) -> Result<()> {
        // The first round makes the templates.
        for round in 0..=rounds {
            let mut warm_up = Table::default();
            let table = if round == 0 { &mut warm_up } else { &mut *table };
            for (number, server) in &mut self.servers {
                life(&mut server.client, &column(*number), &format!("life-{round}"), table).await?;
            }
        }
        Ok(())
    }

    /// Stops the servers and starts them again, in turn.
    pub(crate) async fn restart(
        self,
        dir: &Path,
        pools: &Path,
        rounds: usize,
        start: &mut Table,
        memory: &mut Table,
    ) -> Result<()> {
        let numbers: Vec<_> = self.servers.iter().map(|(number, _)| *number).collect();
        self.servers.into_iter().for_each(|(_, server)| server.stop());
        for _ in 0..rounds {
            for &number in &numbers {
                let server = Server::offshoot(&dir.join(format!("n{number}")), &place(pools, number)).await?;
                start.note("start to ready", &column(number), server.started_in);
                let row = format!("resident with {number} volumes, started with them (MiB)");
                memory.note(&row, "offshoot", server.resident()?);
                server.stop();
            }
        }
        Ok(())
    }
}

fn place(pools: &Path, number: usize) -> std::path::PathBuf {
    pools.join(format!("pool-{number}"))
}

async fn fill(client: &Client, number: usize) -> Result<()> {
    let next = Arc::new(AtomicUsize::new(0));
    let mut lanes = tokio::task::JoinSet::new();
    for _ in 0..LANES {
        let (mut client, next) = (client.clone(), next.clone());
        lanes.spawn(async move {
            loop {
                let n = next.fetch_add(1, Ordering::Relaxed);
                if n >= number {
                    return anyhow::Ok(());
                }
                client.create(format!("filler-{n}"), GIB, Access::Mount("ext4"), From::Nothing).await?;
            }
        });
    }
    while let Some(lane) = lanes.join_next().await {
        lane??;
    }
    Ok(())
}

async fn life(client: &mut Client, column: &str, name: &str, table: &mut Table) -> Result<()> {
    let access = Access::Mount("ext4");
    timed(table, "Probe", column, client.probe()).await?;
    timed(table, "GetCapacity", column, client.capacity()).await?;
    timed(table, "ListVolumes, a page of 10", column, client.list(10)).await?;
    let create = client.create(name, GIB, access, From::Nothing);
    let (volume, _) = timed(table, "CreateVolume", column, create).await?;
    client.make_paths(&volume)?;
    timed(table, "ControllerPublishVolume", column, client.controller_publish(&volume)).await?;
    timed(table, "NodeStageVolume, blank", column, client.stage(&volume)).await?;
    timed(table, "NodePublishVolume", column, client.publish(&volume)).await?;
    timed(table, "NodeGetVolumeStats", column, client.stats(&volume)).await?;
    let snapshot = client.snapshot(format!("{name}-snapshot"), &volume);
    let (snapshot, _) = timed(table, "CreateSnapshot, in use", column, snapshot).await?;
    let restore = client.create(format!("{name}-restored"), GIB, access, From::Snapshot(&snapshot));
    let (restored, _) = timed(table, "CreateVolume from a snapshot", column, restore).await?;
    timed(table, "NodeUnpublishVolume", column, client.unpublish(&volume)).await?;
    timed(table, "NodeUnstageVolume", column, client.unstage(&volume)).await?;
    timed(table, "NodeStageVolume, formatted", column, client.stage(&volume)).await?;
    client.unstage(&volume).await?;
    timed(table, "ControllerUnpublishVolume", column, client.controller_unpublish(&volume)).await?;
    timed(table, "DeleteSnapshot", column, client.delete_snapshot(&snapshot)).await?;
    timed(table, "DeleteVolume, a copy", column, client.delete(&restored)).await?;
    timed(table, "DeleteVolume", column, client.delete(&volume)).await?;
    Ok(())
}
