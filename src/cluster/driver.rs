//! Asking the driver from outside the cluster: `offshoot … --output json`, run in the controller's pod.
//!
//! The controller listens on a socket in its pod, and that is all it listens on for people: no port, no further
//! certificate, no right but the one to `exec`, which a cluster's administrator has and others do not. So the plugin
//! starts the same program there and reads its JSON, whose names do not change between versions. Behind a trait, so that
//! tests run the commands against a server in their own process.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, anyhow, bail};
use async_trait::async_trait;
use k8s_openapi::api::core::v1 as core;
use kube::Api;
use kube::api::{AttachParams, ListParams};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncReadExt as _};

use super::access::Access;
use super::kinds::{self, Pod, pod_is_ready, told};
use crate::volume::record::Millis;

/// The labels of the controller's pods.
pub const CONTROLLER: &str = "app.kubernetes.io/name=offshoot,app.kubernetes.io/component=controller";
/// The labels of the agents' pods.
pub const AGENT: &str = "app.kubernetes.io/name=offshoot,app.kubernetes.io/component=node";

/// The variable that says where the controller listens.
const ENDPOINT: &str = "OFFSHOOT_ENDPOINT";

/// The largest answer that is read, in bytes.
const MAX_ANSWER: u64 = 64 << 20;

/// How a command in the controller's pod ended.
#[derive(Debug, Clone, Default)]
pub struct Ran {
    /// Whether it exited with 0.
    pub ok: bool,
    /// What it answered.
    pub stdout: String,
    /// What it said about its failure.
    pub stderr: String,
}

/// Runs `offshoot ARGS` where the driver's socket is.
#[async_trait]
pub trait Driver: Send + Sync {
    /// Runs to the end.
    ///
    /// # Errors
    /// Where the command could not be started or its end is not known. A command that failed is no error here.
    async fn run(&self, args: &[&str]) -> Result<Ran>;
}

/// The controller's pod.
pub struct ControllerPod {
    pods: Api<core::Pod>,
    name: String,
    container: String,
    socket: Option<String>,
}

impl ControllerPod {
    /// Finds one that is ready. Any will do: they keep no state.
    ///
    /// # Errors
    /// Where there is none, with what to do.
    pub async fn find(access: &Access) -> Result<ControllerPod> {
        let pods: Vec<Pod> = controllers(access, CONTROLLER).await?;
        let Some(pod) = pods.iter().find(|pod| pod_is_ready(pod)) else {
            let place = access.driver_namespace.as_ref().map_or_else(
                || "in any namespace".to_owned(),
                |namespace| format!("in namespace {namespace}"),
            );
            match pods.first().and_then(|pod| pod.metadata.name.as_deref()) {
                Some(name) => {
                    bail!("the controller's pod {name} is not ready; see `kubectl describe pod {name}`")
                }
                None => bail!(
                    "no pod with the labels {CONTROLLER} is there {place}; install the driver, or name its namespace with --driver-namespace"
                ),
            }
        };
        let name = pod.metadata.name.clone().unwrap_or_default();
        let container = pod.spec.containers.iter().find(|container| endpoint(container).is_some());
        let container =
            container.or_else(|| pod.spec.containers.iter().find(|container| container.name == "offshoot"));
        let container =
            container.with_context(|| format!("no container of pod {name} has {ENDPOINT} set"))?;
        let namespace = pod.metadata.namespace.clone().unwrap_or_default();
        Ok(ControllerPod {
            pods: Api::namespaced(access.client.clone(), &namespace),
            name,
            container: container.name.clone(),
            socket: endpoint(container),
        })
    }
}

/// The pods with these labels, where the driver runs.
pub(super) async fn controllers(access: &Access, labels: &str) -> Result<Vec<Pod>> {
    let pods = match &access.driver_namespace {
        Some(namespace) => kinds::within(&access.client, namespace),
        None => kinds::all(&access.client),
    };
    let found = kinds::list(pods, ListParams::default().labels(labels)).await;
    found.map_err(|error| told("list the driver's pods", error))
}

/// The socket that a container serves on.
fn endpoint(container: &kinds::Container) -> Option<String> {
    let set = container.env.iter().find(|variable| variable.name == ENDPOINT && !variable.value.is_empty());
    set.map(|variable| variable.value.clone())
}

#[async_trait]
impl Driver for ControllerPod {
    async fn run(&self, args: &[&str]) -> Result<Ran> {
        let mut command = vec!["offshoot"];
        command.extend(args);
        if let Some(socket) = &self.socket {
            command.extend(["--socket", socket]);
        }
        let params =
            AttachParams::default().container(self.container.as_str()).stdin(false).stdout(true).stderr(true);
        let mut process = self.pods.exec(&self.name, command, &params).await.map_err(|error| {
            told(
                &format!("run offshoot in pod {} (this needs the right to create pods/exec)", self.name),
                error,
            )
        })?;
        let status = process.take_status();
        let (out, err) = (process.stdout(), process.stderr());
        let (stdout, stderr) = tokio::join!(read(out), read(err));
        let status = match status {
            Some(status) => status.await,
            None => None,
        };
        let status = status
            .with_context(|| format!("the connection to pod {} broke; repeat the command", self.name))?;
        Ok(Ran { ok: status.status.as_deref() == Some("Success"), stdout: stdout?, stderr: stderr? })
    }
}

async fn read(stream: Option<impl AsyncRead + Unpin>) -> Result<String> {
    let mut text = String::new();
    if let Some(stream) = stream {
        stream.take(MAX_ANSWER).read_to_string(&mut text).await.context("cannot read the driver's answer")?;
    }
    Ok(text)
}

/// Runs a command that answers in JSON.
///
/// # Errors
/// What the command said, where it failed; where its answer is not understood.
pub async fn ask<T: DeserializeOwned>(driver: &dyn Driver, args: &[&str]) -> Result<T> {
    let ran = driver.run(&[args, &["--output", "json"]].concat()).await?;
    if !ran.ok {
        return Err(anyhow!("{}", said(&ran)));
    }
    serde_json::from_str(&ran.stdout)
        .with_context(|| format!("the driver's answer to `offshoot {}` is not understood", args.join(" ")))
}

/// What a failed command said, without the word `error`.
pub fn said(ran: &Ran) -> &str {
    let text = ran.stderr.trim();
    let text = text.lines().last().unwrap_or("the driver's command failed and did not say why");
    text.strip_prefix("error: ").unwrap_or(text)
}

/// `offshoot tree`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Lineage {
    /// Volumes and snapshots, without those of `unreachable`.
    pub nodes: Vec<Object>,
    /// The nodes whose agents did not answer.
    pub unreachable: Vec<String>,
}

/// A volume or snapshot, as the driver's JSON has it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Object {
    /// CSI's id.
    pub id: String,
    /// `volume`, `snapshot` or `group`.
    pub kind: String,
    /// The name that the sidecar gave.
    pub name: String,
    /// What it came from; also if that is gone.
    pub parent_id: Option<String>,
    /// The pool's name.
    pub pool: String,
    /// The pool's id.
    pub pool_id: String,
    /// Bytes that its user sees.
    pub size_bytes: u64,
    /// Bytes that deleting it would give back; `None` where the pool cannot say.
    pub own_bytes: Option<u64>,
    /// Bytes shared with others.
    pub shared_bytes: Option<u64>,
    /// RFC 3339.
    pub created_at: Option<String>,
    /// `ready`, `creating` ….
    pub state: String,
    /// Staged or published on a node.
    pub in_use: bool,
    /// The group it is a member of.
    pub group_snapshot_id: Option<String>,
    /// Facts for people.
    pub attributes: BTreeMap<String, String>,
}

impl Object {
    /// When it was made.
    pub fn created(&self) -> Option<Millis> {
        Some(self.created_at.as_deref()?.parse::<jiff::Timestamp>().ok()?.as_millisecond())
    }
}

/// `offshoot pool list`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Pools {
    /// The pools of all agents that answered.
    pub pools: Vec<Pool>,
    /// The nodes whose agents did not answer.
    pub unreachable: Vec<String>,
}

/// A pool, as the driver's JSON has it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Pool {
    /// Its name, by which StorageClasses choose it.
    pub name: String,
    /// Its id, part of every id in it. Empty for one that could not be opened.
    pub id: String,
    /// Where it is on its host.
    pub path: String,
    /// The whole of it, in bytes.
    pub size_bytes: u64,
    /// What new volumes may take.
    pub available_bytes: u64,
    /// What is taken.
    pub allocated_bytes: u64,
    /// Volumes in it.
    pub volumes: u64,
    /// Snapshots in it.
    pub snapshots: u64,
    /// Whether new volumes can be made.
    pub ready: bool,
    /// Why not.
    pub reason: String,
    /// What is worth knowing though it works.
    pub warnings: Vec<String>,
    /// Facts for people; `node` says where it is.
    pub attributes: BTreeMap<String, String>,
}

impl Pool {
    /// The node that has it; empty where nobody says.
    pub fn node(&self) -> &str {
        self.attributes.get(NODE).map(String::as_str).unwrap_or_default()
    }
}

/// The attribute of a pool that names its node.
pub const NODE: &str = "node";

/// Everything that the driver has.
///
/// # Errors
/// As [`ask`].
pub async fn lineage(driver: &dyn Driver) -> Result<Lineage> {
    ask(driver, &["tree"]).await
}

/// All pools.
///
/// # Errors
/// As [`ask`].
pub async fn pools(driver: &dyn Driver) -> Result<Pools> {
    ask(driver, &["pool", "list"]).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::testing::FakeApi;
    use serde_json::json;

    fn pod(name: &str, ready: &str) -> serde_json::Value {
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": { "name": name, "namespace": "offshoot", "labels": {
                "app.kubernetes.io/name": "offshoot", "app.kubernetes.io/component": "controller" } },
            "spec": { "containers": [
                { "name": "provisioner", "image": "p" },
                { "name": "driver", "image": "o", "env": [{ "name": ENDPOINT, "value": "unix:///csi/csi.sock" }] },
            ] },
            "status": { "phase": "Running", "conditions": [{ "type": "Ready", "status": ready }] },
        })
    }

    #[tokio::test]
    async fn the_controller_is_found_by_its_labels_and_its_container_by_its_socket() {
        let api = FakeApi::with([pod("a", "False"), pod("b", "True")]);
        let mut access = Access::new(api.client(), "csi.offshoot.dev");
        let found = ControllerPod::find(&access).await.unwrap();
        assert_eq!((found.name.as_str(), found.container.as_str()), ("b", "driver"));
        assert_eq!(found.socket.as_deref(), Some("unix:///csi/csi.sock"));
        access.driver_namespace = Some("elsewhere".to_owned());
        let error = ControllerPod::find(&access).await.err().unwrap().to_string();
        assert!(error.contains("--driver-namespace"), "{error}");
        let api = FakeApi::with([pod("a", "False")]);
        let error = ControllerPod::find(&Access::new(api.client(), "d")).await.err().unwrap().to_string();
        assert!(error.contains("pod a is not ready"), "{error}");
    }

    #[test]
    fn a_failed_command_is_quoted_without_its_prefix() {
        let ran = |stderr: &str| Ran { stderr: stderr.to_owned(), ..Ran::default() };
        assert_eq!(said(&ran("warning\nerror: volume_id: is gone\n")), "volume_id: is gone");
        assert_eq!(said(&ran("")), "the driver's command failed and did not say why");
    }
}
