//! Where a file's bytes lie on the disk (FIEMAP), which is how two images are compared without reading them.

use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::OFlags;
use rustix::ioctl::{Opcode, opcode};

use super::errno::At;
use super::files;
use super::ioctl::{self, Argument};
use crate::host::{Extent, HostResult};

/// Extents asked for in one call.
const BATCH: usize = 256;

/// Write out what is not yet placed, first.
const FLAG_SYNC: u32 = 0x1;

const EXTENT_LAST: u32 = 0x1;
const EXTENT_UNKNOWN: u32 = 0x2;
const EXTENT_ENCODED: u32 = 0x8;
const EXTENT_INLINE: u32 = 0x200;
const EXTENT_TAIL: u32 = 0x400;
const EXTENT_UNWRITTEN: u32 = 0x800;
const EXTENT_SHARED: u32 = 0x2000;

/// `struct fiemap` without its extents.
#[repr(C)]
#[derive(Clone, Copy)]
struct Header {
    start: u64,
    length: u64,
    flags: u32,
    mapped_extents: u32,
    extent_count: u32,
    reserved: u32,
}

/// `struct fiemap_extent`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct RawExtent {
    logical: u64,
    physical: u64,
    length: u64,
    reserved64: [u64; 2],
    flags: u32,
    reserved: [u32; 3],
}

/// `struct fiemap` with room for a batch.
#[repr(C)]
struct Fiemap {
    header: Header,
    extents: [RawExtent; BATCH],
}

const FS_IOC_FIEMAP: Opcode = opcode::read_write::<Header>(b'f', 11);

// SAFETY: the header is the kernel's, and `extent_count` tells it how many extents fit behind it.
unsafe impl Argument<FS_IOC_FIEMAP> for Fiemap {}

/// See [`Host::extents`](crate::host::Host::extents).
pub(super) fn extents(path: &Path, start: u64, max: usize) -> HostResult<Vec<Extent>> {
    of_file(files::open("fiemap", path, OFlags::RDONLY)?, path, start, max)
}

/// The same, of an open file.
pub(super) fn of_file(file: impl AsFd, path: &Path, start: u64, max: usize) -> HostResult<Vec<Extent>> {
    let mut found = Vec::new();
    let mut at = start;
    while found.len() < max {
        let want = (max - found.len()).min(BATCH);
        let mut map = Box::new(Fiemap {
            header: Header {
                start: at,
                length: u64::MAX - at,
                flags: FLAG_SYNC,
                mapped_extents: 0,
                extent_count: u32::try_from(want).unwrap_or(0),
                reserved: 0,
            },
            extents: [RawExtent::default(); BATCH],
        });
        ioctl::update::<FS_IOC_FIEMAP, _>(&file, &mut *map).at("fiemap", path)?;
        let got = usize::try_from(map.header.mapped_extents).unwrap_or(0).min(want);
        let Some(last) = map.extents[..got].last().copied() else { break };
        found.extend(map.extents[..got].iter().filter_map(|raw| extent(raw, start)));
        at = last.logical.saturating_add(last.length);
        if last.flags & EXTENT_LAST != 0 || last.length == 0 {
            break;
        }
    }
    Ok(found)
}

/// One extent, cut off before `start`.
fn extent(raw: &RawExtent, start: u64) -> Option<Extent> {
    let before = start.saturating_sub(raw.logical).min(raw.length);
    // Compressed, inline and packed bytes have no place of their own: two files may name the same one and differ.
    let encoded = raw.flags & (EXTENT_UNKNOWN | EXTENT_ENCODED | EXTENT_INLINE | EXTENT_TAIL) != 0;
    (raw.length > before).then(|| Extent {
        logical: raw.logical + before,
        physical: if encoded { raw.physical } else { raw.physical + before },
        len: raw.length - before,
        shared: raw.flags & EXTENT_SHARED != 0,
        encoded,
        unwritten: raw.flags & EXTENT_UNWRITTEN != 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extents_are_cut_at_the_start_and_say_where_their_place_means_nothing() {
        fn check(flags: u32, start: u64, expect: Option<(u64, u64, u64, [bool; 3])>) {
            let raw =
                RawExtent { logical: 4096, physical: 1 << 20, length: 8192, flags, ..RawExtent::default() };
            let seen = extent(&raw, start)
                .map(|e| (e.logical, e.physical, e.len, [e.shared, e.unwritten, e.encoded]));
            assert_eq!(seen, expect, "flags {flags:#x}, start {start}");
        }
        check(0, 0, Some((4096, 1 << 20, 8192, [false; 3])));
        check(EXTENT_SHARED, 8192, Some((8192, (1 << 20) + 4096, 4096, [true, false, false])));
        check(EXTENT_UNWRITTEN, 0, Some((4096, 1 << 20, 8192, [false, true, false])));
        check(EXTENT_SHARED | EXTENT_ENCODED, 8192, Some((8192, 1 << 20, 4096, [true, false, true])));
        check(0, 12288, None);
    }

    #[test]
    fn the_ioctl_number_is_the_one_of_the_kernels_headers() {
        assert_eq!(FS_IOC_FIEMAP, 0xc020_660b);
        assert_eq!(size_of::<RawExtent>(), 56);
    }
}
