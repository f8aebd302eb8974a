//! A copy on another node than its source, and who is told of it.

use offshoot::proto::csi as pb;
use tonic::Code;

use crate::nodes::{Cluster, GIB, create, from, on};
use crate::refused;
use crate::script::{Fault, Scripted};

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
