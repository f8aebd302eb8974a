//! Btrfs subvolumes as volumes: made, copied and removed in constant time, their size held by quota groups.
//!
//! All by ioctl: the `btrfs` program's output changes between versions. What a pod can do to us here is to make
//! subvolumes inside its volume, which the kernel allows to any user and which keep the outer one from being removed:
//! so removal goes through the tree of roots, by id, innermost first, and follows no path that a pod wrote.

use std::ffi::OsStr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{self, OFlags};
use rustix::io::Errno;
use rustix::ioctl::{Opcode, opcode};

use super::errno::{At, fail};
use super::ioctl::{self, Argument};
use super::{btrfs_tree, files};
use crate::host::{Cause, FileKind, HostError, HostResult, SubvolumeUsage};

const MAGIC: u8 = 0x94;
/// The inode of every subvolume's own root directory.
const ROOT_INODE: u64 = 256;

const SUBVOL_READ_ONLY: u64 = 1 << 1;
const SUBVOL_BY_ID: u64 = 1 << 4;

const QUOTA_ENABLE: u64 = 1;
const LIMIT_REFERENCED: u64 = 1;
/// The value that takes a limit away.
const NO_LIMIT: u64 = u64::MAX;

/// `struct btrfs_ioctl_vol_args`.
#[repr(C)]
struct Args {
    fd: i64,
    name: [u8; 4088],
}

/// `struct btrfs_ioctl_vol_args_v2`; `name` is also where a subvolume's id goes.
#[repr(C, align(8))]
struct Args2 {
    fd: i64,
    transaction: u64,
    flags: u64,
    unused: [u64; 4],
    name: [u8; 4040],
}

/// `struct btrfs_ioctl_quota_ctl_args`.
#[repr(C)]
struct QuotaControl {
    command: u64,
    status: u64,
}

/// `struct btrfs_ioctl_qgroup_limit_args`.
#[repr(C)]
struct Limit {
    group: u64,
    flags: u64,
    max_referenced: u64,
    max_exclusive: u64,
    reserved: [u64; 2],
}

const SUBVOL_CREATE: Opcode = opcode::write::<Args>(MAGIC, 14);
const RESIZE: Opcode = opcode::write::<Args>(MAGIC, 3);
const SNAP_CREATE_V2: Opcode = opcode::write::<Args2>(MAGIC, 23);
const SNAP_DESTROY_V2: Opcode = opcode::write::<Args2>(MAGIC, 63);
const QUOTA_CTL: Opcode = opcode::read_write::<QuotaControl>(MAGIC, 40);
const QGROUP_LIMIT: Opcode = opcode::read::<Limit>(MAGIC, 43);
const QUOTA_RESCAN_WAIT: Opcode = opcode::none(MAGIC, 46);

// SAFETY: integers only, laid out and sized as in linux/btrfs.h; a test holds the numbers, which have the sizes.
unsafe impl Argument<SUBVOL_CREATE> for Args {}
// SAFETY: as above.
unsafe impl Argument<RESIZE> for Args {}
// SAFETY: as above.
unsafe impl Argument<SNAP_CREATE_V2> for Args2 {}
// SAFETY: as above.
unsafe impl Argument<SNAP_DESTROY_V2> for Args2 {}
// SAFETY: as above.
unsafe impl Argument<QUOTA_CTL> for QuotaControl {}
// SAFETY: as above.
unsafe impl Argument<QGROUP_LIMIT> for Limit {}

impl Args {
    fn named(call: &'static str, path: &Path, name: &OsStr) -> HostResult<Box<Args>> {
        let mut args = Box::new(Args { fd: 0, name: [0; 4088] });
        put_name(call, path, name, &mut args.name)?;
        Ok(args)
    }
}

impl Args2 {
    fn new(flags: u64) -> Box<Args2> {
        Box::new(Args2 { fd: 0, transaction: 0, flags, unused: [0; 4], name: [0; 4040] })
    }
}

fn put_name(call: &'static str, path: &Path, name: &OsStr, into: &mut [u8]) -> HostResult<()> {
    let name = name.as_bytes();
    // One byte stays zero: the end of a C string.
    match into.get_mut(..name.len()) {
        Some(room) if name.len() < 256 => room.copy_from_slice(name),
        _ => return Err(HostError::new(call, path, Cause::Invalid, "the name is longer than 255 bytes")),
    }
    Ok(())
}

/// The parent directory, open, and the last component.
fn parent_of<'a>(call: &'static str, path: &'a Path) -> HostResult<(OwnedFd, &'a OsStr)> {
    match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) => {
            Ok((files::open(call, parent, OFlags::RDONLY | OFlags::DIRECTORY)?, name))
        }
        _ => Err(HostError::new(call, path, Cause::Invalid, "the path has no name")),
    }
}

/// Opens a subvolume. A plain directory is refused: the ioctls would act on the subvolume *around* it.
fn open_subvolume(call: &'static str, path: &Path) -> HostResult<OwnedFd> {
    let fd = files::open(call, path, OFlags::RDONLY | OFlags::DIRECTORY)?;
    let stat = fs::fstat(&fd).at(call, path)?;
    if stat.st_ino != ROOT_INODE || files::fs_stat(path)?.fs != "btrfs" {
        return Err(HostError::new(call, path, Cause::Invalid, "this is no btrfs subvolume"));
    }
    Ok(fd)
}

/// See [`Host::subvolume_create`](crate::host::Host::subvolume_create).
pub(super) fn create(path: &Path, limit: u64) -> HostResult<()> {
    const CALL: &str = "subvolume_create";
    let (parent, name) = parent_of(CALL, path)?;
    let mut args = Args::named(CALL, path, name)?;
    ioctl::update::<SUBVOL_CREATE, _>(&parent, &mut *args).map_err(|error| unsupported(CALL, path, error))?;
    set_limit(path, limit).inspect_err(|_| {
        // The failure to limit is what the caller needs to hear; an unlimited subvolume must not stay.
        let _ = delete(path);
    })
}

/// See [`Host::subvolume_snapshot`](crate::host::Host::subvolume_snapshot).
pub(super) fn snapshot(from: &Path, to: &Path, read_only: bool, limit: Option<u64>) -> HostResult<()> {
    const CALL: &str = "subvolume_snapshot";
    let source = open_subvolume(CALL, from)?;
    if files::metadata(to)?.is_some() {
        return Err(fail(CALL, to, Errno::EXIST));
    }
    let (parent, name) = parent_of(CALL, to)?;
    let mut args = Args2::new(if read_only { SUBVOL_READ_ONLY } else { 0 });
    args.fd = source.as_raw_fd().into();
    put_name(CALL, to, name, &mut args.name)?;
    ioctl::update::<SNAP_CREATE_V2, _>(&parent, &mut *args).map_err(|error| unsupported(CALL, to, error))?;
    // A snapshot comes with the limit of what it was taken from; without quotas there is none to take away.
    let limited = match (limit, set_limit(to, limit.unwrap_or(NO_LIMIT))) {
        (None, Err(error)) if error.cause == Cause::Unsupported => Ok(()),
        (_, limited) => limited,
    };
    limited.inspect_err(|_| {
        // As in `create`.
        let _ = delete(to);
    })
}

/// "Not a typewriter" is how other filesystems say that they have no subvolumes.
fn unsupported(call: &'static str, path: &Path, error: Errno) -> HostError {
    match error {
        Errno::NOTTY => HostError::new(call, path, Cause::Unsupported, "only btrfs has subvolumes"),
        error => fail(call, path, error),
    }
}

/// See [`Host::subvolume_delete`](crate::host::Host::subvolume_delete).
pub(super) fn delete(path: &Path) -> HostResult<bool> {
    const CALL: &str = "subvolume_delete";
    match files::metadata(path)? {
        None => return Ok(false),
        Some(meta) if meta.kind != FileKind::Directory => {
            return Err(HostError::new(CALL, path, Cause::Invalid, "this is no btrfs subvolume"));
        }
        Some(_) => {}
    }
    let subvolume = open_subvolume(CALL, path)?;
    let id = btrfs_tree::id_of(&subvolume).at(CALL, path)?;
    let (parent, name) = parent_of(CALL, path)?;
    // Innermost first. What is in the list is found again by id, whatever it is called and wherever it was moved.
    let mut nested = btrfs_tree::nested(&parent, id).at(CALL, path)?;
    while let Some(inner) = nested.pop() {
        let mut args = Args2::new(SUBVOL_BY_ID);
        args.name[..8].copy_from_slice(&inner.to_ne_bytes());
        match ioctl::update::<SNAP_DESTROY_V2, _>(&parent, &mut *args) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => return Err(fail(CALL, path, error)),
        }
    }
    // An open directory does not keep its subvolume alive, but it would keep its blocks.
    drop(subvolume);
    let mut args = Args2::new(0);
    put_name(CALL, path, name, &mut args.name)?;
    match ioctl::update::<SNAP_DESTROY_V2, _>(&parent, &mut *args) {
        Ok(()) => {}
        Err(Errno::NOENT) => return Ok(false),
        Err(error) => return Err(fail(CALL, path, error)),
    }
    // The quota group of a removed subvolume stays behind as an empty one; the kernel (6.12) removes it by itself.
    btrfs_tree::drop_group(&parent, id);
    Ok(true)
}

/// See [`Host::subvolume_limit`](crate::host::Host::subvolume_limit).
pub(super) fn set_limit(path: &Path, limit: u64) -> HostResult<()> {
    const CALL: &str = "subvolume_limit";
    let subvolume = open_subvolume(CALL, path)?;
    // Group 0 stands for the one of the subvolume that the descriptor is of.
    let mut args = Limit {
        group: 0,
        flags: LIMIT_REFERENCED,
        max_referenced: limit,
        max_exclusive: 0,
        reserved: [0; 2],
    };
    match ioctl::update::<QGROUP_LIMIT, _>(subvolume, &mut args) {
        Ok(()) => Ok(()),
        Err(Errno::NOTCONN) => {
            let detail = "quotas are off on this btrfs filesystem; turn them on with `btrfs quota enable`";
            Err(HostError::new(CALL, path, Cause::Unsupported, detail))
        }
        Err(error) => Err(fail(CALL, path, error)),
    }
}

/// See [`Host::subvolume_usage`](crate::host::Host::subvolume_usage).
pub(super) fn usage(path: &Path) -> HostResult<SubvolumeUsage> {
    const CALL: &str = "subvolume_usage";
    let subvolume = open_subvolume(CALL, path)?;
    let id = btrfs_tree::id_of(&subvolume).at(CALL, path)?;
    match btrfs_tree::group(&subvolume, id) {
        Ok(Some(usage)) => Ok(usage),
        Ok(None) | Err(Errno::NOENT) => {
            let detail = "the subvolume has no quota group; turn quotas on with `btrfs quota enable`";
            Err(HostError::new(CALL, path, Cause::Unsupported, detail))
        }
        Err(error) => Err(fail(CALL, path, error)),
    }
}

/// See [`Host::quota_enable`](crate::host::Host::quota_enable). Waits until the groups have their first figures.
pub(super) fn quota_enable(path: &Path) -> HostResult<()> {
    const CALL: &str = "quota_enable";
    let fd = files::open(CALL, path, OFlags::RDONLY | OFlags::DIRECTORY)?;
    let mut args = QuotaControl { command: QUOTA_ENABLE, status: 0 };
    match ioctl::update::<QUOTA_CTL, _>(&fd, &mut args) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(error) => return Err(unsupported(CALL, path, error)),
    }
    loop {
        // SAFETY: BTRFS_IOC_QUOTA_RESCAN_WAIT takes no argument.
        match unsafe { ioctl::bare::<QUOTA_RESCAN_WAIT>(&fd) } {
            Err(Errno::INTR) => {}
            other => return other.at(CALL, path),
        }
    }
}

/// Grows a mounted filesystem to its (only) device.
pub(super) fn grow(root: impl AsFd, target: &Path) -> HostResult<()> {
    let mut args = Args::named("grow", target, OsStr::new("max"))?;
    ioctl::update::<RESIZE, _>(root, &mut *args).at("grow", target)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ioctl_numbers_are_those_of_the_kernels_headers() {
        fn check(number: Opcode, expect: Opcode) {
            assert_eq!(number, expect, "{number:#x}");
        }
        check(SUBVOL_CREATE, 0x5000_940e);
        check(RESIZE, 0x5000_9403);
        check(SNAP_CREATE_V2, 0x5000_9417);
        check(SNAP_DESTROY_V2, 0x5000_943f);
        check(QUOTA_CTL, 0xc010_9428);
        check(QGROUP_LIMIT, 0x8030_942b);
        check(QUOTA_RESCAN_WAIT, 0x942e);
    }

    #[test]
    fn what_is_no_subvolume_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(delete(dir.path()).unwrap_err().cause, Cause::Invalid);
        assert_eq!(set_limit(dir.path(), 1).unwrap_err().cause, Cause::Invalid);
        assert!(!delete(&dir.path().join("missing")).unwrap());
    }
}
