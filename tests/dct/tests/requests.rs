//! What is asked is checked, pages are whole, and what is answered is in the interface table.

#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::collections::BTreeSet;
use std::time::Duration;

use common::World;
use offshoot_dct_sim::{Config, Kind};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;

#[tokio::test]
async fn a_request_that_is_not_in_the_table_is_refused_by_what_is_wrong() {
    let w = World::new(Config::default()).await;
    let check = async |call: &str, body: Option<Value>, expect: (u16, &str)| {
        let (method, path) = call.split_once(' ').unwrap();
        let got = w.ask(method, path, body).await;
        assert_eq!(got.status, expect.0, "{call}: {}", got.body);
        assert!(got.message().contains(expect.1), "{call}: {}", got.body);
    };
    check("GET /nothing", None, (404, "/nothing is not found")).await;
    check("PUT /vdbs", None, (405, "PUT")).await;
    check("GET /vdbs?colour=red", None, (400, "colour is not known")).await;
    check("GET /vdbs?limit=0", None, (400, "limit")).await;
    check("GET /vdbs?limit=1001", None, (400, "limit")).await;
    check("GET /vdbs?limit=ten", None, (400, "limit")).await;
    check("GET /vdbs?cursor=ten", None, (400, "cursor")).await;
    check("GET /vdbs?sort=colour", None, (400, "sort")).await;
    check("GET /vdbs/1-APPDATA_CONTAINER-99", None, (404, "1-APPDATA_CONTAINER-99")).await;
    check("GET /snapshots/find_by_timestamp?dataset_id=demo", None, (400, "timestamp is required")).await;
    check("POST /vdbs/search", Some(json!({"filter": "x"})), (400, "filter is not known")).await;
    check("POST /vdbs/search", Some(json!({"filter_expression": 1})), (400, "not text")).await;
    check("POST /vdbs/search", Some(json!({"filter_expression": "x"})), (400, "between 5 and")).await;
    check("POST /vdbs/search", Some(json!({"filter_expression": "name LIKE 'x'"})), (400, "LIKE")).await;
    check("POST /bookmarks", Some(json!({"vdb_ids": ["x"]})), (400, "name is required")).await;
    check("POST /bookmarks", Some(json!({"name": "x"})), (400, "exactly one of")).await;
    check("POST /bookmarks", None, (422, "not readable")).await;
    check("POST /vdb-groups", Some(json!({"name": "x"})), (501, "POST /vdb-groups is not simulated")).await;
    check("POST /vdbs/1/start", None, (501, "POST /vdbs/{vdbId}/start")).await;
    check(
        "POST /vdbs/provision_by_snapshot",
        Some(json!({"source_data_id": "demo"})),
        (400, "environment_id"),
    )
    .await;
    check("POST /vdbs/provision_by_snapshot", Some(json!({"environment_id": "x"})), (400, "source_data_id"))
        .await;
}

#[tokio::test]
async fn only_tls_with_the_right_key_is_answered() {
    let w = World::new(Config::default()).await;
    let status = async |key: &str| w.raw("GET", "/vdbs", None, key).await.unwrap().status;
    assert_eq!((status(&w.sim.key()).await, status("wrong").await, status("").await), (200, 401, 401));
    w.sim.set_key("1.next");
    assert_eq!((status("1.simulated").await, status("1.next").await), (401, 200));
    let text = b"GET /dct/v3/vdbs HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: 1.next\r\n\r\n";
    assert_eq!(w.bytes(text).await.unwrap().status, 401, "the word apk belongs to it");
    assert_eq!(w.ask("GET", "/v3/vdbs", None).await.status, 200, "the older base path serves too");
    let mut plain = tokio::net::TcpStream::connect(w.sim.url.trim_start_matches("https://")).await.unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut plain, text).await.unwrap();
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
    let stranger = World::new(Config::default()).await;
    let tcp = tokio::net::TcpStream::connect(w.sim.url.trim_start_matches("https://")).await.unwrap();
    let name = rustls::pki_types::ServerName::try_from("localhost").unwrap();
    assert!(common::trusting(&stranger.sim.ca_pem).connect(name, tcp).await.is_err());
}

#[tokio::test]
async fn more_than_a_hundred_objects_come_in_pages_that_are_whole_and_end() {
    let w = World::new(Config::default()).await;
    let vdb = w.vdb("one").await;
    for _ in 0..105 {
        w.post(&format!("/vdbs/{vdb}/snapshots"), json!({})).await;
        w.sim.advance(Duration::from_secs(1));
    }
    let check = async |method: &str, query: &str, sizes: &[usize]| {
        let (mut seen, mut got, mut cursor) = (Vec::new(), Vec::new(), String::new());
        loop {
            let path = format!("/snapshots{}?{query}{cursor}", if method == "POST" { "/search" } else { "" });
            let body = json!({"filter_expression": format!("dataset_id EQ '{vdb}'")});
            let page = w.ask(method, &path, (method == "POST").then_some(body)).await.body;
            let items = page["items"].as_array().unwrap();
            seen.extend(items.iter().map(|i| i["timestamp"].as_str().unwrap().to_owned()));
            got.push(items.len());
            match page["response_metadata"]["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
        assert_eq!(got, sizes, "{method} {query}");
        assert_eq!(
            seen.iter().collect::<BTreeSet<_>>().len(),
            seen.len(),
            "{method} {query}: no object twice"
        );
        seen
    };
    check("GET", "", &[100, 6]).await;
    check("POST", "", &[100, 5]).await;
    check("POST", "limit=35", &[35, 35, 35]).await;
    check("POST", "limit=1000", &[105]).await;
    let down = check("POST", "limit=50&sort=-timestamp", &[50, 50, 5]).await;
    let mut up = check("POST", "limit=50&sort=timestamp", &[50, 50, 5]).await;
    up.reverse();
    assert_eq!(up, down);
    assert!(up.windows(2).all(|w| w[0] >= w[1]));
}

#[tokio::test]
async fn tags_are_found_by_a_filter_and_show_at_once() {
    let w = World::new(Config { lag: Duration::from_secs(60), ..Config::default() }).await;
    let vdb = w.vdb("one").await;
    let tags = format!("/vdbs/{vdb}/tags");
    let two = json!({"tags": [{"key": "pvc", "value": "ns/it's"}, {"key": "cluster", "value": "c1"}]});
    assert_eq!(w.ask("POST", &tags, Some(two.clone())).await.status, 201);
    assert_eq!(w.get(&tags).await, two);
    let filter = json!({"filter_expression": "tags CONTAINS {key EQ 'pvc' AND value EQ \"ns/it's\"}"});
    assert_eq!(w.post("/vdbs/search", filter.clone()).await["items"][0]["id"], json!(vdb));
    let got = w.ask("POST", &format!("{tags}/delete"), Some(json!({"key": "pvc"}))).await;
    assert_eq!((got.status, got.body), (204, json!("")));
    assert_eq!(w.post("/vdbs/search", filter).await["items"], json!([]));
    assert_eq!(w.ask("POST", &format!("{tags}/delete"), None).await.status, 422);
    assert_eq!(w.ask("POST", &format!("{tags}/delete"), Some(json!({}))).await.status, 400);
}

#[tokio::test]
async fn an_ambiguous_name_is_refused_with_the_ids_it_could_mean() {
    let w = World::new(Config::default()).await;
    let other = w.sim.add_engine("other.example").unwrap();
    let body = json!({"source_data_id": "demo", "environment_id": w.seeded.environment});
    let got = w.ask("POST", "/vdbs/provision_by_snapshot", Some(body)).await;
    assert_eq!(got.status, 400);
    assert!(
        got.message().contains(&w.seeded.dsource) && got.message().contains(&other.dsource),
        "{}",
        got.body
    );
    let body = json!({"source_data_id": other.dsource, "environment_id": w.seeded.environment});
    let got = w.ask("POST", "/vdbs/provision_by_snapshot", Some(body)).await;
    assert_eq!(got.status, 404, "an environment of another engine: {}", got.body);
    let body = json!({"source_data_id": other.dsource, "environment_id": other.environment, "name": "two"});
    let answer = w.post("/vdbs/provision_by_snapshot", body).await;
    assert_eq!(w.ended(&answer).await["status"], "COMPLETED");
    assert!(answer["vdb_id"].as_str().unwrap().starts_with("2-"), "{answer}");
}

#[tokio::test]
async fn every_kind_of_object_is_answered_as_its_model() {
    let w = World::new(Config::default()).await;
    let vdb = w.vdb("one").await;
    let answer = w.post("/bookmarks", json!({"name": "mark", "vdb_ids": [vdb]})).await;
    w.ended(&answer).await;
    let mark = answer["bookmark"]["id"].as_str().unwrap().to_owned();
    let first = async |path: &str| {
        // Each answer was checked against the table before it was sent: a drift would be a 500.
        let found = w.post(&format!("{path}/search"), json!({})).await;
        let listed = w.get(path).await;
        assert_eq!(found["items"], listed["items"], "{path}");
        let id = found["items"][0]["id"].as_str().unwrap().to_owned();
        assert_eq!(w.get(&format!("{path}/{id}")).await, found["items"][0], "{path}");
        if !["/groups"].contains(&path) {
            w.get(&format!("{path}/{id}/tags")).await;
        }
        id
    };
    for path in [
        "/bookmarks",
        "/dsources",
        "/environments",
        "/groups",
        "/jobs",
        "/management/engines",
        "/snapshots",
        "/sources",
        "/timeflows",
        "/toolkits",
        "/vdbs",
    ] {
        first(path).await;
    }
    let job = first("/jobs").await;
    w.get(&format!("/jobs/{job}/result")).await;
    w.get(&format!("/environments/{}/users", w.seeded.environment)).await;
    w.get(&format!("/environments/hosts/{}", w.seeded.host)).await;
    w.get(&format!("/vdbs/{vdb}/snapshots")).await;
    w.get(&format!("/vdbs/{vdb}/bookmarks")).await;
    w.get(&format!("/dsources/{}/snapshots", w.seeded.dsource)).await;
    w.get(&format!("/dsources/{}/deletion-dependencies", w.seeded.dsource)).await;
    w.get(&format!("/snapshots/{}/runtime", w.seeded.snapshot)).await;
    w.get(&format!("/snapshots/{}/deletion-dependencies", w.seeded.snapshot)).await;
    let path = format!("/snapshots/find_by_timestamp?dataset_id={vdb}&timestamp=2027-01-01T00:00:00%2B01:00");
    assert_eq!(w.get(&path).await["items"].as_array().unwrap().len(), 1);
    for (call, body) in [
        (format!("PATCH /bookmarks/{mark}"), Some(json!({"name": "other"}))),
        (format!("PATCH /vdbs/{vdb}"), Some(json!({"description": "x"}))),
        (format!("POST /dsources/{}/disable", w.seeded.dsource), None),
        (format!("POST /dsources/{}/enable", w.seeded.dsource), None),
        (format!("POST /environments/{}/refresh", w.seeded.environment), None),
        (format!("DELETE /bookmarks/{mark}"), None),
    ] {
        let (method, path) = call.split_once(' ').unwrap();
        let got = w.ask(method, path, body).await;
        assert_eq!(
            (got.status, w.ended(&got.body).await["status"].as_str()),
            (200, Some("COMPLETED")),
            "{call}"
        );
    }
    assert_eq!(w.sim.object(Kind::Vdb, &vdb).unwrap()["description"], "x");
    assert!(w.sim.objects(Kind::Bookmark).is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_clients_at_once_each_get_their_own() {
    let w = std::sync::Arc::new(World::new(Config::default()).await);
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..40 {
        let w = w.clone();
        tasks.spawn(async move {
            let body =
                json!({"source_data_id": "demo", "environment_id": "surrogate1", "name": format!("v{n}")});
            w.post("/vdbs/provision_by_snapshot", body).await["vdb_id"].as_str().unwrap().to_owned()
        });
    }
    let ids: BTreeSet<String> = tasks.join_all().await.into_iter().collect();
    w.sim.advance(Duration::from_secs(60));
    assert_eq!((ids.len(), w.sim.objects(Kind::Vdb).len()), (40, 40));
    assert_eq!(w.sim.exports().len(), 40);
    let traffic = w.sim.traffic();
    assert_eq!(traffic.requests["POST /vdbs/provision_by_snapshot"], 40);
    assert!(traffic.ever >= 40 && traffic.log.len() == 40, "{traffic:?}");
}
