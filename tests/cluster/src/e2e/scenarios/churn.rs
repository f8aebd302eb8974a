//! Two hundred volumes come and go: nothing is left, and nobody has grown.

use std::rc::Rc;

use anyhow::{Result, ensure};
use offshoot_cluster::audit::resident;

use crate::objects::{CLAIM, POD, VOLUME, text};
use crate::run::say;
use crate::setup::Env;
use crate::space::{Claim, LIMIT, Pod, Space, until};

const VOLUMES: usize = 200;
const BATCH: usize = 10;
/// What a process may have more after the second hundred than after the first, in bytes. Caches are full by then; what still grows would grow
/// for ever. Allocators and the kernel move by a little.
const SLACK: u64 = 3 << 20;

pub(crate) async fn run(space: Rc<Space>) -> Result<()> {
    let rounds = VOLUMES / BATCH / 2;
    let mut seen = vec![memory(&space).await?];
    for number in 0..rounds {
        round(&space, number, BATCH).await?;
        if number + 1 == rounds / 2 || number + 1 == rounds {
            seen.push(memory(&space).await?);
        }
    }
    let shown: Vec<_> = seen.iter().map(|all| mib(all)).collect();
    say(&format!("churn: resident before, half way and after, MiB: {shown:?}"));
    for (who, name) in ["agent of node-a", "agent of node-b", "controller"].iter().enumerate() {
        let (half, end) = (seen[1][who], seen[2][who]);
        ensure!(end < half + SLACK, "the {name} has grown from {half} to {end} bytes in the second half");
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

async fn memory(space: &Space) -> Result<Vec<u64>> {
    let mut all = Vec::new();
    for node in Env::nodes().into_iter().chain([""]) {
        all.push(resident(space.env.driver_pid(node).await?)?);
    }
    Ok(all)
}

fn mib(bytes: &[u64]) -> Vec<u64> {
    bytes.iter().map(|one| one >> 20).collect()
}
