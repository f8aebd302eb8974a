//! What mkfs is told, and what the real programs make of it on sparse files.

use super::*;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, Stdio};

const TIB: u64 = 1 << 40;
const NEW: (u32, u32) = (6, 12);

fn plan(
    fs: FsType,
    size: u64,
    kernel: (u32, u32),
    program: Option<(u32, u32)>,
    user: &str,
) -> Result<String> {
    let user = mkfs_options::split(user);
    args(fs, &Target { size, kernel, program }, &user).map(|args| args.join(" "))
}

/// Whether each of `parts` stands in the arguments; with a `!` before it, that it does not.
#[track_caller]
fn check(fs: FsType, kernel: (u32, u32), program: Option<(u32, u32)>, user: &str, parts: &[&str]) {
    let args = plan(fs, GIB, kernel, program, user).unwrap();
    for part in parts {
        match part.strip_prefix('!') {
            Some(part) => assert!(!args.contains(part), "{part} is in: {args}"),
            None => assert!(args.contains(part), "{part} is not in: {args}"),
        }
    }
}

#[test]
fn features_follow_the_running_kernel() {
    check(FsType::Xfs, NEW, None, "", &["bigtime=1", "inobtcount=1", "nrext64=0", "reflink=1", "!parent"]);
    check(FsType::Xfs, (5, 9), None, "", &["bigtime=0", "inobtcount=0", "nrext64=0"]);
    check(FsType::Xfs, (5, 9), Some((5, 4)), "", &["!bigtime", "!inobtcount", "!nrext64"]);
    check(FsType::Xfs, NEW, Some((6, 13)), "", &["exchange=0", "-n parent=0"]);
    check(FsType::Btrfs, (5, 15), None, "", &["^block-group-tree"]);
    check(FsType::Btrfs, NEW, None, "", &["!block-group-tree"]);
    check(FsType::Ext4, (5, 9), Some((1, 45)), "", &["lazy_itable_init=1", "!assume", "!orphan_file"]);
}

#[test]
fn nothing_is_discarded_or_forced() {
    check(FsType::Ext4, NEW, None, "", &["nodiscard", "!-F"]);
    check(FsType::Xfs, NEW, None, "", &["-K", "!-f"]);
    check(FsType::Btrfs, NEW, None, "", &["-K", "!-f"]);
}

#[test]
fn what_the_user_chose_wins_and_the_rest_stays() {
    check(
        FsType::Ext4,
        NEW,
        None,
        "-i 8192 -b 1024 -m 1",
        &["-i 8192", "-b 1024", "-m 1", "!-m 0", "!-b 4096"],
    );
    check(
        FsType::Ext4,
        NEW,
        None,
        "-E stride=4 -O ^64bit,quota",
        &["nodiscard", "stride=4", "^64bit", ",quota", "!,64bit"],
    );
    check(FsType::Ext4, NEW, None, "-J size=32", &["-J size=32", "!size=8"]);
    check(
        FsType::Xfs,
        NEW,
        None,
        "-m reflink=0 -i size=1024",
        &["reflink=0", "!reflink=1", "size=1024", "crc=1", "nrext64=0"],
    );
    check(FsType::Btrfs, NEW, None, "-m single --csum xxhash", &["-m single", "--csum xxhash"]);
}

#[test]
fn what_cannot_be_made_is_refused_before_mkfs_runs() {
    let kind = |fs, size, user| plan(fs, size, (5, 4), None, user).unwrap_err().kind();
    assert_eq!(kind(FsType::Ext4, 16 * MIB - 1, ""), Kind::OutOfRange);
    assert_eq!(kind(FsType::Xfs, 299 * MIB, ""), Kind::OutOfRange);
    assert_eq!(kind(FsType::Ext4, GIB, "-F"), Kind::Invalid);
    let error = plan(FsType::Ext4, GIB, (5, 4), None, "-O orphan_file").unwrap_err().to_string();
    assert!(error.contains("orphan_file") && error.contains("5.15") && error.contains("5.4"), "{error}");
}

#[test]
fn a_template_is_named_after_all_that_makes_it() {
    let words = |text: &str| mkfs_options::split(text);
    let name = template_name(FsType::Ext4, GIB, &words("-q -b 4096"));
    assert_eq!(name, "ext4-1073741824-55874d7d223fbc1f");
    assert_ne!(name, template_name(FsType::Ext4, GIB, &words("-q -b 1024")));
    assert_ne!(name, template_name(FsType::Ext4, GIB, &words("-q -b4096")));
}

#[test]
fn versions_are_read_from_what_programs_print() {
    assert_eq!(program_version("mkfs.xfs version 6.1.0"), Some((6, 1)));
    assert_eq!(
        program_version("mke2fs 1.47.0 (5-Feb-2023)\n\tUsing EXT2FS Library version 1.47.0"),
        Some((1, 47))
    );
    assert_eq!(program_version("mkfs.btrfs, part of btrfs-progs v6.2"), Some((6, 2)));
    assert_eq!(program_version("mkfs.btrfs, part of btrfs-progs v6.17-rc1"), Some((6, 17)));
    assert_eq!(program_version("no such program"), None);
}

/// Runs the program of `fs` on a sparse file; `None` if it is not installed or the file cannot be that large here.
fn format(fs: FsType, size: u64, user: &str) -> Option<tempfile::NamedTempFile> {
    let name = format!("mkfs.{}", fs.as_str());
    let dirs = ["/usr/sbin", "/sbin"].map(|dir| Path::new(dir).join(&name));
    let Some(program) = dirs.iter().find(|path| path.exists()) else {
        eprintln!("not run: {name} is not installed");
        return None;
    };
    let file = tempfile::NamedTempFile::new().unwrap();
    if let Err(error) = file.as_file().set_len(size) {
        eprintln!("not run: a file of {size} bytes cannot be made here: {error}");
        return None;
    }
    let printed = Command::new(program).arg("-V").output().unwrap();
    let printed = [printed.stdout, printed.stderr].concat();
    let program_version = program_version(&String::from_utf8_lossy(&printed));
    assert!(program_version.is_some(), "{name} -V says no version");
    let target = Target { size, kernel: NEW, program: program_version };
    let args = args(fs, &target, &mkfs_options::split(user)).unwrap();
    let output = Command::new(program).args(&args).arg(file.path()).stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{name} {args:?} on {size} bytes: {said}");
    Some(file)
}

/// What `df` shows as the size of an ext4: all blocks but those that mkfs counted as overhead. In 1/10000 of `size`.
fn df_share(file: &tempfile::NamedTempFile, size: u64) -> u64 {
    let mut sb = [0; 1024];
    file.as_file().read_exact_at(&mut sb, 1024).unwrap();
    let u32_at = |at: usize| u64::from(u32::from_le_bytes(sb[at..at + 4].try_into().unwrap()));
    let blocks = u32_at(0x4) | u32_at(0x150) << 32;
    let (overhead, reserved) = (u32_at(0x248), u32_at(0x8));
    assert!(overhead > 0, "mkfs wrote no overhead");
    assert_eq!(reserved, 0, "blocks are kept for root");
    u64::try_from(u128::from((blocks - overhead) * (1024 << u32_at(0x18))) * 10_000 / u128::from(size))
        .unwrap()
}

#[test]
fn a_fresh_ext4_gives_at_least_97_percent_of_what_was_asked_for() {
    let odd = GIB + 12 * KIB;
    let small = [48, 64, 127, 128, 255, 256, 511, 512].map(|n| n * MIB);
    let large = [odd, 8 * GIB, 10 * GIB, 100 * GIB, TIB];
    for size in small.into_iter().chain(large) {
        let Some(file) = format(FsType::Ext4, size, "") else { continue };
        let share = df_share(&file, size);
        assert!(share >= 9700, "{size} bytes: df shows {share} of 10000");
    }
}

#[test]
fn the_smallest_ext4_loses_little_but_the_journal_that_the_kernel_demands() {
    let size = min_size(FsType::Ext4);
    let Some(file) = format(FsType::Ext4, size, "") else { return };
    let share = df_share(&file, size) + MIB * 10_000 / size;
    assert!(share >= 9900, "df shows {share} of 10000 next to the journal");
}

#[test]
fn the_smallest_sizes_are_those_of_the_programs() {
    for fs in FsType::ALL {
        format(fs, min_size(fs), "");
    }
}

#[test]
fn a_thin_image_stays_thin_through_mkfs() {
    use std::os::unix::fs::MetadataExt;
    let Some(file) = format(FsType::Ext4, 10 * GIB, "") else { return };
    let taken = file.as_file().metadata().unwrap().blocks() * 512;
    assert!(taken < 16 * MIB, "mkfs.ext4 took {taken} bytes");
}

#[test]
fn every_allowed_option_is_one_that_the_program_takes() {
    for user in [
        "-i 8192 -m 1 -I 512 -b 4096 -J size=64 -E stride=4,stripe_width=16,lazy_itable_init=0",
        "-O ^64bit,quota,project",
        "-O inline_data,large_dir,ea_inode,verity,fast_commit,metadata_csum_seed",
    ] {
        format(FsType::Ext4, GIB, user);
    }
    format(
        FsType::Xfs,
        GIB,
        "-i size=1024,maxpct=10 -b size=4096 -m reflink=0,bigtime=1,finobt=1,crc=1 -l size=64m -d agcount=4,su=64k,sw=4",
    );
    for user in ["-m dup -d single -n 16k --csum xxhash", "-m single -n 4096 --csum sha256", "--csum blake2"]
    {
        format(FsType::Btrfs, GIB, user);
    }
}

#[test]
fn xfs_and_btrfs_programs_refuse_to_overwrite_a_filesystem() {
    for fs in [FsType::Xfs, FsType::Btrfs] {
        let Some(file) = format(fs, GIB, "") else { continue };
        let program = format!("mkfs.{}", fs.as_str());
        let target = Target { size: GIB, kernel: NEW, program: None };
        let args = args(fs, &target, &[]).unwrap();
        let again = Command::new(&program).args(args).arg(file.path()).stdin(Stdio::null()).output().unwrap();
        assert!(!again.status.success(), "{program} overwrote a filesystem");
    }
}

#[test]
fn inode_numbers_of_the_largest_volumes_fit_in_32_bits() {
    for size in [4 * TIB, 16 * TIB, 64 * TIB, 1024 * TIB] {
        let args = plan(FsType::Ext4, size, NEW, None, "").unwrap();
        let mut words = args.split(' ').skip_while(|word| *word != "-i").skip(1);
        let ratio: u64 = words.next().unwrap().parse().unwrap();
        assert!(size / ratio < 1 << 32, "{args}");
    }
}
