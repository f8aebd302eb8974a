//! The program itself: what it prints, that it survives a kill, and its control interface.

#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use common::{Client, Got};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

/// The program, killed when it is dropped.
struct Program {
    child: Child,
    said: Value,
    client: Client,
    key: String,
}

impl Program {
    fn start(dir: &Path, more: &[&str]) -> Program {
        let mut child = Command::new(env!("CARGO_BIN_EXE_offshoot-dct-sim"))
            .current_dir(dir)
            .args(["--data", "data", "--state", "state.json", "--listen", "127.0.0.1:0", "--seed", "demo"])
            .args(["--control", "127.0.0.1:0", "--output", "json"])
            .args(more)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let said: Value = serde_json::from_str(&line).unwrap();
        let ca = fs::read_to_string(dir.join("dct-sim-ca.pem")).unwrap();
        let key = fs::read_to_string(dir.join("dct-sim.key")).unwrap();
        Program { client: Client::new(said["url"].as_str().unwrap(), &ca), child, said, key }
    }

    async fn ask(&self, method: &str, path: &str, body: Option<Value>) -> Got {
        self.client.ask(method, path, body.as_ref(), &self.key).await.unwrap()
    }

    async fn control(&self, method: &str, path: &str, body: Option<Value>) -> Got {
        let at = self.said["control"].as_str().unwrap().trim_start_matches("http://");
        let mut stream = TcpStream::connect(at).await.unwrap();
        stream.write_all(common::request(method, path, body.as_ref(), "").as_bytes()).await.unwrap();
        common::answer(&mut stream).await.unwrap()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // SIGKILL: nothing is tidied up.
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

fn wanted(name: &str) -> Option<Value> {
    Some(json!({"source_data_id": "demo", "environment_id": "surrogate1", "name": name}))
}

#[tokio::test]
async fn a_program_that_is_killed_goes_on_from_its_state() {
    let dir = tempfile::tempdir().unwrap();
    let first = Program::start(dir.path(), &["--job", "0"]);
    let mode = fs::metadata(dir.path().join("dct-sim.key")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let done = first.ask("POST", "/vdbs/provision_by_snapshot", wanted("done")).await.body;
    let done = format!("/vdbs/{}", done["vdb_id"].as_str().unwrap());
    let before = first.ask("GET", &done, None).await;
    assert_eq!(before.status, 200, "{}", before.body);
    drop(first);
    let second = Program::start(dir.path(), &["--job", "3600"]);
    assert_eq!(second.said["seeded"], json!([]), "the seed is not sown twice");
    assert_eq!(second.ask("GET", &done, None).await.body, before.body);
    let open = second.ask("POST", "/vdbs/provision_by_snapshot", wanted("open")).await.body;
    let job = format!("/jobs/{}", open["job"]["id"].as_str().unwrap());
    drop(second);
    let third = Program::start(dir.path(), &["--job", "3600"]);
    let status = third.ask("GET", &job, None).await.body["status"].clone();
    assert!(status == "PENDING" || status == "STARTED", "{status}");
    drop(third);
    let fourth = Program::start(dir.path(), &["--on-restart", "abandon"]);
    assert_eq!(fourth.ask("GET", &job, None).await.body["status"], "ABANDONED");
    assert_eq!(fourth.ask("GET", &done, None).await.status, 200);
}

#[tokio::test]
async fn faults_and_others_are_ordered_through_the_control_interface() {
    let dir = tempfile::tempdir().unwrap();
    let program = Program::start(dir.path(), &["--job", "0"]);
    let rule = json!({"op": "GET /vdbs", "fault": {"kind": "status", "code": 503, "retry_after": 2}});
    assert_eq!(program.control("POST", "/faults", Some(rule)).await.status, 200);
    assert_eq!(program.control("GET", "/faults", None).await.body.as_array().unwrap().len(), 1);
    assert_eq!(program.ask("GET", "/vdbs", None).await.status, 503);
    assert_eq!(program.ask("GET", "/vdbs", None).await.status, 200);
    let traffic = program.control("GET", "/traffic", None).await.body;
    assert_eq!((&traffic["requests"]["GET /vdbs"], &traffic["ever"]), (&json!(2), &json!(2)));
    let source = program.said["seeded"][0]["dsource"].clone();
    let rename = json!({"do": "rename", "kind": "dsource", "id": source, "name": "other"});
    assert_eq!(program.control("POST", "/admin", Some(rename)).await.status, 200);
    assert_eq!(program.control("GET", "/objects/dsource", None).await.body[0]["name"], "other");
    let check = async |path: &str, body: Value, expect: u16| {
        let got = program.control("POST", path, Some(body)).await;
        assert_eq!(got.status, expect, "{path}: {}", got.body);
    };
    check("/faults", json!({"op": "GET /nothing", "fault": {"kind": "lose_answer"}}), 400).await;
    check("/faults", json!({"op": "*", "fault": {"kind": "explode"}}), 400).await;
    check("/admin", json!({"do": "delete", "kind": "vdb", "id": "none"}), 409).await;
    check("/key", json!({"key": "1.other"}), 200).await;
    assert_eq!(program.ask("GET", "/vdbs", None).await.status, 401);
    assert_eq!(program.control("GET", "/exports", None).await.body, json!([]));
}

#[test]
fn what_cannot_be_used_is_refused_with_what_to_do() {
    fn check(args: &[&str], expect: &str) {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("empty"), "").unwrap();
        let out = Command::new(env!("CARGO_BIN_EXE_offshoot-dct-sim"))
            .current_dir(dir.path())
            .args(["--data", "data", "--listen", "127.0.0.1:0"])
            .args(args)
            .output()
            .unwrap();
        let said = String::from_utf8(out.stderr).unwrap();
        assert!(!out.status.success() && said.contains(expect), "{args:?}: {said}");
    }
    check(&["--key-file", "empty"], "empty is empty; write a key into it or remove it");
    check(&["--api-version", "3.30.0"], "give the release of DCT, such as 2025.6.0");
    check(&["--control", "0.0.0.0:0"], "is not a loopback address");
    check(&["--nfs-version", "2"], "2 is not in 3..=4");
    check(&["--job", "soon"], "is not a number of seconds");
}
