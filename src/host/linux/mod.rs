//! The real machine: the only code of the driver that mounts, does ioctls and starts programs.
//!
//! Everything here is a thin shape around one or two system calls, with the kernel's traps written beside them. What
//! the calls *mean* together (when to freeze, what to try after "busy") is decided by the callers, which run on the
//! fake host too. Linux 5.12 or newer is needed, for the mount calls by descriptor.

mod beneath;
mod block;
mod btrfs;
mod btrfs_tree;
mod errno;
mod extents;
mod facts;
mod files;
mod filesystems;
mod freeze;
mod ioctl;
mod loops;
mod memory;
mod mountinfo;
mod mounts;
mod network;
mod nfs;
mod probe;
mod programs;
mod reflink;
mod rpc;
mod statmount;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

pub use memory::share_heaps;

use super::*;

/// The machine that this process runs on.
#[derive(Debug)]
pub struct Linux {
    programs: BTreeMap<&'static str, PathBuf>,
}

impl Linux {
    /// Looks the programs up; nothing else is touched.
    pub fn new() -> Self {
        Linux { programs: programs::find() }
    }
}

impl Default for Linux {
    fn default() -> Self {
        Self::new()
    }
}

impl Host for Linux {
    fn read_dir(&self, dir: &Path) -> HostResult<Vec<DirEntry>> {
        files::read_dir(dir)
    }

    fn metadata(&self, path: &Path) -> HostResult<Option<FileMeta>> {
        files::metadata(path)
    }

    fn read_file(&self, path: &Path) -> HostResult<Option<Vec<u8>>> {
        files::read_file(path)
    }

    fn write_file(&self, path: &Path, bytes: &[u8]) -> HostResult<()> {
        files::write_file(path, bytes)
    }

    fn read_at(&self, path: &Path, offset: u64, len: usize) -> HostResult<Vec<u8>> {
        files::read_at(path, offset, len)
    }

    fn write_at(&self, path: &Path, offset: u64, bytes: &[u8]) -> HostResult<()> {
        files::write_at(path, offset, bytes)
    }

    fn create_file(&self, path: &Path, len: u64) -> HostResult<()> {
        files::create_file(path, len)
    }

    fn set_len(&self, path: &Path, len: u64) -> HostResult<()> {
        files::set_len(path, len)
    }

    fn allocate(&self, path: &Path) -> HostResult<()> {
        reflink::allocate(path)
    }

    fn deallocate_zeros(&self, path: &Path) -> HostResult<()> {
        reflink::deallocate_zeros(path)
    }

    fn clone_file(&self, from: &Path, to: &Path) -> HostResult<()> {
        reflink::clone_file(from, to)
    }

    fn copy_sparse(
        &self,
        from: &Path,
        to: &Path,
        progress: &mut dyn FnMut(u64, u64) -> bool,
    ) -> HostResult<()> {
        reflink::copy_sparse(from, to, progress)
    }

    fn sync_file(&self, path: &Path) -> HostResult<()> {
        files::sync_file(path)
    }

    fn sync_dir(&self, dir: &Path) -> HostResult<()> {
        files::sync_dir(dir)
    }

    fn rename(&self, from: &Path, to: &Path) -> HostResult<()> {
        files::rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> HostResult<bool> {
        files::remove_file(path)
    }

    fn make_dir(&self, path: &Path) -> HostResult<bool> {
        files::make_dir(path)
    }

    fn remove_dir(&self, path: &Path) -> HostResult<bool> {
        files::remove_dir(path)
    }

    fn extents(&self, path: &Path, start: u64, max: usize) -> HostResult<Vec<Extent>> {
        extents::extents(path, start, max)
    }

    fn fs_stat(&self, path: &Path) -> HostResult<FsStat> {
        files::fs_stat(path)
    }

    fn lock_dir(&self, dir: &Path) -> HostResult<DirLock> {
        files::lock_dir(dir)
    }

    fn subvolume_create(&self, path: &Path, limit: u64) -> HostResult<()> {
        btrfs::create(path, limit)
    }

    fn subvolume_snapshot(
        &self,
        from: &Path,
        to: &Path,
        read_only: bool,
        limit: Option<u64>,
    ) -> HostResult<()> {
        btrfs::snapshot(from, to, read_only, limit)
    }

    fn subvolume_delete(&self, path: &Path) -> HostResult<bool> {
        btrfs::delete(path)
    }

    fn subvolume_limit(&self, path: &Path, limit: u64) -> HostResult<()> {
        btrfs::set_limit(path, limit)
    }

    fn subvolume_usage(&self, path: &Path) -> HostResult<SubvolumeUsage> {
        btrfs::usage(path)
    }

    fn quota_enable(&self, path: &Path) -> HostResult<()> {
        btrfs::quota_enable(path)
    }

    fn loop_attach(&self, file: &Path, options: LoopOptions) -> HostResult<LoopDevice> {
        loops::attach(file, options)
    }

    fn loops_of(&self, file: &Path) -> HostResult<Vec<LoopDevice>> {
        loops::loops_of(file)
    }

    fn loops_below(&self, dir: &Path) -> HostResult<Vec<LoopDevice>> {
        loops::loops_below(dir)
    }

    fn loop_detach(&self, device: &LoopDevice, file: &Path) -> HostResult<Detached> {
        loops::detach(device, file)
    }

    fn loop_resize(&self, device: &LoopDevice) -> HostResult<()> {
        loops::resize(device)
    }

    fn loop_set_direct_io(&self, device: &LoopDevice, on: bool) -> HostResult<()> {
        loops::set_direct_io(device, on)
    }

    fn set_read_ahead(&self, device: &Path, kib: u32) -> HostResult<()> {
        block::set_read_ahead(device, kib)
    }

    fn device_in_use(&self, device: &Path) -> HostResult<bool> {
        block::in_use(device)
    }

    fn device_size(&self, device: &Path) -> HostResult<u64> {
        block::size(device)
    }

    fn probe(&self, device_or_image: &Path) -> HostResult<Probe> {
        probe::probe(device_or_image)
    }

    fn mkfs(&self, device_or_image: &Path, spec: &MkfsSpec) -> HostResult<()> {
        self.make_filesystem(device_or_image, spec)
    }

    fn fsck(&self, device: &Path, fs: &str) -> HostResult<Fsck> {
        self.check_filesystem(device, fs)
    }

    fn grow_unmounted(&self, device: &Path, fs: &str) -> HostResult<bool> {
        self.grow_unmounted_filesystem(device, fs)
    }

    fn grow_mounted(&self, device: &Path, target: &Path, fs: &str) -> HostResult<()> {
        filesystems::grow_mounted(device, target, fs)
    }

    fn freeze(&self, target: &Path) -> HostResult<bool> {
        freeze::freeze(target)
    }

    fn thaw(&self, target: &Path) -> HostResult<bool> {
        freeze::thaw(target)
    }

    fn trim(&self, target: &Path) -> HostResult<u64> {
        freeze::trim(target)
    }

    fn mounts(&self) -> HostResult<Vec<MountEntry>> {
        mounts::mounts()
    }

    fn mount_at(&self, path: &Path) -> HostResult<Option<MountEntry>> {
        mounts::mount_at(path)
    }

    fn mount_device(&self, device: &Path, target: &Path, spec: &MountSpec) -> HostResult<()> {
        mounts::mount_device(device, target, spec)
    }

    fn bind(&self, source: &Path, target: &Path, read_only: bool) -> HostResult<()> {
        mounts::bind(source, target, read_only)
    }

    fn unmount(&self, path: &Path) -> HostResult<bool> {
        mounts::unmount(path)
    }

    fn mount_nfs(&self, source: &NfsSource, target: &Path, spec: &MountSpec) -> HostResult<()> {
        nfs::mount(source, target, spec)
    }

    fn nfs_mounts(&self) -> HostResult<Vec<NfsMount>> {
        nfs::mounts()
    }

    fn nfs_answers(&self, server: IpAddr, version: NfsVersion) -> HostResult<()> {
        rpc::answers(server, version).map(drop)
    }

    fn unmount_dead(&self, path: &Path, detach: bool) -> HostResult<bool> {
        nfs::unmount_dead(path, detach)
    }

    fn target_kind(&self, path: &Path) -> HostResult<Option<FileKind>> {
        beneath::target_kind(path)
    }

    fn make_target(&self, path: &Path, kind: FileKind) -> HostResult<bool> {
        beneath::make_target(path, kind)
    }

    fn remove_target(&self, path: &Path) -> HostResult<bool> {
        beneath::remove_target(path)
    }

    fn usage(&self, path: &Path) -> HostResult<FsUsage> {
        mounts::usage(path)
    }

    fn addresses(&self) -> HostResult<Vec<IpAddr>> {
        network::addresses()
    }

    fn facts(&self) -> HostResult<HostFacts> {
        facts::facts(&self.programs)
    }

    fn program(&self, name: &str) -> Option<PathBuf> {
        self.programs.get(name).cloned()
    }
}
