//! The calls of the trait, each handed to the machine under the plan.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use super::Fake;
use super::data::Data;
use super::world::{Links, fail};
use crate::host::{
    Cause, Detached, DirEntry, DirLock, Extent, FileKind, FileMeta, FsStat, FsUsage, Fsck, Host, HostFacts,
    HostResult, LoopDevice, LoopOptions, MkfsSpec, MountEntry, MountSpec, NfsMount, NfsSource, NfsVersion,
    Probe, SubvolumeUsage,
};

/// The programs that are installed, unless a test takes one away.
const PROGRAMS: &[&str] = &["mkfs.ext4", "mkfs.xfs", "mkfs.btrfs", "e2fsck", "resize2fs"];

/// Gives a directory's lock back, unless the process that took it has died meanwhile.
struct Locked {
    fake: Fake,
    ino: u64,
    token: u64,
}

impl Drop for Locked {
    fn drop(&mut self) {
        let mut world = self.fake.world();
        if world.locks.get(&self.ino) == Some(&self.token) {
            world.locks.remove(&self.ino);
        }
    }
}

impl Host for Fake {
    fn read_dir(&self, dir: &Path) -> HostResult<Vec<DirEntry>> {
        self.run("read_dir", dir, false, |w| w.read_dir(dir))
    }

    fn metadata(&self, path: &Path) -> HostResult<Option<FileMeta>> {
        self.run("metadata", path, false, |w| w.metadata(path))
    }

    fn read_file(&self, path: &Path) -> HostResult<Option<Vec<u8>>> {
        self.run("read_file", path, false, |w| w.read_file(path))
    }

    fn write_file(&self, path: &Path, bytes: &[u8]) -> HostResult<()> {
        self.run("write_file", path, true, |w| w.write_file(path, bytes))
    }

    fn read_at(&self, path: &Path, offset: u64, len: usize) -> HostResult<Vec<u8>> {
        self.run("read_at", path, false, |w| w.read_at(path, offset, len))
    }

    fn write_at(&self, path: &Path, offset: u64, bytes: &[u8]) -> HostResult<()> {
        self.run("write_at", path, true, |w| w.write_at(path, offset, bytes))
    }

    fn create_file(&self, path: &Path, len: u64) -> HostResult<()> {
        self.run("create_file", path, true, |w| w.create_file(path, len))
    }

    fn set_len(&self, path: &Path, len: u64) -> HostResult<()> {
        self.run("set_len", path, true, |w| w.set_len(path, len))
    }

    fn allocate(&self, path: &Path) -> HostResult<()> {
        self.run("allocate", path, true, |w| w.allocate(path))
    }

    fn deallocate_zeros(&self, path: &Path) -> HostResult<()> {
        self.run("deallocate_zeros", path, true, |w| w.deallocate_zeros(path))
    }

    fn clone_file(&self, from: &Path, to: &Path) -> HostResult<()> {
        self.run("clone_file", to, true, |w| w.clone_file(from, to))
    }

    fn copy_sparse(
        &self,
        from: &Path,
        to: &Path,
        progress: &mut dyn FnMut(u64, u64) -> bool,
    ) -> HostResult<()> {
        // Progress is told outside the machine's lock, so that whoever hears it may look at the machine.
        let mut go_on = true;
        if let Ok(total) = self.world().copy_begin(from, to)
            && !self.crashed()
        {
            go_on = [0, total / 2, total].into_iter().all(|done| progress(done, total));
        }
        self.run("copy_sparse", to, true, |w| match go_on {
            true => w.copy_end(from, to),
            false => fail(Cause::Stopped, "stopped on request"),
        })
    }

    fn sync_file(&self, path: &Path) -> HostResult<()> {
        self.run("sync_file", path, true, |w| w.sync_file(path))
    }

    fn sync_dir(&self, dir: &Path) -> HostResult<()> {
        self.run("sync_dir", dir, true, |w| w.sync_dir(dir))
    }

    fn rename(&self, from: &Path, to: &Path) -> HostResult<()> {
        self.run("rename", from, true, |w| w.rename(from, to))
    }

    fn remove_file(&self, path: &Path) -> HostResult<bool> {
        self.run("remove_file", path, true, |w| w.remove_file(path))
    }

    fn make_dir(&self, path: &Path) -> HostResult<bool> {
        self.run("make_dir", path, true, |w| w.make_dir(path))
    }

    fn remove_dir(&self, path: &Path) -> HostResult<bool> {
        self.run("remove_dir", path, true, |w| w.remove_dir(path))
    }

    fn extents(&self, path: &Path, start: u64, max: usize) -> HostResult<Vec<Extent>> {
        self.run("extents", path, false, |w| w.extents(path, start, max))
    }

    fn fs_stat(&self, path: &Path) -> HostResult<FsStat> {
        self.run("fs_stat", path, false, |w| w.fs_stat(path))
    }

    fn lock_dir(&self, dir: &Path) -> HostResult<DirLock> {
        let path = dir.join("lock");
        let (ino, token) = self.run("lock_dir", dir, true, |w| {
            // As on the real machine, it is a file in the directory that carries the lock, and it stays.
            let found = w.walk(&path, Links::Inner)?;
            let ino = match found.ino {
                Some(ino) => w.file(ino).map(|_| ino)?,
                None => w.free_place(&path).and_then(|at| w.place_file(&at, Data::default(), None))?,
            };
            if w.locks.contains_key(&ino) {
                return fail(Cause::Busy, "another process has the directory open");
            }
            w.serial += 1;
            w.locks.insert(ino, w.serial);
            Ok((ino, w.serial))
        })?;
        Ok(DirLock(Box::new(Locked { fake: self.clone(), ino, token })))
    }

    fn subvolume_create(&self, path: &Path, limit: u64) -> HostResult<()> {
        self.run("subvolume_create", path, true, |w| w.subvolume_create(path, limit))
    }

    fn subvolume_snapshot(
        &self,
        from: &Path,
        to: &Path,
        read_only: bool,
        limit: Option<u64>,
    ) -> HostResult<()> {
        self.run("subvolume_snapshot", to, true, |w| w.subvolume_snapshot(from, to, read_only, limit))
    }

    fn subvolume_delete(&self, path: &Path) -> HostResult<bool> {
        self.run("subvolume_delete", path, true, |w| w.subvolume_delete(path))
    }

    fn subvolume_limit(&self, path: &Path, limit: u64) -> HostResult<()> {
        self.run("subvolume_limit", path, true, |w| w.subvolume_limit(path, limit))
    }

    fn subvolume_usage(&self, path: &Path) -> HostResult<SubvolumeUsage> {
        self.run("subvolume_usage", path, false, |w| w.subvolume_usage(path))
    }

    fn quota_enable(&self, path: &Path) -> HostResult<()> {
        self.run("quota_enable", path, true, |w| w.quota_enable(path))
    }

    fn loop_attach(&self, file: &Path, options: LoopOptions) -> HostResult<LoopDevice> {
        self.run("loop_attach", file, true, |w| w.loop_attach(file, options))
    }

    fn loops_of(&self, file: &Path) -> HostResult<Vec<LoopDevice>> {
        self.run("loops_of", file, false, |w| w.loops_of(file))
    }

    fn loops_below(&self, dir: &Path) -> HostResult<Vec<LoopDevice>> {
        self.run("loops_below", dir, false, |w| w.loops_below(dir))
    }

    fn loop_detach(&self, device: &LoopDevice, file: &Path) -> HostResult<Detached> {
        self.run("loop_detach", file, true, |w| w.loop_detach(device, file))
    }

    fn loop_resize(&self, device: &LoopDevice) -> HostResult<()> {
        self.run("loop_resize", &device.path, true, |w| w.loop_resize(device))
    }

    fn loop_set_direct_io(&self, device: &LoopDevice, on: bool) -> HostResult<()> {
        self.run("loop_set_direct_io", &device.path, true, |w| w.loop_set_direct_io(device, on))
    }

    fn set_read_ahead(&self, device: &Path, kib: u32) -> HostResult<()> {
        self.run("set_read_ahead", device, true, |w| w.set_read_ahead(device, kib))
    }

    fn device_in_use(&self, device: &Path) -> HostResult<bool> {
        self.run("device_in_use", device, false, |w| w.device_in_use(device))
    }

    fn device_size(&self, device: &Path) -> HostResult<u64> {
        self.run("device_size", device, false, |w| w.device_size(device))
    }

    fn probe(&self, device_or_image: &Path) -> HostResult<Probe> {
        self.run("probe", device_or_image, false, |w| w.probe(device_or_image))
    }

    fn mkfs(&self, device_or_image: &Path, spec: &MkfsSpec) -> HostResult<()> {
        self.run("mkfs", device_or_image, true, |w| w.mkfs(device_or_image, spec))
    }

    fn fsck(&self, device: &Path, fs: &str) -> HostResult<Fsck> {
        self.run("fsck", device, true, |w| w.fsck(device, fs))
    }

    fn grow_unmounted(&self, device: &Path, fs: &str) -> HostResult<bool> {
        self.run("grow_unmounted", device, true, |w| w.grow_unmounted(device, fs))
    }

    fn grow_mounted(&self, device: &Path, target: &Path, fs: &str) -> HostResult<()> {
        self.run("grow_mounted", target, true, |w| w.grow_mounted(device, target, fs))
    }

    fn freeze(&self, target: &Path) -> HostResult<bool> {
        self.run("freeze", target, true, |w| w.freeze(target, true))
    }

    fn thaw(&self, target: &Path) -> HostResult<bool> {
        self.run("thaw", target, true, |w| w.freeze(target, false))
    }

    fn trim(&self, target: &Path) -> HostResult<u64> {
        self.run("trim", target, true, |w| w.trim(target))
    }

    fn mounts(&self) -> HostResult<Vec<MountEntry>> {
        self.run("mounts", Path::new("/"), false, |w| w.mount_table())
    }

    fn mount_at(&self, path: &Path) -> HostResult<Option<MountEntry>> {
        self.run("mount_at", path, false, |w| w.mount_at(path))
    }

    fn mount_device(&self, device: &Path, target: &Path, spec: &MountSpec) -> HostResult<()> {
        self.run("mount_device", target, true, |w| w.mount_device(device, target, spec))
    }

    fn bind(&self, source: &Path, target: &Path, read_only: bool) -> HostResult<()> {
        self.run("bind", target, true, |w| w.bind(source, target, read_only))
    }

    fn unmount(&self, path: &Path) -> HostResult<bool> {
        self.run("unmount", path, true, |w| match w.waits_for_server(path) {
            true => fail(Cause::Other, "the server does not answer"),
            false => w.unmount(path),
        })
    }

    fn mount_nfs(&self, source: &NfsSource, target: &Path, spec: &MountSpec) -> HostResult<()> {
        self.run("mount_nfs", target, true, |w| w.mount_nfs(source, target, spec))
    }

    fn nfs_mounts(&self) -> HostResult<Vec<NfsMount>> {
        self.run("nfs_mounts", Path::new("/"), false, |w| Ok(w.nfs_mounts()))
    }

    fn nfs_answers(&self, server: IpAddr, _version: NfsVersion) -> HostResult<()> {
        self.run("nfs_answers", Path::new("/"), false, |w| w.nfs_answers(server))
    }

    fn unmount_dead(&self, path: &Path, detach: bool) -> HostResult<bool> {
        self.run("unmount_dead", path, true, |w| w.unmount_dead(path, detach))
    }

    fn target_kind(&self, path: &Path) -> HostResult<Option<FileKind>> {
        self.run("target_kind", path, false, |w| w.target_kind(path))
    }

    fn make_target(&self, path: &Path, kind: FileKind) -> HostResult<bool> {
        self.run("make_target", path, true, |w| w.make_target(path, kind))
    }

    fn remove_target(&self, path: &Path) -> HostResult<bool> {
        self.run("remove_target", path, true, |w| w.remove_target(path))
    }

    fn usage(&self, path: &Path) -> HostResult<FsUsage> {
        self.run("usage", path, false, |w| match w.waits_for_server(path) {
            true => fail(Cause::Other, "the server does not answer"),
            false => w.usage(path),
        })
    }

    fn addresses(&self) -> HostResult<Vec<IpAddr>> {
        self.run("addresses", Path::new("/"), false, |w| Ok(w.network.addresses.clone()))
    }

    fn facts(&self) -> HostResult<HostFacts> {
        self.run("facts", Path::new("/"), false, |w| {
            Ok(HostFacts {
                boot_id: format!("{:08x}-0000-4000-8000-000000000000", w.boots),
                kernel: w.kernel,
                cap_sys_resource: w.cap_sys_resource,
                filesystems: w.kernel_filesystems.clone(),
            })
        })
    }

    fn program(&self, name: &str) -> Option<PathBuf> {
        let missing = self.world().missing_programs.iter().any(|program| program == name);
        (PROGRAMS.contains(&name) && !missing).then(|| PathBuf::from("/usr/sbin").join(name))
    }
}
