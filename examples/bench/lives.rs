//! Whole lives per second, at 1, 8 and 32 in parallel.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::life::short_life;
use crate::raw::{BY_HAND, ByHand};
use crate::server::Server;
use crate::stats::Table;

/// The row of so many in parallel.
pub(crate) fn row(parallel: usize) -> String {
    format!("{parallel} in parallel")
}

/// Rounds of so long each, the contenders in turn.
pub(crate) async fn measure(
    servers: &[&Server],
    by_hand: &Path,
    rounds: usize,
    length: Duration,
    table: &mut Table,
) -> Result<()> {
    let hand = Arc::new(ByHand::new(by_hand.to_owned())?);
    for parallel in [1, 8, 32] {
        for round in 0..rounds {
            for server in servers {
                let per_second = of_server(server, parallel, round, length).await?;
                table.note(&row(parallel), server.name, per_second);
            }
            let per_second = of_hand(&hand, by_hand, parallel, length).await?;
            table.note(&row(parallel), BY_HAND, per_second);
        }
    }
    Ok(())
}

async fn of_server(server: &Server, parallel: usize, round: usize, length: Duration) -> Result<f64> {
    let begun = Instant::now();
    let done = Arc::new(AtomicU64::new(0));
    let mut lanes = tokio::task::JoinSet::new();
    for lane in 0..parallel {
        let (mut client, done) = (server.client.clone(), done.clone());
        lanes.spawn(async move {
            let mut n = 0;
            while begun.elapsed() < length {
                short_life(&mut client, &format!("lives-{parallel}-{round}-{lane}-{n}")).await?;
                done.fetch_add(1, Ordering::Relaxed);
                n += 1;
            }
            anyhow::Ok(())
        });
    }
    while let Some(lane) = lanes.join_next().await {
        lane??;
    }
    Ok(done.load(Ordering::Relaxed) as f64 / begun.elapsed().as_secs_f64())
}

async fn of_hand(hand: &Arc<ByHand>, dir: &Path, parallel: usize, length: Duration) -> Result<f64> {
    let begun = Instant::now();
    let done = Arc::new(AtomicU64::new(0));
    let mut lanes = tokio::task::JoinSet::new();
    for lane in 0..parallel {
        let (hand, done) = (hand.clone(), done.clone());
        let (name, target) = (format!("lane-{lane}"), dir.join(format!("target-{lane}")));
        lanes.spawn_blocking(move || {
            while begun.elapsed() < length {
                hand.create(&name)?;
                hand.publish(&name, &target)?;
                hand.unpublish(&target)?;
                hand.delete(&name)?;
                done.fetch_add(1, Ordering::Relaxed);
            }
            anyhow::Ok(())
        });
    }
    while let Some(lane) = lanes.join_next().await {
        lane??;
    }
    Ok(done.load(Ordering::Relaxed) as f64 / begun.elapsed().as_secs_f64())
}
