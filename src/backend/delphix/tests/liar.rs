//! A server that answers what it is told: what a simulator that behaves cannot.

use std::sync::{Arc, Mutex};

use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::{Dct, DctSettings, open, quick};

/// A server, with what was asked of it: the first line of each request.
pub(super) struct Liar {
    pub(super) dct: Dct,
    pub(super) asked: Arc<Mutex<Vec<String>>>,
    _dir: TempDir,
}

impl Liar {
    /// Answers each request, whole with its headers, with what `answer` makes of it: status, type and body.
    pub(super) async fn new(answer: impl Fn(&str) -> (String, String) + Send + Sync + 'static) -> Liar {
        let key = KeyPair::generate().unwrap();
        let certificate =
            CertificateParams::new(["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("ca.pem"), certificate.pem()).unwrap();
        std::fs::write(dir.path().join("key"), "1.secret").unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let chain = vec![CertificateDer::from(certificate.der().to_vec())];
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (log, answer) = (asked.clone(), Arc::new(answer));
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let (acceptor, log, answer) = (acceptor.clone(), log.clone(), answer.clone());
                tokio::spawn(async move {
                    let Ok(mut tls) = acceptor.accept(tcp).await else { return };
                    let Some(request) = request(&mut tls).await else { return };
                    log.lock().unwrap().push(request.lines().next().unwrap_or_default().to_owned());
                    let (head, body) = answer(&request);
                    let length = body.len();
                    let text = format!(
                        "HTTP/1.1 {head}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
                    );
                    // A client that has read enough goes away.
                    let _ = tls.write_all(text.as_bytes()).await;
                    let _ = tls.shutdown().await;
                });
            }
        });
        let mut settings =
            DctSettings::new("liar", format!("https://localhost:{port}"), dir.path().join("key"));
        settings.ca_file = Some(dir.path().join("ca.pem"));
        settings.timing = quick();
        Liar { dct: open(settings), asked, _dir: dir }
    }

    /// Always the same answer.
    pub(super) async fn always(head: &str, body: &str) -> Liar {
        let (head, body) = (head.to_owned(), body.to_owned());
        Liar::new(move |_| (head.clone(), body.clone())).await
    }

    pub(super) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

async fn request(from: &mut (impl tokio::io::AsyncRead + Unpin)) -> Option<String> {
    let mut all = Vec::new();
    loop {
        let mut piece = [0; 4096];
        let read = from.read(&mut piece).await.ok().filter(|read| *read > 0)?;
        all.extend_from_slice(&piece[..read]);
        let text = String::from_utf8_lossy(&all);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
        });
        if body.len() >= length.unwrap_or(0) {
            return Some(text.into_owned());
        }
    }
}
