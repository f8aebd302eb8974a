//! A small HTTPS client: every answer is seen as it is, also one that does not come.

#![allow(dead_code, reason = "each test binary uses its part")]

use std::io;
use std::sync::Arc;
use std::time::Duration;

use offshoot_dct_sim::{Clock, Config, Export, NoExport, Seeded, Sim};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// An answer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Got {
    pub(crate) status: u16,
    pub(crate) headers: String,
    pub(crate) body: Value,
}

impl Got {
    /// The text of an error.
    pub(crate) fn message(&self) -> &str {
        self.body["message"].as_str().unwrap_or_default()
    }
}

/// A client of one simulator, with a connection for each request.
pub(crate) struct Client {
    address: String,
    tls: TlsConnector,
}

impl Client {
    pub(crate) fn new(url: &str, ca: &str) -> Client {
        Client { address: url.trim_start_matches("https://").to_owned(), tls: trusting(ca) }
    }

    pub(crate) async fn ask(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
        key: &str,
    ) -> io::Result<Got> {
        let base = if path.starts_with("/dct") || path.starts_with("/v3") { "" } else { "/dct/v3" };
        let auth = format!("Authorization: apk {key}\r\n");
        self.bytes(request(method, &format!("{base}{path}"), body, &auth).as_bytes()).await
    }

    pub(crate) async fn bytes(&self, request: &[u8]) -> io::Result<Got> {
        let tcp = TcpStream::connect(&self.address).await?;
        let mut stream = self.tls.connect(ServerName::try_from("localhost").unwrap(), tcp).await?;
        stream.write_all(request).await?;
        answer(&mut stream).await
    }
}

pub(crate) fn request(method: &str, path: &str, body: Option<&Value>, headers: &str) -> String {
    let body = body.map(Value::to_string).unwrap_or_default();
    let kind = if body.is_empty() { "" } else { "Content-Type: application/json\r\n" };
    let length = body.len();
    format!(
        "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}{kind}Content-Length: {length}\r\n\r\n{body}"
    )
}

/// Reads an answer to the end of its connection.
pub(crate) async fn answer(stream: &mut (impl AsyncReadExt + Unpin)) -> io::Result<Got> {
    let mut all = Vec::new();
    stream.read_to_end(&mut all).await?;
    let text = String::from_utf8(all).unwrap();
    let (headers, body) = text.split_once("\r\n\r\n").ok_or(io::ErrorKind::UnexpectedEof)?;
    let status = headers.split(' ').nth(1).unwrap().parse().unwrap();
    Ok(Got {
        status,
        headers: headers.to_lowercase(),
        body: serde_json::from_str(body).unwrap_or_else(|_| Value::String(body.to_owned())),
    })
}

/// A simulator with a virtual clock, one engine, and a client.
pub(crate) struct World {
    pub(crate) sim: Sim,
    pub(crate) dir: TempDir,
    pub(crate) seeded: Seeded,
    client: Client,
}

impl World {
    pub(crate) async fn new(config: Config) -> World {
        World::exporting(config, Box::<NoExport>::default()).await
    }

    pub(crate) async fn exporting(config: Config, exports: Box<dyn Export>) -> World {
        let dir = tempfile::tempdir().unwrap();
        let builder = Sim::builder(&dir.path().join("data")).state(&dir.path().join("state.json"));
        let builder = builder.clock(Clock::virtual_clock()).config(config).exports(exports);
        let sim = builder.engine("engine.example").start().await.unwrap();
        World { seeded: sim.seeded[0].clone(), client: Client::new(&sim.url, &sim.ca_pem), sim, dir }
    }

    /// One request on a connection of its own; the answer must be one of the interface table.
    pub(crate) async fn ask(&self, method: &str, path: &str, body: Option<Value>) -> Got {
        self.raw(method, path, body.as_ref(), &self.sim.key()).await.unwrap()
    }

    pub(crate) async fn raw(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
        key: &str,
    ) -> io::Result<Got> {
        self.client.ask(method, path, body, key).await
    }

    pub(crate) async fn bytes(&self, request: &[u8]) -> io::Result<Got> {
        self.client.bytes(request).await
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        let got = self.ask("GET", path, None).await;
        assert_eq!(got.status, 200, "GET {path}: {}", got.body);
        got.body
    }

    /// Posts and returns the answer, which must be a success.
    pub(crate) async fn post(&self, path: &str, body: Value) -> Value {
        let got = self.ask("POST", path, Some(body.clone())).await;
        assert!(got.status < 300, "POST {path} {body}: {} {}", got.status, got.body);
        got.body
    }

    /// Posts what starts a job, and returns the job as it has ended.
    pub(crate) async fn work(&self, path: &str, body: Value) -> Value {
        let answer = self.post(path, body).await;
        self.ended(&answer).await
    }

    /// The job of an answer after enough time has passed for everything.
    pub(crate) async fn ended(&self, answer: &Value) -> Value {
        self.sim.advance(Duration::from_secs(600));
        self.get(&format!("/jobs/{}", answer["job"]["id"].as_str().unwrap())).await
    }

    /// Provisions from the demo dSource; the VDB is there and enabled.
    pub(crate) async fn vdb(&self, name: &str) -> String {
        let body = json!({
            "name": name, "source_data_id": self.seeded.dsource, "environment_id": self.seeded.environment,
        });
        let answer = self.post("/vdbs/provision_by_snapshot", body).await;
        let job = self.ended(&answer).await;
        assert_eq!(job["status"], "COMPLETED", "{job}");
        answer["vdb_id"].as_str().unwrap().to_owned()
    }

    /// Takes a snapshot and returns its id, found as a driver has to.
    pub(crate) async fn snapshot(&self, vdb: &str) -> String {
        let job = self.work(&format!("/vdbs/{vdb}/snapshots"), json!({})).await;
        assert_eq!(job["status"], "COMPLETED", "{job}");
        let filter = json!({"filter_expression": format!("dataset_id EQ '{vdb}'")});
        let found = self.post("/snapshots/search?sort=-timestamp&limit=1", filter).await;
        found["items"][0]["id"].as_str().unwrap().to_owned()
    }

    /// A file of a VDB's data as it is now.
    pub(crate) fn path(&self, vdb: &str, file: &str) -> std::path::PathBuf {
        self.sim.data(vdb).unwrap().join(file)
    }
}

pub(crate) fn trusting(ca: &str) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    TlsConnector::from(Arc::new(config))
}
