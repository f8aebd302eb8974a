//! Mounting by descriptor.
//!
//! The kernel's newer calls (`fsopen`, `fsmount`, `open_tree`, `move_mount`, `mount_setattr`; Linux 5.12) take a
//! filesystem's options key by key, so that a value with a comma stays one value; build a mount where nobody sees it,
//! so that a read-only bind is never writable for a moment; and put it onto a descriptor, so that the target cannot be
//! swapped. Unmounting has no call by descriptor that is not lazy: it goes through the parent's descriptor and a name,
//! following no link.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::libc;
use rustix::fs::{OFlags, Statx, makedev};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, fsconfig_create,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount, open_tree, unmount as umount,
};

use super::errno::{At, fail};
use super::{beneath, files, mountinfo, statmount};
use crate::host::{Cause, FileKind, FsUsage, HostError, HostResult, MountEntry, MountFlag, MountSpec};

/// How often an unmount that finds the mount in use is tried again, and after which pause.
const BUSY_TRIES: u32 = 10;
const BUSY_PAUSE: std::time::Duration = std::time::Duration::from_millis(10);

/// See [`Host::mounts`](crate::host::Host::mounts).
pub(super) fn mounts() -> HostResult<Vec<MountEntry>> {
    let lines = statmount::table("mounts")?;
    Ok(lines
        .into_iter()
        .map(|line| MountEntry {
            dev: device_of(&line),
            node_rdev: bound_node(&line.root).then(|| node_rdev(&line.target)).flatten(),
            target: line.target,
            root: line.root,
            fs: line.fs,
            read_only: line.read_only,
        })
        .collect())
}

/// The number of a filesystem's device. btrfs makes a number of its own up, so its device is looked at by name.
fn device_of(line: &mountinfo::Line) -> u64 {
    let shown = makedev(line.major, line.minor);
    match line.fs.as_str() {
        "btrfs" => match files::metadata(&line.source) {
            Ok(Some(meta)) if meta.kind == FileKind::BlockDevice => meta.rdev,
            _ => shown,
        },
        _ => shown,
    }
}

/// Whether a mount shows a part of a filesystem, so that it may be a device node.
fn bound_node(root: &Path) -> bool {
    root != Path::new("/")
}

/// The device that the node at a mount's target stands for.
fn node_rdev(target: &Path) -> Option<u64> {
    let fd = beneath::find("mounts", target).ok()??;
    stat_rdev(&beneath::statx("mounts", target, fd).ok()?)
}

fn stat_rdev(stat: &Statx) -> Option<u64> {
    let node = files::kind_of(stat.stx_mode.into()) == FileKind::BlockDevice;
    node.then(|| makedev(stat.stx_rdev_major, stat.stx_rdev_minor))
}

/// See [`Host::mount_at`](crate::host::Host::mount_at).
pub(super) fn mount_at(path: &Path) -> HostResult<Option<MountEntry>> {
    const CALL: &str = "mount_at";
    let Some(fd) = beneath::find(CALL, path)? else { return Ok(None) };
    let stat = beneath::statx(CALL, path, &fd)?;
    if !beneath::is_mount_root(CALL, path, &stat)? {
        return Ok(None);
    }
    let Some(facts) = statmount::facts(CALL, path, &stat)? else { return Ok(None) };
    let dev = match facts.fs.as_str() {
        "btrfs" => {
            let lines = statmount::table(CALL)?;
            let same = lines.iter().find(|line| makedev(line.major, line.minor) == facts.dev);
            same.map_or(facts.dev, device_of)
        }
        _ => facts.dev,
    };
    Ok(Some(MountEntry {
        // Without the slashes and dots that the caller may have put in.
        target: path.components().collect::<PathBuf>(),
        root: facts.root,
        dev,
        node_rdev: stat_rdev(&stat),
        fs: facts.fs,
        read_only: facts.read_only,
    }))
}

/// See [`Host::usage`](crate::host::Host::usage).
pub(super) fn usage(path: &Path) -> HostResult<FsUsage> {
    const CALL: &str = "usage";
    let fd = beneath::open(CALL, path, OFlags::PATH)?;
    let stat = beneath::statx(CALL, path, &fd)?;
    let nothing = || HostError::new(CALL, path, Cause::NotFound, "nothing is mounted at this path");
    if !beneath::is_mount_root(CALL, path, &stat)? {
        return Err(nothing());
    }
    let facts = statmount::facts(CALL, path, &stat)?.ok_or_else(nothing)?;
    let space = rustix::fs::fstatvfs(&fd).at(CALL, path)?;
    let bytes = |blocks: u64| blocks.saturating_mul(space.f_frsize);
    Ok(FsUsage {
        bytes: bytes(space.f_blocks),
        bytes_used: bytes(space.f_blocks.saturating_sub(space.f_bfree)),
        bytes_available: bytes(space.f_bavail),
        inodes: space.f_files,
        inodes_used: space.f_files.saturating_sub(space.f_ffree),
        read_only: facts.filesystem_read_only,
    })
}

/// See [`Host::mount_device`](crate::host::Host::mount_device).
pub(super) fn mount_device(device: &Path, target: &Path, spec: &MountSpec) -> HostResult<()> {
    const CALL: &str = "mount";
    // Opened before anything else is done, and what the mount lands on in the end.
    let onto = beneath::open(CALL, target, OFlags::PATH | OFlags::DIRECTORY)?;
    let context = open_context(CALL, &spec.fs, device)?;
    let said = |error| with_log(fail(CALL, device, error), &context);
    fsconfig_set_string(&context, "source", device).map_err(said)?;
    finish(CALL, device, &context, spec)?;
    let made = fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes(spec)).map_err(said)?;
    attach(made.as_fd(), onto.as_fd()).at(CALL, target)
}

/// The context in which a filesystem is put together.
pub(super) fn open_context(call: &'static str, fs: &str, about: &Path) -> HostResult<OwnedFd> {
    match fsopen(fs, FsOpenFlags::FSOPEN_CLOEXEC) {
        Ok(context) => Ok(context),
        Err(Errno::NODEV) => {
            let detail = format!("the kernel has no filesystem {fs}; load its module");
            Err(HostError::new(call, about, Cause::Unsupported, detail))
        }
        Err(error) => Err(fail(call, about, error)),
    }
}

/// Sets the options, key by key, and makes the filesystem.
pub(super) fn finish(
    call: &'static str,
    about: &Path,
    context: &OwnedFd,
    spec: &MountSpec,
) -> HostResult<()> {
    let said = |error| with_log(fail(call, about, error), context);
    if spec.read_only {
        fsconfig_set_flag(context, "ro").map_err(said)?;
    }
    for (key, value) in &spec.options {
        match value {
            Some(value) => fsconfig_set_string(context, key.as_str(), value.as_str()),
            None => fsconfig_set_flag(context, key.as_str()),
        }
        .map_err(|error| with_option(said(error), key))?;
    }
    fsconfig_create(context).map_err(said)
}

/// The flags of a mount. Set-user-id programs and device nodes inside a volume are never honoured.
pub(super) fn attributes(spec: &MountSpec) -> MountAttrFlags {
    let mut flags = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
    if spec.read_only {
        flags |= MountAttrFlags::MOUNT_ATTR_RDONLY;
    }
    for flag in &spec.flags {
        flags |= match flag {
            MountFlag::NoExec => MountAttrFlags::MOUNT_ATTR_NOEXEC,
            MountFlag::NoAtime => MountAttrFlags::MOUNT_ATTR_NOATIME,
            MountFlag::NoDirAtime => MountAttrFlags::MOUNT_ATTR_NODIRATIME,
            MountFlag::RelAtime => MountAttrFlags::MOUNT_ATTR_RELATIME,
            MountFlag::StrictAtime => MountAttrFlags::MOUNT_ATTR_STRICTATIME,
        };
    }
    flags
}

/// Puts a mount that nobody sees yet onto an open directory or file.
pub(super) fn attach(mount: BorrowedFd<'_>, onto: BorrowedFd<'_>) -> rustix::io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(mount, c"", onto, c"", flags)
}

/// Adds what the filesystem itself said to a failed mount.
pub(super) fn with_log(mut error: HostError, context: &OwnedFd) -> HostError {
    let mut line = [0; 1024];
    let bare = error.detail.len();
    // Each read gives one message, and fails when there is none left.
    while let Ok(len) = rustix::io::read(context, &mut line) {
        let said = String::from_utf8_lossy(&line[..len]);
        // Messages start with a letter for their weight: "e " error, "w " warning, "i " information.
        let said = said.trim().split_once(' ').map_or("", |(_weight, words)| words);
        if len == 0 || error.detail.len() > 1024 {
            break;
        }
        error.detail = format!("{}; {said}", error.detail);
    }
    if error.detail.len() == bare && error.cause == Cause::Invalid {
        // XFS tells only the kernel's log, for instance of a second filesystem with the same UUID.
        error.detail.push_str("; the kernel's log (dmesg) may say more");
    }
    error
}

/// Names the option that a filesystem refused.
fn with_option(mut error: HostError, key: &str) -> HostError {
    error.detail = format!("mount option {key:?}: {}", error.detail);
    error
}

/// See [`Host::bind`](crate::host::Host::bind).
pub(super) fn bind(source: &Path, target: &Path, read_only: bool) -> HostResult<()> {
    const CALL: &str = "bind";
    let from = beneath::open(CALL, source, OFlags::PATH)?;
    let onto = beneath::open(CALL, target, OFlags::PATH)?;
    let node = stat_rdev(&beneath::statx(CALL, source, &from)?).is_some();
    let flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    let copy = open_tree(&from, c"", flags).at(CALL, source)?;
    // A device node behind `nodev` cannot be opened, and that is the one thing it is for.
    let (mut set, clear) = match node {
        true => (
            MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC,
            MountAttrFlags::MOUNT_ATTR_NODEV,
        ),
        false => {
            (MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV, MountAttrFlags::empty())
        }
    };
    if read_only {
        set |= MountAttrFlags::MOUNT_ATTR_RDONLY;
    }
    set_attributes(&copy, set, clear).at(CALL, target)?;
    attach(copy.as_fd(), onto.as_fd()).at(CALL, target)
}

/// `struct mount_attr`.
#[repr(C)]
struct Attributes {
    set: u64,
    clear: u64,
    propagation: u64,
    user_namespace: u64,
}

/// Sets and clears flags of a mount that nobody sees yet.
fn set_attributes(mount: &OwnedFd, set: MountAttrFlags, clear: MountAttrFlags) -> rustix::io::Result<()> {
    let attributes =
        Attributes { set: set.bits().into(), clear: clear.bits().into(), propagation: 0, user_namespace: 0 };
    // SAFETY: the path is an empty C string, and the structure, which the kernel only reads, has the size that is passed.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            std::ptr::from_ref(&attributes),
            size_of::<Attributes>(),
        )
    };
    match result {
        0 => Ok(()),
        _ => Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)),
    }
}

/// See [`Host::unmount`](crate::host::Host::unmount).
///
/// A descriptor of the mount itself would keep it busy, so it is the parent directory that is held, and the name below
/// it that is unmounted. A lazy unmount is never done: it would hide a mount that is still written to.
pub(super) fn unmount(path: &Path) -> HostResult<bool> {
    const CALL: &str = "unmount";
    let Some((parent, name)) = beneath::find_parent(CALL, path)? else { return Ok(false) };
    // A link there is an error, not "nothing mounted".
    if beneath::find(CALL, path)?.is_none() {
        return Ok(false);
    }
    let held = PathBuf::from(format!("/proc/self/fd/{}", parent.as_raw_fd())).join(name);
    let mut unmounted = umount(&held, UnmountFlags::NOFOLLOW);
    // A program that is just being started (by us, for another volume) has copies of our descriptors for a moment.
    for _ in 0..BUSY_TRIES {
        if unmounted != Err(Errno::BUSY) {
            break;
        }
        std::thread::sleep(BUSY_PAUSE);
        unmounted = umount(&held, UnmountFlags::NOFOLLOW);
    }
    match unmounted {
        Ok(()) => Ok(true),
        // EINVAL: no mount point.
        Err(Errno::INVAL | Errno::NOENT) => Ok(false),
        Err(error) => Err(fail(CALL, path, error)),
    }
}
