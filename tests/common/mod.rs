//! A whole server over a machine in memory, for the tests that kill it.
//!
//! Each of `crash.rs`, `power.rs` and `model.rs` needs the same things: a pool with real use cases over it, a new
//! process on the same machine, writers and readers of volumes, and an exact answer to "is anything left".

#![allow(dead_code, unreachable_pub, reason = "every test binary uses its own part")]

pub mod cases;
pub mod pools;
pub mod remote;
pub mod sweep;

use std::collections::BTreeSet;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use offshoot::backend::{Backends, Place, PoolSpec};
use offshoot::host::fake::{Audit, Fake};
use offshoot::host::{FileKind, Host, LoopOptions, MkfsSpec, MountSpec};
use offshoot::service::api::{CreateSnapshot, CreateVolume, SnapshotFilter, SourceRef};
use offshoot::service::{Clock, NoObserver, Service, Settings};
use offshoot::volume::capacity::Policy;
use offshoot::volume::params::CreateParams;
use offshoot::volume::size::{GIB, Range};
use offshoot::volume::{
    AccessMode, AccessType, Capability, FsType, Layout, Provisioning, Result, Snapshot, SnapshotId, VolumeId,
};

/// The node that every rig is.
pub const NODE: &str = "node-a";
/// The size of volumes that a test does not care about.
pub const SIZE: u64 = GIB;
/// Where volumes are mounted.
pub const KUBELET: &str = "/var/lib/kubelet";
const POOL: &str = "/pool";
const STATE: &str = "/var/lib/offshoot";

/// Which filesystem a pool lies on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PoolFs {
    /// Copies by sharing blocks.
    Xfs,
    /// Subvolumes.
    Btrfs,
    /// Copies by copying.
    Ext4,
}

impl PoolFs {
    pub const ALL: [PoolFs; 3] = [PoolFs::Xfs, PoolFs::Btrfs, PoolFs::Ext4];

    fn name(self) -> &'static str {
        match self {
            PoolFs::Xfs => "xfs",
            PoolFs::Btrfs => "btrfs",
            PoolFs::Ext4 => "ext4",
        }
    }
}

/// A clock that stands at one second after the other, so that every reading is a new one.
pub struct Ticks(AtomicI64);

impl Clock for Ticks {
    fn now(&self) -> i64 {
        self.0.fetch_add(1000, Ordering::Relaxed)
    }
}

/// Runs a test to its end on one thread, with blocking calls beside it.
pub fn run<T>(test: impl Future<Output = T>) -> T {
    if std::env::var_os("OFFSHOOT_TEST_LOG").is_some() {
        let _ = tracing_subscriber::fmt().with_test_writer().try_init();
    }
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(test)
}

/// A server, and the machine that it runs on.
pub struct Rig {
    pub fake: Fake,
    pub service: Service,
    pub fs: PoolFs,
    clock: Arc<Ticks>,
}

impl Rig {
    /// A server with one empty pool.
    pub async fn new(fs: PoolFs) -> Rig {
        let rig = Rig::without_pool(fs);
        rig.service.create_pool(pool_spec()).await.unwrap();
        rig
    }

    /// A server without a pool, on a machine with disks at `/pool` and (ext4) `/disk`.
    pub fn without_pool(fs: PoolFs) -> Rig {
        let fake = Fake::with_pool(POOL, fs.name(), 200 * GIB);
        fake.add_pool("/disk", "ext4", 200 * GIB);
        let clock = Arc::new(Ticks(AtomicI64::new(1_700_000_000_000)));
        let service = serve(&fake, &clock);
        Rig { fake, service, fs, clock }
    }

    async fn served(&mut self, fake: Fake) {
        self.service = serve(&fake, &self.clock);
        self.fake = fake;
        self.service.open_pools(Vec::new()).await.unwrap();
    }

    /// The process dies, if it has not yet, and a new one starts on the same machine.
    pub async fn restart(&mut self) {
        let fake = self.fake.restart();
        self.served(fake).await;
    }

    /// The machine is shut down in order and starts again.
    pub async fn reboot(&mut self) {
        let fake = self.fake.reboot();
        self.served(fake).await;
    }

    /// The power fails and comes back.
    pub async fn power_cut(&mut self) {
        let fake = self.fake.power_cut();
        self.served(fake).await;
    }

    // ---- requests

    /// Makes a volume and says its id.
    pub async fn create(&self, request: CreateVolume) -> Result<String> {
        Ok(self.service.create_volume(request).await?.volume.id.to_string())
    }

    /// A volume whose file `data` says `value`, not in use.
    pub async fn volume(&self, name: &str, value: &str) -> String {
        let id = self.create(blank(name)).await.unwrap();
        self.fill(&id, value);
        id
    }

    /// A volume as [`Rig::volume`], whose bytes lie in an image whatever the pool.
    pub async fn image(&self, name: &str, value: &str) -> String {
        let id = self.create(as_image(blank(name))).await.unwrap();
        self.fill(&id, value);
        id
    }

    /// Cuts a snapshot.
    pub async fn snapshot(&self, name: &str, volume: &str) -> Result<String> {
        Ok(self.cut(name, volume).await?.id.to_string())
    }

    /// Cuts a snapshot.
    pub async fn cut(&self, name: &str, volume: &str) -> Result<Arc<Snapshot>> {
        let (name, volume) = (name.to_owned(), volume.to_owned());
        let request = CreateSnapshot { name, volume, claim: None, requisite: Vec::new() };
        self.service.create_snapshot(request).await
    }

    /// The ids of all volumes.
    pub async fn volumes(&self) -> Vec<String> {
        let page = self.service.list_volumes("", 0, false).await.unwrap();
        page.entries.iter().map(|status| status.volume.id.to_string()).collect()
    }

    /// All snapshots.
    pub fn snapshots(&self) -> Vec<Arc<Snapshot>> {
        self.service.list_snapshots(&SnapshotFilter::default(), "", 0).unwrap().entries
    }

    // ---- what workloads do, without the driver's node calls

    /// The path of a volume's bytes.
    pub fn bytes(&self, id: &str) -> PathBuf {
        let subvolume = Path::new(POOL).join(format!("volumes/{id}.sub"));
        match self.fake.metadata(&subvolume) {
            Ok(Some(_)) => subvolume,
            _ => subvolume.with_extension("img"),
        }
    }

    fn is_subvolume(&self, id: &str) -> bool {
        self.bytes(id).extension().is_some_and(|suffix| suffix == "sub")
    }

    /// Where a volume is mounted by [`Rig::mount`].
    pub fn target(&self, id: &str) -> PathBuf {
        Path::new(KUBELET).join(id)
    }

    /// Formats (ext4), attaches and mounts a volume behind the server's back. A restart makes it known.
    pub fn mount(&self, id: &str) {
        let (bytes, target) = (self.bytes(id), self.target(id));
        self.fake.make_target(&target, FileKind::Directory).unwrap();
        if self.is_subvolume(id) {
            return self.fake.bind(&bytes, &target, false).unwrap();
        }
        if self.fake.probe(&bytes).unwrap() == offshoot::host::Probe::Blank {
            let args = vec!["-E".to_owned(), "nodiscard".to_owned()];
            self.fake.mkfs(&bytes, &MkfsSpec { fs: "ext4".into(), args }).unwrap();
        }
        let options = LoopOptions { direct_io: true, ..LoopOptions::default() };
        let device = self.fake.loop_attach(&bytes, options).unwrap();
        let spec = MountSpec { fs: "ext4".into(), ..MountSpec::default() };
        self.fake.mount_device(&device.path, &target, &spec).unwrap();
    }

    /// Undoes [`Rig::mount`], as far as there is something to undo. The loop device stays for the server to detach.
    pub fn unmount(&self, id: &str) {
        let target = self.target(id);
        let _ = self.fake.unmount(&target);
        let _ = self.fake.remove_target(&target);
    }

    /// Writes `value` into the file `data` of a volume that is not mounted.
    pub fn fill(&self, id: &str, value: &str) {
        self.mount(id);
        self.write(id, value);
        self.fake.app_fsync(self.target(id)).unwrap();
        self.let_go(id);
    }

    /// [`Rig::unmount`], and the loop device too. A pool without shared blocks copies no volume that has one: nobody can
    /// tell whether a workload still has the raw device open.
    pub fn let_go(&self, id: &str) {
        self.unmount(id);
        if !self.is_subvolume(id) {
            let image = self.bytes(id);
            for device in self.fake.loops_of(&image).unwrap() {
                self.fake.loop_detach(&device, &image).unwrap();
            }
        }
    }

    /// A workload writes into the file `data` of a mounted volume, without a sync.
    pub fn write(&self, id: &str, value: &str) {
        self.fake.app_write(self.target(id), "data", value).unwrap();
    }

    /// What the file `data` of a volume or snapshot says.
    pub fn read(&self, id: &str) -> Option<String> {
        let dir = if id.starts_with("s-") { "snapshots" } else { "volumes" };
        let subvolume = Path::new(POOL).join(dir).join(format!("{id}.sub"));
        if let Ok(Some(_)) = self.fake.metadata(&subvolume) {
            let bytes = self.fake.read_file(&subvolume.join("data")).unwrap()?;
            return Some(String::from_utf8(bytes).unwrap());
        }
        for target in [self.target(id), Path::new(KUBELET).join(format!("stage-{id}"))] {
            if let Ok(Some(_)) = self.fake.mount_at(&target) {
                return self.fake.app_read(target, "data").unwrap();
            }
        }
        self.fake.peek(subvolume.with_extension("img"), "data").unwrap()
    }

    /// Bytes that a volume's image takes.
    pub fn allocated(&self, id: &str) -> u64 {
        self.fake.metadata(&self.bytes(id)).unwrap().unwrap().allocated
    }

    // ---- the end

    /// What a pod's end and the deletion of every object do, whatever there is.
    pub async fn delete_everything(&mut self) {
        for id in self.volumes().await {
            let volume = self.service.get_volume(&id).await.unwrap().volume;
            let handle = volume.ephemeral.as_deref().unwrap_or(&id);
            self.service
                .unpublish_volume(handle, &Path::new(KUBELET).join(format!("pod-{handle}")))
                .await
                .unwrap();
            if handle != id {
                continue;
            }
            self.service.unstage_volume(&id, &Path::new(KUBELET).join(format!("stage-{id}"))).await.unwrap();
            self.unmount(&id);
            self.service.unpublish_from_node(&id, "").await.unwrap();
        }
        let groups: BTreeSet<_> = self.snapshots().iter().filter_map(|snapshot| snapshot.group).collect();
        for group in groups {
            self.service.delete_group_snapshot(&group.to_string(), &[]).await.unwrap();
        }
        for snapshot in self.snapshots() {
            self.service.delete_snapshot(&snapshot.id.to_string()).await.unwrap();
        }
        for id in self.volumes().await {
            self.service.delete_volume(&id).await.unwrap();
        }
        pools::give_up(self).await;
        // What is left of copies from other nodes goes when nobody has asked for it for a day.
        self.clock.0.fetch_add(25 * 60 * 60 * 1000, Ordering::Relaxed);
        // Kubelet's own directories.
        for entry in self.fake.read_dir(Path::new(KUBELET)).unwrap() {
            self.fake.remove_target(&Path::new(KUBELET).join(entry.name)).unwrap();
        }
    }

    /// The state of the machine, without what a pool keeps for good (templates), and the state directory (the place
    /// of mounted pools, and what the next write of the registry overwrites).
    pub fn audit(&self) -> Audit {
        let mut audit = self.fake.audit();
        let state = [Path::new(STATE).join("pools"), Path::new(STATE).join("pools.tmp")];
        audit.files.retain(|path| !is_template(path) && !state.contains(path));
        audit.used.clear();
        audit
    }

    /// What the server does from time to time: goes on with what could not be ended, and removes proven left-overs.
    /// Checks that nothing is left over then.
    pub async fn reap(&self) {
        self.service.recover_again().await.unwrap();
        let orphans = self.service.list_orphans().await.unwrap();
        assert!(orphans.iter().all(|orphan| orphan.leftover.proven), "not proven: {orphans:?}");
        self.service.reap_orphans(Vec::new(), false).await.unwrap();
        assert_eq!(self.service.list_orphans().await.unwrap(), []);
    }
}

fn is_template(path: &Path) -> bool {
    path.parent().is_some_and(|dir| dir.ends_with("templates"))
        && path.extension().is_some_and(|ext| ext == "img")
}

fn serve(fake: &Fake, clock: &Arc<Ticks>) -> Service {
    let settings = Settings {
        node_id: NODE.into(),
        state_dir: Some(STATE.into()),
        source_patience: Duration::ZERO,
        ..Settings::default()
    };
    let host = fake.host();
    let opener = Arc::new(Backends::new(host.clone(), Path::new(STATE), Policy::default()));
    Service::new(settings, host, opener, clock.clone(), Arc::new(NoObserver))
}

/// The pool of [`Rig::new`].
pub fn pool_spec() -> PoolSpec {
    PoolSpec { name: "main".into(), place: Place::Directory(POOL.into()), parameters: Default::default() }
}

/// A capability to mount.
pub fn mounting() -> Capability {
    let access = AccessType::Mount { fs: None, flags: Vec::new() };
    Capability { access, mode: AccessMode::SingleNodeWriter }
}

/// A request for a blank volume.
pub fn blank(name: &str) -> CreateVolume {
    CreateVolume {
        name: name.into(),
        range: Range { required: SIZE, limit: 0 },
        capabilities: vec![mounting()],
        params: CreateParams::default(),
        source: None,
        requisite: Vec::new(),
    }
}

/// The request for an image.
pub fn as_image(mut request: CreateVolume) -> CreateVolume {
    request.params.layout = Some(Layout::Image);
    request.params.fs = Some(FsType::Ext4);
    request
}

/// The request for space that is set aside.
pub fn as_thick(mut request: CreateVolume) -> CreateVolume {
    request.params.mutable.provisioning = Provisioning::Thick;
    request
}

/// A request for a copy of a volume or snapshot id.
pub fn copy_of(name: &str, id: &str) -> CreateVolume {
    let source = match id.parse::<SnapshotId>() {
        Ok(_) => SourceRef::Snapshot(id.into()),
        Err(_) => SourceRef::Volume(id.parse::<VolumeId>().unwrap().to_string()),
    };
    CreateVolume { source: Some(source), ..blank(name) }
}
