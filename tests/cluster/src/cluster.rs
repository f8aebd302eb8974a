//! The whole cluster: bring it up, find it again, take it down.
//!
//! Every step looks first whether it has been done. So a second `up` mends what is missing, a test finds the cluster that another
//! has left running, and `down` removes what a killed run has left.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::layout::Layout;
use crate::machine::{checked, host};
use crate::node::{self, Node, Spec};
use crate::record::{Settings, lock};
use crate::{control, images, network};

/// A cluster that was made.
#[derive(Debug, Clone)]
pub struct Cluster {
    layout: Layout,
    settings: Settings,
    progress: fn(&str),
}

/// Progress for whoever does not want any.
pub fn quiet(_: &str) {}

impl Cluster {
    /// Brings a cluster up, or mends the one that is there. `progress` hears what is being done, a line at a time.
    ///
    /// # Errors
    /// If this is not root, a tool is missing, or something does not start in time; the error names the log.
    pub fn up(layout: &Layout, nodes: Vec<Spec>, progress: fn(&str)) -> Result<Self> {
        ensure!(
            nix::unistd::geteuid().is_root(),
            "the cluster needs root: namespaces, mounts and loop devices are made"
        );
        let _lock = lock(layout)?;
        let cluster = match Settings::load(layout)? {
            Some(settings) => Self { layout: layout.clone(), settings, progress },
            None => {
                progress("tools: building what is missing");
                let settings = Settings { nodes, tools: images::script("cluster-tools.sh", &[])? };
                let cluster = Self { layout: layout.clone(), settings, progress };
                cluster.settings.save(layout)?;
                cluster
            }
        };
        progress("images: building what is missing");
        let archives = images::test_images()?;
        progress("control plane: starting");
        control::power_on(&cluster.layout, cluster.tools())?;
        let nodes = cluster.nodes()?;
        std::thread::scope(|scope| {
            // Reading images is work for the disk, and the API server's start is work for one processor.
            let loading = scope.spawn(|| cluster.start_containerds(&nodes, &archives));
            cluster.start_control()?;
            loading.join().unwrap_or_else(|_| bail!("starting a node has panicked"))
        })?;
        for node in &nodes {
            progress(&format!("{}: starting kubelet", node.spec().name));
            cluster.start_node_processes(node)?;
        }
        cluster.install_snapshots()?;
        for node in &nodes {
            cluster.wait_ready(&node.spec().name, Duration::from_secs(90))?;
        }
        progress("ready");
        Ok(cluster)
    }

    /// The cluster that is there; `None` if none was made, or it is not wholly made.
    ///
    /// # Errors
    /// If its record cannot be read.
    pub fn find(layout: &Layout) -> Result<Option<Self>> {
        Ok(Settings::load(layout)?.map(|settings| Self { layout: layout.clone(), settings, progress: quiet }))
    }

    /// Removes all of a cluster: processes, namespaces, mounts, loop devices, control groups, files. Nothing if there is none.
    ///
    /// # Errors
    /// If something stays. It may be called again.
    pub fn down(layout: &Layout, progress: fn(&str)) -> Result<()> {
        if !layout.dir().exists() {
            return Ok(());
        }
        let lock = lock(layout)?;
        // By the folders rather than the record: a crash may have come between.
        let machines = layout.path("machines");
        let settings = Settings::load(layout)?;
        for entry in fs::read_dir(&machines).into_iter().flatten() {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if name != control::NAME {
                progress(&format!("{name}: off"));
                let known = settings.iter().flat_map(|all| &all.nodes).find(|spec| spec.name == name);
                let spec = known.cloned().unwrap_or_else(|| Spec { name, ..Spec::usual(1) });
                Node::new(layout, &spec)?.power_off()?;
            }
        }
        progress("control plane: off");
        control::machine(layout)?.power_off()?;
        network::disconnect_host(layout)?;
        progress("files: removing");
        for name in ["machines", "pki", "kubeconfig", "cluster.json.part", "cluster.json", "lock"] {
            remove_all(&layout.path(name))?;
        }
        drop(lock);
        // Only if nobody has put anything of their own there.
        let _ = fs::remove_dir(layout.dir());
        Ok(())
    }

    /// Where it keeps its things.
    #[must_use]
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The folder of the programs.
    #[must_use]
    pub fn tools(&self) -> &Path {
        &self.settings.tools
    }

    /// Its nodes, running or not.
    ///
    /// # Errors
    /// If a folder cannot be made.
    pub fn nodes(&self) -> Result<Vec<Node>> {
        self.settings.nodes.iter().map(|spec| Node::new(&self.layout, spec)).collect()
    }

    /// A node by its name.
    ///
    /// # Errors
    /// If there is none of that name.
    pub fn node(&self, name: &str) -> Result<Node> {
        let known = self.settings.nodes.iter().find(|spec| spec.name == name);
        Node::new(
            &self.layout,
            known.with_context(|| format!("no node is named {name}: see cluster status"))?,
        )
    }

    /// A client with the administrator's rights.
    ///
    /// # Errors
    /// If the kubeconfig is not there or not usable.
    pub async fn client(&self) -> Result<kube::Client> {
        let file = kube::config::Kubeconfig::read_from(self.layout.kubeconfig())?;
        let config =
            kube::Config::from_custom_kubeconfig(file, &kube::config::KubeConfigOptions::default()).await?;
        Ok(kube::Client::try_from(config)?)
    }

    /// Runs kubectl to its end and gives back what it wrote; `input` goes to its standard input.
    ///
    /// # Errors
    /// If it fails; the error has what it said.
    pub fn kubectl(&self, args: &[&str], input: Option<&str>) -> Result<String> {
        self.client_program("kubectl", args, input)
    }

    /// Runs helm to its end and gives back what it wrote.
    ///
    /// # Errors
    /// If it fails; the error has what it said.
    pub fn helm(&self, args: &[&str]) -> Result<String> {
        self.client_program("helm", args, None)
    }

    /// Brings the images of an archive to all nodes that are on, all at once.
    ///
    /// # Errors
    /// If a node refuses them.
    pub fn load_image(&self, archive: &Path) -> Result<()> {
        let nodes = self.nodes()?;
        std::thread::scope(|scope| {
            let loading: Vec<_> =
                nodes.iter().map(|node| scope.spawn(|| node.load_image(self.tools(), archive))).collect();
            loading
                .into_iter()
                .try_for_each(|one| one.join().unwrap_or_else(|_| bail!("loading an image has panicked")))
        })
        .with_context(|| format!("cannot load {}", archive.display()))
    }

    /// Kills a process of the control plane or of a node (`kubelet`, `containerd`) with SIGKILL.
    ///
    /// # Errors
    /// If it does not end.
    pub fn kill(&self, machine: &str, process: &str) -> Result<()> {
        if machine == control::NAME {
            control::machine(&self.layout)?
        } else {
            self.node(machine)?.machine().clone()
        }
        .kill(process)
    }

    /// Starts a process of the control plane or of a node again.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start(&self, machine: &str, process: &str) -> Result<()> {
        if machine == control::NAME {
            control::start(&self.layout, self.tools(), process)
        } else {
            self.node(machine)?.start(self.tools(), process)
        }
    }

    /// Pulls a node's plug: its processes, containers, mounts and loop devices are gone, its disk stays.
    ///
    /// # Errors
    /// If something stays.
    pub fn kill_node(&self, name: &str) -> Result<()> {
        self.node(name)?.power_off()
    }

    /// Starts a node that was switched off, without waiting until it is Ready.
    ///
    /// # Errors
    /// If it does not start.
    pub fn start_node(&self, name: &str) -> Result<()> {
        let node = self.node(name)?;
        node.power_on(self.tools(), &self.nodes()?)?;
        self.start_node_processes(&node)
    }

    /// Adds a node to a running cluster and waits until it is Ready. It gets the test images; load again what else it needs, the others
    /// skip what they have.
    ///
    /// # Errors
    /// If it does not start, or one of its name or number is there.
    pub fn add_node(&mut self, spec: Spec) -> Result<()> {
        let taken = self.settings.nodes.iter().any(|one| one.name == spec.name || one.number == spec.number);
        ensure!(!taken, "a node named {} or with number {} is there already", spec.name, spec.number);
        self.settings.nodes.push(spec.clone());
        self.settings.save(&self.layout)?;
        let node = self.node(&spec.name)?;
        node.power_on(self.tools(), &self.nodes()?)?;
        for archive in images::test_images()? {
            node.load_image(self.tools(), &archive)?;
        }
        self.start_node_processes(&node)?;
        self.wait_ready(&spec.name, Duration::from_secs(90))
    }

    /// Destroys a node and its disk. Its objects in Kubernetes stay: a lost node does not sign off.
    ///
    /// # Errors
    /// If something stays.
    pub fn destroy_node(&mut self, name: &str) -> Result<()> {
        let node = self.node(name)?;
        node.power_off()?;
        remove_all(node.machine().dir())?;
        self.settings.nodes.retain(|spec| spec.name != name);
        self.settings.save(&self.layout)
    }

    /// Waits until a node is Ready. A node that has just been switched off counts as Ready for 20 s more: see [`Self::restart_node`].
    ///
    /// # Errors
    /// If it is not by then; kubelet's log says why.
    pub fn wait_ready(&self, name: &str, limit: Duration) -> Result<()> {
        self.wait_heartbeat(name, "", limit)
    }

    /// Reboots a node: pulls its plug, switches it on and waits until its new kubelet says that it is Ready. Its pods may still be listed
    /// as Running by the word of the old one: look at their containers' ids or restarts.
    ///
    /// # Errors
    /// If something of the node stays, it does not start, or is not Ready in time.
    pub fn restart_node(&self, name: &str, limit: Duration) -> Result<()> {
        self.kill_node(name)?;
        let last = self.heartbeat(name)?;
        self.start_node(name)?;
        self.wait_heartbeat(name, last.trim_start_matches("True "), limit)
    }

    /// Whether a node is Ready, and when its kubelet last said so.
    fn heartbeat(&self, name: &str) -> Result<String> {
        let ready = "{.status.conditions[?(@.type=='Ready')]";
        let path = format!("-o=jsonpath={ready}.status}} {ready}.lastHeartbeatTime}}");
        self.kubectl(&["get", "node", name, &path], None)
    }

    /// Waits until a node says that it is Ready, later than at a time.
    fn wait_heartbeat(&self, name: &str, after: &str, limit: Duration) -> Result<()> {
        self.wait(limit, &format!("node {name} is not Ready: see the logs of kubelet and containerd"), || {
            Ok(self.heartbeat(name)?.strip_prefix("True ").is_some_and(|time| time > after))
        })
    }

    /// The host's number of the first process of a pod's container.
    ///
    /// # Errors
    /// If the pod or the container is not there or does not run.
    pub fn container_pid(&self, namespace: &str, pod: &str, container: &str) -> Result<i32> {
        let path = format!("-o=jsonpath={{.status.containerStatuses[?(@.name=='{container}')].containerID}}");
        let id = self.kubectl(&["-n", namespace, "get", "pod", pod, &path], None)?;
        let id = id.trim_start_matches("containerd://");
        ensure!(!id.is_empty(), "pod {namespace}/{pod} has no container {container} yet");
        let pids = crate::audit::container_pids(id)?;
        pids.first()
            .copied()
            .with_context(|| format!("container {container} of {namespace}/{pod} does not run"))
    }

    /// Starts the machines of nodes as far as containerd, and loads images.
    fn start_containerds(&self, nodes: &[Node], archives: &[PathBuf]) -> Result<()> {
        for node in nodes {
            (self.progress)(&format!("{}: starting the machine and containerd", node.spec().name));
            node.power_on(self.tools(), nodes)?;
        }
        (self.progress)("images: loading");
        archives.iter().try_for_each(|archive| self.load_image(archive))
    }

    fn start_control(&self) -> Result<()> {
        for process in ["etcd", "kube-apiserver"] {
            control::start(&self.layout, self.tools(), process)?;
        }
        let log = control::machine(&self.layout)?.log("kube-apiserver");
        self.wait(
            Duration::from_secs(120),
            &format!("the API server is not ready: see {}", log.display()),
            || Ok(self.kubectl(&["get", "--raw", "/readyz"], None)? == "ok"),
        )?;
        for process in ["kube-controller-manager", "kube-scheduler", control::DNS] {
            control::start(&self.layout, self.tools(), process)?;
        }
        // What every pod needs, and what the controller manager makes last.
        self.wait(
            Duration::from_secs(60),
            "no service account is made: see the controller manager's log",
            || Ok(self.kubectl(&["get", "serviceaccount", "default", "-o=name"], None).is_ok()),
        )
    }

    fn start_node_processes(&self, node: &Node) -> Result<()> {
        node::PROCESSES.iter().try_for_each(|process| node.start(self.tools(), process))
    }

    /// The custom resources of snapshots, and the controller that serves them.
    fn install_snapshots(&self) -> Result<()> {
        (self.progress)("snapshots: custom resources and controller");
        let crds = self.tools().join("crds");
        self.kubectl(&["apply", "--server-side", "--filename", &crds.to_string_lossy()], None)?;
        self.kubectl(
            &["wait", "--for=condition=Established", "--timeout=60s", "--filename", &crds.to_string_lossy()],
            None,
        )?;
        control::start(&self.layout, self.tools(), "snapshot-controller")
    }

    /// Asks again and again; a question that fails counts as no.
    fn wait(&self, limit: Duration, otherwise: &str, ask: impl Fn() -> Result<bool>) -> Result<()> {
        let end = Instant::now() + limit;
        loop {
            let answer = ask();
            if matches!(answer, Ok(true)) {
                return Ok(());
            }
            if Instant::now() > end {
                return Err(answer.err().unwrap_or_else(|| anyhow::anyhow!("not yet")))
                    .context(otherwise.to_owned());
            }
            std::thread::sleep(Duration::from_millis(250));
        }
    }

    fn client_program(&self, program: &str, args: &[&str], input: Option<&str>) -> Result<String> {
        let mut command = Command::new(self.tools().join(program));
        command.args(args).env("KUBECONFIG", self.layout.kubeconfig());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("cannot start {program}"))?;
        if let Some(mut pipe) = child.stdin.take() {
            // A program that does not read to the end says itself why.
            let _ = std::io::Write::write_all(&mut pipe, input.unwrap_or_default().as_bytes());
        }
        checked(&child.wait_with_output()?).with_context(|| format!("{program} {}", args.join(" ")))
    }
}

/// Removes a file or a tree that may be gone already. Nothing mounted below it is entered: the machines are off.
fn remove_all(path: &Path) -> Result<()> {
    if !path.exists() {
        return Ok(());
    }
    host("rm", &["--recursive", "--force", "--one-file-system", &path.to_string_lossy()]).map(|_| ())
}
