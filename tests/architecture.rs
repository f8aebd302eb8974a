//! The invariants of `ARCHITECTURE.md` that can be read off the source text.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

fn source_files(below: &str) -> BTreeMap<PathBuf, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = BTreeMap::new();
    let mut dirs = vec![root.join(below)];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                files.insert(path.strip_prefix(root).unwrap().to_owned(), text);
            }
        }
    }
    assert!(!files.is_empty(), "no source below {below}");
    files
}

/// The lines of a file that are code: comments say what is not there, and may name it.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines()
        .enumerate()
        .map(|(n, line)| (n + 1, line))
        .filter(|(_, line)| !line.trim_start().starts_with("//"))
}

/// The part of a file before its tests.
fn without_tests(text: &str) -> &str {
    text.split("\n#[cfg(test)]\nmod ").next().unwrap_or(text)
}

#[track_caller]
fn none_names(below: &str, words: &[&str], except: &[&str]) {
    let mut found = Vec::new();
    for (path, text) in source_files(below) {
        if except.iter().any(|except| path.starts_with(except)) || path.to_string_lossy().contains("tests") {
            continue;
        }
        for (n, line) in code(without_tests(&text)) {
            if let Some(word) = words.iter().find(|word| line.contains(**word)) {
                found.push(format!("{}:{n} names {word}: {}", path.display(), line.trim()));
            }
        }
    }
    assert!(found.is_empty(), "below {below}:\n{}", found.join("\n"));
}

#[test]
fn the_domain_depends_on_nothing_of_ours_and_on_no_outside() {
    let ours =
        ["crate::host", "crate::store", "crate::backend", "crate::service", "crate::csi", "crate::proto"];
    let outside = ["tonic", "kube::", "std::process", "std::fs", "SystemTime", "Instant::now", "tokio"];
    none_names("src/volume", &[ours.as_slice(), &outside].concat(), &[]);
}

#[test]
fn the_use_cases_name_no_grpc_no_kubernetes_and_no_process() {
    none_names(
        "src/service",
        &["tonic", "kube::", "std::process", "std::fs", "crate::csi", "crate::proto"],
        &[],
    );
}

#[test]
fn the_use_cases_on_a_dct_name_no_grpc_no_http_and_no_kubernetes() {
    let outside = ["tonic", "reqwest", "hyper", "kube::", "k8s_openapi", "std::process", "std::fs"];
    let ours = ["crate::csi", "crate::proto", "crate::cluster", "crate::store", "crate::router"];
    none_names("src/delphix", &[outside.as_slice(), &ours].concat(), &["src/delphix/node"]);
}

#[test]
fn the_use_cases_know_no_kind_of_backend() {
    none_names("src/service", &["backend::local", "Local::", "delphix", "ceph"], &["src/service/testing.rs"]);
}

#[test]
fn only_the_client_of_delphix_names_its_library_of_http() {
    none_names("src", &["reqwest"], &["src/backend/delphix"]);
    let ours =
        ["crate::service", "crate::host", "crate::store", "crate::csi", "crate::cluster", "crate::delphix"];
    none_names("src/backend/delphix", &[ours.as_slice(), &["tonic", "kube::", "k8s_openapi"]].concat(), &[]);
}

#[test]
fn the_edge_knows_no_host_and_no_store() {
    none_names(
        "src/csi",
        &["crate::host::linux", "crate::host::fake", "Host,", "dyn Host", "crate::store", "std::fs::"],
        &["src/csi/server.rs", "src/csi/socket.rs"],
    );
}

#[test]
fn the_router_knows_agents_only() {
    let ours =
        ["crate::service", "crate::backend", "crate::host", "crate::store", "crate::cluster", "crate::agent"];
    none_names("src/router", &[ours.as_slice(), &["kube::", "k8s_openapi", "std::fs"]].concat(), &[]);
}

#[test]
fn only_the_cluster_names_kubernetes_and_certificates_know_neither_it_nor_grpc() {
    none_names("src", &["kube::", "k8s_openapi"], &["src/cluster"]);
    for below in ["src/router", "src/agent"] {
        none_names(below, &["crate::cluster", "crate::backend", "crate::host", "crate::store"], &[]);
    }
    none_names("src/tls", &["tonic", "crate::cluster", "crate::csi", "crate::agent"], &[]);
}

#[test]
fn only_the_host_starts_programs_mounts_or_does_ioctls() {
    let words = [
        "Command::new",
        "std::process::Command",
        "tokio::process",
        "rustix::mount",
        "nix::mount",
        "ioctl",
        "unsafe ",
    ];
    none_names("src", &words, &["src/host"]);
}

#[test]
fn unsafe_code_stands_in_the_linux_host_only() {
    none_names("src", &["unsafe {", "unsafe fn", "unsafe impl"], &["src/host/linux"]);
}

#[test]
fn only_the_table_makes_a_status() {
    none_names(
        "src",
        &["Status::new(", "Status::with_details", "tonic::Code", " Code::", "(Code::"],
        &["src/csi/status.rs", "src/cli", "src/csi/calls.rs", "src/csi/server"],
    );
}

#[test]
fn nothing_is_removed_recursively() {
    none_names("src", &["remove_dir_all"], &[]);
}

#[test]
fn library_code_does_not_panic_on_purpose() {
    // Those named are compiled for tests only.
    let words = ["panic!(", "todo!(", "unimplemented!(", ".unwrap()", ".expect("];
    none_names(
        "src",
        &words,
        &["src/service/testing.rs", "src/cluster/testing.rs", "src/cli/kubectl/testing.rs"],
    );
}

#[test]
fn every_source_file_says_why_it_exists_and_stays_readable() {
    let mut bad = Vec::new();
    for (path, text) in source_files("src") {
        if !text.starts_with("//!") {
            bad.push(format!("{} has no text at its top", path.display()));
        }
        let lines = text.lines().count();
        if lines > 450 {
            bad.push(format!("{} has {lines} lines: split it by subject", path.display()));
        }
    }
    assert!(bad.is_empty(), "{}", bad.join("\n"));
}
