//! What a CreateVolume request asks for, and whether a volume that exists already is just that.
//!
//! A repeated request is compared field by field, and the first difference is named, so that a person sees why a name is
//! taken.

use super::api::{CreateVolume, SourceRef, named_fs};
use crate::volume::{AccessType, Error, FsType, Kind, Result, Source, Volume};

/// The capabilities of a request, added up.
pub(super) struct Wish {
    pub(super) mount: bool,
    pub(super) block: bool,
    pub(super) fs: Option<FsType>,
}

/// Adds up the capabilities of a request and refuses what no pool of one node can do.
pub(super) fn wish(request: &CreateVolume) -> Result<Wish> {
    let mut wish = Wish { mount: false, block: false, fs: named_fs(&request.capabilities) };
    for capability in &request.capabilities {
        match &capability.access {
            AccessType::Block => wish.block = true,
            AccessType::Mount { fs, .. } => {
                wish.mount = true;
                if fs.is_some() && *fs != wish.fs {
                    return Err(Error::invalid(
                        "volume_capabilities",
                        "ask for two different filesystems at once",
                    ));
                }
            }
        }
        if capability.mode.is_multi_node() && !capability.mode.is_read_only() {
            let why =
                "access modes with writers on several nodes need shared storage: use a SINGLE_NODE mode";
            return Err(Error::invalid("volume_capabilities.access_mode", why));
        }
    }
    Ok(wish)
}

/// Whether a volume of this name is what the request asks for; the first difference is named if not.
pub(super) fn same_request(existing: &Volume, request: &CreateVolume, wish: &Wish) -> Result<()> {
    let differs = |field: &str, have: String, want: String| {
        Err(Error::new(
            Kind::AlreadyExists,
            format!(
                "name: volume {:?} exists with another {field} ({have}, asked for {want}): use another name or the same request",
                existing.name
            ),
        ))
    };
    let range = &request.range;
    if !range.holds(existing.size) {
        let want = format!("{} to {} bytes", range.required, range.limit);
        return differs("capacity_range", format!("{} bytes", existing.size), want);
    }
    let source = existing.source.map(|source| match source {
        Source::Snapshot(id) => SourceRef::Snapshot(id.to_string()),
        Source::Volume(id) => SourceRef::Volume(id.to_string()),
    });
    if source != request.source {
        return differs("volume_content_source", format!("{source:?}"), format!("{:?}", request.source));
    }
    if (existing.mount, existing.block) != (wish.mount, wish.block) {
        let say = |mount, block| format!("mount {mount}, block {block}");
        return differs(
            "volume_capabilities",
            say(existing.mount, existing.block),
            say(wish.mount, wish.block),
        );
    }
    let asked_fs = wish.fs.or(request.params.fs);
    if wish.mount && source.is_none() && asked_fs.is_some_and(|fs| fs != existing.fs) {
        return differs("fsType", existing.fs.as_str().into(), asked_fs.map_or("", FsType::as_str).into());
    }
    if existing.mutable.provisioning != request.params.mutable.provisioning {
        let (have, want) = (existing.mutable.provisioning, request.params.mutable.provisioning);
        return differs("provisioning", format!("{have:?}"), format!("{want:?}"));
    }
    if existing.mkfs_options != request.params.mkfs_options {
        return differs(
            "mkfsOptions",
            existing.mkfs_options.join(" "),
            request.params.mkfs_options.join(" "),
        );
    }
    Ok(())
}
