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
const STEP: usize = 16 * 1024 * 1024;

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
        let mut copier = Copier { source: &source, target: &target, by_kernel: true, buffer: Vec::new() };
        let mut done = 0;
        for (start, end) in runs {
            let mut at = start;
            while at < end {
                let want = usize::try_from(end - at).unwrap_or(STEP).min(STEP);
                let copied = copier.step(at, want).at("copy", to)?;
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

/// Copies runs of bytes, inside the kernel as long as it can.
struct Copier<'a> {
    source: &'a OwnedFd,
    target: &'a OwnedFd,
    by_kernel: bool,
    buffer: Vec<u8>,
}

impl Copier<'_> {
    /// Copies at most `want` bytes at `at`; how many it was.
    fn step(&mut self, at: u64, want: usize) -> rustix::io::Result<u64> {
        if self.by_kernel {
            let (mut read_at, mut write_at) = (at, at);
            match fs::copy_file_range(self.source, Some(&mut read_at), self.target, Some(&mut write_at), want)
            {
                Ok(copied) if copied > 0 => return Ok(copied as u64),
                // Between two filesystems, or on one that cannot: some kernels say so, some copy nothing.
                Ok(_) | Err(Errno::XDEV | Errno::INVAL | Errno::OPNOTSUPP | Errno::NOSYS) => {
                    self.by_kernel = false
                }
                Err(error) => return Err(error),
            }
        }
        self.buffer.resize(1024 * 1024, 0);
        let want = want.min(self.buffer.len());
        let got = rustix::io::pread(self.source, &mut self.buffer[..want], at)?;
        let mut written = 0;
        while written < got {
            written += rustix::io::pwrite(self.target, &self.buffer[written..got], at + written as u64)?;
        }
        Ok(got as u64)
    }
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
    match files::len_of(&file, path)? {
        0 => Ok(()),
        len => retry(|| fs::fallocate(&file, FallocateFlags::empty(), 0, len)).at("fallocate", path),
    }
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
    retry(|| fs::fallocate(&file, mode, start, end - start)).at("fallocate", path)
}

/// Calls again what a signal ended.
fn retry(mut call: impl FnMut() -> rustix::io::Result<()>) -> rustix::io::Result<()> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            other => return other,
        }
    }
}
