//! Block devices of any kind: size, read-ahead, and whether somebody holds them.

use std::path::{Path, PathBuf};

use rustix::fs::{self, Mode, OFlags};
use rustix::io::Errno;

use super::errno::{At, fail};
use super::files;
use super::ioctl::{self, BLKRASET};
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

/// See [`Host::device_in_use`](crate::host::Host::device_in_use).
///
/// A mounted filesystem claims its device exclusively in the kernel, whatever namespace it is mounted in and whether
/// or not it is still visible anywhere: an exclusive open finds what no mount table shows.
pub(super) fn in_use(device: &Path) -> HostResult<bool> {
    rdev("device_in_use", device)?;
    match fs::open(device, OFlags::RDONLY | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NOFOLLOW, Mode::empty())
    {
        Ok(_) => has_holders(device),
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
