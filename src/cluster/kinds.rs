//! The kinds of object that are read here, each with the few fields that are looked at.
//!
//! A cluster holds thousands of claims and pods, and most of what they say is of no use here, so they are read into
//! these small forms instead of whole ones. VolumeSnapshots and their kin are custom resources and have no other form
//! anyway. A field that the API server leaves out is empty here, never an error: one strange object must not hide the
//! others.

use std::fmt::Debug;

use kube::api::{ApiResource, ListParams};
use kube::core::{DynamicResourceScope, GroupVersionKind, NotUsed, Object};
use kube::{Api, Client, Resource};
use serde::Deserialize;
use serde::de::DeserializeOwned;

mod pods;

pub(super) use pods::{Container, PodSpec, PodStatus, pod_is_ready, pod_uses};

/// Objects that one answer holds.
const PAGE: u32 = 500;

/// A kind whose place in the API is known here.
pub(super) trait Known:
    Resource<DynamicType = ApiResource, Scope = DynamicResourceScope> + Clone + Debug + DeserializeOwned
{
    /// Where it is.
    fn resource() -> ApiResource;
}

macro_rules! known {
    ($type:ty, $group:literal, $version:literal, $kind:literal, $plural:literal) => {
        impl Known for $type {
            fn resource() -> ApiResource {
                ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk($group, $version, $kind), $plural)
            }
        }
    };
}

pub(super) type Volume = Object<VolumeSpec, Phase>;
pub(super) type Claim = Object<ClaimSpec, Phase>;
pub(super) type Snapshot = Object<SnapshotSpec, SnapshotStatus>;
pub(super) type Content = Object<ContentSpec, ContentStatus>;
pub(super) type Group = Object<SnapshotSpec, GroupStatus>;
pub(super) type GroupContent = Object<GroupContentSpec, GroupContentStatus>;
pub(super) type Node = Object<NodeSpec, NodeStatus>;
pub(super) type Pod = Object<PodSpec, PodStatus>;
pub(super) type CsiNode = Object<CsiNodeSpec, NotUsed>;
pub(super) type CsiDriver = Object<CsiDriverSpec, NotUsed>;

known!(Volume, "", "v1", "PersistentVolume", "persistentvolumes");
known!(Claim, "", "v1", "PersistentVolumeClaim", "persistentvolumeclaims");
known!(Node, "", "v1", "Node", "nodes");
known!(Pod, "", "v1", "Pod", "pods");
known!(CsiNode, "storage.k8s.io", "v1", "CSINode", "csinodes");
known!(CsiDriver, "storage.k8s.io", "v1", "CSIDriver", "csidrivers");
known!(Snapshot, "snapshot.storage.k8s.io", "v1", "VolumeSnapshot", "volumesnapshots");
known!(Content, "snapshot.storage.k8s.io", "v1", "VolumeSnapshotContent", "volumesnapshotcontents");
known!(Group, "groupsnapshot.storage.k8s.io", "v1", "VolumeGroupSnapshot", "volumegroupsnapshots");
known!(
    GroupContent,
    "groupsnapshot.storage.k8s.io",
    "v1",
    "VolumeGroupSnapshotContent",
    "volumegroupsnapshotcontents"
);

/// The versions of the group kinds that clusters serve, newest first.
const GROUP_VERSIONS: [&str; 3] = ["v1", "v1beta2", "v1beta1"];

/// A kind in another version of its group.
pub(super) fn in_version<K: Known>(client: &Client, namespace: Option<&str>, version: &str) -> Api<K> {
    let known = K::resource();
    let resource = ApiResource {
        api_version: format!("{}/{version}", known.group),
        version: version.to_owned(),
        ..known
    };
    match namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    }
}

/// All VolumeGroupSnapshotContents, with the version of their API; `None` where they are not installed.
pub(super) async fn group_contents(
    client: &Client,
) -> Result<Option<(&'static str, Vec<GroupContent>)>, kube::Error> {
    for version in GROUP_VERSIONS {
        if let Some(found) = list_if_there(in_version(client, None, version)).await? {
            return Ok(Some((version, found)));
        }
    }
    Ok(None)
}

/// All objects of a kind.
pub(super) fn all<K: Known>(client: &Client) -> Api<K> {
    Api::all_with(client.clone(), &K::resource())
}

/// The objects of a kind in a namespace.
pub(super) fn within<K: Known>(client: &Client, namespace: &str) -> Api<K> {
    Api::namespaced_with(client.clone(), namespace, &K::resource())
}

/// Shows every object to `visit`, page by page from one state of the cluster, and keeps none.
///
/// # Errors
/// Whatever any page fails with, also when earlier ones came: then the list is partial and says nothing about absence.
pub(super) async fn each<K>(
    api: Api<K>,
    params: ListParams,
    mut visit: impl FnMut(K),
) -> Result<(), kube::Error>
where
    K: Clone + Debug + DeserializeOwned,
{
    // Without a resource version the first page is read from the store itself, not from a cache that may be behind.
    let mut params = ListParams { limit: Some(PAGE), ..params };
    loop {
        let page = api.list(&params).await?;
        page.items.into_iter().for_each(&mut visit);
        match page.metadata.continue_ {
            Some(token) if !token.is_empty() => params.continue_token = Some(token),
            _ => return Ok(()),
        }
    }
}

/// All objects of a kind, whole or not at all.
pub(super) async fn list<K: Known>(api: Api<K>, params: ListParams) -> Result<Vec<K>, kube::Error> {
    let mut objects = Vec::new();
    each(api, params, |object| objects.push(object)).await?;
    Ok(objects)
}

/// As [`list`], for a kind that need not be installed: `None` where it is not.
pub(super) async fn list_if_there<K: Known>(api: Api<K>) -> Result<Option<Vec<K>>, kube::Error> {
    match list(api, ListParams::default()).await {
        Ok(objects) => Ok(Some(objects)),
        Err(error) if is_absent(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether the API server says that there is no such object or kind.
pub(super) fn is_absent(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 404)
}

/// What went wrong, in the API server's own words where it spoke.
pub(super) fn told(doing: &str, error: kube::Error) -> anyhow::Error {
    match error {
        kube::Error::Api(status) => anyhow::anyhow!("cannot {doing}: {}", status.message),
        other => anyhow::Error::new(other).context(format!("cannot {doing}")),
    }
}

/// A reference to another object.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Ref {
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) uid: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Phase {
    pub(super) phase: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct VolumeSpec {
    pub(super) csi: Option<CsiSource>,
    pub(super) claim_ref: Option<Ref>,
    pub(super) node_affinity: Option<Affinity>,
    pub(super) persistent_volume_reclaim_policy: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct CsiSource {
    pub(super) driver: String,
    pub(super) volume_handle: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Affinity {
    required: Option<Selector>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Selector {
    node_selector_terms: Vec<Term>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Term {
    match_expressions: Vec<Expression>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Expression {
    key: String,
    operator: String,
    values: Vec<String>,
}

impl VolumeSpec {
    /// The handle, where the volume is of `driver`.
    pub(super) fn handle(&self, driver: &str) -> Option<&str> {
        self.csi.as_ref().filter(|csi| csi.driver == driver).map(|csi| csi.volume_handle.as_str())
    }

    /// The one node that the volume can be used on, by the value of this topology key. `None` where there are several,
    /// or where the affinity says something else too.
    pub(super) fn only_node(&self, key: &str) -> Option<&str> {
        let terms = &self.node_affinity.as_ref()?.required.as_ref()?.node_selector_terms;
        let mut only = None;
        for term in terms {
            let [expression] = term.match_expressions.as_slice() else { return None };
            let [node] = expression.values.as_slice() else { return None };
            if expression.key != key || expression.operator != "In" {
                return None;
            }
            if only.is_some_and(|other| other != node.as_str()) {
                return None;
            }
            only = Some(node.as_str());
        }
        only
    }
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct ClaimSpec {
    pub(super) volume_name: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct SnapshotSpec {}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct SnapshotStatus {
    pub(super) bound_volume_snapshot_content_name: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct ContentSpec {
    pub(super) driver: String,
    pub(super) deletion_policy: String,
    pub(super) volume_snapshot_ref: Ref,
    source: Source,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Source {
    volume_handle: String,
    snapshot_handle: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct ContentStatus {
    snapshot_handle: String,
}

/// The handle of a content, made or given; `None` while it is being made.
pub(super) fn snapshot_handle(content: &Content) -> Option<&str> {
    let made = content.status.as_ref().map(|status| status.snapshot_handle.as_str());
    [made.unwrap_or_default(), &content.spec.source.snapshot_handle].into_iter().find(|text| !text.is_empty())
}

/// The volume that a content is being made of, while that is so.
pub(super) fn volume_being_cut(content: &Content) -> Option<&str> {
    let volume = Some(content.spec.source.volume_handle.as_str()).filter(|volume| !volume.is_empty());
    volume.filter(|_| snapshot_handle(content).is_none())
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct GroupStatus {}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct GroupContentSpec {
    pub(super) driver: String,
    pub(super) deletion_policy: String,
    pub(super) volume_group_snapshot_ref: Ref,
    source: GroupSource,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct GroupSource {
    group_snapshot_handles: Option<GroupHandles>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct GroupHandles {
    volume_group_snapshot_handle: String,
    volume_snapshot_handles: Vec<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct GroupContentStatus {
    volume_group_snapshot_handle: String,
    // The member list has another name in each version of the API.
    volume_snapshot_info_list: Vec<Member>,
    volume_snapshot_handle_pair_list: Vec<Member>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Member {
    snapshot_handle: String,
}

/// The handle of a group and those of its members.
pub(super) fn group_handles(content: &GroupContent) -> (Option<&str>, Vec<&str>) {
    let given = content.spec.source.group_snapshot_handles.as_ref();
    let made = content.status.as_ref();
    let group = [
        made.map(|status| status.volume_group_snapshot_handle.as_str()),
        given.map(|given| given.volume_group_snapshot_handle.as_str()),
    ];
    let members = made.into_iter().flat_map(|status| {
        status.volume_snapshot_info_list.iter().chain(&status.volume_snapshot_handle_pair_list)
    });
    let members = members.map(|member| member.snapshot_handle.as_str());
    let members = members
        .chain(given.into_iter().flat_map(|given| given.volume_snapshot_handles.iter().map(String::as_str)));
    (group.into_iter().flatten().find(|text| !text.is_empty()), members.collect())
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct NodeSpec {}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct NodeStatus {
    conditions: Vec<Condition>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Condition {
    r#type: String,
    status: String,
}

/// Whether the node's kubelet says that it works.
pub(super) fn is_ready(node: &Node) -> bool {
    let conditions = node.status.iter().flat_map(|status| &status.conditions);
    conditions.clone().any(|condition| condition.r#type == "Ready" && condition.status == "True")
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct CsiNodeSpec {
    pub(super) drivers: Vec<CsiNodeDriver>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct CsiNodeDriver {
    pub(super) name: String,
    pub(super) topology_keys: Vec<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct CsiDriverSpec {
    pub(super) attach_required: Option<bool>,
    pub(super) storage_capacity: Option<bool>,
    pub(super) pod_info_on_mount: Option<bool>,
}
