//! What is kept of a failure: everything that a person would look at next.

use std::fs;

use anyhow::Result;
use offshoot_cluster::Inventory;

use crate::setup::{Env, OFFSHOOT};

const KINDS: &str = "nodes,csinodes,pods,persistentvolumeclaims,persistentvolumes,storageclasses,csistoragecapacities,volumesnapshots,\
volumesnapshotcontents,volumegroupsnapshots,volumegroupsnapshotcontents,deployments,daemonsets,endpointslices";

/// Collects it in a folder of the scenario, and gives back the folder's path.
///
/// # Errors
/// If nothing can be written. A part that cannot be had has the reason in its place.
pub(crate) async fn collect(env: &Env, scenario: &str) -> Result<String> {
    let folder = env.file(scenario);
    fs::create_dir_all(&folder)?;
    let selector = "--selector=app.kubernetes.io/name=offshoot";
    let parts: [(&str, &[&str]); 6] = [
        ("overview.txt", &["get", "--all-namespaces", "-o=wide", KINDS]),
        ("objects.yaml", &["get", "--all-namespaces", "-o=yaml", KINDS]),
        ("events.txt", &["get", "events", "--all-namespaces", "--sort-by=.lastTimestamp"]),
        (
            "driver.log",
            &[
                "logs",
                "--namespace",
                OFFSHOOT,
                selector,
                "--all-containers",
                "--prefix",
                "--tail=5000",
                "--max-log-requests=40",
            ],
        ),
        (
            "driver-before.log",
            &[
                "logs",
                "--namespace",
                OFFSHOOT,
                selector,
                "--container=offshoot",
                "--previous",
                "--prefix",
                "--tail=5000",
            ],
        ),
        ("pods.txt", &["describe", "pods", "--all-namespaces"]),
    ];
    for (file, args) in parts {
        let text = env.kubectl(args).await.unwrap_or_else(|error| format!("{error:#}"));
        fs::write(folder.join(file), text)?;
    }
    let nodes = env.cluster.borrow().nodes()?;
    for node in nodes {
        let name = &node.spec().name;
        let held = Inventory::of(&node)
            .map_or_else(|error| format!("{error:#}"), |all| all.since(&Inventory::default()).join("\n"));
        fs::write(folder.join(format!("{name}.txt")), held)?;
        for process in ["kubelet", "containerd"] {
            let log = fs::read_to_string(node.machine().log(process)).unwrap_or_default();
            let lines: Vec<_> = log.lines().collect();
            let end = lines[lines.len().saturating_sub(3000)..].join("\n");
            fs::write(folder.join(format!("{name}-{process}.log")), end)?;
        }
    }
    Ok(folder.display().to_string())
}
