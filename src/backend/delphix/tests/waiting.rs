//! Waiting: one loop for all, for as long as somebody waits and no longer.

use offshoot_dct_sim::{Config, Fault as Wrong, Rule};

use super::*;

const SEARCH: &str = "POST /jobs/search";

async fn asked_again(world: &World, op: &str) {
    let before = world.asked(op);
    while world.asked(op) <= before {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test]
async fn a_job_that_ends_otherwise_says_how_and_why() {
    async fn check(wrong: Wrong, expect: Fault) {
        let world = World::new().await;
        let dct = world.dct();
        world.sim.fault(Rule::next("POST /vdbs/provision_by_snapshot", wrong));
        let job = dct.provision(&world.provision("one")).await.unwrap().job.unwrap();
        let failure = dct.finish(&job).await.unwrap_err();
        assert_eq!(failure.fault(), &expect);
        assert!(failure.to_string().contains(&job), "{failure}");
    }
    let failed = |status, details: &str| Fault::JobFailed { status, details: details.to_owned() };
    check(
        Wrong::JobFailed { details: "no room\non the engine".to_owned() },
        failed(JobStatus::Failed, "no room on the engine"),
    )
    .await;
    for (status, expect) in [
        ("CANCELED", JobStatus::Canceled),
        ("TIMEDOUT", JobStatus::Timedout),
        ("ABANDONED", JobStatus::Abandoned),
    ] {
        let wrong = Wrong::JobEnds { status: status.to_owned(), done: false };
        check(wrong, failed(expect, &format!("the job is {status}"))).await;
    }
    check(Wrong::JobVanishes, Fault::JobVanished).await;
}

#[tokio::test]
async fn a_job_that_runs_waits_or_is_held_is_waited_for() {
    for status in [None, Some("RUNNING"), Some("WAITING"), Some("SUSPENDED")] {
        let world = World::still(Config::default()).await;
        let dct = world.dct();
        let wrong = Wrong::JobSlow { ms: 20_000, status: status.map(str::to_owned) };
        world.sim.fault(Rule::next("POST /vdbs/provision_by_snapshot", wrong));
        let job = dct.provision(&world.provision("one")).await.unwrap().job.unwrap();
        let waiting = tokio::spawn({
            let (dct, job) = (dct.clone(), job.clone());
            async move { dct.finish(&job).await }
        });
        asked_again(&world, SEARCH).await;
        asked_again(&world, SEARCH).await;
        assert!(!waiting.is_finished(), "{status:?}");
        let job = while_time_passes(&world.sim, waiting).await.unwrap().unwrap();
        assert_eq!(job.status, JobStatus::Completed);
    }
}

#[tokio::test]
async fn a_job_is_not_done_before_its_objects_can_show_it_and_they_may_lag_even_then() {
    let config =
        Config { telemetry: Duration::from_secs(20), lag: Duration::from_secs(60), ..Config::default() };
    let world = World::still(config).await;
    let dct = world.dct();
    let started = dct.provision(&world.provision("one")).await.unwrap();
    let (job, id) = (started.job.unwrap(), started.object.unwrap());
    let waiting = tokio::spawn({
        let (dct, job) = (dct.clone(), job.clone());
        async move { dct.finish(&job).await }
    });
    asked_again(&world, SEARCH).await;
    asked_again(&world, SEARCH).await;
    let now = dct.job(&job).await.unwrap().unwrap();
    assert_eq!((now.status, now.is_waiting_for_telemetry), (JobStatus::Started, Some(true)));
    assert!(!waiting.is_finished());
    while_time_passes(&world.sim, waiting).await.unwrap().unwrap();
    assert_eq!(dct.vdb(&id).await.unwrap(), None, "it does not show yet");
    let there = dct.until_vdb(&id, "to be there", |vdb| vdb.is_some());
    assert_eq!(while_time_passes(&world.sim, there).await.unwrap().unwrap().id, id);
}

#[tokio::test]
async fn what_does_not_come_is_waited_for_in_bounded_time() {
    let world = World::still(Config { running: Duration::from_secs(60), ..Config::default() }).await;
    let dct = world.dct_with(|settings| {
        settings.timing.lag = Duration::from_millis(30);
        settings.timing.job_timeout = Duration::from_millis(30);
    });
    let started = dct.provision(&world.provision("one")).await.unwrap();
    let failure = dct.finish(&started.job.unwrap()).await.unwrap_err();
    assert_eq!((failure.fault(), failure.kind()), (&Fault::JobRunning, crate::volume::Kind::Unavailable));
    assert!(failure.to_string().contains("is still STARTED after 30ms"), "{failure}");
    let id = started.object.unwrap();
    let failure = dct.until_vdb(&id, "to be enabled", |vdb| vdb.is_some()).await.unwrap_err();
    assert_eq!((failure.fault(), failure.kind()), (&Fault::Lagging, crate::volume::Kind::Unavailable));
    assert!(failure.to_string().contains(&format!("VDB {id} of DCT `prod`")), "{failure}");
    assert!(failure.to_string().contains("was waited for to be enabled"), "{failure}");
    assert!(dct.idle_soon().await);
}

#[tokio::test]
async fn who_waits_is_told_when_the_dct_cannot_be_asked() {
    let world = World::still(Config { running: Duration::from_secs(60), ..Config::default() }).await;
    let dct = world.dct_with(|settings| settings.timing.retry_for = Duration::ZERO);
    let job = dct.provision(&world.provision("one")).await.unwrap().job.unwrap();
    world.sim.fault(Rule::next(SEARCH, Wrong::Status { code: 503, retry_after: None }));
    assert_eq!(dct.finish(&job).await.unwrap_err().fault(), &Fault::Unreachable);
    world.sim.set_key("1.other");
    assert_eq!(dct.finish(&job).await.unwrap_err().fault(), &Fault::Denied);
    assert_eq!(dct.finish("'\"").await.unwrap_err().fault(), &Fault::Invalid);
    assert!(dct.idle_soon().await);
}

#[tokio::test]
async fn two_hundred_jobs_share_one_loop_and_a_few_connections() {
    let world = World::still(Config { pending: Duration::from_secs(5), ..Config::default() }).await;
    let dct = world.dct();
    let most = dct.settings().timing.max_connections;
    let snapshot = world.seeded.snapshot.clone();
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..200 {
        let (dct, snapshot) = (dct.clone(), snapshot.clone());
        calls.spawn(async move {
            let job = dct.keep_snapshot(&snapshot).await.unwrap().job.unwrap();
            dct.finish(&job).await.map(|job| job.id)
        });
    }
    while world.asked("PATCH /snapshots/{snapshotId}") < 200 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let ended = while_time_passes(&world.sim, calls.join_all()).await;
    let mut ids: Vec<_> = ended.into_iter().map(|job| job.unwrap()).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 200);
    let traffic = world.sim.traffic();
    assert!(traffic.most <= most, "{} connections, {most} are allowed", traffic.most);
    assert!(!traffic.requests.contains_key("GET /jobs/{jobId}"), "no job is asked for alone");
    assert!(dct.idle_soon().await, "the loop ends with the last that waits");
}

#[tokio::test]
async fn jobs_and_objects_that_are_waited_for_together_are_asked_for_together() {
    let world = World::still(Config { running: Duration::from_secs(600), ..Config::default() }).await;
    let dct = world.dct();
    let mut calls = tokio::task::JoinSet::new();
    for n in 0..20 {
        let started = dct.provision(&world.provision(&format!("vdb-{n}"))).await.unwrap();
        let (one, job) = (dct.clone(), started.job.unwrap());
        calls.spawn(async move { one.finish(&job).await.map(|_| ()) });
        let (also, id) = (dct.clone(), started.object.unwrap());
        calls.spawn(async move { also.until_vdb(&id, "to be there", |vdb| vdb.is_some()).await.map(|_| ()) });
    }
    // Once they keep step, a round is one search for each kind, however many wait.
    for _ in 0..20 {
        asked_again(&world, SEARCH).await;
    }
    world.sim.clear_traffic();
    for _ in 0..5 {
        asked_again(&world, SEARCH).await;
    }
    let log = world.sim.traffic().log;
    let jobs = log.iter().filter(|op| *op == SEARCH).count();
    let vdbs = log.iter().filter(|op| *op == "POST /vdbs/search").count();
    assert_eq!(jobs + vdbs, log.len(), "{log:?}");
    assert!(log.len() < 20, "40 wait, and five rounds were {} searches", log.len());
    calls.shutdown().await;
    assert!(dct.idle_soon().await);
}

#[tokio::test]
async fn who_stops_waiting_is_not_asked_for_any_more() {
    let world = World::still(Config { running: Duration::from_secs(600), ..Config::default() }).await;
    let dct = world.dct();
    let job = dct.provision(&world.provision("one")).await.unwrap().job.unwrap();
    let waiting = tokio::spawn({
        let dct = dct.clone();
        async move { dct.finish(&job).await }
    });
    asked_again(&world, SEARCH).await;
    waiting.abort();
    assert!(waiting.await.unwrap_err().is_cancelled());
    assert!(dct.idle_soon().await);
}

#[tokio::test]
async fn who_comes_while_the_loop_sleeps_wakes_it() {
    let world = World::still(Config { running: Duration::from_secs(600), ..Config::default() }).await;
    let dct = world.dct_with(|settings| {
        settings.timing.poll_first = Duration::from_secs(3000);
        settings.timing.poll_max = Duration::from_secs(3000);
    });
    let job = dct.provision(&world.provision("one")).await.unwrap().job.unwrap();
    let waiting = tokio::spawn({
        let dct = dct.clone();
        async move { dct.finish(&job).await }
    });
    while dct.idle() {
        tokio::task::yield_now().await;
    }
    let engine = world.seeded.engine.clone();
    let found = dct.until::<Engine>(&engine, "to be there", |engine| engine.is_some()).await.unwrap();
    assert_eq!(found.unwrap().id, engine);
    assert_eq!(world.asked(SEARCH), 0, "the job's time has not come");
    waiting.abort();
}

#[tokio::test]
async fn several_may_wait_for_one_object() {
    let world = World::new().await;
    let dct = world.dct();
    let vdb = world.vdb(&dct, "one").await;
    let both = tokio::join!(
        dct.until_vdb(&vdb.id, "to be there", |vdb| vdb.is_some()),
        dct.until_vdb(&vdb.id, "to be there", |vdb| vdb.is_some()),
    );
    assert_eq!(both.0.unwrap(), both.1.unwrap());
}
