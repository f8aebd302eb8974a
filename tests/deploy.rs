//! What is installed on a cluster: which container may do what, and that nothing in it refers to what is not there.
//!
//! The rendered manifest is read, not the chart: it is what runs. That the two agree is checked by `scripts/render.sh --check`, and what an
//! API server makes of them by `scripts/chart-test.sh`.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::Value;

fn at(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn text(path: &str) -> String {
    std::fs::read_to_string(at(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn documents(path: &str) -> Vec<Value> {
    let all: Vec<Value> =
        serde_saphyr::from_multiple(&text(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
    let objects: Vec<Value> = all.into_iter().filter(Value::is_object).collect();
    assert!(!objects.is_empty(), "{path} holds nothing");
    objects
}

fn all<'a>(value: &'a Value, list: &str) -> impl Iterator<Item = &'a Value> {
    value[list].as_array().into_iter().flatten()
}

fn words(value: &Value) -> String {
    let words: Vec<&str> = value.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    words.join(" ")
}

/// One line for each thing that a pod may do beyond what the standard "restricted" allows, or does to its node.
fn powers(object: &Value, lines: &mut Vec<String>) {
    let spec = &object["spec"]["template"]["spec"];
    let owner = object["metadata"]["name"].as_str().unwrap();
    for shared in ["hostNetwork", "hostPID", "hostIPC", "shareProcessNamespace"] {
        if spec[shared] == true {
            lines.push(format!("{owner}: {shared}"));
        }
    }
    let pod = &spec["securityContext"];
    for volume in all(spec, "volumes") {
        if let Some(path) = volume["hostPath"]["path"].as_str() {
            lines.push(format!("{owner}: the node's {path}"));
        }
    }
    for container in all(spec, "initContainers").chain(all(spec, "containers")) {
        let who = format!("{owner}/{}", container["name"].as_str().unwrap());
        let own = &container["securityContext"];
        assert_eq!(own["readOnlyRootFilesystem"], true, "{who} can write into its image");
        if own["privileged"] == true {
            lines.push(format!("{who}: privileged"));
        } else {
            assert_eq!(own["allowPrivilegeEscalation"], false, "{who}");
            assert_eq!(words(&own["capabilities"]["drop"]), "ALL", "{who}");
            assert_eq!(own["capabilities"]["add"], Value::Null, "{who}");
            assert_eq!(pod["runAsNonRoot"], true, "{who}");
            assert_eq!(pod["seccompProfile"]["type"], "RuntimeDefault", "{who}");
        }
        for mount in all(container, "volumeMounts") {
            if let Some(how) = mount["mountPropagation"].as_str() {
                lines.push(format!("{who}: {how} {}", mount["mountPath"].as_str().unwrap()));
            }
        }
    }
}

#[test]
fn containers_have_the_powers_listed_here_and_no_others() {
    let mut lines = Vec::new();
    for object in documents("deploy/kubernetes/offshoot.yaml") {
        powers(&object, &mut lines);
    }
    insta::assert_snapshot!(lines.join("\n"), @r"
    offshoot-node: the node's /var/lib/kubelet/plugins/csi.offshoot.dev
    offshoot-node: the node's /var/lib/kubelet/plugins_registry
    offshoot-node: the node's /var/lib/kubelet/pods
    offshoot-node: the node's /var/lib/kubelet/plugins/kubernetes.io/csi
    offshoot-node: the node's /dev
    offshoot-node: the node's /var/lib/offshoot
    offshoot-node/pool-default: privileged
    offshoot-node/pool-default: Bidirectional /var/lib/offshoot
    offshoot-node/offshoot: privileged
    offshoot-node/offshoot: Bidirectional /var/lib/kubelet/pods
    offshoot-node/offshoot: Bidirectional /var/lib/kubelet/plugins/kubernetes.io/csi
    offshoot-node/offshoot: Bidirectional /var/lib/offshoot
    ");
}

#[test]
fn a_directory_pool_needs_no_second_privileged_container() {
    let patches = documents("deploy/kubernetes/overlays/directory-pool/patches.yaml");
    let spec = &patches[0]["spec"]["template"]["spec"];
    assert_eq!(all(spec, "initContainers").count(), 0);
    let pool = all(spec, "volumes").find(|volume| volume["hostPath"]["path"] == "/srv/offshoot");
    assert!(pool.is_some(), "the pool's parent is not there");
}

#[test]
fn no_role_has_a_wildcard_or_a_right_that_gives_others() {
    let mut roles = 0;
    for object in documents("deploy/kubernetes/offshoot.yaml") {
        if !["Role", "ClusterRole"].contains(&object["kind"].as_str().unwrap()) {
            continue;
        }
        roles += 1;
        for rule in all(&object, "rules") {
            let (groups, kinds, verbs) =
                (words(&rule["apiGroups"]), words(&rule["resources"]), words(&rule["verbs"]));
            assert!(![&groups, &kinds, &verbs].iter().any(|list| list.contains('*')), "{rule}");
            for refused in ["pods/exec", "serviceaccounts/token", "roles", "clusterroles", "rolebindings"] {
                assert!(!kinds.split(' ').any(|kind| kind == refused), "{rule}");
            }
            if kinds.split(' ').any(|kind| kind == "secrets" || kind == "configmaps") {
                assert!(!words(&rule["resourceNames"]).is_empty(), "not limited to a name: {rule}");
                assert!(
                    !verbs.contains("list") && !verbs.contains("create"),
                    "cannot be limited to a name: {rule}"
                );
            }
        }
    }
    assert_eq!(roles, 3);
}

#[test]
fn a_node_may_ask_the_api_server_where_the_others_are_and_nothing_else() {
    for object in documents("deploy/kubernetes/offshoot.yaml") {
        let kind = object["kind"].as_str().unwrap();
        let bound = all(&object, "subjects").any(|subject| subject["name"] == "offshoot-node");
        assert!(!(kind == "ClusterRoleBinding" && bound), "a node has rights in the whole cluster");
        if kind == "Role" && object["metadata"]["name"] == "offshoot-node" {
            let rules: Vec<&Value> = all(&object, "rules").collect();
            assert_eq!(rules.len(), 1);
            assert_eq!(words(&rules[0]["resources"]), "endpointslices");
            assert_eq!(words(&rules[0]["verbs"]), "get list watch");
        }
    }
}

/// The names of the metrics in `docs/reference/metrics.md` as Prometheus shows them.
fn metrics() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for line in text("docs/reference/metrics.md").lines() {
        let cells: Vec<&str> = line.split('|').map(|cell| cell.trim().trim_matches('`')).collect();
        let [_, name, kind, ..] = cells.as_slice() else { continue };
        let endings: &[&str] = match *kind {
            "counter" => &["_total"],
            "info" => &["_info"],
            "gauge" => &[""],
            "histogram" => &["_bucket", "_sum", "_count"],
            _ => continue,
        };
        names.extend(endings.iter().map(|ending| format!("{name}{ending}")));
    }
    assert!(names.len() > 10);
    names
}

/// The words in `text` that could be metrics of ours.
fn named(text: &str) -> BTreeSet<&str> {
    text.split(|c: char| !(c.is_ascii_lowercase() || c == '_'))
        .filter(|word| word.starts_with("offshoot_"))
        .collect()
}

#[test]
fn alerts_and_the_dashboard_ask_for_metrics_that_exist() {
    let known = metrics();
    for path in ["deploy/helm/offshoot/alerts.yaml", "deploy/helm/offshoot/dashboards/offshoot.json"] {
        let text = text(path);
        let asked = named(&text);
        assert!(asked.len() > 5, "{path} asks for {asked:?}");
        for name in asked {
            assert!(known.contains(name), "{path}: {name} is not in docs/reference/metrics.md");
        }
    }
}

#[test]
fn each_alert_has_a_runbook_and_each_runbook_an_alert() {
    let alerts: BTreeSet<String> = text("deploy/helm/offshoot/alerts.yaml")
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- alert: ").map(|name| format!("{name}.md")))
        .collect();
    let pages: BTreeSet<String> = std::fs::read_dir(at("docs/runbooks"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name != "README.md")
        .collect();
    assert_eq!(alerts, pages);
    let index = text("docs/runbooks/README.md");
    for page in &pages {
        assert!(index.contains(page.as_str()), "{page} is not in the index");
        for part in ["## Symptom", "## What it means", "## What to do"] {
            assert!(text(&format!("docs/runbooks/{page}")).contains(part), "{page} has no part {part:?}");
        }
    }
}

#[test]
fn a_testdriver_file_names_a_class_that_is_published_and_a_key_that_nodes_have() {
    let classes: Vec<Value> = documents("deploy/conformance/storageclasses.yaml");
    for file in ["ext4", "xfs", "btrfs", "thick"] {
        let file = format!("deploy/conformance/testdriver-{file}.yaml");
        let driver = &documents(&file)[0];
        let asked = [("StorageClass", "provisioner"), ("VolumeAttributesClass", "driverName")];
        for (kind, says_driver) in asked {
            let name = &driver[kind]["FromExistingClassName"];
            let class =
                classes.iter().find(|class| class["kind"] == kind && class["metadata"]["name"] == *name);
            assert_eq!(
                class.map(|class| &class[says_driver]),
                Some(&driver["DriverInfo"]["Name"]),
                "{file}: {kind}"
            );
        }
        assert_eq!(
            words(&driver["DriverInfo"]["TopologyKeys"]),
            offshoot::volume::topology::TOPOLOGY_NODE,
            "{file}"
        );
        assert_eq!(driver["DriverInfo"]["Capabilities"]["RWX"], false, "{file}: one node has the bytes");
    }
}
