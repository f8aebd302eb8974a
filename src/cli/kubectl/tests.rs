//! The plugin's commands between an API server in memory and a real server of the driver.

use clap::CommandFactory as _;
use http::Method;
use serde_json::json;

use super::testing::Cluster;
use super::{Plugin, is_plugin};

#[tokio::test]
async fn a_lineage_is_told_by_the_names_of_the_cluster() {
    let cluster = Cluster::new().await;
    let volume = cluster.volume("shop", "db").await;
    let snapshot = cluster.snapshot("shop", "monday", &volume).await;
    cluster.bench.volume("nobodys", crate::service::testing::mount(&[])).await;
    let tree = cluster.json(&["tree", "-A"]).await;
    let find =
        |id: &str| tree["nodes"].as_array().unwrap().iter().find(|node| node["id"] == id).unwrap().clone();
    assert_eq!(find(&volume)["kind"], "PersistentVolumeClaim");
    assert_eq!((&find(&volume)["namespace"], &find(&volume)["name"]), (&json!("shop"), &json!("db")));
    assert_eq!(find(&snapshot)["name"], "monday");
    assert_eq!(find(&snapshot)["parentId"], json!(volume));
    assert_eq!(tree["nodes"].as_array().unwrap().len(), 3);
    let one = cluster.json(&["tree", "-n", "shop", "volumesnapshot/monday"]).await;
    assert_eq!(one["nodes"].as_array().unwrap().len(), 2);
    assert!(cluster.run(&["tree"]).await.unwrap().contains("see -A for all"));
    let error = cluster.run(&["tree", "gone"]).await.unwrap_err();
    assert!(error.contains("no PVC or VolumeSnapshot"), "{error}");
}

#[tokio::test]
async fn pools_are_listed_as_the_driver_has_them() {
    let cluster = Cluster::new().await;
    let pools = cluster.json(&["pools"]).await;
    assert_eq!((&pools["pools"][0]["name"], &pools["pools"][0]["ready"]), (&json!("fast"), &json!(true)));
    assert!(cluster.run(&["pools"]).await.unwrap().contains("fast"));
}

#[tokio::test]
async fn a_claim_is_rewound_and_the_way_back_works() {
    let cluster = Cluster::new().await;
    let volume = cluster.volume("shop", "db").await;
    cluster.snapshot("shop", "monday", &volume).await;
    let done = cluster.json(&["rewind", "-n", "shop", "db", "--to", "monday"]).await;
    let undo = done["undoSnapshotId"].as_str().unwrap();
    let text = cluster.run(&["rewind", "shop/db", "--to", undo]).await.unwrap();
    assert!(text.contains("kubectl offshoot rewind -n shop db --to s-"), "{text}");
}

#[tokio::test]
async fn a_claim_in_use_is_not_touched_and_its_pods_are_named() {
    let cluster = Cluster::new().await;
    let volume = cluster.volume("shop", "db").await;
    cluster.snapshot("shop", "monday", &volume).await;
    cluster.api.put(json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "db-0", "namespace": "shop" },
        "spec": { "containers": [], "volumes": [{ "name": "d", "persistentVolumeClaim": { "claimName": "db" } }] },
        "status": { "phase": "Running" },
    }));
    for args in [&["rewind", "shop/db", "--to", "shop/monday"][..], &["refresh", "shop/db"]] {
        let error = cluster.run(args).await.unwrap_err();
        assert!(error.contains("PVC shop/db is used by db-0"), "{error}");
    }
    let error = cluster.run(&["rewind", "shop/gone", "--to", "monday"]).await.unwrap_err();
    assert!(error.contains("cannot read PVC shop/gone"), "{error}");
}

#[tokio::test]
async fn a_copy_is_refreshed_from_its_source() {
    let cluster = Cluster::new().await;
    let volume = cluster.volume("shop", "db").await;
    let copy = cluster.bench.copy("anna", &volume).await;
    cluster.claim("dev", "anna", &copy);
    let done = cluster.json(&["refresh", "dev/anna"]).await;
    assert_eq!(done["id"], json!(copy));
    let tuesday = cluster.snapshot("shop", "tuesday", &volume).await;
    let done = cluster.json(&["refresh", "-n", "dev", "anna", "--from", "shop/tuesday"]).await;
    assert_eq!(done["snapshotId"], json!(tuesday));
}

#[tokio::test]
async fn orphans_are_listed_and_reaped_and_wanted_things_stay() {
    let cluster = Cluster::new().await;
    let volume = cluster.volume("shop", "db").await;
    cluster.snapshot("shop", "monday", &volume).await;
    cluster.run(&["rewind", "shop/db", "--to", "shop/monday"]).await.unwrap();
    let lost = cluster.bench.volume("pvc-lost", crate::service::testing::mount(&[])).await;
    let found = cluster.json(&["orphans"]).await;
    assert_eq!(found["orphans"].as_array().unwrap().len(), 1);
    assert_eq!((&found["orphans"][0]["id"], &found["orphans"][0]["reaped"]), (&json!(lost), &json!(false)));
    let error = cluster.run(&["orphans", "--reap"]).await.unwrap_err();
    assert!(error.contains("--yes"), "{error}");
    let done = cluster.json(&["orphans", "--reap", "--yes"]).await;
    assert_eq!(done["orphans"][0]["reaped"], json!(true));
    assert_eq!(cluster.json(&["orphans"]).await["orphans"], json!([]));
    assert_eq!(cluster.json(&["tree", "-A"]).await["nodes"].as_array().unwrap().len(), 3);
}

#[tokio::test]
async fn nothing_is_an_orphan_where_a_list_is_partial() {
    let cluster = Cluster::new().await;
    cluster.bench.volume("pvc-lost", crate::service::testing::mount(&[])).await;
    for path in ["persistentvolumes", "volumesnapshotcontents"] {
        cluster.api.fail(Method::GET, path, 410);
        assert!(cluster.run(&["orphans", "--reap", "--yes"]).await.is_err(), "{path}");
        cluster.api.mend();
    }
    assert_eq!(cluster.json(&["tree", "-A"]).await["nodes"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn the_driver_cannot_be_uninstalled_over_its_volumes() {
    let cluster = Cluster::new().await;
    assert!(cluster.run(&["uninstall-check"]).await.unwrap().contains("can be uninstalled"));
    cluster.volume("shop", "db").await;
    let error = cluster.run(&["uninstall-check", "--back", "helm rollback offshoot 3"]).await.unwrap_err();
    assert!(error.contains("`helm rollback offshoot 3`"), "{error}");
    assert!(error.contains("1 PersistentVolumes") && error.contains("persistentvolume/pv-db"), "{error}");
    cluster.api.fail(Method::GET, "persistentvolumes", 403);
    assert!(cluster.run(&["uninstall-check"]).await.unwrap_err().contains("cannot list PersistentVolumes"));
}

#[tokio::test]
async fn forgetting_a_node_asks_first_and_says_what_would_go() {
    let cluster = Cluster::new().await;
    let objects = json!({
        "apiVersion": "v1", "kind": "PersistentVolume", "metadata": { "name": "pv-1" },
        "spec": {
            "csi": { "driver": "csi.offshoot.dev", "volumeHandle": format!("v-zzzzzzzz-{:032x}", 1) },
            "nodeAffinity": { "required": { "nodeSelectorTerms": [{ "matchExpressions": [
                { "key": "topology.offshoot.dev/node", "operator": "In", "values": ["gone"] } ] }] } },
        },
    });
    cluster.api.put(objects);
    let text = cluster.run(&["forget-node", "gone", "--dry-run"]).await.unwrap();
    assert!(text.contains("1 volumes, 0 snapshots, 0 groups of pools zzzzzzzz"), "{text}");
    assert!(cluster.run(&["forget-node", "gone"]).await.unwrap_err().contains("--yes"));
    assert_eq!(cluster.api.names("persistentvolumes"), ["pv-1"]);
    let text = cluster.run(&["forget-node", "gone", "--yes"]).await.unwrap();
    assert_eq!(text, "gone     PersistentVolume pv-1\n");
    assert!(cluster.api.names("persistentvolumes").is_empty());
    assert!(
        cluster.run(&["forget-node", "gone", "--yes"]).await.unwrap().contains("holds nothing of node gone")
    );
}

#[test]
fn the_name_of_the_program_chooses_its_commands() {
    let check = |name: &str, expect| assert_eq!(is_plugin(Some(&name.into())), expect, "{name}");
    check("/usr/local/bin/kubectl-offshoot", true);
    check("kubectl-offshoot.exe", true);
    check("offshoot", false);
    check("/usr/bin/kubectl", false);
    assert!(!is_plugin(None));
}

#[test]
fn every_argument_of_the_plugin_has_help() {
    Plugin::command().debug_assert();
    for command in Plugin::command().get_subcommands() {
        assert!(command.get_about().is_some(), "{}", command.get_name());
        for arg in command.get_arguments() {
            assert!(arg.get_help().is_some(), "{} {}", command.get_name(), arg.get_id());
        }
    }
}

#[tokio::test]
async fn a_half_installed_driver_is_told_what_it_lacks() {
    let cluster = Cluster::new().await;
    cluster.api.put(json!({
        "apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": { "name": "copies" },
        "provisioner": "csi.offshoot.dev", "parameters": { "pool": "slow" },
    }));
    let checks = cluster.checks().await;
    let find = |name: &str| {
        let found = checks.iter().find(|check| check["name"] == name);
        found.unwrap_or_else(|| panic!("no check {name} in {checks:?}")).clone()
    };
    assert_eq!(find("CSIDriver")["status"], "fail");
    assert_eq!(find("controller")["status"], "fail");
    assert_eq!(find("agents")["status"], "fail");
    assert_eq!(find("pool /fast")["status"], "ok");
    assert!(find("StorageClass copies")["mend"].as_str().unwrap().contains("name one of: fast"));
    assert!(checks.iter().all(|check| check["status"] == "ok" || check["mend"] != ""), "{checks:?}");
    cluster.api.fail(Method::GET, "storageclasses", 403);
    let checks = cluster.checks().await;
    assert!(checks.iter().any(|check| check["name"] == "StorageClasses" && check["status"] == "warn"));
}

#[tokio::test]
async fn a_bundle_is_one_private_file_that_lists_what_is_in_it() {
    use std::os::unix::fs::PermissionsExt as _;
    let cluster = Cluster::new().await;
    cluster.volume("shop", "db").await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("bundle.tar.gz");
    let path = file.to_str().unwrap();
    let bundle = cluster.json(&["support-bundle", "--file", path]).await;
    let listed: Vec<&str> =
        bundle["contents"].as_array().unwrap().iter().map(|entry| entry["name"].as_str().unwrap()).collect();
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(std::fs::File::open(&file).unwrap()));
    let inside: Vec<String> = archive
        .entries()
        .unwrap()
        .map(|entry| {
            entry.unwrap().path().unwrap().strip_prefix("offshoot-support").unwrap().display().to_string()
        })
        .collect();
    assert_eq!(inside, listed);
    for name in ["doctor.json", "tree.json", "pools.json", "objects/persistentvolumes.yaml"] {
        assert!(listed.contains(&name), "{listed:?}");
    }
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(cluster.run(&["support-bundle", "--file", path]).await.unwrap_err().contains("cannot write"));
}
