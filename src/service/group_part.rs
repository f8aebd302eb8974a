//! This node's part of a group snapshot over several nodes.
//!
//! Writes on several nodes depend on each other through the application, so no member may be cut before all members of
//! all nodes are frozen. Only the router sees all nodes. So a part is cut like any group, but for one pause: when its
//! members are frozen it says so, and goes on when it is told to. The freeze limit holds during the pause too: a router
//! that dies or is cut off costs writers that long at most, and then nothing is left of the part.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::Service;
use super::api::GroupStatus;
use crate::volume::record::Millis;
use crate::volume::{Error, GroupId, Kind, Result};

/// What the router decides about a part.
#[derive(Debug)]
pub struct GroupPart {
    /// The id of the whole group, whose pool may be another node's.
    pub id: GroupId,
    /// The moment of the whole group; this node's own time if there is none.
    pub created: Option<Millis>,
    /// The pause between freezing and cutting.
    pub gate: Gate,
}

/// A pause: says that it is reached, and is left when the other side says so.
#[derive(Debug)]
pub struct Gate {
    reached: oneshot::Sender<Option<GroupId>>,
    cut: oneshot::Receiver<()>,
}

impl Gate {
    /// A gate, with what hears that it is reached and what opens it. What is heard is the id of a group of that name
    /// which is there already, where one is. Dropping the opener is to go away.
    pub fn new() -> (Gate, oneshot::Receiver<Option<GroupId>>, oneshot::Sender<()>) {
        let (reached, hears) = oneshot::channel();
        let (opens, cut) = oneshot::channel();
        (Gate { reached, cut }, hears, opens)
    }

    /// Says that everything is frozen, or is there already, and waits until the gate is opened.
    pub(super) async fn pass(self, existing: Option<GroupId>, limit: Duration) -> Result<()> {
        // Whoever does not hear this has gone, and does not open it either.
        let _ = self.reached.send(existing);
        let closed = |why: String| Error::new(Kind::Exhausted, format!("nothing was cut: {why}"));
        match tokio::time::timeout(limit, self.cut).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(closed("the caller went away before it said `cut`".into())),
            Err(_) => Err(closed(format!(
                "the caller did not say `cut` within the {} ms that a filesystem may be frozen",
                limit.as_millis()
            ))),
        }
    }
}

impl Service {
    /// Cuts snapshots of all `volumes` at one moment, which `part` decides, as this node's part of a group. A group of
    /// that name with those members is answered without freezing anything.
    ///
    /// When the gate is not opened within the freeze limit, or its opener is dropped, nothing is left behind. When it
    /// has been opened, the work goes on whatever becomes of the caller.
    pub async fn cut_group_part(
        &self,
        name: &str,
        volumes: Vec<String>,
        part: GroupPart,
    ) -> Result<GroupStatus> {
        self.cut_group(Arc::from(name), volumes, Some(part)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::testing::{Bench, mount, raw, refused};
    use crate::volume::PoolId;

    async fn part(bench: &Bench, id: GroupId, volumes: &[&String], go: bool) -> Result<GroupStatus> {
        let (gate, reached, opens) = Gate::new();
        let part = GroupPart { id, created: Some(77), gate };
        let volumes = volumes.iter().map(|id| (*id).clone()).collect();
        let cutting = bench.service.cut_group_part("night", volumes, part);
        let router = async {
            let existing = reached.await;
            if go {
                let _ = opens.send(());
            } else {
                drop(opens);
            }
            existing
        };
        let (cut, existing) = tokio::join!(cutting, router);
        if let (Ok(cut), Ok(Some(existing))) = (&cut, existing) {
            assert_eq!(cut.id, existing);
        }
        cut
    }

    #[tokio::test]
    async fn a_part_has_the_id_of_a_pool_elsewhere_and_outlives_a_restart_until_it_is_deleted() {
        let bench = Bench::new("xfs").await;
        let (a, b) = (bench.volume("a", raw()).await, bench.volume("b", mount(&[])).await);
        let id = GroupId::new(PoolId::random());
        let cut = part(&bench, id, &[&a, &b], true).await.unwrap();
        assert_eq!((cut.id, cut.created, cut.snapshots.len()), (id, 77, 2));
        let again = part(&bench, GroupId::new(PoolId::random()), &[&a, &b], true).await.unwrap();
        assert_eq!(again.id, id);
        refused(part(&bench, id, &[&a], true).await, Kind::AlreadyExists, "source_volume_ids");

        let bench = bench.restart().await;
        let members: Vec<_> = cut.snapshots.iter().map(|snapshot| snapshot.id.to_string()).collect();
        let found = bench.service.get_group_snapshot(&id.to_string(), &members).unwrap();
        assert_eq!(found.snapshots.len(), 2);
        bench.service.delete_group_snapshot(&id.to_string(), &members).await.unwrap();
        bench.service.delete_group_snapshot(&id.to_string(), &members).await.unwrap();
        let left = bench.service.list_snapshots(&Default::default(), "", 0).unwrap().entries;
        assert!(left.is_empty());
        assert!(bench.restart().await.service.get_group_snapshot(&id.to_string(), &[]).is_err());
    }

    #[tokio::test]
    async fn a_router_that_goes_away_before_the_cut_leaves_nothing() {
        let bench = Bench::new("xfs").await;
        let a = bench.volume("a", raw()).await;
        let before = bench.fake.snapshot_tree("/nowhere").len();
        let id = GroupId::new(PoolId::random());
        refused(part(&bench, id, &[&a], false).await, Kind::Exhausted, "went away");
        assert_eq!(bench.fake.snapshot_tree("/nowhere").len(), before);
        assert!(bench.fake.audit().frozen.is_empty());
        assert_eq!(part(&bench, id, &[&a], true).await.unwrap().id, id);
    }

    #[tokio::test]
    async fn the_id_of_another_group_is_refused() {
        let bench = Bench::new("xfs").await;
        let a = bench.volume("a", raw()).await;
        let other = bench.service.create_group_snapshot("other", vec![a.clone()]).await.unwrap().id;
        refused(part(&bench, other, &[&a], true).await, Kind::AlreadyExists, "group_snapshot_id");
        assert!(bench.service.get_group_snapshot(&other.to_string(), &[]).is_ok());
    }
}
