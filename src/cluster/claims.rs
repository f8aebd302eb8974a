//! Which claim stands for which volume, and which VolumeSnapshot for which snapshot.
//!
//! The driver knows ids, people know names. The bridge is the PersistentVolume and the VolumeSnapshotContent: both name
//! the id and the object in whose place they stand. They are read, claims and VolumeSnapshots need not be.

use std::collections::BTreeMap;
use std::fmt;

use anyhow::{Result, anyhow, bail};
use kube::api::ListParams;
use serde::Serialize;

use super::access::Access;
use super::kinds::{self, Claim, Content, Pod, Snapshot, Volume, is_absent, pod_uses, snapshot_handle, told};
use crate::volume::SnapshotId;
use crate::volume::topology::TOPOLOGY_NODE;

/// The name of an object in a namespace.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Name {
    /// Its namespace.
    pub namespace: String,
    /// Its name there.
    pub name: String,
}

impl Name {
    /// A name that may have its namespace before it; else it is in `namespace`.
    pub fn read(text: &str, namespace: &str) -> Name {
        let (namespace, name) = text.split_once('/').unwrap_or((namespace, text));
        Name { namespace: namespace.to_owned(), name: name.to_owned() }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// What stands for an object of the driver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stand {
    /// The PersistentVolume or VolumeSnapshotContent.
    pub object: String,
    /// The claim or VolumeSnapshot, if it is bound to one.
    pub name: Option<Name>,
    /// The node that it can be used on, where that is one.
    pub node: Option<String>,
}

/// Names by ids.
#[derive(Debug, Default)]
pub struct Names {
    by_id: BTreeMap<String, Stand>,
}

impl Names {
    /// What stands for this id.
    pub fn of(&self, id: &str) -> Option<&Stand> {
        self.by_id.get(id)
    }

    /// The ids that stand behind a name; a claim and a VolumeSnapshot may have the same.
    pub fn ids<'a>(&'a self, name: &'a Name) -> impl Iterator<Item = &'a str> {
        self.by_id
            .iter()
            .filter(move |(_, stand)| stand.name.as_ref() == Some(name))
            .map(|(id, _)| id.as_str())
    }
}

/// Reads all names of the driver's objects.
///
/// # Errors
/// Where a list cannot be read whole. Snapshots need not be installed.
pub async fn names(access: &Access) -> Result<Names> {
    let mut names = Names::default();
    let volumes = kinds::all::<Volume>(&access.client);
    let listed = kinds::each(volumes, ListParams::default(), |volume| {
        let Some(id) = volume.spec.handle(&access.driver) else { return };
        let claim = volume.spec.claim_ref.as_ref();
        let stand = Stand {
            object: volume.metadata.name.clone().unwrap_or_default(),
            name: claim.map(|claim| Name { namespace: claim.namespace.clone(), name: claim.name.clone() }),
            node: volume.spec.only_node(TOPOLOGY_NODE).map(str::to_owned),
        };
        names.by_id.insert(id.to_owned(), stand);
    });
    listed.await.map_err(|error| told("list PersistentVolumes", error))?;
    let contents = kinds::all::<Content>(&access.client);
    let listed = kinds::each(contents, ListParams::default(), |content| {
        let Some(id) = snapshot_handle(&content).filter(|_| content.spec.driver == access.driver) else {
            return;
        };
        let of = &content.spec.volume_snapshot_ref;
        let name = Name { namespace: of.namespace.clone(), name: of.name.clone() };
        let stand = Stand {
            object: content.metadata.name.clone().unwrap_or_default(),
            name: Some(name).filter(|name| !name.name.is_empty()),
            node: None,
        };
        names.by_id.insert(id.to_owned(), stand);
    });
    match listed.await {
        Err(error) if !is_absent(&error) => Err(told("list VolumeSnapshotContents", error)),
        _ => Ok(names),
    }
}

/// The id of the volume behind a claim.
///
/// # Errors
/// Where the claim is not there, not bound, or not of this driver.
pub async fn volume_of(access: &Access, claim: &Name) -> Result<String> {
    let claims = kinds::within::<Claim>(&access.client, &claim.namespace);
    let found = claims.get(&claim.name).await.map_err(|error| told(&format!("read PVC {claim}"), error))?;
    if found.spec.volume_name.is_empty() {
        bail!("PVC {claim} is not bound to a volume yet");
    }
    let volume = kinds::all::<Volume>(&access.client).get(&found.spec.volume_name).await;
    let volume =
        volume.map_err(|error| told(&format!("read PersistentVolume {}", found.spec.volume_name), error))?;
    let id = volume.spec.handle(&access.driver);
    id.map(str::to_owned).ok_or_else(|| anyhow!("PVC {claim} is not a volume of {}", access.driver))
}

/// The id of the snapshot behind a VolumeSnapshot. An id is taken as it is: undo snapshots have no other name.
///
/// # Errors
/// Where it is not there, not taken yet, or not of this driver.
pub async fn snapshot_of(access: &Access, text: &str) -> Result<String> {
    if text.parse::<SnapshotId>().is_ok() {
        return Ok(text.to_owned());
    }
    let name = Name::read(text, &access.namespace);
    let snapshots = kinds::within::<Snapshot>(&access.client, &name.namespace);
    let found = snapshots
        .get(&name.name)
        .await
        .map_err(|error| told(&format!("read VolumeSnapshot {name}"), error))?;
    let content = found.status.map(|status| status.bound_volume_snapshot_content_name).unwrap_or_default();
    if content.is_empty() {
        bail!(
            "VolumeSnapshot {name} is not taken yet; see `kubectl describe volumesnapshot -n {} {}`",
            name.namespace,
            name.name
        );
    }
    let content = kinds::all::<Content>(&access.client).get(&content).await;
    let content =
        content.map_err(|error| told(&format!("read the content of VolumeSnapshot {name}"), error))?;
    if content.spec.driver != access.driver {
        bail!("VolumeSnapshot {name} is not one of {}", access.driver);
    }
    let id = snapshot_handle(&content).map(str::to_owned);
    id.ok_or_else(|| anyhow!("VolumeSnapshot {name} is not taken yet; try again"))
}

/// The pods that use a claim, or will as soon as they run.
///
/// # Errors
/// Where the pods cannot be listed.
pub async fn users_of(access: &Access, claim: &Name) -> Result<Vec<String>> {
    let mut users = Vec::new();
    let pods = kinds::within::<Pod>(&access.client, &claim.namespace);
    let listed = kinds::each(pods, ListParams::default(), |pod| {
        if pod_uses(&pod, &claim.name) {
            users.extend(pod.metadata.name);
        }
    });
    listed.await.map_err(|error| told(&format!("list the pods of namespace {}", claim.namespace), error))?;
    Ok(users)
}

/// What the driver still has in Kubernetes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Left {
    /// PersistentVolumes.
    pub volumes: usize,
    /// VolumeSnapshotContents.
    pub snapshots: usize,
    /// VolumeGroupSnapshotContents.
    pub groups: usize,
    /// The first few of them.
    pub examples: Vec<String>,
}

impl Left {
    fn example(&mut self, kind: &str, name: Option<String>) {
        match self.examples.len() {
            0..4 => self.examples.push(format!("{kind}/{}", name.unwrap_or_default())),
            4 => self.examples.push("…".to_owned()),
            _ => {}
        }
    }
}

/// Counts what is left of the driver.
///
/// # Errors
/// Where a list cannot be read whole: then it is not known that nothing is left.
pub async fn left(access: &Access) -> Result<Left> {
    let (client, mut left) = (&access.client, Left::default());
    let volumes = kinds::each(kinds::all::<Volume>(client), ListParams::default(), |volume| {
        if volume.spec.handle(&access.driver).is_some() {
            left.volumes += 1;
            left.example("persistentvolume", volume.metadata.name);
        }
    });
    volumes.await.map_err(|error| told("list PersistentVolumes", error))?;
    let contents = kinds::each(kinds::all::<Content>(client), ListParams::default(), |content| {
        if content.spec.driver == access.driver {
            left.snapshots += 1;
            left.example("volumesnapshotcontent", content.metadata.name);
        }
    });
    if let Err(error) = contents.await
        && !is_absent(&error)
    {
        return Err(told("list VolumeSnapshotContents", error));
    }
    let groups = kinds::group_contents(client).await;
    let groups = groups.map_err(|error| told("list VolumeGroupSnapshotContents", error))?;
    for content in groups.into_iter().flat_map(|(_, contents)| contents) {
        if content.spec.driver == access.driver {
            left.groups += 1;
            left.example("volumegroupsnapshotcontent", content.metadata.name);
        }
    }
    Ok(left)
}
