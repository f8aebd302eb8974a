//! Loop devices of the fake machine.
//!
//! Their traps are what makes them worth faking: a device belongs to an *inode* and keeps it alive after its name is
//! gone; detaching a device that somebody holds succeeds and happens later; numbers are used again, and mean nothing
//! after a reboot.

use std::path::{Path, PathBuf};

use super::data::{BLOCK, Data};
use super::world::{Body, Dev, Fail, Ino, Links, Loop, Step, World, fail};
use crate::host::{Cause, Detached, LoopDevice, LoopOptions};

/// Device number of the first loop device.
const LOOP_MAJOR: u64 = 7 << 8;
/// Loop devices that the machine can have.
const LOOP_MAX: u64 = 4096;

/// What a path that names a device or an image stands for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Disk {
    pub(super) image: Ino,
    /// Bytes that can be addressed.
    pub(super) size: u64,
    pub(super) read_only: bool,
    /// The device, if the path names one.
    pub(super) rdev: Option<u64>,
}

impl World {
    fn shown(&self, rdev: u64, device: &Loop) -> LoopDevice {
        LoopDevice {
            path: PathBuf::from(format!("/dev/loop{}", rdev - LOOP_MAJOR)),
            rdev,
            file: PathBuf::from(self.backing_name(device.image)),
            read_only: device.read_only,
            direct_io: device.direct_io,
        }
    }

    /// The name of a backing file as the kernel shows it.
    fn backing_name(&self, image: Ino) -> String {
        let removed = self.inodes.get(&image).is_none_or(|node| !node.linked);
        self.name_of(image) + if removed { " (deleted)" } else { "" }
    }

    /// The device number behind a node.
    pub(super) fn rdev_at(&self, path: &Path) -> Step<u64> {
        let (_, ino) = self.there(path, Links::All)?;
        match self.node(ino)?.body {
            Body::Node(rdev) => Ok(rdev),
            _ => fail(Cause::Invalid, "not a block device"),
        }
    }

    /// The attached loop device at a path.
    pub(super) fn loop_at(&self, path: &Path) -> Step<(u64, &Loop)> {
        let rdev = self.rdev_at(path)?;
        match self.loops.get(&rdev) {
            Some(device) => Ok((rdev, device)),
            None => fail(Cause::NotFound, "the loop device has no file"),
        }
    }

    fn loop_mut(&mut self, path: &Path) -> Step<(u64, &mut Loop)> {
        let rdev = self.rdev_at(path)?;
        match self.loops.get_mut(&rdev) {
            Some(device) => Ok((rdev, device)),
            None => fail(Cause::NotFound, "the loop device has no file"),
        }
    }

    /// The disk behind a device or an image file.
    pub(super) fn disk_at(&self, path: &Path) -> Step<Disk> {
        let (_, ino) = self.there(path, Links::All)?;
        if let Body::File(data) = &self.node(ino)?.body {
            return Ok(Disk { image: ino, size: data.len, read_only: false, rdev: None });
        }
        let (rdev, device) = self.loop_at(path)?;
        Ok(Disk { image: device.image, size: device.size, read_only: device.read_only, rdev: Some(rdev) })
    }

    pub(super) fn loop_attach(&mut self, file: &Path, options: LoopOptions) -> Step<LoopDevice> {
        let (_, image) = self.there(file, Links::All)?;
        let size = self.file(image)?.len;
        let direct = self.fs(self.node(image)?.fs)?.direct_io;
        // Another boot, another order: the numbers of last time are worth nothing.
        let first = self.boots * 3 % 8;
        let free = (first..LOOP_MAX).map(|n| LOOP_MAJOR + n).find(|rdev| !self.loops.contains_key(rdev));
        let Some(rdev) = free else { return fail(Cause::NoSpace, "no free loop device") };
        let device = Loop {
            image,
            read_only: options.read_only,
            direct_io: options.direct_io && direct,
            size,
            leaving: false,
            opens: 0,
            claims: 0,
            read_ahead: 128,
        };
        self.add_node(rdev)?;
        let shown = self.shown(rdev, &device);
        self.loops.insert(rdev, device);
        Ok(shown)
    }

    /// Makes the node of a device under `/dev`, once.
    fn add_node(&mut self, rdev: u64) -> Step<()> {
        let name = format!("loop{}", rdev - LOOP_MAJOR);
        let (_, dir) = self.there(Path::new("/dev"), Links::All)?;
        if self.entries(dir)?.contains_key(&name) {
            return Ok(());
        }
        let fs = self.node(dir)?.fs;
        let node = self.new_inode(fs, Body::Node(rdev));
        self.link(dir, &name, node)
    }

    pub(super) fn loops_of(&self, file: &Path) -> Step<Vec<LoopDevice>> {
        let Some((_, ino)) = self.maybe(file, Links::All)? else { return Ok(Vec::new()) };
        Ok(self.loops.iter().filter(|(_, d)| d.image == ino).map(|(rdev, d)| self.shown(*rdev, d)).collect())
    }

    pub(super) fn loops_below(&self, dir: &Path) -> Step<Vec<LoopDevice>> {
        let (found, _) = self.there(dir, Links::All)?;
        let below = format!("{}/", found.path.trim_end_matches('/'));
        Ok(self
            .loops
            .iter()
            .filter(|(_, device)| self.name_of(device.image).starts_with(&below))
            .map(|(rdev, device)| self.shown(*rdev, device))
            .collect())
    }

    /// Whether a mount or an exclusive holder has the device.
    pub(super) fn claimed(&self, rdev: u64) -> bool {
        self.inside_of(rdev).is_some() || self.loops.get(&rdev).is_some_and(|device| device.claims > 0)
    }

    /// The mounted (or frozen and left) filesystem on a device.
    pub(super) fn inside_of(&self, rdev: u64) -> Option<Dev> {
        let on = |fs: &super::world::Fs| fs.inside.as_ref().is_some_and(|inside| inside.rdev == rdev);
        self.filesystems.iter().find(|(_, fs)| on(fs)).map(|(dev, _)| *dev)
    }

    pub(super) fn loop_detach(&mut self, device: &LoopDevice, file: &Path) -> Step<Detached> {
        let Some(attached) = self.loops.get(&device.rdev) else { return Ok(Detached::Gone) };
        let image = attached.image;
        // The file may have been removed or replaced: then the name that the device remembers must agree.
        let orphan = !self.node(image)?.linked && Path::new(&self.name_of(image)) == file;
        let same = self.maybe(file, Links::All)?.is_some_and(|(_, ino)| ino == image);
        if !same && !orphan {
            // Another's by now: as far as this file goes, the device is gone.
            return Ok(Detached::Gone);
        }
        if self.claimed(device.rdev) {
            self.die_halfway()?;
            return Ok(Detached::Held);
        }
        if attached.opens > 0 {
            // The driver clears it, sees it stay, and takes the kernel's mark "detach on last close" away again.
            if self.halfway {
                self.leave(device.rdev);
            }
            self.die_halfway()?;
            return Ok(Detached::Held);
        }
        self.die_halfway()?;
        self.drop_loop(device.rdev)?;
        Ok(Detached::Gone)
    }

    /// Marks a device to go when its last holder does.
    fn leave(&mut self, rdev: u64) {
        if let Some(device) = self.loops.get_mut(&rdev) {
            device.leaving = true;
        }
    }

    /// What `losetup -d` of another program does: success, now or later.
    pub(super) fn detach_lazily(&mut self, path: &Path) -> Step<()> {
        let (rdev, _) = self.loop_at(path)?;
        self.leave(rdev);
        self.settle(rdev)
    }

    fn drop_loop(&mut self, rdev: u64) -> Step<()> {
        match self.loops.remove(&rdev) {
            Some(device) => self.release(device.image),
            None => Ok(()),
        }
    }

    /// Lets a device go that was detached while it was held, if nobody holds it now.
    pub(super) fn settle(&mut self, rdev: u64) -> Step<()> {
        let free = !self.claimed(rdev);
        match self.loops.get(&rdev) {
            Some(device) if device.leaving && device.opens == 0 && free => self.drop_loop(rdev),
            _ => Ok(()),
        }
    }

    pub(super) fn loop_resize(&mut self, device: &LoopDevice) -> Step<()> {
        let (rdev, image) = self.loop_at(&device.path).map(|(rdev, device)| (rdev, device.image))?;
        let size = self.file(image)?.len;
        if let Some(device) = self.loops.get_mut(&rdev) {
            device.size = size;
        }
        Ok(())
    }

    pub(super) fn loop_set_direct_io(&mut self, device: &LoopDevice, on: bool) -> Step<()> {
        let image = self.loop_at(&device.path)?.1.image;
        let can = self.fs(self.node(image)?.fs)?.direct_io;
        if on && !can {
            return fail(Cause::Unsupported, "the file's filesystem has no direct I/O");
        }
        self.loop_mut(&device.path)?.1.direct_io = on;
        Ok(())
    }

    pub(super) fn set_read_ahead(&mut self, device: &Path, kib: u32) -> Step<()> {
        self.loop_mut(device)?.1.read_ahead = kib;
        Ok(())
    }

    pub(super) fn device_in_use(&self, device: &Path) -> Step<bool> {
        Ok(self.claimed(self.loop_at(device)?.0))
    }

    pub(super) fn device_size(&self, device: &Path) -> Step<u64> {
        Ok(self.loop_at(device)?.1.size)
    }

    /// Counts a plain or an exclusive open of a device up or down.
    pub(super) fn open_device(&mut self, path: &Path, exclusive: bool, open: bool) -> Step<()> {
        if exclusive && open && self.claimed(self.loop_at(path)?.0) {
            return fail(Cause::Busy, "the device is held");
        }
        let (rdev, device) = self.loop_mut(path)?;
        let count = if exclusive { &mut device.claims } else { &mut device.opens };
        *count = if open { *count + 1 } else { count.saturating_sub(1) };
        self.settle(rdev)
    }

    /// Changes an image's bytes, as the device's driver does.
    pub(super) fn write_image<T>(
        &mut self,
        image: Ino,
        change: impl FnOnce(&mut Data, &mut super::data::Space, bool) -> Step<T>,
    ) -> Step<T> {
        let (data, fs, _) = self.file_mut(image)?;
        if fs.read_only {
            return Err(Fail(Cause::Other, "input/output error: the pool is read-only".into()));
        }
        let cow = fs.kind == "btrfs";
        change(data, &mut fs.space, cow)
    }

    /// Blocks of a disk.
    pub(super) fn last_block(disk: &Disk) -> u64 {
        disk.size / BLOCK
    }
}
