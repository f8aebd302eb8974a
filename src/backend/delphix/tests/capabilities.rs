//! What a release can do is found out, and not more often than needed.

use offshoot_dct_sim::Release;

use super::liar::Liar;
use super::*;

#[tokio::test]
async fn each_release_is_found_to_have_what_it_has() {
    async fn check(release: &str, expect: [bool; 6]) {
        let release: Release = release.parse().unwrap();
        let world = World::still(offshoot_dct_sim::Config { release, ..Default::default() }).await;
        let can = world.dct().capabilities().await.unwrap();
        let found = [
            can.exported_data_directory,
            can.undo_refresh,
            can.container_mode,
            can.ownership_spec,
            can.empty_vdb,
            can.nfs_version,
        ];
        assert_eq!(found, expect, "{release}: {can}");
        assert_eq!(can.version, Some(release.api()));
    }
    check("20.0.0", [false; 6]).await;
    check("21.0.0", [true, false, false, false, false, false]).await;
    check("24.0.0", [true, true, false, false, false, false]).await;
    check("2025.1.0", [true, true, true, false, false, false]).await;
    check("2025.2.0", [true, true, true, true, false, false]).await;
    check("2025.6.0", [true; 6]).await;
    check("2026.5.0", [true; 6]).await;
}

const YAML: &str = "info:\n  version: 3.30.0\ncomponents:\n  schemas:\n    VDB:\n      properties:\n        nfs_version: {}\n";

#[tokio::test]
async fn a_release_is_asked_once() {
    let liar = Liar::always("200 OK", YAML).await;
    let asked = [liar.dct.capabilities().await, liar.dct.capabilities().await];
    assert!(asked.iter().all(|can| can.as_ref().unwrap().nfs_version));
    assert_eq!(liar.asked(), ["GET /dct/static/api-external.yaml HTTP/1.1"]);
}

#[tokio::test]
async fn where_there_is_no_specification_the_fields_of_answers_say_it() {
    async fn check(vdb: &str, expect: Capabilities) {
        let page = format!("{{\"items\": [{vdb}]}}");
        let answer = move |request: &str| match request.split(' ').nth(1) {
            Some("/dct/v3/vdbs/search?limit=1") => {
                ("200 OK\r\nContent-Type: application/json".to_owned(), page.clone())
            }
            Some("/dct/v3/dsources/search?limit=1") => ("200 OK".to_owned(), "{}".to_owned()),
            _ => ("404 Not Found\r\nContent-Type: text/html".to_owned(), "<html>".to_owned()),
        };
        assert_eq!(Liar::new(answer).await.dct.capabilities().await.unwrap(), expect, "{vdb}");
    }
    let new = Capabilities {
        exported_data_directory: true,
        container_mode: true,
        ownership_spec: true,
        empty_vdb: true,
        nfs_version: true,
        undo_refresh: true,
        version: None,
    };
    check(
        r#"{"id": "1", "exported_data_directory": null, "containerization_state": null, "nfs_version": 4}"#,
        new,
    )
    .await;
    check(r#"{"id": "1"}"#, Capabilities::default()).await;
    check("", Capabilities { exported_data_directory: true, ..Capabilities::default() }).await;
}

#[tokio::test]
async fn a_dct_that_cannot_be_asked_again_keeps_what_is_known_of_it() {
    let first = std::sync::atomic::AtomicBool::new(true);
    let liar = Liar::new(move |_| match first.swap(false, std::sync::atomic::Ordering::SeqCst) {
        true => ("200 OK".to_owned(), YAML.to_owned()),
        false => ("503 Service Unavailable".to_owned(), String::new()),
    })
    .await;
    let mut settings = liar.dct.settings().clone();
    settings.timing.capabilities_for = Duration::ZERO;
    settings.timing.retry_for = Duration::ZERO;
    let dct = open(settings);
    let before = dct.capabilities().await.unwrap();
    assert_eq!(dct.capabilities().await.unwrap(), before);
    assert!(liar.asked().len() > 1, "it was asked again");
}
