//! Mounts of the fake machine, and the life of a mounted image.
//!
//! A mounted image is a tree of its own. What is written to it stays in that tree, as in a page cache, until it is
//! flushed: by a sync, a freeze or the last unmount. A frozen filesystem outlives its last mount, and holds its
//! device, until it is mounted again and thawed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::data::{BLOCK, Content, Data, FIRST_VALUE, Space, SuperBlock};
use super::world::{Body, Dev, Fail, Fs, Ino, Inside, Links, Mount, Step, World, fail};
use crate::host::{Cause, FileKind, MountEntry, MountSpec};

/// Options that the fake kernel's filesystems know; any other is refused, as the real ones do.
const OPTIONS: &[(&str, &[&str])] = &[
    (
        "ext4",
        &[
            "noload",
            "norecovery",
            "data",
            "commit",
            "discard",
            "nodiscard",
            "errors",
            "barrier",
            "nobarrier",
            "lazytime",
            "stripe",
            "delalloc",
            "nodelalloc",
            "auto_da_alloc",
            "noauto_da_alloc",
            "max_batch_time",
        ],
    ),
    (
        "xfs",
        &[
            "nouuid",
            "norecovery",
            "discard",
            "nodiscard",
            "logbufs",
            "logbsize",
            "inode64",
            "largeio",
            "nolargeio",
            "allocsize",
            "lazytime",
            "swalloc",
            "wsync",
            "noquota",
        ],
    ),
    (
        "btrfs",
        &[
            "compress",
            "compress-force",
            "discard",
            "nodiscard",
            "ssd",
            "nossd",
            "commit",
            "autodefrag",
            "subvol",
            "subvolid",
            "space_cache",
            "nodatacow",
            "nodatasum",
            "lazytime",
            "norecovery",
            "rescue",
        ],
    ),
];

impl World {
    /// Every filesystem that lives in an image.
    pub(super) fn inside(&self) -> Vec<Dev> {
        self.filesystems.iter().filter(|(_, fs)| fs.inside.is_some()).map(|(dev, _)| *dev).collect()
    }

    /// The filesystem in an image that is mounted at exactly this path.
    pub(super) fn inside_at(&self, target: &Path) -> Step<(Dev, Inside)> {
        let (found, ino) = self.there(target, Links::Refuse)?;
        if !found.mounted {
            return fail(Cause::NotFound, "nothing is mounted at this path");
        }
        let dev = self.node(ino)?.fs;
        match &self.fs(dev)?.inside {
            Some(inside) => Ok((dev, inside.clone())),
            None => fail(Cause::Unsupported, "the filesystem there is not on a device of ours"),
        }
    }

    fn entry(&self, mount: &Mount) -> Step<MountEntry> {
        let fs = self.fs(mount.fs)?;
        let node_rdev = match self.node(mount.root)?.body {
            Body::Node(rdev) => Some(rdev),
            _ => None,
        };
        Ok(MountEntry {
            target: PathBuf::from(&mount.target),
            root: PathBuf::from(&mount.shown),
            dev: match &fs.inside {
                Some(inside) => inside.rdev,
                None => self.meta_of(mount.root)?.dev,
            },
            node_rdev,
            fs: fs.kind.clone(),
            // Of the mount, not of the filesystem: that one is in `usage`.
            read_only: mount.read_only,
        })
    }

    pub(super) fn mount_table(&self) -> Step<Vec<MountEntry>> {
        self.mounts.iter().map(|mount| self.entry(mount)).collect()
    }

    pub(super) fn mount_at(&self, path: &Path) -> Step<Option<MountEntry>> {
        match self.maybe(path, Links::Refuse)? {
            Some((found, _)) if found.mounted => self.entry(&self.mounts[found.mount]).map(Some),
            _ => Ok(None),
        }
    }

    pub(super) fn mount_device(&mut self, device: &Path, target: &Path, spec: &MountSpec) -> Step<()> {
        let (found, under) = self.there(target, Links::Refuse)?;
        self.entries(under)?;
        let known = OPTIONS.iter().find(|(fs, _)| *fs == spec.fs).map_or(&[][..], |(_, known)| known);
        if !self.kernel_filesystems.contains(&spec.fs) {
            return fail(Cause::Unsupported, format!("the kernel has no {}", spec.fs));
        }
        if let Some((key, _)) = spec.options.iter().find(|(key, _)| !known.contains(&key.as_str())) {
            return fail(Cause::Invalid, format!("{}: unknown parameter {key}", spec.fs));
        }
        let disk = self.disk_at(device)?;
        let Some(rdev) = disk.rdev else { return fail(Cause::Invalid, "not a block device") };
        let dev = match self.inside_of(rdev) {
            Some(dev) => {
                let fs = self.fs(dev)?;
                if fs.kind != spec.fs || fs.read_only != spec.read_only {
                    return fail(Cause::Busy, "the device is mounted in another way");
                }
                dev
            }
            None => self.open_inside(rdev, spec)?,
        };
        let fs = self.fs(dev)?;
        self.mounts.push(Mount {
            target: found.path,
            fs: dev,
            root: fs.root,
            shown: "/".into(),
            read_only: spec.read_only,
            opens: 0,
        });
        Ok(())
    }

    /// Reads the filesystem of a device into a tree of its own.
    fn open_inside(&mut self, rdev: u64, spec: &MountSpec) -> Step<Dev> {
        let Some(device) = self.loops.get(&rdev).cloned() else {
            return fail(Cause::NotFound, "the loop device has no file");
        };
        if device.claims > 0 {
            return fail(Cause::Busy, "the device is held");
        }
        let image = device.image;
        let sb = match self.superblock(image)? {
            Some(sb) if sb.fs == spec.fs => sb,
            _ => return fail(Cause::Invalid, format!("no {} superblock", spec.fs)),
        };
        if sb.size > device.size {
            return fail(Cause::Invalid, "the filesystem is larger than the device");
        }
        if sb.damaged {
            return fail(Cause::Other, "structure needs cleaning");
        }
        if device.read_only && !spec.read_only {
            return fail(Cause::Denied, "the device is read-only");
        }
        let has = |key: &str| spec.options.iter().any(|(k, _)| k == key);
        if device.read_only && sb.dirty && !has("norecovery") && !has("noload") {
            return fail(Cause::Denied, "the journal needs recovery, and the device is read-only");
        }
        let twin = |inside: &Inside| inside.uuid == sb.uuid;
        let twins =
            self.filesystems.values().any(|fs| fs.kind == sb.fs && fs.inside.as_ref().is_some_and(twin));
        if twins && (sb.fs == "btrfs" || (sb.fs == "xfs" && !has("nouuid"))) {
            return fail(Cause::Invalid, format!("a filesystem with UUID {} is mounted already", sb.uuid));
        }
        let dev = if sb.fs == "btrfs" {
            self.next_dev += 1;
            self.next_dev
        } else {
            rdev
        };
        let space = Space::new(Self::usable(sb.size) * BLOCK);
        let inside = Inside { rdev, image, uuid: sb.uuid.clone(), frozen: false };
        self.add_fs(dev, &sb.fs, space, format!("//loop{rdev}"), Some(inside));
        self.load(dev, image)?;
        if !spec.read_only {
            self.put_superblock(image, SuperBlock { dirty: sb.fs != "btrfs", ..(*sb).clone() })?;
            self.harden(image)?;
        }
        self.fs_mut(dev)?.read_only = spec.read_only;
        Ok(dev)
    }

    /// Adds a filesystem with an empty root.
    pub(super) fn add_fs(
        &mut self,
        dev: Dev,
        kind: &str,
        space: Space,
        home: String,
        inside: Option<Inside>,
    ) -> Ino {
        let root = self.new_inode(dev, Body::Dir { entries: BTreeMap::new(), subvolume: None });
        let fs = Fs {
            kind: kind.to_owned(),
            space,
            root,
            read_only: false,
            direct_io: matches!(kind, "xfs" | "btrfs" | "ext4"),
            quota: false,
            journal: false,
            undo: Vec::new(),
            dead: Vec::new(),
            inside,
            home,
        };
        self.filesystems.insert(dev, fs);
        root
    }

    /// Makes the tree of a mounted image out of its values.
    fn load(&mut self, dev: Dev, image: Ino) -> Step<()> {
        let root = self.fs(dev)?.root;
        let mut values: Vec<(String, Vec<u8>)> =
            Self::values(self.file(image)?).map(|(_, v)| v.clone()).collect();
        values.sort();
        for (name, bytes) in values {
            let mut dir = root;
            let path = name.trim_end_matches('/');
            let (above, last) = path.rsplit_once('/').unwrap_or(("", path));
            for part in above.split('/').filter(|part| !part.is_empty()) {
                dir = match self.entries(dir)?.get(part) {
                    Some(ino) => *ino,
                    None => break,
                };
            }
            if name.ends_with('/') {
                let ino = self.new_inode(dev, Body::Dir { entries: BTreeMap::new(), subvolume: None });
                self.link(dir, last, ino)?;
            } else {
                let ino = self.new_inode(dev, Body::File(Data::default()));
                self.link(dir, last, ino)?;
                self.overwrite(ino, &bytes)?;
            }
        }
        Ok(())
    }

    /// Everything in a tree, by the name that the image keeps it under.
    fn collect(&self, dir: Ino, prefix: &str, out: &mut BTreeMap<String, Vec<u8>>) -> Step<()> {
        for (name, ino) in self.entries(dir)? {
            let path = format!("{prefix}{name}");
            match &self.node(*ino)?.body {
                Body::File(data) => drop(out.insert(path, data.bytes())),
                Body::Dir { .. } => {
                    let path = format!("{path}/");
                    out.insert(path.clone(), Vec::new());
                    self.collect(*ino, &path, out)?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Writes what changed in a mounted image's tree into the image, and forces it to the disk if `durable`.
    pub(super) fn flush_inside(&mut self, dev: Dev, durable: bool) -> Step<()> {
        let fs = self.fs(dev)?;
        let Some(inside) = fs.inside.clone() else { return Ok(()) };
        if fs.read_only || inside.frozen {
            return Ok(());
        }
        let mut tree = BTreeMap::new();
        self.collect(fs.root, "", &mut tree)?;
        let done = self.write_image(inside.image, |data, space, cow| {
            let mut stale = Vec::new();
            let mut changed = Vec::new();
            for (index, (name, bytes)) in Self::values(data) {
                match tree.remove(name) {
                    Some(now) if now == *bytes => {}
                    Some(now) => changed.push((index, Content::Value(Arc::new((name.clone(), now))))),
                    None => stale.push(index),
                }
            }
            for index in stale {
                data.write(space, cow, index, Content::Stale)?;
            }
            for (index, content) in changed {
                data.write(space, cow, index, content)?;
            }
            let mut free = FIRST_VALUE;
            for (name, bytes) in tree {
                while !matches!(data.content(free), None | Some(Content::Stale)) {
                    free += 1;
                }
                data.write(space, cow, free, Content::Value(Arc::new((name, bytes))))?;
            }
            Ok(())
        });
        if let Err(Fail(_, why)) = done {
            // The device could not take the bytes, so the filesystem shuts down.
            self.fs_mut(dev)?.read_only = true;
            return fail(Cause::Other, format!("input/output error: {why}"));
        }
        if durable { self.harden(inside.image) } else { Ok(()) }
    }

    /// The last mount of an image goes: flush it, mark it clean, and let the device go.
    pub(super) fn close_inside(&mut self, dev: Dev) -> Step<()> {
        let fs = self.fs(dev)?;
        let Some(inside) = fs.inside.clone() else { return Ok(()) };
        if !fs.read_only && self.flush_inside(dev, true).is_ok() {
            if let Some(sb) = self.superblock(inside.image)? {
                self.put_superblock(inside.image, SuperBlock { dirty: false, ..(*sb).clone() })?;
            }
            self.harden(inside.image)?;
        }
        self.forget_fs(dev);
        self.settle(inside.rdev)
    }

    /// Drops a filesystem with all its inodes.
    pub(super) fn forget_fs(&mut self, dev: Dev) {
        self.filesystems.remove(&dev);
        self.inodes.retain(|_, node| node.fs != dev);
        self.mounts.retain(|mount| mount.fs != dev);
    }

    pub(super) fn freeze(&mut self, target: &Path, on: bool) -> Step<bool> {
        let (dev, inside) = self.inside_at(target)?;
        if inside.frozen == on {
            return Ok(false);
        }
        if on {
            self.flush_inside(dev, false)?;
        }
        // ext4 leaves nothing to replay in a frozen image; XFS keeps a record in its log on purpose.
        if !self.fs(dev)?.read_only
            && let Some(sb) = self.superblock(inside.image)?
            && sb.fs == "ext4"
        {
            self.put_superblock(inside.image, SuperBlock { dirty: !on, ..(*sb).clone() })?;
        }
        if let Some(inside) = &mut self.fs_mut(dev)?.inside {
            inside.frozen = on;
        }
        Ok(true)
    }

    pub(super) fn bind(&mut self, source: &Path, target: &Path, read_only: bool) -> Step<()> {
        let (from, ino) = self.there(source, Links::Refuse)?;
        let (at, under) = self.there(target, Links::Refuse)?;
        let directory = |kind| kind == FileKind::Directory;
        if directory(self.kind(ino)?) != directory(self.kind(under)?) {
            return fail(Cause::Invalid, "source and target are not of one kind");
        }
        let fs = self.node(ino)?.fs;
        let home = self.fs(fs)?.home.trim_end_matches('/').to_owned();
        let name = self.name_of(ino);
        let shown = name.strip_prefix(&home).filter(|rest| !rest.is_empty()).unwrap_or("/").to_owned();
        let read_only = read_only || self.mounts[from.mount].read_only;
        self.mounts.push(Mount { target: at.path, fs, root: ino, shown, read_only, opens: 0 });
        Ok(())
    }

    pub(super) fn unmount(&mut self, path: &Path) -> Step<bool> {
        let Some((found, _)) = self.maybe(path, Links::Refuse)? else { return Ok(false) };
        if !found.mounted {
            return Ok(false);
        }
        let below = format!("{}/", found.path.trim_end_matches('/'));
        let crowded = self.mounts[found.mount].opens > 0
            || self.mounts.iter().skip(found.mount + 1).any(|mount| mount.target.starts_with(&below));
        if crowded {
            return fail(Cause::Busy, "the mount is in use");
        }
        let dev = self.mounts.remove(found.mount).fs;
        let fs = self.fs(dev)?;
        let last = !self.mounts.iter().any(|mount| mount.fs == dev);
        if last && fs.inside.as_ref().is_some_and(|inside| !inside.frozen) {
            self.close_inside(dev)?;
        }
        Ok(true)
    }
}
