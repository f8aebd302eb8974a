//! Kubernetes knows how much space there is, and puts pods accordingly.

use std::rc::Rc;

use anyhow::{Result, ensure};

use crate::leaks;
use crate::objects::{CAPACITY, CLAIM, POD, condition, text};
use crate::setup::{Env, OFFSHOOT};
use crate::space::{Claim, LIMIT, Pod, Space, until};

/// More than any pool has.
pub(crate) async fn run(space: Rc<Space>) -> Result<()> {
    space.claim(Claim::new("huge", "e2e-thick", "900Gi")).await?;
    space.make(Pod::new("huge").claim("huge", "/data").object()).await?;
    let refused = space
        .becomes(POD, "huge", "is refused", |pod| Ok(condition(pod, "PodScheduled", "False").is_some()))
        .await?;
    let why = condition(&refused, "PodScheduled", "False").unwrap_or_default();
    ensure!(why.contains("did not have enough free storage"), "the pod waits, but for another reason: {why}");
    ensure!(text(&space.get(CLAIM, "huge").await?, "/status/phase") == "Pending", "the claim is not pending");
    Ok(())
}

/// The formula, before and after a gibibyte is taken.
pub(crate) async fn objects(space: Rc<Space>) -> Result<()> {
    let env = &space.env;
    let [here, there] = Env::nodes();
    let agree = async || {
        until("the capacity objects are those of the formula", LIMIT, async || {
            let wrong = leaks::capacities(env).await?;
            if wrong.is_empty() { Ok(Some(())) } else { anyhow::bail!("{}", wrong.join("; ")) }
        })
        .await
    };
    agree().await?;
    let before = [leaks::free(env, here)?, leaks::free(env, there)?];
    space.claim(Claim::new("thick", "e2e-thick", "1Gi")).await?;
    space.start(Pod::new("user").claim("thick", "/data").on(here)).await?;
    agree().await?;
    let after = [leaks::free(env, here)?, leaks::free(env, there)?];
    let taken = before[0].saturating_sub(after[0]);
    ensure!((1 << 30..1100 << 20).contains(&taken), "a thick volume of 1 GiB has taken {taken} bytes");
    ensure!(before[1] == after[1], "the other node's space has changed from {} to {}", before[1], after[1]);
    // Each class on each node once, but for the one that binds at once: nobody asks about that. Objects of classes that other scenarios
    // have deleted go a little later.
    until("there are 8 capacity objects for 4 classes on 2 nodes", LIMIT, async || {
        Ok((env.objects.list(CAPACITY, OFFSHOOT).await?.len() == 8).then_some(()))
    })
    .await
}
