//! The machine below: files, loop devices, filesystems and mounts, behind one trait.
//!
//! This is the only module that touches the kernel or starts a program. [`linux`] does it for real; [`fake`] behaves
//! like it in memory, so that every use case can be stopped before and after each call. Both pass the same table of
//! tests, which is what keeps the fake honest.
//!
//! Every question has three answers: yes, no, and *unknown*. Yes and no are values (`Some`, `None`, `true`, `false`);
//! unknown is an error. A caller that is about to format, detach or delete stops on the error.
//!
//! All calls block. Async callers go through a blocking thread.

mod error;
mod types;

pub mod contract;
pub mod fake;
pub mod linux;

use std::net::IpAddr;
use std::path::{Path, PathBuf};

pub use crate::volume::nfs::{NfsSource, NfsVersion};
pub use error::{Cause, HostError, HostResult};
pub use types::*;

/// Everything that Offshoot asks of a machine.
///
/// Paths of pool files are absolute and belong to the driver alone. Paths that came in a request (staging and target
/// paths) go only to the calls marked *request path*: those refuse symbolic links in every component.
pub trait Host: Send + Sync + 'static {
    // ---- files of a pool

    /// The entries of a directory, unsorted, without `.` and `..`.
    fn read_dir(&self, dir: &Path) -> HostResult<Vec<DirEntry>>;

    /// What is at `path`, without following a link; `None` if nothing is.
    fn metadata(&self, path: &Path) -> HostResult<Option<FileMeta>>;

    /// Reads a whole small file (at most 1 MiB); `None` if it is not there.
    fn read_file(&self, path: &Path) -> HostResult<Option<Vec<u8>>>;

    /// Writes a small file at a name that must be free, mode 0600. Not durable until synced.
    fn write_file(&self, path: &Path, bytes: &[u8]) -> HostResult<()>;

    /// Reads up to `len` bytes of a file from byte `offset` on: fewer only at its end. Holes read as zeros.
    fn read_at(&self, path: &Path, offset: u64, len: usize) -> HostResult<Vec<u8>>;

    /// Writes bytes into a file that is there. [`Cause::Invalid`], and nothing is written, where they would reach beyond
    /// its end. Not durable until synced.
    fn write_at(&self, path: &Path, offset: u64, bytes: &[u8]) -> HostResult<()>;

    /// Makes an empty sparse file of `len` bytes at a name that must be free, mode 0600.
    fn create_file(&self, path: &Path, len: u64) -> HostResult<()>;

    /// Changes the length of a file. Growing adds a hole.
    fn set_len(&self, path: &Path, len: u64) -> HostResult<()>;

    /// Sets space aside for every hole of the file, so that it reads as before and writing there needs no more space.
    /// Blocks that are shared with another file stay shared: overwriting those takes new space.
    fn allocate(&self, path: &Path) -> HostResult<()>;

    /// Gives the space of blocks that are allocated but hold only zeros back to the filesystem. Nobody may write to the
    /// file meanwhile, through a loop device neither: a block is looked at first and given back after.
    fn deallocate_zeros(&self, path: &Path) -> HostResult<()>;

    /// Makes `to`, which must not exist, share all bytes of `from` (FICLONE). [`Cause::Unsupported`] where it cannot.
    /// On failure nothing is left at `to`.
    fn clone_file(&self, from: &Path, to: &Path) -> HostResult<()>;

    /// Copies the allocated bytes of `from` to `to`, which must not exist. `progress` gets (done, total) bytes and
    /// ends the copy by returning `false`. On failure nothing is left at `to`.
    fn copy_sparse(
        &self,
        from: &Path,
        to: &Path,
        progress: &mut dyn FnMut(u64, u64) -> bool,
    ) -> HostResult<()>;

    /// Forces the bytes and metadata of a file, or the bytes of a loop device and of its file, to the disk.
    fn sync_file(&self, path: &Path) -> HostResult<()>;

    /// Forces a directory's entries to the disk.
    fn sync_dir(&self, dir: &Path) -> HostResult<()>;

    /// Moves `from` to `to` in one step, replacing a file there.
    fn rename(&self, from: &Path, to: &Path) -> HostResult<()>;

    /// Removes a file; `false` if it was not there.
    fn remove_file(&self, path: &Path) -> HostResult<bool>;

    /// Makes a directory, mode 0700; `false` if it was there.
    fn make_dir(&self, path: &Path) -> HostResult<bool>;

    /// Removes an *empty* directory; `false` if it was not there.
    fn remove_dir(&self, path: &Path) -> HostResult<bool>;

    /// The allocated extents from byte `start` on, at most `max` of them, after flushing what is not yet placed. An
    /// extent that begins before `start` is cut there.
    fn extents(&self, path: &Path, start: u64, max: usize) -> HostResult<Vec<Extent>>;

    /// Size, free space and kind of the filesystem that holds `path`.
    fn fs_stat(&self, path: &Path) -> HostResult<FsStat>;

    /// Takes the lock that marks a directory as in use by this process, until the returned value is dropped.
    fn lock_dir(&self, dir: &Path) -> HostResult<DirLock>;

    // ---- btrfs subvolumes

    /// Makes an empty subvolume with a size limit in bytes.
    fn subvolume_create(&self, path: &Path, limit: u64) -> HostResult<()>;

    /// Makes `to`, which must not exist, a snapshot of the subvolume `from`, without a limit if none is given.
    fn subvolume_snapshot(
        &self,
        from: &Path,
        to: &Path,
        read_only: bool,
        limit: Option<u64>,
    ) -> HostResult<()>;

    /// Removes a subvolume with all it holds; `false` if it was not there. Never follows into another mount.
    fn subvolume_delete(&self, path: &Path) -> HostResult<bool>;

    /// Sets the size limit of a subvolume in bytes.
    fn subvolume_limit(&self, path: &Path, limit: u64) -> HostResult<()>;

    /// Bytes of a subvolume, and how many of them are its own, as of the filesystem's last commit (up to 30 s ago).
    fn subvolume_usage(&self, path: &Path) -> HostResult<SubvolumeUsage>;

    /// Turns quota groups on for the btrfs filesystem at `path`.
    fn quota_enable(&self, path: &Path) -> HostResult<()>;

    // ---- loop devices

    /// Attaches a file to a free loop device.
    fn loop_attach(&self, file: &Path, options: LoopOptions) -> HostResult<LoopDevice>;

    /// The loop devices whose backing file is this very file, by device and inode, whatever their names. None
    /// if the file is not there.
    fn loops_of(&self, file: &Path) -> HostResult<Vec<LoopDevice>>;

    /// Every attached loop device whose backing file lies below `dir`, also if that file was removed since.
    fn loops_below(&self, dir: &Path) -> HostResult<Vec<LoopDevice>>;

    /// Detaches a loop device that still belongs to `file` and that nothing holds.
    ///
    /// The kernel answers success for a device that is held and detaches it later, perhaps under its next user; this
    /// call looks again, takes that back and says [`Detached::Held`]. A device that is not the file's any more is gone.
    fn loop_detach(&self, device: &LoopDevice, file: &Path) -> HostResult<Detached>;

    /// Makes the device as large as its file is now.
    fn loop_resize(&self, device: &LoopDevice) -> HostResult<()>;

    /// Switches direct I/O. [`Cause::Unsupported`] where the file's filesystem cannot.
    fn loop_set_direct_io(&self, device: &LoopDevice, on: bool) -> HostResult<()>;

    /// Sets the read-ahead of a block device in KiB.
    fn set_read_ahead(&self, device: &Path, kib: u32) -> HostResult<()>;

    /// Whether a mount (in any namespace) or another device holds the block device.
    fn device_in_use(&self, device: &Path) -> HostResult<bool>;

    /// The size of a block device in bytes.
    fn device_size(&self, device: &Path) -> HostResult<u64>;

    // ---- filesystems

    /// What a device or image file holds, by its superblocks. Anything that cannot be told is [`Probe::Foreign`].
    fn probe(&self, device_or_image: &Path) -> HostResult<Probe>;

    /// Formats a device or an image file. The caller has proved that it is blank. [`Cause::Busy`] if it is in use.
    fn mkfs(&self, device_or_image: &Path, spec: &MkfsSpec) -> HostResult<()>;

    /// Checks and mends an unmounted filesystem as far as that is safe without asking: ext4 only, the others mend
    /// themselves when they are mounted. [`Cause::Busy`] if the device is in use.
    fn fsck(&self, device: &Path, fs: &str) -> HostResult<Fsck>;

    /// Grows an unmounted filesystem to its device. `false` where this filesystem grows only while mounted.
    fn grow_unmounted(&self, device: &Path, fs: &str) -> HostResult<bool>;

    /// Grows a mounted filesystem to its device. `target` is a mount point of it (*request path*).
    fn grow_mounted(&self, device: &Path, target: &Path, fs: &str) -> HostResult<()>;

    /// Stops writes to the filesystem mounted at exactly `target`; `false` if it was frozen already.
    /// [`Cause::NotFound`] if nothing is mounted there: the filesystem around it is never frozen.
    fn freeze(&self, target: &Path) -> HostResult<bool>;

    /// Lets writes go on; `false` if it was not frozen.
    fn thaw(&self, target: &Path) -> HostResult<bool>;

    /// Gives unused blocks of the filesystem mounted at `target` back to the device; the number of bytes.
    fn trim(&self, target: &Path) -> HostResult<u64>;

    // ---- mounts (all *request path*)

    /// Every mount of this namespace.
    fn mounts(&self) -> HostResult<Vec<MountEntry>>;

    /// The mount whose root is exactly `path`; `None` if the path is missing or is no mount point. The uppermost one
    /// where several are stacked.
    fn mount_at(&self, path: &Path) -> HostResult<Option<MountEntry>>;

    /// Mounts a block device on a directory, with options set key by key, never as one string.
    fn mount_device(&self, device: &Path, target: &Path, spec: &MountSpec) -> HostResult<()>;

    /// Makes `source` (a directory or a device node) visible at `target`, `nosuid` and (but for a node) `nodev`.
    /// `read_only` does not stop writes *through* a device node: for that, the device itself must be read-only.
    fn bind(&self, source: &Path, target: &Path, read_only: bool) -> HostResult<()>;

    /// Removes the uppermost mount at `path`; `false` if there was none. [`Cause::Busy`] while it is used.
    fn unmount(&self, path: &Path) -> HostResult<bool>;

    // ---- NFS

    /// Mounts an export on a directory, with options set key by key and without a helper program. Asks the server first,
    /// within seconds: [`Cause::Unreachable`] where it does not answer, [`Cause::Denied`] where it does not let this
    /// machine in or does not have the path. `spec.fs` is not looked at.
    fn mount_nfs(&self, source: &NfsSource, target: &Path, spec: &MountSpec) -> HostResult<()>;

    /// Every NFS mount of this namespace, lowest first. Asks no server anything.
    fn nfs_mounts(&self) -> HostResult<Vec<NfsMount>>;

    /// Whether an NFS server speaks this version of the protocol now, within seconds: [`Cause::Unreachable`] if not.
    fn nfs_answers(&self, server: IpAddr, version: NfsVersion) -> HostResult<()>;

    /// Removes the uppermost mount at `path` without asking its server: calls that wait for it fail. `false` if there was
    /// none. [`Cause::Busy`] while programs have files open there, unless `detach` says to hide it from them and let it
    /// go when they end.
    fn unmount_dead(&self, path: &Path, detach: bool) -> HostResult<bool>;

    /// What is at a request path, following no link: [`Cause::Invalid`] if a component is a symbolic link.
    fn target_kind(&self, path: &Path) -> HostResult<Option<FileKind>>;

    /// Makes the last component as a directory (mode 0750) or an empty file; `false` if it was there in that kind, or
    /// if a device node was bound over the file. [`Cause::Exists`] if it is there in another kind.
    /// The parent must exist, and for kubelet it does; missing parents are made too.
    fn make_target(&self, path: &Path, kind: FileKind) -> HostResult<bool>;

    /// Removes an empty directory or an empty file that is no mount point; `false` if nothing was there.
    fn remove_target(&self, path: &Path) -> HostResult<bool>;

    /// Bytes and inodes of the filesystem mounted at exactly `path`; [`Cause::NotFound`] if nothing is mounted there.
    fn usage(&self, path: &Path) -> HostResult<FsUsage>;

    // ---- the machine

    /// The addresses by which other machines can reach this one: no loopback, no link-local ones. The one that
    /// the default route takes comes first, then those of version 4.
    fn addresses(&self) -> HostResult<Vec<IpAddr>>;

    /// Facts that do not change while the machine runs.
    fn facts(&self) -> HostResult<HostFacts>;

    /// A shared handle to the path of a program's file, checked at start; `None` if it is not installed.
    fn program(&self, name: &str) -> Option<PathBuf>;
}
