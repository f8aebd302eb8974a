//! The page for probes and Prometheus: `/healthz`, `/readyz`, `/metrics`, over plain HTTP.
//!
//! It is off unless an address is given, only reads, and shows nothing that a stranger may not know: no ids, no paths
//! but those in the reason for not being ready. It lives apart from the socket, so that a probe needs no rights to it.
//! `/healthz` answers as long as the process can answer anything; a pool that is bad must not get the process
//! restarted (a restart mends no disk), so it only shows in `/readyz`.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use async_trait::async_trait;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;

/// Prometheus' own content type for what [`Metrics::scrape`] writes.
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Whoever knows whether calls can succeed now.
#[async_trait]
pub trait Ready: Send + Sync + 'static {
    /// Nothing if they can, else the reason and what to do.
    async fn ready(&self) -> Result<(), String>;
}

#[derive(Clone)]
struct Shared {
    metrics: Arc<Metrics>,
    ready: Arc<dyn Ready>,
}

/// The three pages.
pub fn router(metrics: Arc<Metrics>, ready: Arc<dyn Ready>) -> Router {
    Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .route("/metrics", get(scrape))
        .with_state(Shared { metrics, ready })
}

/// Binds the address. Separate from [`serve`], so that a taken port is an error at start.
pub async fn bind(addr: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(addr).await.with_context(|| {
        format!("cannot listen on {addr}; choose another address with --admin-addr, or leave it out")
    })
}

/// Serves until `stop`.
pub async fn serve(listener: TcpListener, pages: Router, stop: CancellationToken) -> Result<()> {
    axum::serve(listener, pages)
        .with_graceful_shutdown(stop.cancelled_owned())
        .await
        .context("the admin page ended")
}

async fn readyz(State(shared): State<Shared>) -> Response {
    match shared.ready.ready().await {
        Ok(()) => "ok\n".into_response(),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")).into_response(),
    }
}

async fn scrape(State(shared): State<Shared>) -> Response {
    match shared.metrics.scrape().await {
        Ok(text) => ([(header::CONTENT_TYPE, OPENMETRICS)], text).into_response(),
        Err(_) => (StatusCode::INTERNAL_SERVER_ERROR, "the metrics could not be written\n").into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::{Body, to_bytes};
    use axum::http::Request;
    use tower::ServiceExt as _;

    struct Fixed(Result<(), String>);

    #[async_trait]
    impl Ready for Fixed {
        async fn ready(&self) -> Result<(), String> {
            self.0.clone()
        }
    }

    async fn check(path: &str, ready: Result<(), String>, status: u16, expect: &str) {
        let pages = router(Metrics::new("d", "n"), Arc::new(Fixed(ready)));
        let answer = pages.oneshot(Request::get(path).body(Body::empty()).unwrap()).await.unwrap();
        assert_eq!(answer.status().as_u16(), status, "{path}");
        let body = to_bytes(answer.into_body(), usize::MAX).await.unwrap();
        let body = String::from_utf8(body.to_vec()).unwrap();
        assert!(body.contains(expect), "{path}: {body}");
    }

    #[tokio::test]
    async fn a_bad_pool_shows_in_readiness_with_its_reason_and_not_in_liveness() {
        let bad = || Err("pool fast is read-only; remount it".to_owned());
        check("/readyz", bad(), 503, "pool fast is read-only").await;
        check("/healthz", bad(), 200, "ok").await;
        check("/readyz", Ok(()), 200, "ok").await;
    }

    #[tokio::test]
    async fn the_scrape_is_there_and_nothing_else_is() {
        check("/metrics", Ok(()), 200, "offshoot_build_info").await;
        check("/", Ok(()), 404, "").await;
    }
}
