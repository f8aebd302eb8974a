//! The router as its callers see it: gRPC in front, several nodes behind, each with use cases and edge over a machine
//! in memory, on wires that can be cut or stopped.
#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "router/nodes.rs"]
mod nodes;
#[path = "router/script.rs"]
mod script;

use std::collections::BTreeMap;
use std::time::Duration;

use nodes::{Cluster, GIB, Wire, capability, create, from, node_of, on, place};
use offshoot::proto::csi as pb;
use offshoot::proto::csi::identity_client::IdentityClient;
use offshoot::proto::offshoot as own;
use offshoot::router::UNREACHABLE;
use offshoot::volume::{GroupId, PoolId, VolumeId};
use script::{Fault, Scripted};
use tonic::{Code, Request, Response, Status};

#[track_caller]
fn refused<T: std::fmt::Debug>(said: Result<Response<T>, Status>, code: Code, text: &str) {
    let status = said.unwrap_err();
    assert_eq!(status.code(), code, "{status}");
    assert!(status.message().contains(text), "{status}");
}

fn unreachable<T>(said: &Response<T>) -> &str {
    said.metadata().get(UNREACHABLE).map_or("", |nodes| nodes.to_str().unwrap())
}

fn delete(volume_id: &str) -> pb::DeleteVolumeRequest {
    pb::DeleteVolumeRequest { volume_id: volume_id.to_owned(), ..Default::default() }
}

fn get(volume_id: &str) -> pb::ControllerGetVolumeRequest {
    pb::ControllerGetVolumeRequest { volume_id: volume_id.to_owned() }
}

/// The request for twice the size.
fn larger(request: pb::CreateVolumeRequest) -> pb::CreateVolumeRequest {
    let capacity_range = Some(pb::CapacityRange { required_bytes: 2 * GIB, limit_bytes: 0 });
    pb::CreateVolumeRequest { capacity_range, ..request }
}

/// All volumes of the list, page by page of `max`.
async fn listed(cluster: &Cluster, max: i32) -> Vec<String> {
    let (mut seen, mut token) = (Vec::new(), String::new());
    loop {
        let request = pb::ListVolumesRequest { max_entries: max, starting_token: token };
        let page = cluster.controller().list_volumes(request).await.unwrap().into_inner();
        assert!(max == 0 || page.entries.len() <= max as usize);
        seen.extend(page.entries.into_iter().map(|entry| entry.volume.unwrap().volume_id));
        token = page.next_token;
        if token.is_empty() {
            return seen;
        }
    }
}

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
async fn a_dead_agent_takes_its_own_volumes_out_of_reach_and_no_others() {
    let cluster = Cluster::of(3).await;
    let mut controller = cluster.controller();
    let [on_a, on_b] = [cluster.volume_on("one", "a").await, cluster.volume_on("two", "b").await];
    let monday = cluster.snapshot("monday", &on_b).await;
    cluster.node("b").set(Wire::Dead);
    refused(controller.delete_volume(delete(&on_b.volume_id)).await, Code::Unavailable, "forget-node b");
    refused(controller.controller_get_volume(get(&on_b.volume_id)).await, Code::Unavailable, "node b");
    let of_it = |source: &str, snapshot: &str| pb::ListSnapshotsRequest {
        source_volume_id: source.to_owned(),
        snapshot_id: snapshot.to_owned(),
        ..Default::default()
    };
    refused(controller.list_snapshots(of_it(&on_b.volume_id, "")).await, Code::Unavailable, "");
    refused(controller.list_snapshots(of_it("", &monday.snapshot_id)).await, Code::Unavailable, "");
    let said = controller.list_snapshots(of_it("", "")).await.unwrap();
    assert_eq!((unreachable(&said), said.get_ref().entries.len()), ("b", 0));
    let said = controller.list_volumes(pb::ListVolumesRequest::default()).await.unwrap();
    assert_eq!((unreachable(&said), said.get_ref().entries.len()), ("b", 1));
    controller.controller_get_volume(get(&on_a.volume_id)).await.unwrap();
    assert_eq!(
        node_of(
            &controller
                .create_volume(on(create("three"), &["b"], &[]))
                .await
                .unwrap()
                .into_inner()
                .volume
                .unwrap()
        )
        .len(),
        1
    );
    refused(controller.create_volume(on(create("four"), &["b"], &["b"])).await, Code::Unavailable, "node b");
    // An id that is nowhere, and one that is none.
    let strange = VolumeId::new(PoolId::random()).to_string();
    refused(controller.controller_get_volume(get(&strange)).await, Code::Unavailable, "cannot be: b");
    refused(controller.controller_get_volume(get("strange")).await, Code::NotFound, "strange");
    refused(controller.controller_get_volume(get("../x")).await, Code::InvalidArgument, "volume_id");
    controller.delete_volume(delete("strange")).await.unwrap();
    cluster.node("b").set(Wire::Up);
    controller.controller_get_volume(get(&on_b.volume_id)).await.unwrap();
    let text = cluster.metrics.scrape().await.unwrap();
    assert!(
        text.contains("offshoot_router_partial_answers_total{rpc=\"csi.v1.Controller/ListVolumes\"} 1\n"),
        "{text}"
    );
    for node in ["a", "b", "c"] {
        cluster.node(node).set(Wire::Dead);
    }
    refused(
        controller.list_volumes(pb::ListVolumesRequest::default()).await,
        Code::Unavailable,
        "cannot be reached",
    );
    refused(controller.create_volume(create("five")).await, Code::Unavailable, "cannot be reached");
}

#[tokio::test(start_paused = true)]
async fn a_stopped_agent_is_given_up_within_two_seconds_whoever_waits_for_it() {
    let cluster = Cluster::of(2).await;
    let [on_a, on_b] = [cluster.volume_on("one", "a").await, cluster.volume_on("two", "b").await];
    cluster.controller().controller_get_volume(get(&on_b.volume_id)).await.unwrap();
    cluster.node("b").set(Wire::Stopped);
    for _ in 0..2 {
        // The first time over the connection that there was, the second over one that is taken and never answers.
        let begun = tokio::time::Instant::now();
        let mut waiting = tokio::task::JoinSet::new();
        for _ in 0..20 {
            let (mut controller, id) = (cluster.controller(), on_b.volume_id.clone());
            waiting.spawn(async move { controller.controller_get_volume(get(&id)).await });
        }
        cluster.controller().controller_get_volume(get(&on_a.volume_id)).await.unwrap();
        for said in waiting.join_all().await {
            refused(said, Code::Unavailable, "node b");
        }
        assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    }
    let begun = tokio::time::Instant::now();
    let said = cluster.controller().list_volumes(pb::ListVolumesRequest::default()).await.unwrap();
    assert_eq!((unreachable(&said), said.get_ref().entries.len()), ("b", 1));
    assert!(begun.elapsed() <= Duration::from_secs(2), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_listing_has_what_lives_through_it_once_though_agents_come_and_go() {
    let cluster = Cluster::of(3).await;
    let mut all = Vec::new();
    for n in 0..12 {
        let node = ["a", "b", "c"][n % 3];
        all.push(cluster.volume_on(&format!("v{n}"), node).await.volume_id);
    }
    all.sort();
    for max in [0, 1, 2, 5, 12] {
        assert_eq!(listed(&cluster, max).await, all, "{max}");
    }
    // Agents that restart between two pages, and a volume that is deleted behind the token.
    let (mut seen, mut token, mut n) = (Vec::new(), String::new(), 0);
    loop {
        let request = pb::ListVolumesRequest { max_entries: 2, starting_token: token };
        let page = cluster.controller().list_volumes(request).await.unwrap().into_inner();
        seen.extend(page.entries.into_iter().map(|entry| entry.volume.unwrap().volume_id));
        token = page.next_token;
        if token.is_empty() {
            break;
        }
        let node = cluster.node(["a", "b", "c"][n % 3]);
        node.set(Wire::Dead);
        tokio::task::yield_now().await;
        node.set(Wire::Up);
        if n == 1 {
            cluster.controller().delete_volume(delete(seen.last().unwrap())).await.unwrap();
        }
        n += 1;
    }
    assert_eq!(seen, all);
    let strange = pb::ListVolumesRequest { max_entries: 0, starting_token: "1".into() };
    refused(cluster.controller().list_volumes(strange).await, Code::Aborted, "starting_token");
    let negative = pb::ListVolumesRequest { max_entries: -1, starting_token: String::new() };
    refused(cluster.controller().list_volumes(negative).await, Code::InvalidArgument, "max_entries");

    let mut nodes = Vec::new();
    let mut request = own::GetLineageRequest { max_entries: 5, ..Default::default() };
    loop {
        let page = cluster.copies().get_lineage(request.clone()).await.unwrap().into_inner();
        nodes.extend(page.nodes.into_iter().map(|node| node.id));
        if page.next_token.is_empty() {
            break;
        }
        request.starting_token = page.next_token;
    }
    // In the order of their making, on whichever node.
    let unique = |id: &String| id.rsplit('-').next().unwrap().to_owned();
    assert!(nodes.len() == 11 && nodes.is_sorted_by_key(unique), "{nodes:?}");
}

#[tokio::test]
async fn a_node_that_leaves_the_set_is_forgotten_and_a_pool_on_two_nodes_is_on_neither() {
    let cluster = Cluster::of(2).await;
    let db = cluster.volume_on("db", "a").await;
    cluster.controller().controller_get_volume(get(&db.volume_id)).await.unwrap();
    cluster.discover_as(&[("b", "b")]);
    let said = cluster.controller().controller_get_volume(get(&db.volume_id)).await;
    refused(said, Code::Unavailable, "no agent has");
    let text = cluster.metrics.scrape().await.unwrap();
    assert!(!text.contains("node=\"a\""), "{text}");
    cluster.discover();
    cluster.controller().controller_get_volume(get(&db.volume_id)).await.unwrap();
    // A disk that was copied: what answers as `z` has the pools of `a`.
    cluster.discover_as(&[("a", "a"), ("b", "b"), ("z", "a")]);
    let said = cluster.controller().delete_volume(delete(&db.volume_id)).await;
    refused(said, Code::Unavailable, "is on node a and on node z");
    cluster.discover();
    cluster.controller().controller_get_volume(get(&db.volume_id)).await.unwrap();
    // A node that is known to have pools, and has no agent now.
    cluster.known_without_address("b");
    let said = cluster.controller().list_volumes(pb::ListVolumesRequest::default()).await.unwrap();
    assert_eq!((unreachable(&said), said.get_ref().entries.len()), ("b", 1));
}

fn group(name: &str, volumes: &[&pb::Volume]) -> pb::CreateVolumeGroupSnapshotRequest {
    pb::CreateVolumeGroupSnapshotRequest {
        name: name.to_owned(),
        source_volume_ids: volumes.iter().map(|volume| volume.volume_id.clone()).collect(),
        ..Default::default()
    }
}

#[tokio::test]
async fn a_group_over_nodes_is_one_group_to_its_caller() {
    let cluster = Cluster::of(3).await;
    let mut groups = cluster.groups();
    let [one, two, three] = [
        cluster.volume_on("one", "a").await,
        cluster.volume_on("two", "b").await,
        cluster.volume_on("three", "a").await,
    ];
    let members = [&two, &one, &three];
    let made = groups.create_volume_group_snapshot(group("night", &members)).await.unwrap().into_inner();
    let made = made.group_snapshot.unwrap();
    let sources: Vec<_> = made.snapshots.iter().map(|member| member.source_volume_id.as_str()).collect();
    assert_eq!(sources, members.map(|volume| volume.volume_id.as_str()));
    assert!(
        made.ready_to_use
            && made.snapshots.iter().all(|member| member.group_snapshot_id == made.group_snapshot_id)
    );
    assert!(made.snapshots.iter().all(|member| member.creation_time == made.creation_time));
    let again = groups.create_volume_group_snapshot(group("night", &members)).await.unwrap().into_inner();
    assert_eq!(again.group_snapshot.unwrap(), made);
    refused(
        groups.create_volume_group_snapshot(group("night", &[&one, &two])).await,
        Code::AlreadyExists,
        "night",
    );

    let ids: Vec<_> = made.snapshots.iter().map(|member| member.snapshot_id.clone()).collect();
    for snapshot_ids in [ids.clone(), Vec::new()] {
        let request = pb::GetVolumeGroupSnapshotRequest {
            group_snapshot_id: made.group_snapshot_id.clone(),
            snapshot_ids: snapshot_ids.clone(),
            ..Default::default()
        };
        let found =
            groups.get_volume_group_snapshot(request).await.unwrap().into_inner().group_snapshot.unwrap();
        assert_eq!(found.snapshots.len(), 3);
        if !snapshot_ids.is_empty() {
            assert_eq!(found, made);
        }
    }
    let lineage = own::GetLineageRequest { id: made.group_snapshot_id.clone(), ..Default::default() };
    let nodes = cluster.copies().get_lineage(lineage).await.unwrap().into_inner().nodes;
    let whole: Vec<_> = nodes.iter().filter(|node| node.id == made.group_snapshot_id).collect();
    assert_eq!((whole.len(), whole[0].size_bytes), (1, 3 * GIB));

    let request = |snapshot_ids: Vec<String>| pb::DeleteVolumeGroupSnapshotRequest {
        group_snapshot_id: made.group_snapshot_id.clone(),
        snapshot_ids,
        ..Default::default()
    };
    cluster.node("b").set(Wire::Dead);
    refused(groups.delete_volume_group_snapshot(request(ids.clone())).await, Code::Unavailable, "node b");
    refused(groups.create_volume_group_snapshot(group("noon", &members)).await, Code::Unavailable, "node b");
    cluster.node("b").set(Wire::Up);
    groups.delete_volume_group_snapshot(request(ids.clone())).await.unwrap();
    groups.delete_volume_group_snapshot(request(ids)).await.unwrap();
    let left = cluster.controller().list_snapshots(pb::ListSnapshotsRequest::default()).await.unwrap();
    assert_eq!(left.into_inner().entries, []);
    let foreign = pb::CreateVolumeGroupSnapshotRequest { name: "x".into(), ..Default::default() };
    refused(groups.create_volume_group_snapshot(foreign).await, Code::InvalidArgument, "source_volume_ids");
    let mut unknown = group("x", &[&one, &two]);
    unknown.source_volume_ids.push("v-none".into());
    refused(groups.create_volume_group_snapshot(unknown).await, Code::NotFound, "");
}

#[tokio::test]
async fn all_members_are_frozen_before_any_is_cut_and_thawed_wherever_it_fails() {
    let script = Scripted::new();
    let cluster = Cluster::with(&[100 * GIB; 3], Some(&script)).await;
    let volumes = [
        cluster.volume_on("one", "a").await,
        cluster.volume_on("two", "b").await,
        cluster.volume_on("three", "c").await,
    ];
    let ids: Vec<_> = volumes.iter().map(|volume| volume.volume_id.clone()).collect();
    let request = || group("night", &[&volumes[0], &volumes[1], &volumes[2]]);
    let of = |notes: &[String], what: &str| notes.iter().filter(|note| note.ends_with(what)).count();
    script.notes();

    let made = cluster.groups().create_volume_group_snapshot(request()).await.unwrap().into_inner();
    assert_eq!(made.group_snapshot.unwrap().snapshots.len(), 3);
    let notes = script.notes();
    assert!(notes[..3].iter().all(|note| note.ends_with("frozen")), "{notes:?}");
    assert_eq!((of(&notes[3..], "cut"), notes.len()), (3, 6), "{notes:?}");

    // Before the cut: nothing is left, and whoever froze thaws.
    for fault in [Fault::Freeze, Fault::Vanish] {
        script.fail("b", fault.clone());
        let said = cluster.groups().create_volume_group_snapshot(request()).await;
        assert!(matches!(said.unwrap_err().code(), Code::FailedPrecondition | Code::Internal), "{fault:?}");
        let mut notes = script.notes();
        while of(&notes, "frozen") != of(&notes, "thawed") {
            tokio::task::yield_now().await;
            notes.extend(script.notes());
        }
        assert_eq!(of(&notes, "cut"), 0, "{notes:?}");
        script.mend();
    }
    // After it: what was cut is deleted.
    script.fail("c", Fault::Cut);
    let said = cluster.groups().create_volume_group_snapshot(request()).await;
    refused(said, Code::ResourceExhausted, "cannot cut");
    let notes = script.notes();
    assert_eq!((of(&notes, "frozen"), of(&notes, "cut"), of(&notes, "deletes")), (3, 3, 3), "{notes:?}");
    // Or a retry is asked for.
    script.fail("a", Fault::Delete);
    let said = cluster.groups().create_volume_group_snapshot(request()).await;
    refused(said, Code::Unavailable, "could not be removed");
    script.mend();
    script.notes();

    // A retry removes the parts that were cut for it, and begins anew.
    let left = GroupId::of(volumes[0].volume_id.parse::<VolumeId>().unwrap().pool(), &ids).to_string();
    script.fail("a", Fault::Has(left.clone()));
    let made = cluster.groups().create_volume_group_snapshot(request()).await.unwrap().into_inner();
    assert_ne!(made.group_snapshot.unwrap().group_snapshot_id, left);
    let notes = script.notes();
    assert_eq!((of(&notes, "has it"), of(&notes, "deletes"), of(&notes, "cut")), (1, 1, 3), "{notes:?}");
    // Where all have it, that is the group.
    for node in ["a", "b", "c"] {
        script.fail(node, Fault::Has(left.clone()));
    }
    let made = cluster.groups().create_volume_group_snapshot(request()).await.unwrap().into_inner();
    assert_eq!(made.group_snapshot.unwrap().group_snapshot_id, left);
    let notes = script.notes();
    assert_eq!((of(&notes, "answers"), of(&notes, "deletes"), of(&notes, "cut")), (3, 0, 0), "{notes:?}");
    script.mend();
    // Another's group of that name is not touched.
    script.fail("b", Fault::Has(GroupId::new(PoolId::random()).to_string()));
    let said = cluster.groups().create_volume_group_snapshot(request()).await;
    refused(said, Code::AlreadyExists, "night");
    assert_eq!(of(&script.notes(), "deletes"), 0);
}

#[tokio::test]
async fn a_copy_to_another_node_is_pulled_by_the_node_that_is_to_have_it() {
    let script = Scripted::new();
    let cluster = Cluster::with(&[100 * GIB; 3], Some(&script)).await;
    let mut controller = cluster.controller();
    let db = cluster.volume_on("db", "a").await;
    let monday = cluster.snapshot("monday", &db).await;
    let remote = |id: &str, preferred: &[&str]| {
        let mut request = on(from(create("copy"), id), preferred, &["b", "c"]);
        request.parameters.insert("allowRemoteCopy".into(), "true".into());
        request
    };
    let told = || {
        let mut notes = script.notes();
        notes.retain(|note| !note.contains(" find "));
        notes
    };
    told();
    let request = remote(&monday.snapshot_id, &["c", "b"]);
    let made = controller.create_volume(request.clone()).await.unwrap().into_inner().volume.unwrap();
    assert_eq!(made.content_source, request.volume_content_source);
    assert_eq!(told(), ["a lets c read", "c copies from a"]);
    script.fail("c", Fault::NoRoom);
    controller.create_volume(request).await.unwrap();
    assert_eq!(told(), ["a lets c read", "c copies from a", "a lets b read", "b copies from a"]);
    script.mend();

    let snapshots = async || {
        let all = cluster.controller().list_snapshots(pb::ListSnapshotsRequest::default()).await.unwrap();
        all.into_inner().entries.len()
    };
    // A volume is cut first; what was cut stays while the copy may go on, and goes when it has ended.
    script.fail("b", Fault::Vanish);
    refused(controller.create_volume(remote(&db.volume_id, &["b"])).await, Code::Aborted, "still copying");
    assert_eq!(snapshots().await, 2);
    script.mend();
    let made =
        controller.create_volume(remote(&db.volume_id, &["b"])).await.unwrap().into_inner().volume.unwrap();
    assert_eq!(made.content_source, remote(&db.volume_id, &[]).volume_content_source);
    assert_eq!(snapshots().await, 1);
    for node in ["b", "c"] {
        script.fail(node, Fault::NoRoom);
    }
    refused(
        controller.create_volume(remote(&db.volume_id, &["b"])).await,
        Code::ResourceExhausted,
        "none of 2 nodes",
    );
    assert_eq!(snapshots().await, 1);
}

#[tokio::test]
async fn the_owner_of_a_claim_is_told_of_its_copy_to_another_node() {
    let script = Scripted::new();
    let cluster = Cluster::with(&[100 * GIB; 2], Some(&script)).await;
    let db = cluster.volume_on("db", "a").await;
    let mut request = on(from(create("copy"), &db.volume_id), &["b"], &["b"]);
    for (key, value) in [
        ("allowRemoteCopy", "true"),
        ("csi.storage.k8s.io/pvc/name", "data"),
        ("csi.storage.k8s.io/pvc/namespace", "shop"),
    ] {
        request.parameters.insert(key.into(), value.into());
    }
    let begins = "shop/data RemoteCopyStarted: the data is being copied from node a to node b";
    let ends = "shop/data RemoteCopyDone: the data has been copied from node a to node b";
    cluster.controller().create_volume(request.clone()).await.unwrap();
    assert_eq!(cluster.told.next(2).await, [begins, ends]);
    // One that goes on after the call is not said to be whole.
    script.fail("b", Fault::Vanish);
    refused(cluster.controller().create_volume(request.clone()).await, Code::Aborted, "still copying");
    assert_eq!(cluster.told.next(1).await, [begins]);
    script.mend();
    cluster.controller().create_volume(request).await.unwrap();
    assert_eq!(cluster.told.next(2).await, [begins, ends]);
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
