//! What goes wrong on order, and a simulator that ends in the middle.

#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::World;
use offshoot_dct_sim::{Admin, Config, Export, Exported, Fault, Kind, NoExport, OnRestart, Rule};
use serde_json::{Value, json};

const PROVISION: &str = "POST /vdbs/provision_by_snapshot";

fn wanted(name: &str) -> Value {
    json!({"source_data_id": "demo", "environment_id": "surrogate1", "name": name})
}

async fn provision(w: &World, name: &str) -> std::io::Result<common::Got> {
    w.raw("POST", "/vdbs/provision_by_snapshot", Some(&wanted(name)), &w.sim.key()).await
}

#[tokio::test]
async fn a_lost_answer_leaves_what_was_done_and_a_lost_request_leaves_nothing() {
    let check = async |fault: Fault, expect: usize| {
        let w = World::new(Config::default()).await;
        w.sim.fault(Rule::next(PROVISION, fault.clone()).nth(2));
        assert_eq!(provision(&w, "first").await.unwrap().status, 200);
        let lost = provision(&w, "second").await;
        assert_eq!(lost.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset, "{fault:?}");
        w.sim.advance(Duration::from_secs(1));
        assert_eq!(w.sim.objects(Kind::Vdb).len(), expect, "{fault:?}");
        assert_eq!(provision(&w, "third").await.unwrap().status, 200, "{fault:?}");
    };
    check(Fault::LoseAnswer, 2).await;
    check(Fault::LoseRequest, 1).await;
}

#[tokio::test]
async fn a_status_is_answered_as_often_as_ordered_without_or_after_the_work() {
    let check = async |fault: Fault, expect: u16, header: &str, vdbs: usize| {
        let w = World::new(Config::default()).await;
        w.sim.fault(Rule::next("*", fault.clone()).times(2));
        for _ in 0..2 {
            let got = provision(&w, "one").await.unwrap();
            assert_eq!(got.status, expect, "{fault:?}");
            assert!(got.headers.contains(header), "{}", got.headers);
        }
        w.sim.advance(Duration::from_secs(1));
        assert_eq!(w.sim.objects(Kind::Vdb).len(), vdbs, "{fault:?}");
        assert_eq!(provision(&w, "other").await.unwrap().status, 200, "{fault:?}");
    };
    let status = |code, retry_after| Fault::Status { code, retry_after };
    check(status(429, Some(7)), 429, "retry-after: 7", 0).await;
    check(status(500, None), 500, "", 0).await;
    check(status(503, None), 503, "", 0).await;
    check(Fault::Unauthorized, 401, "", 0).await;
    // The second fails for its name is in use by then.
    check(Fault::StatusAfter { code: 504 }, 504, "", 1).await;
}

#[tokio::test]
async fn a_delayed_request_waits_by_the_clock_of_the_simulator() {
    let w = std::sync::Arc::new(World::new(Config::default()).await);
    w.sim.fault(Rule::next("GET /vdbs", Fault::Delay { ms: 30_000 }));
    let asking = tokio::spawn({
        let w = w.clone();
        async move { w.ask("GET", "/vdbs", None).await.status }
    });
    while w.sim.traffic().log.is_empty() {
        tokio::task::yield_now().await;
    }
    // Others are served meanwhile.
    assert_eq!(w.ask("GET", "/vdbs", None).await.status, 200);
    assert!(!asking.is_finished());
    loop {
        w.sim.advance(Duration::from_secs(30));
        tokio::task::yield_now().await;
        if asking.is_finished() {
            break;
        }
    }
    assert_eq!(asking.await.unwrap(), 200);
}

#[tokio::test]
async fn a_job_ends_as_ordered_with_or_without_its_work() {
    let check = async |fault: Fault, status: &str, details: &str, vdbs: usize| {
        let w = World::new(Config::default()).await;
        w.sim.fault(Rule::next(PROVISION, fault.clone()));
        let answer = provision(&w, "one").await.unwrap().body;
        w.sim.advance(Duration::from_secs(600));
        let got = w.ask("GET", &format!("/jobs/{}", answer["job"]["id"].as_str().unwrap()), None).await;
        let shown = got.body["status"].as_str().map_or(got.status.to_string(), str::to_owned);
        assert_eq!(shown, status, "{fault:?}");
        assert_eq!(got.body["error_details"].as_str().unwrap_or_default(), details, "{fault:?}");
        assert_eq!(w.sim.objects(Kind::Vdb).len(), vdbs, "{fault:?}");
    };
    let ends = |status: &str, done| Fault::JobEnds { status: status.to_owned(), done };
    check(Fault::JobFailed { details: "the disk is full".to_owned() }, "FAILED", "the disk is full", 0).await;
    check(ends("CANCELED", false), "CANCELED", "the job is CANCELED", 0).await;
    check(ends("TIMEDOUT", true), "TIMEDOUT", "the job is TIMEDOUT", 1).await;
    check(ends("ABANDONED", true), "ABANDONED", "the job is ABANDONED", 1).await;
    check(Fault::JobVanishes, "404", "", 1).await;
    check(Fault::JobSlow { ms: 1000, status: None }, "COMPLETED", "", 1).await;
}

#[tokio::test]
async fn a_slow_job_shows_the_status_of_choice_until_it_is_done() {
    let w = World::new(Config { running: Duration::from_secs(1), ..Config::default() }).await;
    w.sim.fault(Rule::next(PROVISION, Fault::JobSlow { ms: 9_000, status: Some("SUSPENDED".to_owned()) }));
    let answer = provision(&w, "one").await.unwrap().body;
    let path = format!("/jobs/{}", answer["job"]["id"].as_str().unwrap());
    let mut seen = Vec::new();
    for seconds in [1, 8, 1] {
        w.sim.advance(Duration::from_secs(seconds));
        seen.push(w.get(&path).await["status"].as_str().unwrap().to_owned());
    }
    assert_eq!(seen, ["SUSPENDED", "SUSPENDED", "COMPLETED"]);
}

#[tokio::test]
async fn jobs_of_one_vdb_work_one_after_the_other() {
    let w = World::new(Config { running: Duration::from_secs(10), ..Config::default() }).await;
    let vdb = w.vdb("one").await;
    let first = w.post(&format!("/vdbs/{vdb}/snapshots"), json!({})).await;
    let second = w.post(&format!("/vdbs/{vdb}/disable"), json!({"attempt_cleanup": false})).await;
    let status = async |answer: &Value| {
        let job = w.get(&format!("/jobs/{}", answer["job"]["id"].as_str().unwrap())).await;
        job["status"].as_str().unwrap().to_owned()
    };
    w.sim.advance(Duration::from_secs(5));
    assert_eq!((status(&first).await.as_str(), status(&second).await.as_str()), ("STARTED", "WAITING"));
    w.sim.advance(Duration::from_secs(6));
    assert_eq!((status(&first).await.as_str(), status(&second).await.as_str()), ("COMPLETED", "STARTED"));
    w.sim.advance(Duration::from_secs(10));
    assert_eq!(status(&second).await, "COMPLETED");
}

#[tokio::test]
async fn an_abandoned_job_is_given_up_and_its_work_left_undone() {
    let w = World::new(Config { running: Duration::from_secs(10), ..Config::default() }).await;
    let answer = provision(&w, "one").await.unwrap().body;
    let path = format!("/jobs/{}", answer["job"]["id"].as_str().unwrap());
    assert_eq!(w.ask("POST", &format!("{path}/abandon"), None).await.status, 200);
    assert_eq!(w.ended(&answer).await["status"], "ABANDONED");
    assert!(w.sim.objects(Kind::Vdb).is_empty());
    let again = w.ask("POST", &format!("{path}/abandon"), None).await;
    assert_eq!(again.status, 400, "{}", again.body);
}

#[tokio::test]
async fn a_restart_in_the_middle_of_a_job_goes_on_or_gives_up_as_configured() {
    let check = async |on_restart: OnRestart, status: &str, vdbs: usize| {
        let config = Config { running: Duration::from_secs(10), on_restart, ..Config::default() };
        let w = World::new(config).await;
        let before = w.vdb("before").await;
        let exported = w.sim.exports();
        let answer = provision(&w, "one").await.unwrap().body;
        w.sim.advance(Duration::from_secs(5));
        w.sim.restart().unwrap();
        assert_eq!(w.sim.exports(), exported, "what was exported is again");
        assert_eq!(w.get(&format!("/vdbs/{before}")).await["enabled"], true);
        assert_eq!(w.ended(&answer).await["status"], status);
        assert_eq!(w.sim.objects(Kind::Vdb).len(), vdbs);
    };
    check(OnRestart::Resume, "COMPLETED", 2).await;
    check(OnRestart::Abandon, "ABANDONED", 1).await;
}

#[tokio::test]
async fn a_simulator_started_anew_on_its_state_has_everything_and_the_same_certificate() {
    let w = World::new(Config::default()).await;
    let vdb = w.vdb("one").await;
    let (dir, ca) = (w.dir.path().to_owned(), w.sim.ca_pem.clone());
    let again = offshoot_dct_sim::Sim::builder(&dir.join("data")).state(&dir.join("state.json"));
    let again = again.engine("engine.example").start().await.unwrap();
    assert_eq!(again.object(Kind::Vdb, &vdb), w.sim.object(Kind::Vdb, &vdb));
    assert_eq!((again.ca_pem.as_str(), again.seeded.len()), (ca.as_str(), 0));
    assert_eq!(again.exports().len(), 1);
    assert!(again.data(&vdb).unwrap().join("README").is_file());
}

#[tokio::test]
async fn a_rival_writer_is_overwritten_by_who_read_before_it_wrote() {
    let w = World::new(Config::default()).await;
    w.sim.fault(Rule::next(
        "GET /environments/{environmentId}",
        Fault::RivalAddress { address: "10.9.9.9".to_owned() },
    ));
    let path = format!("/environments/{}", w.seeded.environment);
    let read = w.get(&path).await["hosts"][0]["nfs_addresses"].clone();
    assert_eq!(read, json!([]));
    assert_eq!(w.get(&path).await["hosts"][0]["nfs_addresses"], json!(["10.9.9.9"]));
    let host = format!("{path}/hosts/{}", w.seeded.host);
    let got = w.ask("PATCH", &host, Some(json!({"nfs_addresses": ["10.0.0.1"]}))).await;
    w.ended(&got.body).await;
    assert_eq!(w.get(&path).await["hosts"][0]["nfs_addresses"], json!(["10.0.0.1"]));
}

#[tokio::test]
async fn what_others_do_shows_at_once() {
    let w = World::new(Config { lag: Duration::from_secs(60), ..Config::default() }).await;
    let vdb = w.vdb("one").await;
    let path = format!("/vdbs/{vdb}");
    let kind = Kind::Vdb;
    w.sim.admin(Admin::Rename { kind, id: vdb.clone(), name: "two".to_owned() }).unwrap();
    w.sim.admin(Admin::Disable { kind, id: vdb.clone() }).unwrap();
    let doc = w.get(&path).await;
    assert_eq!((&doc["name"], &doc["enabled"], w.sim.exports().len()), (&json!("two"), &json!(false), 0));
    w.sim.admin(Admin::Lock { vdb: vdb.clone(), locked: true }).unwrap();
    let got = w.ask("POST", &format!("{path}/enable"), Some(json!({"attempt_start": false}))).await;
    assert_eq!(got.status, 400, "{}", got.body);
    w.sim.admin(Admin::Lock { vdb: vdb.clone(), locked: false }).unwrap();
    w.sim.admin(Admin::Engine { id: "1".to_owned(), online: false }).unwrap();
    assert_eq!(w.get("/management/engines/1").await["connection_status"], "OFFLINE");
    let job = w.work(&format!("{path}/enable"), json!({"attempt_start": false})).await;
    assert!(job["error_details"].as_str().unwrap().contains("cannot be reached"), "{job}");
    w.sim.admin(Admin::Engine { id: "1".to_owned(), online: true }).unwrap();
    w.sim.admin(Admin::Disable { kind: Kind::Environment, id: w.seeded.environment.clone() }).unwrap();
    let job = w.work(&format!("{path}/enable"), json!({"attempt_start": false})).await;
    assert!(job["error_details"].as_str().unwrap().contains("is disabled"), "{job}");
    w.sim.admin(Admin::Delete { kind, id: vdb.clone() }).unwrap();
    assert_eq!(w.ask("GET", &path, None).await.status, 404);
    assert!(w.sim.admin(Admin::Delete { kind, id: vdb }).is_err());
}

/// An NFS server that refuses while it is told to.
struct Refusing(Arc<AtomicBool>, NoExport);

impl Export for Refusing {
    fn export(&mut self, what: &Exported) -> Result<(), String> {
        if self.0.load(Ordering::SeqCst) {
            Err("no room for exports".to_owned())
        } else {
            self.1.export(what)
        }
    }

    fn unexport(&mut self, path: &str) -> Result<(), String> {
        self.1.unexport(path)
    }

    fn list(&self) -> Vec<Exported> {
        self.1.list()
    }
}

#[tokio::test]
async fn a_job_whose_export_is_refused_fails_and_leaves_nothing() {
    let refuse = Arc::new(AtomicBool::new(true));
    let w =
        World::exporting(Config::default(), Box::new(Refusing(refuse.clone(), NoExport::default()))).await;
    let group = w.dir.path().join("data/domain0/group-1");
    let trees = || std::fs::read_dir(&group).unwrap().count();
    assert_eq!(trees(), 1, "the dSource");
    let answer = provision(&w, "one").await.unwrap().body;
    assert_eq!(w.ended(&answer).await["error_details"], "no room for exports");
    assert_eq!((w.sim.objects(Kind::Vdb).len(), trees()), (0, 1));
    refuse.store(false, Ordering::SeqCst);
    let vdb = w.vdb("one").await;
    let flow = w.get(&format!("/vdbs/{vdb}")).await["current_timeflow_id"].clone();
    refuse.store(true, Ordering::SeqCst);
    let job = w.work(&format!("/vdbs/{vdb}/refresh_by_snapshot"), json!({})).await;
    assert_eq!(
        (&job["status"], &w.get(&format!("/vdbs/{vdb}")).await["current_timeflow_id"]),
        (&json!("FAILED"), &flow)
    );
    w.work(&format!("/vdbs/{vdb}/disable"), json!({"attempt_cleanup": false})).await;
    let job = w.work(&format!("/vdbs/{vdb}/enable"), json!({"attempt_start": false})).await;
    assert_eq!(
        (&job["status"], &w.get(&format!("/vdbs/{vdb}")).await["enabled"]),
        (&json!("FAILED"), &json!(false))
    );
    let job = w.work(&format!("/vdbs/{vdb}/delete"), json!({})).await;
    assert_eq!((job["status"].as_str(), trees()), (Some("COMPLETED"), 1));
}
