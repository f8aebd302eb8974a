//! What cannot be: an event at the claim says what is wrong and what to do, nothing is half made, and the next claim is served.

use std::rc::Rc;

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use crate::leaks;
use crate::objects::{CAPACITY, CLAIM, POD, STORAGE_CLASS, VOLUME, bytes, text};
use crate::setup::{DRIVER, Env, OFFSHOOT};
use crate::space::{Claim, Pod, Space};

pub(crate) async fn run(space: Rc<Space>) -> Result<()> {
    let classes = [
        ("e2e-unknown", json!({"sise": "1Gi"}), "sise"),
        ("e2e-value", json!({"provisioning": "fat"}), "provisioning"),
        ("e2e-nowhere", json!({"pool": "slow"}), "slow"),
        ("e2e-mkfs", json!({"mkfsOptions": "-d /etc"}), "mkfsOptions"),
    ];
    let tried = wrong_classes(&space, &classes).await;
    for (class, ..) in &classes {
        space.env.objects.delete(STORAGE_CLASS, "", class, None).await?;
    }
    tried?;
    gone_source(&space).await?;
    full_pool(&space).await?;
    nothing_made(&space).await
}

/// Parameters that no volume can have.
async fn wrong_classes(space: &Space, classes: &[(&str, Value, &str)]) -> Result<()> {
    for (class, parameters, _) in classes {
        // From an earlier run.
        space.env.objects.delete(STORAGE_CLASS, "", class, None).await?;
        let object = json!({"apiVersion": STORAGE_CLASS.api, "kind": STORAGE_CLASS.name, "metadata": {"name": class}, "provisioner": DRIVER,
            "volumeBindingMode": "Immediate", "parameters": parameters});
        space.env.objects.create(&object).await?;
        space.claim(Claim::new(class, class, "64Mi")).await?;
    }
    for (class, _, word) in classes {
        let said = space.told(class, &["ProvisioningFailed", word]).await?;
        ensure!(
            text(&space.get(CLAIM, class).await?, "/status/phase") == "Pending",
            "{class} was made: {said}"
        );
    }
    // One bad object stops nobody.
    space.claim(Claim::new("good", "e2e-now", "64Mi")).await?;
    space.bound("good").await?;
    for name in classes.iter().map(|(class, ..)| *class).chain(["good"]) {
        space.remove(CLAIM, name).await?;
    }
    Ok(())
}

/// A snapshot whose bytes are not there, and one that is not there.
async fn gone_source(space: &Space) -> Result<()> {
    space.claim(Claim::new("source", "e2e-now", "64Mi")).await?;
    space.bound("source").await?;
    let snapshot = space.snapshot("taken", "source").await?;
    let content = text(&snapshot, "/status/boundVolumeSnapshotContentName");
    let content = space.env.objects.get(crate::objects::CONTENT, "", &content).await?.unwrap_or_default();
    let handle = text(&content, "/status/snapshotHandle");
    // The same pool, another snapshot: as if somebody had deleted it behind Kubernetes' back.
    let missing = format!("{}00000000-0000-7000-8000-000000000000", &handle[..handle.len() - 36]);
    let (api, class) = (crate::objects::SNAPSHOT.api, "e2e");
    let name = "e2e-faults-missing";
    space.env.objects.delete(crate::objects::CONTENT, "", name, None).await?;
    space.env.objects.create(&json!({
        "apiVersion": api, "kind": "VolumeSnapshotContent", "metadata": {"name": name},
        "spec": {"driver": DRIVER, "deletionPolicy": "Delete", "volumeSnapshotClassName": class, "source": {"snapshotHandle": missing},
            "volumeSnapshotRef": {"name": "missing", "namespace": space.name}},
    })).await?;
    space
        .make(json!({
            "apiVersion": api, "kind": "VolumeSnapshot", "metadata": {"name": "missing"},
            "spec": {"volumeSnapshotClassName": class, "source": {"volumeSnapshotContentName": name}},
        }))
        .await?;
    space.claim(Claim::new("of-nothing", "e2e-now", "64Mi").of_snapshot("never-made")).await?;
    space.told("of-nothing", &["never-made"]).await?;
    space.claim(Claim::new("smaller", "e2e-now", "16Mi").of_snapshot("taken")).await?;
    space.told("smaller", &["ProvisioningFailed"]).await?;
    // A clone of a claim that was deleted waits for a claim of that name.
    space.claim(Claim::new("of-gone", "e2e-now", "64Mi").of_claim("gone")).await?;
    space.told("of-gone", &["gone"]).await?;
    for claim in ["of-nothing", "smaller", "of-gone"] {
        space.remove(CLAIM, claim).await?;
    }
    Ok(())
}

/// The pool `small` of a node takes one volume, and not a second.
async fn full_pool(space: &Space) -> Result<()> {
    let [node, _] = Env::nodes();
    space.claim(Claim::new("fits", "e2e-small", "120Mi")).await?;
    space.start(Pod::new("fits").claim("fits", "/data").on(node)).await?;
    // With old figures the volume would be made on the other node, where the pod may not go.
    crate::space::until("the scheduler knows that the pool is full", crate::space::LIMIT, async || {
        let all = space.env.objects.list(CAPACITY, OFFSHOOT).await?;
        let here = all.iter().find(|one| one["storageClassName"] == "e2e-small" && leaks::on(one, node));
        let left = here.and_then(|one| bytes(&text(one, "/capacity")));
        Ok(left.is_some_and(|left| left < 140 << 20).then_some(()))
    })
    .await?;
    space.claim(Claim::new("over", "e2e-small", "140Mi")).await?;
    space.make(Pod::new("over").claim("over", "/data").on(node).object()).await?;
    // The scheduler says so, or the driver where the scheduler has old figures.
    let events =
        crate::space::until("somebody says that the pool is full", crate::space::LIMIT, async || {
            let said = [space.events("over").await?].concat();
            Ok(said.into_iter().find(|event| {
                event.contains("not have enough free storage") || event.contains("ResourceExhausted")
            }))
        });
    events.await?;
    // Room again: the pod that waited starts.
    space.remove(POD, "fits").await?;
    space.remove(CLAIM, "fits").await?;
    space.running("over").await?;
    space.remove(POD, "over").await?;
    space.remove(CLAIM, "over").await
}

/// No volume of this namespace but the source's.
async fn nothing_made(space: &Space) -> Result<()> {
    crate::space::until("only the source's volume is left", crate::space::LIMIT, async || {
        let volumes = space.env.objects.list(VOLUME, "").await?;
        let ours = volumes.iter().filter(|one| text(one, "/spec/claimRef/namespace") == space.name).count();
        Ok((ours == 1).then_some(()))
    })
    .await
}
