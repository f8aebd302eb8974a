//! The state of the fake machine, and how a path is walked through it.
//!
//! Every filesystem (the root, each pool, `/dev`, and each mounted image) is a tree of inodes of its own; the mount
//! table joins them. A mounted image is a tree too: that tree *is* its page cache, and what was not flushed into the
//! image is lost with it.

use std::collections::{BTreeMap, HashMap};
use std::path::{Component, Path, PathBuf};

use super::data::{Data, Space};
use super::nfs::Network;
use super::power::Undo;
use crate::host::{Cause, FileKind};

/// Number of an inode, unique in the machine and never used twice.
pub(super) type Ino = u64;
/// Device number of a filesystem.
pub(super) type Dev = u64;

/// Why a step failed; the call and the path are put to it at the edge.
#[derive(Debug, Clone)]
pub(super) struct Fail(pub(super) Cause, pub(super) String);

/// The result of a step inside the machine.
pub(super) type Step<T> = Result<T, Fail>;

/// A failed step.
pub(super) fn fail<T>(cause: Cause, detail: impl Into<String>) -> Step<T> {
    Err(Fail(cause, detail.into()))
}

/// What an inode is.
#[derive(Debug, Clone)]
pub(super) enum Body {
    File(Data),
    Dir { entries: BTreeMap<String, Ino>, subvolume: Option<Subvolume> },
    Link(PathBuf),
    Node(u64),
}

/// What makes a directory a subvolume.
#[derive(Debug, Clone, Default)]
pub(super) struct Subvolume {
    pub(super) limit: Option<u64>,
    pub(super) read_only: bool,
    /// Its device number: every subvolume shows one of its own.
    pub(super) dev: Dev,
}

/// One inode.
#[derive(Debug, Clone)]
pub(super) struct Inode {
    pub(super) fs: Dev,
    pub(super) parent: Ino,
    pub(super) name: String,
    pub(super) linked: bool,
    pub(super) body: Body,
    /// What a power cut leaves of a file's content; `None` reads as zero length.
    pub(super) durable: Option<Data>,
}

/// A filesystem that lives in an image behind a loop device.
#[derive(Debug, Clone)]
pub(super) struct Inside {
    pub(super) rdev: u64,
    pub(super) image: Ino,
    pub(super) uuid: String,
    pub(super) frozen: bool,
}

/// One filesystem.
#[derive(Debug)]
pub(super) struct Fs {
    pub(super) kind: String,
    pub(super) space: Space,
    pub(super) root: Ino,
    pub(super) read_only: bool,
    pub(super) direct_io: bool,
    pub(super) quota: bool,
    /// Whether a power cut may take back what was not synced.
    pub(super) journal: bool,
    pub(super) undo: Vec<Undo>,
    /// Inodes that nobody can reach any more, kept until the undo log no longer names them.
    pub(super) dead: Vec<Ino>,
    pub(super) inside: Option<Inside>,
    /// Where it was mounted first: the prefix of its files' names.
    pub(super) home: String,
}

/// One line of the mount table.
#[derive(Debug, Clone)]
pub(super) struct Mount {
    pub(super) target: String,
    pub(super) fs: Dev,
    pub(super) root: Ino,
    pub(super) shown: String,
    pub(super) read_only: bool,
    /// Open files of applications.
    pub(super) opens: u32,
}

/// An attached loop device.
#[derive(Debug, Clone)]
pub(super) struct Loop {
    pub(super) image: Ino,
    pub(super) read_only: bool,
    pub(super) direct_io: bool,
    pub(super) size: u64,
    /// Detached while it was held: it goes when the last holder does.
    pub(super) leaving: bool,
    /// Plain opens, as by an application on a raw block volume.
    pub(super) opens: u32,
    /// Exclusive holders: a mount in another namespace, device mapper.
    pub(super) claims: u32,
    pub(super) read_ahead: u32,
}

/// The whole machine.
#[derive(Debug)]
pub(super) struct World {
    pub(super) inodes: HashMap<Ino, Inode>,
    pub(super) filesystems: BTreeMap<Dev, Fs>,
    pub(super) mounts: Vec<Mount>,
    pub(super) loops: BTreeMap<u64, Loop>,
    pub(super) locks: HashMap<Ino, u64>,
    pub(super) next_ino: Ino,
    pub(super) next_dev: Dev,
    pub(super) boots: u64,
    pub(super) serial: u64,
    pub(super) kernel: (u32, u32),
    pub(super) cap_sys_resource: bool,
    pub(super) kernel_filesystems: Vec<String>,
    pub(super) missing_programs: Vec<String>,
    /// The call at hand dies in the middle: it does its first half and stops.
    pub(super) halfway: bool,
    /// NFS servers around it, and its own addresses.
    pub(super) network: Network,
}

/// Which symbolic links a walk follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Links {
    /// Those on the way, not the last one.
    Inner,
    /// All.
    All,
    /// None: one anywhere is refused.
    Refuse,
}

/// Where a walk ended.
#[derive(Debug, Clone)]
pub(super) struct Found {
    /// What is there, mounts crossed.
    pub(super) ino: Option<Ino>,
    /// The directory of the last component.
    pub(super) parent: Ino,
    pub(super) name: String,
    /// Index of the mount that shows `ino` (or the parent where nothing is there).
    pub(super) mount: usize,
    /// The whole path, links resolved.
    pub(super) path: String,
    /// Whether a mount's root is what is there.
    pub(super) mounted: bool,
}

impl World {
    pub(super) fn node(&self, ino: Ino) -> Step<&Inode> {
        self.inodes.get(&ino).ok_or_else(|| Fail(Cause::Other, format!("inode {ino} is lost")))
    }

    pub(super) fn node_mut(&mut self, ino: Ino) -> Step<&mut Inode> {
        self.inodes.get_mut(&ino).ok_or_else(|| Fail(Cause::Other, format!("inode {ino} is lost")))
    }

    pub(super) fn fs(&self, dev: Dev) -> Step<&Fs> {
        self.filesystems.get(&dev).ok_or_else(|| Fail(Cause::Other, format!("filesystem {dev} is lost")))
    }

    pub(super) fn fs_mut(&mut self, dev: Dev) -> Step<&mut Fs> {
        self.filesystems.get_mut(&dev).ok_or_else(|| Fail(Cause::Other, format!("filesystem {dev} is lost")))
    }

    /// A file's inode together with its filesystem.
    pub(super) fn file_mut(&mut self, ino: Ino) -> Step<(&mut Data, &mut Fs, &mut Option<Data>)> {
        let World { inodes, filesystems, .. } = self;
        match inodes.get_mut(&ino) {
            Some(Inode { fs, body: Body::File(data), durable, .. }) => match filesystems.get_mut(fs) {
                Some(fs) => Ok((data, fs, durable)),
                None => fail(Cause::Other, "the file's filesystem is lost"),
            },
            Some(_) => fail(Cause::Invalid, "not a regular file"),
            None => fail(Cause::Other, format!("inode {ino} is lost")),
        }
    }

    pub(super) fn file(&self, ino: Ino) -> Step<&Data> {
        match &self.node(ino)?.body {
            Body::File(data) => Ok(data),
            _ => fail(Cause::Invalid, "not a regular file"),
        }
    }

    pub(super) fn entries(&self, ino: Ino) -> Step<&BTreeMap<String, Ino>> {
        match &self.node(ino)?.body {
            Body::Dir { entries, .. } => Ok(entries),
            _ => fail(Cause::Invalid, "not a directory"),
        }
    }

    pub(super) fn kind(&self, ino: Ino) -> Step<FileKind> {
        Ok(match self.node(ino)?.body {
            Body::File(_) => FileKind::File,
            Body::Dir { .. } => FileKind::Directory,
            Body::Link(_) => FileKind::Other,
            Body::Node(_) => FileKind::BlockDevice,
        })
    }

    /// The uppermost mount at a path.
    pub(super) fn top_mount(&self, path: &str) -> Option<usize> {
        self.mounts.iter().rposition(|mount| mount.target == path)
    }

    /// Walks a path through links and mounts.
    pub(super) fn walk(&self, path: &Path, links: Links) -> Step<Found> {
        self.walk_within(path, links, 0)
    }

    fn walk_within(&self, path: &Path, links: Links, depth: u32) -> Step<Found> {
        if depth > 8 {
            return fail(Cause::Invalid, "too many levels of symbolic links");
        }
        let parts = parts(path)?;
        let Some(mut mount) = self.top_mount("/") else {
            return fail(Cause::Other, "nothing is mounted at /");
        };
        let mut at = self.mounts[mount].root;
        let mut found =
            Found { ino: Some(at), parent: at, name: String::new(), mount, path: "/".into(), mounted: true };
        let mut walked = String::new();
        for (i, part) in parts.iter().enumerate() {
            let last = i + 1 == parts.len();
            let child = match self.entries(at) {
                Ok(entries) => entries.get(*part).copied(),
                Err(_) => return fail(Cause::Invalid, "a component of the path is not a directory"),
            };
            let parent = at;
            walked.push('/');
            walked.push_str(part);
            let Some(mut ino) = child else {
                if last {
                    let name = (*part).to_owned();
                    return Ok(Found { ino: None, parent, name, mount, path: walked, mounted: false });
                }
                return fail(Cause::NotFound, "no such file or directory");
            };
            if let Body::Link(to) = &self.node(ino)?.body {
                match links {
                    Links::Refuse => return fail(Cause::Invalid, format!("{walked} is a symbolic link")),
                    Links::Inner if last => {}
                    _ => {
                        let mut rest = to.clone();
                        rest.extend(&parts[i + 1..]);
                        return self.walk_within(&rest, links, depth + 1);
                    }
                }
            }
            let above = self.top_mount(&walked);
            if let Some(above) = above {
                mount = above;
                ino = self.mounts[above].root;
            }
            at = ino;
            if last {
                let name = (*part).to_owned();
                found = Found {
                    ino: Some(ino),
                    parent,
                    name,
                    mount,
                    path: walked.clone(),
                    mounted: above.is_some(),
                };
            }
        }
        Ok(found)
    }

    /// What is at a path that must exist.
    pub(super) fn there(&self, path: &Path, links: Links) -> Step<(Found, Ino)> {
        let found = self.walk(path, links)?;
        match found.ino {
            Some(ino) => Ok((found, ino)),
            None => fail(Cause::NotFound, "no such file or directory"),
        }
    }

    /// Like [`walk`](Self::walk), with `None` also where a directory on the way is missing.
    pub(super) fn maybe(&self, path: &Path, links: Links) -> Step<Option<(Found, Ino)>> {
        match self.walk(path, links) {
            Ok(found) => Ok(found.ino.map(|ino| (found, ino))),
            Err(Fail(Cause::NotFound, _)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Refuses where the mount, the filesystem or the subvolume takes no writes.
    pub(super) fn writable(&self, found: &Found, ino: Ino) -> Step<()> {
        let fs = self.fs(self.node(ino)?.fs)?;
        if fs.read_only || self.mounts[found.mount].read_only {
            return fail(Cause::Denied, "read-only file system");
        }
        if fs.inside.as_ref().is_some_and(|inside| inside.frozen) {
            return fail(Cause::Busy, "the filesystem is frozen");
        }
        match self.subvolume_of(ino) {
            Some((_, subvolume)) if subvolume.read_only => fail(Cause::Denied, "read-only subvolume"),
            _ => Ok(()),
        }
    }

    /// The subvolume that holds an inode.
    pub(super) fn subvolume_of(&self, mut ino: Ino) -> Option<(Ino, &Subvolume)> {
        loop {
            let node = self.inodes.get(&ino)?;
            match &node.body {
                Body::Dir { subvolume: Some(subvolume), .. } => return Some((ino, subvolume)),
                _ if node.parent == ino => return None,
                _ => ino = node.parent,
            }
        }
    }

    /// The name that a file has, or had before it was removed.
    pub(super) fn name_of(&self, mut ino: Ino) -> String {
        let mut parts = Vec::new();
        while let Some(node) = self.inodes.get(&ino) {
            if node.parent == ino {
                let home = self.filesystems.get(&node.fs).map_or("", |fs| fs.home.as_str());
                parts.push(home.trim_end_matches('/').to_owned());
                break;
            }
            parts.push(node.name.clone());
            ino = node.parent;
        }
        parts.reverse();
        parts.join("/")
    }

    /// A new inode that has no name yet.
    pub(super) fn new_inode(&mut self, fs: Dev, body: Body) -> Ino {
        let ino = self.next_ino;
        self.next_ino += 1;
        let node = Inode { fs, parent: ino, name: String::new(), linked: true, body, durable: None };
        self.inodes.insert(ino, node);
        ino
    }

    /// Whether a loop device keeps an inode alive.
    pub(super) fn backs_loop(&self, ino: Ino) -> bool {
        self.loops.values().any(|device| device.image == ino)
    }
}

/// The components of an absolute path without dots.
fn parts(path: &Path) -> Step<Vec<&str>> {
    if !path.is_absolute() {
        return fail(Cause::Invalid, "the path is not absolute");
    }
    let mut parts = Vec::new();
    for component in path.components() {
        match component {
            Component::RootDir => {}
            Component::Normal(part) => match part.to_str() {
                Some(part) => parts.push(part),
                None => return fail(Cause::Invalid, "the path is not UTF-8"),
            },
            _ => return fail(Cause::Invalid, "the path has a component .."),
        }
    }
    Ok(parts)
}
