//! A driver under test: its process, and CSI calls to it. Offshoot and its peer are called in the same way.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use offshoot::proto::csi::controller_client::ControllerClient;
use offshoot::proto::csi::identity_client::IdentityClient;
use offshoot::proto::csi::node_client::NodeClient;
use offshoot::proto::csi::volume_capability::access_mode::Mode;
use offshoot::proto::csi::volume_capability::{AccessMode, AccessType, BlockVolume, MountVolume};
use offshoot::proto::csi::{self, VolumeCapability};
use offshoot::proto::offshoot::data_copies_client::DataCopiesClient;
use offshoot::proto::offshoot::{CreatePoolRequest, create_pool_request};
use tonic::transport::{Channel, Endpoint};

/// How a volume is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// A filesystem of this kind.
    Mount(&'static str),
    /// A raw device.
    Block,
}

impl Access {
    pub(crate) fn capability(self) -> VolumeCapability {
        let access_type = match self {
            Access::Mount(fs) => AccessType::Mount(MountVolume { fs_type: fs.into(), ..Default::default() }),
            Access::Block => AccessType::Block(BlockVolume {}),
        };
        let access_mode = Some(AccessMode { mode: Mode::SingleNodeWriter.into() });
        VolumeCapability { access_mode, access_type: Some(access_type) }
    }
}

/// The connection to a driver. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Client {
    pub(crate) identity: IdentityClient<Channel>,
    pub(crate) controller: ControllerClient<Channel>,
    pub(crate) node: NodeClient<Channel>,
    pub(crate) channel: Channel,
    /// Staging and target paths lie here.
    pub(crate) dir: PathBuf,
    pub(crate) node_id: String,
}

/// A running driver.
pub(crate) struct Server {
    child: Child,
    pub(crate) name: &'static str,
    pub(crate) client: Client,
    /// From starting the process to the first answer that says ready, in milliseconds.
    pub(crate) started_in: f64,
}

impl Server {
    /// Starts `offshoot serve` over a pool in the directory `pool`, which is made a pool if it is none.
    pub(crate) async fn offshoot(dir: &Path, pool: &Path) -> Result<Server> {
        let create = !pool.join("offshoot-pool.json").exists();
        let mut command = Command::new(binary()?);
        command.arg("serve").arg("--node-id").arg("bench").arg("--log-level").arg("warn");
        command.arg("--endpoint").arg(dir.join("csi.sock")).arg("--state-dir").arg(dir.join("state"));
        if !create {
            command.arg("--pool").arg(format!("bench={}", pool.display()));
        }
        let server = Server::start("offshoot", command, dir).await?;
        if create {
            let kind = Some(create_pool_request::Kind::Path(pool.display().to_string()));
            let request = CreatePoolRequest { name: "bench".into(), kind, ..Default::default() };
            DataCopiesClient::new(server.client.channel.clone()).create_pool(request).await?;
        }
        Ok(server)
    }

    /// Starts csi-driver-host-path.
    pub(crate) async fn peer(binary: &Path, dir: &Path, state: &Path) -> Result<Server> {
        std::fs::create_dir_all(state)?;
        let mut command = Command::new(binary);
        command.arg("--drivername=hostpath.csi.k8s.io").arg("--nodeid=bench");
        command.arg(format!("--endpoint=unix://{}", dir.join("csi.sock").display()));
        command.arg(format!("--statedir={}", state.display()));
        Server::start("host-path", command, dir).await
    }

    async fn start(name: &'static str, mut command: Command, dir: &Path) -> Result<Server> {
        std::fs::create_dir_all(dir)?;
        let socket = dir.join("csi.sock");
        let _ = std::fs::remove_file(&socket);
        let log = std::fs::File::create(dir.join("server.log"))?;
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        // Ctrl-C goes to everything in the terminal; the servers are ended by the clean-up, in order.
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let begun = Instant::now();
        let mut child = command.spawn().with_context(|| format!("start {:?}", command.get_program()))?;
        match connect(&mut child, &socket, begun).await {
            Ok((channel, started_in)) => {
                let mut client = Client {
                    identity: IdentityClient::new(channel.clone()),
                    controller: ControllerClient::new(channel.clone()),
                    node: NodeClient::new(channel.clone()),
                    channel,
                    dir: dir.to_owned(),
                    node_id: String::new(),
                };
                client.node_id =
                    client.node.node_get_info(csi::NodeGetInfoRequest {}).await?.into_inner().node_id;
                Ok(Server { child, name, client, started_in })
            }
            Err(error) => {
                let _ = child.kill();
                let _ = child.wait();
                let log = std::fs::read_to_string(dir.join("server.log")).unwrap_or_default();
                Err(error.context(format!("{name} does not start; its log: {log}")))
            }
        }
    }

    /// Resident memory in MiB.
    pub(crate) fn resident(&self) -> Result<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
        let kib: f64 = line.trim().trim_end_matches(" kB").parse()?;
        Ok(kib / 1024.0)
    }

    /// Ends it in good order.
    pub(crate) fn stop(self) {
        drop(self);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let pid = nix::unistd::Pid::from_raw(self.child.id().cast_signed());
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
        for _ in 0..200 {
            if let Ok(Some(_)) = self.child.try_wait() {
                return;
            }
            std::thread::sleep(Duration::from_millis(25));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits for the first answer to Probe that says ready.
async fn connect(child: &mut Child, socket: &Path, begun: Instant) -> Result<(Channel, f64)> {
    let endpoint = Endpoint::from_shared(format!("unix://{}", socket.display()))?;
    loop {
        if let Some(status) = child.try_wait()? {
            bail!("it ended: {status}");
        }
        if begun.elapsed() > Duration::from_secs(30) {
            bail!("it is not ready after 30 s");
        }
        if socket.exists()
            && let Ok(channel) = endpoint.connect().await
        {
            let probe = IdentityClient::new(channel.clone()).probe(csi::ProbeRequest {}).await;
            // No word means ready.
            if probe.is_ok_and(|answer| answer.into_inner().ready != Some(false)) {
                return Ok((channel, crate::stats::ms(begun.elapsed())));
            }
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// The server's binary lies beside the examples' directory.
pub(crate) fn binary() -> Result<PathBuf> {
    let me = std::env::current_exe()?;
    let dir = me.parent().and_then(Path::parent).context("no directory above this program")?;
    let binary = dir.join("offshoot");
    if !binary.exists() {
        bail!("{} is missing: run make build", binary.display());
    }
    Ok(binary)
}
