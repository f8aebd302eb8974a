//! The cluster's own promises: what the end-to-end scenarios take for granted about nodes and pods.
//!
//! Needs root, and what `scripts/setup.sh e2e` installs. It uses the cluster that is there, or makes one and leaves it running.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::time::Duration;

use kube::Api;
use offshoot_cluster::{Cluster, Inventory, Layout, Spec, audit, quiet};

const LIMIT: Duration = Duration::from_secs(90);

/// A web server on each node that says its pod's name, and may mount for its node.
const SERVERS: &str = include_str!("servers.json");

fn in_namespace(cluster: &Cluster, args: &[&str]) -> String {
    cluster.kubectl(&[&["--namespace=harness"], args].concat(), None).unwrap()
}

/// The names of the servers' pods, the one on node-a first.
fn pods(cluster: &Cluster) -> Vec<String> {
    in_namespace(cluster, &["rollout", "status", "daemonset/server", "--timeout=90s"]);
    let sorted = ["get", "pods", "--sort-by=.spec.nodeName", "-o=jsonpath={.items[*].metadata.name}"];
    in_namespace(cluster, &sorted).split(' ').map(str::to_owned).collect()
}

#[tokio::test]
async fn nodes_are_machines_that_can_be_reached_killed_rebooted_and_lost() {
    let mut cluster =
        Cluster::up(&Layout::from_env().unwrap(), vec![Spec::usual(1), Spec::usual(2)], quiet).unwrap();
    cluster.kubectl(&["delete", "namespace", "harness", "--ignore-not-found"], None).unwrap();
    cluster.kubectl(&["create", "namespace", "harness"], None).unwrap();
    let nodes: Api<k8s_openapi::api::core::v1::Node> = Api::all(cluster.client().await.unwrap());
    assert_eq!(nodes.list(&kube::api::ListParams::default()).await.unwrap().items.len(), 2);
    let node = cluster.node("node-a").unwrap();
    let before = Inventory::of(&node).unwrap();
    cluster.kubectl(&["--namespace=harness", "apply", "--filename=-"], Some(SERVERS)).unwrap();

    // Pods reach each other over nodes, and services.
    let names = pods(&cluster);
    let address = in_namespace(&cluster, &["get", "pod", &names[1], "-o=jsonpath={.status.podIP}"]);
    let service = in_namespace(&cluster, &["get", "service", "server", "-o=jsonpath={.spec.clusterIP}"]);
    let get = |from: &str, url: &str| in_namespace(&cluster, &["exec", from, "--", "wget", "-q", "-O-", url]);
    assert_eq!(get(&names[0], &format!("http://{address}:8080/")).trim(), names[1]);
    assert!(names.contains(&get(&names[0], &format!("http://{service}/")).trim().to_owned()));

    // The API server knows a pod by its token.
    let token = "cat /var/run/secrets/kubernetes.io/serviceaccount/token";
    let token = in_namespace(&cluster, &["exec", &names[0], "--", "sh", "-c", token]);
    let review = format!(
        r#"{{"apiVersion":"authentication.k8s.io/v1","kind":"TokenReview","spec":{{"token":"{token}"}}}}"#
    );
    let who = ["create", "--filename=-", "-o=jsonpath={.status.user.username}"];
    assert_eq!(cluster.kubectl(&who, Some(&review)).unwrap(), "system:serviceaccount:harness:default");

    // A mount made in a pod is the node's, but not the host's; the audit sees it, a loop device and a file of a pool.
    let leak = "mkdir -p /kubelet/leak && mount -t tmpfs leak /kubelet/leak && truncate -s 1M /pool/leak && losetup -f /pool/leak";
    in_namespace(&cluster, &["exec", &names[0], "--", "sh", "-c", leak]);
    let leaked = Inventory::of(&node).unwrap().since(&before);
    for expected in ["mount /var/lib/kubelet/leak", "file pool-fast/leak"] {
        assert!(leaked.iter().any(|line| line == expected), "{expected} is not in {leaked:#?}");
    }
    assert!(leaked.iter().any(|line| line.starts_with("loop device on")), "{leaked:#?}");
    assert!(!std::fs::read_to_string("/proc/self/mountinfo").unwrap().contains("kubelet/leak"));

    // A container's process is found, and lives on when kubelet and containerd are killed.
    let pid = cluster.container_pid("harness", &names[0], "server").unwrap();
    assert!(audit::resident(pid).unwrap() > 0);
    for process in ["kubelet", "containerd"] {
        cluster.kill("node-a", process).unwrap();
        cluster.start("node-a", process).unwrap();
    }
    pods(&cluster);
    assert_eq!(cluster.container_pid("harness", &names[0], "server").unwrap(), pid);

    // A reboot ends all of it, and keeps the disk.
    cluster.restart_node("node-a", LIMIT).unwrap();
    assert!(audit::resident(pid).is_err(), "a container has survived the reboot");
    let kept = Inventory::of(&node).unwrap();
    assert!(kept.files.contains("pool-fast/leak") && kept.loops.is_empty(), "{kept:#?}");
    assert!(!kept.mounts.contains("/var/lib/kubelet/leak"));
    std::fs::remove_file(node.seen("/var/lib/offshoot/pool-fast/leak").unwrap()).unwrap();

    // A node may come, and go for good.
    cluster.add_node(Spec::usual(3)).unwrap();
    assert_eq!(pods(&cluster).len(), 3);
    cluster.destroy_node("node-c").unwrap();
    assert!(!cluster.layout().path("machines/node-c").exists());
    cluster.kubectl(&["delete", "node", "node-c"], None).unwrap();

    assert!(audit::requests(cluster.layout()).unwrap().values().sum::<u64>() > 100);
    cluster.kubectl(&["delete", "namespace", "harness"], None).unwrap();
}
