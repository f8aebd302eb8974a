//! Unfriendly ends: by force, and all at once.

use std::rc::Rc;

use anyhow::{Result, ensure};
use serde_json::json;

use crate::objects::{POD, text};
use crate::setup::Env;
use crate::space::{Claim, LIMIT, Pod, Space, until};

/// A pod that does not listen is deleted by force, and another takes its volume at once. The volume is mounted once more while kubelet still
/// clears away the first pod's mount.
pub(crate) async fn force(space: Rc<Space>) -> Result<()> {
    space.claim(Claim::new("data", "e2e", "64Mi")).await?;
    space.claim(Claim::new("disk", "e2e", "64Mi").block()).await?;
    let deaf = "trap '' TERM; while :; do echo busy >>/data/log; sleep 1; done";
    for round in 0..4 {
        let pod = format!("deaf-{round}");
        let made = Pod::new(&pod)
            .script(deaf)
            .claim("data", "/data")
            .device("disk", "/dev/disk")
            .with("terminationGracePeriodSeconds", json!(30));
        space.make(made.object()).await?;
        space.running(&pod).await?;
        space.env.objects.delete(POD, &space.name, &pod, Some(0)).await?;
    }
    space.start(Pod::new("last").claim("data", "/data").device("disk", "/dev/disk")).await?;
    let said = space.exec("last", "echo fine >/data/file && sync && wc -l </data/log").await?;
    ensure!(said.parse::<u64>()? > 0, "the log has {said} lines");
    space.remove(POD, "last").await
}

/// Everything that there is, deleted in whatever order Kubernetes takes.
pub(crate) async fn namespace(space: Rc<Space>) -> Result<()> {
    for (node, class) in Env::nodes().into_iter().zip(["e2e", "e2e-xfs"]) {
        let size = if class == "e2e" { "64Mi" } else { "320Mi" };
        let named = |name: &str| format!("{node}-{name}");
        for claim in ["one", "two"] {
            space.claim(Claim::new(&named(claim), class, size).in_group("all")).await?;
        }
        space.claim(Claim::new(&named("disk"), class, "64Mi").block()).await?;
        let pod = Pod::new(&named("user"))
            .claim(&named("one"), "/one")
            .claim(&named("two"), "/two")
            .device(&named("disk"), "/dev/disk");
        space.start(pod.on(node)).await?;
        space.snapshot(&named("one"), &named("one")).await?;
        space.claim(Claim::new(&named("copy"), class, size).of_snapshot(&named("one"))).await?;
        space.start(Pod::new(&named("copy")).claim(&named("copy"), "/data")).await?;
        space.snapshot(&named("again"), &named("copy")).await?;
    }
    space.group_snapshot("all", "all").await?;
    // A claim that waits, and one that can never be.
    space.claim(Claim::new("waits", "e2e", "64Mi")).await?;
    space.claim(Claim::new("never", "e2e-now", "64Mi").of_snapshot("not-there")).await?;
    let running = until("all pods run", LIMIT, async || {
        let pods = space.env.objects.list(POD, &space.name).await?;
        Ok(pods.iter().all(|pod| text(pod, "/status/phase") == "Running").then_some(pods.len()))
    });
    ensure!(running.await? == 4, "there are not four pods");
    Ok(())
}
