//! Copies of files: by reference where the filesystem can, else of the allocated bytes only; and thick and thin.
//!
//! No program is started for it: `cp` takes tens of milliseconds to do what one ioctl does in less than one.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{self, FallocateFlags, OFlags, SeekFrom};
use rustix::io::Errno;

use super::errno::{At, fail};
use super::{extents, files};
use crate::host::{Cause, HostError, HostResult};

/// How much is copied between two looks at `progress`.
const STEP: usize = 1024 * 1024;

/// The unit in which zeros are looked for: the block size of nearly every filesystem.
const BLOCK: usize = 4096;

/// See [`Host::clone_file`](crate::host::Host::clone_file).
pub(super) fn clone_file(from: &Path, to: &Path) -> HostResult<()> {
    let source = files::open("clone", from, OFlags::RDONLY)?;
    files::create_filled("clone", to, |target| match fs::ioctl_ficlone(&target, &source) {
        Ok(()) => Ok(()),
        // EINVAL is how btrfs refuses files of which only one has checksums, and how some filesystems say "never".
        Err(Errno::INVAL) => Err(HostError::new(
            "clone",
            to,
            Cause::Unsupported,
            "the filesystem does not share blocks of these files",
        )),
        Err(error) => Err(fail("clone", to, error)),
    })
}

/// See [`Host::copy_sparse`](crate::host::Host::copy_sparse).
pub(super) fn copy_sparse(
    from: &Path,
    to: &Path,
    progress: &mut dyn FnMut(u64, u64) -> bool,
) -> HostResult<()> {
    let source = files::open("copy", from, OFlags::RDONLY)?;
    let len = files::len_of(&source, from)?;
    let runs = data_runs(&source, from, len)?;
    let total = runs.iter().map(|(start, end)| end - start).sum();
    files::create_filled("copy", to, |target| {
        fs::ftruncate(&target, len).at("copy", to)?;
        let mut buffer = vec![0; STEP];
        let mut done = 0;
        for (start, end) in runs {
            let mut at = start;
            while at < end {
                let want = usize::try_from(end - at).unwrap_or(STEP).min(STEP);
                let copied = copy_step(&source, &target, at, &mut buffer[..want]).at("copy", to)?;
                if copied == 0 {
                    return Err(HostError::new(
                        "copy",
                        from,
                        Cause::Other,
                        "the file shrank while it was copied",
                    ));
                }
                at += copied;
                done += copied;
                if !progress(done, total) {
                    return Err(HostError::new("copy", to, Cause::Stopped, "the copy was stopped"));
                }
            }
        }
        Ok(())
    })
}

/// Copies as many bytes at `at` as one read gives.
///
/// Not `copy_file_range`: inside one reflink filesystem it *shares* the blocks, and a copy is asked for to have blocks
/// of its own.
fn copy_step(source: &OwnedFd, target: &OwnedFd, at: u64, buffer: &mut [u8]) -> rustix::io::Result<u64> {
    let got = rustix::io::retry_on_intr(|| rustix::io::pread(source, &mut *buffer, at))?;
    let mut written = 0;
    while written < got {
        let rest = &buffer[written..got];
        written += rustix::io::retry_on_intr(|| rustix::io::pwrite(target, rest, at + written as u64))?;
    }
    Ok(got as u64)
}

/// The runs of a file that hold data, from byte to byte.
fn data_runs(file: &OwnedFd, path: &Path, len: u64) -> HostResult<Vec<(u64, u64)>> {
    let mut runs = Vec::new();
    let mut at = 0;
    while at < len {
        let start = match fs::seek(file, SeekFrom::Data(at)) {
            Ok(start) => start,
            // No data from here to the end.
            Err(Errno::NXIO) => break,
            Err(error) => return Err(fail("lseek", path, error)),
        };
        let end = fs::seek(file, SeekFrom::Hole(start)).at("lseek", path)?.min(len);
        runs.push((start, end));
        at = end;
    }
    Ok(runs)
}

/// See [`Host::allocate`](crate::host::Host::allocate). Blocks shared with another file stay shared.
pub(super) fn allocate(path: &Path) -> HostResult<()> {
    let file = files::open("fallocate", path, OFlags::RDWR)?;
    let len = files::len_of(&file, path)?;
    // Hole by hole: XFS wants room for the whole range that it is given, also where all of it is allocated already.
    let fill = |start: u64, end: u64| match end.saturating_sub(start) {
        0 => Ok(()),
        hole => rustix::io::retry_on_intr(|| fs::fallocate(&file, FallocateFlags::empty(), start, hole))
            .at("fallocate", path),
    };
    let mut at = 0;
    while at < len {
        let batch = extents::of_file(&file, path, at, 1024)?;
        if batch.is_empty() {
            return fill(at, len);
        }
        for extent in &batch {
            fill(at, extent.logical.min(len))?;
            at = extent.logical + extent.len;
        }
    }
    Ok(())
}

/// See [`Host::deallocate_zeros`](crate::host::Host::deallocate_zeros).
pub(super) fn deallocate_zeros(path: &Path) -> HostResult<()> {
    let file = files::open("fallocate", path, OFlags::RDWR)?;
    let len = files::len_of(&file, path)?;
    let mut buffer = vec![0; 1024 * 1024];
    let mut at = 0;
    while at < len {
        let batch = extents::of_file(&file, path, at, 1024)?;
        let Some(last) = batch.last() else { break };
        at = last.logical + last.len;
        for extent in &batch {
            let end = (extent.logical + extent.len).min(len.next_multiple_of(BLOCK as u64));
            if extent.unwritten {
                punch(&file, path, extent.logical, end)?;
            } else {
                punch_zeros(&file, path, extent.logical, end, &mut buffer)?;
            }
        }
    }
    Ok(())
}

/// Punches every whole block of zeros in a run.
fn punch_zeros(file: &OwnedFd, path: &Path, start: u64, end: u64, buffer: &mut [u8]) -> HostResult<()> {
    let mut at = start;
    let mut zeros_from = None;
    while at < end {
        let want = usize::try_from(end - at).unwrap_or(buffer.len()).min(buffer.len());
        let got = rustix::io::pread(file, &mut buffer[..want], at).at("read", path)?;
        if got == 0 {
            break;
        }
        for (index, block) in buffer[..got].chunks(BLOCK).enumerate() {
            let here = at + (index * BLOCK) as u64;
            if block.iter().all(|byte| *byte == 0) {
                zeros_from.get_or_insert(here);
            } else if let Some(from) = zeros_from.take() {
                punch(file, path, from, here)?;
            }
        }
        at += got as u64;
    }
    match zeros_from {
        Some(from) => punch(file, path, from, end),
        None => Ok(()),
    }
}

/// Makes a hole, keeping the length.
fn punch(file: impl AsFd, path: &Path, start: u64, end: u64) -> HostResult<()> {
    if start >= end {
        return Ok(());
    }
    let mode = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    rustix::io::retry_on_intr(|| fs::fallocate(&file, mode, start, end - start)).at("fallocate", path)
}
