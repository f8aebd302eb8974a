//! Every call reaches the node that it is for, and a new volume the node that has room.

use std::collections::BTreeMap;

use offshoot::proto::csi as pb;
use offshoot::proto::csi::identity_client::IdentityClient;
use offshoot::proto::offshoot as own;
use offshoot::volume::{PoolId, VolumeId};
use tonic::{Code, Request};

use crate::nodes::{Cluster, GIB, Wire, capability, create, from, node_of, on, place};
use crate::script::Scripted;
use crate::{delete, get, larger, listed, refused, unreachable};

#[tokio::test]
async fn until_its_agents_are_known_a_router_says_that_it_starts() {
    let cluster = Cluster::starting(Cluster::of(1).await.nodes).await;
    let mut identity = IdentityClient::new(cluster.channel());
    let probe = identity.probe(pb::ProbeRequest {}).await.unwrap().into_inner();
    assert_eq!(probe.ready, Some(false));
    refused(cluster.controller().delete_volume(delete("v-x")).await, Code::Unavailable, "starting");
    refused(cluster.controller().create_volume(create("db")).await, Code::Unavailable, "starting");
    cluster.discover();
    cluster.node("a").set(Wire::Dead);
    // Known is enough: restarting the router would mend no node.
    assert_eq!(identity.probe(pb::ProbeRequest {}).await.unwrap().into_inner().ready, Some(true));
    let info = identity.get_plugin_info(pb::GetPluginInfoRequest {}).await.unwrap().into_inner();
    assert_eq!(info.name, "csi.offshoot.dev");
    let plugin = identity.get_plugin_capabilities(pb::GetPluginCapabilitiesRequest {}).await.unwrap();
    assert!(!plugin.into_inner().capabilities.is_empty());
}

#[tokio::test]
async fn every_call_reaches_the_node_that_it_is_for() {
    let cluster = Cluster::of(3).await;
    let mut controller = cluster.controller();
    let db = cluster.volume_on("db", "b").await;
    assert_eq!(node_of(&db), "b");
    let id = db.volume_id.clone();

    let publish = pb::ControllerPublishVolumeRequest {
        volume_id: id.clone(),
        node_id: "b".to_owned(),
        volume_capability: Some(capability()),
        ..Default::default()
    };
    controller.controller_publish_volume(publish).await.unwrap();
    let found = controller.controller_get_volume(get(&id)).await.unwrap().into_inner();
    assert_eq!(found.status.unwrap().published_node_ids, ["b"]);
    let unpublish = pb::ControllerUnpublishVolumeRequest { volume_id: id.clone(), ..Default::default() };
    controller.controller_unpublish_volume(unpublish).await.unwrap();
    let validate = pb::ValidateVolumeCapabilitiesRequest {
        volume_id: id.clone(),
        volume_capabilities: vec![capability()],
        ..Default::default()
    };
    let valid = controller.validate_volume_capabilities(validate).await.unwrap().into_inner();
    assert!(valid.confirmed.is_some());
    let expand = pb::ControllerExpandVolumeRequest {
        volume_id: id.clone(),
        capacity_range: Some(pb::CapacityRange { required_bytes: 2 * GIB, limit_bytes: 0 }),
        ..Default::default()
    };
    let grown = controller.controller_expand_volume(expand).await.unwrap().into_inner();
    assert_eq!(grown.capacity_bytes, 2 * GIB);
    let modify = pb::ControllerModifyVolumeRequest {
        volume_id: id.clone(),
        mutable_parameters: BTreeMap::from([("readAheadKiB".to_owned(), "256".to_owned())]),
        ..Default::default()
    };
    controller.controller_modify_volume(modify).await.unwrap();
    let health = pb::ControllerGetVolumeHealthRequest { volume_id: id.clone(), ..Default::default() };
    let health = controller.controller_get_volume_health(health).await.unwrap().into_inner();
    assert_eq!(health.volume_health.unwrap().volume_id, id);
    let all = controller.controller_list_volume_health(pb::ControllerListVolumeHealthRequest::default());
    assert_eq!(all.await.unwrap().into_inner().entries, []);
    let can = controller.controller_get_capabilities(pb::ControllerGetCapabilitiesRequest {}).await.unwrap();
    assert!(!can.into_inner().capabilities.is_empty());

    let monday = cluster.snapshot("monday", &db).await;
    let snapshot_id = monday.snapshot_id.clone();
    let request = pb::GetSnapshotRequest { snapshot_id: snapshot_id.clone(), ..Default::default() };
    assert_eq!(
        controller.get_snapshot(request).await.unwrap().into_inner().snapshot.unwrap().snapshot_id,
        snapshot_id
    );
    for (volume, snapshot) in [("", ""), (id.as_str(), ""), ("", snapshot_id.as_str())] {
        let request = pb::ListSnapshotsRequest {
            source_volume_id: volume.to_owned(),
            snapshot_id: snapshot.to_owned(),
            ..Default::default()
        };
        assert_eq!(controller.list_snapshots(request).await.unwrap().into_inner().entries.len(), 1);
    }

    let mut copies = cluster.copies();
    let rewind = own::RewindVolumeRequest {
        volume_id: id.clone(),
        snapshot_id: snapshot_id.clone(),
        ..Default::default()
    };
    let undo = copies.rewind_volume(rewind).await.unwrap().into_inner().undo_snapshot_id;
    let copy =
        controller.create_volume(larger(from(create("copy"), &snapshot_id))).await.unwrap().into_inner();
    let copy = copy.volume.unwrap();
    assert_eq!(node_of(&copy), "b");
    let refresh = own::RefreshVolumeRequest {
        volume_id: copy.volume_id.clone(),
        from: Some(own::refresh_volume_request::From::SourceNow(true)),
        ..Default::default()
    };
    assert_eq!(copies.refresh_volume(refresh).await.unwrap().into_inner().volume_id, copy.volume_id);
    let family = own::GetLineageRequest { id: copy.volume_id.clone(), ..Default::default() };
    let family = copies.get_lineage(family).await.unwrap().into_inner().nodes;
    assert!([&id, &snapshot_id].iter().all(|id| family.iter().any(|node| node.id == **id)));

    let mut metadata = cluster.metadata();
    let request = pb::GetMetadataAllocatedRequest { snapshot_id: snapshot_id.clone(), ..Default::default() };
    let mut blocks = metadata.get_metadata_allocated(request).await.unwrap().into_inner();
    assert!(blocks.message().await.unwrap().unwrap().volume_capacity_bytes > 0);
    let request = pb::GetMetadataDeltaRequest {
        base_snapshot_id: snapshot_id.clone(),
        target_snapshot_id: undo.clone(),
        ..Default::default()
    };
    let mut blocks = metadata.get_metadata_delta(request).await.unwrap().into_inner();
    while blocks.message().await.unwrap().is_some() {}

    let group = pb::CreateVolumeGroupSnapshotRequest {
        name: "night".to_owned(),
        source_volume_ids: vec![id.clone(), copy.volume_id.clone()],
        ..Default::default()
    };
    let mut groups = cluster.groups();
    let night =
        groups.create_volume_group_snapshot(group).await.unwrap().into_inner().group_snapshot.unwrap();
    let request = pb::GetVolumeGroupSnapshotRequest {
        group_snapshot_id: night.group_snapshot_id.clone(),
        ..Default::default()
    };
    assert_eq!(
        groups.get_volume_group_snapshot(request).await.unwrap().into_inner().group_snapshot.unwrap(),
        night
    );
    let request = pb::DeleteVolumeGroupSnapshotRequest {
        group_snapshot_id: night.group_snapshot_id.clone(),
        ..Default::default()
    };
    groups.delete_volume_group_snapshot(request).await.unwrap();
    let can = pb::GroupControllerGetCapabilitiesRequest {};
    assert_eq!(
        groups.group_controller_get_capabilities(can).await.unwrap().into_inner().capabilities.len(),
        1
    );

    let mut watching =
        copies.watch_progress(own::WatchProgressRequest::default()).await.unwrap().into_inner();
    tokio::spawn(async move { watching.message().await });
    let one = own::WatchProgressRequest { volume_id: id.clone() };
    drop(copies.watch_progress(one).await.unwrap());

    for volume in [&id, &copy.volume_id] {
        let delete_all =
            controller.list_snapshots(pb::ListSnapshotsRequest::default()).await.unwrap().into_inner();
        for entry in delete_all.entries {
            let snapshot_id = entry.snapshot.unwrap().snapshot_id;
            let request = pb::DeleteSnapshotRequest { snapshot_id, ..Default::default() };
            controller.delete_snapshot(request).await.unwrap();
        }
        controller.delete_volume(delete(volume)).await.unwrap();
        controller.delete_volume(delete(volume)).await.unwrap();
    }
    assert_eq!(listed(&cluster, 0).await, [""; 0]);
    let text = cluster.metrics.scrape().await.unwrap();
    assert!(text.contains("offshoot_router_agents{node=\"b\",state=\"connected\"} 1\n"), "{text}");
    assert!(text.contains("offshoot_router_forward_seconds_count{node=\"b\"}"), "{text}");
}

#[tokio::test]
async fn pools_and_findings_say_on_which_node_they_are() {
    let cluster = Cluster::of(2).await;
    let mut copies = cluster.copies();
    let pools = copies.list_pools(own::ListPoolsRequest {}).await.unwrap().into_inner().pools;
    let nodes: Vec<_> =
        pools.iter().map(|pool| (pool.name.as_str(), pool.attributes["node"].as_str())).collect();
    assert_eq!(nodes, [("fast", "a"), ("fast", "b")]);
    cluster.node("b").set(Wire::Dead);
    let said = copies.list_pools(own::ListPoolsRequest {}).await.unwrap();
    assert_eq!((unreachable(&said), said.get_ref().pools.len()), ("b", 1));
    let said = copies.list_orphans(own::ListOrphansRequest {}).await.unwrap();
    assert_eq!((unreachable(&said), said.get_ref().orphans.len()), ("b", 0));
    let said = copies.reap_orphans(own::ReapOrphansRequest::default()).await.unwrap();
    assert_eq!((unreachable(&said), said.get_ref().reaped.len()), ("b", 0));
    let checks = copies.diagnose(own::DiagnoseRequest {}).await.unwrap().into_inner().checks;
    assert!(checks.iter().any(|check| check.name.starts_with("a: ")));
    let dead = checks.iter().find(|check| check.name == "b: agent").unwrap();
    assert!(dead.status() == own::check::Status::Fail && !dead.mend.is_empty(), "{dead:?}");
    let make = own::CreatePoolRequest { name: "x".into(), ..Default::default() };
    refused(copies.create_pool(make).await, Code::FailedPrecondition, "configured for each node");
    let remove = own::DeletePoolRequest { name_or_id: "fast".into() };
    refused(copies.delete_pool(remove).await, Code::FailedPrecondition, "configured for each node");
}

#[tokio::test]
async fn a_retry_finds_its_volume_whichever_node_it_prefers_now() {
    let cluster = Cluster::of(3).await;
    let mut controller = cluster.controller();
    let first =
        controller.create_volume(on(create("db"), &["b"], &["a", "b", "c"])).await.unwrap().into_inner();
    let again =
        controller.create_volume(on(create("db"), &["c"], &["a", "b", "c"])).await.unwrap().into_inner();
    assert_eq!(first, again);
    assert_eq!(node_of(&first.volume.unwrap()), "b");
    assert_eq!(listed(&cluster, 0).await.len(), 1);
    refused(
        controller.create_volume(larger(on(create("db"), &["a"], &["a"]))).await,
        Code::AlreadyExists,
        "",
    );
    let nameless = create("");
    refused(controller.create_volume(nameless).await, Code::InvalidArgument, "name");
}

#[tokio::test]
async fn a_volume_goes_to_the_next_node_where_the_first_has_no_room() {
    let cluster = Cluster::with(&[2 * GIB, 60 * GIB, 100 * GIB], None).await;
    let mut controller = cluster.controller();
    let thick = |name: &str, gib: i64| pb::CreateVolumeRequest {
        capacity_range: Some(pb::CapacityRange { required_bytes: gib * GIB, limit_bytes: 0 }),
        parameters: BTreeMap::from([("provisioning".to_owned(), "thick".to_owned())]),
        ..create(name)
    };
    let mut made = async |request| {
        let made = controller.create_volume(request).await.unwrap().into_inner();
        node_of(&made.volume.unwrap())
    };
    // Preferred ones in their order, then the rest by their room.
    assert_eq!(made(on(thick("one", 10), &["a", "b"], &["a", "b", "c"])).await, "b");
    assert_eq!(made(on(thick("two", 10), &["a"], &["a", "b", "c"])).await, "c");
    assert_eq!(made(thick("three", 10)).await, "c");
    let said = controller.create_volume(on(thick("four", 10), &[], &["a"])).await;
    refused(said, Code::ResourceExhausted, "");
    let said = controller.create_volume(thick("five", 99)).await;
    refused(said, Code::ResourceExhausted, "none of 3 nodes has room");
    let said = controller.create_volume(on(create("six"), &[], &["z"])).await;
    refused(said, Code::ResourceExhausted, "accessibility_requirements");

    let ask = |node: Option<&str>| pb::GetCapacityRequest {
        accessible_topology: node.map(place),
        ..Default::default()
    };
    let room = async |node| cluster.controller().get_capacity(ask(node)).await.unwrap().into_inner();
    let (all, c) = (room(None).await, room(Some("c")).await);
    assert!(all.available_capacity > c.available_capacity);
    assert_eq!(all.maximum_volume_size, c.maximum_volume_size);
    assert_eq!(room(Some("z")).await.available_capacity, 0);
    cluster.node("a").set(Wire::Dead);
    refused(cluster.controller().get_capacity(ask(Some("a"))).await, Code::Unavailable, "node a");
    let said = cluster.controller().get_capacity(ask(None)).await.unwrap();
    assert_eq!(unreachable(&said), "a");
}

#[tokio::test]
async fn a_restore_where_the_source_is_not_is_exhausted() {
    let cluster = Cluster::of(2).await;
    let mut controller = cluster.controller();
    let db = cluster.volume_on("db", "a").await;
    let monday = cluster.snapshot("monday", &db).await;
    for id in [&db.volume_id, &monday.snapshot_id] {
        let request = on(from(create("copy"), id), &["b"], &["b"]);
        refused(controller.create_volume(request).await, Code::ResourceExhausted, "is on node a");
    }
    let request = on(from(create("copy"), &monday.snapshot_id), &["b", "a"], &["a", "b"]);
    let copy = controller.create_volume(request).await.unwrap().into_inner().volume.unwrap();
    assert_eq!(node_of(&copy), "a");
    // What is no id of ours is nowhere; what may be on a node that is away is not.
    refused(controller.create_volume(from(create("x"), "s-none")).await, Code::NotFound, "s-none");
    let strange = VolumeId::new(PoolId::random()).to_string();
    refused(
        controller.create_volume(from(create("x"), &strange)).await,
        Code::Unavailable,
        "no agent has pool",
    );
}

#[tokio::test]
async fn a_call_keeps_its_name_on_its_way() {
    let script = Scripted::new();
    let cluster = Cluster::with(&[100 * GIB], Some(&script)).await;
    let mut request = Request::new(create("db"));
    request.metadata_mut().insert("x-request-id", "mine-1".parse().unwrap());
    cluster.controller().create_volume(request).await.unwrap();
    assert_eq!(script.notes(), ["a find db for mine-1"]);
}
