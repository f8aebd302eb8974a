//! Two hundred volumes come and go: nothing is left, and nobody has grown.

use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use offshoot_cluster::audit::resident;

use crate::objects::{CLAIM, POD, VOLUME, text};
use crate::run::say;
use crate::setup::Env;
use crate::space::{Claim, LIMIT, Pod, Space, until};

const VOLUMES: usize = 200;
const BATCH: usize = 10;
/// On each node before anything is measured: with more at once than ever again, heaps are as large as they will be.
const BURST: usize = 30;
/// What a process may have more after the volumes than before, in bytes. What grows by each of them would have more.
const SLACK: u64 = 3 << 20;
/// Threads that have nothing to do end after ten seconds, and their stacks go with them.
const REST: Duration = Duration::from_secs(15);

pub(crate) async fn run(space: Rc<Space>) -> Result<()> {
    round(&space, 0, BURST).await?;
    let before = at_rest(&space).await?;
    for number in 1..=VOLUMES / BATCH / 2 {
        round(&space, number, BATCH).await?;
    }
    let after = at_rest(&space).await?;
    say(&format!("churn: resident before and after, KiB: {:?} {:?}", kib(&before), kib(&after)));
    for (who, (before, after)) in
        ["agent of node-a", "agent of node-b", "controller"].iter().zip(before.iter().zip(&after))
    {
        ensure!(*after < before + SLACK, "the {who} has grown from {before} to {after} bytes");
    }
    Ok(())
}

/// Two pods at a time, one on each node, with so many volumes each.
async fn round(space: &Space, number: usize, count: usize) -> Result<()> {
    let name = |node: &str, one: usize| format!("{node}-{number}-{one}");
    for node in Env::nodes() {
        let mut pod =
            Pod::new(&format!("{node}-{number}")).script("for d in /v/*; do echo here >$d/file; done; sync");
        for one in 0..count {
            space.claim(Claim::new(&name(node, one), "e2e", "16Mi")).await?;
            pod = pod.claim(&name(node, one), &format!("/v/{one}"));
        }
        space.make(pod.on(node).object()).await?;
    }
    for node in Env::nodes() {
        let pod = format!("{node}-{number}");
        space.finished(&pod).await?;
        space.env.objects.delete(POD, &space.name, &pod, None).await?;
        for one in 0..count {
            space.env.objects.delete(CLAIM, &space.name, &name(node, one), None).await?;
        }
    }
    until("the volumes are gone", LIMIT, async || {
        let volumes = space.env.objects.list(VOLUME, "").await?;
        Ok((!volumes.iter().any(|one| text(one, "/spec/claimRef/namespace") == space.name)).then_some(()))
    })
    .await
}

/// The least that each process has while nothing is done.
async fn at_rest(space: &Space) -> Result<Vec<u64>> {
    let mut least = Vec::new();
    for node in Env::nodes().into_iter().chain([""]) {
        least.push((space.env.driver_pid(node).await?, u64::MAX));
    }
    let end = Instant::now() + REST;
    while Instant::now() < end {
        for (pid, bytes) in &mut least {
            *bytes = resident(*pid)?.min(*bytes);
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    Ok(least.into_iter().map(|(_, bytes)| bytes).collect())
}

fn kib(bytes: &[u64]) -> Vec<u64> {
    bytes.iter().map(|one| one >> 10).collect()
}
