//! The record of a volume or snapshot: the tags of its VDB or bookmark.
//!
//! The controller keeps nothing of its own, so whatever it has to know after it was killed stands in tags, which belong
//! to the DCT and show at once. Those of a new VDB are given in the call that provisions it, so there is no moment in
//! which it exists without them. What lacks our driver's and cluster's tags is not ours, whatever its name is.
//!
//! `offshoot-node.…` stands for one node that has the volume; it is written before anything is opened to the node and
//! taken off when all of that is undone. `offshoot-entered.…` says that an address on a host's export list was put there
//! by us: only such an address is ever taken off again.

use std::collections::BTreeMap;

use super::id::{NodeId, VolumeHandle};
use super::params::{NfsVersion, SnapshotParams};
use crate::backend::delphix::{Filter, Tag};
use crate::service::api::SourceRef;
use crate::volume::digest::digest;
use crate::volume::record::Claim;

/// What all keys of ours begin with.
pub(super) const PREFIX: &str = "offshoot-";

const DRIVER: &str = "offshoot-driver";
const CLUSTER: &str = "offshoot-cluster";
const NAME: &str = "offshoot-name";
const REQUEST: &str = "offshoot-request";
const SIZE: &str = "offshoot-size";
const CLAIM: &str = "offshoot-claim";
const SOURCE: &str = "offshoot-source";
const ORIGIN: &str = "offshoot-origin";
const OWNERSHIP: &str = "offshoot-ownership";
const NFS: &str = "offshoot-nfs";
const ADOPTED: &str = "offshoot-adopted";
const NODE: &str = "offshoot-node.";
const ENTERED: &str = "offshoot-entered.";
const REPLACING: &str = "offshoot-replacing";
const USE: &str = "offshoot-use";
const GOES_WITH: &str = "offshoot-goes-with";
const READ_ONLY: &str = " ro";

/// Whose objects are ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Owner {
    pub(super) driver: String,
    pub(super) cluster: String,
}

impl Owner {
    /// Those that mark an object as ours.
    pub(super) fn tags(&self) -> Vec<Tag> {
        vec![Tag::new(DRIVER, &self.driver), Tag::new(CLUSTER, &self.cluster)]
    }

    /// Lets through what may be ours. The answer is looked at again: see [`Owner::owns`].
    pub(super) fn filter(&self) -> Filter {
        Filter::tag(DRIVER, &self.driver).and(Filter::tag(CLUSTER, &self.cluster))
    }

    pub(super) fn owns(&self, tags: &[Tag]) -> bool {
        one(tags, DRIVER) == Some(&self.driver) && one(tags, CLUSTER) == Some(&self.cluster)
    }

    /// The driver and cluster that an object belongs to, for a refusal.
    pub(super) fn of_other(tags: &[Tag]) -> Option<String> {
        let driver = one(tags, DRIVER)?;
        Some(format!("driver {driver} of cluster {}", one(tags, CLUSTER).unwrap_or("(none)")))
    }
}

fn one<'a>(tags: &'a [Tag], key: &str) -> Option<&'a str> {
    tags.iter().find(|tag| tag.key == key).map(|tag| tag.value.as_str())
}

/// A short word for a text, as part of a key.
fn word<'a>(of: impl IntoIterator<Item = &'a str>) -> String {
    format!("{:08x}", digest(of) & 0xffff_ffff)
}

/// A node that has a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Publication {
    pub(super) node: NodeId,
    pub(super) read_only: bool,
}

impl Publication {
    pub(super) fn tag(&self) -> Tag {
        let suffix = if self.read_only { READ_ONLY } else { "" };
        Tag::new(node_key(&self.node.name), format!("{}{suffix}", self.node))
    }

    fn read(tag: &Tag) -> Option<Publication> {
        tag.key.starts_with(NODE).then_some(())?;
        let (node, read_only) = match tag.value.strip_suffix(READ_ONLY) {
            Some(node) => (node, true),
            None => (tag.value.as_str(), false),
        };
        Some(Publication { node: node.parse().ok()?, read_only })
    }
}

/// The key that all volumes have that the node of this name has.
pub(super) fn node_key(name: &str) -> String {
    format!("{NODE}{}", word([name]))
}

/// An address that we put on the export list of a host.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Entered {
    pub(super) environment: String,
    pub(super) host: String,
    pub(super) address: String,
}

impl Entered {
    pub(super) fn tag(&self) -> Tag {
        let Entered { environment, host, address } = self;
        Tag::new(
            format!("{ENTERED}{}", word([host.as_str(), address])),
            format!("{environment} {host} {address}"),
        )
    }

    fn read(tag: &Tag) -> Option<Entered> {
        tag.key.starts_with(ENTERED).then_some(())?;
        let mut words = tag.value.split(' ').map(str::to_owned);
        Some(Entered { environment: words.next()?, host: words.next()?, address: words.next()? })
    }
}

/// What is noted on a VDB of ours.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Record {
    pub(super) name: String,
    /// What was asked for, field by field; see [`super::asked`].
    pub(super) request: String,
    pub(super) size: u64,
    pub(super) claim: Option<Claim>,
    pub(super) source: Option<SourceRef>,
    /// The bookmark that was made for this clone alone, and goes with it.
    pub(super) origin: Option<String>,
    pub(super) ownership: Option<String>,
    pub(super) nfs_version: Option<NfsVersion>,
    pub(super) adopted: bool,
    pub(super) published: Vec<Publication>,
    pub(super) entered: Vec<Entered>,
    /// A rewind or refresh that has not ended; see [`super::replace`].
    pub(super) replacing: Option<String>,
}

impl Record {
    /// The record in the tags of a VDB; `None` if it is not ours.
    pub(super) fn read(owner: &Owner, tags: &[Tag]) -> Option<Record> {
        if !owner.owns(tags) {
            return None;
        }
        let text = |key: &str| one(tags, key).map(str::to_owned);
        Some(Record {
            name: text(NAME).unwrap_or_default(),
            request: text(REQUEST).unwrap_or_default(),
            size: one(tags, SIZE).and_then(|size| size.parse().ok()).unwrap_or_default(),
            claim: one(tags, CLAIM).and_then(read_claim),
            source: one(tags, SOURCE).and_then(|source| match source.split_once(' ')? {
                ("snapshot", id) => Some(SourceRef::Snapshot(id.to_owned())),
                ("volume", id) => Some(SourceRef::Volume(id.to_owned())),
                _ => None,
            }),
            origin: text(ORIGIN),
            ownership: text(OWNERSHIP),
            nfs_version: one(tags, NFS).and_then(NfsVersion::parse),
            adopted: one(tags, ADOPTED).is_some(),
            published: tags.iter().filter_map(Publication::read).collect(),
            entered: tags.iter().filter_map(Entered::read).collect(),
            replacing: text(REPLACING),
        })
    }

    /// The tags of a new VDB.
    pub(super) fn tags(&self, owner: &Owner) -> Vec<Tag> {
        let mut tags = owner.tags();
        let mut set = |key: &str, value: Option<String>| tags.extend(value.map(|value| Tag::new(key, value)));
        set(NAME, Some(self.name.clone()));
        set(REQUEST, Some(self.request.clone()));
        set(SIZE, Some(self.size.to_string()));
        set(CLAIM, self.claim.as_ref().map(write_claim));
        set(
            SOURCE,
            self.source.as_ref().map(|source| match source {
                SourceRef::Snapshot(id) => format!("snapshot {id}"),
                SourceRef::Volume(id) => format!("volume {id}"),
            }),
        );
        set(ORIGIN, self.origin.clone());
        set(OWNERSHIP, self.ownership.clone());
        set(NFS, self.nfs_version.map(|version| version.as_str().to_owned()));
        set(ADOPTED, self.adopted.then(|| "true".to_owned()));
        tags
    }

    /// Which node of that name has it.
    pub(super) fn on(&self, node: &str) -> Option<&Publication> {
        self.published.iter().find(|publication| publication.node.name == node)
    }
}

/// The tag of a volume's size.
pub(super) fn size_tag(size: u64) -> Tag {
    Tag::new(SIZE, size.to_string())
}

/// The tag of a rewind or refresh that has begun.
pub(super) fn replacing_tag(value: &str) -> Tag {
    Tag::new(REPLACING, value)
}

/// The tag of a snapshot that has to go when this bookmark or VDB is gone.
pub(super) fn goes_with(id: &str) -> Tag {
    Tag::new(GOES_WITH, id)
}

/// What a bookmark of ours is for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Use {
    /// A snapshot that somebody asked for.
    #[default]
    Snapshot,
    /// What a rewind or refresh replaced.
    Undo,
    /// What a clone was made from; nobody else's business.
    Origin,
}

impl Use {
    fn as_str(self) -> &'static str {
        match self {
            Use::Snapshot => "snapshot",
            Use::Undo => "undo",
            Use::Origin => "origin",
        }
    }
}

/// What is noted on a bookmark of ours.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Mark {
    /// The caller's name; for an origin, that of the clone.
    pub(super) name: String,
    pub(super) size: u64,
    pub(super) use_: Use,
    pub(super) claim: Option<Claim>,
}

impl Mark {
    /// The record in the tags of a bookmark; `None` if it is not ours.
    pub(super) fn read(owner: &Owner, tags: &[Tag]) -> Option<Mark> {
        if !owner.owns(tags) {
            return None;
        }
        let use_ = [Use::Undo, Use::Origin].into_iter().find(|use_| one(tags, USE) == Some(use_.as_str()));
        Some(Mark {
            name: one(tags, NAME).unwrap_or_default().to_owned(),
            size: one(tags, SIZE).and_then(|size| size.parse().ok()).unwrap_or_default(),
            use_: use_.unwrap_or_default(),
            claim: one(tags, CLAIM).and_then(read_claim),
        })
    }

    /// The tags of a new bookmark.
    pub(super) fn tags(&self, owner: &Owner, params: &SnapshotParams) -> Vec<Tag> {
        let mut tags = owner.tags();
        tags.extend([Tag::new(NAME, &self.name), size_tag(self.size), Tag::new(USE, self.use_.as_str())]);
        tags.extend(self.claim.as_ref().map(|claim| Tag::new(CLAIM, write_claim(claim))));
        tags.extend(more(&params.tags));
        tags
    }
}

/// The tags that a class asks for.
pub(super) fn more(tags: &BTreeMap<String, String>) -> impl Iterator<Item = Tag> + '_ {
    tags.iter().map(|(key, value)| Tag::new(key, value))
}

fn write_claim(claim: &Claim) -> String {
    format!("{}/{}", claim.namespace, claim.name)
}

fn read_claim(text: &str) -> Option<Claim> {
    let (namespace, name) = text.split_once('/')?;
    Some(Claim { name: name.to_owned(), namespace: namespace.to_owned() })
}

/// The name of the VDB of a volume (or the bookmark of a snapshot) with this name: the same, made harmless. Where it had to
/// be changed for that, a digest keeps it apart from others.
pub(super) fn harmless(name: &str) -> String {
    const LONGEST: usize = 64;
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let first = name.chars().next().is_some_and(|c| c.is_ascii_alphanumeric());
    if first && name.len() <= LONGEST && name.chars().all(plain) {
        return name.to_owned();
    }
    let kept: String = name.chars().map(|c| if plain(c) { c } else { '_' }).take(LONGEST - 20).collect();
    format!("v-{kept}-{:016x}", digest([name]) as u64)
}

/// The handle of the volume that a VDB is.
pub(super) fn handle(dct: &str, vdb: &str) -> VolumeHandle {
    VolumeHandle::new(dct, vdb)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner() -> Owner {
        Owner { driver: "delphix.csi.offshoot.dev".into(), cluster: "prod".into() }
    }

    #[test]
    fn a_record_is_read_back_from_its_tags_and_is_nobody_elses() {
        let publication = |text: &str, read_only| Publication { node: text.parse().unwrap(), read_only };
        let record = Record {
            name: "pvc-1".into(),
            request: "source:0a".into(),
            size: 5 << 30,
            claim: Some(Claim { name: "data".into(), namespace: "shop".into() }),
            source: Some(SourceRef::Snapshot("prod:00ff".into())),
            origin: Some("00aa".into()),
            ownership: Some("999:26".into()),
            nfs_version: Some(NfsVersion::V4_1),
            adopted: true,
            published: vec![publication("n1@10.0.0.1,fd00::1", false), publication("n2@10.0.0.2", true)],
            entered: vec![Entered {
                environment: "1-ENV-1".into(),
                host: "1-HOST-1".into(),
                address: "10.0.0.1".into(),
            }],
            replacing: None,
        };
        let mut tags = record.tags(&owner());
        tags.extend(record.published.iter().map(Publication::tag));
        tags.extend(record.entered.iter().map(Entered::tag));
        tags.push(Tag::new("team", "a"));
        assert_eq!(Record::read(&owner(), &tags), Some(record.clone()));
        assert!(tags.iter().all(|tag| tag.key.starts_with(PREFIX) || tag.key == "team"));
        assert_eq!(record.on("n2"), Some(&record.published[1]));
        assert_eq!(record.on("n"), None);
        let other = Owner { cluster: "test".into(), ..owner() };
        assert_eq!(Record::read(&other, &tags), None);
        assert_eq!(Owner::of_other(&tags).unwrap(), "driver delphix.csi.offshoot.dev of cluster prod");
        assert_eq!(Record::read(&owner(), &[]), None);
    }

    #[test]
    fn a_bookmark_says_what_it_is_for() {
        for use_ in [Use::Snapshot, Use::Undo, Use::Origin] {
            let mark = Mark { name: "monday".into(), size: 7, use_, claim: None };
            let tags = mark.tags(&owner(), &SnapshotParams::default());
            assert_eq!(Mark::read(&owner(), &tags), Some(mark));
        }
        assert_eq!(Mark::read(&owner(), &[Tag::new(NAME, "monday")]), None);
    }

    #[test]
    fn a_name_is_kept_or_made_harmless_and_stays_apart_from_others() {
        #[track_caller]
        fn check(name: &str, kept: bool) {
            let plain = harmless(name);
            assert_eq!(plain == name, kept, "{plain}");
            assert!(plain.len() <= 64 && plain.bytes().all(|b| b.is_ascii_graphic()), "{plain}");
            assert!(!plain.contains(['\'', '"', '\\', '/']), "{plain}");
            assert_eq!(harmless(&plain), plain);
        }
        check("pvc-0a1b2c3d-0000-0000-0000-000000000000", true);
        check("dlpx_1.a", true);
        for name in ["-a", "a b", "a/b", "a'b", "données", &"x".repeat(128), "", "."] {
            check(name, false);
        }
        assert_ne!(harmless("a b"), harmless("a/b"));
    }
}
