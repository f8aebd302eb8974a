//! From what the use cases on a DCT answer to the wire's messages.

use super::super::render::{number, timestamp};
use crate::backend::Severity;
use crate::delphix::api::{EngineStatus, LineageEntry, LineageObject, SnapshotInfo, SourceRef, VolumeInfo};
use crate::proto::csi as pb;
use crate::proto::offshoot as own;
use crate::proto::offshoot::lineage_node::{Kind, State};

/// The backend's name, as listings have it.
const BACKEND: &str = "delphix";

/// A volume, as every call that answers with one has it.
pub(super) fn volume(volume: &VolumeInfo) -> pb::Volume {
    pb::Volume {
        capacity_bytes: number(volume.size),
        volume_id: volume.id.to_string(),
        volume_context: volume.context.clone(),
        content_source: volume.source.as_ref().map(content_source),
        accessible_topology: Vec::new(),
    }
}

fn content_source(source: &SourceRef) -> pb::VolumeContentSource {
    use pb::volume_content_source::{SnapshotSource, Type, VolumeSource};
    let kind = match source.clone() {
        SourceRef::Snapshot(snapshot_id) => Type::Snapshot(SnapshotSource { snapshot_id }),
        SourceRef::Volume(volume_id) => Type::Volume(VolumeSource { volume_id }),
    };
    pb::VolumeContentSource { r#type: Some(kind) }
}

/// A snapshot.
pub(super) fn snapshot(snapshot: &SnapshotInfo) -> pb::Snapshot {
    pb::Snapshot {
        size_bytes: number(snapshot.size),
        snapshot_id: snapshot.id.to_string(),
        source_volume_id: snapshot.source.to_string(),
        creation_time: Some(timestamp(snapshot.created)),
        ready_to_use: snapshot.ready,
        ..pb::Snapshot::default()
    }
}

/// An engine, which is what volumes share here as others share a pool.
pub(super) fn engine(engine: &EngineStatus) -> own::Pool {
    let (bad, weak): (Vec<_>, Vec<_>) =
        engine.faults.iter().partition(|fault| fault.severity >= Severity::Inaccessible);
    let reasons: Vec<&str> = bad.iter().map(|fault| fault.message.as_str()).collect();
    let attributes = [("dct", &engine.dct), ("server", &engine.server)];
    own::Pool {
        id: format!("{}:{}", engine.dct, engine.id),
        name: engine.name.clone(),
        backend: BACKEND.to_owned(),
        reflink: true,
        size_bytes: number(engine.total),
        available_bytes: number(engine.total.saturating_sub(engine.used)),
        allocated_bytes: number(engine.used),
        volumes: engine.volumes,
        snapshots: engine.snapshots,
        ready: reasons.is_empty(),
        reason: reasons.join("; "),
        warnings: weak.iter().map(|fault| fault.message.clone()).collect(),
        attributes: attributes.into_iter().map(|(key, value)| (key.to_owned(), value.clone())).collect(),
        ..own::Pool::default()
    }
}

/// One object of the lineage.
pub(super) fn node(entry: &LineageEntry) -> own::LineageNode {
    let mut node = own::LineageNode {
        published: entry.in_use,
        state: State::Ready as i32,
        backend: BACKEND.to_owned(),
        ..own::LineageNode::default()
    };
    match &entry.object {
        LineageObject::Volume(volume) => {
            node.id = volume.id.to_string();
            node.kind = Kind::Volume as i32;
            node.name = volume.name.clone();
            node.pool = volume.id.dct.clone();
            node.size_bytes = number(volume.size);
        }
        LineageObject::Snapshot(snapshot) => {
            node.id = snapshot.id.to_string();
            node.kind = Kind::Snapshot as i32;
            node.name = snapshot.name.clone();
            node.pool = snapshot.id.dct.clone();
            node.size_bytes = number(snapshot.size);
            node.created = Some(timestamp(snapshot.created));
            if !snapshot.ready {
                node.state = State::Creating as i32;
            }
            if snapshot.undo {
                node.attributes.insert("undo".to_owned(), "true".to_owned());
            }
        }
    }
    node.place = node.id.clone();
    if let Some(parent) = &entry.parent {
        node.parent_id = parent.clone();
    }
    if let Some(name) = &entry.parent_name {
        node.attributes.insert("parent".to_owned(), name.clone());
    }
    match entry.used {
        Some(used) => node.own_bytes = number(used),
        None => {
            node.attributes.insert("usage".to_owned(), "unknown".to_owned());
        }
    }
    node
}
