//! The plugin between an API server in memory and a real server of the driver in this process.
//!
//! The commands that the plugin would run in the controller's pod run here on a thread of their own, against a socket: so
//! a change of their JSON that the plugin does not understand fails a test.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use clap::Parser as _;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

use super::{Command, Plugin, World};
use crate::cli::Cli;
use crate::cli::output::capture;
use crate::cluster::access::Access;
use crate::cluster::driver::{Driver, Ran};
use crate::cluster::testing::FakeApi;
use crate::csi::calls::CallLayer;
use crate::csi::socket::Socket;
use crate::csi::{Edge, server};
use crate::metrics::Metrics;
use crate::service::testing::{Bench, SIZE, mount};

/// Runs `offshoot` in this process.
struct InProcess(PathBuf);

#[async_trait]
impl Driver for InProcess {
    async fn run(&self, args: &[&str]) -> anyhow::Result<Ran> {
        let mut line = vec!["offshoot".to_owned()];
        line.extend(args.iter().map(|arg| (*arg).to_owned()));
        line.extend(["--socket".to_owned(), self.0.display().to_string()]);
        let ran = tokio::task::spawn_blocking(move || {
            let cli = match Cli::try_parse_from(line) {
                Ok(cli) => cli,
                Err(error) => {
                    return Ran {
                        ok: error.exit_code() == 0,
                        stdout: error.to_string(),
                        stderr: error.to_string(),
                    };
                }
            };
            capture::start();
            let result = cli.run();
            let stderr = result.as_ref().err().map(|error| format!("error: {error:#}\n")).unwrap_or_default();
            Ran { ok: result.is_ok(), stdout: capture::end(), stderr }
        });
        Ok(ran.await?)
    }
}

/// A cluster with a driver that has one pool.
pub(super) struct Cluster {
    pub(super) api: FakeApi,
    pub(super) bench: Bench,
    world: World,
    stop: CancellationToken,
    _dir: tempfile::TempDir,
}

impl Cluster {
    pub(super) async fn new() -> Cluster {
        let bench = Bench::new("xfs").await;
        let dir = tempfile::tempdir().unwrap();
        let path: &Path = &dir.path().join("csi.sock");
        let edge = Edge::new(bench.service.clone(), "csi.offshoot.dev");
        let mut services = Routes::builder();
        edge.add_to(&mut services);
        edge.started();
        let stop = CancellationToken::new();
        let calls = CallLayer::new(Metrics::new("d", "n"), stop.clone());
        let socket = Socket::bind(path).unwrap();
        tokio::spawn(server::serve(
            socket,
            services.routes(),
            calls,
            async {},
            stop.clone(),
            Duration::from_secs(1),
        ));
        let api = FakeApi::default();
        let world = World {
            access: Access::new(api.client(), "csi.offshoot.dev"),
            driver: Arc::new(InProcess(path.to_owned())),
        };
        Cluster { api, bench, world, stop, _dir: dir }
    }

    /// Runs `kubectl offshoot ARGS`, and gives what it printed, or its error.
    pub(super) async fn run(&self, args: &[&str]) -> Result<String, String> {
        let line = ["kubectl-offshoot"].iter().chain(args).copied();
        let plugin = Plugin::try_parse_from(line).map_err(|error| error.to_string())?;
        let mut world = World { access: self.world.access.clone(), driver: self.world.driver.clone() };
        if let Some(namespace) = plugin.cluster.namespace {
            world.access.namespace = namespace;
        }
        capture::start();
        let result = Command::run(plugin.command, &world).await;
        let text = capture::end();
        result.map(|()| text).map_err(|error| format!("{error:#}"))
    }

    /// As [`Cluster::run`], as JSON.
    pub(super) async fn json(&self, args: &[&str]) -> Value {
        let text = self.run(&[args, &["--output", "json"]].concat()).await.unwrap();
        serde_json::from_str(&text).unwrap()
    }

    /// What `doctor` finds, whatever it ends with.
    pub(super) async fn checks(&self) -> Vec<Value> {
        let found = crate::cluster::checks::examine(&self.world.access, self.world.driver.as_ref()).await;
        let checks = serde_json::to_value(crate::cli::doctor::Checks::of(found)).unwrap();
        checks["checks"].as_array().unwrap().clone()
    }

    /// Makes a volume with its PersistentVolume and claim, and gives its id.
    pub(super) async fn volume(&self, namespace: &str, name: &str) -> String {
        let id = self.bench.volume(name, mount(&[])).await;
        self.claim(namespace, name, &id);
        id
    }

    /// Gives a volume a PersistentVolume and a claim.
    pub(super) fn claim(&self, namespace: &str, name: &str, id: &str) {
        self.api.put(json!({
            "apiVersion": "v1", "kind": "PersistentVolumeClaim", "spec": { "volumeName": format!("pv-{name}") },
            "metadata": { "name": name, "namespace": namespace, "uid": format!("uid-{name}") },
        }));
        self.api.put(json!({
            "apiVersion": "v1", "kind": "PersistentVolume", "metadata": { "name": format!("pv-{name}") },
            "spec": {
                "csi": { "driver": "csi.offshoot.dev", "volumeHandle": id },
                "claimRef": { "namespace": namespace, "name": name, "uid": format!("uid-{name}") },
                "capacity": { "storage": SIZE.to_string() },
            },
        }));
    }

    /// Takes a snapshot with its VolumeSnapshot and content, and gives its id.
    pub(super) async fn snapshot(&self, namespace: &str, name: &str, volume: &str) -> String {
        let id = self.bench.snapshot(name, volume).await.unwrap();
        self.api.put(json!({
            "apiVersion": "snapshot.storage.k8s.io/v1", "kind": "VolumeSnapshot", "spec": {},
            "metadata": { "name": name, "namespace": namespace },
            "status": { "boundVolumeSnapshotContentName": format!("content-{name}") },
        }));
        self.api.put(json!({
            "apiVersion": "snapshot.storage.k8s.io/v1", "kind": "VolumeSnapshotContent",
            "metadata": { "name": format!("content-{name}") },
            "spec": {
                "driver": "csi.offshoot.dev", "source": { "volumeHandle": volume },
                "volumeSnapshotRef": { "namespace": namespace, "name": name },
            },
            "status": { "snapshotHandle": id },
        }));
        id
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}
