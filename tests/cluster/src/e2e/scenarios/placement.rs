//! A pod whose volume is restored runs where the snapshot is.
//!
//! The scheduler does not know where a snapshot is, and may choose the wrong node. Provisioning then fails there with RESOURCE_EXHAUSTED,
//! and the scheduler tries again; or the volume is made on the right node and the pod follows.

use std::collections::BTreeMap;
use std::rc::Rc;

use anyhow::{Result, ensure};

use crate::objects::{CLAIM, POD};
use crate::setup::Env;
use crate::space::{Claim, Pod, Space};

/// For each node, in batches.
const RESTORES: usize = 25;
const BATCH: usize = 5;

pub(crate) async fn run(space: Rc<Space>) -> Result<()> {
    for node in Env::nodes() {
        space.claim(Claim::new(node, "e2e", "32Mi")).await?;
        space
            .once(
                Pod::new(node).script(&format!("echo {node} >/data/who; sync")).claim(node, "/data").on(node),
            )
            .await?;
        space.snapshot(node, node).await?;
    }
    let mut wrong = BTreeMap::new();
    for batch in 0..RESTORES / BATCH {
        let names: Vec<_> = Env::nodes()
            .into_iter()
            .flat_map(|node| (0..BATCH).map(move |one| (format!("{node}-{}", batch * BATCH + one), node)))
            .collect();
        for (name, node) in &names {
            space.claim(Claim::new(name, "e2e", "32Mi").of_snapshot(node)).await?;
            space.make(Pod::new(name).script("cat /data/who").claim(name, "/data").object()).await?;
        }
        for (name, node) in &names {
            let (said, at) = (space.finished(name).await?, space.node_of(name).await?);
            if said.trim() != *node || at != *node {
                wrong.insert(name.clone(), format!("runs on {at} and holds {said}"));
            }
        }
        for (name, _) in &names {
            for kind in [POD, CLAIM] {
                space.env.objects.delete(kind, &space.name, name, None).await?;
            }
        }
    }
    ensure!(wrong.is_empty(), "{wrong:#?}");
    Ok(())
}
