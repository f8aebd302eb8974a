//! A node is gone for good: what was on it is released, and the others never noticed.

use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use offshoot_cluster::Spec;

use crate::objects::{CLAIM, NODE, POD, SNAPSHOT, VOLUME, condition, name, text};
use crate::setup::{Env, OFFSHOOT, POOL, seen};
use crate::space::{Claim, LIMIT, Pod, Space, until};

const NODE_C: &str = "node-c";

pub(crate) async fn run(space: Rc<Space>) -> Result<()> {
    let env = &space.env;
    let [other, _] = Env::nodes();
    {
        let mut cluster = env.cluster.borrow().clone();
        cluster.add_node(Spec::usual(3))?;
        cluster.load_image(&env.image)?;
        env.cluster.replace(cluster);
    }
    let tried = lose(&space, other).await;
    // Whatever came of it, the cluster is as it was.
    let mut cluster = env.cluster.borrow().clone();
    if cluster.node(NODE_C).is_ok() {
        cluster.destroy_node(NODE_C)?;
    }
    env.cluster.replace(cluster);
    env.objects.delete(NODE, "", NODE_C, None).await?;
    tried?;
    // Kubernetes would delete the agent's pod after a minute.
    for pod in env.objects.list(POD, OFFSHOOT).await? {
        if text(&pod, "/spec/nodeName") == NODE_C {
            env.objects.delete(POD, OFFSHOOT, &name(&pod), Some(0)).await?;
        }
    }
    env.wait_driver().await
}

async fn lose(space: &Space, other: &str) -> Result<()> {
    let env = &space.env;
    std::fs::create_dir_all(seen(env, NODE_C, POOL)?.join("pool"))
        .context("cannot reach the new node's pool")?;
    env.retag(NODE_C)?;
    space.claim(Claim::new("lost", "e2e", "64Mi")).await?;
    space.start(Pod::new("lost").claim("lost", "/data").on(NODE_C)).await?;
    space.exec("lost", "echo gone >/data/file; sync").await?;
    space.snapshot("lost", "lost").await?;
    space.claim(Claim::new("kept", "e2e", "64Mi")).await?;
    space.start(Pod::new("kept").claim("kept", "/data").on(other)).await?;
    let volume = text(&space.get(CLAIM, "lost").await?, "/spec/volumeName");

    // It is refused while the node lives.
    let forget = ["forget-node", NODE_C, "--yes"];
    let refused = env.plugin(&forget).await;
    ensure!(refused.is_err(), "a node that is Ready was forgotten: {refused:?}");

    let mut cluster = env.cluster.borrow().clone();
    cluster.destroy_node(NODE_C)?;
    env.cluster.replace(cluster);
    until("the node is not Ready", LIMIT, async || {
        let node = env.objects.get(NODE, "", NODE_C).await?.unwrap_or_default();
        Ok(condition(&node, "Ready", "True").is_none().then_some(()))
    })
    .await?;
    // The others go on, at once.
    space.claim(Claim::new("more", "e2e", "64Mi")).await?;
    tokio::time::timeout(
        Duration::from_secs(60),
        space.start(Pod::new("more").claim("more", "/data").on(other)),
    )
    .await??;

    // Its pod still holds the claim; whoever forgets the node is told what to do about that, and then does it.
    let told = match env.plugin(&forget).await {
        Ok(said) => anyhow::bail!("the claim was let go of under its pod: {said}"),
        Err(error) => format!("{error:#}"),
    };
    ensure!(told.contains("kubectl delete pod --force"), "it is not said what to do: {told}");
    env.objects.delete(POD, &space.name, "lost", Some(0)).await?;
    env.plugin(&forget).await?;
    for (kind, name) in [(SNAPSHOT, "lost"), (CLAIM, "lost")] {
        env.objects.delete(kind, &space.name, name, None).await?;
        space.gone(kind, name).await?;
    }
    until("the lost volume is gone", LIMIT, async || {
        Ok(env.objects.get(VOLUME, "", &volume).await?.is_none().then_some(()))
    })
    .await?;
    let found = space.exec("kept", "echo fine >/data/file; cat /data/file").await?;
    ensure!(found == "fine", "another node's volume holds {found}");
    Ok(())
}
