//! What a device or image holds, told from its bytes.
//!
//! The answer decides whether something is formatted, so it errs one way only. *Blank* means that every byte is zero
//! wherever a superblock, partition table or volume-manager label could be: the first mebibyte and the last 128 KiB. A
//! filesystem is one of ours only if its superblock makes sense and nothing else claims the space before it. Everything
//! else is *foreign*, with a name where it has one: an interrupted mkfs, a damaged superblock, two signatures at once.
//!
//! Blank says nothing about the middle of the device. Whoever formats must also know (from the record, or because the
//! file has no extents) that no workload has had it as a raw device.
//!
//! The places and magics are those of the kernel's and the tools' own on-disk formats.

use super::spec::FsType;

/// How much of the beginning must be zero in a blank device.
pub const HEAD: u64 = 1 << 20;
/// How much of the end must be zero; old MD superblocks lie up to 128 KiB before it.
pub const TAIL: u64 = 128 << 10;

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// All zeros wherever a signature could be.
    Blank,
    /// A filesystem of ours.
    Fs {
        /// Which.
        fs: FsType,
        /// Its UUID, lower case with dashes.
        uuid: String,
        /// Its size in bytes as the superblock says, which may be less or (in a cut-off image) more than the device.
        size: u64,
        /// Whether its journal may have to be replayed first. XFS says that only in its log, which is not read here,
        /// so an XFS is always taken as dirty.
        dirty: bool,
        /// The largest sectors, in bytes, of a device on which it can be mounted.
        sector: u32,
    },
    /// Anything else, with what is known about it. Never to be formatted or mended.
    Foreign(String),
}

const CHUNK: usize = 64 << 10;
const SECTOR: usize = 512;

/// Fills the buffer with the bytes from an offset on, or says why it cannot.
pub type Read<'a, E> = dyn FnMut(u64, &mut [u8]) -> Result<(), E> + 'a;

/// Looks at the device of `len` bytes through `read`, which fills the buffer with the bytes from an offset on.
///
/// # Errors
/// Only those of `read`.
pub fn identify<E>(len: u64, read: &mut Read<'_, E>) -> Result<Found, E> {
    let mut head = vec![0; usize::try_from(len.min(HEAD)).unwrap_or(0)];
    for (n, chunk) in head.chunks_mut(CHUNK).enumerate() {
        read((n * CHUNK) as u64, chunk)?;
    }
    let tail_at = len.saturating_sub(TAIL).max(head.len() as u64);
    let mut tail = vec![0; usize::try_from(len - tail_at).unwrap_or(0)];
    if !tail.is_empty() {
        read(tail_at, &mut tail)?;
    }
    Ok(judge(len, &head, tail_at, &tail))
}

fn judge(len: u64, head: &[u8], tail_at: u64, tail: &[u8]) -> Found {
    let head = Bytes(head);
    let mut ours: Vec<Found> = [ext(head), xfs(head), btrfs(head)].into_iter().flatten().collect();
    let before = match ours.as_slice() {
        // Each of ours leaves this much at the beginning to others, so a signature there is a second claim.
        [Found::Fs { fs: FsType::Ext4, .. }] => Some(1024),
        [Found::Fs { fs: FsType::Xfs, .. }] => Some(0),
        [Found::Fs { fs: FsType::Btrfs, .. }] => Some(64 << 10),
        _ => None,
    };
    let signature = foreign(head, before.unwrap_or(usize::MAX));
    match (ours.len(), signature) {
        (1, None) => return ours.remove(0),
        (1, Some(other)) => return Found::Foreign(format!("{} and {other} at once", name(&ours[0]))),
        (2.., _) => {
            let names: Vec<String> = ours.iter().map(name).collect();
            return Found::Foreign(format!("{} at once", names.join(" and ")));
        }
        (_, Some(other)) => return Found::Foreign(other.to_owned()),
        (_, None) => {}
    }
    if let Some(other) = at_the_end(len, head, tail_at, tail) {
        return Found::Foreign(other.to_owned());
    }
    let unknown = |at: u64| Found::Foreign(format!("unknown bytes at offset {at}"));
    let nonzero = |bytes: &[u8]| bytes.iter().position(|&b| b != 0).map(|at| at as u64);
    match (nonzero(head.0), nonzero(tail)) {
        (Some(at), _) => unknown(at),
        (None, Some(at)) => unknown(tail_at + at),
        (None, None) => Found::Blank,
    }
}

fn name(found: &Found) -> String {
    match found {
        Found::Fs { fs, .. } => fs.as_str().to_owned(),
        Found::Foreign(what) => what.clone(),
        Found::Blank => "nothing".to_owned(),
    }
}

/// Reads that answer `None` (or zero bytes) beyond the end, so that nothing here can panic.
#[derive(Clone, Copy)]
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn is(&self, at: usize, expect: &[u8]) -> bool {
        at.checked_add(expect.len()).and_then(|end| self.0.get(at..end)) == Some(expect)
    }

    fn array<const N: usize>(&self, at: usize) -> [u8; N] {
        let found = at.checked_add(N).and_then(|end| self.0.get(at..end));
        found.and_then(|bytes| bytes.try_into().ok()).unwrap_or([0; N])
    }

    fn u8(&self, at: usize) -> u8 {
        u8::from_le_bytes(self.array(at))
    }

    fn le16(&self, at: usize) -> u16 {
        u16::from_le_bytes(self.array(at))
    }

    fn le32(&self, at: usize) -> u32 {
        u32::from_le_bytes(self.array(at))
    }

    fn le64(&self, at: usize) -> u64 {
        u64::from_le_bytes(self.array(at))
    }

    fn be16(&self, at: usize) -> u16 {
        u16::from_be_bytes(self.array(at))
    }

    fn be32(&self, at: usize) -> u32 {
        u32::from_be_bytes(self.array(at))
    }

    fn be64(&self, at: usize) -> u64 {
        u64::from_be_bytes(self.array(at))
    }

    fn uuid(&self, at: usize) -> String {
        uuid::Uuid::from_bytes(self.array(at)).hyphenated().to_string()
    }
}

fn foreign_as(what: &str) -> Option<Found> {
    Some(Found::Foreign(what.to_owned()))
}

/// ext2, ext3, ext4 and their external journals: `struct ext4_super_block` at 1024.
fn ext(head: Bytes<'_>) -> Option<Found> {
    const AT: usize = 1024;
    const RECOVER: u32 = 0x4;
    const JOURNAL_DEV: u32 = 0x8;
    const EXTENTS: u32 = 0x40;
    const WIDE: u32 = 0x80;
    const HAS_JOURNAL: u32 = 0x4;
    if head.le16(AT + 0x38) != 0xef53 {
        return None;
    }
    let (compat, incompat) = (head.le32(AT + 0x5c), head.le32(AT + 0x60));
    if incompat & JOURNAL_DEV != 0 {
        return foreign_as("external ext journal");
    }
    let log_block = head.le32(AT + 0x18);
    let wide = incompat & WIDE != 0;
    let blocks =
        u64::from(head.le32(AT + 0x4)) | if wide { u64::from(head.le32(AT + 0x150)) << 32 } else { 0 };
    let size = (log_block <= 6).then(|| blocks.checked_mul(1024 << log_block)).flatten();
    let groups = head.le32(AT + 0x20) != 0 && head.le32(AT + 0x28) != 0;
    let Some(size) = size.filter(|&size| size != 0 && groups) else {
        // Two bytes are a weak magic: what makes no sense as a superblock may as well be something else.
        return xfs(head).is_none().then(|| Found::Foreign("damaged ext superblock".to_owned()));
    };
    if incompat & EXTENTS == 0 {
        return foreign_as(if compat & HAS_JOURNAL == 0 { "ext2" } else { "ext3" });
    }
    if compat & HAS_JOURNAL != 0 && head.le32(AT + 0xe0) == 0 {
        return foreign_as("ext4 with an external journal");
    }
    let dirty = incompat & RECOVER != 0;
    let sector = (1024 << log_block).min(4096);
    Some(Found::Fs { fs: FsType::Ext4, uuid: head.uuid(AT + 0x68), size, dirty, sector })
}

/// XFS: `struct xfs_dsb` at 0, big endian.
fn xfs(head: Bytes<'_>) -> Option<Found> {
    if !head.is(0, b"XFSB") {
        return None;
    }
    let block = head.be32(4);
    let size = u64::from(block).checked_mul(head.be64(8)).filter(|&size| size != 0);
    let plausible = block.is_power_of_two() && (512..=65536).contains(&block) && head.be32(88) != 0;
    let Some(size) = size.filter(|_| plausible) else {
        return foreign_as("damaged xfs superblock");
    };
    if head.u8(126) != 0 {
        return foreign_as("xfs whose formatting did not finish");
    }
    if head.be64(48) == 0 {
        return foreign_as("xfs with an external log");
    }
    let sector = u32::from(head.be16(102));
    Some(Found::Fs { fs: FsType::Xfs, uuid: head.uuid(32), size, dirty: true, sector })
}

/// btrfs: `struct btrfs_super_block` at 64 KiB.
fn btrfs(head: Bytes<'_>) -> Option<Found> {
    const AT: usize = 64 << 10;
    const SEEDING: u64 = 1 << 32;
    if head.is(AT + 0x40, b"!BHRfS_M") {
        return foreign_as("btrfs whose formatting did not finish");
    }
    if !head.is(AT + 0x40, b"_BHRfS_M") {
        return None;
    }
    let sector = head.le32(AT + 0x90);
    let size = head.le64(AT + 0x70);
    let plausible =
        head.le64(AT + 0x30) == AT as u64 && sector.is_power_of_two() && sector >= 512 && size != 0;
    if !plausible {
        return foreign_as("damaged btrfs superblock");
    }
    if head.le64(AT + 0x88) != 1 {
        return foreign_as("btrfs over several devices");
    }
    if head.le64(AT + 0x38) & SEEDING != 0 {
        return foreign_as("btrfs seed device");
    }
    let dirty = head.le64(AT + 0x60) != 0;
    let sector = head.le32(AT + 0x90).min(4096);
    Some(Found::Fs { fs: FsType::Btrfs, uuid: head.uuid(AT + 0x20), size, dirty, sector })
}

/// Magics with one place: offset, bytes, name.
const MAGICS: &[(usize, &[u8], &str)] = &[
    (0, b"LUKS\xba\xbe", "LUKS"),
    (0, b"QFI\xfb", "qcow2"),
    (0, b"hsqs", "squashfs"),
    (0, b"bluestore block device", "ceph bluestore"),
    (0, b"\xfc\x4e\x2b\xa9", "MD RAID member"),
    (3, b"NTFS    ", "ntfs"),
    (3, b"EXFAT   ", "exfat"),
    (3, b"-FVE-FS-", "BitLocker"),
    (32, b"NXSB", "apfs"),
    (54, b"FAT1", "vfat"),
    (82, b"FAT32   ", "vfat"),
    (512, b"EFI PART", "GPT partition table"),
    (1024, b"\x10\x20\xf5\xf2", "f2fs"),
    (1024, b"\xe2\xe1\xf5\xe0", "erofs"),
    (1024, b"H+", "hfsplus"),
    (1024, b"HX", "hfsplus"),
    (4086, b"SWAPSPACE2", "swap"),
    (4086, b"SWAP-SPACE", "swap"),
    (4086, b"S1SUSPEND\0", "hibernation image"),
    (4096, b"\xfc\x4e\x2b\xa9", "MD RAID member"),
    (4096, b"EFI PART", "GPT partition table"),
    (4120, b"\xc6\x85\x73\xf6\x4e\x1a\x45\xca\x82\x65\xf5\x7f\x48\xba\x6d\x81", "bcache"),
    (4120, b"\xc6\x85\x73\xf6\x66\xce\x90\xa9\xd9\x6a\x60\xcf\x80\x3d\xf7\xef", "bcachefs"),
    (16374, b"SWAPSPACE2", "swap"),
    (32768, b"JFS1", "jfs"),
    (32769, b"CD001", "iso9660"),
    (65526, b"SWAPSPACE2", "swap"),
    (65588, b"ReIsEr", "reiserfs"),
];

/// A signature of something else that starts before `end`.
fn foreign(head: Bytes<'_>, end: usize) -> Option<&'static str> {
    if let Some((_, _, name)) = MAGICS.iter().find(|(at, magic, _)| *at < end && head.is(*at, magic)) {
        return Some(name);
    }
    if (0..4).any(|n| n * SECTOR < end && head.is(n * SECTOR, b"LABELONE")) {
        return Some("LVM physical volume");
    }
    // ZFS keeps its uberblocks in the second 128 KiB of each label, in either byte order.
    let uber = |at: usize| head.le64(at) == 0x00ba_b10c || head.be64(at) == 0x00ba_b10c;
    if end > 128 << 10 && (128..256).any(|k| uber(k << 10)) {
        return Some("zfs");
    }
    let entry = |n: usize| head.u8(446 + n * 16 + 4) != 0 && head.u8(446 + n * 16) & 0x7f == 0;
    if end > 446 && head.is(510, b"\x55\xaa") && (0..4).any(entry) {
        return Some("MBR partition table");
    }
    None
}

/// A signature of something that keeps its label at the end.
fn at_the_end(len: u64, head: Bytes<'_>, tail_at: u64, tail: &[u8]) -> Option<&'static str> {
    const MD: &[u8] = b"\xfc\x4e\x2b\xa9";
    let is = |at: Option<u64>, magic: &[u8]| {
        let Some(at) = at else { return false };
        let (bytes, base) = if at >= tail_at { (Bytes(tail), tail_at) } else { (head, 0) };
        usize::try_from(at - base).is_ok_and(|at| bytes.is(at, magic))
    };
    let old_md = (len & !0xffff).checked_sub(64 << 10);
    let new_md = len.checked_sub(8 << 10).map(|at| at & !0xfff);
    if is(old_md, MD) || is(new_md, MD) {
        return Some("MD RAID member");
    }
    if is(len.checked_sub(512), b"EFI PART") || is(len.checked_sub(4096), b"EFI PART") {
        return Some("GPT partition table");
    }
    None
}

#[cfg(test)]
#[path = "superblock_tests.rs"]
mod tests;
