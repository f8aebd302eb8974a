//! From the domain's values to the wire's messages.

use prost_types::Timestamp;

use crate::backend::{Fault, Severity};
use crate::proto::csi as pb;
use crate::service::Service;
use crate::service::api::{GroupStatus, Segments, VolumeStatus};
use crate::volume::record::Millis;
use crate::volume::{Phase, Snapshot, Source};

/// A size or count as CSI has it. Sizes over its largest number do not exist here.
pub(super) fn number(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

/// A moment.
pub(super) fn timestamp(at: Millis) -> Timestamp {
    let nanos = i32::try_from(at.rem_euclid(1000) * 1_000_000).unwrap_or_default();
    Timestamp { seconds: at.div_euclid(1000), nanos }
}

/// Where an object can be reached from; empty means anywhere.
pub(super) fn topology(segments: Option<Segments>) -> Vec<pb::Topology> {
    segments.into_iter().map(|segments| pb::Topology { segments }).collect()
}

/// A volume, as every call that answers with one has it: with where its bytes came from.
pub(super) fn volume(status: &VolumeStatus) -> pb::Volume {
    let volume = &status.volume;
    pb::Volume {
        capacity_bytes: number(volume.size),
        volume_id: volume.id.to_string(),
        volume_context: Segments::new(),
        content_source: volume.source.map(content_source),
        accessible_topology: topology(status.topology.clone()),
    }
}

fn content_source(source: Source) -> pb::VolumeContentSource {
    use pb::volume_content_source::{SnapshotSource, Type, VolumeSource};
    let kind = match source {
        Source::Snapshot(id) => Type::Snapshot(SnapshotSource { snapshot_id: id.to_string() }),
        Source::Volume(id) => Type::Volume(VolumeSource { volume_id: id.to_string() }),
    };
    pb::VolumeContentSource { r#type: Some(kind) }
}

/// A snapshot, with where it can be restored.
pub(super) fn snapshot(service: &Service, snapshot: &Snapshot) -> pb::Snapshot {
    pb::Snapshot {
        size_bytes: number(snapshot.size),
        snapshot_id: snapshot.id.to_string(),
        source_volume_id: snapshot.volume.to_string(),
        creation_time: Some(timestamp(snapshot.created)),
        ready_to_use: snapshot.phase == Phase::Ready,
        group_snapshot_id: snapshot.group.map(|group| group.to_string()).unwrap_or_default(),
        accessible_topology: topology(service.topology_of(snapshot.id.pool())),
    }
}

/// A group with its members.
pub(super) fn group(service: &Service, group: &GroupStatus) -> pb::VolumeGroupSnapshot {
    let snapshots: Vec<_> = group.snapshots.iter().map(|member| snapshot(service, member)).collect();
    pb::VolumeGroupSnapshot {
        group_snapshot_id: group.id.to_string(),
        ready_to_use: snapshots.iter().all(|member| member.ready_to_use),
        snapshots,
        creation_time: Some(timestamp(group.created)),
    }
}

/// What CSI 1.12 callers read: one flag and one sentence.
pub(super) fn condition(faults: &[Fault]) -> pb::VolumeCondition {
    let texts: Vec<&str> = faults.iter().map(|fault| fault.message.as_str()).collect();
    let message = if texts.is_empty() { "the volume is well".to_owned() } else { texts.join("; ") };
    pb::VolumeCondition { abnormal: !faults.is_empty(), message }
}

/// What CSI 1.13 callers read: every finding; none where all is well.
pub(super) fn health(volume_id: String, faults: &[Fault]) -> pb::VolumeHealth {
    use pb::VolumeHealthErrorType as Wire;
    let entry = |fault: &Fault| pb::volume_health::VolumeHealthEntry {
        status: match fault.severity {
            Severity::Degraded => Wire::Degraded,
            Severity::Inaccessible => Wire::Inaccessible,
            Severity::DataLoss => Wire::DataLoss,
        } as i32,
        reason: fault.reason.to_owned(),
        message: fault.message.clone(),
    };
    pb::VolumeHealth { volume_id, health_statuses: faults.iter().map(entry).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_keeps_its_milliseconds_also_before_the_epoch() {
        let check =
            |at: Millis, seconds: i64, nanos: i32| assert_eq!(timestamp(at), Timestamp { seconds, nanos });
        check(0, 0, 0);
        check(1_700_000_000_123, 1_700_000_000, 123_000_000);
        check(-1, -1, 999_000_000);
    }

    #[test]
    fn both_generations_of_callers_see_the_same_faults() {
        let fault = |severity, reason, message: &str| Fault { severity, reason, message: message.to_owned() };
        assert!(!condition(&[]).abnormal && health("v".to_owned(), &[]).health_statuses.is_empty());
        let faults = [
            fault(Severity::Inaccessible, "PoolReadOnly", "the pool is read-only; remount it"),
            fault(Severity::DataLoss, "ImageMissing", "the image is gone"),
        ];
        let old = condition(&faults);
        assert!(old.abnormal && old.message == "the pool is read-only; remount it; the image is gone");
        let new = health("v".to_owned(), &faults);
        let wire: Vec<_> =
            new.health_statuses.iter().map(|entry| (entry.status(), entry.reason.as_str())).collect();
        use pb::VolumeHealthErrorType::{DataLoss, Inaccessible};
        assert_eq!(wire, [(Inaccessible, "PoolReadOnly"), (DataLoss, "ImageMissing")]);
    }
}
