//! Sequential reads and writes through a volume, and to a file of the bare pool, in turn.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::calls::From;
use crate::server::{Access, Server};
use crate::stats::Table;

const GIB: i64 = 1 << 30;
/// The column of the bare pool.
pub(crate) const BARE: &str = "bare pool";

/// Where a job writes.
struct Place {
    column: &'static str,
    file: PathBuf,
}

/// Whether fio is there.
pub(crate) fn installed() -> bool {
    std::process::Command::new("fio").arg("--version").output().is_ok_and(|output| output.status.success())
}

/// Measures a pool in MiB/s: the bare pool, an XFS volume, an ext4 volume.
pub(crate) async fn measure(
    pool: &Path,
    label: &str,
    dir: &Path,
    rounds: usize,
    length: Duration,
    table: &mut Table,
) -> Result<()> {
    let mut server = Server::offshoot(dir, &pool.join("pool")).await?;
    let mut places = vec![Place { column: BARE, file: pool.join("bare.dat") }];
    let mut volumes = Vec::new();
    for (column, fs) in [("volume (xfs)", "xfs"), ("volume (ext4)", "ext4")] {
        let client = &mut server.client;
        let volume = client.create(format!("fio-{fs}"), 2 * GIB, Access::Mount(fs), From::Nothing).await?;
        client.make_paths(&volume)?;
        client.stage(&volume).await?;
        client.publish(&volume).await?;
        places.push(Place { column, file: volume.target.join("fio.dat") });
        volumes.push(volume);
    }
    for place in &places {
        // Laid out beforehand: the first write of a sparse image allocates, the others are what a user sees.
        job(&place.file, "write", Duration::ZERO).await?;
    }
    for _ in 0..rounds {
        for mode in ["write", "read"] {
            for place in &places {
                let rate = job(&place.file, mode, length).await?;
                table.note(&format!("sequential {mode}, {label} (MiB/s)"), place.column, rate);
            }
        }
    }
    for volume in &volumes {
        server.client.unpublish(volume).await?;
        server.client.unstage(volume).await?;
        server.client.delete(volume).await?;
    }
    server.stop();
    Ok(())
}

/// One job with direct I/O over half a GiB; its rate in MiB/s.
async fn job(file: &Path, mode: &str, length: Duration) -> Result<f64> {
    let mut command = tokio::process::Command::new("fio");
    command
        .args(["--name=bench", "--ioengine=libaio", "--direct=1", "--bs=1M", "--iodepth=8", "--size=512M"])
        .args(["--output-format=json", "--refill_buffers"])
        .arg(format!("--rw={mode}"))
        .arg(format!("--filename={}", file.display()))
        .kill_on_drop(true);
    if !length.is_zero() {
        command.arg("--time_based").arg(format!("--runtime={}ms", length.as_millis()));
    }
    let output = command.output().await.context("start fio")?;
    ensure!(output.status.success(), "fio: {}", String::from_utf8_lossy(&output.stderr));
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout).context("read fio's answer")?;
    let bytes = answer["jobs"][0][mode]["bw_bytes"].as_f64().context("fio says no rate")?;
    Ok(bytes / f64::from(1 << 20))
}
