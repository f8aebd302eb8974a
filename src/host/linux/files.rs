//! Files and directories of a pool: plain calls, with three answers each.
//!
//! Pool paths are the driver's own, but the last component is never followed if it is a symbolic link: a link in a
//! pool is damage, not something to work through.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use rustix::fs::{self, FileType, FlockOperation, Mode, OFlags, SeekFrom, Stat};
use rustix::io::Errno;

use super::errno::{At, fail};
use crate::host::{Cause, DirEntry, DirLock, FileKind, FileMeta, FsStat, HostError, HostResult};

/// No record, lock or pool file is larger than this.
const SMALL_FILE: u64 = 1024 * 1024;

/// The name of the file in a directory whose lock marks it as in use.
const LOCK_FILE: &str = "lock";

/// Opens what is at `path`, not following a link there.
pub(super) fn open(call: &'static str, path: &Path, flags: OFlags) -> HostResult<OwnedFd> {
    fs::open(path, flags | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty()).at(call, path)
}

/// Makes a file at a name that must be free, mode 0600, opened for reading and writing.
pub(super) fn create(call: &'static str, path: &Path) -> HostResult<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    fs::open(path, flags, Mode::RUSR | Mode::WUSR).at(call, path)
}

/// Runs `fill` on a file just made at `path`; if it fails, takes the file away again.
pub(super) fn create_filled(
    call: &'static str,
    path: &Path,
    fill: impl FnOnce(OwnedFd) -> HostResult<()>,
) -> HostResult<()> {
    let file = create(call, path)?;
    fill(file).inspect_err(|_| {
        // The failure of the call is what the caller needs to hear; what stays behind is reaped as a left-over.
        let _ = fs::unlink(path);
    })
}

/// The kind of thing that a mode stands for.
pub(super) fn kind_of(mode: u32) -> FileKind {
    match FileType::from_raw_mode(mode) {
        FileType::RegularFile => FileKind::File,
        FileType::Directory => FileKind::Directory,
        FileType::BlockDevice => FileKind::BlockDevice,
        _ => FileKind::Other,
    }
}

/// What `stat` says, in our terms.
pub(super) fn meta_of(stat: &Stat) -> FileMeta {
    FileMeta {
        kind: kind_of(stat.st_mode),
        len: u64::try_from(stat.st_size).unwrap_or(0),
        allocated: u64::try_from(stat.st_blocks).unwrap_or(0) * 512,
        dev: stat.st_dev,
        ino: stat.st_ino,
        rdev: stat.st_rdev,
    }
}

/// See [`Host::read_dir`](crate::host::Host::read_dir).
pub(super) fn read_dir(dir: &Path) -> HostResult<Vec<DirEntry>> {
    let mut entries = Vec::new();
    for entry in std::fs::read_dir(dir).at("read_dir", dir)? {
        let entry = entry.at("read_dir", dir)?;
        let kind = match entry.file_type() {
            Ok(kind) if kind.is_file() => FileKind::File,
            Ok(kind) if kind.is_dir() => FileKind::Directory,
            Ok(kind) if std::os::unix::fs::FileTypeExt::is_block_device(&kind) => FileKind::BlockDevice,
            Ok(_) => FileKind::Other,
            // Removed between listing and looking: it is not there.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(fail("read_dir", &entry.path(), error)),
        };
        entries.push(DirEntry { name: entry.file_name().to_string_lossy().into_owned(), kind });
    }
    Ok(entries)
}

/// See [`Host::metadata`](crate::host::Host::metadata).
pub(super) fn metadata(path: &Path) -> HostResult<Option<FileMeta>> {
    match fs::lstat(path) {
        Ok(stat) => Ok(Some(meta_of(&stat))),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(fail("stat", path, error)),
    }
}

/// See [`Host::read_file`](crate::host::Host::read_file).
pub(super) fn read_file(path: &Path) -> HostResult<Option<Vec<u8>>> {
    let file = match open("read", path, OFlags::RDONLY) {
        Ok(file) => File::from(file),
        Err(error) if error.cause == Cause::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let len = file.metadata().at("read", path)?.size();
    let mut bytes = Vec::with_capacity(usize::try_from(len.min(SMALL_FILE)).unwrap_or(0));
    file.take(SMALL_FILE + 1).read_to_end(&mut bytes).at("read", path)?;
    if bytes.len() as u64 > SMALL_FILE {
        let detail = format!("the file has more than {SMALL_FILE} bytes; it is none of ours");
        return Err(HostError::new("read", path, Cause::Invalid, detail));
    }
    Ok(Some(bytes))
}

/// See [`Host::write_file`](crate::host::Host::write_file).
pub(super) fn write_file(path: &Path, bytes: &[u8]) -> HostResult<()> {
    create_filled("write", path, |file| File::from(file).write_all(bytes).at("write", path))
}

/// See [`Host::read_at`](crate::host::Host::read_at).
pub(super) fn read_at(path: &Path, offset: u64, len: usize) -> HostResult<Vec<u8>> {
    let file = File::from(open("pread", path, OFlags::RDONLY)?);
    let mut bytes = vec![0; len];
    let mut done = 0;
    while done < len {
        match file.read_at(&mut bytes[done..], offset.saturating_add(done as u64)) {
            Ok(0) => break,
            Ok(read) => done += read,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(fail("pread", path, error)),
        }
    }
    bytes.truncate(done);
    Ok(bytes)
}

/// See [`Host::write_at`](crate::host::Host::write_at).
pub(super) fn write_at(path: &Path, offset: u64, bytes: &[u8]) -> HostResult<()> {
    let file = File::from(open("pwrite", path, OFlags::RDWR)?);
    let len = file.metadata().at("pwrite", path)?.size();
    if offset.checked_add(bytes.len() as u64).is_none_or(|end| end > len) {
        let detail = format!("{} bytes at {offset} reach beyond its end, {len}", bytes.len());
        return Err(HostError::new("pwrite", path, Cause::Invalid, detail));
    }
    file.write_all_at(bytes, offset).at("pwrite", path)
}

/// See [`Host::create_file`](crate::host::Host::create_file).
pub(super) fn create_file(path: &Path, len: u64) -> HostResult<()> {
    create_filled("create", path, |file| fs::ftruncate(file, len).at("create", path))
}

/// See [`Host::set_len`](crate::host::Host::set_len).
pub(super) fn set_len(path: &Path, len: u64) -> HostResult<()> {
    fs::ftruncate(open("truncate", path, OFlags::RDWR)?, len).at("truncate", path)
}

/// The length of an open file or block device.
pub(super) fn len_of(file: &OwnedFd, path: &Path) -> HostResult<u64> {
    fs::seek(file, SeekFrom::End(0)).at("lseek", path)
}

/// See [`Host::sync_file`](crate::host::Host::sync_file). An image that a loop device writes to is covered: what the
/// device wrote through the page cache is flushed with it.
pub(super) fn sync_file(path: &Path) -> HostResult<()> {
    fs::fsync(open("fsync", path, OFlags::RDONLY)?).at("fsync", path)
}

/// See [`Host::sync_dir`](crate::host::Host::sync_dir).
pub(super) fn sync_dir(dir: &Path) -> HostResult<()> {
    fs::fsync(open("fsync", dir, OFlags::RDONLY | OFlags::DIRECTORY)?).at("fsync", dir)
}

/// See [`Host::rename`](crate::host::Host::rename).
pub(super) fn rename(from: &Path, to: &Path) -> HostResult<()> {
    fs::rename(from, to).at("rename", from)
}

/// See [`Host::remove_file`](crate::host::Host::remove_file).
pub(super) fn remove_file(path: &Path) -> HostResult<bool> {
    done("unlink", path, fs::unlink(path), Errno::NOENT)
}

/// See [`Host::make_dir`](crate::host::Host::make_dir).
pub(super) fn make_dir(path: &Path) -> HostResult<bool> {
    let made = done("mkdir", path, fs::mkdir(path, Mode::RWXU), Errno::EXIST)?;
    if !made && metadata(path)?.is_some_and(|meta| meta.kind != FileKind::Directory) {
        return Err(HostError::new("mkdir", path, Cause::Exists, "something that is no directory is there"));
    }
    Ok(made)
}

/// See [`Host::remove_dir`](crate::host::Host::remove_dir).
pub(super) fn remove_dir(path: &Path) -> HostResult<bool> {
    done("rmdir", path, fs::rmdir(path), Errno::NOENT)
}

/// `true` if the call did it, `false` if it says that there was nothing to do.
fn done(call: &'static str, path: &Path, result: rustix::io::Result<()>, nothing: Errno) -> HostResult<bool> {
    match result {
        Ok(()) => Ok(true),
        Err(error) if error == nothing => Ok(false),
        Err(error) => Err(fail(call, path, error)),
    }
}

/// See [`Host::lock_dir`](crate::host::Host::lock_dir).
///
/// The lock is on a file in the directory, not on the directory: it then goes with the pool to another machine, and a
/// person can see what holds it (`fuser`, `lsof`). The file stays; only the lock on it means something.
pub(super) fn lock_dir(dir: &Path) -> HostResult<DirLock> {
    let path = dir.join(LOCK_FILE);
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = fs::open(&path, flags, Mode::RUSR | Mode::WUSR).at("lock", &path)?;
    match fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(DirLock(Box::new(file))),
        Err(Errno::WOULDBLOCK) => {
            let detail =
                "another process has this directory open; stop it, or give this one a pool of its own";
            Err(HostError::new("lock", &path, Cause::Busy, detail))
        }
        Err(error) => Err(fail("lock", &path, error)),
    }
}

/// The kernel's name of a filesystem, by the number in `statfs`.
fn fs_name(magic: u32) -> &'static str {
    match magic {
        0x5846_5342 => "xfs",
        0x9123_683e => "btrfs",
        0xef53 => "ext4",
        0x0102_1994 => "tmpfs",
        0x794c_7630 => "overlay",
        0x0000_6969 => "nfs",
        0x2fc1_2fc1 => "zfs",
        0xca45_1a4e => "bcachefs",
        0xf2f5_2010 => "f2fs",
        0x6573_5546 => "fuse",
        0x00c3_6400 => "ceph",
        0x0102_1997 => "9p",
        _ => "unknown",
    }
}

/// See [`Host::fs_stat`](crate::host::Host::fs_stat).
pub(super) fn fs_stat(path: &Path) -> HostResult<FsStat> {
    // One descriptor for both questions, so that both answers are about the same filesystem.
    let fd = fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).at("statfs", path)?;
    let magic = fs::fstatfs(&fd).at("statfs", path)?.f_type;
    let space = fs::fstatvfs(&fd).at("statfs", path)?;
    let stat = fs::fstat(&fd).at("statfs", path)?;
    #[allow(
        clippy::cast_possible_truncation,
        reason = "the numbers have 32 bits; the field's width differs by platform"
    )]
    let magic = magic as u32;
    Ok(FsStat {
        fs: fs_name(magic).to_owned(),
        size: space.f_blocks.saturating_mul(space.f_frsize),
        available: space.f_bavail.saturating_mul(space.f_frsize),
        read_only: space.f_flag.contains(fs::StatVfsMountFlags::RDONLY),
        dev: stat.st_dev,
    })
}
