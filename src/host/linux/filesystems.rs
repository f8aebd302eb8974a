//! Making, checking and growing the three filesystems of volumes.
//!
//! Growing a mounted filesystem is an ioctl on the mount's own descriptor: the programs for it look the mount up by a
//! path that may have changed since.

use std::ffi::OsStr;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{self, makedev};
use rustix::io::Errno;
use rustix::ioctl::{Opcode, opcode};

use super::errno::{At, fail};
use super::ioctl::{self, Argument};
use super::{Linux, beneath, block, btrfs, files, probe, programs};
use crate::host::{Cause, FileKind, Fsck, HostError, HostResult, MkfsSpec, Probe};

/// Formatting writes little, but discarding a large old device can take long.
const MKFS_LIMIT: Duration = Duration::from_secs(120);

/// Checking and offline growing read all metadata.
const CHECK_LIMIT: Duration = Duration::from_secs(1800);

/// `struct xfs_fsop_geom_v1`; only two fields are read.
#[repr(C)]
struct XfsGeometry {
    block_size: u32,
    numbers: [u32; 6],
    max_inode_percent: u32,
    data_blocks: u64,
    rest: [u64; 3],
    uuid: [u8; 16],
    more: [u32; 7],
}

/// `struct xfs_growfs_data`.
#[repr(C)]
struct XfsGrow {
    blocks: u64,
    max_inode_percent: u32,
}

const XFS_GEOMETRY_V1: Opcode = opcode::read::<XfsGeometry>(b'X', 100);
const XFS_GROW_DATA: Opcode = opcode::write::<XfsGrow>(b'X', 110);

// SAFETY: integers only, laid out and sized as in xfs/xfs_fs.h; a test holds the numbers, which have the sizes.
unsafe impl Argument<XFS_GEOMETRY_V1> for XfsGeometry {}
// SAFETY: as above.
unsafe impl Argument<XFS_GROW_DATA> for XfsGrow {}

fn unknown_fs(call: &'static str, path: &Path, fs: &str) -> HostError {
    HostError::new(
        call,
        path,
        Cause::Unsupported,
        format!("there is no filesystem {fs:?}; use ext4, xfs or btrfs"),
    )
}

impl Linux {
    /// Runs a program on a device or image; the path comes last and is absolute, so it is never read as an option.
    fn run(
        &self,
        name: &'static str,
        args: &[&OsStr],
        path: &Path,
        limit: Duration,
    ) -> HostResult<programs::Ended> {
        if !path.is_absolute() {
            return Err(HostError::new(name, path, Cause::Invalid, "the path is not absolute"));
        }
        let Some(program) = self.programs.get(name) else {
            let detail = format!("{name} is not installed; install e2fsprogs, xfsprogs or btrfs-progs");
            return Err(HostError::new(name, path, Cause::Unsupported, detail));
        };
        let mut args = args.to_vec();
        args.push(path.as_os_str());
        programs::run(name, program, &args, path, limit)
    }

    /// See [`Host::mkfs`](crate::host::Host::mkfs).
    pub(super) fn make_filesystem(&self, path: &Path, spec: &MkfsSpec) -> HostResult<()> {
        let name = match spec.fs.as_str() {
            "ext4" => "mkfs.ext4",
            "xfs" => "mkfs.xfs",
            "btrfs" => "mkfs.btrfs",
            other => return Err(unknown_fs("mkfs", path, other)),
        };
        refuse_in_use(name, path)?;
        let args: Vec<&OsStr> = spec.args.iter().map(OsStr::new).collect();
        let ended = self.run(name, &args, path, MKFS_LIMIT)?;
        match ended.status {
            Some(0) => Ok(()),
            _ => Err(ended_badly(name, path, &ended)),
        }
    }

    /// See [`Host::fsck`](crate::host::Host::fsck).
    pub(super) fn check_filesystem(&self, device: &Path, fs: &str) -> HostResult<Fsck> {
        match fs {
            "ext4" => {}
            // Both replay their log when they are mounted, and their checkers refuse to run before that; what is
            // wrong beyond it shows at the mount, and mending it needs a person.
            "xfs" | "btrfs" => return Ok(Fsck::Clean),
            other => return Err(unknown_fs("fsck", device, other)),
        }
        refuse_in_use("e2fsck", device)?;
        let args = ["-p", "-f"].map(OsStr::new);
        let ended = self.run("e2fsck", &args, device, CHECK_LIMIT)?;
        // A sum of bits: 1 mended, 2 mended and the machine should start again if this was its root, 4 damage is left,
        // 8 and above: the check itself did not work, so the answer is unknown.
        match ended.status {
            Some(0) => Ok(Fsck::Clean),
            Some(1..=3) => Ok(Fsck::Mended),
            Some(4..=7) => Ok(Fsck::Damaged(ended.output)),
            _ => Err(ended_badly("e2fsck", device, &ended)),
        }
    }

    /// See [`Host::grow_unmounted`](crate::host::Host::grow_unmounted).
    pub(super) fn grow_unmounted_filesystem(&self, device: &Path, fs: &str) -> HostResult<bool> {
        match fs {
            "ext4" => {}
            "xfs" | "btrfs" => return Ok(false),
            other => return Err(unknown_fs("grow", device, other)),
        }
        // resize2fs refuses a filesystem that was mounted since its last check.
        if let Fsck::Damaged(words) = self.check_filesystem(device, fs)? {
            let detail = format!("the filesystem is damaged, so it is not grown: {words}");
            return Err(HostError::new("e2fsck", device, Cause::Program, detail));
        }
        let ended = self.run("resize2fs", &[], device, CHECK_LIMIT)?;
        match ended.status {
            Some(0) => Ok(true),
            _ => Err(ended_badly("resize2fs", device, &ended)),
        }
    }
}

fn ended_badly(name: &'static str, path: &Path, ended: &programs::Ended) -> HostError {
    let how = match ended.status {
        Some(status) => format!("exit status {status}"),
        None => "ended by a signal".to_owned(),
    };
    HostError::new(name, path, Cause::Program, format!("{how}: {}", ended.output))
}

/// Refuses to work on a device that is mounted or part of another.
fn refuse_in_use(call: &'static str, path: &Path) -> HostResult<()> {
    match files::metadata(path)? {
        None => Err(fail(call, path, Errno::NOENT)),
        Some(meta) if meta.kind == FileKind::File => Ok(()),
        Some(_) if block::in_use(path)? => {
            Err(HostError::new(call, path, Cause::Busy, "the device is mounted or held; unmount it first"))
        }
        Some(_) => Ok(()),
    }
}

/// See [`Host::grow_mounted`](crate::host::Host::grow_mounted).
pub(super) fn grow_mounted(device: &Path, target: &Path, fs: &str) -> HostResult<()> {
    const CALL: &str = "grow";
    let root = beneath::open_mount_root(CALL, target)?;
    let size = block::size(device)?;
    if fs == "btrfs" {
        // Its device number is made up, and it knows its device itself.
        return btrfs::grow(root, target);
    }
    let stat = beneath::statx(CALL, target, &root)?;
    let mounted = makedev(stat.stx_dev_major, stat.stx_dev_minor);
    if files::metadata(device)?.is_none_or(|meta| meta.rdev != mounted) {
        let detail = format!("what is mounted here is not on {}", device.display());
        return Err(HostError::new(CALL, target, Cause::Invalid, detail));
    }
    match fs {
        "ext4" => grow_ext4(root, device, target, size),
        "xfs" => grow_xfs(root, target, size),
        other => Err(unknown_fs(CALL, target, other)),
    }
}

fn grow_ext4(root: impl AsFd, device: &Path, target: &Path, size: u64) -> HostResult<()> {
    let block = u64::try_from(fs::fstatfs(&root).at("grow", target)?.f_bsize).unwrap_or(4096).max(1);
    let blocks = size / block;
    // The kernel asks for the capability also where there is nothing to do.
    if let Probe::Fs { size: now, .. } = probe::probe(device)?
        && now / block >= blocks
    {
        return Ok(());
    }
    match fs::ext4_ioc_resize_fs(&root, blocks) {
        Ok(()) => Ok(()),
        Err(Errno::PERM) => {
            let detail = "growing a mounted ext4 needs CAP_SYS_RESOURCE; give the driver that capability, or unmount \
                          the volume to grow it";
            Err(HostError::new("grow", target, Cause::Denied, detail))
        }
        Err(error) => Err(fail("grow", target, error)),
    }
}

fn grow_xfs(root: impl AsFd, target: &Path, size: u64) -> HostResult<()> {
    let mut geometry = XfsGeometry {
        block_size: 0,
        numbers: [0; 6],
        max_inode_percent: 0,
        data_blocks: 0,
        rest: [0; 3],
        uuid: [0; 16],
        more: [0; 7],
    };
    ioctl::update::<XFS_GEOMETRY_V1, _>(&root, &mut geometry).at("grow", target)?;
    let blocks = size / u64::from(geometry.block_size.max(512));
    if blocks <= geometry.data_blocks {
        return Ok(());
    }
    let mut grow = XfsGrow { blocks, max_inode_percent: geometry.max_inode_percent };
    match ioctl::update::<XFS_GROW_DATA, _>(&root, &mut grow) {
        Ok(()) => Ok(()),
        // Less than the smallest allocation group is left over at the end: as large as it can be.
        Err(Errno::INVAL) => Ok(()),
        Err(error) => Err(fail("grow", target, error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ioctl_numbers_are_those_of_the_kernels_headers() {
        assert_eq!((XFS_GEOMETRY_V1, XFS_GROW_DATA), (0x8070_5864, 0x4010_586e));
    }
}
