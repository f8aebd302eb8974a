//! Block devices of any kind: size, read-ahead, and whether somebody holds them.

use std::path::{Path, PathBuf};

use rustix::fs::{self, Mode, OFlags};
use rustix::io::Errno;

use super::errno::{At, fail};
use super::files;
use super::ioctl::{self, BLKRASET};
use super::mounts;
use crate::host::{Cause, FileKind, HostError, HostResult};

/// The device number that a node stands for.
fn rdev(call: &'static str, device: &Path) -> HostResult<u64> {
    match files::metadata(device)? {
        Some(meta) if meta.kind == FileKind::BlockDevice => Ok(meta.rdev),
        Some(_) => Err(HostError::new(call, device, Cause::Invalid, "this is no block device")),
        None => Err(HostError::new(call, device, Cause::NotFound, "no such device")),
    }
}

/// Whether another block device (a partition mapper, a RAID, a crypt layer) is made of this one.
pub(super) fn has_holders(device: &Path) -> HostResult<bool> {
    let number = rdev("holders", device)?;
    let dir = PathBuf::from(format!("/sys/dev/block/{}:{}/holders", fs::major(number), fs::minor(number)));
    match std::fs::read_dir(&dir) {
        Ok(mut entries) => Ok(entries.next().is_some()),
        Err(error) => Err(fail("holders", &dir, error)),
    }
}

static LOOKING: std::sync::Mutex<()> = std::sync::Mutex::new(());

/// A claim may be one that is just passing: a filesystem whose last reference the kernel drops a moment after the
/// unmount, or an exclusive look of another process.
const PASSING_LOOKS: u32 = 4;
const PASSING_PAUSE: std::time::Duration = std::time::Duration::from_millis(10);

/// See [`Host::device_in_use`](crate::host::Host::device_in_use).
///
/// A mounted filesystem claims its device exclusively in the kernel, whatever namespace it is mounted in and whether
/// or not it is still visible anywhere: an exclusive open finds what no mount table shows.
pub(super) fn in_use(device: &Path) -> HostResult<bool> {
    let number = rdev("device_in_use", device)?;
    if !claimed(device)? {
        return has_holders(device);
    }
    if mounts::mounts()?.iter().any(|mount| mount.dev == number) {
        return Ok(true);
    }
    for _ in 0..PASSING_LOOKS {
        std::thread::sleep(PASSING_PAUSE);
        if !claimed(device)? {
            return has_holders(device);
        }
    }
    Ok(true)
}

/// Held by whoever opens a device exclusively: two threads of this process would take each other for its holder.
pub(super) fn look_alone() -> std::sync::MutexGuard<'static, ()> {
    LOOKING.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Whether an exclusive open of the device is refused.
fn claimed(device: &Path) -> HostResult<bool> {
    let _alone = look_alone();
    match fs::open(device, OFlags::RDONLY | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NOFOLLOW, Mode::empty())
    {
        Ok(_) => Ok(false),
        Err(Errno::BUSY) => Ok(true),
        Err(error) => Err(fail("device_in_use", device, error)),
    }
}

/// See [`Host::device_size`](crate::host::Host::device_size).
pub(super) fn size(device: &Path) -> HostResult<u64> {
    rdev("device_size", device)?;
    files::len_of(&files::open("device_size", device, OFlags::RDONLY)?, device)
}

/// See [`Host::set_read_ahead`](crate::host::Host::set_read_ahead).
pub(super) fn set_read_ahead(device: &Path, kib: u32) -> HostResult<()> {
    rdev("set_read_ahead", device)?;
    let fd = files::open("set_read_ahead", device, OFlags::RDONLY)?;
    // SAFETY: the argument of BLKRASET is a number of sectors of 512 bytes, by value.
    unsafe { ioctl::number::<BLKRASET>(fd, kib as usize * 2) }.map(drop).at("set_read_ahead", device)
}
