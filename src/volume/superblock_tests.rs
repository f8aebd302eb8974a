//! Signatures made by hand, real filesystems made by their own programs, and random bytes.

use super::*;
use proptest::prelude::*;
use std::convert::Infallible;
use std::os::unix::fs::FileExt;

const MIB: u64 = 1 << 20;

fn look(bytes: &[u8]) -> Found {
    let read = &mut |at: u64, buffer: &mut [u8]| -> Result<(), Infallible> {
        let at = at as usize;
        buffer.copy_from_slice(&bytes[at..at + buffer.len()]);
        Ok(())
    };
    identify(bytes.len() as u64, read).unwrap()
}

#[track_caller]
fn check(len: u64, patches: &[(u64, &[u8])], expect: &str) {
    let mut bytes = vec![0; len as usize];
    for (at, patch) in patches {
        bytes[*at as usize..*at as usize + patch.len()].copy_from_slice(patch);
    }
    match look(&bytes) {
        Found::Foreign(what) => assert_eq!(what, expect),
        found => panic!("{found:?} instead of {expect}"),
    }
}

#[test]
fn zeros_are_blank_at_every_length() {
    for len in [0, 1, 511, 512, 4096, 65536, MIB - 1, MIB, MIB + 1, MIB + TAIL - 1, 3 * MIB + 7] {
        assert_eq!(look(&vec![0; len as usize]), Found::Blank, "{len}");
    }
}

#[test]
fn foreign_things_are_called_by_their_names() {
    for (at, magic, name) in MAGICS {
        check(2 * MIB, &[(*at as u64, magic)], name);
    }
    check(2 * MIB, &[(512, b"LABELONE")], "LVM physical volume");
    check(2 * MIB, &[(130 << 10, &0x00ba_b10c_u64.to_be_bytes())], "zfs");
    check(2 * MIB, &[(450, b"\x83"), (510, b"\x55\xaa")], "MBR partition table");
    check(2 * MIB, &[(2 * MIB - 65536, b"\xfc\x4e\x2b\xa9")], "MD RAID member");
    check(2 * MIB + 61440, &[(2 * MIB - 65536, b"\xfc\x4e\x2b\xa9")], "MD RAID member");
    check(2 * MIB, &[(2 * MIB - 8192, b"\xfc\x4e\x2b\xa9")], "MD RAID member");
    check(2 * MIB, &[(2 * MIB - 512, b"EFI PART")], "GPT partition table");
    check(2 * MIB, &[(1024 + 0x38, b"\x53\xef")], "damaged ext superblock");
    check(2 * MIB, &[(0, b"XFSB")], "damaged xfs superblock");
    check(2 * MIB, &[(65600, b"_BHRfS_M")], "damaged btrfs superblock");
    check(2 * MIB, &[(65600, b"!BHRfS_M")], "btrfs whose formatting did not finish");
    check(2 * MIB, &[(77, b"?")], "unknown bytes at offset 77");
    check(3 * MIB, &[(3 * MIB - 1, b"?")], &format!("unknown bytes at offset {}", 3 * MIB - 1));
}

/// A superblock with just the fields that are read.
fn ext4(incompat: u32, compat: u32) -> Vec<u8> {
    let mut sb = vec![0; 0x200];
    sb[0x4..0x8].copy_from_slice(&512u32.to_le_bytes());
    sb[0x18..0x1c].copy_from_slice(&2u32.to_le_bytes());
    sb[0x20..0x24].copy_from_slice(&32768u32.to_le_bytes());
    sb[0x28..0x2c].copy_from_slice(&512u32.to_le_bytes());
    sb[0x38..0x3a].copy_from_slice(&[0x53, 0xef]);
    sb[0x5c..0x60].copy_from_slice(&compat.to_le_bytes());
    sb[0x60..0x64].copy_from_slice(&incompat.to_le_bytes());
    sb[0x68..0x78].copy_from_slice(&[0xab; 16]);
    sb[0xe0] = 8;
    sb[0x150..0x154].copy_from_slice(&1u32.to_le_bytes());
    sb
}

#[test]
fn an_ext4_superblock_says_its_size_and_whether_its_journal_is_dirty() {
    let found = |incompat: u32| {
        let mut bytes = vec![0; 2 * MIB as usize];
        bytes[1024..1024 + 0x200].copy_from_slice(&ext4(incompat, 0x4));
        look(&bytes)
    };
    let uuid = "abababab-abab-abab-abab-abababababab".to_owned();
    let fs = FsType::Ext4;
    assert_eq!(found(0x40), Found::Fs { fs, uuid: uuid.clone(), size: 2 * MIB, dirty: false, sector: 4096 });
    assert_eq!(found(0x44), Found::Fs { fs, uuid: uuid.clone(), size: 2 * MIB, dirty: true, sector: 4096 });
    let wide = ((1u64 << 32) + 512) * 4096;
    assert_eq!(found(0xc0), Found::Fs { fs, uuid, size: wide, dirty: false, sector: 4096 });
}

#[test]
fn older_ext_and_second_claims_are_foreign() {
    check(2 * MIB, &[(1024, &ext4(0, 0))], "ext2");
    check(2 * MIB, &[(1024, &ext4(0, 4))], "ext3");
    check(2 * MIB, &[(1024, &ext4(8, 0))], "external ext journal");
    let ext4 = ext4(0x40, 4);
    check(2 * MIB, &[(1024, &ext4), (0, b"LUKS\xba\xbe")], "ext4 and LUKS at once");
    check(2 * MIB, &[(1024, &ext4), (512, b"LABELONE")], "ext4 and LVM physical volume at once");
    check(
        2 * MIB,
        &[(1024, &ext4), (450, b"\x83"), (510, b"\x55\xaa")],
        "ext4 and MBR partition table at once",
    );
}

#[test]
fn what_a_workload_writes_inside_its_filesystem_does_not_make_it_foreign() {
    let mut bytes = vec![0; 2 * MIB as usize];
    bytes[1024..1024 + 0x200].copy_from_slice(&ext4(0x40, 4));
    let end = bytes.len();
    bytes[end - 512..end - 504].copy_from_slice(b"EFI PART");
    bytes[32769..32774].copy_from_slice(b"CD001");
    assert!(matches!(look(&bytes), Found::Fs { fs: FsType::Ext4, .. }));
}

/// Where a program of e2fsprogs, xfsprogs or btrfs-progs is, if it is.
fn program(name: &str) -> Option<std::path::PathBuf> {
    let dirs = ["/usr/sbin", "/sbin", "/usr/bin"];
    let found = dirs.iter().map(|dir| std::path::Path::new(dir).join(name)).find(|path| path.exists());
    if found.is_none() {
        eprintln!("not run: {name} is not installed");
    }
    found
}

fn made_by(name: &str, args: &[&str], size: u64) -> Option<Found> {
    let program = program(name)?;
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().set_len(size).unwrap();
    let output = std::process::Command::new(program).args(args).arg(file.path()).output().unwrap();
    assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    let file = file.as_file();
    Some(identify(size, &mut |at, buffer: &mut [u8]| file.read_exact_at(buffer, at)).unwrap())
}

#[test]
fn real_filesystems_are_recognised() {
    let uuid = "0b0b0b0b-1111-4222-8333-444444444444";
    let size = 512 * MIB;
    let cases: [(&str, &[&str], FsType, bool, u32); 5] = [
        ("mkfs.ext4", &["-q", "-F", "-b", "4096", "-U", uuid], FsType::Ext4, false, 4096),
        ("mkfs.ext4", &["-q", "-F", "-b", "1024", "-U", uuid], FsType::Ext4, false, 1024),
        ("mkfs.xfs", &["-q", "-f", "-m", &format!("uuid={uuid}")], FsType::Xfs, true, 512),
        (
            "mkfs.xfs",
            &["-q", "-f", "-s", "size=4096", "-m", &format!("uuid={uuid}")],
            FsType::Xfs,
            true,
            4096,
        ),
        ("mkfs.btrfs", &["-q", "-f", "-U", uuid], FsType::Btrfs, false, 4096),
    ];
    for (program, args, fs, dirty, sector) in cases {
        if let Some(found) = made_by(program, args, size) {
            assert_eq!(found, Found::Fs { fs, uuid: uuid.to_owned(), size, dirty, sector }, "{program}");
        }
    }
}

#[test]
fn real_things_that_are_not_ours_are_foreign() {
    let cases: [(&str, &[&str], &str); 5] = [
        ("mkfs.ext2", &["-q", "-F"], "ext2"),
        ("mkfs.ext3", &["-q", "-F"], "ext3"),
        ("mkfs.ext4", &["-q", "-F", "-O", "journal_dev"], "external ext journal"),
        ("mkswap", &[], "swap"),
        ("mkfs.vfat", &[], "vfat"),
    ];
    for (program, args, name) in cases {
        if let Some(found) = made_by(program, args, 64 * MIB) {
            assert_eq!(found, Found::Foreign(name.to_owned()), "{program}");
        }
    }
}

#[test]
fn a_read_that_fails_is_not_an_answer() {
    let mut reads = 0;
    let result = identify(4 * MIB, &mut |_, _| {
        reads += 1;
        if reads > 3 { Err("bad sector") } else { Ok(()) }
    });
    assert_eq!(result, Err("bad sector"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn one_byte_in_the_watched_areas_is_never_blank(extra in 0u64..3 * MIB, at in any::<u64>(), byte in 1u8..) {
        let len = 1 + extra;
        let watched = len.min(HEAD + TAIL);
        let at = at % watched;
        let at = if at < HEAD.min(len) { at } else { len - 1 - (at - HEAD) };
        let mut bytes = vec![0; len as usize];
        bytes[at as usize] = byte;
        prop_assert_ne!(look(&bytes), Found::Blank);
    }

    #[test]
    fn damaged_superblocks_never_panic_and_are_never_blank(
        which in 0usize..4, noise in proptest::collection::vec((0usize..0x200, any::<u8>()), 0..40), cut in 0usize..200_000,
    ) {
        let mut bytes = vec![0; 200_000];
        let at = [1024, 0, 65536, 0][which];
        bytes[at..at + 0x200].copy_from_slice(&ext4(0x40, 4));
        match which {
            1 => bytes[..4].copy_from_slice(b"XFSB"),
            2 => bytes[65600..65608].copy_from_slice(b"_BHRfS_M"),
            _ => {}
        }
        for (offset, byte) in noise {
            bytes[at + offset] = byte;
        }
        bytes.truncate(cut);
        let blank = bytes.iter().all(|&b| b == 0);
        prop_assert_eq!(look(&bytes) == Found::Blank, blank);
    }
}
