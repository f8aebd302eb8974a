//! What stands in a record file: JSON with a format number, apart from the live types.
//!
//! A reader takes every format up to its own and refuses newer ones by name. Fields are only ever added, with a
//! default; a field that changes its meaning raises [`FORMAT`].

use serde::{Deserialize, Serialize};

use super::Record;
use crate::volume::record::{Claim, Millis};
use crate::volume::{
    FsType, Group, GroupId, Layout, Mutable, Phase, Published, Snapshot, SnapshotId, Source, Volume, VolumeId,
};

/// The format that this version writes.
pub(super) const FORMAT: u32 = 1;

#[derive(Deserialize)]
struct Head {
    format: u32,
}

/// A live object read from a record.
#[derive(Debug)]
pub(super) enum Object {
    Volume(Volume),
    Snapshot(Snapshot),
    Group(Group),
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", tag = "kind")]
enum File {
    Volume(VolumeV1),
    Snapshot(SnapshotV1),
    Group(GroupV1),
}

#[derive(Serialize)]
struct Out<'a> {
    format: u32,
    #[serde(flatten)]
    file: &'a File,
}

fn is_false(flag: &bool) -> bool {
    !flag
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct VolumeV1 {
    id: VolumeId,
    name: String,
    size: u64,
    layout: Layout,
    fs: FsType,
    #[serde(default, skip_serializing_if = "is_false")]
    mount: bool,
    #[serde(default, skip_serializing_if = "is_false")]
    block: bool,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    mkfs_options: Vec<String>,
    #[serde(default)]
    discard: bool,
    #[serde(default, skip_serializing_if = "is_default")]
    mutable: Mutable,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    source: Option<Source>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    origin: Option<VolumeId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    base: Option<SnapshotId>,
    #[serde(default, skip_serializing_if = "is_false")]
    raw_written: bool,
    #[serde(default, skip_serializing_if = "is_false")]
    trust_raw: bool,
    created: Millis,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    published: Vec<Published>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ephemeral: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    claim: Option<Claim>,
    #[serde(default, skip_serializing_if = "is_default")]
    state: Phase,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    receiving: Option<ReceivingV1>,
}

/// Of an intent only. A record that was made from it still has it, since committing renames the file as it is.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ReceivingV1 {
    from: SnapshotId,
    received: u64,
    bytes: u64,
    asked: Millis,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct SnapshotV1 {
    id: SnapshotId,
    name: String,
    volume: VolumeId,
    size: u64,
    layout: Layout,
    fs: FsType,
    #[serde(default, skip_serializing_if = "is_false")]
    raw_written: bool,
    created: Millis,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    group: Option<GroupId>,
    #[serde(default, skip_serializing_if = "is_false")]
    undo: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    claim: Option<Claim>,
    #[serde(default, skip_serializing_if = "is_default")]
    state: Phase,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct GroupV1 {
    id: GroupId,
    name: String,
    members: Vec<MemberV1>,
    created: Millis,
    #[serde(default, skip_serializing_if = "is_default")]
    state: Phase,
}

#[derive(Serialize, Deserialize)]
struct MemberV1 {
    volume: VolumeId,
    snapshot: SnapshotId,
}

/// The bytes of a record file. Creating and deleting are said by the file's suffix and not inside it.
pub(super) fn encode(record: Record<'_>) -> Result<Vec<u8>, serde_json::Error> {
    let stored = |phase: Phase| match phase {
        Phase::Creating | Phase::Receiving { .. } | Phase::Deleting => Phase::Ready,
        pending => pending,
    };
    let file = match record {
        Record::Volume(v) => File::Volume(VolumeV1 {
            id: v.id,
            name: v.name.to_string(),
            size: v.size,
            layout: v.layout,
            fs: v.fs,
            mount: v.mount,
            block: v.block,
            mkfs_options: v.mkfs_options.clone(),
            discard: v.discard,
            mutable: v.mutable.clone(),
            source: v.source,
            origin: v.origin,
            base: v.base,
            raw_written: v.raw_written,
            trust_raw: v.trust_raw,
            created: v.created,
            published: v.published.clone(),
            ephemeral: v.ephemeral.as_ref().map(ToString::to_string),
            claim: v.claim.clone(),
            state: stored(v.phase),
            receiving: match v.phase {
                Phase::Receiving { from, received, bytes, asked } => {
                    Some(ReceivingV1 { from, received, bytes, asked })
                }
                _ => None,
            },
        }),
        Record::Snapshot(s) => File::Snapshot(SnapshotV1 {
            id: s.id,
            name: s.name.to_string(),
            volume: s.volume,
            size: s.size,
            layout: s.layout,
            fs: s.fs,
            raw_written: s.raw_written,
            created: s.created,
            group: s.group,
            undo: s.undo,
            claim: s.claim.clone(),
            state: stored(s.phase),
        }),
        Record::Group(g) => File::Group(GroupV1 {
            id: g.id,
            name: g.name.to_string(),
            members: g.members.iter().map(|&(volume, snapshot)| MemberV1 { volume, snapshot }).collect(),
            created: g.created,
            state: stored(g.phase),
        }),
    };
    let mut bytes = serde_json::to_vec(&Out { format: FORMAT, file: &file })?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// Reads a record file; the error says what is wrong with it, for a person.
pub(super) fn decode(bytes: &[u8]) -> Result<Object, String> {
    let head: Head = serde_json::from_slice(bytes).map_err(|e| format!("is no record: {e}"))?;
    if head.format > FORMAT {
        return Err(format!(
            "has format {}, but this version reads up to {FORMAT}: start the newer version again, or upgrade",
            head.format
        ));
    }
    let file: File =
        serde_json::from_slice(bytes).map_err(|e| format!("is no record of format {}: {e}", head.format))?;
    Ok(match file {
        File::Volume(v) => Object::Volume(Volume {
            id: v.id,
            name: v.name.into(),
            size: v.size,
            layout: v.layout,
            fs: v.fs,
            mount: v.mount,
            block: v.block,
            mkfs_options: v.mkfs_options,
            discard: v.discard,
            mutable: v.mutable,
            source: v.source,
            origin: v.origin,
            base: v.base,
            raw_written: v.raw_written,
            trust_raw: v.trust_raw,
            created: v.created,
            published: v.published,
            ephemeral: v.ephemeral.map(Into::into),
            claim: v.claim,
            phase: match v.receiving {
                Some(ReceivingV1 { from, received, bytes, asked }) => {
                    Phase::Receiving { from, received, bytes, asked }
                }
                None => v.state,
            },
        }),
        File::Snapshot(s) => Object::Snapshot(Snapshot {
            id: s.id,
            name: s.name.into(),
            volume: s.volume,
            size: s.size,
            layout: s.layout,
            fs: s.fs,
            raw_written: s.raw_written,
            created: s.created,
            group: s.group,
            undo: s.undo,
            claim: s.claim,
            phase: s.state,
        }),
        File::Group(g) => Object::Group(Group {
            id: g.id,
            name: g.name.into(),
            members: g.members.into_iter().map(|m| (m.volume, m.snapshot)).collect(),
            created: g.created,
            phase: g.state,
        }),
    })
}
