//! A node loses power and comes back: its pods run again with their volumes, and what was made durable is there.

use std::rc::Rc;
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::json;

use crate::objects::{POD, condition, text};
use crate::setup::{DRIVER, Env};
use crate::space::{Claim, LIMIT, Pod, Space, until};

pub(crate) async fn run(space: Rc<Space>) -> Result<()> {
    let [_, node] = Env::nodes();
    let inline = json!({"csi": {"driver": DRIVER, "volumeAttributes": {"pool": "fast", "size": "64Mi"}}});
    space.claim(Claim::new("files", "e2e", "64Mi")).await?;
    space.claim(Claim::new("more", "e2e-xfs", "320Mi")).await?;
    space.claim(Claim::new("disk", "e2e", "64Mi").block()).await?;
    let pod = Pod::new("user")
        .claim("files", "/files")
        .claim("more", "/more")
        .device("disk", "/dev/disk")
        .volume(inline, "/inline");
    let pod = space.start(pod.on(node)).await?;
    let container = text(&pod, "/status/containerStatuses/0/containerID");
    let sum = space
        .exec(
            "user",
            "dd if=/dev/urandom of=/dev/disk bs=1M count=5 conv=fsync 2>/dev/null; md5sum </dev/disk",
        )
        .await?;
    space.exec("user", "echo kept | tee /files/file /more/file /inline/file; sync").await?;
    space.snapshot("one", "files").await?;

    let before = space.env.cluster.borrow().clone();
    before.restart_node(node, Duration::from_secs(120))?;
    until("the pod runs anew", LIMIT, async || {
        let pod = space.get(POD, "user").await?;
        let now = text(&pod, "/status/containerStatuses/0/containerID");
        Ok((now != container && condition(&pod, "Ready", "True").is_some()).then_some(()))
    })
    .await?;
    space.env.kills.set(space.env.kills.get() + 1);
    space.env.wait_driver().await?;
    let found = space.exec("user", "cat /files/file /more/file; md5sum </dev/disk").await?;
    ensure!(found == format!("kept\nkept\n{sum}"), "after the reboot: {found}");
    // All of it can be used as before.
    space.exec("user", "echo new | tee /files/file /more/file /inline/file; sync").await?;
    space.claim(Claim::new("copy", "e2e", "64Mi").of_snapshot("one")).await?;
    let said = space.once(Pod::new("copy").script("cat /data/file").claim("copy", "/data")).await?;
    ensure!(said.trim() == "kept", "the copy holds {said}");
    space.remove(POD, "user").await
}
