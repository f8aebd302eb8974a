//! Loop devices: image files as block devices.
//!
//! A device's number means nothing: it changes over a reboot, and another process may take it a moment after it was
//! free. A device is found by its backing file's device and inode, and each call on one checks again that it is still
//! that file's. `LOOP_CLR_FD` *succeeds* on a device that somebody has open and detaches it when they close it: so a
//! device is looked at before, held exclusively during, and looked at after detaching.

use std::ffi::OsString;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::thread::sleep;
use std::time::Duration;

use rustix::fs::{self, CWD, FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::ioctl::Opcode;

use super::errno::{At, fail};
use super::ioctl::{self, Argument};
use super::{block, files};
use crate::host::{Cause, Detached, FileKind, HostError, HostResult, LoopDevice, LoopOptions};

const LOOP_CTL_GET_FREE: Opcode = 0x4c82;
const LOOP_CLR_FD: Opcode = 0x4c01;
const LOOP_SET_STATUS64: Opcode = 0x4c04;
const LOOP_GET_STATUS64: Opcode = 0x4c05;
const LOOP_SET_CAPACITY: Opcode = 0x4c07;
const LOOP_SET_DIRECT_IO: Opcode = 0x4c08;
const LOOP_CONFIGURE: Opcode = 0x4c0a;

const LO_READ_ONLY: u32 = 1;
const LO_AUTOCLEAR: u32 = 4;
const LO_DIRECT_IO: u32 = 16;

/// The block major number of loop devices.
const LOOP_MAJOR: u32 = 7;

/// How often a free number is asked for before giving up: each round that fails, another process got one.
const ATTACH_ROUNDS: u32 = 512;

/// How long to wait for a passing holder (a scan of ours, udev's probe) to let go of a device that was just cleared.
const LET_GO: [u64; 8] = [0, 1, 2, 5, 10, 20, 50, 100];

/// `struct loop_info64`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Info {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    size_limit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

/// `struct loop_config`.
#[repr(C)]
struct Config {
    fd: u32,
    block_size: u32,
    info: Info,
    reserved: [u64; 8],
}

// SAFETY: both structures are integers only, laid out as the kernel declares them; a test holds their sizes.
unsafe impl Argument<LOOP_GET_STATUS64> for Info {}
// SAFETY: as above.
unsafe impl Argument<LOOP_SET_STATUS64> for Info {}
// SAFETY: as above.
unsafe impl Argument<LOOP_CONFIGURE> for Config {}

impl Info {
    const EMPTY: Info = Info {
        device: 0,
        inode: 0,
        rdevice: 0,
        offset: 0,
        size_limit: 0,
        number: 0,
        encrypt_type: 0,
        encrypt_key_size: 0,
        flags: 0,
        file_name: [0; 64],
        crypt_name: [0; 64],
        encrypt_key: [0; 32],
        init: [0; 2],
    };
}

/// Attaches one after the other within this process: the kernel gives every caller the same free number.
static ATTACHING: Mutex<()> = Mutex::new(());

fn node(number: u32) -> PathBuf {
    PathBuf::from(format!("/dev/loop{number}"))
}

/// Opens the node of a loop device, making it where `/dev` is not the kernel's own (as in a container).
fn open_node(call: &'static str, number: u32, flags: OFlags) -> HostResult<OwnedFd> {
    let path = node(number);
    match files::open(call, &path, flags) {
        Err(error) if error.cause == Cause::NotFound && files::metadata(&path)?.is_none() => {
            let device = fs::makedev(LOOP_MAJOR, number);
            match fs::mknodat(CWD, &path, FileType::BlockDevice, Mode::RUSR | Mode::WUSR, device) {
                Ok(()) | Err(Errno::EXIST) => files::open(call, &path, flags),
                Err(error) => Err(fail("mknod", &path, error)),
            }
        }
        other => other,
    }
}

/// What a loop device is attached to; `None` if to nothing.
fn info(call: &'static str, number: u32) -> HostResult<Option<Info>> {
    let fd = match open_node(call, number, OFlags::RDONLY) {
        Ok(fd) => fd,
        // ENXIO: the last opener is just letting go.
        Err(error) if error.cause == Cause::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    info_of(call, number, &fd)
}

fn info_of(call: &'static str, number: u32, fd: &OwnedFd) -> HostResult<Option<Info>> {
    let mut info = Info::EMPTY;
    match ioctl::update::<LOOP_GET_STATUS64, _>(fd, &mut info) {
        Ok(()) => Ok(Some(info)),
        Err(Errno::NXIO) => Ok(None),
        Err(error) => Err(fail(call, &node(number), error)),
    }
}

fn device(number: u32, info: &Info, file: PathBuf) -> LoopDevice {
    LoopDevice {
        path: node(number),
        rdev: fs::makedev(LOOP_MAJOR, number),
        file,
        read_only: info.flags & LO_READ_ONLY != 0,
        direct_io: info.flags & LO_DIRECT_IO != 0,
    }
}

/// The number in a device's path.
fn number_of(call: &'static str, device: &LoopDevice) -> HostResult<u32> {
    let name = device.path.strip_prefix("/dev").ok().and_then(Path::to_str);
    match name.and_then(|name| name.strip_prefix("loop")).and_then(|digits| digits.parse().ok()) {
        Some(number) => Ok(number),
        None => Err(HostError::new(call, &device.path, Cause::Invalid, "this is no loop device")),
    }
}

/// See [`Host::loop_attach`](crate::host::Host::loop_attach).
pub(super) fn attach(file: &Path, options: LoopOptions) -> HostResult<LoopDevice> {
    const CALL: &str = "loop_attach";
    let access = if options.read_only { OFlags::RDONLY } else { OFlags::RDWR };
    let backing = files::open(CALL, file, access)?;
    if files::meta_of(&fs::fstat(&backing).at(CALL, file)?).kind != FileKind::File {
        return Err(HostError::new(CALL, file, Cause::Invalid, "only a regular file is attached"));
    }
    let control_path = Path::new("/dev/loop-control");
    let control = files::open(CALL, control_path, OFlags::RDWR)?;
    let mut info = Info::EMPTY;
    info.flags =
        if options.read_only { LO_READ_ONLY } else { 0 } | if options.direct_io { LO_DIRECT_IO } else { 0 };
    // For people who run `losetup`; cut off where it is longer, so never what a device is found by.
    let name = file.as_os_str().as_bytes();
    let shown = name.len().min(info.file_name.len() - 1);
    info.file_name[..shown].copy_from_slice(&name[..shown]);
    let fd = u32::try_from(backing.as_raw_fd()).unwrap_or(u32::MAX);
    // A poisoned lock guards no data: another attachment panicked, and this one can go on.
    let _one_by_one = ATTACHING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    for _ in 0..ATTACH_ROUNDS {
        // SAFETY: LOOP_CTL_GET_FREE takes no argument and answers with a number.
        let number = unsafe { ioctl::number::<LOOP_CTL_GET_FREE>(&control, 0) }.at(CALL, control_path)?;
        let number = u32::try_from(number).unwrap_or(0);
        let node = open_node(CALL, number, access)?;
        let mut config = Config { fd, block_size: options.sector, info, reserved: [0; 8] };
        match ioctl::update::<LOOP_CONFIGURE, _>(&node, &mut config) {
            Ok(()) => {
                // Read back: the kernel turns direct I/O off without a word where the filesystem cannot.
                let attached = info_of(CALL, number, &node)?;
                let attached = attached.ok_or_else(|| fail(CALL, file, Errno::NXIO))?;
                return Ok(device(number, &attached, file.to_owned()));
            }
            Err(Errno::BUSY | Errno::AGAIN | Errno::INTR) => {}
            Err(error) => return Err(fail(CALL, file, error)),
        }
    }
    Err(HostError::new(CALL, file, Cause::Busy, "others take every free loop device first; try again"))
}

/// The backing file's path of each attached loop device, as the kernel shows it; `None` where it cannot be shown.
fn attached(call: &'static str) -> HostResult<Vec<(u32, Option<OsString>)>> {
    let dir = Path::new("/sys/block");
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).at(call, dir)? {
        let name = entry.at(call, dir)?.file_name();
        let Some(number) = name.to_str().and_then(|name| name.strip_prefix("loop")?.parse().ok()) else {
            continue;
        };
        match std::fs::read(dir.join(&name).join("loop/backing_file")) {
            Ok(mut path) => {
                path.pop_if(|byte| *byte == b'\n');
                found.push((number, Some(OsString::from_vec(path))));
            }
            // Not attached, or gone while we looked.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(_) => found.push((number, None)),
        }
    }
    found.sort();
    Ok(found)
}

/// What the kernel puts behind the path of a file that was removed.
const DELETED: &[u8] = b" (deleted)";

/// The path that a backing file has, or had before it was removed.
fn without_deleted(shown: &[u8]) -> &[u8] {
    shown.strip_suffix(DELETED).unwrap_or(shown)
}

fn last_component(path: &[u8]) -> &[u8] {
    path.rsplit(|byte| *byte == b'/').next().unwrap_or(path)
}

/// See [`Host::loops_of`](crate::host::Host::loops_of).
///
/// Opening a device is not free of effects (another process that detaches it meanwhile sees it held), so only those
/// are opened whose shown path ends in the file's name. The path as a whole says nothing: after the driver's container
/// was replaced, the kernel shows it relative to a mount that nobody sees any more.
pub(super) fn loops_of(file: &Path) -> HostResult<Vec<LoopDevice>> {
    const CALL: &str = "loops_of";
    let stat = match fs::lstat(file) {
        Ok(stat) => stat,
        Err(Errno::NOENT) => return Ok(Vec::new()),
        Err(error) => return Err(fail(CALL, file, error)),
    };
    let name = file.file_name().map(OsStrExt::as_bytes).unwrap_or_default();
    let one_name = stat.st_nlink == 1;
    let mut found = Vec::new();
    for (number, shown) in attached(CALL)? {
        let other_name = shown.as_ref().is_some_and(|shown| {
            let shown = shown.as_bytes();
            last_component(shown) != name && last_component(without_deleted(shown)) != name
        });
        if one_name && other_name {
            continue;
        }
        match info(CALL, number)? {
            Some(info) if info.device == stat.st_dev && info.inode == stat.st_ino => {
                found.push(device(number, &info, shown.map_or_else(|| file.to_owned(), PathBuf::from)));
            }
            _ => {}
        }
    }
    Ok(found)
}

/// See [`Host::loops_below`](crate::host::Host::loops_below).
pub(super) fn loops_below(dir: &Path) -> HostResult<Vec<LoopDevice>> {
    const CALL: &str = "loops_below";
    let mut found = Vec::new();
    for (number, shown) in attached(CALL)? {
        let below = shown.map(PathBuf::from).filter(|shown| shown.starts_with(dir));
        if let Some(file) = below
            && let Some(info) = info(CALL, number)?
        {
            found.push(device(number, &info, file));
        }
    }
    Ok(found)
}

/// Whether a loop device is that of `file`: by inode, or, after the file was removed or replaced, by the path that
/// the kernel shows with its mark for removed files.
fn belongs(call: &'static str, number: u32, info: &Info, file: &Path) -> HostResult<bool> {
    if let Some(meta) = files::metadata(file)?
        && (meta.dev, meta.ino) == (info.device, info.inode)
    {
        return Ok(true);
    }
    let path = format!("/sys/block/loop{number}/loop/backing_file");
    match std::fs::read(&path) {
        Ok(mut shown) => {
            shown.pop_if(|byte| *byte == b'\n');
            Ok(shown.strip_suffix(DELETED) == Some(file.as_os_str().as_bytes()))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(fail(call, Path::new(&path), error)),
    }
}

/// See [`Host::loop_detach`](crate::host::Host::loop_detach).
pub(super) fn detach(device: &LoopDevice, file: &Path) -> HostResult<Detached> {
    const CALL: &str = "loop_detach";
    let number = number_of(CALL, device)?;
    // Held exclusively while it is cleared, so that nobody mounts it in between.
    let alone = block::look_alone();
    let node = match fs::open(&device.path, OFlags::RDONLY | OFlags::EXCL | OFlags::CLOEXEC, Mode::empty()) {
        Ok(node) => node,
        Err(Errno::BUSY) => return still_there(number, file),
        Err(Errno::NOENT | Errno::NXIO) => return Ok(Detached::Gone),
        Err(error) => return Err(fail(CALL, &device.path, error)),
    };
    match info_of(CALL, number, &node)? {
        Some(info) if belongs(CALL, number, &info, file)? => {}
        // Nothing or another's file: as far as this file goes, the device is gone.
        _ => return Ok(Detached::Gone),
    }
    if block::has_holders(&device.path)? {
        return Ok(Detached::Held);
    }
    // SAFETY: LOOP_CLR_FD takes no argument.
    match unsafe { ioctl::bare::<LOOP_CLR_FD>(&node) } {
        Ok(()) | Err(Errno::NXIO) => {}
        Err(Errno::BUSY) => return Ok(Detached::Held),
        Err(error) => return Err(fail(CALL, &device.path, error)),
    }
    drop(node);
    drop(alone);
    for pause in LET_GO {
        sleep(Duration::from_millis(pause));
        if still_there(number, file)? == Detached::Gone {
            return Ok(Detached::Gone);
        }
    }
    keep(number, file)
}

/// Whether a device still belongs to a file.
fn still_there(number: u32, file: &Path) -> HostResult<Detached> {
    const CALL: &str = "loop_detach";
    match info(CALL, number)? {
        Some(info) if belongs(CALL, number, &info, file)? => Ok(Detached::Held),
        _ => Ok(Detached::Gone),
    }
}

/// Takes the mark "detach on last close" from a device that turned out to be held. With the mark, the device would
/// vanish under the next user of the volume, who finds it attached and uses it, as soon as today's holder lets go.
fn keep(number: u32, file: &Path) -> HostResult<Detached> {
    const CALL: &str = "loop_detach";
    let node = match open_node(CALL, number, OFlags::RDONLY) {
        Ok(node) => node,
        Err(error) if error.cause == Cause::NotFound => return Ok(Detached::Gone),
        Err(error) => return Err(error),
    };
    match info_of(CALL, number, &node)? {
        Some(mut info) if belongs(CALL, number, &info, file)? => {
            if info.flags & LO_AUTOCLEAR != 0 {
                info.flags &= !LO_AUTOCLEAR;
                ioctl::update::<LOOP_SET_STATUS64, _>(&node, &mut info).at(CALL, file)?;
            }
            Ok(Detached::Held)
        }
        _ => Ok(Detached::Gone),
    }
}

/// See [`Host::loop_resize`](crate::host::Host::loop_resize).
pub(super) fn resize(device: &LoopDevice) -> HostResult<()> {
    let number = number_of("loop_resize", device)?;
    let node = open_node("loop_resize", number, OFlags::RDONLY)?;
    // SAFETY: the kernel ignores the argument of LOOP_SET_CAPACITY.
    unsafe { ioctl::number::<LOOP_SET_CAPACITY>(node, 0) }.map(drop).at("loop_resize", &device.path)
}

/// See [`Host::loop_set_direct_io`](crate::host::Host::loop_set_direct_io).
pub(super) fn set_direct_io(device: &LoopDevice, on: bool) -> HostResult<()> {
    const CALL: &str = "loop_set_direct_io";
    let node = open_node(CALL, number_of(CALL, device)?, OFlags::RDONLY)?;
    // SAFETY: the argument of LOOP_SET_DIRECT_IO is the number 0 or 1.
    match unsafe { ioctl::number::<LOOP_SET_DIRECT_IO>(node, usize::from(on)) } {
        Ok(_) => Ok(()),
        Err(Errno::INVAL) => {
            let detail = "the filesystem of the image cannot do direct I/O in the device's block size";
            Err(HostError::new(CALL, &device.path, Cause::Unsupported, detail))
        }
        Err(error) => Err(fail(CALL, &device.path, error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_structures_have_the_sizes_of_the_kernels_headers() {
        assert_eq!((size_of::<Info>(), size_of::<Config>()), (232, 304));
    }

    #[test]
    fn a_shown_backing_path_is_compared_by_its_last_component_with_and_without_the_deleted_mark() {
        fn check(shown: &str, name: &str) {
            assert_eq!(last_component(without_deleted(shown.as_bytes())), name.as_bytes());
        }
        check("/pool/volumes/a.img", "a.img");
        check("/pool/volumes/a.img (deleted)", "a.img");
        check("a.img", "a.img");
    }
}
