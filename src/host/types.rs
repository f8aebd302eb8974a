//! The plain values that go in and out of the [`Host`](super::Host) trait.

use std::any::Any;
use std::path::PathBuf;

use crate::volume::nfs::NfsSource;

/// What kind of thing a path names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A block device node.
    BlockDevice,
    /// Anything else, a symbolic link included.
    Other,
}

/// One entry of a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirEntry {
    /// Its name; entries whose name is not UTF-8 are shown with replacement characters and never acted on.
    pub name: String,
    /// What it is.
    pub kind: FileKind,
}

/// What `stat` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileMeta {
    /// What it is.
    pub kind: FileKind,
    /// Length in bytes.
    pub len: u64,
    /// Bytes of disk that the file's blocks take (shared ones counted in full).
    pub allocated: u64,
    /// The filesystem's device number.
    pub dev: u64,
    /// The inode.
    pub ino: u64,
    /// For a device node: the device number that it stands for.
    pub rdev: u64,
}

/// A run of allocated bytes of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// Where it lies in the file, in bytes.
    pub logical: u64,
    /// Where it lies on the disk, in bytes.
    pub physical: u64,
    /// How long it is, in bytes.
    pub len: u64,
    /// Whether another file has the same blocks too.
    pub shared: bool,
    /// Whether `physical` does not tell what the bytes are: compressed, inline, not yet placed.
    pub encoded: bool,
    /// Whether it is only set aside, and reads as zeros.
    pub unwritten: bool,
}

/// The filesystem that holds a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FsStat {
    /// The kernel's name: `xfs`, `btrfs`, `ext4`, `tmpfs`, `overlay` …; `unknown` if it is none of the known ones.
    pub fs: String,
    /// Its size in bytes.
    pub size: u64,
    /// Bytes that a new file may still take.
    pub available: u64,
    /// Whether it is mounted read-only.
    pub read_only: bool,
    /// The filesystem's device number.
    pub dev: u64,
}

/// Bytes and inodes of a mounted filesystem.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FsUsage {
    /// Size in bytes.
    pub bytes: u64,
    /// Bytes in use.
    pub bytes_used: u64,
    /// Bytes that an unprivileged writer can still take.
    pub bytes_available: u64,
    /// Inodes; zero where the filesystem makes them as needed.
    pub inodes: u64,
    /// Inodes in use.
    pub inodes_used: u64,
    /// Whether the filesystem (not only the mount) has gone read-only.
    pub read_only: bool,
}

/// Bytes of a subvolume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SubvolumeUsage {
    /// All bytes that it refers to.
    pub referenced: u64,
    /// Those that no other subvolume refers to.
    pub exclusive: u64,
    /// Its limit, if it has one.
    pub limit: Option<u64>,
}

/// Held while a directory is in use by this process; dropping it gives the lock back.
pub struct DirLock(#[allow(dead_code, reason = "held for its Drop")] pub Box<dyn Any + Send + Sync>);

/// How to attach a loop device.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LoopOptions {
    /// Refuse writes to the device.
    pub read_only: bool,
    /// Bypass the page cache of the file's filesystem; silently off where that filesystem cannot (look at
    /// [`LoopDevice::direct_io`]).
    pub direct_io: bool,
    /// The sectors of the device, in bytes; zero leaves them to the kernel, which may choose others for the same file
    /// later, as when its blocks become shared. Smaller ones than the disk's rule direct I/O out.
    pub sector: u32,
}

/// An attached loop device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoopDevice {
    /// Its node, such as `/dev/loop3`. The number means nothing after a reboot.
    pub path: PathBuf,
    /// Its device number, as in [`FileMeta::rdev`].
    pub rdev: u64,
    /// The backing file as the kernel names it now. For people and for listing only: identity is device and inode.
    pub file: PathBuf,
    /// Whether it refuses writes.
    pub read_only: bool,
    /// Whether it bypasses the page cache.
    pub direct_io: bool,
}

/// What came of detaching a loop device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detached {
    /// It is gone.
    Gone,
    /// Somebody still has it open or mounted. It stays attached as it was; ask again later.
    Held,
}

/// What the superblocks of a device say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probe {
    /// All zeros wherever a superblock or partition table could be.
    Blank,
    /// A filesystem that Offshoot knows.
    Fs {
        /// `ext4`, `xfs` or `btrfs`.
        fs: String,
        /// Its UUID, lower case with dashes.
        uuid: String,
        /// Its size in bytes, as the superblock says.
        size: u64,
        /// Whether its journal may have to be replayed before anything else touches it. Always so for XFS, which tells
        /// that in its log only.
        dirty: bool,
        /// The largest sectors, in bytes, of a device on which it can be mounted.
        sector: u32,
    },
    /// Bytes that are not ours to judge: never format, never mend.
    Foreign(String),
}

/// How to format.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MkfsSpec {
    /// `ext4`, `xfs` or `btrfs`.
    pub fs: String,
    /// All arguments but the device, each already decided and allowed.
    pub args: Vec<String>,
}

/// How to mount a device.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MountSpec {
    /// `ext4`, `xfs` or `btrfs`.
    pub fs: String,
    /// Options for the filesystem: a key, and a value where the option takes one.
    pub options: Vec<(String, Option<String>)>,
    /// Refuse writes through this mount.
    pub read_only: bool,
    /// Flags of the mount itself, next to `nosuid` and `nodev`, which are always set.
    pub flags: Vec<MountFlag>,
}

/// Flags of a mount that a StorageClass may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MountFlag {
    /// No programs are started from it.
    NoExec,
    /// Access times are not kept.
    NoAtime,
    /// Access times of directories are not kept.
    NoDirAtime,
    /// Access times are kept loosely.
    RelAtime,
    /// Every access time is kept.
    StrictAtime,
}

/// What checking a filesystem found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fsck {
    /// Nothing to mend.
    Clean,
    /// Mended; safe to mount.
    Mended,
    /// Damage that needs a person: never mount read-write. With the program's words.
    Damaged(String),
}

/// One line of the mount table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountEntry {
    /// Where it is mounted.
    pub target: PathBuf,
    /// The part of the filesystem that is visible there (`/` for all of it, `/loop3` for a bound device node).
    pub root: PathBuf,
    /// The device number of the filesystem, which for one on a block device is that of the device (also for btrfs,
    /// which shows in `stat` a number that it made up).
    pub dev: u64,
    /// The device number of the bound device node, where a device node is bound.
    pub node_rdev: Option<u64>,
    /// The filesystem, such as `ext4` or `devtmpfs`.
    pub fs: String,
    /// Whether this mount refuses writes.
    pub read_only: bool,
}

/// One NFS mount, as the kernel's table has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NfsMount {
    /// Where it is mounted.
    pub target: PathBuf,
    /// What is mounted. `None` where the table has no address or no version that is known here.
    pub source: Option<NfsSource>,
    /// Whether this mount refuses writes.
    pub read_only: bool,
}

/// Facts of the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostFacts {
    /// Changes with every boot.
    pub boot_id: String,
    /// Kernel version: major and minor.
    pub kernel: (u32, u32),
    /// Whether this process may do what only CAP_SYS_RESOURCE may (grow a mounted ext4).
    pub cap_sys_resource: bool,
    /// Filesystems that the kernel can mount.
    pub filesystems: Vec<String>,
}
