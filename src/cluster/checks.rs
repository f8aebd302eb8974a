//! What can be wrong between Kubernetes and the driver, each with what mends it.
//!
//! A driver that is half installed mostly works, until the first claim waits without a word. Each thing that has to be
//! there is looked at by itself: what cannot be looked at is a warning and hides nothing else.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::storage::v1::StorageClass;
use kube::Api;
use kube::api::ListParams;

use super::access::Access;
use super::driver::{self, AGENT, CONTROLLER, Driver, Pools, controllers};
use super::kinds::{self, Content, CsiDriver, CsiNode, Pod, pod_is_ready, told};
use crate::service::api::{Check, CheckStatus};
use crate::volume::topology::TOPOLOGY_NODE;

/// The parameter of a StorageClass that names a pool.
const POOL: &str = "pool";

/// Days before its end from which a certificate is a warning: they are renewed when a third of their life is left.
const CERTIFICATE_DAYS: i64 = 3;

fn check(name: &str, status: CheckStatus, detail: impl Into<String>, mend: impl Into<String>) -> Check {
    Check { name: name.to_owned(), status, detail: detail.into(), mend: mend.into() }
}

fn ok(name: &str, detail: impl Into<String>) -> Check {
    check(name, CheckStatus::Ok, detail, "")
}

fn warn(name: &str, detail: impl Into<String>, mend: impl Into<String>) -> Check {
    check(name, CheckStatus::Warn, detail, mend)
}

fn fail(name: &str, detail: impl Into<String>, mend: impl Into<String>) -> Check {
    check(name, CheckStatus::Fail, detail, mend)
}

/// What could not be looked at.
fn unseen(name: &str, error: &anyhow::Error) -> Check {
    warn(name, format!("cannot be looked at: {error:#}"), "look at your rights: `kubectl auth can-i --list`")
}

/// Looks at everything.
pub async fn examine(access: &Access, driver: &dyn Driver) -> Vec<Check> {
    let mut checks = Vec::new();
    match access.server_version().await {
        Ok(version) => checks.push(ok("API server", version)),
        Err(error) => {
            checks.push(fail("API server", format!("{error:#}"), "look at --context and --kubeconfig"));
            return checks;
        }
    }
    checks.push(csi_driver(access).await.unwrap_or_else(|error| unseen("CSIDriver", &error)));
    let controller = controllers(access, CONTROLLER).await;
    let agents = controllers(access, AGENT).await;
    match &controller {
        Ok(pods) => checks.extend(controller_pods(pods)),
        Err(error) => checks.push(unseen("controller", error)),
    }
    match &agents {
        Ok(pods) => {
            let nodes = registered(access).await;
            match nodes {
                Ok(nodes) => checks.extend(agent_pods(pods, &nodes)),
                Err(error) => checks.push(unseen("CSINode", &error)),
            }
        }
        Err(error) => checks.push(unseen("agents", error)),
    }
    let pods = controller.as_ref().into_iter().chain(agents.as_ref()).flatten();
    checks.extend(versions(pods));
    match driver::pools(driver).await {
        Ok(answers) => {
            checks.extend(pools(&answers));
            checks.extend(classes(access, &answers).await);
        }
        Err(error) => checks.push(fail("driver", format!("{error:#}"), "look at the controller's log")),
    }
    checks.push(snapshots(access).await);
    let namespace = controller.iter().flatten().find_map(|pod| pod.metadata.namespace.clone());
    if let Some(namespace) = namespace {
        checks.extend(certificates(access, &namespace).await);
    }
    checks
}

async fn csi_driver(access: &Access) -> Result<Check> {
    const NAME: &str = "CSIDriver";
    let api = kinds::all::<CsiDriver>(&access.client);
    let found = match api.get(&access.driver).await {
        Ok(found) => found,
        Err(error) if kinds::is_absent(&error) => {
            let mend = "install the chart, or say the driver's name with --driver-name";
            return Ok(fail(NAME, format!("{} is not there", access.driver), mend));
        }
        Err(error) => return Err(told("read the CSIDriver", error)),
    };
    let wrong: Vec<&str> = [
        (found.spec.attach_required != Some(false), "attachRequired is not false"),
        (found.spec.pod_info_on_mount != Some(true), "podInfoOnMount is not true"),
        (found.spec.storage_capacity != Some(true), "storageCapacity is not true"),
    ]
    .into_iter()
    .filter_map(|(wrong, text)| wrong.then_some(text))
    .collect();
    if wrong.is_empty() {
        return Ok(ok(NAME, access.driver.clone()));
    }
    Ok(warn(NAME, wrong.join(", "), "install it with the chart, which sets what the driver needs"))
}

/// The controller and the sidecars beside it.
fn controller_pods(pods: &[Pod]) -> Vec<Check> {
    if pods.is_empty() {
        return vec![fail(
            "controller",
            "no pod is there",
            "install the chart, or name its namespace with --driver-namespace",
        )];
    }
    let mut checks = Vec::new();
    if !pods.iter().any(pod_is_ready) {
        checks.push(fail("controller", "no pod is ready", "see `kubectl describe pod` of it"));
    }
    for pod in pods {
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let statuses = pod.status.iter().flat_map(|status| &status.container_statuses);
        for container in statuses {
            let what = format!("container {}", container.name);
            if !container.ready {
                let mend =
                    format!("see `kubectl logs -n {namespace} {name} -c {} --previous`", container.name);
                checks.push(fail(&what, format!("is not ready in pod {name}"), mend));
            } else if container.restart_count > 5 {
                let mend =
                    format!("see `kubectl logs -n {namespace} {name} -c {} --previous`", container.name);
                checks.push(warn(
                    &what,
                    format!("was started {} times again in pod {name}", container.restart_count),
                    mend,
                ));
            } else {
                checks.push(ok(&what, format!("runs in pod {name}")));
            }
        }
    }
    checks
}

/// The nodes on which kubelet knows the driver, with whether it knows its topology.
async fn registered(access: &Access) -> Result<BTreeMap<String, bool>> {
    let mut nodes = BTreeMap::new();
    let listed = kinds::each(kinds::all::<CsiNode>(&access.client), ListParams::default(), |node| {
        if let Some(driver) = node.spec.drivers.iter().find(|driver| driver.name == access.driver) {
            let knows = driver.topology_keys.iter().any(|key| key == TOPOLOGY_NODE);
            nodes.insert(node.metadata.name.clone().unwrap_or_default(), knows);
        }
    });
    listed.await.map_err(|error| told("list CSINodes", error))?;
    Ok(nodes)
}

fn agent_pods(pods: &[Pod], registered: &BTreeMap<String, bool>) -> Vec<Check> {
    if pods.is_empty() {
        return vec![fail(
            "agents",
            "no pod is there",
            "look at the DaemonSet's node selector and tolerations",
        )];
    }
    let mut checks = Vec::new();
    for pod in pods {
        let (node, name) = (&pod.spec.node_name, pod.metadata.name.as_deref().unwrap_or_default());
        let what = format!("agent of {}", if node.is_empty() { "no node" } else { node });
        if !pod_is_ready(pod) {
            checks.push(fail(
                &what,
                format!("pod {name} is not ready"),
                format!("see `kubectl describe pod {name}` and its log"),
            ));
            continue;
        }
        checks.push(match registered.get(node) {
            None => fail(
                &what,
                "kubelet does not know the driver (no entry in CSINode)",
                "look at the agent's log for the registration; is the kubelet directory the right one (kubeletDir)?",
            ),
            Some(false) => warn(
                &what,
                format!("kubelet does not know the topology key {TOPOLOGY_NODE}"),
                format!("delete pod {name}, so that it registers again"),
            ),
            Some(true) => ok(&what, "is ready and registered"),
        });
    }
    checks
}

/// All pods of the driver should run one version.
fn versions<'a>(pods: impl Iterator<Item = &'a Pod>) -> Option<Check> {
    let own = |pod: &'a Pod| pod.spec.containers.iter().find(|container| container.name == "offshoot");
    let images: BTreeSet<&str> = pods.filter_map(own).map(|container| container.image.as_str()).collect();
    let text = images.iter().copied().collect::<Vec<_>>().join(", ");
    match images.len() {
        0 => None,
        1 => Some(ok("versions", format!("{text}; this program is {}", env!("CARGO_PKG_VERSION")))),
        _ => Some(warn(
            "versions",
            format!("pods run different images: {text}"),
            "finish the upgrade: `kubectl rollout status` of the DaemonSet and the Deployment",
        )),
    }
}

fn pools(answers: &Pools) -> Vec<Check> {
    let mut checks = Vec::new();
    for node in &answers.unreachable {
        let mend = format!(
            "look at the agent's log; if the node is gone for good: `kubectl offshoot forget-node {node}`"
        );
        checks.push(fail(&format!("node {node}"), "its agent does not answer the controller", mend));
    }
    if answers.pools.is_empty() {
        checks.push(fail("pools", "there is none", "name a pool in the chart's values"));
    }
    for pool in &answers.pools {
        let what = format!("pool {}/{}", pool.node(), pool.name);
        if !pool.ready {
            checks.push(fail(
                &what,
                pool.reason.clone(),
                "mend the directory on the node; the agent tries again by itself",
            ));
        } else if pool.warnings.is_empty() {
            checks.push(ok(&what, "is ready"));
        } else {
            checks.push(warn(&what, pool.warnings.join("; "), ""));
        }
    }
    checks
}

async fn classes(access: &Access, answers: &Pools) -> Vec<Check> {
    let api: Api<StorageClass> = Api::all(access.client.clone());
    let found = match api.list(&ListParams::default()).await {
        Ok(found) => found.items,
        Err(error) => return vec![unseen("StorageClasses", &told("list StorageClasses", error))],
    };
    let ours: Vec<_> = found.into_iter().filter(|class| class.provisioner == access.driver).collect();
    if ours.is_empty() {
        return vec![warn(
            "StorageClasses",
            "none is of this driver",
            "name one in the chart's values (storageClasses)",
        )];
    }
    let known: BTreeSet<&str> = answers.pools.iter().map(|pool| pool.name.as_str()).collect();
    let checks = ours.iter().map(|class| {
        let what = format!("StorageClass {}", class.metadata.name.as_deref().unwrap_or_default());
        let pool = class.parameters.as_ref().and_then(|parameters| parameters.get(POOL));
        match pool {
            Some(pool) if !known.contains(pool.as_str()) && answers.unreachable.is_empty() => {
                let names = known.iter().copied().collect::<Vec<_>>().join(", ");
                fail(&what, format!("names pool {pool}, which no node has"), format!("name one of: {names}"))
            }
            Some(pool) if !known.contains(pool.as_str()) => warn(
                &what,
                format!("names pool {pool}, which no node that answers has"),
                "bring the other agents up",
            ),
            _ => ok(&what, "is sound"),
        }
    });
    checks.collect()
}

async fn snapshots(access: &Access) -> Check {
    const NAME: &str = "snapshot kinds";
    match kinds::list_if_there(kinds::all::<Content>(&access.client)).await {
        Ok(Some(_)) => ok(NAME, "are installed"),
        Ok(None) => warn(
            NAME,
            "are not installed: there are no VolumeSnapshots",
            "install the CRDs and the snapshot-controller of kubernetes-csi/external-snapshotter",
        ),
        Err(error) => unseen(NAME, &told("list VolumeSnapshotContents", error)),
    }
}

/// The ends of the certificates in the driver's Secrets. Of a Secret nothing but that is read, and nothing is shown.
async fn certificates(access: &Access, namespace: &str) -> Vec<Check> {
    const NAME: &str = "certificates";
    let api: Api<Secret> = Api::namespaced(access.client.clone(), namespace);
    let secrets = match api.list(&ListParams::default().labels("app.kubernetes.io/name=offshoot")).await {
        Ok(secrets) => secrets.items,
        Err(error) => return vec![unseen(NAME, &told("read the driver's Secret", error))],
    };
    let now = jiff::Timestamp::now().as_second();
    let mut checks = Vec::new();
    for secret in secrets {
        let name = secret.metadata.name.unwrap_or_default();
        let data = secret.data.unwrap_or_default();
        for (key, value) in data.iter().filter(|(key, _)| key.ends_with(".crt")) {
            let what = format!("{name}/{key}");
            checks.push(match end_of(&value.0) {
                Some(end) => lasts(&what, end, now),
                None => warn(
                    &what,
                    "holds no certificate that can be read",
                    "delete the Secret: the controller makes a new one",
                ),
            });
        }
    }
    checks
}

/// The first end of the certificates in a PEM file, in seconds since 1970.
fn end_of(pem: &[u8]) -> Option<i64> {
    let ends = x509_parser::pem::Pem::iter_from_buffer(pem).map(|block| {
        let block = block.ok()?;
        Some(block.parse_x509().ok()?.validity().not_after.timestamp())
    });
    ends.collect::<Option<Vec<i64>>>()?.into_iter().min()
}

fn lasts(what: &str, end: i64, now: i64) -> Check {
    let days = (end - now).div_euclid(86_400);
    let until = jiff::Timestamp::from_second(end).map(|end| end.to_string()).unwrap_or_default();
    if end <= now {
        return fail(
            what,
            format!("ended at {until}"),
            "look at the controller's log; it renews certificates by itself",
        );
    }
    if days < CERTIFICATE_DAYS {
        return warn(
            what,
            format!("ends at {until}"),
            "look at the controller's log; it should have renewed it by now",
        );
    }
    ok(what, format!("lasts {days} days"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_judged_by_its_end() {
        let check = |end: i64, expect| assert_eq!(lasts("c", end, 1_000_000).status, expect, "{end}");
        check(999_999, CheckStatus::Fail);
        check(1_000_000 + 2 * 86_400, CheckStatus::Warn);
        check(1_000_000 + 30 * 86_400, CheckStatus::Ok);
        let key = rcgen::generate_simple_self_signed(["a".to_owned()]).unwrap();
        assert!(end_of(key.cert.pem().as_bytes()).is_some_and(|end| end > 1_000_000));
        assert_eq!(end_of(b"no certificate"), None);
    }
}
