//! One mount's facts by its id (`statmount`, Linux 6.8), without reading the whole table.
//!
//! With a thousand volumes on a node, looking one mount up in `/proc/self/mountinfo` costs the kernel a walk over all
//! of them, for each of kubelet's calls. On older kernels that walk is what remains.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::libc;
use rustix::fs::{Statx, major, makedev, minor};
use rustix::io::Errno;

use super::errno::{At, fail};
use super::mountinfo;
use crate::host::{Cause, HostError, HostResult};

/// The call's number, which is the same wherever this driver runs (x86-64, arm64, riscv64); libc has no name for it yet.
const SYS_STATMOUNT: libc::c_long = 457;

const SB_BASIC: u64 = 0x1;
const MNT_BASIC: u64 = 0x2;
const MNT_ROOT: u64 = 0x8;
const FS_TYPE: u64 = 0x20;
const MNT_OPTS: u64 = 0x80;

/// `MOUNT_ATTR_RDONLY` and `SB_RDONLY`.
const READ_ONLY: u64 = 1;

/// The bit in a `statx` mask that says that the mount id is of the kind that `statmount` takes.
const STATX_MNT_ID_UNIQUE: u32 = 0x4000;

/// `struct mnt_id_req` in its first version.
#[repr(C)]
struct Request {
    size: u32,
    spare: u32,
    mount: u64,
    wanted: u64,
}

/// The head of `struct statmount`, up to what is read here; strings come at byte 512.
#[repr(C)]
#[derive(Clone, Copy)]
struct Answer {
    size: u32,
    options: u32,
    mask: u64,
    major: u32,
    minor: u32,
    magic: u64,
    super_flags: u32,
    fs_type: u32,
    ids: [u64; 2],
    old_ids: [u32; 2],
    attributes: u64,
    propagation: [u64; 4],
    root: u32,
    point: u32,
    rest: [u64; 50],
    text: [u8; TEXT],
}

const TEXT: usize = 8192 - 512;

/// What one mount is, apart from where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Facts {
    pub(super) root: PathBuf,
    /// The device number of the filesystem, as `stat` encodes it.
    pub(super) dev: u64,
    pub(super) fs: String,
    /// Whether this mount refuses writes.
    pub(super) read_only: bool,
    /// Whether the filesystem itself refuses writes.
    pub(super) filesystem_read_only: bool,
}

/// The facts of the mount that a descriptor lies on. `None` if it was unmounted since.
pub(super) fn facts(call: &'static str, path: &Path, stat: &Statx) -> HostResult<Option<Facts>> {
    if stat.stx_mask & STATX_MNT_ID_UNIQUE != 0 {
        match by_unique_id(stat.stx_mnt_id) {
            Ok(facts) => return Ok(Some(facts)),
            Err(Errno::NOENT) => return Ok(None),
            // Not there, forbidden by a seccomp filter, or more text than there is room for: the table has it too.
            Err(Errno::NOSYS | Errno::PERM | Errno::OVERFLOW | Errno::INVAL) => {}
            Err(error) => return Err(fail(call, path, error)),
        }
    }
    by_table(call, path, stat)
}

fn by_unique_id(mount: u64) -> rustix::io::Result<Facts> {
    let wanted = SB_BASIC | MNT_BASIC | MNT_ROOT | FS_TYPE | MNT_OPTS;
    let request = Request { size: 24, spare: 0, mount, wanted };
    let mut answer = Box::new(Answer {
        size: 0,
        options: 0,
        mask: 0,
        major: 0,
        minor: 0,
        magic: 0,
        super_flags: 0,
        fs_type: 0,
        ids: [0; 2],
        old_ids: [0; 2],
        attributes: 0,
        propagation: [0; 4],
        root: 0,
        point: 0,
        rest: [0; 50],
        text: [0; TEXT],
    });
    // SAFETY: the request has the size that it names; the kernel writes at most the given size into the answer,
    // which is integers only.
    let result = unsafe {
        libc::syscall(
            SYS_STATMOUNT,
            std::ptr::from_ref(&request),
            std::ptr::from_mut(answer.as_mut()),
            size_of::<Answer>(),
            0u32,
        )
    };
    if result != 0 {
        return Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO));
    }
    let basics = SB_BASIC | MNT_BASIC | MNT_ROOT | FS_TYPE;
    if answer.mask & basics != basics {
        return Err(Errno::NOSYS);
    }
    let options = if answer.mask & MNT_OPTS == 0 { &[][..] } else { text(&answer, answer.options) };
    Ok(Facts {
        root: PathBuf::from(OsStr::from_bytes(text(&answer, answer.root))),
        dev: makedev(answer.major, answer.minor),
        fs: String::from_utf8_lossy(text(&answer, answer.fs_type)).into_owned(),
        read_only: answer.attributes & READ_ONLY != 0,
        filesystem_read_only: u64::from(answer.super_flags) & READ_ONLY != 0
            || mountinfo::read_only_options(&String::from_utf8_lossy(options)),
    })
}

/// The string at an offset, up to its NUL byte.
fn text(answer: &Answer, offset: u32) -> &[u8] {
    let from = usize::try_from(offset).ok().and_then(|offset| answer.text.get(offset..)).unwrap_or(&[]);
    from.split(|byte| *byte == 0).next().unwrap_or(&[])
}

/// The whole mount table of this namespace.
pub(super) fn table(call: &'static str) -> HostResult<Vec<mountinfo::Line>> {
    let path = Path::new("/proc/self/mountinfo");
    let table = std::fs::read(path).at(call, path)?;
    mountinfo::parse(&table).map_err(|error| HostError::new(call, path, Cause::Other, error))
}

/// The same from the table: by the id in `fdinfo`'s numbering where `statx` gave that, else by device and place.
fn by_table(call: &'static str, path: &Path, stat: &Statx) -> HostResult<Option<Facts>> {
    let unique = stat.stx_mask & STATX_MNT_ID_UNIQUE != 0;
    let dev = makedev(stat.stx_dev_major, stat.stx_dev_minor);
    // The last line is the uppermost of several mounts at one place.
    let line = table(call)?.into_iter().rev().find(|line| match unique {
        true => line.target == path && (line.major, line.minor) == (major(dev), minor(dev)),
        false => line.id == stat.stx_mnt_id,
    });
    Ok(line.map(|line| Facts {
        dev: makedev(line.major, line.minor),
        filesystem_read_only: line.filesystem_read_only(),
        root: line.root,
        fs: line.fs,
        read_only: line.read_only,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::linux::beneath;

    #[test]
    fn strings_of_the_answer_start_where_the_kernel_puts_them() {
        assert_eq!(std::mem::offset_of!(Answer, text), 512);
        assert_eq!(std::mem::offset_of!(Answer, root), 104);
    }

    #[test]
    fn both_ways_to_look_a_mount_up_agree() {
        for path in ["/", "/proc", "/dev"] {
            let path = Path::new(path);
            let Some(fd) = beneath::find("test", path).unwrap() else { continue };
            let stat = beneath::statx("test", path, fd).unwrap();
            if !beneath::is_mount_root("test", path, &stat).unwrap() {
                continue;
            }
            let by_id = facts("test", path, &stat).unwrap();
            assert_eq!(by_table("test", path, &stat).unwrap(), by_id, "{path:?}");
        }
    }
}
