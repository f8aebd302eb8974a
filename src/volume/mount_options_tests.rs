//! Tables and properties of the mount options.

use super::*;
use crate::volume::Kind;
use proptest::prelude::*;

fn plan(fs: FsType, flags: &[&str]) -> Result<MountPlan> {
    super::check(fs, &flags.iter().map(|flag| (*flag).to_owned()).collect::<Vec<_>>())
}

/// `names` is what the refusal must say; `None` means that the flags are allowed.
#[track_caller]
fn check(fs: FsType, flags: &[&str], names: Option<&str>) {
    match (plan(fs, flags), names) {
        (Ok(_), None) => {}
        (Ok(plan), Some(_)) => panic!("{flags:?} was allowed as {plan:?}"),
        (Err(error), None) => panic!("{flags:?} was refused: {error}"),
        (Err(error), Some(names)) => {
            assert_eq!(error.kind(), Kind::Invalid);
            assert!(error.to_string().contains(names), "{error} does not say {names}");
        }
    }
}

#[test]
fn listed_options_become_keys_and_values() {
    let found =
        plan(FsType::Ext4, &["ro", "noatime", "nodev", "commit=30", "errors=remount-ro", "noatime"]).unwrap();
    let options = vec![("commit".into(), Some("30".into())), ("errors".into(), Some("remount-ro".into()))];
    assert_eq!(found, MountPlan { options, flags: vec![GenericFlag::NoAtime], read_only: true });
    assert_eq!(plan(FsType::Xfs, &[]).unwrap(), MountPlan::default());
    check(
        FsType::Ext4,
        &["data=journal", "nodelalloc", "journal_checksum", "init_itable=10", "discard"],
        None,
    );
    check(FsType::Xfs, &["logbsize=256k", "logbufs=8", "allocsize=64m", "nouuid", "inode64", "noexec"], None);
    check(
        FsType::Btrfs,
        &["compress=zstd:3", "discard=async", "ssd", "space_cache=v2", "max_inline=2048"],
        None,
    );
    check(FsType::Btrfs, &["compress", "discard", "sync", "dirsync", "lazytime", "strictatime"], None);
}

#[test]
fn whatever_is_not_listed_is_refused_by_its_place() {
    check(FsType::Ext4, &["noatime", "nouuid"], Some("mount_flags[1]"));
    check(FsType::Xfs, &["data=ordered"], Some("mount_flags[0]"));
    check(FsType::Ext4, &["suid"], Some("suid"));
    check(FsType::Ext4, &["dev"], Some("dev"));
    check(FsType::Ext4, &["remount"], Some("remount"));
    check(FsType::Ext4, &["bind"], Some("bind"));
    check(FsType::Ext4, &["loop"], Some("loop"));
    check(FsType::Ext4, &["offset=4096"], Some("offset"));
    check(FsType::Ext4, &["source=/dev/sda"], Some("source"));
    check(FsType::Ext4, &["errors=panic"], Some("errors=panic"));
    check(FsType::Ext4, &["barrier=0"], Some("barrier"));
    check(FsType::Btrfs, &["subvol=/"], Some("subvol"));
    check(FsType::Btrfs, &["device=/dev/sda"], Some("device"));
    check(FsType::Btrfs, &["compress=zstd:16"], Some("zstd"));
    check(FsType::Btrfs, &["compress=lzo:1"], Some("zstd"));
    check(FsType::Ext4, &["-o"], Some("mount_flags[0]"));
    check(FsType::Ext4, &["noatime=1"], Some("mount_flags[0]"));
    check(FsType::Ext4, &["RO"], Some("mount_flags[0]"));
}

#[test]
fn nothing_can_be_hidden_inside_a_flag() {
    check(FsType::Ext4, &["noatime,suid"], Some("comma"));
    check(FsType::Ext4, &["x,source=/"], Some("comma"));
    check(FsType::Ext4, &["commit=5,dev"], Some("comma"));
    check(FsType::Ext4, &["commit=5=6"], Some("commit"));
    check(FsType::Ext4, &["commit="], Some("commit"));
    check(FsType::Ext4, &["=1"], Some("mount_flags[0]"));
    check(FsType::Ext4, &[""], Some("empty"));
    check(FsType::Ext4, &["discard=1"], Some("takes no value"));
    check(FsType::Ext4, &["no\0atime"], Some("control"));
    check(FsType::Ext4, &["noatime\n"], Some("control"));
    check(FsType::Ext4, &["commit= 5"], Some("white space"));
    check(FsType::Ext4, &[&"x".repeat(4097)], Some("4096"));
    check(FsType::Ext4, &["ro"; 65], Some("64"));
    check(FsType::Ext4, &["commit=99999999999999999999999"], Some("commit"));
}

#[test]
fn contradictions_are_refused() {
    check(FsType::Ext4, &["ro", "rw"], Some("ro and rw"));
    check(FsType::Ext4, &["noatime", "relatime"], Some("noatime"));
    check(FsType::Ext4, &["discard", "nodiscard"], Some("nodiscard"));
    check(FsType::Ext4, &["commit=5", "commit=6"], Some("twice"));
    check(FsType::Ext4, &["commit=5", "commit=5"], None);
    check(FsType::Btrfs, &["compress", "compress-force=zstd"], Some("compress-force"));
}

#[test]
fn a_label_is_taken_with_and_without_quotes_and_nothing_rides_on_it() {
    let given = plan(FsType::Xfs, &["context=\"system_u:object_r:container_file_t:s0:c1,c2\""]).unwrap();
    let label = "system_u:object_r:container_file_t:s0:c1,c2".to_owned();
    assert_eq!(given.options, [("context".to_owned(), Some(label))]);
    check(FsType::Ext4, &["context=u:r:t"], None);
    check(FsType::Ext4, &["context=u:r:t:s0-s15:c0.c1023"], None);
    for bad in [
        "u:r",
        "u:r:t:s0,suid",
        "u:r:t:s0:c1,suid",
        "\"u:r:t:s0",
        "u:r:t:s0\",dev",
        "",
        "u:r:t:s0:c1,",
        "u::t:s0",
    ] {
        check(FsType::Ext4, &[&format!("context={bad}")], Some("context"));
    }
    check(FsType::Ext4, &["context"], Some("context"));
    check(FsType::Ext4, &["fscontext=u:r:t:s0"], Some("fscontext"));
}

#[test]
fn a_refusal_does_not_repeat_what_may_be_secret() {
    for flag in
        ["s3cr3t", "password=s3cr3t", "commit=s3cr3t", "context=s3cr3t", "compress=s3cr3t", "s3cr3t,x"]
    {
        let error = plan(FsType::Btrfs, &[flag]).unwrap_err();
        assert!(!error.to_string().contains("s3cr3t"), "{error}");
    }
}

proptest! {
    #[test]
    fn what_is_allowed_is_listed_and_plain(
        flags in proptest::collection::vec("[a-z_-]{1,12}(=[a-z0-9:,\"]{0,12})?|\\PC{0,6}|(no)?(atime|discard|exec)|commit=[0-9]{1,3}", 0..4),
    ) {
        for fs in FsType::ALL {
            for (key, value) in super::check(fs, &flags).into_iter().flat_map(|plan| plan.options) {
                prop_assert!(options_of(fs).iter().chain(COMMON).any(|(known, _)| *known == key));
                let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_:.,".contains(&b);
                prop_assert!(value.unwrap_or_default().bytes().all(plain));
            }
        }
    }
}
