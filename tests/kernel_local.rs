//! The local backend on the real machine: what the fake promises is held against this kernel.
//!
//! Needs root, loop devices, e2fsprogs, xfsprogs and btrfs-progs. Everything is made below one scratch directory with a
//! name of its own, and taken away again, also after a failure.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs, reason = "tests")]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use offshoot::backend::local::{Local, PoolConfig, create_in_file};
use offshoot::backend::{Attachment, Backend, Known, Origin, Progress, Run, Use};
use offshoot::host::linux::Linux;
use offshoot::host::{FileKind, Host, LoopOptions, MkfsSpec, MountSpec};
use offshoot::volume::capacity::Policy;
use offshoot::volume::{
    FsType, Kind, Layout, Mutable, Phase, Provisioning, Snapshot, SnapshotId, Volume, VolumeId,
};

const MIB: u64 = 1 << 20;
const WRITE: Use = Use::Filesystem { read_only: false };

/// A scratch directory; on drop, every mount and loop device below it goes, then the directory.
struct Scratch {
    host: Arc<Linux>,
    dir: PathBuf,
}

impl Scratch {
    fn new(name: &str) -> Scratch {
        assert!(rustix::process::geteuid().is_root(), "these tests mount: run them as root");
        let dir = PathBuf::from(format!("/var/tmp/offshoot-local-test-{}-{name}", std::process::id()));
        std::fs::create_dir(&dir).unwrap();
        Scratch { host: Arc::new(Linux::new()), dir: dir.canonicalize().unwrap() }
    }

    /// A pool on a filesystem of this kind, in a file.
    fn pool(&self, fs: &str) -> Local {
        let dir = self.dir.join("pool");
        let file = self.dir.join("pool.img");
        if fs == "xfs" {
            create_in_file(&*self.host, &file, 4 << 30, &dir).unwrap();
            // Found again, as at every start.
            create_in_file(&*self.host, &file, 4 << 30, &dir).unwrap();
        } else if self.host.mount_at(&dir).unwrap().is_none() {
            self.host.create_file(&file, 4 << 30).unwrap();
            self.host.mkfs(&file, &MkfsSpec { fs: fs.into(), args: vec!["-q".into()] }).unwrap();
            let device = self.host.loop_attach(&file, LoopOptions::default()).unwrap();
            self.host.make_target(&dir, FileKind::Directory).unwrap();
            let spec = MountSpec { fs: fs.into(), ..MountSpec::default() };
            self.host.mount_device(&device.path, &dir, &spec).unwrap();
        }
        self.open(&dir)
    }

    fn open(&self, dir: &Path) -> Local {
        let config = PoolConfig {
            name: "real".into(),
            dir: dir.to_owned(),
            create: true,
            allow_volatile: false,
            subvolumes: true,
            policy: Policy::default(),
        };
        Local::open(self.host.clone(), config).unwrap()
    }

    /// Attaches and mounts a volume; the target.
    async fn mount(&self, pool: &Local, volume: &Volume) -> PathBuf {
        let target = self.dir.join(volume.id.to_string());
        self.host.make_target(&target, FileKind::Directory).unwrap();
        match pool.attach(volume, WRITE).await.unwrap() {
            Attachment::Device { path, fs, options, grow, .. } => {
                let fs = fs.unwrap().as_str().to_owned();
                self.host
                    .mount_device(&path, &target, &MountSpec { fs, options, ..MountSpec::default() })
                    .unwrap();
                if grow {
                    pool.grow_mounted(volume, &target).await.unwrap();
                }
            }
            Attachment::Directory { path } => self.host.bind(&path, &target, false).unwrap(),
        }
        target
    }

    async fn unmount(&self, pool: &Local, volume: &Volume) {
        assert!(self.host.unmount(&self.dir.join(volume.id.to_string())).unwrap());
        pool.detach(volume).await.unwrap();
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Twice: a pool is busy until the devices of the images in it are gone.
        for _ in 0..2 {
            let mounts = self.host.mounts().unwrap();
            for mount in mounts.iter().rev().filter(|mount| mount.target.starts_with(&self.dir)) {
                let _ = self.host.thaw(&mount.target);
                let _ = self.host.unmount(&mount.target);
            }
            for device in self.host.loops_below(&self.dir).unwrap() {
                let file = device.file.to_str().unwrap().trim_end_matches(" (deleted)").to_owned();
                let _ = self.host.loop_detach(&device, Path::new(&file));
            }
        }
        if !self.host.mounts().unwrap().iter().any(|mount| mount.target.starts_with(&self.dir)) {
            let _ = std::fs::remove_dir_all(&self.dir);
        }
    }
}

fn quiet() -> Progress {
    Arc::new(|_, _| {})
}

fn volume(pool: &Local, fs: FsType, size: u64, layout: Layout) -> Volume {
    Volume {
        id: VolumeId::new(pool.info().id),
        name: "a volume".into(),
        size,
        layout,
        fs,
        mount: true,
        block: false,
        mkfs_options: Vec::new(),
        discard: true,
        mutable: Mutable::default(),
        source: None,
        origin: None,
        base: None,
        raw_written: false,
        trust_raw: false,
        created: 0,
        published: Vec::new(),
        ephemeral: None,
        claim: None,
        phase: Phase::Ready,
    }
}

fn snapshot(of: &Volume) -> Snapshot {
    Snapshot {
        id: SnapshotId::new(of.id.pool()),
        name: "a snapshot".into(),
        volume: of.id,
        size: of.size,
        layout: of.layout,
        fs: of.fs,
        raw_written: of.raw_written,
        created: 0,
        group: None,
        undo: false,
        claim: None,
        phase: Phase::Ready,
    }
}

async fn make(pool: &Local, volume: &Volume, origin: Option<Origin<'_>>) {
    pool.create(volume, origin, quiet()).await.unwrap();
    pool.settle(volume, origin.is_some()).await.unwrap();
}

/// The whole life of a volume with a copy of each kind, all mounted at once.
async fn life(pool_fs: &str, fs: FsType, layout: Layout) {
    let scratch = Scratch::new(&format!("life-{pool_fs}-{}", fs.as_str()));
    let pool = scratch.pool(pool_fs);
    let (source, clone) = (volume(&pool, fs, 512 * MIB, layout), volume(&pool, fs, 512 * MIB, layout));
    let restored = volume(&pool, fs, 1024 * MIB, layout);
    make(&pool, &source, None).await;
    let at = scratch.mount(&pool, &source).await;
    std::fs::write(at.join("data"), "old").unwrap();

    let freeze = pool.needs_freeze(&source).await.unwrap();
    let snap = snapshot(&source);
    if freeze {
        assert!(scratch.host.freeze(&at).unwrap());
    }
    pool.cut(&source, &snap, quiet()).await.unwrap();
    make(&pool, &clone, Some(Origin::Volume(&source))).await;
    if freeze {
        assert!(scratch.host.thaw(&at).unwrap());
    }
    pool.seal(&snap).await.unwrap();
    std::fs::write(at.join("data"), "new").unwrap();
    make(&pool, &restored, Some(Origin::Snapshot(&snap))).await;

    // Source, clone and restore side by side; the larger one is grown before anybody sees it.
    let clone_at = scratch.mount(&pool, &clone).await;
    let restored_at = scratch.mount(&pool, &restored).await;
    let read = |at: &Path| std::fs::read_to_string(at.join("data")).unwrap();
    assert_eq!(
        (read(&at).as_str(), read(&clone_at).as_str(), read(&restored_at).as_str()),
        ("new", "old", "old")
    );
    if layout == Layout::Image {
        assert!(scratch.host.usage(&restored_at).unwrap().bytes > 850 * MIB);
    }
    assert_eq!(pool.mounted().await.unwrap().len(), 3);
    for busy in [&source, &clone, &restored] {
        assert_eq!(pool.delete(busy).await.unwrap_err().kind(), Kind::Precondition);
        assert_eq!(pool.volume_faults(busy).await, []);
    }
    scratch.unmount(&pool, &source).await;
    pool.replace(&source, &snap, quiet()).await.unwrap();
    scratch.mount(&pool, &source).await;
    assert_eq!(read(&at), "old");
    pool.delete_snapshot(&snap).await.unwrap();
    for volume in [&source, &clone, &restored] {
        scratch.unmount(&pool, volume).await;
        pool.delete(volume).await.unwrap();
    }
    let known = Known { volumes: &|_| false, snapshots: &|_| false };
    assert_eq!(pool.leftovers(known).await.unwrap(), []);
    assert!(scratch.host.loops_below(&scratch.dir.join("pool")).unwrap().is_empty());
}

#[tokio::test]
async fn a_volume_lives_and_is_copied_on_xfs() {
    for fs in FsType::ALL {
        life("xfs", fs, Layout::Image).await;
    }
}

#[tokio::test]
async fn a_subvolume_lives_and_is_copied_on_btrfs() {
    life("btrfs", FsType::Btrfs, Layout::Subvolume).await;
    life("btrfs", FsType::Ext4, Layout::Image).await;
}

#[tokio::test]
async fn what_changed_and_what_it_takes_is_told_from_the_extents() {
    let scratch = Scratch::new("changed");
    let pool = scratch.pool("xfs");
    let raw = Volume { mount: false, block: true, ..volume(&pool, FsType::Ext4, 64 * MIB, Layout::Image) };
    make(&pool, &raw, None).await;
    let Attachment::Device { path, .. } = pool.attach(&raw, Use::Block { read_only: false }).await.unwrap()
    else {
        panic!("a block volume is a device")
    };
    let write = |at: u64, len: usize| {
        use std::os::unix::fs::FileExt;
        let device = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
        device.write_all_at(&vec![7; len], at).unwrap();
    };
    let (one, two) = (snapshot(&raw), snapshot(&raw));
    write(0, MIB as usize);
    // Not synced by the writer: a cut takes the device's page cache along.
    pool.cut(&raw, &one, quiet()).await.unwrap();
    pool.seal(&one).await.unwrap();
    write(32 * MIB, 65536);
    pool.cut(&raw, &two, quiet()).await.unwrap();
    pool.seal(&two).await.unwrap();
    assert_eq!(pool.changed(None, &one, 0, 10).await.unwrap(), [Run { offset: 0, len: MIB }]);
    let delta = [Run { offset: 32 * MIB, len: 65536 }];
    assert_eq!(pool.changed(Some(&one), &two, 0, 10).await.unwrap(), delta);
    let usage = pool.snapshot_usage(&two).await.unwrap();
    assert_eq!((usage.own, usage.shared), (0, MIB + 65536));
    pool.detach(&raw).await.unwrap();
}

#[tokio::test]
async fn thick_stays_thick_through_mkfs_and_clone() {
    let scratch = Scratch::new("thick");
    let pool = scratch.pool("xfs");
    let thick = |volume: Volume| {
        let mutable = Mutable { provisioning: Provisioning::Thick, ..Mutable::default() };
        Volume { mutable, ..volume }
    };
    let source = thick(volume(&pool, FsType::Ext4, 256 * MIB, Layout::Image));
    let clone = thick(volume(&pool, FsType::Ext4, 256 * MIB, Layout::Image));
    make(&pool, &source, None).await;
    scratch.mount(&pool, &source).await;
    scratch.unmount(&pool, &source).await;
    make(&pool, &clone, Some(Origin::Volume(&source))).await;
    // The source's may count as shared for a moment still: the kernel frees what the clone began as in its own time.
    let of_source = pool.volume_usage(&source).await.unwrap();
    assert!(of_source.own + of_source.shared >= 256 * MIB, "{of_source:?}");
    let of_clone = pool.volume_usage(&clone).await.unwrap();
    assert!(of_clone.own >= 256 * MIB && of_clone.shared == 0, "{of_clone:?}");
}
