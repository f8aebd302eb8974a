//! Everything that a leak would show up in.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::Fake;
use super::data::{BLOCK, Content};
use super::world::{Body, Ino, World};
use crate::host::{FileKind, Host};

/// A loop device, as a leak check sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoopAudit {
    /// Its node.
    pub path: PathBuf,
    /// The name that its file has, or had when it was removed.
    pub backing: PathBuf,
    /// Whether the file has no name any more.
    pub removed: bool,
    /// Whether a mount or another exclusive holder has it.
    pub in_use: bool,
    /// Whether it was detached while it was held.
    pub leaving: bool,
    /// Whether it refuses writes.
    pub read_only: bool,
    /// Whether it bypasses the page cache.
    pub direct_io: bool,
    /// Its read-ahead in KiB.
    pub read_ahead: u32,
}

/// The state of the machine, for comparisons.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Audit {
    /// Every path of the root and the pools, directories included; not what mounted images hold, nor `/dev`.
    pub files: Vec<PathBuf>,
    /// Every attached loop device.
    pub loops: Vec<LoopAudit>,
    /// Every mount point, lowest first, without `/`, `/dev` and the pools.
    pub mounts: Vec<PathBuf>,
    /// Devices whose filesystem is frozen.
    pub frozen: Vec<PathBuf>,
    /// Lock files that are held.
    pub locks: Vec<PathBuf>,
    /// Bytes in use, by where the filesystem was mounted first.
    pub used: BTreeMap<PathBuf, u64>,
}

/// One entry of [`Fake::snapshot_tree`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreeEntry {
    /// What it is.
    pub kind: FileKind,
    /// Its length in bytes.
    pub len: u64,
    /// What its blocks hold.
    content: Vec<(u64, Content)>,
}

impl Fake {
    /// The state of the machine. Not a call of the driver.
    pub fn audit(&self) -> Audit {
        let world = self.world();
        let node = |rdev: u64| PathBuf::from(format!("/dev/loop{}", rdev - (7 << 8)));
        let mut audit = Audit { files: world.tree().into_keys().collect(), ..Audit::default() };
        for (rdev, device) in &world.loops {
            audit.loops.push(LoopAudit {
                path: node(*rdev),
                backing: PathBuf::from(world.name_of(device.image)),
                removed: world.inodes.get(&device.image).is_none_or(|inode| !inode.linked),
                in_use: world.claimed(*rdev),
                leaving: device.leaving,
                read_only: device.read_only,
                direct_io: device.direct_io,
                read_ahead: device.read_ahead,
            });
        }
        let first = |at: &str, fs: u64| world.filesystems.get(&fs).is_some_and(|fs| fs.home == at);
        let later = world.mounts.iter().filter(|mount| !first(&mount.target, mount.fs));
        audit.mounts = later.map(|mount| PathBuf::from(&mount.target)).collect();
        for fs in world.filesystems.values() {
            match &fs.inside {
                Some(inside) if inside.frozen => audit.frozen.push(node(inside.rdev)),
                Some(_) => {}
                None => drop(audit.used.insert(PathBuf::from(&fs.home), fs.space.used * BLOCK)),
            }
        }
        audit.locks = world.locks.keys().map(|ino| PathBuf::from(world.name_of(*ino))).collect();
        audit.locks.sort();
        audit
    }

    /// Every file and directory with its content, without those below `except`.
    pub fn snapshot_tree(&self, except: impl AsRef<Path>) -> BTreeMap<PathBuf, TreeEntry> {
        let mut tree = self.world().tree();
        tree.retain(|path, _| !path.starts_with(&except));
        tree
    }

    /// This handle as a `dyn Host`.
    pub fn host(&self) -> std::sync::Arc<dyn Host> {
        std::sync::Arc::new(self.clone())
    }
}

impl World {
    fn tree(&self) -> BTreeMap<PathBuf, TreeEntry> {
        let mut out = BTreeMap::new();
        for fs in self.filesystems.values().filter(|fs| fs.inside.is_none() && fs.kind != "devtmpfs") {
            self.descend(fs.root, PathBuf::from(&fs.home), &mut out);
        }
        out
    }

    fn descend(&self, ino: Ino, path: PathBuf, out: &mut BTreeMap<PathBuf, TreeEntry>) {
        let Some(node) = self.inodes.get(&ino) else { return };
        let (kind, len, content) = match &node.body {
            Body::Dir { entries, .. } => {
                for (name, child) in entries {
                    self.descend(*child, path.join(name), out);
                }
                (FileKind::Directory, 0, Vec::new())
            }
            Body::File(data) => {
                let blocks = data.blocks.iter().map(|(index, block)| (*index, block.content.clone()));
                (FileKind::File, data.len, blocks.collect())
            }
            Body::Link(_) => (FileKind::Other, 0, Vec::new()),
            Body::Node(_) => (FileKind::BlockDevice, 0, Vec::new()),
        };
        out.insert(path, TreeEntry { kind, len, content });
    }
}
