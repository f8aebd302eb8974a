//! Filesystems inside images: formatting, checking, growing and looking at them.

use std::path::Path;
use std::sync::Arc;

use super::data::{BLOCK, Content, Data, FIRST_VALUE, SuperBlock};
use super::loops::Disk;
use super::world::{Ino, Links, Step, World, fail};
use crate::host::{Cause, FsUsage, Fsck, MkfsSpec, Probe};

/// How far from either end of a disk a superblock or a partition table may be.
const SIGNATURES: u64 = (2 << 20) / BLOCK;

impl World {
    /// The superblock of an image.
    pub(super) fn superblock(&self, image: Ino) -> Step<Option<Arc<SuperBlock>>> {
        Ok(match self.file(image)?.content(0) {
            Some(Content::Super(sb)) => Some(sb.clone()),
            _ => None,
        })
    }

    /// Writes a superblock that was changed.
    pub(super) fn put_superblock(&mut self, image: Ino, sb: SuperBlock) -> Step<()> {
        self.write_image(image, |data, space, cow| data.write(space, cow, 0, Content::Super(Arc::new(sb))))
    }

    pub(super) fn probe(&self, path: &Path) -> Step<Probe> {
        let disk = self.disk_at(path)?;
        if let Some(sb) = self.superblock(disk.image)? {
            let SuperBlock { fs, uuid, size, dirty, .. } = (*sb).clone();
            return Ok(Probe::Fs { fs, uuid, size, dirty, sector: 4096 });
        }
        let last = Self::last_block(&disk);
        let told = |index: u64| index < SIGNATURES || index + SIGNATURES >= last;
        let data = self.file(disk.image)?;
        match data.blocks.iter().find(|(index, block)| told(**index) && !block.content.is_zero()) {
            Some((index, _)) => Ok(Probe::Foreign(format!("data at byte {}", index * BLOCK))),
            None => Ok(Probe::Blank),
        }
    }

    pub(super) fn mkfs(&mut self, path: &Path, spec: &MkfsSpec) -> Step<()> {
        let disk = self.disk_at(path)?;
        if disk.rdev.is_some_and(|rdev| self.claimed(rdev)) {
            return fail(Cause::Busy, "the device is mounted or held");
        }
        if disk.read_only {
            return fail(Cause::Program, format!("mkfs.{} exits with 1: read-only device", spec.fs));
        }
        let least = match spec.fs.as_str() {
            "ext4" => 1 << 20,
            "xfs" => 300 << 20,
            "btrfs" => 109 << 20,
            other => return fail(Cause::Unsupported, format!("mkfs.{other} is not installed")),
        };
        if self.missing_programs.contains(&format!("mkfs.{}", spec.fs)) {
            return fail(Cause::Unsupported, format!("mkfs.{} is not installed", spec.fs));
        }
        if disk.size < least {
            return fail(Cause::Program, format!("mkfs.{} exits with 1: the device is too small", spec.fs));
        }
        let uuid = self.mkfs_uuid(spec);
        let keep = spec.args.iter().any(|arg| arg == "-K" || arg.contains("nodiscard"));
        let sb = SuperBlock { fs: spec.fs.clone(), uuid, size: disk.size, dirty: false, damaged: false };
        let halfway = self.halfway;
        let last = Self::last_block(&disk);
        self.write_image(disk.image, |data, space, cow| {
            if !keep {
                data.punch_reserved(space);
                let all: Vec<u64> = data.blocks.keys().copied().collect();
                all.into_iter().for_each(|index| data.punch(space, index));
            }
            let values: Vec<u64> = data.blocks.range(1..).map(|(index, _)| *index).collect();
            for index in values {
                data.write(space, cow, index, Content::Stale)?;
            }
            // A journal in the middle and tables behind the superblock.
            for index in [1, 2, 3, last / 2, last / 2 + 1] {
                data.write(space, cow, index, Content::Stale)?;
            }
            let first = if halfway { Content::Stale } else { Content::Super(Arc::new(sb)) };
            data.write(space, cow, 0, first)
        })?;
        self.die_halfway()?;
        self.harden(disk.image)
    }

    /// The UUID that the arguments ask for, or a fresh one.
    fn mkfs_uuid(&mut self, spec: &MkfsSpec) -> String {
        let asked = spec.args.iter().enumerate().find_map(|(i, arg)| match arg.as_str() {
            "-U" => spec.args.get(i + 1).cloned(),
            arg => arg.split(',').find_map(|part| part.strip_prefix("uuid=")).map(str::to_owned),
        });
        self.serial += 1;
        let serial = self.serial;
        asked.unwrap_or_else(|| format!("{serial:08x}-0000-4000-8000-{:012x}", serial * 7919)).to_lowercase()
    }

    /// A disk that no mount has, with the filesystem that the caller expects on it.
    fn unmounted(&self, device: &Path, fs: &str) -> Step<(Disk, SuperBlock)> {
        let disk = self.disk_at(device)?;
        if disk.rdev.is_some_and(|rdev| self.claimed(rdev)) {
            return fail(Cause::Busy, "the device is mounted or held");
        }
        match self.superblock(disk.image)? {
            Some(sb) if sb.fs == fs => Ok((disk, (*sb).clone())),
            Some(sb) => fail(Cause::Program, format!("the device holds {}, not {fs}", sb.fs)),
            None => fail(Cause::Program, format!("no {fs} superblock")),
        }
    }

    pub(super) fn fsck(&mut self, device: &Path, fs: &str) -> Step<Fsck> {
        // XFS and btrfs replay their log when they are mounted, and nobody else may.
        match fs {
            "ext4" => {}
            "xfs" | "btrfs" => return Ok(Fsck::Clean),
            other => return fail(Cause::Unsupported, format!("there is no filesystem {other}")),
        }
        let (disk, sb) = self.unmounted(device, fs)?;
        if sb.damaged {
            return Ok(Fsck::Damaged(format!("{fs}: the superblock and the tables disagree")));
        }
        if !sb.dirty {
            return Ok(Fsck::Clean);
        }
        if disk.read_only {
            return fail(Cause::Program, "e2fsck exits with 8: read-only device");
        }
        self.put_superblock(disk.image, SuperBlock { dirty: false, ..sb })?;
        self.harden(disk.image)?;
        Ok(Fsck::Mended)
    }

    pub(super) fn grow_unmounted(&mut self, device: &Path, fs: &str) -> Step<bool> {
        match fs {
            "ext4" => {}
            "xfs" | "btrfs" => return Ok(false),
            other => return fail(Cause::Unsupported, format!("there is no filesystem {other}")),
        }
        let (disk, sb) = self.unmounted(device, fs)?;
        if sb.damaged {
            return fail(Cause::Program, "the filesystem is damaged, so it is not grown");
        }
        if disk.read_only {
            return fail(Cause::Program, "resize2fs exits with 1: read-only device");
        }
        let size = disk.size.max(sb.size);
        self.put_superblock(disk.image, SuperBlock { size, dirty: false, ..sb })?;
        self.harden(disk.image)?;
        Ok(true)
    }

    pub(super) fn grow_mounted(&mut self, device: &Path, target: &Path, fs: &str) -> Step<()> {
        let disk = self.disk_at(device)?;
        let (dev, inside) = self.inside_at(target)?;
        let mount_read_only =
            self.walk(target, Links::Refuse).map(|found| self.mounts[found.mount].read_only)?;
        if disk.rdev != Some(inside.rdev) {
            return fail(Cause::Invalid, "what is mounted there is not on the device");
        }
        if fs == "ext4" && !self.cap_sys_resource {
            return fail(Cause::Denied, "growing a mounted ext4 needs CAP_SYS_RESOURCE");
        }
        let filesystem = self.fs(dev)?;
        if filesystem.kind != fs {
            return fail(Cause::Invalid, format!("{} is mounted there", filesystem.kind));
        }
        if filesystem.read_only || mount_read_only {
            return fail(Cause::Denied, "read-only file system");
        }
        if inside.frozen {
            return fail(Cause::Busy, "the filesystem is frozen");
        }
        if let Some(sb) = self.superblock(disk.image)? {
            let size = disk.size.max(sb.size);
            self.put_superblock(disk.image, SuperBlock { size, ..(*sb).clone() })?;
            self.fs_mut(dev)?.space.total = Self::usable(size);
        }
        self.harden(disk.image)
    }

    /// Blocks of a filesystem of `size` bytes that files can have.
    pub(super) fn usable(size: u64) -> u64 {
        (size / BLOCK).saturating_sub(FIRST_VALUE + 8)
    }

    pub(super) fn trim(&mut self, target: &Path) -> Step<u64> {
        let (dev, inside) = self.inside_at(target)?;
        let fs = self.fs(dev)?;
        if fs.read_only {
            return fail(Cause::Denied, "read-only file system");
        }
        let free = fs.space.total.saturating_sub(fs.space.used) * BLOCK;
        let size = self.superblock(inside.image)?.map_or(0, |sb| sb.size);
        let tables = [1, 2, 3, size / BLOCK / 2, size / BLOCK / 2 + 1];
        self.write_image(inside.image, |data, space, _| {
            let stale: Vec<u64> = data
                .blocks
                .iter()
                .filter(|(index, block)| block.content == Content::Stale && !tables.contains(index))
                .map(|(index, _)| *index)
                .collect();
            stale.into_iter().for_each(|index| data.punch(space, index));
            data.punch_reserved(space);
            Ok(())
        })?;
        Ok(free)
    }

    pub(super) fn usage(&self, path: &Path) -> Step<FsUsage> {
        let Some((found, ino)) = self.maybe(path, Links::Refuse)? else {
            return fail(Cause::NotFound, "no such file or directory");
        };
        if !found.mounted {
            return fail(Cause::NotFound, "not a mount point");
        }
        let dev = self.node(ino)?.fs;
        let fs = self.fs(dev)?;
        let inodes = if fs.kind == "btrfs" { 0 } else { fs.space.total / 4 };
        let inodes_used =
            if inodes == 0 { 0 } else { self.inodes.values().filter(|n| n.fs == dev).count() as u64 };
        let (bytes, used) = (fs.space.total * BLOCK, fs.space.used * BLOCK);
        let available = bytes.saturating_sub(used);
        Ok(FsUsage {
            bytes,
            bytes_used: used,
            bytes_available: available,
            inodes,
            inodes_used,
            read_only: fs.read_only,
        })
    }

    /// The values of a formatted image, by name.
    pub(super) fn values(data: &Data) -> impl Iterator<Item = (u64, &(String, Vec<u8>))> {
        data.blocks.iter().filter_map(|(index, block)| match &block.content {
            Content::Value(value) => Some((*index, value.as_ref())),
            _ => None,
        })
    }
}
