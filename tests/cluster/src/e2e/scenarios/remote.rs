//! A copy on the node that has not its source: on request, and with an explanation where it was not requested.
//!
//! The classes leave out the source's node by `allowedTopologies`; without that the driver makes a copy where its source is.

use std::rc::Rc;

use anyhow::{Result, ensure};
use serde_json::json;

use crate::objects::{CLAIM, POD, STORAGE_CLASS};
use crate::setup::{DRIVER, Env};
use crate::space::{Claim, Pod, Space};

const COPIES: &str = "e2e-there";
const NO_COPIES: &str = "e2e-there-only";

pub(crate) async fn run(space: Rc<Space>) -> Result<()> {
    let [_, there] = Env::nodes();
    for (class, parameters) in
        [(COPIES, json!({"pool": "fast", "allowRemoteCopy": "true"})), (NO_COPIES, json!({"pool": "fast"}))]
    {
        let object = json!({
            "apiVersion": STORAGE_CLASS.api, "kind": STORAGE_CLASS.name, "metadata": {"name": class}, "provisioner": DRIVER,
            "volumeBindingMode": "WaitForFirstConsumer", "parameters": parameters,
            "allowedTopologies": [{"matchLabelExpressions": [{"key": "topology.offshoot.dev/node", "values": [there]}]}],
        });
        // From an earlier run.
        space.env.objects.delete(STORAGE_CLASS, "", class, None).await?;
        space.env.objects.create(&object).await?;
    }
    let tried = copy(&space).await;
    for class in [COPIES, NO_COPIES] {
        space.env.objects.delete(STORAGE_CLASS, "", class, None).await?;
    }
    tried
}

async fn copy(space: &Space) -> Result<()> {
    let [here, there] = Env::nodes();
    space.claim(Claim::new("source", "e2e", "128Mi")).await?;
    space.start(Pod::new("writer").claim("source", "/data").on(here)).await?;
    let sum = space
        .exec(
            "writer",
            "dd if=/dev/urandom of=/data/much bs=1M count=40 2>/dev/null; sync; md5sum </data/much",
        )
        .await?;
    space.snapshot("one", "source").await?;
    space.claim(Claim::new("restored", COPIES, "128Mi").of_snapshot("one")).await?;
    space.claim(Claim::new("cloned", COPIES, "128Mi").of_claim("source")).await?;
    for claim in ["restored", "cloned"] {
        space.make(Pod::new(claim).claim(claim, "/data").object()).await?;
    }
    for claim in ["restored", "cloned"] {
        space.running(claim).await?;
        let found = space.exec(claim, "md5sum </data/much").await?;
        ensure!(found == sum && space.node_of(claim).await? == there, "{claim} holds other bytes");
    }
    for claim in ["restored", "cloned"] {
        for (reason, words) in
            [("RemoteCopyStarted", "is being copied"), ("RemoteCopyDone", "has been copied")]
        {
            space.told(claim, &[reason, words, here, there]).await?;
        }
    }
    // Copies stand for themselves, on both nodes.
    space.exec("restored", "echo mine >/data/file; sync").await?;
    space.snapshot("of-copy", "restored").await?;
    let listed = space.exec("writer", "ls /data").await?;
    ensure!(!listed.contains("file"), "the source holds {listed}");

    // Without the parameter nothing is copied, and somebody says why.
    space.claim(Claim::new("refused", NO_COPIES, "128Mi").of_snapshot("one")).await?;
    space.make(Pod::new("refused").claim("refused", "/data").object()).await?;
    let said = space.told("refused", &["ProvisioningFailed"]).await?;
    ensure!(said.contains("allowRemoteCopy"), "it is not said what to do: {said}");
    space.remove(POD, "refused").await?;
    space.remove(CLAIM, "refused").await
}
