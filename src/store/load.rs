//! Reading all records at start, and telling what each leftover file means.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::disk::{self, Object};
use super::write::{CREATING, DELETING, DIRS, READY, TMP};
use crate::host::{FileKind, Host};
use crate::volume::{Error, Group, ObjectId, Phase, Snapshot, Volume};

/// A record that cannot be understood. It and its bytes are left as they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damaged {
    /// The object, as the file's name says.
    pub id: ObjectId,
    /// The record.
    pub path: PathBuf,
    /// What is wrong with it.
    pub why: String,
}

/// An object of which a power cut left only the name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unfinished {
    /// The object.
    pub id: ObjectId,
    /// Whether the name is that of an intent or a removal, so that it certainly was not whole. The other case is a
    /// record of zero length, which is worth a look at the bytes before anything is removed.
    pub certain: bool,
}

/// Everything that the records of a pool say.
#[derive(Debug, Default)]
pub struct Loaded {
    /// Volumes in every phase.
    pub volumes: Vec<Volume>,
    /// Snapshots in every phase.
    pub snapshots: Vec<Snapshot>,
    /// Groups in every phase.
    pub groups: Vec<Group>,
    /// Records that cannot be understood.
    pub damaged: Vec<Damaged>,
    /// Objects of which only the name survived a power cut: never acknowledged, or already being removed.
    pub unfinished: Vec<Unfinished>,
}

impl Loaded {
    fn add(&mut self, object: Object, phase: Option<Phase>) {
        match object {
            Object::Volume(mut volume) => {
                volume.phase = match (phase, volume.phase) {
                    (Some(Phase::Creating), receiving @ Phase::Receiving { .. }) => receiving,
                    // It was committed, and not written since.
                    (None, Phase::Receiving { .. }) => Phase::Ready,
                    (phase, pending) => phase.unwrap_or(pending),
                };
                self.volumes.push(volume);
            }
            Object::Snapshot(mut snapshot) => {
                snapshot.phase = phase.unwrap_or(snapshot.phase);
                self.snapshots.push(snapshot);
            }
            Object::Group(mut group) => {
                group.phase = phase.unwrap_or(group.phase);
                self.groups.push(group);
            }
        }
    }
}

/// Reads every record below `root`. Unfinished rewrites are removed; all else is only read.
pub(super) fn all(host: &dyn Host, root: &Path) -> Result<Loaded, Error> {
    let mut loaded = Loaded::default();
    for dir in DIRS {
        let dir = root.join(dir);
        for entry in host.read_dir(&dir)? {
            let Some((stem, suffix)) = entry.name.split_once('.') else { continue };
            let Ok(id) = ObjectId::from_str(stem) else { continue };
            if entry.kind != FileKind::File {
                continue;
            }
            let path = dir.join(&entry.name);
            let phase = match suffix {
                READY => None,
                CREATING => Some(Phase::Creating),
                DELETING => Some(Phase::Deleting),
                TMP => {
                    host.remove_file(&path)?;
                    continue;
                }
                _ => continue,
            };
            let Some(bytes) = host.read_file(&path)? else { continue };
            if bytes.is_empty() {
                loaded.unfinished.push(Unfinished { id, certain: phase.is_some() });
                continue;
            }
            match disk::decode(&bytes).and_then(|object| same(object, id)) {
                Ok(object) => loaded.add(object, phase),
                Err(why) if phase == Some(Phase::Creating) => {
                    // An intent is not forced to the disk, so a power cut may leave any part of it.
                    tracing::warn!(%id, why, "an intent is not whole: its object was never acknowledged");
                    loaded.unfinished.push(Unfinished { id, certain: true });
                }
                Err(why) => loaded.damaged.push(Damaged { id, path, why }),
            }
        }
    }
    loaded.volumes.sort_unstable_by_key(|volume| volume.id);
    loaded.snapshots.sort_unstable_by_key(|snapshot| snapshot.id);
    loaded.groups.sort_unstable_by_key(|group| group.id);
    Ok(loaded)
}

/// A record must be of the object that its file is named after.
fn same(object: Object, id: ObjectId) -> Result<Object, String> {
    let inside = match &object {
        Object::Volume(volume) => ObjectId::Volume(volume.id),
        Object::Snapshot(snapshot) => ObjectId::Snapshot(snapshot.id),
        Object::Group(group) => ObjectId::Group(group.id),
    };
    if inside == id { Ok(object) } else { Err(format!("is a record of {inside}, not of {id}")) }
}
