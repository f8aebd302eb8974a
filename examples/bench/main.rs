//! `make bench`: Offshoot, its peer and the raw system calls, side by side in one run.
//!
//! Nothing here fails because something is slow: it measures, and says which targets were met. Contenders take turns
//! inside every loop, so that a machine that is slower for a while is slower for all of them. Whatever happens, the end
//! takes every server, mount, loop device and file away again.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "it talks to a person")]

mod area;
mod calls;
mod fio;
mod life;
mod lives;
mod plot;
mod published;
mod raw;
mod report;
mod scale;
mod server;
mod sizes;
mod stats;
mod targets;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use clap::Parser;

use area::Area;
use plot::{Line, Plot};
use raw::{ByHand, Raw};
use report::Tables;
use scale::Scale;
use server::Server;
use sizes::Fill;

/// Measure Offshoot against csi-driver-host-path and the raw system calls
#[derive(Debug, Parser)]
struct Options {
    /// Less of everything: under two minutes
    #[arg(long)]
    quick: bool,

    /// Only take away what an earlier run left
    #[arg(long)]
    clean: bool,

    /// Only these parts: calls, lives, sizes, scale, fio
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,

    /// Where to work; everything below it is removed
    #[arg(long, env = "BENCH_DIR", default_value = "/var/tmp/offshoot-bench")]
    dir: PathBuf,

    /// The binary of csi-driver-host-path, to be measured in the same loops
    #[arg(long, env = "BENCH_PEER")]
    peer: Option<PathBuf>,

    /// Where the figures go as JSON
    #[arg(long, default_value = "target/bench.json")]
    json: PathBuf,

    /// A page whose figures between markers are replaced; the plot goes beside it
    #[arg(long)]
    page: Option<PathBuf>,
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    let options = Options::parse();
    let mut area = match Area::new(&options.dir) {
        Ok(area) => area,
        Err(error) => {
            eprintln!("error: {error:#}");
            return ExitCode::FAILURE;
        }
    };
    let interrupted = async {
        let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
        tokio::select! {
            result = tokio::signal::ctrl_c() => result,
            _ = terminate.recv() => Ok(()),
        }
    };
    if options.clean {
        return match area.clean() {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("error: {error:#}");
                ExitCode::FAILURE
            }
        };
    }
    // Servers are ended when the future that owns them is dropped.
    let result = tokio::select! {
        result = run(&options, &mut area) => result,
        result = interrupted => Err(result.map_or_else(Into::into, |()| anyhow::anyhow!("interrupted"))),
    };
    let cleaned = area.clean().context("clean up");
    let errors: Vec<_> = [result.err(), cleaned.err()].into_iter().flatten().collect();
    errors.iter().for_each(|error| eprintln!("error: {error:#}"));
    if errors.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn run(options: &Options, area: &mut Area) -> Result<()> {
    let begun = Instant::now();
    let mut tables = Tables::default();
    describe(options, &mut tables)?;
    let wanted = |part: &str| options.only.is_empty() || options.only.iter().any(|only| only == part);
    let say = |what: &str| println!("[{:5.0} s] {what}", begun.elapsed().as_secs_f64());

    let pool = area.pool("pool", 200)?;
    if wanted("calls") || wanted("lives") || wanted("sizes") {
        let mut ours = Server::offshoot(&area.dir("run-offshoot")?, &pool.join("pool")).await?;
        let mut peer = match &options.peer {
            Some(binary) => Some(Server::peer(binary, &area.dir("run-peer")?, &pool.join("peer")).await?),
            None => None,
        };
        if wanted("calls") {
            say("calls of a volume's life");
            let rounds = if options.quick { 15 } else { 60 };
            calls(&mut ours, peer.as_mut(), area, &pool, rounds, &mut tables).await?;
        }
        if wanted("lives") {
            say("whole lives in parallel");
            let servers: Vec<_> = std::iter::once(&ours).chain(peer.as_ref()).collect();
            let (rounds, length) = if options.quick { (1, 2) } else { (3, 4) };
            let by_hand = pool.join("lives-by-hand");
            lives::measure(&servers, &by_hand, rounds, Duration::from_secs(length), &mut tables.lives)
                .await?;
        }
        if wanted("sizes") {
            say("copies by size");
            by_size(options.quick, &mut ours, peer.as_mut(), area, &pool, &mut tables).await?;
        }
        tables.memory.note("resident after the parts above (MiB)", "offshoot", ours.resident()?);
        if let Some(peer) = &peer {
            tables.memory.note("resident after the parts above (MiB)", "host-path", peer.resident()?);
        }
    }
    let numbers: &[usize] = if options.quick { &[10, 1000] } else { &[10, 1000, 10_000] };
    if wanted("scale") {
        say("many volumes");
        let (dir, pools) = (area.dir("run-scale")?, pool.clone());
        let mut scale = Scale::start(&dir, &pools, numbers, &mut tables.memory).await?;
        scale.measure(if options.quick { 10 } else { 40 }, &mut tables.scale).await?;
        let rounds = if options.quick { 3 } else { 9 };
        scale.restart(&dir, &pools, rounds, &mut tables.start, &mut tables.memory).await?;
    }
    area.drop_pool("pool")?;
    if wanted("fio") {
        say("fio");
        through_fio(options.quick, area, &mut tables).await?;
    }
    let size = std::fs::metadata(server::binary()?)?.len() as f64 / f64::from(1 << 20);
    tables.memory.note("binary (MiB)", "offshoot", size);
    say("done");
    publish(options, &tables, numbers)
}

/// The lives of volumes, call by call.
async fn calls(
    ours: &mut Server,
    mut peer: Option<&mut Server>,
    area: &Area,
    pool: &Path,
    rounds: usize,
    tables: &mut Tables,
) -> Result<()> {
    let data = sizes::noise(1 << 20);
    let hand = ByHand::new(pool.join("by-hand"))?;
    for fs in ["ext4", "xfs"] {
        let raw = Raw::new(&area.host, pool.join(format!("raw-{fs}")), fs, 1 << 30)?;
        // The first life makes the template, and is a row of its own.
        for round in 0..=rounds {
            let mut first = stats::Table::default();
            let real = if fs == "ext4" { &mut tables.ext4 } else { &mut tables.xfs };
            let name = format!("{fs}-{round}");
            let table = if round == 0 { &mut first } else { &mut *real };
            life::life(&mut ours.client, "offshoot", &name, fs, &data, table).await?;
            raw.life(&name, &data, table)?;
            hand.life(&name, &data, table)?;
            if let Some(peer) = peer.as_deref_mut() {
                life::life(&mut peer.client, "host-path", &name, fs, &data, table).await?;
            }
            if let Some(took) = first.median("NodeStageVolume, blank", "offshoot") {
                real.note("NodeStageVolume, the first of its size (mkfs)", "offshoot", took);
            }
        }
    }
    Ok(())
}

async fn by_size(
    quick: bool,
    ours: &mut Server,
    peer: Option<&mut Server>,
    area: &Area,
    pool: &Path,
    tables: &mut Tables,
) -> Result<()> {
    let sizes: &[u64] = if quick { &[256, 10_240] } else { &[256, 10_240, 102_400] };
    let table = &mut tables.sizes;
    for (mib, fill) in std::iter::once((256, Fill::Full))
        .chain(sizes.iter().map(|mib| (*mib, Fill::OneRun)))
        .chain(sizes.iter().map(|mib| (*mib, Fill::EveryMib)))
    {
        let own = pool.join("pool");
        // A copy of 100,000 extents takes seconds, in the kernel, and differs little from one to the next.
        let rounds = match (quick, fill) {
            (false, Fill::EveryMib) if mib > 10_240 => 2,
            (false, _) => 9,
            (true, _) => 2,
        };
        let extents = sizes::measure(&mut ours.client, &area.host, &own, mib, fill, rounds, table).await?;
        tables.notes.push(format!("{}: the image had {extents} extents", sizes::row("copies", mib, fill)));
    }
    let peer = peer.map(|peer| &mut peer.client);
    sizes::peer_way(&pool.join("sizes-by-hand"), peer, if quick { 1 } else { 2 }, table).await
}

async fn through_fio(quick: bool, area: &mut Area, tables: &mut Tables) -> Result<()> {
    if !fio::installed() {
        tables.notes.push("fio is not installed: left out".into());
        return Ok(());
    }
    let (rounds, length) = if quick { (1, Duration::from_secs(2)) } else { (3, Duration::from_secs(3)) };
    let pool = area.pool("fio-file", 20)?;
    let dir = area.dir("run-fio")?;
    fio::measure(&pool, "pool in a file", &dir, rounds, length, &mut tables.fio).await?;
    area.drop_pool("fio-file")?;
    let Some(pool) = area.zram_pool("fio-zram", 4)? else {
        tables.notes.push("zram0 is in use or not there: no pool without a loop layer below".into());
        return Ok(());
    };
    let dir = area.dir("run-fio-zram")?;
    fio::measure(&pool, "pool on zram", &dir, rounds, length, &mut tables.fio).await?;
    area.drop_pool("fio-zram")
}

fn describe(options: &Options, tables: &mut Tables) -> Result<()> {
    let uname = rustix::system::uname();
    let cpus = std::thread::available_parallelism().map_or(0, usize::from);
    let load = std::fs::read_to_string("/proc/loadavg")?;
    let load = load.split(' ').next().unwrap_or_default();
    let run = if options.quick { "quick" } else { "full" };
    tables.notes.push(format!(
        "Offshoot {} on Linux {}, {cpus} CPUs, load before the run {load}; {run} run, medians (p99 beside them)",
        env!("CARGO_PKG_VERSION"),
        uname.release().to_string_lossy(),
    ));
    tables
        .notes
        .push("pool: XFS in a sparse file on the system's disk, behind a loop device with direct I/O".into());
    if options.peer.is_none() {
        tables.notes.push(format!(
            "csi-driver-host-path was not measured in this run (set BENCH_PEER to its binary); `by hand` does what it \
             does, without its gRPC; the column in italics is {}",
            published::COLUMN
        ));
    }
    Ok(())
}

fn publish(options: &Options, tables: &Tables, numbers: &[usize]) -> Result<()> {
    let targets = targets::evaluate(tables, numbers.last().copied().unwrap_or(10));
    if let Some(dir) = options.json.parent() {
        std::fs::create_dir_all(dir)?;
    }
    std::fs::write(&options.json, serde_json::to_vec_pretty(&tables.json(&targets))?)?;
    let drawn = plot::svg(&plots(tables, numbers));
    let beside = options.page.as_deref().unwrap_or(&options.json).with_extension("svg");
    std::fs::write(&beside, drawn)?;
    let file = beside.file_name().and_then(|name| name.to_str()).unwrap_or("performance.svg");
    let markdown = tables.markdown(&targets, Some(file));
    println!("\n{markdown}");
    if let Some(page) = &options.page {
        report::write_between_markers(page, &markdown)?;
    }
    println!("figures: {}, plot: {}", options.json.display(), beside.display());
    Ok(())
}

fn plots(tables: &Tables, numbers: &[usize]) -> Vec<Plot> {
    let sizes = [(256_u64, "256 MiB"), (10_240, "10 GiB"), (102_400, "100 GiB")];
    let copies = ["CreateSnapshot", "CreateVolume from a snapshot"];
    let of_size = [Fill::OneRun, Fill::EveryMib].into_iter().flat_map(|fill| {
        copies.map(|call| Line {
            name: sizes::row(call, 256, fill).replace(", 256 MiB", ""),
            points: sizes
                .iter()
                .filter_map(|(mib, _)| {
                    Some((*mib as f64, tables.sizes.median(&sizes::row(call, *mib, fill), "offshoot")?))
                })
                .collect(),
        })
    });
    let calls = [
        "CreateVolume",
        "NodeStageVolume, blank",
        "NodeStageVolume, formatted",
        "NodePublishVolume",
        "CreateSnapshot, in use",
        "DeleteVolume",
    ];
    let of_number = calls.map(|call| Line {
        name: call.to_owned(),
        points: numbers
            .iter()
            .filter_map(|n| Some((*n as f64, tables.scale.median(call, &scale::column(*n))?)))
            .collect(),
    });
    let label = |n: &usize| (*n as f64, n.to_string());
    let plots = [
        Plot {
            title: "A copy, by the size of the volume".into(),
            x: sizes.iter().map(|(mib, label)| (*mib as f64, (*label).to_owned())).collect(),
            lines: of_size.collect(),
        },
        Plot {
            title: "A call, by the number of volumes".into(),
            x: numbers.iter().map(label).collect(),
            lines: of_number.into(),
        },
    ];
    plots.into_iter().filter(|plot| plot.lines.iter().any(|line| !line.points.is_empty())).collect()
}
