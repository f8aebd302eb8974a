//! A group snapshot over several nodes is one group to its caller.

use offshoot::proto::csi as pb;
use offshoot::proto::offshoot as own;
use offshoot::volume::{GroupId, PoolId, VolumeId};
use tonic::Code;

use crate::nodes::{Cluster, GIB, Wire};
use crate::refused;
use crate::script::{Fault, Scripted};

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
