//! What happens on the machine besides the driver: applications, other processes, and damage.
//!
//! None of these count as calls of the driver, and all of them work after the driver has died.

use std::path::Path;
use std::sync::Arc;

use super::Fake;
use super::data::{BLOCK, Content, SuperBlock};
use super::world::{Links, Step, World, fail};
use crate::host::{Cause, HostError, HostResult};

impl Fake {
    fn app<T>(
        &self,
        name: &'static str,
        path: &Path,
        step: impl FnOnce(&mut World) -> Step<T>,
    ) -> HostResult<T> {
        step(&mut self.world()).map_err(|fail| HostError::new(name, path, fail.0, fail.1))
    }

    /// An application writes the file `name` in the volume mounted at `target`. It stays in the page cache.
    pub fn app_write(&self, target: impl AsRef<Path>, name: &str, value: impl AsRef<[u8]>) -> HostResult<()> {
        let path = target.as_ref().join(name);
        self.app("app_write", &path, |w| {
            w.mounted(target.as_ref())?;
            let ino = match w.maybe(&path, Links::All)? {
                Some((found, ino)) => w.writable(&found, ino).map(|()| ino)?,
                None => {
                    w.free_place(&path).and_then(|found| w.place_file(&found, Default::default(), None))?
                }
            };
            w.overwrite(ino, value.as_ref())
        })
    }

    /// An application reads the file `name` in the volume mounted at `target`; `None` if it is not there.
    pub fn app_read(&self, target: impl AsRef<Path>, name: &str) -> HostResult<Option<String>> {
        let path = target.as_ref().join(name);
        let bytes = self.app("app_read", &path, |w| {
            w.mounted(target.as_ref())?;
            w.read_file(&path)
        })?;
        Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// An application removes the file `name`; `false` if it is not there.
    pub fn app_remove(&self, target: impl AsRef<Path>, name: &str) -> HostResult<bool> {
        let path = target.as_ref().join(name);
        self.app("app_remove", &path, |w| w.remove_file(&path))
    }

    /// An application syncs the filesystem mounted at `target`: all its writes are durable on return.
    pub fn app_fsync(&self, target: impl AsRef<Path>) -> HostResult<()> {
        let target = target.as_ref();
        self.app("app_fsync", target, |w| {
            let (_, ino) = w.there(target, Links::All)?;
            w.sync_tree(ino)
        })
    }

    /// An application writes one block of 4 KiB to a raw device, named by its node or by a bind mount of it. A
    /// read-only *bind* does not stop it, as it does not on Linux; a read-only *device* does.
    pub fn app_write_block(
        &self,
        device: impl AsRef<Path>,
        block: u64,
        bytes: impl AsRef<[u8]>,
    ) -> HostResult<()> {
        let device = device.as_ref();
        self.app("app_write_block", device, |w| {
            let disk = w.disk_at(device)?;
            if disk.read_only {
                return fail(Cause::Denied, "read-only device");
            }
            if (block + 1) * BLOCK > disk.size || bytes.as_ref().len() as u64 > BLOCK {
                return fail(Cause::NoSpace, "beyond the end of the device");
            }
            let content = Content::Bytes(bytes.as_ref().into());
            w.write_image(disk.image, |data, space, cow| data.write(space, cow, block, content))
        })
    }

    /// An application reads one block of a raw device, without the zeros at its end.
    pub fn app_read_block(&self, device: impl AsRef<Path>, block: u64) -> HostResult<Vec<u8>> {
        let device = device.as_ref();
        self.app("app_read_block", device, |w| {
            let disk = w.disk_at(device)?;
            if (block + 1) * BLOCK > disk.size {
                return fail(Cause::NoSpace, "beyond the end of the device");
            }
            let mut bytes = w.file(disk.image)?.content(block).map(Content::render).unwrap_or_default();
            bytes.truncate(bytes.iter().rposition(|b| *b != 0).map_or(0, |at| at + 1));
            Ok(bytes)
        })
    }

    /// An application syncs a raw device.
    pub fn app_fsync_device(&self, device: impl AsRef<Path>) -> HostResult<()> {
        self.app("app_fsync_device", device.as_ref(), |w| {
            w.disk_at(device.as_ref()).and_then(|d| w.harden(d.image))
        })
    }

    /// An application keeps a file open below a mount, so that unmounting says busy.
    pub fn app_open(&self, target: impl AsRef<Path>, open: bool) -> HostResult<()> {
        let target = target.as_ref();
        self.app("app_open", target, |w| {
            let at = w.mounted(target)?;
            let opens = &mut w.mounts[at].opens;
            *opens = if open { *opens + 1 } else { opens.saturating_sub(1) };
            Ok(())
        })
    }

    /// An application opens or closes a raw device, named by its node or by a bind mount of it.
    pub fn app_open_device(&self, device: impl AsRef<Path>, open: bool) -> HostResult<()> {
        self.app("app_open_device", device.as_ref(), |w| w.open_device(device.as_ref(), false, open))
    }

    /// Somebody runs `losetup -d`, which succeeds and happens when the last holder of the device is gone.
    pub fn losetup_d(&self, device: impl AsRef<Path>) -> HostResult<()> {
        self.app("losetup_d", device.as_ref(), |w| w.detach_lazily(device.as_ref()))
    }

    /// A mount in another namespace (or device mapper) takes or leaves a device.
    pub fn hold_device(&self, device: impl AsRef<Path>, hold: bool) -> HostResult<()> {
        self.app("hold_device", device.as_ref(), |w| w.open_device(device.as_ref(), true, hold))
    }

    /// Reads the file `name` of the filesystem inside an image that need not be mounted; `None` if it is not there.
    pub fn peek(&self, image: impl AsRef<Path>, name: &str) -> HostResult<Option<String>> {
        let image = image.as_ref();
        self.app("peek", image, |w| {
            let disk = w.disk_at(image)?;
            let value = World::values(w.file(disk.image)?).find(|(_, value)| value.0 == name);
            Ok(value.map(|(_, value)| String::from_utf8_lossy(&value.1).into_owned()))
        })
    }

    /// Makes a symbolic link at `at`.
    pub fn symlink(&self, at: impl AsRef<Path>, to: impl AsRef<Path>) -> HostResult<()> {
        self.app("symlink", at.as_ref(), |w| w.make_link(at.as_ref(), to.as_ref()))
    }

    /// Makes a file of a stranger, replacing what is there. Durable at once.
    pub fn plant(&self, path: impl AsRef<Path>, bytes: impl AsRef<[u8]>) -> HostResult<()> {
        let path = path.as_ref();
        self.app("plant", path, |w| {
            w.remove_file(path)?;
            w.write_file(path, bytes.as_ref())?;
            w.sync_file(path)
        })
    }

    /// Makes a directory with its parents.
    pub fn mkdirs(&self, path: impl AsRef<Path>) -> HostResult<()> {
        let path = path.as_ref();
        self.app("mkdirs", path, |w| {
            let mut dirs: Vec<&Path> = path.ancestors().collect();
            dirs.reverse();
            for dir in dirs {
                w.make_dir(dir)?;
            }
            w.sync_dir(path)
        })
    }

    /// Damages the filesystem in an image so that checking it finds what no program may mend.
    pub fn damage(&self, image: impl AsRef<Path>) -> HostResult<()> {
        let image = image.as_ref();
        self.app("damage", image, |w| {
            let disk = w.disk_at(image)?;
            match w.superblock(disk.image)? {
                Some(sb) => {
                    w.put_superblock(disk.image, SuperBlock { damaged: true, ..Arc::unwrap_or_clone(sb) })
                }
                None => fail(Cause::Invalid, "no filesystem there"),
            }
        })
    }

    /// Makes a filesystem go read-only (or come back), as after an I/O error. `path` is on it or is its mount point.
    pub fn set_read_only(&self, path: impl AsRef<Path>, read_only: bool) -> HostResult<()> {
        let path = path.as_ref();
        self.app("set_read_only", path, |w| {
            let (_, ino) = w.there(path, Links::All)?;
            let dev = w.node(ino)?.fs;
            w.fs_mut(dev)?.read_only = read_only;
            Ok(())
        })
    }

    /// Whether files on the filesystem of `path` can be read with direct I/O.
    pub fn set_direct_io(&self, path: impl AsRef<Path>, can: bool) -> HostResult<()> {
        let path = path.as_ref();
        self.app("set_direct_io", path, |w| {
            let (_, ino) = w.there(path, Links::All)?;
            let dev = w.node(ino)?.fs;
            w.fs_mut(dev)?.direct_io = can;
            Ok(())
        })
    }

    /// Whether the process has CAP_SYS_RESOURCE.
    pub fn set_cap_sys_resource(&self, has: bool) {
        self.world().cap_sys_resource = has;
    }

    /// The filesystems that the kernel can mount.
    pub fn set_kernel_filesystems(&self, filesystems: &[&str]) {
        self.world().kernel_filesystems = filesystems.iter().map(|fs| (*fs).to_owned()).collect();
    }

    /// The kernel's version.
    pub fn set_kernel(&self, kernel: (u32, u32)) {
        self.world().kernel = kernel;
    }

    /// Uninstalls a program.
    pub fn without_program(&self, name: &str) {
        self.world().missing_programs.push(name.to_owned());
    }
}

impl World {
    /// The uppermost mount at exactly `path`.
    fn mounted(&self, path: &Path) -> Step<usize> {
        match self.maybe(path, Links::All)? {
            Some((found, _)) if found.mounted => Ok(found.mount),
            _ => fail(Cause::NotFound, "nothing is mounted there"),
        }
    }

    /// Makes everything below a directory durable.
    fn sync_tree(&mut self, ino: super::world::Ino) -> Step<()> {
        let fs = self.node(ino)?.fs;
        if self.fs(fs)?.inside.is_some() {
            return self.flush_inside(fs, true);
        }
        if let Ok(entries) = self.entries(ino) {
            for child in entries.clone().into_values() {
                self.sync_tree(child)?;
            }
        } else if self.file(ino).is_ok() {
            self.harden(ino)?;
        }
        self.commit(fs)
    }
}
