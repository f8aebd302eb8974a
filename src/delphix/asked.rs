//! What a CreateVolume request asks for, and whether a volume that exists already is just that.
//!
//! A tag cannot hold a whole request, and the first difference has to be named for the person who wonders why a name is
//! taken. So the tag holds a short digest of each field that was given.

use std::collections::BTreeMap;

use super::api::{CreateVolume, SourceRef};
use super::tags::Record;
use crate::volume::digest::digest;
use crate::volume::{AccessType, Error, Kind, Result};

/// The digest of each field that the request gives, as `field:digest` and blanks.
pub(super) fn digests(request: &CreateVolume) -> String {
    let mut words = BTreeMap::new();
    if let Some(source) = &request.source {
        let text = match source {
            SourceRef::Snapshot(id) => format!("snapshot {id}"),
            SourceRef::Volume(id) => format!("volume {id}"),
        };
        words.insert("volume_content_source".to_owned(), text);
    }
    for (key, value) in request.params.written() {
        words.insert(format!("parameters.{key}"), value.clone());
    }
    let word = |(field, value): (&String, &String)| {
        format!("{field}:{:08x}", digest([value.as_str()]) & 0xffff_ffff)
    };
    words.iter().map(word).collect::<Vec<_>>().join(" ")
}

/// Refuses what a Delphix volume cannot be.
pub(super) fn check(request: &CreateVolume) -> Result<()> {
    if request.capabilities.is_empty() {
        return Err(Error::invalid("volume_capabilities", "is missing"));
    }
    match request.capabilities.iter().find_map(super::list::unsuitable) {
        Some(why) => Err(Error::invalid("volume_capabilities", why)),
        None => Ok(()),
    }
}

/// Why a volume cannot be had in this way, if it cannot.
pub(super) fn unsuitable_access(access: &AccessType) -> Option<String> {
    match access {
        AccessType::Block => {
            Some("access_type: a Delphix volume is files over NFS, not a block device".into())
        }
        AccessType::Mount { fs: Some(fs), .. } => Some(format!(
            "fs_type: is {}, but a Delphix volume comes over NFS and is not formatted: leave it out",
            fs.as_str()
        )),
        AccessType::Mount { fs: None, .. } => None,
    }
}

/// Whether a volume of this name is what the request asks for; the first difference is named if not.
pub(super) fn same_request(existing: &Record, request: &CreateVolume) -> Result<()> {
    let differs = |field: &str, more: String| {
        let text = format!(
            "name: volume {:?} exists with another {field}{more}: use another name or the same request",
            existing.name
        );
        Err(Error::new(Kind::AlreadyExists, text))
    };
    if existing.adopted {
        return differs("origin", " (it was adopted, not made)".to_owned());
    }
    let split = |text: &str| -> BTreeMap<String, String> {
        let pairs = text.split(' ').filter_map(|word| word.rsplit_once(':'));
        pairs.map(|(field, digest)| (field.to_owned(), digest.to_owned())).collect()
    };
    let (have, want) = (split(&existing.request), split(&digests(request)));
    let field = have.keys().chain(want.keys()).find(|field| have.get(*field) != want.get(*field));
    if let Some(field) = field {
        let source = existing.source.as_ref().filter(|_| field == "volume_content_source");
        let more = source.map_or(String::new(), |source| match source {
            SourceRef::Snapshot(id) => format!(" (snapshot {id})"),
            SourceRef::Volume(id) => format!(" (volume {id})"),
        });
        return differs(field, more);
    }
    if !request.range.holds(existing.size) {
        return differs("capacity_range", format!(" (it has {} bytes)", existing.size));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delphix::params::Params;
    use crate::volume::size::Range;
    use crate::volume::{AccessMode, Capability, FsType};

    fn request(params: &[(&str, &str)], source: Option<SourceRef>) -> CreateVolume {
        let params = params.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let access = AccessType::Mount { fs: None, flags: Vec::new() };
        CreateVolume {
            name: "db".into(),
            range: Range { required: 5, limit: 10 },
            capabilities: vec![Capability { access, mode: AccessMode::SingleNodeWriter }],
            params: Params::parse(&params).unwrap(),
            source,
        }
    }

    #[test]
    fn the_first_difference_of_a_repeated_request_is_named() {
        let first = request(&[("source", "orders"), ("group", "A")], None);
        let record = Record { name: "db".into(), request: digests(&first), size: 5, ..Record::default() };
        let check = |other: &CreateVolume, word: Option<&str>| {
            let result = same_request(&record, other);
            match word {
                None => result.unwrap(),
                Some(word) => {
                    let error = result.unwrap_err();
                    assert_eq!(error.kind(), Kind::AlreadyExists);
                    assert!(error.to_string().contains(&format!("another {word}")), "{error}");
                }
            }
        };
        check(&first, None);
        check(
            &request(&[("group", "A"), ("source", "orders"), ("csi.storage.k8s.io/pv/name", "x")], None),
            None,
        );
        check(&request(&[("source", "orders"), ("group", "B")], None), Some("parameters.group"));
        check(&request(&[("source", "orders")], None), Some("parameters.group"));
        let copy = Some(SourceRef::Snapshot("prod:1".into()));
        check(&request(&[("source", "orders"), ("group", "A")], copy), Some("volume_content_source"));
        let mut larger = first.clone();
        larger.range = Range { required: 6, limit: 0 };
        check(&larger, Some("capacity_range (it has 5 bytes)"));
        let adopted = Record { adopted: true, ..record.clone() };
        assert!(same_request(&adopted, &first).unwrap_err().to_string().contains("adopted"));
    }

    #[test]
    fn what_is_not_files_is_refused() {
        let mut wrong = request(&[], None);
        check(&wrong).unwrap();
        wrong.capabilities[0].access = AccessType::Block;
        assert!(check(&wrong).unwrap_err().to_string().contains("not a block device"));
        wrong.capabilities[0].access = AccessType::Mount { fs: Some(FsType::Xfs), flags: Vec::new() };
        assert!(check(&wrong).unwrap_err().to_string().contains("fs_type: is xfs"));
        wrong.capabilities.clear();
        assert!(check(&wrong).unwrap_err().to_string().contains("is missing"));
    }
}
