//! The ioctl numbers and structures of the kernel's ABI that no crate offers, and three safe shapes to call them.
//!
//! Numbers are computed from direction, group, number and the structure's size, as the kernel's headers do; a test
//! holds them against the values that those headers give.

use std::os::fd::AsFd;

use rustix::io;
use rustix::ioctl::{Ioctl, IoctlOutput, NoArg, Opcode, Updater, opcode};

/// A structure that an ioctl reads and writes.
///
/// # Safety
/// The type must have the layout that the kernel expects for `OP`, be at least as large as the kernel writes for that
/// number, and be valid for every bit pattern.
pub(super) unsafe trait Argument<const OP: Opcode> {}

/// Calls an ioctl on a structure that it may change.
pub(super) fn update<const OP: Opcode, T: Argument<OP>>(fd: impl AsFd, value: &mut T) -> io::Result<()> {
    // SAFETY: `Argument` promises that the kernel's idea of the structure fits inside `T`.
    unsafe { rustix::ioctl::ioctl(fd, Updater::<OP, T>::new(value)) }
}

/// Calls an ioctl that takes a number, not a pointer, and gives its result as a number.
///
/// # Safety
/// `OP` must be an ioctl whose argument is not a pointer, or one whose argument is ignored.
pub(super) unsafe fn number<const OP: Opcode>(fd: impl AsFd, value: usize) -> io::Result<i32> {
    // SAFETY: the caller promises that the kernel does not follow the argument.
    unsafe { rustix::ioctl::ioctl(fd, Number::<OP> { value }) }
}

/// Calls an ioctl without an argument.
///
/// # Safety
/// `OP` must be an ioctl that takes no argument.
pub(super) unsafe fn bare<const OP: Opcode>(fd: impl AsFd) -> io::Result<()> {
    // SAFETY: the caller promises that there is no argument to follow.
    unsafe { rustix::ioctl::ioctl(fd, NoArg::<OP>::new()) }
}

struct Number<const OP: Opcode> {
    value: usize,
}

// SAFETY: the argument is a number, which the kernel does not follow (see `number`), and the output is the result.
unsafe impl<const OP: Opcode> Ioctl for Number<OP> {
    type Output = i32;
    const IS_MUTATING: bool = false;

    fn opcode(&self) -> Opcode {
        OP
    }

    fn as_ptr(&mut self) -> *mut std::ffi::c_void {
        std::ptr::without_provenance_mut(self.value)
    }

    unsafe fn output_from_ptr(output: IoctlOutput, _: *mut std::ffi::c_void) -> io::Result<i32> {
        Ok(output)
    }
}

/// Freezes a filesystem: `_IOWR('X', 119, int)`, argument ignored.
pub(super) const FIFREEZE: Opcode = opcode::read_write::<i32>(b'X', 119);
/// Thaws a filesystem: `_IOWR('X', 120, int)`, argument ignored.
pub(super) const FITHAW: Opcode = opcode::read_write::<i32>(b'X', 120);
/// Sets the read-ahead of a block device in sectors of 512 bytes; the argument is the number itself.
pub(super) const BLKRASET: Opcode = opcode::none(0x12, 98);
