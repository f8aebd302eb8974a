//! What is left when everything has been deleted: nothing may be.
//!
//! Scenarios run side by side, so each is asked about its own: ids of its volumes, snapshots and pods are written down while it runs, and
//! at its end no node may have a loop device, a mount, a file or a folder with such an id. When none runs, the nodes must hold what they held
//! before the first.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use offshoot_cluster::Inventory;
use serde_json::Value;

use crate::objects::{CAPACITY, CONTENT, GROUP_CONTENT, POD, VOLUME, bytes, name, text};
use crate::setup::{Env, OFFSHOOT, POOL, seen};
use crate::space::until;

/// Kubelet clears away what a pod leaves behind every two seconds, and not in one go.
const LIMIT: Duration = Duration::from_secs(90);

/// Kubelet makes these folders when it first needs them, and keeps them.
const KUBELETS: [&str; 4] =
    ["csi/csi.offshoot.dev", "csi/volumeDevices", "csi/volumeDevices/publish", "csi/volumeDevices/staging"];

/// Where containerd mounts the networks of pods.
const NETWORKS: &str = "/run/netns/";

/// Writes down the ids that belong to namespaces, for as long as it is let.
pub(crate) async fn watch(env: Rc<Env>) {
    loop {
        // The API server may be away for a moment.
        let _ = note(&env).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

async fn note(env: &Env) -> Result<()> {
    let mut seen = Vec::new();
    for volume in env.objects.list(VOLUME, "").await? {
        let namespace = text(&volume, "/spec/claimRef/namespace");
        seen.extend([
            (namespace.clone(), name(&volume)),
            (namespace, text(&volume, "/spec/csi/volumeHandle")),
        ]);
    }
    for content in env.objects.list(CONTENT, "").await? {
        seen.push((
            text(&content, "/spec/volumeSnapshotRef/namespace"),
            text(&content, "/status/snapshotHandle"),
        ));
    }
    for pod in env.objects.list(POD, "").await? {
        seen.push((text(&pod, "/metadata/namespace"), text(&pod, "/metadata/uid")));
    }
    let mut marks = env.marks.borrow_mut();
    for (namespace, mark) in seen {
        // Short ones could be found by chance.
        if mark.len() > 8 && namespace.starts_with("e2e-") {
            marks.entry(namespace).or_default().insert(mark);
        }
    }
    Ok(())
}

/// Waits until nothing of a namespace that is gone is left.
///
/// # Errors
/// If something is; the error lists it.
pub(crate) async fn none_of(env: &Env, namespace: &str) -> Result<()> {
    none("", async || {
        let mut left = objects(env, |owner| owner == namespace).await?;
        let marks = env.marks.borrow().get(namespace).cloned().unwrap_or_default();
        for (node, inventory) in inventories(env)? {
            let lines = inventory.since(&Inventory::default());
            let ours = lines.into_iter().filter(|line| marks.iter().any(|mark| line.contains(mark.as_str())));
            left.extend(ours.map(|line| format!("{node}: {line}")));
        }
        Ok(left)
    })
    .await
}

/// Writes down what the nodes hold now, before anything is made.
///
/// # Errors
/// If a node is off.
pub(crate) fn begin(env: &Env) -> Result<()> {
    let all = inventories(env)?;
    env.before.borrow_mut().extend(all);
    Ok(())
}

/// Waits until nodes hold what they held at the beginning, no object of any scenario is left, and the free space is as it is said to be.
///
/// # Errors
/// If something is left; the error lists it.
pub(crate) async fn none_at_all(env: &Env) -> Result<()> {
    none("all: ", async || {
        let mut left = objects(env, |_| true).await?;
        let live: BTreeSet<_> =
            env.objects.list(POD, "").await?.iter().map(|pod| text(pod, "/metadata/uid")).collect();
        let (mut sandboxes, mut sandboxes_before) = (0, 0);
        for (node, inventory) in inventories(env)? {
            let before = env.before.borrow().get(&node).cloned().unwrap_or_default();
            sandboxes += pods_networks(&inventory);
            sandboxes_before += pods_networks(&before);
            let lines = inventory.since(&before);
            // A template is made once for each kind of filesystem. The driver's own pods live on.
            let expected = |line: &String| {
                line.contains("/templates/")
                    // They have no pod's name: they are counted.
                    || line.contains(NETWORKS)
                    || KUBELETS.iter().any(|end| line.ends_with(end))
                    || live.iter().any(|pod| line.contains(pod.as_str()))
            };
            left.extend(
                lines.into_iter().filter(|line| !expected(line)).map(|line| format!("{node}: {line}")),
            );
        }
        if sandboxes > sandboxes_before {
            left.push(format!("{sandboxes} networks of pods, where there were {sandboxes_before}"));
        }
        left.extend(capacities(env).await?);
        Ok(left)
    })
    .await
}

/// How many pods have a network on a node. Those of the driver get new ones in a reboot and an upgrade, and the controller may have moved.
fn pods_networks(inventory: &Inventory) -> usize {
    inventory.mounts.iter().filter(|mount| mount.starts_with(NETWORKS)).count()
}

async fn none(prefix: &str, ask: impl AsyncFn() -> Result<Vec<String>>) -> Result<()> {
    let clean = until("nothing is left", LIMIT, async || Ok(ask().await?.is_empty().then_some(()))).await;
    if clean.is_ok() {
        return Ok(());
    }
    let left = ask().await?;
    ensure!(left.is_empty(), "{prefix}left behind:\n  {}", left.join("\n  "));
    Ok(())
}

/// Objects outside of namespaces that belong to one.
async fn objects(env: &Env, owner: impl Fn(&str) -> bool) -> Result<Vec<String>> {
    let mut left = Vec::new();
    let kinds = [
        (VOLUME, "/spec/claimRef/namespace"),
        (CONTENT, "/spec/volumeSnapshotRef/namespace"),
        (GROUP_CONTENT, "/spec/volumeGroupSnapshotRef/namespace"),
    ];
    for (kind, place) in kinds {
        for object in env.objects.list(kind, "").await? {
            let namespace = text(&object, place);
            if namespace.starts_with("e2e-") && owner(&namespace) {
                let finalizers = &object["metadata"]["finalizers"];
                left.push(format!("{} {} of {namespace}, finalizers {finalizers}", kind.name, name(&object)));
            }
        }
    }
    Ok(left)
}

fn inventories(env: &Env) -> Result<Vec<(String, Inventory)>> {
    let cluster = env.cluster.borrow();
    Env::nodes().into_iter().map(|name| Ok((name.to_owned(), Inventory::of(&cluster.node(name)?)?))).collect()
}

/// Where what Kubernetes is told about free space differs from the formula of docs/flows/capacity.md, one place a line. Only classes of
/// the pool `fast` are looked at, whose filesystem is the node's.
///
/// # Errors
/// If the API server does not answer, or a pool cannot be read.
pub(crate) async fn capacities(env: &Env) -> Result<Vec<String>> {
    let mut wrong = Vec::new();
    let all = env.objects.list(CAPACITY, OFFSHOOT).await?;
    for node in Env::nodes() {
        let expected = free(env, node)?;
        for class in ["e2e", "e2e-xfs", "e2e-thick"] {
            let here: Vec<&Value> =
                all.iter().filter(|one| one["storageClassName"] == class && on(one, node)).collect();
            let said: Vec<_> = here.iter().map(|one| bytes(&text(one, "/capacity"))).collect();
            if said != [Some(expected)] {
                wrong.push(format!(
                    "class {class} on {node} is said to have {said:?} bytes; the formula gives {expected}"
                ));
            }
        }
    }
    Ok(wrong)
}

/// Whether a capacity object is about a node.
pub(crate) fn on(capacity: &Value, node: &str) -> bool {
    let labels = capacity.pointer("/nodeTopology/matchLabels").and_then(Value::as_object);
    labels.is_some_and(|labels| labels.values().any(|value| value == node))
}

/// What the formula gives for a node's pool, in bytes.
///
/// # Errors
/// If it cannot be read.
pub(crate) fn free(env: &Env, node: &str) -> Result<u64> {
    let path = seen(env, node, POOL)?;
    let pool =
        nix::sys::statvfs::statvfs(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let unit = pool.fragment_size();
    let (size, unused, available) =
        (pool.blocks() * unit, pool.blocks_free() * unit, pool.blocks_available() * unit);
    // The allocated part is what is not free, so the smaller of the two is what the formula asks for.
    let reserve = size.div_ceil(50).max(64 << 20).min(size);
    Ok(available.min(unused).saturating_sub(reserve))
}
