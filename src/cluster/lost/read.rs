//! Reading what Kubernetes holds of the driver, and whether the node may still be alive.

use anyhow::Result;
use kube::api::ListParams;

use super::plan::{Claim, Group, Held, Loss, Snapshot, Volume};
use super::release::MARK;
use crate::cluster::access::Access;
use crate::cluster::claims::Name;
use crate::cluster::driver::{Driver, Pools, pools};
use crate::cluster::kinds::{self, Ref, group_handles, is_absent, is_ready, snapshot_handle, told};
use crate::volume::PoolId;
use crate::volume::topology::TOPOLOGY_NODE;

/// Why the node must not be forgotten; `None` where nothing speaks against it.
///
/// # Errors
/// Where it cannot be found out: then it must not be forgotten either.
pub async fn refusal(access: &Access, answers: &Pools, node: &str) -> Result<Option<String>> {
    let found = kinds::all::<kinds::Node>(&access.client).get(node).await;
    match found {
        Ok(found) if is_ready(&found) => {
            return Ok(Some(format!(
                "node {node} is Ready; only a node that is gone for good can be forgotten, see `kubectl get node {node}`"
            )));
        }
        Err(error) if !is_absent(&error) => return Err(told(&format!("read node {node}"), error)),
        _ => {}
    }
    let pool = answers.pools.iter().find(|pool| pool.node() == node);
    Ok(pool.map(|pool| {
        format!(
            "the agent of node {node} answers (it has pool {}), so its volumes are not lost; stop it first if you are sure",
            pool.name
        )
    }))
}

/// Reads everything, and finds what was lost with the node.
///
/// # Errors
/// Where a list cannot be read whole, or the driver cannot be asked which pools answer.
pub async fn survey(
    access: &Access,
    driver: &dyn Driver,
    node: &str,
    also: &[PoolId],
) -> Result<(Loss, Pools)> {
    let answers = pools(driver).await?;
    let alive: Vec<(PoolId, String)> = answers
        .pools
        .iter()
        .filter_map(|pool| Some((pool.id.parse().ok()?, pool.node().to_owned())))
        .collect();
    let loss = Loss::find(node, held(access).await?, &alive, also);
    Ok((loss, answers))
}

async fn held(access: &Access) -> Result<Held> {
    let (client, mut held) = (&access.client, Held::default());
    let volumes = kinds::each(kinds::all::<kinds::Volume>(client), ListParams::default(), |volume| {
        if let Some(id) = volume.spec.handle(&access.driver) {
            held.volumes.push(Volume {
                id: id.to_owned(),
                node: volume.spec.only_node(TOPOLOGY_NODE).map(str::to_owned),
                claim: volume.spec.claim_ref.as_ref().and_then(claim),
                name: volume.metadata.name.unwrap_or_default(),
                uid: volume.metadata.uid.unwrap_or_default(),
            });
        }
    });
    volumes.await.map_err(|error| told("list PersistentVolumes", error))?;
    let contents = kinds::list_if_there(kinds::all::<kinds::Content>(client)).await;
    for content in contents.map_err(|error| told("list VolumeSnapshotContents", error))?.unwrap_or_default() {
        let Some(id) = snapshot_handle(&content).filter(|_| content.spec.driver == access.driver) else {
            continue;
        };
        held.snapshots.push(Snapshot {
            id: id.to_owned(),
            snapshot: claim(&content.spec.volume_snapshot_ref),
            marked: mark(&content.metadata.annotations),
            name: content.metadata.name.clone().unwrap_or_default(),
            uid: content.metadata.uid.clone().unwrap_or_default(),
        });
    }
    let groups = kinds::group_contents(client).await;
    let groups = groups.map_err(|error| told("list VolumeGroupSnapshotContents", error))?;
    let (version, groups) = groups.unwrap_or_default();
    for content in groups {
        let (Some(id), members) = group_handles(&content) else { continue };
        if content.spec.driver != access.driver {
            continue;
        }
        held.groups.push(Group {
            id: id.to_owned(),
            version,
            members: members.into_iter().map(str::to_owned).collect(),
            snapshot: claim(&content.spec.volume_group_snapshot_ref),
            marked: mark(&content.metadata.annotations),
            name: content.metadata.name.clone().unwrap_or_default(),
            uid: content.metadata.uid.clone().unwrap_or_default(),
        });
    }
    Ok(held)
}

fn claim(of: &Ref) -> Option<Claim> {
    let name = Name { namespace: of.namespace.clone(), name: of.name.clone() };
    (!name.name.is_empty()).then(|| Claim { name, uid: of.uid.clone() })
}

fn mark(annotations: &Option<std::collections::BTreeMap<String, String>>) -> Option<String> {
    annotations.as_ref()?.get(MARK).cloned()
}
