//! A VDB from provision to delete, as a driver goes about it, and the traps on the way.

#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::fs;
use std::time::Duration;

use common::World;
use offshoot_dct_sim::{Config, Kind};
use serde_json::json;

fn slow() -> Config {
    Config {
        pending: Duration::from_secs(1),
        running: Duration::from_secs(10),
        telemetry: Duration::from_secs(5),
        lag: Duration::from_secs(60),
        ..Config::default()
    }
}

#[tokio::test]
async fn a_job_passes_through_its_states_and_the_object_shows_a_minute_later() {
    let w = World::new(slow()).await;
    let body = json!({"source_data_id": "demo", "environment_id": "surrogate1", "name": "one"});
    let answer = w.post("/vdbs/provision_by_snapshot", body).await;
    let (vdb, job) = (answer["vdb_id"].as_str().unwrap(), answer["job"]["id"].as_str().unwrap());
    assert_eq!(answer["job"]["status"], "PENDING");
    let mut seen = Vec::new();
    for seconds in [0, 1, 9, 1, 4, 1, 59, 1] {
        w.sim.advance(Duration::from_secs(seconds));
        let job = w.get(&format!("/jobs/{job}")).await;
        let object = w.ask("GET", &format!("/vdbs/{vdb}"), None).await.status;
        seen.push(format!(
            "{} {} {object}",
            job["status"].as_str().unwrap(),
            job["is_waiting_for_telemetry"]
        ));
    }
    assert_eq!(
        seen,
        [
            "PENDING false 404",
            "STARTED false 404",
            "STARTED false 404",
            "STARTED true 404",
            "STARTED true 404",
            "COMPLETED false 404",
            "COMPLETED false 404",
            "COMPLETED false 200",
        ]
    );
}

#[tokio::test]
async fn enabled_and_the_export_path_are_stale_until_telemetry_has_seen_them() {
    let w = World::new(slow()).await;
    let vdb = w.vdb("one").await;
    let path = format!("/vdbs/{vdb}");
    let old = w.get(&path).await["exported_data_directory"].clone();
    let answer = w.post(&format!("{path}/disable"), json!({"attempt_cleanup": false})).await;
    w.sim.advance(Duration::from_secs(17));
    let job = w.get(&format!("/jobs/{}", answer["job"]["id"].as_str().unwrap())).await;
    assert_eq!((job["status"].as_str(), &w.get(&path).await["enabled"]), (Some("COMPLETED"), &json!(true)));
    assert!(w.sim.exports().is_empty());
    w.sim.advance(Duration::from_secs(60));
    assert_eq!(w.get(&path).await["enabled"], false);
    w.post(&format!("{path}/refresh_by_snapshot"), json!({})).await;
    w.sim.advance(Duration::from_secs(17));
    assert_eq!(w.get(&path).await["exported_data_directory"], old);
    w.sim.advance(Duration::from_secs(60));
    assert_ne!(w.get(&path).await["exported_data_directory"], old);
}

#[tokio::test]
async fn data_follows_snapshot_rewind_refresh_undo_and_switch_and_each_changes_the_path() {
    let w = World::new(Config::default()).await;
    let vdb = w.vdb("one").await;
    let read = |w: &World| fs::read_to_string(w.path(&vdb, "data/rows")).unwrap();
    let mut paths = vec![w.get(&format!("/vdbs/{vdb}")).await["exported_data_directory"].clone()];
    assert_eq!(read(&w), "1\n2\n3\n");
    fs::write(w.path(&vdb, "data/rows"), "mine").unwrap();
    let snapshot = w.snapshot(&vdb).await;
    let first = w.get(&format!("/vdbs/{vdb}")).await["current_timeflow_id"].clone();
    fs::write(w.path(&vdb, "data/rows"), "spoilt").unwrap();
    for (call, body, expect) in [
        ("rollback_by_snapshot", json!({"snapshot_id": snapshot}), "mine"),
        ("refresh_by_snapshot", json!({}), "1\n2\n3\n"),
        ("undo_refresh", json!({}), "mine"),
        ("switch_timeflow", json!({"timeflow_id": first}), "spoilt"),
    ] {
        let job = w.work(&format!("/vdbs/{vdb}/{call}"), body).await;
        assert_eq!((job["status"].as_str(), read(&w).as_str()), (Some("COMPLETED"), expect), "{call}: {job}");
        let path = w.get(&format!("/vdbs/{vdb}")).await["exported_data_directory"].clone();
        assert_ne!(Some(&path), paths.last(), "{call}");
        assert_eq!(
            w.sim.exports().iter().map(|e| e.path.clone()).collect::<Vec<_>>(),
            [format!("/{}", path.as_str().unwrap())]
        );
        paths.push(path);
    }
    let shape = paths[1].as_str().unwrap();
    assert_eq!(shape, "domain0/group-1/appdata_container-2/appdata_timeflow-3/datafile");
    assert_eq!(paths[4], paths[0]);
}

#[tokio::test]
async fn a_refresh_is_undone_once_and_only_after_a_refresh() {
    let w = World::new(Config::default()).await;
    let vdb = w.vdb("one").await;
    let undo = format!("/vdbs/{vdb}/undo_refresh");
    assert_eq!(w.work(&undo, json!({})).await["status"], "FAILED");
    w.work(&format!("/vdbs/{vdb}/refresh_by_snapshot"), json!({})).await;
    assert_eq!(w.work(&undo, json!({})).await["status"], "COMPLETED");
    let again = w.work(&undo, json!({})).await;
    assert!(again["error_details"].as_str().unwrap().contains("no refresh to undo"), "{again}");
}

#[tokio::test]
async fn calls_that_lack_what_the_vendor_found_necessary_are_refused() {
    let w = World::new(Config::default()).await;
    let vdb = w.vdb("one").await;
    let check = async |path: &str, body, expect| {
        let got = w.ask("POST", &path.replace("VDB", &vdb), body).await;
        assert_eq!(got.status, expect, "{path}: {}", got.body);
    };
    check("/vdbs/VDB/delete", None, 422).await;
    check("/vdbs/VDB/enable", None, 500).await;
    check("/vdbs/VDB/enable", Some(json!({})), 500).await;
    check("/vdbs/VDB/enable", Some(json!({"attempt_start": true})), 500).await;
    check("/vdbs/VDB/enable", Some(json!({"attempt_start": false})), 200).await;
    check("/vdbs/VDB/disable", Some(json!({"container_mode": false})), 500).await;
    check("/vdbs/VDB/disable", Some(json!({"attempt_cleanup": false})), 200).await;
    check("/vdbs/VDB/delete", Some(json!({})), 200).await;
    w.sim.advance(Duration::from_secs(1));
    check("/vdbs/VDB/delete", Some(json!({})), 404).await;
    assert!(w.sim.object(Kind::Vdb, &vdb).is_none());
}

#[tokio::test]
async fn a_vdb_in_a_container_changes_state_with_enable_and_belongs_to_its_owner() {
    let w = World::new(Config::default()).await;
    let body = json!({"source_data_id": "demo", "environment_id": "surrogate1", "container_mode": true});
    let answer = w.post("/vdbs/provision_by_snapshot", body).await;
    w.ended(&answer).await;
    let path = format!("/vdbs/{}", answer["vdb_id"].as_str().unwrap());
    let state = async || {
        let vdb = w.get(&path).await;
        format!("{} {}", vdb["enabled"], vdb["containerization_state"].as_str().unwrap())
    };
    assert_eq!(state().await, "false READY_FOR_CONTAINER");
    let body = json!({"attempt_start": false, "container_mode": true, "ownership_spec": "999:998"});
    w.work(&format!("{path}/enable"), body).await;
    assert_eq!(state().await, "true RUNNING_IN_CONTAINER");
    w.work(&format!("{path}/disable"), json!({"attempt_cleanup": false, "container_mode": true})).await;
    assert_eq!(state().await, "false READY_FOR_CONTAINER");
    let bad = json!({"attempt_start": false, "container_mode": true, "ownership_spec": "root"});
    let job = w.work(&format!("{path}/enable"), bad).await;
    assert!(job["error_details"].as_str().unwrap().contains("999:999"), "{job}");
}

#[tokio::test]
async fn what_an_older_release_does_not_have_is_refused_and_not_answered() {
    let old = |release: &str| Config { release: release.parse().unwrap(), ..Config::default() };
    let w = World::new(old("20.0.0")).await;
    let vdb = w.vdb("one").await;
    let doc = w.get(&format!("/vdbs/{vdb}")).await;
    for field in ["exported_data_directory", "containerization_state", "nfs_version"] {
        assert!(doc.get(field).is_none(), "{field}");
    }
    let got = w.ask("POST", &format!("/vdbs/{vdb}/undo_refresh"), None).await;
    assert_eq!(got.status, 404);
    let w = World::new(old("2025.1.0")).await;
    let vdb = w.vdb("one").await;
    let body = json!({"attempt_start": false, "container_mode": true, "ownership_spec": "1:1"});
    let got = w.ask("POST", &format!("/vdbs/{vdb}/enable"), Some(body)).await;
    assert_eq!((got.status, got.message()), (400, "EnableVDBParameters: ownership_spec is not known"));
    let got = w.ask("POST", "/vdbs/empty_vdb", Some(json!({"engine_id": "1"}))).await;
    assert_eq!(got.status, 404);
    let yaml = w.ask("GET", "/dct/static/api-external.yaml", None).await.body;
    let yaml = yaml.as_str().unwrap();
    assert!(
        yaml.contains("container_mode:") && !yaml.contains("ownership_spec:") && !yaml.contains("empty_vdb")
    );
}

#[tokio::test]
async fn an_empty_vdb_is_empty_and_a_vdb_with_children_is_kept() {
    let w = World::new(Config::default()).await;
    let body = json!({"environment_id": w.seeded.environment, "name": "void", "mount_point": "/mnt/void"});
    let answer = w.post("/vdbs/empty_vdb", body).await;
    assert_eq!(w.ended(&answer).await["status"], "COMPLETED");
    let vdb = answer["vdb_id"].as_str().unwrap();
    assert_eq!(fs::read_dir(w.path(vdb, "")).unwrap().count(), 0);
    w.snapshot(vdb).await;
    let body = json!({"source_data_id": vdb, "environment_id": "surrogate1", "name": "child"});
    let child = w.post("/vdbs/provision_by_snapshot", body).await;
    w.ended(&child).await;
    let needs = w.get(&format!("/vdbs/{vdb}/deletion-dependencies")).await;
    assert_eq!(needs["items"][0]["dataset_id"], child["vdb_id"]);
    let job = w.work(&format!("/vdbs/{vdb}/delete"), json!({})).await;
    assert!(job["error_details"].as_str().unwrap().contains(child["vdb_id"].as_str().unwrap()), "{job}");
    let job = w.work(&format!("/vdbs/{vdb}/delete"), json!({"delete_all_dependent_vdbs": true})).await;
    assert_eq!(job["status"], "COMPLETED");
    assert!(w.sim.objects(Kind::Vdb).is_empty());
}

#[tokio::test]
async fn a_change_to_the_list_of_addresses_changes_who_may_mount_what_is_enabled() {
    let w = World::new(Config::default()).await;
    let vdb = w.vdb("one").await;
    let clients = |w: &World| w.sim.exports().into_iter().flat_map(|e| e.clients).collect::<Vec<_>>();
    assert_eq!(clients(&w), ["surrogate1.example"]);
    let path = format!("/environments/{}/hosts/{}", w.seeded.environment, w.seeded.host);
    let got = w.ask("PATCH", &path, Some(json!({"nfs_addresses": ["10.0.0.1", "fd00::2"]}))).await;
    assert_eq!(w.ended(&got.body).await["status"], "COMPLETED");
    assert_eq!(clients(&w), ["10.0.0.1", "fd00::2"]);
    let env = w.get(&format!("/environments/{}", w.seeded.environment)).await;
    assert_eq!(env["hosts"][0]["nfs_addresses"], json!(["10.0.0.1", "fd00::2"]));
    let got = w.ask("PATCH", &path, Some(json!({"nfs_addresses": ["-o"]}))).await;
    assert_eq!(got.status, 400, "{}", got.body);
    w.work(&format!("/vdbs/{vdb}/disable"), json!({"attempt_cleanup": false})).await;
    assert!(clients(&w).is_empty());
}
