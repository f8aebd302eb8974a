//! Tables for the parameters: what is taken, and that every refusal names its parameter and the mend.

use super::*;
use crate::volume::Kind;
use proptest::prelude::*;

fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn read(pairs: &[(&str, &str)]) -> Params {
    Params::parse(&map(pairs)).unwrap()
}

#[track_caller]
fn refused(pairs: &[(&str, &str)], words: &[&str]) {
    let error = Params::parse(&map(pairs)).unwrap_err();
    assert_eq!(error.kind(), Kind::Invalid);
    let text = error.to_string();
    assert!(words.iter().all(|word| text.contains(word)), "{text}");
}

#[test]
fn every_parameter_is_read_into_its_type() {
    let all = [
        ("dct", "prod"),
        ("source", "orders"),
        ("sourceTimestamp", "2026-01-31T09:00:00+01:00"),
        ("engine", "engine1"),
        ("environment", "surrogate"),
        ("repository", "Unstructured files"),
        ("group", "Kubernetes"),
        ("mountBase", "/mnt//k8s/"),
        ("ownership", "0999:26"),
        ("containerMode", "false"),
        ("retentionPolicy", "1-RETENTION-1"),
        ("snapshotPolicy", "1-SNAPSHOT-1"),
        ("masked", "true"),
        ("hooks", r#"{"post_refresh":[{"name":"a","command":"/opt/a","shell":"bash"}]}"#),
        ("tags", "team=a, cost = 7 ,"),
        ("nfsVersion", "4.1"),
        ("csi.storage.k8s.io/pvc/name", "data"),
        ("csi.storage.k8s.io/pvc/namespace", "shop"),
        ("csi.storage.k8s.io/pv/name", "pvc-1"),
        ("storage.kubernetes.io/csiProvisionerIdentity", "x"),
    ];
    let params = read(&all);
    assert_eq!(params.point, Point::Timestamp("2026-01-31T08:00:00Z".parse().unwrap()));
    assert_eq!(params.mount_base.as_deref(), Some("/mnt/k8s"));
    assert_eq!(params.ownership.as_deref(), Some("999:26"));
    assert_eq!(params.container, Container::Off);
    assert_eq!(params.masked, Some(true));
    assert_eq!(params.tags, map(&[("team", "a"), ("cost", "7")]));
    assert_eq!(params.nfs_version, Some(NfsVersion::V4_1));
    assert_eq!(params.claim, Some(Claim { name: "data".into(), namespace: "shop".into() }));
    let ours: Vec<&str> = all.iter().map(|(key, _)| *key).filter(|key| !key.contains('/')).collect();
    assert_eq!(params.written().len(), ours.len());
    // All of the table, but for two points that exclude the third.
    assert_eq!(ours.len() + 2, DOCS.len());
    assert!(ours.iter().all(|key| DOCS.iter().any(|doc| doc.key == *key)));
    assert_eq!(Params::parse(&BTreeMap::new()).unwrap(), Params::default());
}

#[test]
fn a_point_is_one_of_three_and_a_time_needs_a_source() {
    assert_eq!(read(&[("sourceSnapshot", "1-S-1")]).point, Point::Snapshot("1-S-1".into()));
    assert_eq!(read(&[("sourceBookmark", "monday")]).point, Point::Bookmark("monday".into()));
    refused(
        &[("sourceSnapshot", "a"), ("sourceBookmark", "b")],
        &["parameters.sourceBookmark", "sourceSnapshot", "leave one out"],
    );
    refused(
        &[("source", "a"), ("sourceTimestamp", "b"), ("sourceBookmark", "b")],
        &["excludes sourceTimestamp"],
    );
    refused(&[("sourceTimestamp", "2026-01-31T08:00:00Z")], &["parameters.sourceTimestamp", "give source"]);
    refused(
        &[("source", "a"), ("sourceTimestamp", "yesterday")],
        &["parameters.sourceTimestamp", "2026-01-31T08:00:00Z"],
    );
}

#[test]
fn a_wrong_value_is_refused_with_its_parameter_and_the_mend() {
    for (key, value, words) in [
        ("mountBase", "mnt", "is not an absolute path"),
        ("mountBase", "/mnt/../etc", "without"),
        ("mountBase", "/", "root"),
        ("ownership", "postgres", "999:999"),
        ("ownership", "1:-1", "999:999"),
        ("ownership", "1:4294967296", "999:999"),
        ("ownership", "1:+2", "999:999"),
        ("containerMode", "yes", "give auto, true or false"),
        ("masked", "1", "give true or false"),
        ("nfsVersion", "4.3", "give 3, 4, 4.1 or 4.2"),
        ("dct", "a b", "letters, digits"),
        ("source", "", "leave it out"),
        ("source", "a\nb", "control characters"),
        ("group", "a\\b", "give the id"),
        ("environment", "a'b\"c", "give the id"),
        ("tags", "team", "key=value"),
        ("tags", "offshoot-name=x", "this driver's own"),
        ("tags", "a=1,a=2", "twice"),
        ("tags", "a=", "empty"),
        ("hooks", "[]", "JSON object"),
        ("hooks", "{", "is not JSON"),
        ("hooks", r#"{"pre_lunch":[]}"#, "pre_refresh"),
        ("hooks", r#"{"pre_stop":{}}"#, "pre_stop is not a list"),
        ("hooks", r#"{"pre_stop":[{"shell":"zsh"}]}"#, "bash"),
        ("hooks", r#"{"pre_stop":[{"password":"x"}]}"#, "password"),
        ("csi.storage.k8s.io/fstype", "ext4", "leave it out"),
    ] {
        refused(&[(key, value)], &[&format!("parameters.{key}: "), words]);
    }
    let long = "x".repeat(MAX_VALUE + 1);
    refused(&[("source", &long)], &["parameters.source", "4096"]);
    let many: BTreeMap<String, String> = (0..65).map(|n| (n.to_string(), String::new())).collect();
    assert!(Params::parse(&many).unwrap_err().to_string().contains("at most 64"));
}

#[test]
fn an_unknown_key_is_refused_with_the_nearest_name() {
    for (key, meant) in [
        ("Source", "source"),
        ("soruce", "source"),
        ("enviroment", "environment"),
        ("nfsVers", "nfsVersion"),
        ("retention-policy", "retentionPolicy"),
        ("sourceSnapshots", "sourceSnapshot"),
    ] {
        refused(&[(key, "x")], &[&format!("parameters.{key}: "), &format!("did you mean {meant}")]);
    }
    refused(&[("colour", "x")], &["parameters.colour: ", "known are dct, source", "csi.storage.k8s.io/"]);
    let error = SnapshotParams::parse(&map(&[("source", "x")])).unwrap_err();
    assert!(error.to_string().contains("parameters.source: is not known; known are tags"), "{error}");
}

#[test]
fn the_vendors_annotations_override_and_others_are_left_alone() {
    let class = read(&[("source", "orders"), ("group", "A"), ("csi.storage.k8s.io/pvc/name", "x")]);
    let claim = map(&[
        ("sourceDBName", "invoices"),
        ("envName", "surrogate"),
        ("vdbGroupName", "B"),
        ("vdbRepositoryName", "files"),
        ("vdbStageMountpath", "/mnt/x"),
        ("kubectl.kubernetes.io/last-applied-configuration", "{}"),
    ]);
    let params = class.overridden(&claim).unwrap();
    let expect = read(&[
        ("source", "invoices"),
        ("environment", "surrogate"),
        ("group", "B"),
        ("repository", "files"),
        ("mountBase", "/mnt/x"),
    ]);
    assert_eq!(params, expect);
    assert_eq!(class.overridden(&map(&[("other", "x")])).unwrap(), class);
    let error = class.overridden(&map(&[("vdbStageMountpath", "mnt")])).unwrap_err().to_string();
    assert!(error.contains("vdbStageMountpath") && error.contains("mountBase"), "{error}");
}

proptest! {
    #[test]
    fn whatever_is_given_is_taken_or_refused_by_name(
        key in "(source|mountBase|hooks|tags|ownership|nfsVersion|sourceTimestamp|\\PC{0,12})",
        value in "\\PC{0,40}",
    ) {
        if let Err(error) = Params::parse(&map(&[(&key, &value)])) {
            prop_assert_eq!(error.kind(), Kind::Invalid);
            prop_assert!(error.to_string().starts_with("parameters."), "{}", error);
        }
    }

    #[test]
    fn the_distance_of_words_is_that_of_a_metric(a in "[a-d]{0,6}", b in "[a-d]{0,6}") {
        prop_assert_eq!(distance(&a, &b), distance(&b, &a));
        prop_assert_eq!(distance(&a, &b) == 0, a == b);
        prop_assert!(distance(&a, &b) <= a.len().max(b.len()));
    }
}
