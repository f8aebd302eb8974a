//! Tests of the module beside this file.

use super::*;
use pb::volume_capability::access_mode::Mode;
use pb::volume_capability::{AccessMode as GivenMode, AccessType as GivenType, BlockVolume, MountVolume};
use pb::volume_content_source::{SnapshotSource, Type as SourceType, VolumeSource};

fn mount(fs_type: &str) -> MountVolume {
    MountVolume { fs_type: fs_type.to_owned(), ..MountVolume::default() }
}

fn wire(access: Option<GivenType>, mode: Option<i32>) -> pb::VolumeCapability {
    pb::VolumeCapability { access_type: access, access_mode: mode.map(|mode| GivenMode { mode }) }
}

#[track_caller]
fn refused<T: std::fmt::Debug>(result: Result<T>, kind: Kind, field: &str) {
    let error = result.unwrap_err();
    assert_eq!(error.kind(), kind, "{error}");
    assert!(error.to_string().starts_with(&format!("{field}: ")), "{error}");
    assert!(error.to_string().len() < 400, "{error}");
}

#[test]
fn every_mode_of_csi_is_read_and_no_other_number_is() {
    let mut read = Vec::new();
    for number in -1..20 {
        let given = wire(Some(GivenType::Block(BlockVolume {})), Some(number));
        match capability(Some(given)) {
            Ok(capability) => read.push((number, capability.mode)),
            result => refused(result, Kind::Invalid, "volume_capability.access_mode"),
        }
    }
    assert_eq!(read.iter().map(|(number, _)| *number).collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6, 7]);
    assert_eq!(read.first(), Some(&(Mode::SingleNodeWriter as i32, AccessMode::SingleNodeWriter)));
    assert_eq!(read.last(), Some(&(Mode::SingleNodeMultiWriter as i32, AccessMode::SingleNodeMultiWriter)));
}

#[test]
fn a_capability_that_is_not_whole_is_refused_with_the_place_of_the_hole() {
    let block = || Some(GivenType::Block(BlockVolume {}));
    refused(capability(None), Kind::Invalid, "volume_capability");
    refused(capability(Some(wire(None, Some(1)))), Kind::Invalid, "volume_capability.access_type");
    refused(capability(Some(wire(block(), None))), Kind::Invalid, "volume_capability.access_mode");
    refused(capabilities(vec![]), Kind::Invalid, "volume_capabilities");
    let second = vec![wire(block(), Some(1)), wire(None, Some(1))];
    refused(capabilities(second), Kind::Invalid, "volume_capabilities[1].access_type");
    assert_eq!(capabilities_if_any(vec![]).unwrap(), []);
}

#[test]
fn a_filesystem_is_one_of_ours_or_left_to_us() {
    let check = |given: &str| {
        let read = capability(Some(wire(Some(GivenType::Mount(mount(given))), Some(1))))?;
        match read.access {
            AccessType::Mount { fs, .. } => Ok(fs),
            AccessType::Block => panic!("a mount was read as block"),
        }
    };
    assert_eq!(check("").unwrap(), None);
    assert_eq!(check("xfs").unwrap(), Some(FsType::Xfs));
    for bad in ["XFS", "ntfs", "ext4 ", "../ext4", "\0", &"x".repeat(10_000)] {
        refused(check(bad), Kind::Invalid, "volume_capability.mount.fs_type");
    }
}

#[test]
fn mount_flags_are_bounded_and_never_quoted() {
    let check = |flags: Vec<String>| {
        let mount = MountVolume { mount_flags: flags, ..MountVolume::default() };
        let result = capability(Some(wire(Some(GivenType::Mount(mount)), Some(1))));
        assert!(!format!("{result:?}").contains("marker") || result.is_ok(), "{result:?}");
        refused(result, Kind::Invalid, "volume_capability.mount.mount_flags");
    };
    check(vec!["password=marker\n".to_owned()]);
    check(vec![String::new()]);
    check(vec!["marker".repeat(1000)]);
}

#[test]
fn a_group_for_the_mount_is_refused_because_it_is_not_advertised() {
    let mount = MountVolume { volume_mount_group: "1000".to_owned(), ..MountVolume::default() };
    let result = capability(Some(wire(Some(GivenType::Mount(mount)), Some(1))));
    refused(result, Kind::Invalid, "volume_capability.mount.volume_mount_group");
}

#[test]
fn a_range_is_two_sizes_that_fit_each_other() {
    let given = |required_bytes, limit_bytes| Some(pb::CapacityRange { required_bytes, limit_bytes });
    assert_eq!(range(None).unwrap(), Range::default());
    assert_eq!(range(given(5, 9)).unwrap(), Range { required: 5, limit: 9 });
    refused(range(given(-1, 0)), Kind::OutOfRange, "capacity_range.required_bytes");
    refused(range(given(0, i64::MIN)), Kind::OutOfRange, "capacity_range.limit_bytes");
    refused(range(given(2, 1)), Kind::Invalid, "capacity_range");
    refused(required_range(None), Kind::Invalid, "capacity_range");
    refused(required_range(given(0, 0)), Kind::Invalid, "capacity_range");
    refused(offset("starting_offset", -1), Kind::OutOfRange, "starting_offset");
}

#[test]
fn a_source_is_one_of_two_kinds_with_an_id() {
    let check = |kind: Option<SourceType>| source(Some(pb::VolumeContentSource { r#type: kind }));
    assert_eq!(source(None).unwrap(), None);
    let snapshot = SnapshotSource { snapshot_id: "s-1".to_owned() };
    assert_eq!(
        check(Some(SourceType::Snapshot(snapshot))).unwrap(),
        Some(SourceRef::Snapshot("s-1".to_owned()))
    );
    refused(check(None), Kind::Invalid, "volume_content_source.type");
    let volume = VolumeSource { volume_id: "../x".to_owned() };
    refused(check(Some(SourceType::Volume(volume))), Kind::Invalid, "volume_content_source.volume.volume_id");
}

#[test]
fn a_map_is_bounded() {
    let one = |len: usize| BTreeMap::from([("k".to_owned(), "v".repeat(len))]);
    assert!(map("volume_context", &one(4095)).is_ok());
    refused(map("volume_context", &one(4096)), Kind::Invalid, "volume_context");
}
