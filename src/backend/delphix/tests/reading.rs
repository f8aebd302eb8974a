//! What is there is read whole, or it is said why not.

use serde_json::json;

use super::liar::Liar;
use super::*;

const JSON: &str = "200 OK\r\nContent-Type: application/json";

#[tokio::test]
async fn an_object_is_got_by_its_id_and_one_that_is_not_there_is_none() {
    let world = World::new().await;
    let dct = world.dct();
    let seeded = &world.seeded;
    assert_eq!(dct.engine(&seeded.engine).await.unwrap().unwrap().online(), Some(true));
    let environment = dct.environment(&seeded.environment).await.unwrap().unwrap();
    assert_eq!(environment.hosts[0].id, seeded.host);
    assert_eq!(environment.hosts[0].nfs_addresses, Some(Vec::new()));
    assert_eq!(environment.repositories[0].id, seeded.repository);
    let dsource = dct.dsource(&seeded.dsource).await.unwrap().unwrap();
    assert!(dsource.exported_data_directory.unwrap().starts_with("domain0/"));
    let snapshot = dct.snapshot(&seeded.snapshot).await.unwrap().unwrap();
    assert_eq!(snapshot.dataset_id.as_ref(), Some(&seeded.dsource));
    assert!(dct.timeflow(&dsource.current_timeflow_id.unwrap()).await.unwrap().is_some());
    assert_eq!(dct.groups(Filter::all()).await.unwrap().len(), 2);
    assert_eq!(dct.toolkits(Filter::all()).await.unwrap().len(), 1);
    for missing in ["1-APPDATA_CONTAINER-99", "äöü", "a?b#c%2f", "..."] {
        assert_eq!(dct.vdb(missing).await.unwrap(), None, "{missing}");
        assert_eq!(dct.bookmark(missing).await.unwrap(), None, "{missing}");
    }
}

#[tokio::test]
async fn what_cannot_be_an_id_is_refused_before_it_changes_a_path() {
    let world = World::new().await;
    let dct = world.dct();
    for id in ["", ".", "..", "a/b", "a\nb", &"x".repeat(600)] {
        let failure = dct.delete_bookmark(id).await.unwrap_err();
        assert_eq!(
            (failure.fault(), failure.kind()),
            (&Fault::Invalid, crate::volume::Kind::Invalid),
            "{id:?}"
        );
    }
    assert_eq!(world.sim.traffic().log, [""; 0]);
}

#[tokio::test]
async fn a_search_reads_all_its_pages() {
    let world = World::new().await;
    let dct = world.dct_with(|settings| settings.timing.page_size = 2);
    for name in ["a", "b", "c", "d", "e"] {
        world.vdb(&dct, name).await;
    }
    world.sim.clear_traffic();
    let names = |vdbs: Vec<Vdb>| vdbs.into_iter().filter_map(|vdb| vdb.name).collect::<Vec<_>>();
    assert_eq!(names(dct.vdbs(Filter::all()).await.unwrap()), ["a", "b", "c", "d", "e"]);
    assert_eq!(world.asked("POST /vdbs/search"), 3);
    assert_eq!(
        names(dct.all(Filter::ne("name", "c"), Sort::Down("name")).await.unwrap()),
        ["e", "d", "b", "a"]
    );
    assert_eq!(names(dct.first(Filter::all(), Sort::Up("name"), 3).await.unwrap()), ["a", "b", "c"]);
}

#[tokio::test]
async fn a_page_that_leads_back_ends_the_search_with_an_error() {
    let page = json!({"items": [{"id": "1"}], "response_metadata": {"next_cursor": "again"}}).to_string();
    let liar = Liar::always(JSON, &page).await;
    let failure = liar.dct.vdbs(Filter::all()).await.unwrap_err();
    assert_eq!(failure.fault(), &Fault::Broken, "{failure}");
    assert_eq!(liar.asked().len(), 2);
}

#[tokio::test]
async fn a_list_that_lacks_an_engine_is_not_taken_for_the_whole() {
    async fn check(errors: serde_json::Value, whole: bool) {
        let page = json!({"items": [{"id": "1"}, {"name": "no id"}], "errors": errors}).to_string();
        let liar = Liar::always(JSON, &page).await;
        match liar.dct.vdbs(Filter::all()).await {
            Ok(vdbs) => assert!(whole && vdbs.len() == 1, "{errors}"),
            Err(failure) => {
                assert!(!whole && failure.fault() == &Fault::Unreachable, "{errors}: {failure}");
                assert!(failure.to_string().contains("only a part of its VDBs"), "{failure}");
            }
        }
    }
    check(serde_json::Value::Null, true).await;
    check(json!([]), true).await;
    check(json!({}), true).await;
    check(json!({"errors": []}), true).await;
    check(json!([{"message": "engine away", "object_name": "e1"}]), false).await;
    check(json!({"errors": [{"message": "engine away"}]}), false).await;
}

#[tokio::test]
async fn what_is_no_answer_of_a_dct_is_said_to_be_none() {
    async fn check(head: &str, body: &str, fault: Fault, expect: &str) {
        let liar = Liar::always(head, body).await;
        let failure = liar.dct.vdb("v").await.unwrap_err();
        assert_eq!(failure.fault(), &fault, "{failure}");
        assert!(failure.to_string().contains(expect), "{failure}");
        assert!(!failure.to_string().contains("secret"), "{failure}");
    }
    check("200 OK\r\nContent-Type: text/html", "<html>", Fault::Broken, "check url").await;
    check(JSON, "[1, 2]", Fault::Broken, "check url").await;
    check(JSON, "{\"name\": \"x\"}", Fault::Broken, "no id").await;
    // Of a 404 of a web server it does not follow that the object is gone.
    check("404 Not Found\r\nContent-Type: text/html", "<html>", Fault::Broken, "page of the web").await;
    let moved = Fault::Refused { status: 302, text: String::new() };
    let liar = Liar::always("302 Found\r\nLocation: https://elsewhere.example/", "").await;
    let failure = liar.dct.vdb("v").await.unwrap_err();
    assert_eq!(std::mem::discriminant(failure.fault()), std::mem::discriminant(&moved), "{failure}");
    assert_eq!(liar.asked().len(), 1, "a redirect is not followed");
}

#[tokio::test]
async fn what_the_dct_says_about_an_error_is_shown_short_and_without_the_key() {
    async fn check(body: &str, expect: &str) {
        let liar = Liar::always("400 Bad Request\r\nContent-Type: application/json", body).await;
        let failure = liar.dct.vdb("v").await.unwrap_err();
        let Fault::Refused { status: 400, text } = failure.fault() else { panic!("{failure:?}") };
        assert_eq!(text, expect);
        assert!(failure.to_string().contains(expect), "{failure}");
        assert_eq!(failure.kind(), crate::volume::Kind::Invalid);
    }
    check(r#"{"message": "the name\nis bad"}"#, "the name is bad").await;
    check(r#"{"error": "e", "error_description": "d"}"#, "d").await;
    check(r#"{"message": "key 1.secret is bad"}"#, "key <redacted> is bad").await;
    check("plain", "plain").await;
    check("<html><body>long page</body></html>", "").await;
    let long = "x".repeat(5000);
    check(&format!("{{\"message\": \"{long}\"}}"), &format!("{}…", "x".repeat(299))).await;
}

#[tokio::test]
async fn doctor_sees_what_is_right_and_what_is_not() {
    let world = World::new().await;
    let of =
        |checks: Vec<Check>| checks.into_iter().map(|check| (check.name, check.health)).collect::<Vec<_>>();
    let all = ["reachable", "certificate", "key", "clock", "capabilities", "engine"];
    assert_eq!(of(world.dct().check().await), all.map(|name| (name, Health::Ok)));
    let away = offshoot_dct_sim::Admin::Engine { id: world.seeded.engine.clone(), online: false };
    world.sim.admin(away).unwrap();
    assert_eq!(world.dct().check().await.last().unwrap().health, Health::Fail);
    world.write("key", "1.other");
    let checks = world.dct().check().await;
    assert_eq!(checks.last().map(|check| (check.name, check.health)), Some(("key", Health::Fail)));
    let nowhere = world.dct_with(|settings| {
        settings.url = "https://127.0.0.1:1".to_owned();
        settings.timing.retry_for = Duration::ZERO;
    });
    let checks = nowhere.check().await;
    assert_eq!(of(checks.clone()), [("reachable", Health::Fail), ("certificate", Health::Ok)]);
    assert!(checks[0].detail.contains("refuses connections"), "{}", checks[0].detail);
}
