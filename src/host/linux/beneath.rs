//! Request paths: opened once, through no symbolic link, and acted on by descriptor from then on.
//!
//! Staging and target paths come from outside, and on a node there are workloads that can write near them. A check of
//! a path followed by a call on the same path can be raced by swapping a component for a link in between (the fault
//! behind CVE-2017-1002101, CVE-2021-25741 and their kin); `O_NOFOLLOW` guards only the last component. So a path is
//! resolved exactly once, by `openat2` with `RESOLVE_NO_SYMLINKS`, and everything after it uses the descriptor: of the
//! thing itself, or of its parent directory plus one name.

use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{
    self, AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, Statx, StatxAttributes, StatxFlags,
};
use rustix::io::Errno;

use super::errno::{At, fail};
use super::files;
use crate::host::{Cause, FileKind, HostError, HostResult};

/// Asks for the mount id that is never used again (Linux 6.8), which rustix has no name for yet.
const STATX_MNT_ID_UNIQUE: u32 = 0x4000;

const RESOLVE: ResolveFlags = ResolveFlags::NO_SYMLINKS.union(ResolveFlags::NO_MAGICLINKS);

/// Opens what is at a request path; no component may be a symbolic link.
pub(super) fn open(call: &'static str, path: &Path, flags: OFlags) -> HostResult<OwnedFd> {
    check_shape(call, path)?;
    open_at(CWD, path, flags).at(call, path)
}

/// The same, but `None` if nothing is there.
pub(super) fn find(call: &'static str, path: &Path) -> HostResult<Option<OwnedFd>> {
    check_shape(call, path)?;
    match open_at(CWD, path, OFlags::PATH) {
        Ok(fd) => Ok(Some(fd)),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(fail(call, path, error)),
    }
}

/// The parent directory of a request path, and the last component's name. `None` if the parent is not there.
pub(super) fn find_parent<'a>(
    call: &'static str,
    path: &'a Path,
) -> HostResult<Option<(OwnedFd, &'a OsStr)>> {
    let (parent, name) = split(call, path)?;
    match open_at(CWD, parent, OFlags::PATH | OFlags::DIRECTORY) {
        Ok(fd) => Ok(Some((fd, name))),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(fail(call, path, error)),
    }
}

/// Opens below a directory under the same rules. Without `O_NOFOLLOW` on purpose: together with `O_PATH` it would
/// hand out the link itself where an error is wanted.
fn open_at(
    dir: impl AsFd,
    path: impl rustix::path::Arg + Copy,
    flags: OFlags,
) -> rustix::io::Result<OwnedFd> {
    loop {
        match fs::openat2(&dir, path, flags | OFlags::CLOEXEC, Mode::empty(), RESOLVE) {
            Err(Errno::INTR) => {}
            other => return other,
        }
    }
}

/// Refuses what is no plain absolute path.
fn check_shape(call: &'static str, path: &Path) -> HostResult<()> {
    let refuse = |why: &str| Err(HostError::new(call, path, Cause::Invalid, why));
    if !path.is_absolute() {
        return refuse("the path is not absolute");
    }
    if path.components().any(|part| part == Component::ParentDir) {
        return refuse("the path has a component `..`; use the real path");
    }
    if path.as_os_str().as_bytes().contains(&0) {
        return refuse("the path has a NUL byte");
    }
    Ok(())
}

/// The parent path and the last component.
fn split<'a>(call: &'static str, path: &'a Path) -> HostResult<(&'a Path, &'a OsStr)> {
    check_shape(call, path)?;
    match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) => Ok((parent, name)),
        _ => Err(HostError::new(call, path, Cause::Invalid, "the path is the root directory")),
    }
}

/// Kind, inode, device and mount of an open descriptor.
pub(super) fn statx(call: &'static str, path: &Path, fd: impl AsFd) -> HostResult<Statx> {
    let mask = StatxFlags::BASIC_STATS | StatxFlags::from_bits_retain(STATX_MNT_ID_UNIQUE);
    // No need to ask a server or a stuck device for fresh values: only what the kernel knows is looked at.
    let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC | AtFlags::NO_AUTOMOUNT;
    fs::statx(fd, c"", flags, mask).at(call, path)
}

/// Whether a descriptor is the root of a mount. An error where the kernel (before 5.8) cannot tell.
pub(super) fn is_mount_root(call: &'static str, path: &Path, stat: &Statx) -> HostResult<bool> {
    if !stat.stx_attributes_mask.contains(StatxAttributes::MOUNT_ROOT) {
        let detail = "the kernel cannot tell mount points apart; Linux 5.12 or newer is needed";
        return Err(HostError::new(call, path, Cause::Unsupported, detail));
    }
    Ok(stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}

/// Opens the root directory of the mount at a request path. What is no mount point is refused: a freeze, a trim or a
/// growth there would hit the filesystem *around* it, such as the node's own.
pub(super) fn open_mount_root(call: &'static str, path: &Path) -> HostResult<OwnedFd> {
    let fd = open(call, path, OFlags::RDONLY | OFlags::DIRECTORY)?;
    if is_mount_root(call, path, &statx(call, path, &fd)?)? {
        return Ok(fd);
    }
    Err(HostError::new(call, path, Cause::NotFound, "nothing is mounted at this path"))
}

/// See [`Host::target_kind`](crate::host::Host::target_kind).
pub(super) fn target_kind(path: &Path) -> HostResult<Option<FileKind>> {
    let Some(fd) = find("stat", path)? else { return Ok(None) };
    Ok(Some(files::kind_of(statx("stat", path, fd)?.stx_mode.into())))
}

/// See [`Host::make_target`](crate::host::Host::make_target).
pub(super) fn make_target(path: &Path, kind: FileKind) -> HostResult<bool> {
    const CALL: &str = "make_target";
    let (parent, name) = split(CALL, path)?;
    let parent = open_or_make_dir(parent)?;
    let made = match kind {
        FileKind::Directory => fs::mkdirat(&parent, name, Mode::from_raw_mode(0o750)),
        FileKind::File => {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            fs::openat(&parent, name, flags, Mode::from_raw_mode(0o640)).map(drop)
        }
        _ => return Err(HostError::new(CALL, path, Cause::Invalid, "a target is a directory or a file")),
    };
    match made {
        Ok(()) => Ok(true),
        Err(Errno::EXIST) => {
            let there = open_at(&parent, name, OFlags::PATH).at(CALL, path)?;
            let there = files::kind_of(statx(CALL, path, there)?.stx_mode.into());
            // A bound device node covers the file that was made for it.
            if there == kind || (kind == FileKind::File && there == FileKind::BlockDevice) {
                return Ok(false);
            }
            let detail =
                format!("the path is taken by a {there:?} where a {kind:?} is wanted").to_lowercase();
            Err(HostError::new(CALL, path, Cause::Exists, detail))
        }
        Err(error) => Err(fail(CALL, path, error)),
    }
}

/// Opens a directory, making what is missing of it, one component below the other.
fn open_or_make_dir(path: &Path) -> HostResult<OwnedFd> {
    const CALL: &str = "make_target";
    match open_at(CWD, path, OFlags::PATH | OFlags::DIRECTORY) {
        Err(Errno::NOENT) => {}
        other => return other.at(CALL, path),
    }
    let mut seen = PathBuf::from("/");
    let mut dir = open_at(CWD, c"/", OFlags::PATH | OFlags::DIRECTORY).at(CALL, &seen)?;
    for part in path.components() {
        let Component::Normal(name) = part else { continue };
        seen.push(name);
        match fs::mkdirat(&dir, name, Mode::from_raw_mode(0o750)) {
            Ok(()) | Err(Errno::EXIST) => {}
            // A read-only filesystem says so also where the directory is there.
            Err(Errno::ROFS) => {}
            Err(error) => return Err(fail(CALL, &seen, error)),
        }
        dir = open_at(&dir, name, OFlags::PATH | OFlags::DIRECTORY).at(CALL, &seen)?;
    }
    Ok(dir)
}

/// See [`Host::remove_target`](crate::host::Host::remove_target).
pub(super) fn remove_target(path: &Path) -> HostResult<bool> {
    const CALL: &str = "remove_target";
    let Some((parent, name)) = find_parent(CALL, path)? else { return Ok(false) };
    let there = match open_at(&parent, name, OFlags::PATH) {
        Ok(fd) => fd,
        Err(Errno::NOENT) => return Ok(false),
        Err(error) => return Err(fail(CALL, path, error)),
    };
    let stat = statx(CALL, path, there)?;
    if is_mount_root(CALL, path, &stat)? {
        return Err(HostError::new(
            CALL,
            path,
            Cause::Busy,
            "something is mounted at this path; unmount it first",
        ));
    }
    let flags = match FileType::from_raw_mode(stat.stx_mode.into()) {
        FileType::Directory => AtFlags::REMOVEDIR,
        FileType::RegularFile if stat.stx_size == 0 => AtFlags::empty(),
        FileType::RegularFile => {
            let detail = "the file is not empty; look at what wrote into it, then remove it by hand";
            return Err(HostError::new(CALL, path, Cause::NotEmpty, detail));
        }
        _ => {
            return Err(HostError::new(
                CALL,
                path,
                Cause::Invalid,
                "the path is neither a directory nor a file",
            ));
        }
    };
    match fs::unlinkat(&parent, name, flags) {
        Ok(()) => Ok(true),
        Err(Errno::NOENT) => Ok(false),
        Err(error) => Err(fail(CALL, path, error)),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_request_path_that_is_not_plain_is_refused_before_the_kernel_sees_it() {
        fn check(path: &str) {
            assert_eq!(target_kind(Path::new(path)).unwrap_err().cause, Cause::Invalid, "{path:?}");
        }
        check("");
        check("relative/path");
        check("/tmp/../etc");
        check("/tmp/a\0b");
    }

    #[test]
    fn no_component_of_a_request_path_may_be_a_link() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().canonicalize().unwrap();
        std::fs::create_dir(dir.join("real")).unwrap();
        std::fs::create_dir(dir.join("real/inner")).unwrap();
        symlink("real", dir.join("link")).unwrap();
        for path in ["link", "link/inner", "link/new"] {
            let path = dir.join(path);
            assert_eq!(target_kind(&path).unwrap_err().cause, Cause::Invalid, "kind {path:?}");
            assert_eq!(
                make_target(&path, FileKind::Directory).unwrap_err().cause,
                Cause::Invalid,
                "make {path:?}"
            );
            assert_eq!(remove_target(&path).unwrap_err().cause, Cause::Invalid, "remove {path:?}");
        }
        assert!(dir.join("real/inner").is_dir());
        assert!(!dir.join("real/new").exists());
    }

    #[test]
    fn a_target_is_made_once_in_its_kind_with_its_parents_and_removed_only_empty() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().canonicalize().unwrap();
        let (target, file) = (dir.join("a/b/target"), dir.join("a/b/file"));
        assert!(make_target(&target, FileKind::Directory).unwrap());
        assert!(!make_target(&target, FileKind::Directory).unwrap());
        assert!(make_target(&file, FileKind::File).unwrap());
        assert_eq!(make_target(&file, FileKind::Directory).unwrap_err().cause, Cause::Exists);
        assert_eq!(make_target(&target, FileKind::File).unwrap_err().cause, Cause::Exists);
        std::fs::write(&file, "data").unwrap();
        assert_eq!(remove_target(&file).unwrap_err().cause, Cause::NotEmpty);
        assert_eq!(remove_target(&dir.join("a")).unwrap_err().cause, Cause::NotEmpty);
        assert!(remove_target(&target).unwrap());
        assert!(!remove_target(&target).unwrap());
        assert!(!remove_target(&dir.join("missing/target")).unwrap());
    }
}
