//! From the wire's fields to the domain's values.
//!
//! protobuf lets everything be missing, numbers be negative and enums be anything, and says nothing of it. So every
//! field passes through here once: what comes out is complete and within its limits, and what does not is an
//! INVALID_ARGUMENT that names the field. Requests come in by value and their `secrets` are dropped on the spot: no
//! use case of this backend needs any, and what is not there cannot leak.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use crate::proto::csi as pb;
use crate::service::api::{Segments, SourceRef};
use crate::volume::names::{check_id, check_path};
use crate::volume::size::Range;
use crate::volume::{AccessMode, AccessType, Capability, Error, FsType, Kind, Result};

/// CSI's limit for the mount flags of one capability, and for a map.
const MAX_BYTES: usize = 4096;

/// The id of a volume, snapshot or group; it must be there.
pub(super) fn id(field: &str, id: String) -> Result<String> {
    check_id(field, &id)?;
    Ok(id)
}

/// An absolute path that must be there.
pub(super) fn path(field: &str, path: &str) -> Result<PathBuf> {
    Ok(check_path(field, path)?.into())
}

/// A path at which a volume is said to be. One that is not absolute is no error of form: nothing is there.
pub(super) fn place(field: &str, given: &str) -> Result<PathBuf> {
    // A slash changes nothing but that it is absolute: what is wrong besides is wrong all the same.
    let nowhere = !given.is_empty() && !given.starts_with('/');
    let checked = check_path(field, &if nowhere { format!("/{given}") } else { given.to_owned() })?;
    Ok(if nowhere { given.into() } else { checked.into() })
}

/// An absolute path, or an empty one where the request has none.
pub(super) fn optional_path(field: &str, given: &str) -> Result<PathBuf> {
    if given.is_empty() { Ok(PathBuf::new()) } else { path(field, given) }
}

/// A message that must be there.
pub(super) fn required<T>(field: &str, message: Option<T>) -> Result<T> {
    message.ok_or_else(|| missing(field))
}

fn missing(field: &str) -> Error {
    Error::invalid(field, "is missing")
}

/// A size range; a missing one says nothing.
pub(super) fn range(given: Option<pb::CapacityRange>) -> Result<Range> {
    let given = given.unwrap_or_default();
    Range::new("capacity_range", given.required_bytes, given.limit_bytes)
}

/// A size range that must say something.
pub(super) fn required_range(given: Option<pb::CapacityRange>) -> Result<Range> {
    let range = range(Some(required("capacity_range", given)?))?;
    if range == Range::default() {
        return Err(Error::invalid("capacity_range", "has neither required_bytes nor limit_bytes"));
    }
    Ok(range)
}

/// An offset in bytes.
pub(super) fn offset(field: &str, given: i64) -> Result<u64> {
    u64::try_from(given).map_err(|_| {
        Error::new(Kind::OutOfRange, format!("{field}: is {given}, but an offset cannot be negative"))
    })
}

/// A map whose keys nobody checks later.
pub(super) fn map(field: &str, given: &BTreeMap<String, String>) -> Result<()> {
    let bytes: usize = given.iter().map(|(key, value)| key.len() + value.len()).sum();
    if bytes > MAX_BYTES {
        return Err(Error::invalid(field, format!("holds {bytes} bytes; at most {MAX_BYTES} are taken")));
    }
    Ok(())
}

/// All ways of use; at least one.
pub(super) fn capabilities(given: Vec<pb::VolumeCapability>) -> Result<Vec<Capability>> {
    if given.is_empty() {
        return Err(missing("volume_capabilities"));
    }
    capabilities_if_any(given)
}

/// All ways of use, if any are said.
pub(super) fn capabilities_if_any(given: Vec<pb::VolumeCapability>) -> Result<Vec<Capability>> {
    let named = |(n, capability)| parse_capability(format_args!("volume_capabilities[{n}]"), capability);
    given.into_iter().enumerate().map(named).collect()
}

/// The one way of use, which must be there.
pub(super) fn capability(given: Option<pb::VolumeCapability>) -> Result<Capability> {
    parse_capability(format_args!("volume_capability"), required("volume_capability", given)?)
}

fn parse_capability(field: fmt::Arguments<'_>, given: pb::VolumeCapability) -> Result<Capability> {
    use pb::volume_capability::AccessType as Given;
    let mode = access_mode(&format!("{field}.access_mode"), given.access_mode)?;
    let access = match given.access_type {
        Some(Given::Block(_)) => AccessType::Block,
        Some(Given::Mount(mount)) => access_mount(&format!("{field}.mount"), mount)?,
        None => {
            return Err(Error::invalid(&format!("{field}.access_type"), "is missing; give block or mount"));
        }
    };
    Ok(Capability { access, mode })
}

fn access_mode(field: &str, given: Option<pb::volume_capability::AccessMode>) -> Result<AccessMode> {
    use pb::volume_capability::access_mode::Mode;
    let number = required(field, given)?.mode;
    let mode = Mode::try_from(number)
        .map_err(|_| Error::invalid(field, format!("{number} is not a mode of CSI")))?;
    Ok(match mode {
        Mode::Unknown => return Err(Error::invalid(field, "is unknown; say how the volume is used")),
        Mode::SingleNodeWriter => AccessMode::SingleNodeWriter,
        Mode::SingleNodeReaderOnly => AccessMode::SingleNodeReaderOnly,
        Mode::MultiNodeReaderOnly => AccessMode::MultiNodeReaderOnly,
        Mode::MultiNodeSingleWriter => AccessMode::MultiNodeSingleWriter,
        Mode::MultiNodeMultiWriter => AccessMode::MultiNodeMultiWriter,
        Mode::SingleNodeSingleWriter => AccessMode::SingleNodeSingleWriter,
        Mode::SingleNodeMultiWriter => AccessMode::SingleNodeMultiWriter,
    })
}

fn access_mount(field: &str, given: pb::volume_capability::MountVolume) -> Result<AccessType> {
    let fs = match given.fs_type.as_str() {
        "" => None,
        name => Some(FsType::parse(name).ok_or_else(|| {
            let known = FsType::ALL.map(FsType::as_str).join(", ");
            // Not quoted whole: it may be long, and it is the caller's.
            let shown: String = name.chars().take(40).collect();
            Error::invalid(
                &format!("{field}.fs_type"),
                format!("{shown:?} is not a filesystem of this driver; give one of {known}"),
            )
        })?),
    };
    if !given.volume_mount_group.is_empty() {
        let why = "is set, but this driver leaves groups to kubelet (VOLUME_MOUNT_GROUP is not advertised)";
        return Err(Error::invalid(&format!("{field}.volume_mount_group"), why));
    }
    // Flags may hold passwords: they are counted and never quoted.
    let flags = given.mount_flags;
    let bytes: usize = flags.iter().map(String::len).sum();
    if bytes > MAX_BYTES {
        let why = format!("hold {bytes} bytes; at most {MAX_BYTES} are taken");
        return Err(Error::invalid(&format!("{field}.mount_flags"), why));
    }
    if flags.iter().any(|flag| flag.is_empty() || flag.chars().any(char::is_control)) {
        return Err(Error::invalid(
            &format!("{field}.mount_flags"),
            "hold an empty flag or control characters",
        ));
    }
    Ok(AccessType::Mount { fs, flags })
}

/// What a new volume is to copy.
pub(super) fn source(given: Option<pb::VolumeContentSource>) -> Result<Option<SourceRef>> {
    use pb::volume_content_source::Type;
    let Some(given) = given else { return Ok(None) };
    match required("volume_content_source.type", given.r#type)? {
        Type::Snapshot(s) => id("volume_content_source.snapshot.snapshot_id", s.snapshot_id)
            .map(|id| Some(SourceRef::Snapshot(id))),
        Type::Volume(v) => {
            id("volume_content_source.volume.volume_id", v.volume_id).map(|id| Some(SourceRef::Volume(id)))
        }
    }
}

/// The ids by which snapshots are listed. What is not an id fits nothing; only what cannot even be a string of CSI is
/// refused.
pub(super) fn filter_ids(source_volume_id: &str, snapshot_id: &str) -> Result<()> {
    for (field, id) in [("source_volume_id", source_volume_id), ("snapshot_id", snapshot_id)] {
        if id.len() > 128 {
            return Err(Error::invalid(field, format!("is {} bytes long; at most 128 are taken", id.len())));
        }
    }
    Ok(())
}

/// The places from which an object must be reachable. `preferred` only orders these, and there is one place here.
pub(super) fn requisite(given: Option<pb::TopologyRequirement>) -> Vec<Segments> {
    given.unwrap_or_default().requisite.into_iter().map(|topology| topology.segments).collect()
}

#[cfg(test)]
#[path = "parse_tests.rs"]
mod tests;
