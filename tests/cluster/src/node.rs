//! A node: a machine with containerd, kubelet and kube-proxy, and pools with reflinks.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::certificates::{self, Authority};
use crate::cgroups;
use crate::control;
use crate::layout::Layout;
use crate::machine::{Disk, Machine, host};
use crate::network::{self, octet};

/// In the order in which they are started.
pub const PROCESSES: [&str; 3] = ["containerd", "kubelet", "kube-proxy"];

/// The image that holds a pod's namespaces.
pub const PAUSE: &str = "localhost/offshoot-test/pause:1";

/// Where a node sees its settings.
const SETTINGS: &str = "/var/lib/kubernetes";

/// Where a node's pools are mounted: `NAME` is at `/var/lib/offshoot/NAME`.
const POOLS: &str = "/var/lib/offshoot";

/// One node of a cluster.
#[derive(Debug, Clone)]
pub struct Node {
    layout: Layout,
    spec: Spec,
    machine: Machine,
}

/// What is said about a node before it is made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spec {
    /// Its name in Kubernetes.
    pub name: String,
    /// A number of its own from 1; addresses are made from it.
    pub number: u8,
    /// Names of its pools, each an XFS with reflinks.
    pub pools: Vec<String>,
    /// The size of each pool in bytes; the files are sparse.
    pub pool_size: u64,
}

impl Spec {
    /// A node with one pool of 20 GiB, `pool-fast`. The first is `node-a`.
    #[must_use]
    pub fn usual(number: u8) -> Self {
        let letter = char::from(b'a' + number.saturating_sub(1) % 26);
        Self { name: format!("node-{letter}"), number, pools: vec!["pool-fast".into()], pool_size: 20 << 30 }
    }
}

impl Node {
    /// The node of a description, made or not.
    ///
    /// # Errors
    /// If its folder cannot be made.
    pub fn new(layout: &Layout, spec: &Spec) -> Result<Self> {
        let machine = Machine::new(&spec.name, &layout.path("machines").join(&spec.name))?;
        Ok(Self { layout: layout.clone(), spec: spec.clone(), machine })
    }

    /// What it was made from.
    #[must_use]
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// Its machine.
    #[must_use]
    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    /// Its address.
    #[must_use]
    pub fn address(&self) -> String {
        self.layout.address(octet(self.spec.number))
    }

    /// The files of its pools.
    #[must_use]
    pub fn disks(&self) -> Vec<Disk> {
        let disk = |name: &String| Disk {
            image: self.machine.dir().join(format!("{name}.img")),
            target: Path::new(POOLS).join(name),
        };
        self.spec.pools.iter().map(disk).collect()
    }

    /// A path of the node as the host sees it while the node is on, mounts included.
    ///
    /// # Errors
    /// If the node is off.
    pub fn seen(&self, path: &str) -> Result<PathBuf> {
        let init = self.machine.init()?.with_context(|| format!("node {} is off", self.spec.name))?;
        Ok(PathBuf::from(format!("/proc/{}/root{path}", init.pid)))
    }

    /// Starts the machine, connects it and starts containerd. Pools are made at the first start.
    ///
    /// # Errors
    /// If the machine or containerd does not start; logs are in the node's folder.
    pub fn power_on(&self, tools: &Path, others: &[Node]) -> Result<()> {
        if self.machine.init()?.is_none() {
            cgroups::make(&self.layout.cgroup(&self.spec.name))?;
            self.settings()?;
            for disk in self.disks() {
                make_pool(&disk.image, self.spec.pool_size)?;
            }
            self.machine.power_on(tools, &self.disks())?;
            let others: Vec<_> = others
                .iter()
                .filter(|other| other.spec.number != self.spec.number)
                .map(|other| (other.machine.clone(), other.spec.number))
                .collect();
            let control = control::machine(&self.layout)?;
            network::connect_node(&self.layout, &control, &self.machine, self.spec.number, &others)?;
        }
        self.start(tools, "containerd")?;
        let end = std::time::Instant::now() + Duration::from_secs(30);
        while self.machine.run(&tools.join("ctr").to_string_lossy(), &["version"], None).is_err() {
            anyhow::ensure!(
                std::time::Instant::now() < end,
                "containerd of {} does not answer: {}",
                self.spec.name,
                crate::machine::last_lines(&self.machine.log("containerd"))
            );
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// Starts one of its processes, if it does not run.
    ///
    /// # Errors
    /// If the machine is off or the program cannot be started.
    pub fn start(&self, tools: &Path, process: &str) -> Result<()> {
        let mut command = Command::new(tools.join(process));
        let own = |flag: &str, file: &str| format!("--{flag}={SETTINGS}/{file}");
        match process {
            "containerd" => {
                // It finds the shim beside itself through the path, and runc in the host's.
                let path =
                    std::env::join_paths([tools.as_os_str(), "/usr/sbin".as_ref(), "/usr/bin".as_ref()])?;
                command.env("PATH", path).arg(own("config", "containerd.toml"))
            }
            "kubelet" => command.args([
                own("config", "kubelet.json"),
                own("kubeconfig", "kubelet.kubeconfig"),
                format!("--hostname-override={}", self.spec.name),
                format!("--node-ip={}", self.address()),
                "--cert-dir=/var/lib/kubelet/pki".to_owned(),
            ]),
            _ => command.arg(own("config", "kube-proxy.json")),
        };
        self.machine.start(process, command)?;
        Ok(())
    }

    /// Pulls the plug. Containers, mounts and processes are gone afterwards, and the loop devices that were on its pools.
    ///
    /// # Errors
    /// If something of it stays.
    pub fn power_off(&self) -> Result<()> {
        self.machine.power_off()?;
        for disk in self.disks() {
            crate::audit::detach_loops(&disk.image)?;
        }
        crate::audit::detach_files(&self.machine.var("lib/offshoot"))?;
        cgroups::remove(&self.layout.cgroup(&self.spec.name))
    }

    /// Brings the images of an archive to the node's containerd, unless it has got the same archive before.
    ///
    /// # Errors
    /// If containerd does not run or refuses the archive.
    pub fn load_image(&self, tools: &Path, archive: &Path) -> Result<()> {
        let about = fs::metadata(archive).with_context(|| format!("cannot read {}", archive.display()))?;
        let stamp = format!("{} {} {:?}", archive.display(), about.len(), about.modified()?);
        let mark = self.machine.dir().join("images").join(archive.file_name().unwrap_or_default());
        if fs::read_to_string(&mark).is_ok_and(|known| known == stamp) {
            return Ok(());
        }
        let ctr = tools.join("ctr");
        self.machine.run(
            &ctr.to_string_lossy(),
            &["--namespace=k8s.io", "images", "import", "-"],
            Some(archive),
        )?;
        fs::create_dir_all(self.machine.dir().join("images"))?;
        fs::write(&mark, stamp).with_context(|| format!("cannot write {}", mark.display()))
    }

    /// Writes what its processes read.
    fn settings(&self) -> Result<()> {
        let folder = self.machine.var("lib/kubernetes");
        fs::create_dir_all(folder.join("cni"))
            .with_context(|| format!("cannot make {}", folder.display()))?;
        let (pki, name) = (self.layout.path("pki"), &self.spec.name);
        for file in ["ca.crt", "kube-proxy.crt", "kube-proxy.key"] {
            fs::copy(pki.join(file), folder.join(file)).with_context(|| format!("cannot copy {file}"))?;
        }
        if !folder.join("kubelet.crt").exists() {
            let user = format!("system:node:{name}");
            Authority::at(&pki)?.sign(
                &folder,
                "kubelet",
                &user,
                Some("system:nodes"),
                &[name, &self.address()],
            )?;
        }
        let server = control::server(&self.layout);
        for user in ["kubelet", "kube-proxy"] {
            certificates::kubeconfig(
                &folder.join(format!("{user}.kubeconfig")),
                &server,
                Path::new(SETTINGS),
                user,
            )?;
        }
        let write = |file: &str, text: String| {
            fs::write(folder.join(file), text).with_context(|| format!("cannot write {file} of {name}"))
        };
        write("containerd.toml", containerd())?;
        write("kubelet.json", self.kubelet().to_string())?;
        write("kube-proxy.json", self.proxy().to_string())?;
        write("cni/10-bridge.conflist", self.cni().to_string())
    }

    fn kubelet(&self) -> serde_json::Value {
        json!({
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "authentication": {"anonymous": {"enabled": false}, "webhook": {"enabled": true},
                "x509": {"clientCAFile": format!("{SETTINGS}/ca.crt")}},
            "authorization": {"mode": "Webhook"},
            "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
            // The kernel has the old control groups; kubelet refuses them unless told.
            "failCgroupV1": false,
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": format!("/{}", self.layout.cgroup(&self.spec.name)),
            "failSwapOn": false,
            // Root here may not lower it.
            "oomScoreAdj": 0,
            "makeIPTablesUtilChains": false,
            "resolvConf": "",
            "clusterDNS": [self.layout.address(network::CONTROL)],
            "clusterDomain": crate::dns::DOMAIN,
            // Tests kill a container many times in a minute.
            "crashLoopBackOff": {"maxContainerRestartPeriod": "1s"},
            "volumePluginDir": "/var/lib/kubelet/volumeplugins",
            "maxPods": 250,
            // The disk is shared with builds and its fullness is not this node's.
            "evictionHard": {"memory.available": "50Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
            "imageGCHighThresholdPercent": 100,
            "imageGCLowThresholdPercent": 99,
            "serializeImagePulls": false,
            "registryPullQPS": 0,
            "eventRecordQPS": 0,
            "volumeStatsAggPeriod": "10s",
            // A volume that has grown is noticed when its pod is looked at again.
            "syncFrequency": "10s",
            "nodeLeaseDurationSeconds": 12,
        })
    }

    fn proxy(&self) -> serde_json::Value {
        json!({
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "mode": "nftables",
            "clusterCIDR": self.layout.pods_range(),
            "hostnameOverride": self.spec.name,
            "clientConnection": {"kubeconfig": format!("{SETTINGS}/kube-proxy.kubeconfig")},
            "nodePortAddresses": ["primary"],
            // These belong to the whole kernel.
            "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
        })
    }

    fn cni(&self) -> serde_json::Value {
        json!({
            "cniVersion": "1.0.0",
            "name": "pods",
            "plugins": [{
                "type": "bridge",
                "bridge": "cni0",
                "isGateway": true,
                "hairpinMode": true,
                "ipam": {
                    "type": "host-local",
                    // Addresses that were given out are forgotten when the node goes off.
                    "dataDir": "/run/cni-addresses",
                    "ranges": [[{"subnet": self.layout.pod_range(self.spec.number)}]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                },
            }],
        })
    }
}

/// Makes a sparse file with an XFS that can share blocks, unless it is there.
fn make_pool(image: &Path, size: u64) -> Result<()> {
    if image.exists() {
        return Ok(());
    }
    let part = image.with_extension("part");
    let file = fs::File::create(&part).with_context(|| format!("cannot make {}", part.display()))?;
    file.set_len(size).with_context(|| format!("cannot make {}", part.display()))?;
    host("mkfs.xfs", &["-q", "-f", "-m", "reflink=1", &part.to_string_lossy()])?;
    fs::rename(&part, image).with_context(|| format!("cannot make {}", image.display()))
}

fn containerd() -> String {
    format!(
        r#"version = 3
root = "/var/lib/containerd"
state = "/run/containerd"
# No registry is asked, nothing outside this cluster is watched.
disabled_plugins = ["io.containerd.nri.v1.nri", "io.containerd.tracing.processor.v1.otlp", "io.containerd.internal.v1.tracing"]

[grpc]
address = "/run/containerd/containerd.sock"

[plugins."io.containerd.internal.v1.opt"]
path = "/var/lib/containerd/opt"

[plugins."io.containerd.cri.v1.images".pinned_images]
sandbox = "{PAUSE}"

[plugins."io.containerd.cri.v1.runtime"]
# Root here may not lower it, and runc dies of trying.
restrict_oom_score_adj = true

[plugins."io.containerd.cri.v1.runtime".cni]
bin_dirs = ["/usr/lib/cni"]
conf_dir = "{SETTINGS}/cni"

[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
BinaryName = "/usr/sbin/runc"
SystemdCgroup = false
"#
    )
}
