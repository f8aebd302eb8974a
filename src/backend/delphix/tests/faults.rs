//! Whatever goes wrong on the way: what may be repeated is, and of the rest it is known what became of it.

use offshoot_dct_sim::{Fault as Wrong, Kind, Rule};

use super::*;

const LIST: &str = "POST /vdbs/search";
const MAKE: &str = "POST /vdbs/provision_by_snapshot";

#[tokio::test]
async fn a_request_that_changes_nothing_is_repeated() {
    async fn check(fault: Wrong, times: u32) {
        let world = World::new().await;
        world.sim.fault(Rule::next(LIST, fault.clone()).times(times));
        let found = world.dct().vdbs(Filter::all()).await;
        assert_eq!(found.unwrap(), [], "{fault:?}");
        assert_eq!(world.asked(LIST), u64::from(times) + 1, "{fault:?}");
    }
    check(Wrong::LoseRequest, 3).await;
    check(Wrong::LoseAnswer, 3).await;
    check(Wrong::Unauthorized, 1).await;
    for code in [429, 502, 503, 504] {
        check(Wrong::Status { code, retry_after: None }, 3).await;
        check(Wrong::Status { code, retry_after: Some(0) }, 1).await;
    }
    check(Wrong::StatusAfter { code: 502 }, 1).await;
}

#[tokio::test]
async fn what_repeating_does_not_mend_is_not_repeated() {
    async fn check(wrong: Wrong, kind: crate::volume::Kind, expect: &str) {
        let world = World::new().await;
        world.sim.fault(Rule::next(LIST, wrong).times(9));
        let dct = world.dct_with(|settings| settings.timing.retry_for = Duration::from_secs(2));
        let failure = dct.vdbs(Filter::all()).await.unwrap_err();
        assert_eq!(failure.kind(), kind, "{failure}");
        assert!(failure.to_string().contains(expect), "{failure}");
        assert_eq!(world.asked(LIST), 1, "{failure}");
    }
    let status = |code, retry_after| Wrong::Status { code, retry_after };
    use crate::volume::Kind;
    check(status(500, None), Kind::Unavailable, "cannot answer (500): POST /vdbs/search fails on order")
        .await;
    check(status(400, None), Kind::Invalid, "refuses it (400)").await;
    check(status(403, None), Kind::Denied, "the account of the key").await;
    check(status(409, None), Kind::Busy, "(409)").await;
    // It asks for more time than the call has: the call ends now and not after a useless wait.
    check(status(429, Some(60)), Kind::Unavailable, "asked again later").await;
    check(status(503, Some(60)), Kind::Unavailable, "(503)").await;
}

#[tokio::test]
async fn a_dct_that_stays_away_is_given_up() {
    let world = World::new().await;
    world.sim.fault(Rule::next(LIST, Wrong::LoseRequest).times(u32::MAX));
    let dct = world.dct_with(|settings| settings.timing.retry_for = Duration::from_secs(1));
    let failure = dct.vdbs(Filter::all()).await.unwrap_err();
    assert_eq!(failure.fault(), &Fault::Unreachable, "{failure}");
    assert!(failure.to_string().contains("broke before the answer"), "{failure}");
    assert!(world.asked(LIST) > 1);
}

#[tokio::test]
async fn a_change_whose_answer_was_lost_is_ambiguous_and_never_sent_again() {
    async fn check(wrong: Wrong, done: usize) {
        let world = World::new().await;
        world.sim.fault(Rule::next(MAKE, wrong.clone()));
        let failure = world.dct().provision(&world.provision("one")).await.unwrap_err();
        assert!(failure.is_ambiguous(), "{wrong:?}: {failure}");
        assert_eq!(failure.kind(), crate::volume::Kind::Unavailable);
        assert!(failure.to_string().contains("look before it is sent again"), "{failure}");
        assert_eq!(world.asked(MAKE), 1, "{wrong:?}");
        assert_eq!(world.sim.objects(Kind::Job).len(), done, "{wrong:?}");
    }
    check(Wrong::LoseAnswer, 1).await;
    check(Wrong::LoseRequest, 0).await;
    for code in [500, 502, 503, 504] {
        check(Wrong::StatusAfter { code }, 1).await;
        check(Wrong::Status { code, retry_after: None }, 0).await;
    }
}

#[tokio::test]
async fn a_change_that_surely_was_not_taken_is_repeated() {
    for wrong in [Wrong::Status { code: 429, retry_after: Some(0) }, Wrong::Unauthorized] {
        let world = World::new().await;
        world.sim.fault(Rule::next(MAKE, wrong));
        world.vdb(&world.dct(), "one").await;
        assert_eq!(world.asked(MAKE), 2);
        assert_eq!(world.sim.objects(Kind::Vdb).len(), 1);
    }
}

#[tokio::test]
async fn tags_are_repeated_because_that_does_no_more() {
    let world = World::new().await;
    let dct = world.dct();
    let id = world.vdb(&dct, "one").await.id;
    let tags = [Tag::new("offshoot-node.n1", "10.0.0.1")];
    world.sim.fault(Rule::next("POST /vdbs/{vdbId}/tags", Wrong::LoseAnswer));
    dct.tag_vdb(&id, &tags).await.unwrap();
    let has = |vdb: Option<Vdb>| vdb.unwrap().tags.iter().filter(|tag| **tag == tags[0]).count();
    assert_eq!(has(dct.vdb(&id).await.unwrap()), 1);
    world.sim.fault(Rule::next("POST /vdbs/{vdbId}/tags/delete", Wrong::LoseAnswer));
    dct.untag_vdb(&id, &tags).await.unwrap();
    assert_eq!(has(dct.vdb(&id).await.unwrap()), 0);
    world.sim.clear_traffic();
    dct.tag_vdb(&id, &[]).await.unwrap();
    assert_eq!(world.sim.traffic().log, [""; 0], "no tags are no request");
}

#[tokio::test]
async fn a_request_ends_in_bounded_time() {
    let world = World::new().await;
    let dct = world.dct_with(|settings| {
        settings.timing.request_timeout = Duration::from_millis(50);
        settings.timing.retry_for = Duration::ZERO;
    });
    world.sim.fault(Rule::next("*", Wrong::Delay { ms: 60_000 }).times(2));
    let failure = dct.vdbs(Filter::all()).await.unwrap_err();
    assert_eq!(failure.fault(), &Fault::Unreachable);
    assert!(failure.to_string().contains("does not answer within 50ms"), "{failure}");
    assert!(dct.provision(&world.provision("one")).await.unwrap_err().is_ambiguous());
}

#[tokio::test]
async fn a_restart_of_the_dct_is_not_noticed_by_who_waits() {
    let config = offshoot_dct_sim::Config { running: Duration::from_secs(30), ..Default::default() };
    let world = World::still(config).await;
    let dct = world.dct();
    let job = dct.provision(&world.provision("one")).await.unwrap().job.unwrap();
    let waiting = tokio::spawn({
        let dct = dct.clone();
        async move { dct.finish(&job).await }
    });
    for _ in 0..3 {
        world.sim.restart().unwrap();
        let before = world.asked("POST /jobs/search");
        while world.asked("POST /jobs/search") <= before {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
    while_time_passes(&world.sim, waiting).await.unwrap().unwrap();
}
