//! btrfs subvolumes of the fake machine: directories that can be snapshotted whole and have a size limit.

use std::path::Path;

use super::data::BLOCK;
use super::world::{Body, Found, Ino, Links, Step, Subvolume, World, fail};
use crate::host::{Cause, SubvolumeUsage};

/// What an empty subvolume refers to: its root node.
const ROOT_NODE: u64 = 16384;

impl World {
    fn on_btrfs(&self, ino: Ino) -> Step<()> {
        if self.fs(self.node(ino)?.fs)?.kind == "btrfs" {
            Ok(())
        } else {
            fail(Cause::Unsupported, "the filesystem has no subvolumes")
        }
    }

    fn may_limit(&self, ino: Ino) -> Step<()> {
        if self.fs(self.node(ino)?.fs)?.quota { Ok(()) } else { fail(Cause::Unsupported, "quotas are off") }
    }

    fn subvolume_place(&self, path: &Path) -> Step<Found> {
        let found = self.walk(path, Links::Inner)?;
        self.on_btrfs(found.parent)?;
        self.free_place(path)
    }

    fn new_subvolume(&mut self, limit: Option<u64>, read_only: bool) -> Subvolume {
        self.next_dev += 1;
        Subvolume { limit, read_only, dev: self.next_dev }
    }

    /// The subvolume whose root is exactly at `path`.
    fn subvolume_root(&self, path: &Path) -> Step<(Found, Ino)> {
        let (found, ino) = self.there(path, Links::Inner)?;
        self.on_btrfs(ino)?;
        match self.node(ino)?.body {
            Body::Dir { subvolume: Some(_), .. } => Ok((found, ino)),
            _ => fail(Cause::Invalid, "not a subvolume"),
        }
    }

    pub(super) fn subvolume_create(&mut self, path: &Path, limit: u64) -> Step<()> {
        let found = self.subvolume_place(path)?;
        self.may_limit(found.parent)?;
        let limit = if self.halfway { None } else { Some(limit) };
        let subvolume = self.new_subvolume(limit, false);
        self.place_dir(&found, Some(subvolume))?;
        self.die_halfway()
    }

    pub(super) fn subvolume_snapshot(
        &mut self,
        from: &Path,
        to: &Path,
        read_only: bool,
        limit: Option<u64>,
    ) -> Step<()> {
        let (_, source) = self.subvolume_root(from)?;
        let found = self.subvolume_place(to)?;
        if self.node(source)?.fs != self.node(found.parent)?.fs {
            return fail(Cause::Unsupported, "the two subvolumes lie on different filesystems");
        }
        if limit.is_some() {
            self.may_limit(found.parent)?;
        }
        let limit = if self.halfway { None } else { limit };
        let subvolume = self.new_subvolume(limit, read_only);
        let root = self.place_dir(&found, Some(subvolume))?;
        self.copy_tree(source, root)?;
        self.die_halfway()
    }

    /// Fills a directory with everything of another, sharing all blocks.
    fn copy_tree(&mut self, from: Ino, to: Ino) -> Step<()> {
        let fs = self.node(from)?.fs;
        for (name, ino) in self.entries(from)?.clone() {
            let body = match &self.node(ino)?.body {
                Body::Dir { .. } => Body::Dir { entries: Default::default(), subvolume: None },
                other => other.clone(),
            };
            let copy = self.new_inode(fs, body.clone());
            let node = self.node_mut(copy)?;
            node.parent = to;
            node.name.clone_from(&name);
            match body {
                // A btrfs snapshot takes the bytes along in one transaction.
                Body::File(data) => {
                    node.durable = Some(data.clone());
                    self.fs_mut(fs)?.space.hold_all(&data);
                }
                Body::Dir { .. } => self.copy_tree(ino, copy)?,
                _ => {}
            }
            if let Body::Dir { entries, .. } = &mut self.node_mut(to)?.body {
                entries.insert(name, copy);
            }
        }
        Ok(())
    }

    pub(super) fn subvolume_delete(&mut self, path: &Path) -> Step<bool> {
        if self.maybe(path, Links::Inner)?.is_none() {
            return Ok(false);
        }
        let (found, ino) = self.subvolume_root(path)?;
        let below = format!("{}/", found.path);
        if found.mounted || self.mounts.iter().any(|mount| mount.target.starts_with(&below)) {
            return fail(Cause::Busy, "a filesystem is mounted in the subvolume");
        }
        let mount = &self.mounts[found.mount];
        if mount.read_only || self.fs(mount.fs)?.read_only {
            return fail(Cause::Denied, "read-only file system");
        }
        self.unlink(found.parent, &found.name)?;
        self.release_tree(ino)?;
        Ok(true)
    }

    fn release_tree(&mut self, ino: Ino) -> Step<()> {
        if let Ok(entries) = self.entries(ino) {
            for child in entries.clone().into_values() {
                self.node_mut(child)?.linked = false;
                self.release_tree(child)?;
            }
        }
        self.release(ino)
    }

    pub(super) fn subvolume_limit(&mut self, path: &Path, limit: u64) -> Step<()> {
        let (_, ino) = self.subvolume_root(path)?;
        self.may_limit(ino)?;
        if let Body::Dir { subvolume: Some(subvolume), .. } = &mut self.node_mut(ino)?.body {
            subvolume.limit = Some(limit);
        }
        Ok(())
    }

    pub(super) fn subvolume_usage(&self, path: &Path) -> Step<SubvolumeUsage> {
        let (_, ino) = self.subvolume_root(path)?;
        self.may_limit(ino)?;
        let limit = self.subvolume_of(ino).and_then(|(_, subvolume)| subvolume.limit);
        let (referenced, exclusive) = self.count_tree(ino)?;
        Ok(SubvolumeUsage { referenced: referenced + ROOT_NODE, exclusive: exclusive + ROOT_NODE, limit })
    }

    fn count_tree(&self, ino: Ino) -> Step<(u64, u64)> {
        let node = self.node(ino)?;
        let space = &self.fs(node.fs)?.space;
        Ok(match &node.body {
            Body::File(data) => {
                let shared =
                    data.blocks.values().filter(|block| space.shared(block.phys)).count() as u64 * BLOCK;
                (data.allocated(), data.allocated() - shared)
            }
            Body::Dir { entries, .. } => {
                let mut sum = (0, 0);
                for child in entries.values() {
                    let (referenced, exclusive) = self.count_tree(*child)?;
                    sum = (sum.0 + referenced, sum.1 + exclusive);
                }
                sum
            }
            _ => (0, 0),
        })
    }

    /// Refuses a write of `more` new bytes where the subvolume's limit forbids it.
    pub(super) fn within_limit(&self, ino: Ino, more: u64) -> Step<()> {
        let Some((root, Subvolume { limit: Some(limit), .. })) = self.subvolume_of(ino) else {
            return Ok(());
        };
        if self.count_tree(root)?.0 + ROOT_NODE + more > *limit {
            return fail(Cause::NoSpace, "disk quota exceeded");
        }
        Ok(())
    }

    pub(super) fn quota_enable(&mut self, path: &Path) -> Step<()> {
        let (_, ino) = self.there(path, Links::All)?;
        self.on_btrfs(ino)?;
        self.fs_mut(self.node(ino)?.fs)?.quota = true;
        Ok(())
    }
}
