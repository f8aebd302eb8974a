//! Stopping and letting go writes of a mounted filesystem, and giving its unused blocks back.

use std::os::fd::AsFd;
use std::path::Path;

use rustix::io::Errno;
use rustix::ioctl::{Opcode, opcode};

use super::beneath;
use super::errno::{At, fail};
use super::ioctl::{self, Argument, FIFREEZE, FITHAW};
use crate::host::HostResult;

/// `struct fstrim_range`.
#[repr(C)]
struct TrimRange {
    start: u64,
    len: u64,
    min_len: u64,
}

const FITRIM: Opcode = opcode::read_write::<TrimRange>(b'X', 121);

// SAFETY: three 64-bit numbers, as the kernel declares it; the number has their size.
unsafe impl Argument<FITRIM> for TrimRange {}

/// See [`Host::freeze`](crate::host::Host::freeze). EBUSY is the kernel's word for "frozen already".
pub(super) fn freeze(target: &Path) -> HostResult<bool> {
    let root = beneath::open_mount_root("freeze", target)?;
    switched("freeze", target, freeze_fd(&root), Errno::BUSY)
}

/// See [`Host::thaw`](crate::host::Host::thaw). EINVAL is the kernel's word for "not frozen".
pub(super) fn thaw(target: &Path) -> HostResult<bool> {
    let root = beneath::open_mount_root("thaw", target)?;
    // SAFETY: the kernel ignores the argument of FITHAW.
    let thawed = unsafe { ioctl::number::<FITHAW>(root, 0) };
    switched("thaw", target, thawed, Errno::INVAL)
}

fn freeze_fd(root: impl AsFd) -> rustix::io::Result<i32> {
    // SAFETY: the kernel ignores the argument of FIFREEZE.
    unsafe { ioctl::number::<FIFREEZE>(root, 0) }
}

/// `true` if the call changed the state, `false` if it was that state already.
fn switched(
    call: &'static str,
    target: &Path,
    result: rustix::io::Result<i32>,
    already: Errno,
) -> HostResult<bool> {
    match result {
        Ok(_) => Ok(true),
        Err(error) if error == already => Ok(false),
        Err(error) => Err(fail(call, target, error)),
    }
}

/// See [`Host::trim`](crate::host::Host::trim).
pub(super) fn trim(target: &Path) -> HostResult<u64> {
    let root = beneath::open_mount_root("trim", target)?;
    let mut range = TrimRange { start: 0, len: u64::MAX, min_len: 0 };
    ioctl::update::<FITRIM, _>(root, &mut range).at("trim", target)?;
    Ok(range.len)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ioctl_numbers_are_those_of_the_kernels_headers() {
        assert_eq!((FIFREEZE, FITHAW, FITRIM), (0xc004_5877, 0xc004_5878, 0xc018_5879));
        assert_eq!(ioctl::BLKRASET, 0x1262);
    }
}
