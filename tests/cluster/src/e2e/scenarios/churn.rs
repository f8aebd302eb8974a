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
/// What a process may have more afterwards, in bytes: allocators keep some.
const SLACK: u64 = 6 << 20;

pub(crate) async fn run(space: Rc<Space>) -> Result<()> {
    // The first volumes fill caches.
    round(&space, 0, 2).await?;
    let before = memory(&space).await?;
    for number in 0..VOLUMES / BATCH / 2 {
        round(&space, number + 1, BATCH).await?;
    }
    let after = memory(&space).await?;
    say(&format!("churn: resident before and after, MiB: {:?} {:?}", mib(&before), mib(&after)));
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
