//! The agent of one node stops and says nothing: who asks for its volumes is told so at once, and nobody else notices.

use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::objects::text;
use crate::setup::Env;
use crate::space::{Claim, LIMIT, Pod, Space, until};

/// The promise is two seconds; the rest is for a program that starts on a busy machine.
const AT_ONCE: Duration = Duration::from_millis(2_500);

/// Longer than this, and kubelet would kill the agent.
const OTHERS: Duration = Duration::from_secs(40);

pub(crate) async fn run(space: Rc<Space>) -> Result<()> {
    for node in Env::nodes() {
        space.claim(Claim::new(node, "e2e", "64Mi")).await?;
        space.start(Pod::new(node).claim(node, "/data").on(node)).await?;
    }
    let [_, stopped] = Env::nodes();
    let agent = Pid::from_raw(space.env.driver_pid(stopped).await?);
    // It may be killed by kubelet, which is right, if this takes too long.
    space.env.kills.set(space.env.kills.get() + 1);
    kill(agent, Signal::SIGSTOP).context("cannot stop the agent")?;
    let tried = without_agent(&space).await;
    // Gone only if kubelet was quicker.
    let _ = kill(agent, Signal::SIGCONT);
    tried?;
    space.env.wait_driver().await?;
    until("the agent answers again", LIMIT, async || {
        Ok(grow(&space, stopped, "96Mi").await.is_ok().then_some(()))
    })
    .await
}

async fn without_agent(space: &Space) -> Result<()> {
    let [other, stopped] = Env::nodes();
    // The first finds a connection that is open, the second one that is not.
    for _ in 0..3 {
        let start = Instant::now();
        let said = match grow(space, stopped, "80Mi").await {
            Ok(said) => anyhow::bail!("an agent that is stopped has answered: {said}"),
            Err(error) => format!("{error:#}"),
        };
        let took = start.elapsed();
        ensure!(took < AT_ONCE, "it took {took:?} to say: {said}");
        ensure!(said.contains(stopped) && said.contains("call again"), "it is not said which node: {said}");
    }
    grow(space, other, "80Mi").await?;
    let served = async {
        space.claim(Claim::new("new", "e2e", "64Mi")).await?;
        space.start(Pod::new("new").claim("new", "/data").on(other)).await?;
        space.snapshot("new", "new").await
    };
    tokio::time::timeout(OTHERS, served).await.context("the other node's volumes wait, too")??;
    // What is mounted needs no agent.
    for node in Env::nodes() {
        let found = space.exec(node, "echo fine >/data/file; sync; cat /data/file").await?;
        ensure!(found == "fine", "the volume on {node} holds {found}");
    }
    Ok(())
}

/// Asks the controller for more room for the volume of a claim.
async fn grow(space: &Space, claim: &str, size: &str) -> Result<String> {
    let volume = text(&space.bound(claim).await?, "/spec/csi/volumeHandle");
    space.env.ask_controller(&["volume", "expand", &volume, size]).await
}
