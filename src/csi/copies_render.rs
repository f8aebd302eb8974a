//! From the domain's values to the messages of Offshoot's own service.

use std::collections::BTreeMap;

use super::render::{number, timestamp};
use crate::backend::Severity;
use crate::proto::offshoot as pb;
use crate::proto::offshoot::lineage_node::{Kind, State};
use crate::service::api::{Check, CheckStatus, CopyProgress, LineageEntry, LineageObject, PoolStatus};
use crate::service::{Orphan, Service};
use crate::volume::{ObjectId, Phase};

/// One object of the lineage.
pub(super) fn node(service: &Service, entry: &LineageEntry) -> pb::LineageNode {
    let mut node = pb::LineageNode { published: entry.in_use, ..pb::LineageNode::default() };
    let (id, phase) = match &entry.object {
        LineageObject::Volume(volume) => {
            node.name = volume.name.to_string();
            node.size_bytes = number(volume.size);
            node.created = Some(timestamp(volume.created));
            node.published |= !volume.published.is_empty();
            node.attributes.insert("filesystem".to_owned(), volume.fs.as_str().to_owned());
            if volume.ephemeral.is_some() {
                node.attributes.insert("ephemeral".to_owned(), "true".to_owned());
            }
            (ObjectId::from(volume.id), volume.phase)
        }
        LineageObject::Snapshot(snapshot) => {
            node.name = snapshot.name.to_string();
            node.size_bytes = number(snapshot.size);
            node.created = Some(timestamp(snapshot.created));
            node.group_snapshot_id = snapshot.group.map(|group| group.to_string()).unwrap_or_default();
            if snapshot.undo {
                node.attributes.insert("undo".to_owned(), "true".to_owned());
            }
            (ObjectId::from(snapshot.id), snapshot.phase)
        }
        LineageObject::Group { group, size } => {
            node.name = group.name.to_string();
            node.size_bytes = number(*size);
            node.created = Some(timestamp(group.created));
            (ObjectId::from(group.id), group.phase)
        }
    };
    node.id = id.to_string();
    node.kind = kind(id) as i32;
    node.state = state(phase) as i32;
    node.pool = id.pool().to_string();
    node.place = entry.place.to_string();
    node.backend = service.backend_of(id.pool()).to_owned();
    if let Some(parent) = entry.parent {
        node.parent_id = parent.to_string();
        node.parent_kind = kind(parent) as i32;
    }
    match entry.usage {
        Some(usage) => (node.own_bytes, node.shared_bytes) = (number(usage.own), number(usage.shared)),
        None => {
            node.attributes.insert("usage".to_owned(), "unknown".to_owned());
        }
    }
    node
}

fn kind(id: ObjectId) -> Kind {
    match id {
        ObjectId::Volume(_) => Kind::Volume,
        ObjectId::Snapshot(_) => Kind::Snapshot,
        ObjectId::Group(_) => Kind::Group,
    }
}

fn state(phase: Phase) -> State {
    match phase {
        Phase::Creating | Phase::Receiving { .. } => State::Creating,
        Phase::Ready => State::Ready,
        Phase::Deleting => State::Deleting,
        Phase::Replacing { .. } | Phase::Growing { .. } => State::Changing,
    }
}

/// The sentences of what keeps a pool from working.
fn reasons(pool: &PoolStatus) -> Vec<&str> {
    let bad = pool.faults.iter().filter(|fault| fault.severity >= Severity::Inaccessible);
    bad.map(|fault| fault.message.as_str()).collect()
}

/// What is worth knowing though it works.
fn warnings(pool: &PoolStatus) -> Vec<String> {
    let degraded = pool.faults.iter().filter(|fault| fault.severity < Severity::Inaccessible);
    pool.info.warnings.iter().cloned().chain(degraded.map(|fault| fault.message.clone())).collect()
}

/// An open pool.
pub(super) fn pool(pool: &PoolStatus) -> pb::Pool {
    let reasons = reasons(pool);
    pb::Pool {
        id: pool.info.id.to_string(),
        name: pool.info.name.clone(),
        backend: pool.info.backend.to_owned(),
        path: pool.info.path.clone(),
        filesystem: pool.info.filesystem.clone(),
        reflink: pool.info.shares_copies,
        size_bytes: number(pool.capacity.size),
        available_bytes: number(pool.capacity.available),
        allocated_bytes: number(pool.capacity.allocated),
        reserved_bytes: number(pool.capacity.reserved),
        logical_bytes: number(pool.logical),
        volumes: pool.volumes,
        snapshots: pool.snapshots,
        ready: reasons.is_empty(),
        reason: reasons.join("; "),
        warnings: warnings(pool),
        attributes: BTreeMap::new(),
    }
}

/// A pool that is configured and could not be opened.
pub(super) fn unopened((name, reason): (String, String)) -> pb::Pool {
    pb::Pool { name, reason, ..pb::Pool::default() }
}

/// Something left over.
pub(super) fn orphan(orphan: &Orphan) -> pb::Orphan {
    pb::Orphan {
        id: orphan.leftover.id.clone(),
        kind: orphan.leftover.kind.to_owned(),
        path: orphan.leftover.path.display().to_string(),
        pool: orphan.pool.to_string(),
        size_bytes: number(orphan.leftover.size),
        reason: orphan.leftover.reason.clone(),
        proven: orphan.leftover.proven,
    }
}

/// How far a copy is.
pub(super) fn progress(step: &CopyProgress) -> pb::Progress {
    use pb::progress::State;
    let state = match step.ended {
        None => State::Running,
        Some(true) => State::Done,
        Some(false) => State::Failed,
    };
    pb::Progress {
        id: step.id.to_string(),
        operation: step.operation.to_owned(),
        done_bytes: number(step.done),
        total_bytes: number(step.total),
        state: state as i32,
    }
}

/// One thing that was looked at.
pub(in crate::csi) fn check(check: Check) -> pb::Check {
    let status = match check.status {
        CheckStatus::Ok => pb::check::Status::Ok,
        CheckStatus::Warn => pb::check::Status::Warn,
        CheckStatus::Fail => pb::check::Status::Fail,
    };
    pb::Check { name: check.name, status: status as i32, detail: check.detail, mend: check.mend }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::{Capacity, Fault, PoolInfo};
    use crate::volume::PoolId;

    fn status(faults: Vec<Fault>, warnings: Vec<String>) -> PoolStatus {
        PoolStatus {
            info: PoolInfo {
                id: PoolId::random(),
                name: "fast".to_owned(),
                backend: "local",
                path: "/srv/fast".to_owned(),
                filesystem: "xfs".to_owned(),
                node_local: true,
                shares_copies: true,
                tracks_changes: true,
                warnings,
            },
            capacity: Capacity { size: 10, available: 6, allocated: 3, reserved: 1 },
            logical: 70,
            volumes: 2,
            snapshots: 1,
            buffered: Some(0),
            faults,
        }
    }

    #[test]
    fn a_fault_makes_a_pool_not_ready_and_a_weakness_only_warns() {
        let fault = |severity| Fault { severity, reason: "R", message: "the disk is slow".to_owned() };
        let check = |faults: Vec<Fault>, warnings: Vec<String>, ready: bool, warned: usize| {
            let status = status(faults, warnings);
            let shown = pool(&status);
            assert_eq!((shown.ready, shown.reason.is_empty(), shown.warnings.len()), (ready, ready, warned));
        };
        check(vec![], vec![], true, 0);
        check(vec![], vec!["copies take full space".to_owned()], true, 1);
        check(vec![fault(Severity::Degraded)], vec![], true, 1);
        check(vec![fault(Severity::Inaccessible)], vec![], false, 0);
        assert!(!unopened(("slow".to_owned(), "gone".to_owned())).ready);
    }
}
