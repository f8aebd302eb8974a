//! What exists, in memory: read from the records at start, changed only after a record was.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use crate::volume::{Group, GroupId, ObjectId, PoolId, Snapshot, SnapshotId, Volume, VolumeId};

/// Everything that has a record, with the ways to find it.
#[derive(Default)]
pub(super) struct Catalog {
    volumes: BTreeMap<VolumeId, Arc<Volume>>,
    snapshots: BTreeMap<SnapshotId, Arc<Snapshot>>,
    groups: BTreeMap<GroupId, Arc<Group>>,
    volume_names: HashMap<Arc<str>, VolumeId>,
    snapshot_names: HashMap<Arc<str>, SnapshotId>,
    group_names: HashMap<Arc<str>, GroupId>,
    handles: HashMap<Arc<str>, VolumeId>,
    cut_from: BTreeSet<(VolumeId, SnapshotId)>,
}

impl Catalog {
    /// The volume, in whatever phase.
    pub(super) fn volume(&self, id: VolumeId) -> Option<&Arc<Volume>> {
        self.volumes.get(&id)
    }

    /// The snapshot, in whatever phase.
    pub(super) fn snapshot(&self, id: SnapshotId) -> Option<&Arc<Snapshot>> {
        self.snapshots.get(&id)
    }

    /// The group, in whatever phase.
    pub(super) fn group(&self, id: GroupId) -> Option<&Arc<Group>> {
        self.groups.get(&id)
    }

    /// The volume of that name.
    pub(super) fn volume_named(&self, name: &str) -> Option<&Arc<Volume>> {
        self.volume_names.get(name).and_then(|id| self.volumes.get(id))
    }

    /// The snapshot of that name.
    pub(super) fn snapshot_named(&self, name: &str) -> Option<&Arc<Snapshot>> {
        self.snapshot_names.get(name).and_then(|id| self.snapshots.get(id))
    }

    /// The group of that name.
    pub(super) fn group_named(&self, name: &str) -> Option<&Arc<Group>> {
        self.group_names.get(name).and_then(|id| self.groups.get(id))
    }

    /// The inline ephemeral volume for which kubelet chose this handle.
    pub(super) fn by_handle(&self, handle: &str) -> Option<&Arc<Volume>> {
        self.handles.get(handle).and_then(|id| self.volumes.get(id))
    }

    /// All volumes, by id.
    pub(super) fn volumes(&self) -> &BTreeMap<VolumeId, Arc<Volume>> {
        &self.volumes
    }

    /// All snapshots, by id.
    pub(super) fn snapshots(&self) -> &BTreeMap<SnapshotId, Arc<Snapshot>> {
        &self.snapshots
    }

    /// All groups, by id.
    pub(super) fn groups(&self) -> &BTreeMap<GroupId, Arc<Group>> {
        &self.groups
    }

    /// The snapshots that were cut from a volume, by id.
    pub(super) fn snapshots_of(&self, volume: VolumeId) -> impl Iterator<Item = &Arc<Snapshot>> {
        self.cut_from
            .range((volume, SnapshotId::MIN)..)
            .take_while(move |(of, _)| *of == volume)
            .filter_map(|(_, id)| self.snapshots.get(id))
    }

    /// Adds a volume, or puts its new state in place of the old one.
    pub(super) fn put_volume(&mut self, volume: Arc<Volume>) {
        self.volume_names.insert(volume.name.clone(), volume.id);
        if let Some(handle) = &volume.ephemeral {
            self.handles.insert(handle.clone(), volume.id);
        }
        self.volumes.insert(volume.id, volume);
    }

    /// Adds a snapshot, or puts its new state in place of the old one.
    pub(super) fn put_snapshot(&mut self, snapshot: Arc<Snapshot>) {
        self.snapshot_names.insert(snapshot.name.clone(), snapshot.id);
        self.cut_from.insert((snapshot.volume, snapshot.id));
        self.snapshots.insert(snapshot.id, snapshot);
    }

    /// Adds a group, or puts its new state in place of the old one.
    pub(super) fn put_group(&mut self, group: Arc<Group>) {
        self.group_names.insert(group.name.clone(), group.id);
        self.groups.insert(group.id, group);
    }

    /// Forgets an object.
    pub(super) fn remove(&mut self, id: ObjectId) {
        match id {
            ObjectId::Volume(id) => {
                if let Some(volume) = self.volumes.remove(&id) {
                    remove_if(&mut self.volume_names, &volume.name, id);
                    if let Some(handle) = &volume.ephemeral {
                        remove_if(&mut self.handles, handle, id);
                    }
                }
            }
            ObjectId::Snapshot(id) => {
                if let Some(snapshot) = self.snapshots.remove(&id) {
                    remove_if(&mut self.snapshot_names, &snapshot.name, id);
                    self.cut_from.remove(&(snapshot.volume, id));
                }
            }
            ObjectId::Group(id) => {
                if let Some(group) = self.groups.remove(&id) {
                    remove_if(&mut self.group_names, &group.name, id);
                }
            }
        }
    }

    /// Forgets everything of a pool that is being taken off.
    pub(super) fn remove_pool(&mut self, pool: PoolId) {
        let volumes = self.volumes.keys().filter(|id| id.pool() == pool).map(|&id| ObjectId::Volume(id));
        let snapshots =
            self.snapshots.keys().filter(|id| id.pool() == pool).map(|&id| ObjectId::Snapshot(id));
        let groups = self.groups.values().filter(|group| group.home() == pool);
        let groups = groups.map(|group| ObjectId::Group(group.id));
        for id in volumes.chain(snapshots).chain(groups).collect::<Vec<_>>() {
            self.remove(id);
        }
    }
}

/// A name may by now belong to a newer object.
fn remove_if<I: PartialEq>(names: &mut HashMap<Arc<str>, I>, name: &Arc<str>, id: I) {
    if names.get(name) == Some(&id) {
        names.remove(name);
    }
}
