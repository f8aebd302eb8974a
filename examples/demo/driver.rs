//! The server, and the CSI calls that a cluster's sidecars and kubelet would make.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use offshoot::proto::csi::controller_client::ControllerClient;
use offshoot::proto::csi::node_client::NodeClient;
use offshoot::proto::csi::volume_capability::access_mode::Mode;
use offshoot::proto::csi::volume_capability::{AccessMode, AccessType, MountVolume};
use offshoot::proto::csi::volume_content_source::{SnapshotSource, Type};
use offshoot::proto::csi::{self, CapacityRange, VolumeCapability, VolumeContentSource};
use offshoot::proto::offshoot::data_copies_client::DataCopiesClient;
use offshoot::proto::offshoot::{self as copies, FilePool, create_pool_request, refresh_volume_request};
use tonic::transport::{Channel, Endpoint};

/// One gibibyte.
pub(crate) const GIB: i64 = 1 << 30;

const POOL: &str = "demo";

/// A volume, and where it is mounted.
#[derive(Clone)]
pub(crate) struct Volume {
    /// Its id.
    pub(crate) id: String,
    /// Its name.
    pub(crate) name: String,
    /// Where it is mounted.
    pub(crate) target: Option<PathBuf>,
    staging: PathBuf,
}

/// A running server and the connection to it.
pub(crate) struct Driver {
    child: Child,
    binary: PathBuf,
    socket: PathBuf,
    dir: PathBuf,
    controller: ControllerClient<Channel>,
    node: NodeClient<Channel>,
    copies: DataCopiesClient<Channel>,
    snapshots: Vec<String>,
}

fn capability() -> VolumeCapability {
    let mount = MountVolume { fs_type: "xfs".into(), ..MountVolume::default() };
    VolumeCapability {
        access_mode: Some(AccessMode { mode: Mode::SingleNodeWriter.into() }),
        access_type: Some(AccessType::Mount(mount)),
    }
}

impl Driver {
    /// Starts `offshoot serve` on a socket in `dir`.
    pub(crate) async fn start(dir: &Path) -> Result<Self> {
        let binary = binary()?;
        let socket = dir.join("csi.sock");
        let log = std::fs::File::create(dir.join("server.log"))?;
        let mut child = Command::new(&binary)
            .arg("serve")
            .arg("--endpoint")
            .arg(&socket)
            .arg("--state-dir")
            .arg(dir.join("state"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            // Ctrl-C goes to everything in the terminal; the server has to live until its volumes are away.
            .process_group_of_its_own()
            .spawn()
            .with_context(|| format!("start {}", binary.display()))?;
        for _ in 0..200 {
            if let Some(status) = child.try_wait()? {
                bail!("the server ended: {status}; see {}", dir.join("server.log").display());
            }
            let endpoint = Endpoint::from_shared(format!("unix://{}", socket.display()))?;
            if let Ok(channel) = endpoint.connect().await {
                return Ok(Driver {
                    child,
                    binary,
                    socket,
                    dir: dir.to_owned(),
                    controller: ControllerClient::new(channel.clone()),
                    node: NodeClient::new(channel.clone()),
                    copies: DataCopiesClient::new(channel),
                    snapshots: Vec::new(),
                });
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        let _ = child.kill();
        bail!("the server did not open {} in time", socket.display())
    }

    /// Makes the demo's pool in a file.
    pub(crate) async fn create_pool(&mut self, file: &Path, size: i64) -> Result<()> {
        let file = FilePool { file: file.display().to_string(), size_bytes: size };
        let kind = Some(create_pool_request::Kind::File(file));
        let request = copies::CreatePoolRequest { name: POOL.into(), kind, ..Default::default() };
        self.copies.create_pool(request).await?;
        Ok(())
    }

    /// Bytes that data takes in the pool.
    pub(crate) async fn allocated(&mut self) -> Result<u64> {
        let pools = self.copies.list_pools(copies::ListPoolsRequest::default()).await?.into_inner().pools;
        let pool = pools.into_iter().next().context("the pool is gone")?;
        Ok(u64::try_from(pool.allocated_bytes)?)
    }

    /// Bytes that these volumes have for themselves.
    pub(crate) async fn allocated_of(&mut self, volumes: &[Volume]) -> Result<u64> {
        let mut own = 0;
        for volume in volumes {
            let request = copies::GetLineageRequest { id: volume.id.clone(), ..Default::default() };
            let nodes = self.copies.get_lineage(request).await?.into_inner().nodes;
            let node =
                nodes.into_iter().find(|node| node.id == volume.id).context("a copy has no lineage")?;
            own += u64::try_from(node.own_bytes)?;
        }
        Ok(own)
    }

    /// CreateVolume, blank or from a snapshot.
    pub(crate) async fn create(&mut self, name: &str, size: i64, snapshot: Option<&str>) -> Result<Volume> {
        let source = snapshot.map(|id| VolumeContentSource {
            r#type: Some(Type::Snapshot(SnapshotSource { snapshot_id: id.into() })),
        });
        let request = csi::CreateVolumeRequest {
            name: name.into(),
            capacity_range: Some(CapacityRange { required_bytes: size, limit_bytes: 0 }),
            volume_capabilities: vec![capability()],
            volume_content_source: source,
            ..Default::default()
        };
        let volume =
            self.controller.create_volume(request).await?.into_inner().volume.context("no volume")?;
        let staging = self.dir.join("staging").join(name);
        Ok(Volume { id: volume.volume_id, name: name.into(), target: None, staging })
    }

    /// NodeStageVolume and NodePublishVolume.
    pub(crate) async fn mount(&mut self, volume: &mut Volume, target: &Path) -> Result<()> {
        std::fs::create_dir_all(&volume.staging)?;
        let staging = volume.staging.display().to_string();
        let stage = csi::NodeStageVolumeRequest {
            volume_id: volume.id.clone(),
            staging_target_path: staging.clone(),
            volume_capability: Some(capability()),
            ..Default::default()
        };
        self.node.node_stage_volume(stage).await?;
        let publish = csi::NodePublishVolumeRequest {
            volume_id: volume.id.clone(),
            staging_target_path: staging,
            target_path: target.display().to_string(),
            volume_capability: Some(capability()),
            ..Default::default()
        };
        self.node.node_publish_volume(publish).await?;
        volume.target = Some(target.to_owned());
        Ok(())
    }

    /// NodeUnpublishVolume and NodeUnstageVolume. What is not mounted is unmounted already.
    pub(crate) async fn unmount(&mut self, volume: &Volume) -> Result<()> {
        if let Some(target) = &volume.target {
            let unpublish = csi::NodeUnpublishVolumeRequest {
                volume_id: volume.id.clone(),
                target_path: target.display().to_string(),
            };
            self.node.node_unpublish_volume(unpublish).await?;
        }
        let unstage = csi::NodeUnstageVolumeRequest {
            volume_id: volume.id.clone(),
            staging_target_path: volume.staging.display().to_string(),
        };
        self.node.node_unstage_volume(unstage).await?;
        Ok(())
    }

    /// CreateSnapshot; its id.
    pub(crate) async fn snapshot(&mut self, name: &str, volume: &str) -> Result<String> {
        let request = csi::CreateSnapshotRequest {
            name: name.into(),
            source_volume_id: volume.into(),
            ..Default::default()
        };
        let snapshot =
            self.controller.create_snapshot(request).await?.into_inner().snapshot.context("no snapshot")?;
        self.snapshots.push(snapshot.snapshot_id.clone());
        Ok(snapshot.snapshot_id)
    }

    /// RewindVolume.
    pub(crate) async fn rewind(&mut self, volume: &str, snapshot: &str) -> Result<()> {
        let request = copies::RewindVolumeRequest {
            volume_id: volume.into(),
            snapshot_id: snapshot.into(),
            ..Default::default()
        };
        let undo = self.copies.rewind_volume(request).await?.into_inner().undo_snapshot_id;
        self.snapshots.push(undo);
        Ok(())
    }

    /// RefreshVolume from a snapshot of the source.
    pub(crate) async fn refresh(&mut self, volume: &str, snapshot: &str) -> Result<()> {
        let from = Some(refresh_volume_request::From::SnapshotId(snapshot.into()));
        let request = copies::RefreshVolumeRequest { volume_id: volume.into(), from, ..Default::default() };
        let undo = self.copies.refresh_volume(request).await?.into_inner().undo_snapshot_id;
        self.snapshots.push(undo);
        Ok(())
    }

    /// Draws the lineage.
    pub(crate) fn tree(&self) -> Result<()> {
        let status = Command::new(&self.binary).arg("tree").arg("--socket").arg(&self.socket).status()?;
        if !status.success() {
            bail!("offshoot tree failed: {status}");
        }
        Ok(())
    }

    /// Unmounts and deletes all volumes and snapshots, and takes the pool off.
    pub(crate) async fn remove_everything(&mut self, volumes: &[Volume]) -> Result<()> {
        for volume in volumes {
            self.unmount(volume).await?;
            let request = csi::DeleteVolumeRequest { volume_id: volume.id.clone(), ..Default::default() };
            self.controller.delete_volume(request).await?;
        }
        // Also those that an interrupted step made and could not tell of.
        let all =
            self.controller.list_snapshots(csi::ListSnapshotsRequest::default()).await?.into_inner().entries;
        for snapshot in all.into_iter().filter_map(|entry| entry.snapshot) {
            let request =
                csi::DeleteSnapshotRequest { snapshot_id: snapshot.snapshot_id, ..Default::default() };
            self.controller.delete_snapshot(request).await?;
        }
        let all =
            self.controller.list_volumes(csi::ListVolumesRequest::default()).await?.into_inner().entries;
        for volume in all.into_iter().filter_map(|entry| entry.volume) {
            let request = csi::DeleteVolumeRequest { volume_id: volume.volume_id, ..Default::default() };
            self.controller.delete_volume(request).await?;
        }
        let pools = self.copies.list_pools(copies::ListPoolsRequest::default()).await?.into_inner().pools;
        for pool in pools {
            self.copies.delete_pool(copies::DeletePoolRequest { name_or_id: pool.id }).await?;
        }
        Ok(())
    }

    /// Ends the server and waits for it.
    pub(crate) fn stop(mut self) {
        let pid = nix::unistd::Pid::from_raw(self.child.id().cast_signed());
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
        let _ = self.child.wait();
    }

    /// Lets the server go on without this process.
    pub(crate) fn leave(self) {
        let _ = std::fs::write(self.dir.join("server.pid"), self.child.id().to_string());
    }
}

/// The server's binary lies beside the examples' directory.
fn binary() -> Result<PathBuf> {
    let me = std::env::current_exe()?;
    let dir = me.parent().and_then(Path::parent).context("no directory above this program")?;
    let binary = dir.join("offshoot");
    if !binary.exists() {
        bail!("{} is missing: run make build", binary.display());
    }
    Ok(binary)
}

trait OwnGroup {
    fn process_group_of_its_own(&mut self) -> &mut Self;
}

impl OwnGroup for Command {
    fn process_group_of_its_own(&mut self) -> &mut Self {
        std::os::unix::process::CommandExt::process_group(self, 0)
    }
}
