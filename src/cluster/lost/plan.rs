//! What was lost with a node: the decision, on what was read.

use std::collections::BTreeSet;

use serde::Serialize;

use crate::cluster::claims::Name;
use crate::volume::{ObjectId, PoolId, VolumeId};

/// A PersistentVolume, with what decides about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Volume {
    /// Its name.
    pub name: String,
    /// Its uid: another object of the same name is not meant.
    #[serde(skip)]
    pub uid: String,
    /// CSI's id.
    pub id: String,
    /// The claim that is bound to it.
    pub claim: Option<Claim>,
    /// The one node that it can be used on.
    #[serde(skip)]
    pub node: Option<String>,
}

/// A claim, as its volume names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Claim {
    /// Its name.
    #[serde(flatten)]
    pub name: Name,
    /// Its uid; empty where the volume does not say.
    #[serde(skip)]
    pub uid: String,
}

/// A VolumeSnapshotContent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Snapshot {
    /// Its name.
    pub name: String,
    /// Its uid.
    #[serde(skip)]
    pub uid: String,
    /// CSI's id.
    pub id: String,
    /// The VolumeSnapshot that it is bound to.
    pub snapshot: Option<Claim>,
    /// The node for which an earlier attempt marked it.
    #[serde(skip)]
    pub marked: Option<String>,
}

/// A VolumeGroupSnapshotContent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Group {
    /// Its name.
    pub name: String,
    /// The version of its API that the cluster serves.
    #[serde(skip)]
    pub version: &'static str,
    /// Its uid.
    #[serde(skip)]
    pub uid: String,
    /// CSI's id.
    pub id: String,
    /// The VolumeGroupSnapshot that it is bound to.
    pub snapshot: Option<Claim>,
    /// CSI's ids of the members.
    #[serde(skip)]
    pub members: Vec<String>,
    /// The node for which an earlier attempt marked it.
    #[serde(skip)]
    pub marked: Option<String>,
}

/// Something that belongs to the node and is let alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Kept {
    /// What it is.
    pub object: String,
    /// Why.
    pub reason: String,
}

/// What Kubernetes holds, as it was read.
#[derive(Debug, Clone, Default)]
pub struct Held {
    /// PersistentVolumes of the driver.
    pub volumes: Vec<Volume>,
    /// VolumeSnapshotContents of the driver.
    pub snapshots: Vec<Snapshot>,
    /// VolumeGroupSnapshotContents of the driver.
    pub groups: Vec<Group>,
}

/// What was lost.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Loss {
    /// The node.
    pub node: String,
    /// The ids of its pools.
    pub pools: Vec<String>,
    /// Groups to let go of.
    pub groups: Vec<Group>,
    /// Snapshots to let go of.
    pub snapshots: Vec<Snapshot>,
    /// Volumes to let go of.
    pub volumes: Vec<Volume>,
    /// What is let alone.
    pub kept: Vec<Kept>,
}

impl Loss {
    /// Finds what was lost with `node`, where `alive` are the pools that answer now, each with its node, and `also` those
    /// that a person says were there.
    pub fn find(node: &str, held: Held, alive: &[(PoolId, String)], also: &[PoolId]) -> Loss {
        let mut loss = Loss { node: node.to_owned(), ..Loss::default() };
        let is_here = |volume: &Volume| volume.node.as_deref() == Some(node);
        let marked_for = |marked: &Option<String>| marked.as_deref() == Some(node);
        let mut pools: BTreeSet<PoolId> =
            held.volumes.iter().filter(|v| is_here(v)).filter_map(|v| pool(&v.id)).collect();
        pools.extend(held.snapshots.iter().filter(|s| marked_for(&s.marked)).filter_map(|s| pool(&s.id)));
        pools.extend(held.groups.iter().filter(|g| marked_for(&g.marked)).filter_map(|g| pool(&g.id)));
        pools.extend(also);
        // A pool that also belongs to volumes of another node has moved, or never was this node's alone.
        for volume in held.volumes.iter().filter(|volume| volume.node.is_some() && !is_here(volume)) {
            if let Some(shared) = pool(&volume.id).filter(|pool| pools.remove(pool)) {
                let other = volume.node.as_deref().unwrap_or_default();
                loss.keep(
                    format!("pool {shared}"),
                    format!("PersistentVolume {} says that it is on node {other}", volume.name),
                );
            }
        }
        for (answers, other) in alive {
            if pools.remove(answers) {
                loss.keep(
                    format!("pool {answers}"),
                    format!("it answers on node {other}: its data is there"),
                );
            }
        }
        let lost = |id: &str| pool(id).is_some_and(|pool| pools.contains(&pool));
        for volume in held.volumes {
            // A static PersistentVolume without an affinity has its data in the pool of its handle all the same.
            if lost(&volume.id) {
                loss.volumes.push(volume);
            } else if volume.node.as_deref() == Some(node) && volume.id.parse::<VolumeId>().is_err() {
                loss.keep(
                    format!("PersistentVolume {}", volume.name),
                    "its handle is not an id of this driver".to_owned(),
                );
            }
        }
        for snapshot in held.snapshots {
            if lost(&snapshot.id) {
                loss.snapshots.push(snapshot);
            }
        }
        for group in held.groups {
            if !lost(&group.id) && !group.members.iter().any(|member| lost(member)) {
                continue;
            }
            let living = group.members.iter().filter(|member| !lost(member)).count();
            if living == 0 {
                loss.groups.push(group);
            } else {
                let reason = format!(
                    "{living} of its {} members are on other nodes and would be deleted with it",
                    group.members.len()
                );
                loss.keep(format!("VolumeGroupSnapshotContent {}", group.name), reason);
            }
        }
        loss.pools = pools.iter().map(PoolId::to_string).collect();
        loss
    }

    fn keep(&mut self, object: String, reason: String) {
        self.kept.push(Kept { object, reason });
    }

    /// Whether there is nothing to let go of.
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty() && self.snapshots.is_empty() && self.volumes.is_empty()
    }
}

/// The pool in an id of this driver.
pub(super) fn pool(id: &str) -> Option<PoolId> {
    Some(id.parse::<ObjectId>().ok()?.pool())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `v1@a`: the first volume of pool `aaaaaaaa`.
    fn id(text: &str) -> String {
        let (name, pool) = text.split_once('@').unwrap();
        format!("{}-{}-{:032x}", &name[..1], pool.repeat(8), name[1..].parse::<u32>().unwrap())
    }

    fn volume(text: &str, node: Option<&str>) -> Volume {
        let node = node.map(str::to_owned);
        Volume { name: text.into(), uid: "u".into(), id: id(text), claim: None, node }
    }

    fn snapshot(text: &str, marked: Option<&str>) -> Snapshot {
        let marked = marked.map(str::to_owned);
        Snapshot { name: text.into(), uid: "u".into(), id: id(text), snapshot: None, marked }
    }

    fn group(text: &str, members: &[&str]) -> Group {
        let members = members.iter().map(|member| id(member)).collect();
        Group {
            name: text.into(),
            version: "v1",
            uid: "u".into(),
            id: id(text),
            snapshot: None,
            members,
            marked: None,
        }
    }

    #[track_caller]
    fn check(held: Held, alive: &[&str], also: &[&str], expect: &[&str], kept: &[&str]) {
        let pool = |letter: &&str| letter.repeat(8).parse::<PoolId>().unwrap();
        let alive: Vec<_> = alive.iter().map(|letter| (pool(letter), "n2".to_owned())).collect();
        let also: Vec<_> = also.iter().map(pool).collect();
        let loss = Loss::find("n1", held, &alive, &also);
        let mut found: Vec<&str> = loss.groups.iter().map(|group| group.name.as_str()).collect();
        found.extend(loss.snapshots.iter().map(|snapshot| snapshot.name.as_str()));
        found.extend(loss.volumes.iter().map(|volume| volume.name.as_str()));
        assert_eq!(found, expect);
        let texts: Vec<String> =
            loss.kept.iter().map(|kept| format!("{}: {}", kept.object, kept.reason)).collect();
        assert_eq!(texts.len(), kept.len(), "{texts:?}");
        assert!(texts.iter().zip(kept).all(|(text, kept)| text.contains(kept)), "{texts:?}");
    }

    fn held(volumes: Vec<Volume>, snapshots: Vec<Snapshot>, groups: Vec<Group>) -> Held {
        Held { volumes, snapshots, groups }
    }

    #[test]
    fn what_lay_in_the_nodes_pools_is_lost_and_nothing_else() {
        let volumes = vec![volume("v1@a", Some("n1")), volume("v2@b", Some("n2")), volume("v3@a", None)];
        let snapshots = vec![snapshot("s1@a", None), snapshot("s2@b", None), snapshot("s3@c", None)];
        check(held(volumes, snapshots, vec![]), &["b"], &[], &["s1@a", "v1@a", "v3@a"], &[]);
    }

    #[test]
    fn a_pool_that_lives_elsewhere_is_let_alone() {
        let volumes = || vec![volume("v1@a", Some("n1")), volume("v2@b", Some("n1"))];
        check(
            held(volumes(), vec![snapshot("s1@a", None)], vec![]),
            &["a"],
            &[],
            &["v2@b"],
            &["answers on node n2"],
        );
        let moved = [volumes(), vec![volume("v3@a", Some("n3"))]].concat();
        check(held(moved, vec![], vec![]), &[], &[], &["v2@b"], &["v3@a says that it is on node n3"]);
    }

    #[test]
    fn snapshots_are_found_again_when_their_volumes_are_gone() {
        let snapshots =
            || vec![snapshot("s1@a", Some("n1")), snapshot("s2@a", None), snapshot("s3@b", Some("n9"))];
        check(held(vec![], snapshots(), vec![]), &[], &[], &["s1@a", "s2@a"], &[]);
        check(held(vec![], snapshots(), vec![]), &[], &["b"], &["s1@a", "s2@a", "s3@b"], &[]);
        check(held(vec![], snapshots(), vec![]), &["a"], &[], &[], &["answers on node n2"]);
    }

    #[test]
    fn a_group_goes_only_where_all_its_members_were_lost() {
        let volumes = || vec![volume("v1@a", Some("n1"))];
        let groups = vec![group("g1@a", &["s1@a", "s2@a"]), group("g2@b", &["s3@b"])];
        check(held(volumes(), vec![], groups), &["b"], &[], &["g1@a", "v1@a"], &[]);
        let over_two = vec![group("g1@a", &["s1@a", "s2@b"])];
        check(
            held(volumes(), vec![], over_two),
            &["b"],
            &[],
            &["v1@a"],
            &["1 of its 2 members are on other nodes"],
        );
    }

    #[test]
    fn handles_that_are_not_ours_are_named_and_let_alone() {
        let mut strange = volume("v1@a", Some("n1"));
        strange.id = "../../etc".into();
        check(held(vec![strange], vec![], vec![]), &[], &[], &[], &["not an id of this driver"]);
    }
}
