//! Tables and properties of the parameters.

use super::*;
use crate::volume::Kind;
use proptest::prelude::*;

fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

fn create(pairs: &[(&str, &str)]) -> Result<CreateParams> {
    CreateParams::parse(&map(pairs), &BTreeMap::new())
}

/// A value that each documented key takes.
fn sample(key: &str) -> &'static str {
    match key {
        "pool" => "fast",
        "fsType" => "xfs",
        "mkfsOptions" => "-i size=512",
        "provisioning" => "thick",
        "discard" | "allowBlockToFilesystem" | "allowRemoteCopy" | "directIO" => "false",
        "layout" => "image",
        "readAheadKiB" => "128",
        "size" => "5Gi",
        _ => panic!("{key} is documented but has no sample: does parse know it?"),
    }
}

/// The error names the key, and is Invalid.
#[track_caller]
fn check<T: std::fmt::Debug>(result: Result<T>, names: &[&str]) {
    let error = result.expect_err("was accepted");
    assert_eq!(error.kind(), Kind::Invalid, "{error}");
    for name in names {
        assert!(error.to_string().contains(name), "{error} does not name {name}");
    }
}

#[test]
fn every_documented_key_is_read_where_it_is_documented_and_nowhere_else() {
    for doc in DOCS {
        let given = map(&[(doc.key, sample(doc.key))]);
        let results = [
            (
                Place::StorageClass,
                CreateParams::parse(&given, &BTreeMap::new()).map(|p| p != create(&[]).unwrap()),
            ),
            (Place::AttributesClass, MutableParams::parse(&given).map(|p| p != MutablePatch::default())),
            (
                Place::Inline,
                InlineParams::parse(&given).map(|p| p != InlineParams::parse(&map(&[])).unwrap()),
            ),
            (Place::SnapshotClass, SnapshotParams::parse(&given).map(|_| true)),
        ];
        for (place, result) in results {
            match doc.places.contains(&place) {
                // Each sample but the ones that say the default must change something.
                true => assert!(
                    result.unwrap() || sample(doc.key) == "false",
                    "{} is documented for {place:?} but has no effect",
                    doc.key
                ),
                false => check(result, &[doc.key]),
            }
        }
        assert!(!doc.meaning.is_empty() && !doc.values.is_empty() && !doc.default.is_empty());
    }
}

#[test]
fn nothing_given_means_the_documented_defaults() {
    let params = create(&[]).unwrap();
    assert_eq!(params, CreateParams { discard: true, ..CreateParams::default() });
    assert_eq!(params.fs_for(None, FsType::Ext4).unwrap(), FsType::Ext4);
    assert_eq!(InlineParams::parse(&map(&[])).unwrap().1, DEFAULT_SIZE);
}

#[test]
fn all_parameters_together_are_read() {
    let params = create(&[
        ("pool", "fast"),
        ("fsType", "xfs"),
        ("csi.storage.k8s.io/fstype", "xfs"),
        ("mkfsOptions", "  -i size=512   -m reflink=1 "),
        ("provisioning", "thick"),
        ("layout", "image"),
        ("readAheadKiB", "0"),
        ("directIO", "true"),
        ("allowBlockToFilesystem", "true"),
        ("csi.storage.k8s.io/pvc/name", "data"),
        ("csi.storage.k8s.io/pvc/namespace", "shop"),
        ("csi.storage.k8s.io/pv/name", "pvc-1"),
    ])
    .unwrap();
    assert_eq!(params.pool.as_deref(), Some("fast"));
    assert_eq!(params.fs_for(Some(FsType::Xfs), FsType::Ext4).unwrap(), FsType::Xfs);
    assert_eq!(params.mkfs_options, ["-i", "size=512", "-m", "reflink=1"]);
    let mutable =
        Mutable { provisioning: Provisioning::Thick, read_ahead_kib: Some(0), direct_io: Some(true) };
    assert_eq!(params.mutable, mutable);
    assert!(!params.discard, "thick keeps its space");
    assert_eq!(params.layout, Some(Layout::Image));
    assert!(params.trust_raw);
    assert_eq!(params.claim, Some(Claim { name: "data".into(), namespace: "shop".into() }));
}

#[test]
fn mutable_parameters_win_over_those_of_the_class() {
    let class = map(&[("provisioning", "thick"), ("directIO", "true")]);
    let params =
        CreateParams::parse(&class, &map(&[("provisioning", "thin"), ("directIO", "auto")])).unwrap();
    assert_eq!(params.mutable, Mutable::default());
    assert!(params.discard);
}

#[test]
fn a_patch_changes_only_what_it_names() {
    let before =
        Mutable { provisioning: Provisioning::Thick, read_ahead_kib: Some(64), direct_io: Some(true) };
    assert_eq!(MutableParams::parse(&map(&[])).unwrap().apply(&before), before);
    let patch = MutableParams::parse(&map(&[("readAheadKiB", "auto")])).unwrap();
    assert_eq!(patch.apply(&before), Mutable { read_ahead_kib: None, ..before.clone() });
    let patch = MutableParams::parse(&map(&[("provisioning", "thin")])).unwrap();
    assert_eq!(patch.apply(&before), Mutable { provisioning: Provisioning::Thin, ..before });
}

#[test]
fn bad_parameters_are_refused_by_name() {
    check(create(&[("pol", "fast")]), &["parameters.pol", "pool", "mkfsOptions"]);
    check(create(&[("fstype", "xfs")]), &["parameters.fstype", "did you mean fsType"]);
    check(create(&[("fsType", "zfs")]), &["parameters.fsType", "ext4"]);
    check(
        create(&[("fsType", "xfs"), ("csi.storage.k8s.io/fstype", "ext4")]),
        &["fsType", "csi.storage.k8s.io/fstype"],
    );
    check(create(&[("fsType", "ext4"), ("mkfsOptions", "-d /etc")]), &["mkfsOptions", "-d"]);
    check(create(&[("provisioning", "Thick")]), &["parameters.provisioning", "thin or thick"]);
    check(create(&[("provisioning", "thick"), ("discard", "true")]), &["parameters.discard"]);
    check(create(&[("discard", "yes")]), &["parameters.discard", "true or false"]);
    check(create(&[("layout", "subvolume"), ("fsType", "xfs")]), &["parameters.layout", "xfs"]);
    check(create(&[("layout", "subvolume"), ("mkfsOptions", "-m dup")]), &["parameters.mkfsOptions"]);
    check(create(&[("readAheadKiB", "1048577")]), &["parameters.readAheadKiB", "1048576"]);
    check(create(&[("readAheadKiB", "-1")]), &["parameters.readAheadKiB"]);
    check(create(&[("readAheadKiB", "99999999999999999999")]), &["parameters.readAheadKiB"]);
    check(create(&[("directIO", "maybe")]), &["parameters.directIO", "auto"]);
    check(create(&[("pool", "")]), &["parameters.pool", "empty"]);
    check(create(&[("pool", "a\nb")]), &["parameters.pool", "control"]);
    check(create(&[("pool", &"x".repeat(4097))]), &["parameters.pool", "4096"]);
    check(create(&[(&"k".repeat(257), "x")]), &["parameters", "256"]);
    check(create(&[("a\0b", "x")]), &["parameters", "control"]);
    check(create(&[("size", "1Gi")]), &["parameters.size", "does not belong here"]);
    let many: BTreeMap<_, _> = (0..65).map(|n| (format!("csi.storage.k8s.io/{n}"), String::new())).collect();
    check(CreateParams::parse(&many, &BTreeMap::new()), &["parameters", "64"]);
}

#[test]
fn mutable_parameters_refuse_what_cannot_change() {
    check(MutableParams::parse(&map(&[("pool", "fast")])), &["mutable_parameters.pool", "cannot change"]);
    check(MutableParams::parse(&map(&[("color", "red")])), &["mutable_parameters.color", "provisioning"]);
}

#[test]
fn snapshot_classes_take_only_the_keys_of_kubernetes() {
    let given = map(&[
        ("csi.storage.k8s.io/volumesnapshot/name", "monday"),
        ("csi.storage.k8s.io/volumesnapshot/namespace", "shop"),
        ("csi.storage.k8s.io/volumesnapshotcontent/name", "snapcontent-1"),
    ]);
    let claim = SnapshotParams::parse(&given).unwrap().claim.unwrap();
    assert_eq!((claim.name.as_str(), claim.namespace.as_str()), ("monday", "shop"));
    check(SnapshotParams::parse(&map(&[("pool", "fast")])), &["parameters.pool"]);
}

#[test]
fn inline_volumes_take_a_size_and_the_keys_of_kubelet() {
    let given = map(&[
        ("size", "1.5Gi"),
        ("csi.storage.k8s.io/ephemeral", "true"),
        ("csi.storage.k8s.io/pod.name", "web-0"),
        ("csi.storage.k8s.io/pod.namespace", "shop"),
        ("csi.storage.k8s.io/pod.uid", "1-2-3"),
        ("csi.storage.k8s.io/serviceAccount.name", "default"),
        ("csi.storage.k8s.io/serviceAccount.tokens", &"t".repeat(10_000)),
        ("storage.kubernetes.io/csiProvisionerIdentity", "1-2-csi"),
    ]);
    let (params, size) = InlineParams::parse(&given).unwrap();
    assert_eq!(size, 3 << 29);
    assert_eq!(params.claim.unwrap().name, "web-0");
    assert!(InlineParams::is_inline(&given).unwrap());
    assert!(!InlineParams::is_inline(&map(&[])).unwrap());
    check(InlineParams::is_inline(&map(&[("csi.storage.k8s.io/ephemeral", "1")])), &["ephemeral"]);
    for size in ["10%", "0", "-1", "1e9", "99999999Pi"] {
        check(InlineParams::parse(&map(&[("size", size)])), &["volume_context.size"]);
    }
    check(InlineParams::parse(&map(&[("allowBlockToFilesystem", "true")])), &["allowBlockToFilesystem"]);
}

#[test]
fn a_filesystem_that_two_places_name_differently_is_refused() {
    let params = create(&[("fsType", "xfs")]).unwrap();
    check(params.fs_for(Some(FsType::Ext4), FsType::Ext4), &["xfs", "ext4"]);
    let params = create(&[("mkfsOptions", "-m dup")]).unwrap();
    check(params.fs_for(None, FsType::Ext4), &["mkfsOptions", "-m dup"]);
    assert_eq!(params.fs_for(Some(FsType::Btrfs), FsType::Ext4).unwrap(), FsType::Btrfs);
}

#[test]
fn no_message_repeats_a_token() {
    let secret = "s3cr3t".repeat(20_000);
    let given = map(&[("csi.storage.k8s.io/serviceAccount.tokens", secret.as_str())]);
    let error = InlineParams::parse(&given).unwrap_err();
    assert!(!error.to_string().contains("s3cr3t"));
}

proptest! {
    #[test]
    fn any_map_gives_an_answer_and_not_a_panic(
        pairs in proptest::collection::btree_map(
            prop_oneof![
                proptest::sample::select(DOCS.iter().map(|d| d.key.to_owned()).collect::<Vec<_>>()),
                "csi.storage.k8s.io/[a-z./]{1,20}",
                "\\PC{0,10}",
            ],
            prop_oneof!["\\PC{0,20}", "true|false|auto|thick|thin|xfs|ext4|[0-9]{1,12}(Gi|%)?", "(-[a-z] [a-z0-9=,]{1,8} ?){0,3}"],
            0..5,
        ),
    ) {
        let results = [
            CreateParams::parse(&pairs, &BTreeMap::new()).err(),
            CreateParams::parse(&BTreeMap::new(), &pairs).err(),
            MutableParams::parse(&pairs).err(),
            SnapshotParams::parse(&pairs).err(),
            InlineParams::parse(&pairs).err(),
        ];
        for error in results.into_iter().flatten() {
            prop_assert_eq!(error.kind(), Kind::Invalid);
        }
    }
}
