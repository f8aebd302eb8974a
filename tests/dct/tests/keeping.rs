//! Snapshots and bookmarks: what keeps them, what they keep, and what retention takes.

#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::fs;
use std::time::Duration;

use common::World;
use offshoot_dct_sim::{Admin, Config, Kind};
use serde_json::json;

const DAY: Duration = Duration::from_secs(86_400);

#[tokio::test]
async fn a_snapshot_answers_with_a_job_that_names_no_snapshot() {
    let w = World::new(Config::default()).await;
    let vdb = w.vdb("one").await;
    let answer = w.post(&format!("/vdbs/{vdb}/snapshots"), json!({})).await;
    assert_eq!(answer.as_object().unwrap().keys().collect::<Vec<_>>(), ["job"]);
    let job = w.ended(&answer).await;
    assert!(!job.to_string().contains("SNAPSHOT-"), "{job}");
    assert_eq!(w.get(&format!("/vdbs/{vdb}/snapshots")).await["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn retention_takes_what_nothing_keeps_and_no_more() {
    let w = World::new(Config { retention: Some(DAY), ..Config::default() }).await;
    let vdb = w.vdb("one").await;
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(w.snapshot(&vdb).await);
        w.sim.advance(Duration::from_secs(1));
    }
    let [bare, kept, dated, marked, parent] = &ids[..] else { unreachable!() };
    for (id, wish) in [(kept, json!({"retain_forever": true})), (dated, json!({"expiration": "2026-01-05"}))]
    {
        let got = w.ask("PATCH", &format!("/snapshots/{id}"), Some(wish)).await;
        assert_eq!(w.ended(&got.body).await["status"], "COMPLETED");
    }
    let mark = w.post("/bookmarks", json!({"name": "m", "snapshot_ids": [marked]})).await;
    w.ended(&mark).await;
    assert_eq!(w.get(&format!("/snapshots/{marked}")).await["effective_retain_forever"], true);
    let body = json!({"snapshot_id": parent, "environment_id": "surrogate1", "name": "child"});
    let child = w.post("/vdbs/provision_by_snapshot", body).await;
    w.ended(&child).await;
    let there =
        |w: &World| ids.iter().map(|id| w.sim.object(Kind::Snapshot, id).is_some()).collect::<Vec<_>>();
    w.sim.advance(DAY);
    assert_eq!(there(&w), [false, true, true, true, true]);
    assert_eq!(w.ask("GET", &format!("/snapshots/{bare}"), None).await.status, 404);
    w.sim.advance(5 * DAY);
    assert_eq!(there(&w), [false, true, false, true, true]);
    let got =
        w.ask("DELETE", &format!("/bookmarks/{}", mark["bookmark"]["id"].as_str().unwrap()), None).await;
    w.ended(&got.body).await;
    assert_eq!(there(&w), [false, true, false, false, true]);
    let got = w.post(&format!("/snapshots/{kept}/unset_expiration"), json!({})).await;
    w.ended(&got).await;
    w.sim.admin(Admin::Retention).unwrap();
    assert_eq!(there(&w), [false, false, false, false, true]);
}

#[tokio::test]
async fn a_snapshot_that_something_depends_on_is_not_deleted_and_says_what_it_is() {
    let w = World::new(Config::default()).await;
    let vdb = w.vdb("one").await;
    let snapshot = w.snapshot(&vdb).await;
    let delete = format!("/snapshots/{snapshot}/delete");
    let needs = async || w.get(&format!("/snapshots/{snapshot}/deletion-dependencies")).await;
    assert_eq!(needs().await, json!({"object_dependencies": [], "prerequisite_actions": []}));
    w.work(&format!("/vdbs/{vdb}/rollback_by_snapshot"), json!({"snapshot_id": snapshot})).await;
    let pinned = needs().await;
    assert_eq!(pinned["object_dependencies"][0]["object_type"], "TIMEFLOW");
    assert_eq!(pinned["prerequisite_actions"][0]["action"], "REFRESH");
    let job = w.work(&delete, json!({"delete_all_dependencies": true})).await;
    assert!(job["error_details"].as_str().unwrap().contains("TIMEFLOW"), "{job}");
    // A refresh lets the rewound timeflow go.
    w.work(&format!("/vdbs/{vdb}/refresh_by_snapshot"), json!({})).await;
    let body = json!({"snapshot_id": snapshot, "environment_id": "surrogate1", "name": "child"});
    let child = w.post("/vdbs/provision_by_snapshot", body).await;
    w.ended(&child).await;
    assert_eq!(needs().await["object_dependencies"][0]["object_id"], child["vdb_id"]);
    assert_eq!(w.work(&delete, json!({})).await["status"], "FAILED");
    assert_eq!(w.work(&delete, json!({"delete_all_dependencies": true})).await["status"], "COMPLETED");
    assert_eq!(w.sim.objects(Kind::Vdb).len(), 1, "the child went with it");
    assert_eq!(w.ask("POST", &delete, None).await.status, 422);
    assert_eq!(w.ask("DELETE", &format!("/snapshots/{snapshot}"), None).await.status, 404);
}

#[tokio::test]
async fn a_bookmark_has_its_id_at_once_and_is_active_when_its_job_is_done() {
    let w = World::new(Config {
        lag: Duration::from_secs(60),
        running: Duration::from_secs(5),
        ..Config::default()
    })
    .await;
    let vdb = w.vdb("one").await;
    let got = w.ask("POST", "/bookmarks", Some(json!({"name": "m", "vdb_ids": [vdb]}))).await;
    assert_eq!((got.status, &got.body["bookmark"]["bookmark_status"]), (201, &json!("CREATING")));
    let id = got.body["bookmark"]["id"].as_str().unwrap().to_owned();
    let from = json!({"bookmark_id": id, "environment_id": "surrogate1", "name": "copy"});
    let early = w.ask("POST", "/vdbs/provision_from_bookmark", Some(from.clone())).await;
    assert!(early.status == 400 && early.message().contains("not ACTIVE"), "{}", early.body);
    w.sim.advance(Duration::from_secs(5));
    let mark = w.get(&format!("/bookmarks/{id}")).await;
    assert_eq!((&mark["bookmark_status"], &mark["vdbs"][0]["vdb_id"]), (&json!("ACTIVE"), &json!(vdb)));
    fs::write(w.path(&vdb, "data/rows"), "later").unwrap();
    let copy = w.post("/vdbs/provision_from_bookmark", from).await;
    assert_eq!(w.ended(&copy).await["status"], "COMPLETED");
    let rows = fs::read_to_string(w.path(copy["vdb_id"].as_str().unwrap(), "data/rows")).unwrap();
    assert_eq!(rows, "1\n2\n3\n");
    w.work(&format!("/vdbs/{vdb}/rollback_from_bookmark"), json!({"bookmark_id": id})).await;
    assert_eq!(fs::read_to_string(w.path(&vdb, "data/rows")).unwrap(), "1\n2\n3\n");
}

#[tokio::test]
async fn a_bookmark_of_several_vdbs_is_not_one_to_provision_from() {
    let w = World::new(Config::default()).await;
    let (one, two) = (w.vdb("one").await, w.vdb("two").await);
    let mark = w.post("/bookmarks", json!({"name": "m", "vdb_ids": [one, two]})).await;
    assert_eq!(w.ended(&mark).await["status"], "COMPLETED");
    let body = json!({"bookmark_id": mark["bookmark"]["id"], "environment_id": "surrogate1"});
    let got = w.ask("POST", "/vdbs/provision_from_bookmark", Some(body)).await;
    assert!(got.status == 400 && got.message().contains("exactly one VDB"), "{}", got.body);
    let body = json!({"name": "m", "vdb_ids": [one], "snapshot_ids": [w.seeded.snapshot]});
    assert_eq!(w.ask("POST", "/bookmarks", Some(body)).await.status, 400);
    let body = json!({"name": "m", "vdb_ids": [one], "expiration": "2027-01-01", "retain_forever": true});
    assert_eq!(w.ask("POST", "/bookmarks", Some(body)).await.status, 400);
}

#[tokio::test]
async fn a_point_in_time_means_the_newest_snapshot_up_to_it() {
    let w = World::new(Config::default()).await;
    let vdb = w.vdb("one").await;
    let mut at = Vec::new();
    for rows in ["a", "b", "c"] {
        fs::write(w.path(&vdb, "data/rows"), rows).unwrap();
        let id = w.snapshot(&vdb).await;
        at.push(w.get(&format!("/snapshots/{id}")).await["timestamp"].as_str().unwrap().to_owned());
    }
    let check = async |timestamp: &str, expect: &str| {
        let job =
            w.work(&format!("/vdbs/{vdb}/rollback_by_timestamp"), json!({"timestamp": timestamp})).await;
        assert_eq!(job["status"], "COMPLETED", "{job}");
        assert_eq!(fs::read_to_string(w.path(&vdb, "data/rows")).unwrap(), expect, "{timestamp}");
    };
    check(&at[1], "b").await;
    check(&at[1].replace(".000Z", ".001Z"), "b").await;
    check("2030-01-01T00:00:00+02:00", "c").await;
    check(&at[0], "a").await;
    let body = json!({"timestamp": "2020-01-01T00:00:00Z"});
    assert_eq!(w.ask("POST", &format!("/vdbs/{vdb}/rollback_by_timestamp"), Some(body)).await.status, 400);
    let body =
        json!({"source_data_id": vdb, "timestamp": at[1], "environment_id": "surrogate1", "name": "copy"});
    let copy = w.post("/vdbs/provision_by_timestamp", body).await;
    w.ended(&copy).await;
    assert_eq!(fs::read_to_string(w.path(copy["vdb_id"].as_str().unwrap(), "data/rows")).unwrap(), "b");
    let doc = w.get(&format!("/vdbs/{}", copy["vdb_id"].as_str().unwrap())).await;
    assert_eq!((&doc["parent_id"], &doc["parent_dsource_id"]), (&json!(vdb), &json!(w.seeded.dsource)));
}

#[tokio::test]
async fn a_disabled_dsource_is_not_snapshotted_and_mount_points_change_only_while_disabled() {
    let w = World::new(Config::default()).await;
    let source = format!("/dsources/{}", w.seeded.dsource);
    w.work(&format!("{source}/disable"), json!({})).await;
    assert_eq!(w.work(&format!("{source}/snapshots"), json!({})).await["status"], "FAILED");
    w.work(&format!("{source}/enable"), json!({})).await;
    let body = json!({"appdata_parameters": {"resync": false}});
    assert_eq!(w.work(&format!("{source}/snapshots"), body).await["status"], "COMPLETED");
    let vdb = w.vdb("one").await;
    let path = format!("/vdbs/{vdb}");
    let mount = |at: &str| Some(json!({"mount_point": at}));
    assert_eq!(w.ask("PATCH", &path, mount("/mnt/a")).await.status, 400);
    w.work(&format!("{path}/disable"), json!({"attempt_cleanup": false})).await;
    assert_eq!(w.ask("PATCH", &path, mount("mnt/a")).await.status, 400);
    let got = w.ask("PATCH", &path, mount("/mnt/a")).await;
    w.ended(&got.body).await;
    assert_eq!(w.get(&path).await["mount_point"], "/mnt/a");
}
