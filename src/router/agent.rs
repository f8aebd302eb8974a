//! One agent: its connection, and how a call goes over it.
//!
//! tonic's own channel connects again by itself, one waiting call after the other: a dead node would cost the tenth
//! caller ten times the limit. So a connection is made here, once for all who wait for it, within a second, and its
//! end is seen on its byte stream. A peer that is silent while calls wait is asked whether it lives: a stopped process
//! or an unplugged node is UNAVAILABLE within two seconds. What broke on the way is told apart from what the agent
//! said: only the latter is passed on as it is.

use std::collections::BTreeSet;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, timeout};
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Response, Status};

use super::clients;
use super::connect::{AgentAddress, Connect, Io};
use super::failure::{Answer, Failure};
use super::head::Head;
use crate::metrics::{AgentState, RouterFigures};
use crate::proto::offshoot::{ListPoolsRequest, Pool};
use crate::volume::{Error, Kind, PoolId, Result};

/// How long a connection may take, with its handshakes.
const CONNECT: Duration = Duration::from_secs(1);

/// How long a connection with waiting calls may be silent before it is asked whether it lives, and how long it may take
/// to say so.
const KEEPALIVE: (Duration, Duration) = (Duration::from_millis(900), Duration::from_millis(900));

/// Calls that wait for one agent's first byte at once; more wait here, in the order in which they came.
const MAX_CALLS: usize = 200;

/// An agent of the set.
pub(super) struct Agent {
    pub(super) address: AgentAddress,
    connect: Arc<dyn Connect>,
    metrics: RouterFigures,
    link: Mutex<Option<Link>>,
    /// Held by whoever connects; the others wait for what comes of it.
    connecting: tokio::sync::Mutex<Option<(Instant, Error)>>,
}

/// A connection, with what was learned over it.
#[derive(Clone)]
pub(super) struct Link {
    pub(super) channel: Channel,
    over: Arc<AtomicBool>,
    pools: Arc<Mutex<BTreeSet<PoolId>>>,
}

impl Agent {
    pub(super) fn new(address: AgentAddress, connect: Arc<dyn Connect>, metrics: RouterFigures) -> Self {
        metrics.agent(&address.node, AgentState::Idle);
        Agent { address, connect, metrics, link: Mutex::default(), connecting: tokio::sync::Mutex::default() }
    }

    pub(super) fn node(&self) -> &str {
        &self.address.node
    }

    /// Whether there is a connection now.
    pub(super) fn is_connected(&self) -> bool {
        self.live().is_some()
    }

    /// Whether the agent said over this connection that it has the pool.
    pub(super) fn has(&self, pool: PoolId) -> bool {
        self.live()
            .is_some_and(|link| link.pools.lock().unwrap_or_else(PoisonError::into_inner).contains(&pool))
    }

    fn live(&self) -> Option<Link> {
        let link = self.link.lock().unwrap_or_else(PoisonError::into_inner).clone();
        link.filter(|link| !link.over.load(Ordering::Acquire))
    }

    /// The connection, made if there is none.
    ///
    /// # Errors
    /// [`Kind::Unavailable`], within a second.
    pub(super) async fn link(&self) -> Result<Link> {
        if let Some(link) = self.live() {
            return Ok(link);
        }
        let came = Instant::now();
        let mut failed = self.connecting.lock().await;
        if let Some(link) = self.live() {
            return Ok(link);
        }
        if let Some((at, error)) = &*failed
            && *at >= came
        {
            return Err(error.clone());
        }
        match self.open().await {
            Ok(link) => {
                *failed = None;
                *self.link.lock().unwrap_or_else(PoisonError::into_inner) = Some(link.clone());
                self.metrics.agent(self.node(), AgentState::Connected);
                tracing::info!(node = self.node(), address = self.address.address, "connected to an agent");
                Ok(link)
            }
            Err(why) => {
                let text = format!("node {}: its agent cannot be reached ({why}); call again", self.node());
                let error = Error::new(Kind::Unavailable, text);
                self.metrics.agent(self.node(), AgentState::Unreachable);
                *failed = Some((Instant::now(), error.clone()));
                Err(error)
            }
        }
    }

    async fn open(&self) -> Result<Link, String> {
        if self.address.address.is_empty() {
            return Err("it has no address now".to_owned());
        }
        let over = Arc::new(AtomicBool::new(false));
        let connecting = async {
            let stream = self.connect.connect(&self.address).await.map_err(|error| error.to_string())?;
            let stream = Watched { stream, over: over.clone() };
            // The name goes into a header that nobody reads; who answers was proven by the handshake.
            let endpoint = Endpoint::from_static("http://agent.offshoot")
                .http2_keep_alive_interval(KEEPALIVE.0)
                .keep_alive_timeout(KEEPALIVE.1)
                .concurrency_limit(MAX_CALLS);
            let mut stream = Some(stream);
            let once = tower::service_fn(move |_| {
                let stream = stream.take().map(TokioIo::new);
                std::future::ready(stream.ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected)))
            });
            endpoint.connect_with_connector(once).await.map_err(|error| error.to_string())
        };
        match timeout(CONNECT, connecting).await {
            Ok(Ok(channel)) => Ok(Link { channel, over, pools: Arc::default() }),
            Ok(Err(why)) => Err(why),
            Err(_) => Err(format!("no connection within {} s", CONNECT.as_secs())),
        }
    }

    /// Asks this agent, and answers what it said.
    pub(super) async fn ask<T, R, F>(
        &self,
        head: &Head,
        message: T,
        call: impl FnOnce(Channel, Request<T>) -> F,
    ) -> Answer<R>
    where
        F: Future<Output = Result<Response<R>, Status>>,
    {
        let link = self.link().await?;
        let begun = Instant::now();
        let said = call(link.channel.clone(), head.request(message)).await;
        self.metrics.forwarded(self.node(), begun.elapsed());
        said.map(Response::into_inner).map_err(|status| self.failure(&link, status))
    }

    /// Why a call over this connection failed: what the agent said, or that it could not be heard.
    pub(super) fn failure(&self, link: &Link, status: Status) -> Failure {
        // What the agent said has no cause; what tonic makes of a broken connection has one.
        let Some(cause) = std::error::Error::source(&status) else { return Failure::Said(status) };
        let mut root = cause;
        while let Some(deeper) = root.source() {
            root = deeper;
        }
        link.over.store(true, Ordering::Release);
        self.metrics.agent(self.node(), AgentState::Unreachable);
        tracing::warn!(node = self.node(), %status, cause = %root, "the connection to an agent broke");
        let text = format!("node {}: the connection to its agent broke ({root}); call again", self.node());
        Failure::Own(Error::new(Kind::Unavailable, text))
    }

    /// Asks the agent which pools it has, and remembers it with the connection.
    pub(super) async fn ask_pools(&self) -> Answer<Vec<Pool>> {
        let link = self.link().await?;
        let request = Head::default().request(ListPoolsRequest {});
        let said = clients::copies(link.channel.clone()).list_pools(request).await;
        let pools = said.map_err(|status| self.failure(&link, status))?.into_inner().pools;
        let ids = pools.iter().filter_map(|pool| pool.id.parse().ok()).collect();
        *link.pools.lock().unwrap_or_else(PoisonError::into_inner) = ids;
        Ok(pools)
    }
}

/// A byte stream whose end is seen by those who would write more.
struct Watched {
    stream: Box<dyn Io>,
    over: Arc<AtomicBool>,
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Release);
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
