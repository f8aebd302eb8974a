//! What all scenarios share: the cluster, with Offshoot installed in it by its own chart.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::hash::{DefaultHasher, Hasher as _};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use offshoot_cluster::certificates::Authority;
use offshoot_cluster::{Cluster, Inventory, Layout, Spec, audit, images};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::Command;

use crate::objects::{DAEMON_SET, DEPLOYMENT, NAMESPACE, Objects, POD, name, text};
use crate::space::{LIMIT, program, until};
use crate::values;

/// The namespace of the driver, and the name of its release.
pub(crate) const OFFSHOOT: &str = "offshoot";

/// The driver's name.
pub(crate) const DRIVER: &str = "csi.offshoot.dev";

/// The pool of each node.
pub(crate) const POOL: &str = "/var/lib/offshoot/pool-fast";

/// The cluster and its clients.
pub(crate) struct Env {
    /// The nodes.
    pub(crate) cluster: RefCell<Cluster>,
    /// The API server.
    pub(crate) objects: Objects,
    /// Where evidence of failures goes.
    pub(crate) evidence: PathBuf,
    /// By namespace: ids of volumes and snapshots, names of volumes, ids of pods, as they were seen. What is left of them is a leak.
    pub(crate) marks: RefCell<BTreeMap<String, BTreeSet<String>>>,
    /// What the nodes held when nothing was made yet.
    pub(crate) before: RefCell<BTreeMap<String, Inventory>>,
    /// The tag of the image that runs now.
    pub(crate) tag: RefCell<String>,
    /// How often a scenario has killed a container of the driver: so many restarts are not a crash.
    pub(crate) kills: Cell<u64>,
    /// The archive with the driver's image.
    pub(crate) image: PathBuf,
    /// Stands for what is in it.
    content: String,
    tools: PathBuf,
    kubeconfig: PathBuf,
}

impl Env {
    /// Brings the cluster up, or finds it, and installs Offshoot.
    ///
    /// # Errors
    /// If a part cannot be built or does not start.
    pub(crate) async fn up(layout: &Layout, evidence: PathBuf, say: fn(&str)) -> Result<Rc<Self>> {
        say("image: building Offshoot's if something has changed");
        let image = images::offshoot_image()?;
        let postgres = images::postgres_image()?;
        let cluster = Cluster::up(layout, vec![Spec::usual(1), Spec::usual(2)], say)?;
        say("images: loading Offshoot's");
        cluster.load_image(&image)?;
        cluster.load_image(&postgres)?;
        let env = Rc::new(Self {
            objects: Objects::new(cluster.client().await?),
            evidence,
            marks: RefCell::default(),
            before: RefCell::default(),
            tag: RefCell::new("dev".into()),
            kills: Cell::new(0),
            content: content(&image)?,
            image,
            tools: cluster.tools().to_owned(),
            kubeconfig: layout.kubeconfig(),
            cluster: RefCell::new(cluster),
        });
        env.clean(say).await?;
        for node in Self::nodes() {
            // The pool is one level below the disk's mount point: a disk that is not mounted is then noticed.
            fs::create_dir_all(seen(&env, node, POOL)?.join("pool"))
                .context("cannot make a pool's directory")?;
        }
        say("helm: installing the chart");
        env.metadata_certificate().await?;
        env.upgrade(&[]).await?;
        env.wait_driver().await?;
        Ok(env)
    }

    /// The names of the nodes that are there all the time.
    pub(crate) fn nodes() -> [&'static str; 2] {
        ["node-a", "node-b"]
    }

    /// Runs kubectl.
    ///
    /// # Errors
    /// If it fails; the error has what it said.
    pub(crate) async fn kubectl(&self, args: &[&str]) -> Result<String> {
        program(self.command("kubectl").args(args))
            .await
            .with_context(|| format!("kubectl {}", args.join(" ")))
    }

    /// Runs helm.
    ///
    /// # Errors
    /// If it fails; the error has what it said.
    pub(crate) async fn helm(&self, args: &[&str]) -> Result<String> {
        program(self.command("helm").args(args)).await.with_context(|| format!("helm {}", args.join(" ")))
    }

    /// Installs the chart, or upgrades it, with further arguments such as `--set=a=b`, and waits until all runs.
    ///
    /// # Errors
    /// If helm refuses, or something does not run in time.
    pub(crate) async fn upgrade(&self, further: &[&str]) -> Result<String> {
        let file = self.file("values.json");
        let authority = fs::read(self.file("metadata/ca.crt"))
            .context("there is no certificate for the metadata sidecar")?;
        let values = values::of(&self.tag.borrow(), &self.content, &authority);
        fs::write(&file, serde_json::to_vec_pretty(&values)?)?;
        let (chart, file) =
            (images::repository().join("deploy/helm/offshoot"), file.to_string_lossy().into_owned());
        let chart = chart.to_string_lossy().into_owned();
        let mut args =
            vec!["upgrade", "--install", OFFSHOOT, &chart, "--namespace", OFFSHOOT, "--create-namespace"];
        args.extend(["--reset-values", "--values", &file, "--wait", "--timeout=4m"]);
        args.extend(further);
        self.helm(&args).await
    }

    /// Waits until the controller and an agent on each node are ready, and each node has the driver.
    ///
    /// # Errors
    /// If they are not in time.
    pub(crate) async fn wait_driver(&self) -> Result<()> {
        until("the driver runs on all nodes", LIMIT, async || {
            let ready = |object: Option<Value>, ready: &str, all: &str| {
                object.is_some_and(|object| {
                    object["status"]["observedGeneration"] == object["metadata"]["generation"]
                        && object["status"][ready]
                            .as_u64()
                            .is_some_and(|count| count > 0 && Some(count) == object["status"][all].as_u64())
                })
            };
            let controller = self.objects.get(DEPLOYMENT, OFFSHOOT, "offshoot-controller").await?;
            let agents = self.objects.get(DAEMON_SET, OFFSHOOT, "offshoot-node").await?;
            if !ready(controller, "readyReplicas", "replicas")
                || !ready(agents, "numberReady", "desiredNumberScheduled")
            {
                return Ok(None);
            }
            for node in Self::nodes() {
                let registered =
                    self.objects.get(crate::objects::CSI_NODE, "", node).await?.unwrap_or_default();
                let drivers = registered["spec"]["drivers"].as_array().cloned().unwrap_or_default();
                if !drivers.iter().any(|driver| driver["name"] == DRIVER) {
                    return Ok(None);
                }
            }
            Ok(Some(()))
        })
        .await
    }

    /// The pods of the driver with a label `app.kubernetes.io/component`.
    ///
    /// # Errors
    /// If the API server does not answer.
    pub(crate) async fn pods_of(&self, component: &str) -> Result<Vec<Value>> {
        let mut pods = self.objects.list(POD, OFFSHOOT).await?;
        pods.retain(|pod| {
            pod["metadata"]["labels"]["app.kubernetes.io/component"] == component
                && pod["metadata"]["deletionTimestamp"].is_null()
        });
        pods.sort_by_key(|pod| text(pod, "/spec/nodeName"));
        Ok(pods)
    }

    /// The number of the driver's process on a node: its agent's, or the controller's if `node` is empty.
    ///
    /// # Errors
    /// If it does not run.
    pub(crate) async fn driver_pid(&self, node: &str) -> Result<i32> {
        let component = if node.is_empty() { "controller" } else { "node" };
        for pod in self.pods_of(component).await? {
            if !node.is_empty() && text(&pod, "/spec/nodeName") != node {
                continue;
            }
            let statuses = pod["status"]["containerStatuses"].as_array().cloned().unwrap_or_default();
            let own = statuses
                .iter()
                .find(|status| status["name"] == "offshoot")
                .map(|status| text(status, "/containerID"));
            let id = own.unwrap_or_default();
            ensure!(!id.is_empty(), "pod {} has not started", name(&pod));
            let pids = audit::container_pids(id.trim_start_matches("containerd://"))?;
            return pids.first().copied().with_context(|| format!("pod {} does not run", name(&pod)));
        }
        anyhow::bail!("no {component} runs on {node}")
    }

    /// Runs `kubectl offshoot`, as it is in the image.
    ///
    /// # Errors
    /// If it fails; the error has what it said.
    pub(crate) async fn plugin(&self, args: &[&str]) -> Result<String> {
        let mut command = Command::new(self.own_program("kubectl-offshoot").await?);
        command.env("KUBECONFIG", &self.kubeconfig).args(args);
        program(&mut command).await.with_context(|| format!("kubectl offshoot {}", args.join(" ")))
    }

    /// Runs `offshoot` against the controller's socket, from outside of its pod, so that nothing but the driver takes time.
    ///
    /// # Errors
    /// If it fails; the error has what it said.
    pub(crate) async fn ask_controller(&self, args: &[&str]) -> Result<String> {
        let socket = inside(self.driver_pid("").await?, "/csi/csi.sock");
        let mut command = Command::new(self.own_program("offshoot").await?);
        command.env("OFFSHOOT_SOCKET", socket).args(args);
        program(&mut command).await.with_context(|| format!("offshoot {}", args.join(" ")))
    }

    /// The program that is in the image, under a name that tells it what it is.
    async fn own_program(&self, name: &str) -> Result<PathBuf> {
        let (image, own) = (inside(self.driver_pid("").await?, "/usr/local/bin/offshoot"), self.file(name));
        let about = fs::metadata(&image).with_context(|| format!("cannot read {}", image.display()))?;
        // The same one is not written again: it may be running for another scenario.
        if fs::metadata(&own)
            .is_ok_and(|known| known.len() == about.len() && known.modified().ok() > about.modified().ok())
        {
            return Ok(own);
        }
        let part = own.with_extension("part");
        fs::copy(&image, &part).with_context(|| format!("cannot copy {}", image.display()))?;
        fs::rename(&part, &own).with_context(|| format!("cannot make {}", own.display()))?;
        Ok(own)
    }

    /// Gives the driver's image on a node the tag that the chart is told.
    ///
    /// # Errors
    /// If containerd refuses.
    pub(crate) fn retag(&self, node: &str) -> Result<()> {
        let tag = self.tag.borrow();
        if *tag == "dev" {
            return Ok(());
        }
        let ctr = self.tools.join("ctr");
        let args = [
            "--namespace=k8s.io",
            "images",
            "tag",
            "--force",
            "localhost/offshoot:dev",
            &format!("localhost/offshoot:{tag}"),
        ];
        self.cluster.borrow().node(node)?.machine().run(&ctr.to_string_lossy(), &args, None).map(|_| ())
    }

    /// A file of this run.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.evidence.join(name)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.tools.join(program));
        // helm keeps no state of its own that counts, but it wants to.
        let folder = self.file("helm");
        command.env("KUBECONFIG", &self.kubeconfig);
        for variable in ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"] {
            command.env(variable, &folder);
        }
        command
    }

    /// Removes what a broken run has left.
    async fn clean(&self, say: fn(&str)) -> Result<()> {
        let is_ours = |one: &Value| one["metadata"]["labels"].get("offshoot.dev/e2e").is_some();
        let left: Vec<_> =
            self.objects.list(NAMESPACE, "").await?.iter().filter(|one| is_ours(one)).map(name).collect();
        for name in &left {
            say(&format!("removing {name} of an earlier run"));
            self.objects.delete(NAMESPACE, "", name, None).await?;
        }
        let gone = until("the namespaces of an earlier run are gone", Duration::from_secs(60), async || {
            Ok((!self.objects.list(NAMESPACE, "").await?.iter().any(is_ours)).then_some(()))
        });
        // A driver that does not run cannot let go of them; the one that is installed now does.
        if gone.await.is_err() {
            say("they stay for now");
        }
        Ok(())
    }

    /// The certificate of the snapshot metadata sidecar, which the chart takes as given.
    async fn metadata_certificate(&self) -> Result<()> {
        let folder = self.file("metadata");
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let host = metadata_host();
        if !folder.join("metadata.crt").exists() {
            Authority::at(&folder)?.sign(&folder, "metadata", &host, None, &[&host])?;
        }
        if self.objects.get(NAMESPACE, "", OFFSHOOT).await?.is_none() {
            self.objects
                .create(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": OFFSHOOT}}))
                .await?;
        }
        let read =
            |file: &str| fs::read_to_string(folder.join(file)).with_context(|| format!("cannot read {file}"));
        self.objects.delete(crate::objects::SECRET, OFFSHOOT, "offshoot-snapshot-metadata", None).await?;
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
            "metadata": {"name": "offshoot-snapshot-metadata", "namespace": OFFSHOOT},
            "stringData": {"tls.crt": read("metadata.crt")?, "tls.key": read("metadata.key")?},
        });
        self.objects.create(&secret).await.map(|_| ())
    }
}

/// What stands for the bytes of a file.
fn content(file: &Path) -> Result<String> {
    let mut hasher = DefaultHasher::new();
    hasher.write(&fs::read(file).with_context(|| format!("cannot read {}", file.display()))?);
    Ok(format!("{:016x}", hasher.finish()))
}

/// The name in the metadata sidecar's certificate.
pub(crate) fn metadata_host() -> String {
    format!("offshoot-snapshot-metadata.{OFFSHOOT}.svc")
}

/// The metrics of a pod of the driver.
///
/// # Errors
/// If they cannot be read.
pub(crate) async fn metrics(address: &str) -> Result<String> {
    let mut stream =
        TcpStream::connect(format!("{address}:9810")).await.context("cannot reach the admin page")?;
    stream.write_all(format!("GET /metrics HTTP/1.0\r\nHost: {address}\r\n\r\n").as_bytes()).await?;
    let mut page = String::new();
    stream.read_to_string(&mut page).await?;
    Ok(page)
}

/// A path of a node as this program sees it.
///
/// # Errors
/// If the node is off.
pub(crate) fn seen(env: &Env, node: &str, path: &str) -> Result<PathBuf> {
    env.cluster.borrow().node(node)?.seen(path)
}

/// A path of a container as this program sees it; `pid` is its first process.
pub(crate) fn inside(pid: i32, path: &str) -> PathBuf {
    Path::new("/proc").join(pid.to_string()).join("root").join(path.trim_start_matches('/'))
}
