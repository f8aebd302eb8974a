//! The local backend on the fake machine.

mod copies;
mod devices;
mod files;
mod places;
mod sweeps;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::pool::{Pool, PoolConfig};
use crate::backend::{Attachment, Origin, Progress, Use};
use crate::host::fake::Fake;
use crate::host::{FileKind, MountSpec};
use crate::volume::capacity::Policy;
use crate::volume::size::MIB;
use crate::volume::{FsType, Kind, Layout, Mutable, Phase, Provisioning, Result, Snapshot, Volume};

/// The pool of most tests.
const POOL: &str = "/pool";
/// A target that kubelet could have chosen.
const TARGET: &str = "/var/lib/kubelet/target";
/// The size of most volumes.
const SIZE: u64 = 64 * MIB;
/// Mount and write.
const WRITE: Use = Use::Filesystem { read_only: false };
/// Mount and read.
const READ: Use = Use::Filesystem { read_only: true };
/// Write to the device.
const RAW: Use = Use::Block { read_only: false };
/// Read from the device.
const RAW_READ: Use = Use::Block { read_only: true };

fn config() -> PoolConfig {
    PoolConfig {
        name: "fast".into(),
        dir: POOL.into(),
        create: true,
        allow_volatile: false,
        subvolumes: true,
        policy: Policy::default(),
    }
}

/// A machine with a pool directory on a filesystem of this kind. The pool has a fixed id, so that the names in it are
/// the same in every run.
fn machine(fs: &str) -> Fake {
    let fake = Fake::with_pool(POOL, fs, 4 << 30);
    let marker = r#"{"format":1,"id":"testpool","name":"fast","made_by":"a test"}"#;
    fake.plant("/pool/offshoot-pool.json", marker).unwrap();
    fake
}

fn open(fake: &Fake) -> Pool {
    Pool::open(fake.host(), config()).unwrap()
}

fn quiet() -> Progress {
    Arc::new(|_, _| {})
}

/// The `n`-th volume of a test.
fn volume(n: u8) -> Volume {
    Volume {
        id: format!("v-testpool-{n:032x}").parse().unwrap(),
        name: format!("volume {n}").into(),
        size: SIZE,
        layout: Layout::Image,
        fs: FsType::Ext4,
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

fn thick(n: u8) -> Volume {
    let mutable = Mutable { provisioning: Provisioning::Thick, ..Mutable::default() };
    Volume { mutable, ..volume(n) }
}

fn raw(n: u8) -> Volume {
    Volume { mount: false, block: true, ..volume(n) }
}

/// The `n`-th snapshot of a test, of this volume.
fn snapshot(n: u8, of: &Volume) -> Snapshot {
    Snapshot {
        id: format!("s-testpool-{n:032x}").parse().unwrap(),
        name: format!("snapshot {n}").into(),
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

/// What the use cases do around the backend: the short way from a volume to a mount and back.
impl Pool {
    fn make(&self, volume: &Volume) -> Result<()> {
        self.create(volume, None, &quiet())?;
        self.settle(volume, false)
    }

    fn make_from(&self, volume: &Volume, origin: Origin<'_>) -> Result<()> {
        self.create(volume, Some(origin), &quiet())?;
        self.settle(volume, true)
    }

    fn shoot(&self, volume: &Volume, snapshot: &Snapshot) -> Result<()> {
        self.cut(volume, snapshot, &quiet())?;
        self.seal(snapshot)
    }

    fn img(&self, volume: &Volume) -> PathBuf {
        self.names.volume(volume.id, super::names::Part::Image)
    }

    /// Attaches and mounts a volume at `target`.
    fn mount(&self, volume: &Volume, target: impl AsRef<Path>) {
        let target = target.as_ref();
        self.host.make_target(target, FileKind::Directory).unwrap();
        match self.attach(volume, WRITE).unwrap() {
            Attachment::Device { path, fs, options, .. } => {
                let fs = fs.unwrap().as_str().to_owned();
                let spec = MountSpec { fs, options, ..MountSpec::default() };
                self.host.mount_device(&path, target, &spec).unwrap();
                self.grow_mounted(volume, target).unwrap();
            }
            Attachment::Directory { path } => self.host.bind(&path, target, false).unwrap(),
        }
    }

    fn unmount(&self, volume: &Volume, target: impl AsRef<Path>) {
        self.host.unmount(target.as_ref()).unwrap();
        self.detach(volume).unwrap();
    }

    /// Makes a volume that holds one file.
    fn filled(&self, fake: &Fake, volume: &Volume, value: &str) {
        self.make(volume).unwrap();
        self.mount(volume, TARGET);
        fake.app_write(TARGET, "data", value).unwrap();
        self.unmount(volume, TARGET);
    }

    /// The one file of a volume, by mounting it.
    fn content(&self, fake: &Fake, volume: &Volume) -> String {
        self.mount(volume, TARGET);
        let value = fake.app_read(TARGET, "data").unwrap().unwrap_or_default();
        self.unmount(volume, TARGET);
        value
    }

    /// The device that a volume has.
    fn device_of(&self, volume: &Volume) -> PathBuf {
        match self.attached(volume).unwrap().as_slice() {
            [Attachment::Device { path, .. }] => path.clone(),
            other => panic!("{other:?}"),
        }
    }
}

#[track_caller]
fn refused<T: std::fmt::Debug>(result: Result<T>, kind: Kind, text: &str) {
    let error = result.unwrap_err();
    assert_eq!(error.kind(), kind, "{error}");
    assert!(error.to_string().contains(text), "{error}");
}
