//! Snapshots, restores and clones of volumes of 256 MiB, 10 GiB and 100 GiB.
//!
//! What a copy costs depends on how many extents the data has, not on how long it is, so each size is measured with
//! one run of data and with 4 KiB written every MiB, the worst that a database does to a sparse image. 256 MiB is also
//! measured full, against `tar` and `cp`, which is what csi-driver-host-path copies with.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use anyhow::Result;
use offshoot::host::Host;
use offshoot::host::linux::Linux;

use crate::calls::From;
use crate::life::timed;
use crate::raw::{BY_HAND, ByHand, CALLS};
use crate::server::{Access, Client};
use crate::stats::Table;

const MIB: u64 = 1 << 20;

/// What is written into a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fill {
    /// Every byte.
    Full,
    /// 64 MiB in one piece.
    OneRun,
    /// 4 KiB every MiB.
    EveryMib,
}

impl Fill {
    fn name(self) -> &'static str {
        match self {
            Fill::Full => "full",
            Fill::OneRun => "64 MiB in one run",
            Fill::EveryMib => "4 KiB every MiB",
        }
    }
}

/// The row of a call, a size and a fill.
pub(crate) fn row(call: &str, mib: u64, fill: Fill) -> String {
    let size = if mib < 1024 { format!("{mib} MiB") } else { format!("{} GiB", mib / 1024) };
    format!("{call}, {size}, {}", fill.name())
}

/// Measures Offshoot, whose pool is in `pool`, against the naked FICLONE of the very same image; how many extents that
/// has.
pub(crate) async fn measure(
    client: &mut Client,
    host: &Linux,
    pool: &Path,
    mib: u64,
    fill: Fill,
    rounds: usize,
    table: &mut Table,
) -> Result<usize> {
    let name = format!("size-{mib}-{fill:?}").to_lowercase();
    let size = i64::try_from(mib * MIB)?;
    let volume = client.create(&name, size, Access::Block, From::Nothing).await?;
    client.make_paths(&volume)?;
    client.stage(&volume).await?;
    client.publish(&volume).await?;
    let device = volume.target.clone();
    tokio::task::spawn_blocking(move || write(&device, mib, fill)).await??;
    let image = pool.join("volumes").join(format!("{}.img", volume.id));
    let extents = host.extents(&image, 0, usize::MAX)?.len();
    let floor = pool.with_extension("floor.img");
    let raw = |table: &mut Table, call: &str| {
        table.run(&row(call, mib, fill), CALLS, || {
            host.sync_file(&image)?;
            host.clone_file(&image, &floor)?;
            host.sync_file(&floor)
        })?;
        host.remove_file(&floor)
    };
    // A FICLONE onto a fresh file first: it converts the reference counts, once per image.
    for round in 0..=rounds {
        let mut warm_up = Table::default();
        let table = if round == 0 { &mut warm_up } else { &mut *table };
        raw(table, "CreateSnapshot")?;
        let make = client.snapshot(format!("{name}-s{round}"), &volume);
        let (snapshot, _) = timed(table, &row("CreateSnapshot", mib, fill), "offshoot", make).await?;
        raw(table, "CreateVolume from a snapshot")?;
        let make = client.create(format!("{name}-r{round}"), size, Access::Block, From::Snapshot(&snapshot));
        let (restored, _) =
            timed(table, &row("CreateVolume from a snapshot", mib, fill), "offshoot", make).await?;
        raw(table, "CreateVolume from a volume")?;
        let make = client.create(format!("{name}-c{round}"), size, Access::Block, From::Volume(&volume.id));
        let (cloned, _) =
            timed(table, &row("CreateVolume from a volume", mib, fill), "offshoot", make).await?;
        for copy in [restored, cloned] {
            client.delete(&copy).await?;
        }
        client.delete_snapshot(&snapshot).await?;
    }
    client.unpublish(&volume).await?;
    client.unstage(&volume).await?;
    client.delete(&volume).await?;
    Ok(extents)
}

/// The peer's way with 256 MiB of data, and the peer itself where there is one.
pub(crate) async fn peer_way(
    dir: &Path,
    peer: Option<&mut Client>,
    rounds: usize,
    table: &mut Table,
) -> Result<()> {
    let data = noise(256 * MIB);
    let hand = ByHand::new(dir.to_owned())?;
    let rows = ["CreateSnapshot", "CreateVolume from a snapshot", "CreateVolume from a volume"]
        .map(|call| row(call, 256, Fill::Full));
    hand.create("full")?;
    hand.fill("full", &data)?;
    for _ in 0..rounds {
        table.run(&rows[0], BY_HAND, || hand.snapshot("full"))?;
        table.run(&rows[1], BY_HAND, || hand.restore("full", "restored"))?;
        table.run(&rows[2], BY_HAND, || hand.clone("full", "cloned"))?;
        hand.delete("restored")?;
        hand.delete("cloned")?;
        hand.delete_snapshot("full")?;
        // An interrupted run ends here at the latest.
        tokio::task::yield_now().await;
    }
    let Some(peer) = peer else { return Ok(()) };
    let (size, access) = (i64::try_from(256 * MIB)?, Access::Mount("ext4"));
    let volume = peer.create("full", size, access, From::Nothing).await?;
    peer.make_paths(&volume)?;
    peer.stage(&volume).await?;
    peer.publish(&volume).await?;
    std::fs::write(volume.target.join("data"), &data)?;
    for round in 0..rounds {
        let (snapshot, _) =
            timed(table, &rows[0], "host-path", peer.snapshot(format!("s{round}"), &volume)).await?;
        let make = peer.create(format!("r{round}"), size, access, From::Snapshot(&snapshot));
        let (restored, _) = timed(table, &rows[1], "host-path", make).await?;
        let make = peer.create(format!("c{round}"), size, access, From::Volume(&volume.id));
        let (cloned, _) = timed(table, &rows[2], "host-path", make).await?;
        for copy in [restored, cloned] {
            peer.delete(&copy).await?;
        }
        peer.delete_snapshot(&snapshot).await?;
    }
    peer.unpublish(&volume).await?;
    peer.unstage(&volume).await?;
    peer.delete(&volume).await
}

/// Bytes that do not compress, from a small generator.
pub(crate) fn noise(len: u64) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(usize::try_from(len).unwrap_or(0));
    while (bytes.len() as u64) < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes
}

/// Writes through the published device.
fn write(device: &Path, mib: u64, fill: Fill) -> Result<()> {
    let file = OpenOptions::new().read(true).write(true).open(device)?;
    let block = noise(MIB);
    match fill {
        Fill::Full => (0..mib).try_for_each(|at| file.write_all_at(&block, at * MIB))?,
        Fill::OneRun => (0..64).try_for_each(|at| file.write_all_at(&block, at * MIB))?,
        Fill::EveryMib => (0..mib).try_for_each(|at| file.write_all_at(&block[..4096], at * MIB))?,
    }
    Ok(file.sync_all()?)
}
