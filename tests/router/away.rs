//! Agents that die, stop, come and go: their own volumes are out of reach, and no others.

use std::time::Duration;

use offshoot::proto::csi as pb;
use offshoot::proto::offshoot as own;
use offshoot::volume::{PoolId, VolumeId};
use tonic::Code;

use crate::nodes::{Cluster, Wire, create, node_of, on};
use crate::{delete, get, listed, refused, unreachable};

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
