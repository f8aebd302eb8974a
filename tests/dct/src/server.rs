//! Connections: TLS, HTTP/1.1, and being cut off.
//!
//! A fault may need the connection to be reset in place of an answer, and a restart resets all of them; so connections are
//! served one by one here rather than by a ready-made server.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};

use axum::body::Body;
use axum::http;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::http::{Request, Reset, Response, Shared, error};

/// Largest request body, bytes.
const BODY: usize = 1 << 20;

/// How many connections there are and were.
#[derive(Debug, Default)]
pub(crate) struct Connections {
    pub(crate) open: AtomicUsize,
    pub(crate) ever: AtomicU64,
    pub(crate) most: AtomicUsize,
}

/// Accepts connections for ever. A new number in `cut` resets those that are open.
pub(crate) async fn listen(
    listener: TcpListener,
    tls: TlsAcceptor,
    shared: Shared,
    counts: Arc<Connections>,
    cut: watch::Sender<u64>,
) {
    loop {
        let Ok((tcp, _)) = listener.accept().await else {
            // Out of descriptors: those that end will make room.
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            continue;
        };
        let (tls, shared, counts, mut cut) = (tls.clone(), shared.clone(), counts.clone(), cut.subscribe());
        cut.mark_unchanged();
        tokio::spawn(async move {
            let open = counts.open.fetch_add(1, Ordering::SeqCst) + 1;
            counts.most.fetch_max(open, Ordering::SeqCst);
            counts.ever.fetch_add(1, Ordering::SeqCst);
            let reset = Arc::new(AtomicBool::new(false));
            tokio::select! {
                () = connection(tcp, tls, shared, reset.clone()) => {}
                _ = cut.changed() => reset.store(true, Ordering::SeqCst),
            }
            counts.open.fetch_sub(1, Ordering::SeqCst);
        });
    }
}

async fn connection(tcp: TcpStream, tls: TlsAcceptor, shared: Shared, reset: Arc<AtomicBool>) {
    let _ = tcp.set_nodelay(true);
    // Whoever does not speak TLS, or does not trust the certificate, ends here.
    let Ok(stream) = tls.accept(tcp).await else { return };
    let io = TokioIo::new(Resettable { stream, reset: reset.clone() });
    let service = service_fn(move |request: http::Request<hyper::body::Incoming>| {
        let (shared, reset) = (shared.clone(), reset.clone());
        async move {
            match answer(shared, request).await {
                Ok(response) => Ok(response),
                Err(Reset) => {
                    reset.store(true, Ordering::SeqCst);
                    Err(io::Error::other("reset on order"))
                }
            }
        }
    });
    // Errors here are the client's going away, or ours on order.
    let _ = hyper::server::conn::http1::Builder::new().serve_connection(io, service).await;
}

async fn answer(
    shared: Shared,
    request: http::Request<hyper::body::Incoming>,
) -> Result<http::Response<Body>, Reset> {
    let (parts, body) = request.into_parts();
    let header = |name: http::HeaderName| Some(parts.headers.get(name)?.to_str().ok()?.to_owned());
    let response = match axum::body::to_bytes(Body::new(body), BODY).await {
        Err(_) => error(413, "the body is too large"),
        Ok(body) => {
            let request = Request {
                method: parts.method.as_str().to_owned(),
                target: parts.uri.path_and_query().map(|t| t.as_str().to_owned()).unwrap_or_default(),
                authorization: header(http::header::AUTHORIZATION),
                content_type: header(http::header::CONTENT_TYPE),
                body: body.to_vec(),
            };
            shared.serve(request).await?
        }
    };
    Ok(write(response))
}

fn write(response: Response) -> http::Response<Body> {
    let mut out = http::Response::new(Body::from(response.body));
    *out.status_mut() =
        http::StatusCode::from_u16(response.status).unwrap_or(http::StatusCode::INTERNAL_SERVER_ERROR);
    if !response.content_type.is_empty() {
        let value = http::HeaderValue::from_static(response.content_type);
        out.headers_mut().insert(http::header::CONTENT_TYPE, value);
    }
    if let Some(seconds) = response.retry_after {
        out.headers_mut().insert(http::header::RETRY_AFTER, seconds.into());
    }
    out
}

/// A connection that ends with a reset instead of an orderly close once that is ordered.
struct Resettable {
    stream: TlsStream<TcpStream>,
    reset: Arc<AtomicBool>,
}

impl Drop for Resettable {
    fn drop(&mut self) {
        if self.reset.load(Ordering::SeqCst) {
            let _ = self.stream.get_ref().0.set_zero_linger();
        }
    }
}

impl AsyncRead for Resettable {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Resettable {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.reset.load(Ordering::SeqCst) {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
