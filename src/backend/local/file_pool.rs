//! A pool in a file: for a host whose disks have no filesystem that can share blocks.
//!
//! The file holds an XFS and is mounted through a loop device. Attaching it is done at every start and finds what is
//! there already, since the mount outlives the server. A file with anything in it is never formatted, and a mount of
//! anything else at the pool's directory is never covered.

use std::path::{Path, PathBuf};

use super::pool::{SECTOR, check_place};
use crate::host::{Cause, FileKind, Host, LoopDevice, LoopOptions, MkfsSpec, MountSpec, Probe};
use crate::volume::{Error, FsType, Kind, Result, mkfs_plan};

/// What the pool's filesystem is.
const FS: FsType = FsType::Xfs;

/// Makes a sparse file of `size` bytes with an XFS in it, where there is none yet, and mounts it at `mountpoint`.
///
/// Called again after a crash, it goes on where it stopped. An existing file is never formatted: it either holds an
/// XFS, or the call fails with [`crate::volume::Kind::Precondition`]. Blocks.
pub fn create_in_file(host: &dyn Host, file: &Path, size: u64, mountpoint: &Path) -> Result<()> {
    let refuse = |why: &str| Err(Error::precondition(format!("pool file {}: {why}", file.display())));
    let (Some(parent), true) = (file.parent(), file.is_absolute()) else {
        return refuse("the path must be absolute");
    };
    let there = match host.metadata(file) {
        Err(error) if error.cause == Cause::Invalid => {
            return refuse(&format!("cannot be looked at: {}", error.detail));
        }
        there => there?,
    };
    if there.is_none() {
        match host.metadata(parent) {
            Ok(Some(meta)) if meta.kind == FileKind::Directory => {}
            Err(error) if error.cause != Cause::Invalid => return Err(error.into()),
            _ => return refuse("lies in no directory that exists: make it first"),
        }
        check_place(&host.fs_stat(parent)?, true).or_else(|why| refuse(&why))?;
        let least = mkfs_plan::min_size(FS);
        if size < least {
            let why = format!("is {size}; the filesystem of a pool takes {least} bytes at least");
            return Err(Error::new(Kind::OutOfRange, format!("file.size_bytes: {why}")));
        }
        remove_unfinished(host, file)?;
        let new = &unfinished(file);
        let target = mkfs_plan::Target { size, kernel: host.facts()?.kernel, program: None };
        // The one feature that the pool is for, by name; the rest as for a volume.
        let args = mkfs_plan::args(FS, &target, &["-m", "reflink=1"].map(str::to_owned))?;
        let made = host
            .create_file(new, size)
            .and_then(|()| host.mkfs(new, &MkfsSpec { fs: FS.as_str().into(), args }))
            .and_then(|()| host.sync_file(new))
            .and_then(|()| host.rename(new, file))
            .and_then(|()| host.sync_dir(parent));
        if made.is_err() {
            let _ = host.remove_file(new);
        }
        made?;
    }
    attach_file_pool(host, file, mountpoint)
}

/// What `file` is called while it is made.
fn unfinished(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".offshoot-new");
    name.into()
}

/// Removes what an attempt to make `file` left when it did not end. Blocks.
pub fn remove_unfinished(host: &dyn Host, file: &Path) -> Result<()> {
    // Its name is ours alone.
    host.remove_file(&unfinished(file))?;
    Ok(())
}

/// Mounts the pool in `file` at `mountpoint`, or finds that it is. A file that was made longer since is grown into.
///
/// Fails with [`crate::volume::Kind::Precondition`] where the file holds something else than an XFS, or something else
/// is mounted there. Blocks.
pub fn attach_file_pool(host: &dyn Host, file: &Path, mountpoint: &Path) -> Result<()> {
    let refuse = |why: String| Err(Error::precondition(format!("pool file {}: {why}", file.display())));
    let meta = match host.metadata(file)? {
        Some(meta) if meta.kind == FileKind::File => meta,
        Some(_) => return refuse("is not a regular file".into()),
        None => return refuse("does not exist: mount the disk that holds it, or create the pool".into()),
    };
    // Before a device is attached, which would stay behind.
    match host.probe(file)? {
        Probe::Fs { fs, .. } if fs == FS.as_str() => {}
        Probe::Fs { fs, .. } => return refuse(format!("holds {fs}, where a pool's file holds xfs")),
        Probe::Blank => return refuse("is blank: remove it, and create the pool anew".into()),
        Probe::Foreign(what) => return refuse(format!("holds something else ({what})")),
    }
    let devices: Vec<LoopDevice> =
        host.loops_of(file)?.into_iter().filter(|device| !device.read_only).collect();
    let mounted = host.mount_at(mountpoint)?;
    let device = match &mounted {
        Some(mount) => match devices.into_iter().find(|device| device.rdev == mount.dev) {
            Some(device) => device,
            None => {
                return refuse(format!("something else is mounted at {}: unmount it", mountpoint.display()));
            }
        },
        None => match devices.into_iter().next() {
            Some(device) => device,
            None => {
                host.loop_attach(file, LoopOptions { read_only: false, direct_io: true, sector: SECTOR })?
            }
        },
    };
    if !device.direct_io
        && let Err(error) = host.loop_set_direct_io(&device, true)
        && error.cause != crate::host::Cause::Unsupported
    {
        return Err(error.into());
    }
    if host.device_size(&device.path)? != meta.len {
        host.loop_resize(&device)?;
    }
    let smaller = match host.probe(&device.path)? {
        Probe::Fs { size, .. } => size < meta.len,
        _ => return refuse("has changed while it was attached: look at what writes to it".into()),
    };
    if mounted.is_none() {
        if host.metadata(mountpoint)?.is_none() {
            host.make_dir(mountpoint)?;
        }
        if let Some(entry) = host.read_dir(mountpoint)?.first() {
            return refuse(format!("{} is not empty, it holds {:?}", mountpoint.display(), entry.name));
        }
        // Without `nouuid`: a copy of the pool that is mounted beside it would hold the same ids.
        let spec = MountSpec { fs: FS.as_str().into(), ..MountSpec::default() };
        host.mount_device(&device.path, mountpoint, &spec)?;
    }
    if smaller {
        host.grow_mounted(&device.path, mountpoint, FS.as_str())?;
    }
    Ok(())
}
