//! What the driver is to reach, and whether it did in this run.

use serde::Serialize;

use crate::fio::BARE;
use crate::published;
use crate::raw::BY_HAND;
use crate::report::Tables;
use crate::scale::column;
use crate::sizes::{Fill, row};

/// One target.
#[derive(Debug, Serialize)]
pub(crate) struct Target {
    pub(crate) what: String,
    pub(crate) goal: String,
    pub(crate) reached: String,
    pub(crate) met: bool,
}

fn at_most(what: &str, unit: &str, limit: f64, value: Option<f64>) -> Option<Target> {
    let value = value?;
    let (goal, reached) = (format!("at most {limit:.4} {unit}"), format!("{value:.4} {unit}"));
    Some(Target { what: what.into(), goal: short(&goal), reached: short(&reached), met: value <= limit })
}

fn at_least(what: &str, unit: &str, limit: f64, value: Option<f64>) -> Option<Target> {
    let value = value?;
    let (goal, reached) = (format!("at least {limit:.4} {unit}"), format!("{value:.4} {unit}"));
    Some(Target { what: what.into(), goal: short(&goal), reached: short(&reached), met: value >= limit })
}

/// Without the zeros that nobody reads.
fn short(text: &str) -> String {
    let word = |word: &str| match word.parse::<f64>() {
        Ok(value) => crate::report::number(value),
        Err(_) => word.to_owned(),
    };
    text.split(' ').map(word).collect::<Vec<_>>().join(" ").trim_end().to_owned()
}

/// All targets that this run has figures for. `most` is the largest number of volumes.
pub(crate) fn evaluate(tables: &Tables, most: usize) -> Vec<Target> {
    let ext4 = |row: &str, column: &str| tables.ext4.median(row, column);
    let peer = |row: &str, other: f64| ext4(row, "host-path").unwrap_or(other);
    let publish = peer("NodePublishVolume", published::PUBLISH);
    let lives = |column| tables.lives.median("8 in parallel", column);
    let ratio = |a: Option<f64>, b: Option<f64>| Some(a? / b?);
    let full = |call: &str, column: &str| tables.sizes.median(&row(call, 256, Fill::Full), column);
    let peers = |call| full(call, "host-path").or_else(|| full(call, BY_HAND));
    let one_run = |call: &str, mib| tables.sizes.median(&row(call, mib, Fill::OneRun), "offshoot");
    let largest = if one_run("CreateSnapshot", 102_400).is_some() { 102_400 } else { 10_240 };
    let worst = tables.scale.rows().iter().filter_map(|call| {
        let many = tables.scale.median(call, &column(most))?;
        Some((many / tables.scale.median(call, &column(10))?, call))
    });
    let worst = worst.max_by(|(a, _), (b, _)| a.total_cmp(b));
    let memory = |row: &str| tables.memory.median(row, "offshoot");
    let zram = |mode: &str, fs: &str| {
        let row = format!("sequential {mode}, pool on zram (MiB/s)");
        ratio(tables.fio.median(&row, fs), tables.fio.median(&row, BARE))
    };
    let through_file = |mode: &str, fs: &str| {
        let row = format!("sequential {mode}, pool in a file (MiB/s)");
        ratio(tables.fio.median(&row, fs), tables.fio.median(&row, BARE))
    };
    let mut all = vec![
        at_most(
            "CreateVolume, durable",
            "ms",
            peer("CreateVolume", published::CREATE),
            ext4("CreateVolume", "offshoot"),
        ),
        at_most(
            "NodeStage + NodePublish of a formatted volume",
            "ms",
            0.6 * publish,
            ext4("NodeStage + NodePublish, formatted", "offshoot"),
        ),
        at_most(
            "NodeStage + NodePublish of a blank volume",
            "ms",
            1.2 * publish,
            ext4("NodeStage + NodePublish, blank", "offshoot"),
        ),
        at_least(
            "snapshot of 256 MiB, times faster than its tar",
            "",
            100.0,
            ratio(peers("CreateSnapshot"), full("CreateSnapshot", "offshoot")),
        ),
        at_least(
            "restore of 256 MiB, times faster than its tar",
            "",
            100.0,
            ratio(peers("CreateVolume from a snapshot"), full("CreateVolume from a snapshot", "offshoot")),
        ),
        at_most(
            &format!("snapshot of {} GiB against 256 MiB, same data", largest / 1024),
            "times",
            1.3,
            ratio(one_run("CreateSnapshot", largest), one_run("CreateSnapshot", 256)),
        ),
        at_most(
            &format!("restore of {} GiB against 256 MiB, same data", largest / 1024),
            "times",
            1.3,
            ratio(
                one_run("CreateVolume from a snapshot", largest),
                one_run("CreateVolume from a snapshot", 256),
            ),
        ),
        at_least(
            "whole lives, 8 in parallel",
            "per second",
            2.0 * lives("host-path").unwrap_or(published::LIVES),
            lives("offshoot"),
        ),
        worst.and_then(|(value, call)| {
            at_most(
                &format!("slowest call with {most} volumes against 10: {call}"),
                "times",
                1.3,
                Some(value),
            )
        }),
        at_most("resident at start", "MiB", 10.0, memory("resident at start, no volumes (MiB)")),
        at_most(
            &format!("resident with {most} volumes"),
            "MiB",
            25.0,
            memory(&format!("resident with {most} volumes, as the server that made them (MiB)")),
        ),
        at_most(
            &format!("start with {most} volumes"),
            "ms",
            300.0,
            tables.start.median("start to ready", &column(most)),
        ),
    ];
    for mode in ["read", "write"] {
        let best = |of: &dyn Fn(&str, &str) -> Option<f64>| of(mode, "volume (xfs)");
        all.push(at_least(
            &format!("sequential {mode} through a volume, one loop layer, of the bare pool"),
            "times",
            0.8,
            best(&zram),
        ));
        all.push(at_least(
            &format!("sequential {mode} through a volume, two loop layers, of the pool with one"),
            "times",
            0.8,
            best(&through_file),
        ));
    }
    all.into_iter().flatten().collect()
}
