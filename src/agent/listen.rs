//! The TCP listener of an agent: connections that have proven who they are.
//!
//! The port can be reached by every pod. A stranger can open connections and say nothing, or say it slowly, so
//! handshakes run beside each other, each within a time and all within a number, and one address can take only a part
//! of that number. What comes out of here has a certificate that is trusted now; everything else is closed
//! without an answer in HTTP.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::Connected;

use super::Peer;
use crate::csi::server::REST;
use crate::tls::{Keys, Role};

/// How long a handshake may take. It is two round trips and two signatures.
const HANDSHAKE: Duration = Duration::from_secs(5);

/// Handshakes at one time; further connections wait in the kernel.
const HANDSHAKES: usize = 256;

/// Handshakes of one address at one time; further ones are closed.
const HANDSHAKES_OF_ONE: usize = 64;

/// Binds the address that was given with `option`. Separate from [`accept`], so that a taken port is an error at start.
pub async fn bind(addr: SocketAddr, option: &str) -> Result<TcpListener> {
    TcpListener::bind(addr)
        .await
        .with_context(|| format!("cannot listen on {addr}; choose another address with {option}"))
}

/// Accepts until `stop` and sends on every connection whose certificate is good.
pub async fn accept(
    listener: TcpListener,
    keys: Arc<Keys>,
    send: mpsc::Sender<io::Result<Connection>>,
    stop: CancellationToken,
) {
    accept_with(listener, keys, shake, send, stop).await;
}

/// Accepts until `stop` and sends on every connection, of whomever it is: for those who come for their first certificate.
pub async fn accept_strangers(
    listener: TcpListener,
    keys: Arc<Keys>,
    send: mpsc::Sender<io::Result<TlsStream<TcpStream>>>,
    stop: CancellationToken,
) {
    accept_with(listener, keys, shake_with_a_stranger, send, stop).await;
}

async fn accept_with<IO: Send + 'static, F>(
    listener: TcpListener,
    keys: Arc<Keys>,
    shake: fn(TcpStream, Arc<Keys>) -> F,
    send: mpsc::Sender<io::Result<IO>>,
    stop: CancellationToken,
) where
    F: Future<Output = Result<IO>> + Send + 'static,
{
    let limit = Arc::new(Semaphore::new(HANDSHAKES));
    let crowd = Crowd::default();
    while let Some(Ok(permit)) = stop.run_until_cancelled(limit.clone().acquire_owned()).await {
        let accepted = match stop.run_until_cancelled(listener.accept()).await {
            Some(accepted) => accepted,
            None => return,
        };
        let (stream, from) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection; trying again");
                tokio::time::sleep(REST).await;
                continue;
            }
        };
        let Some(place) = crowd.enter(from.ip()) else {
            tracing::debug!(%from, "too many handshakes from this address; closed");
            continue;
        };
        let (keys, send) = (keys.clone(), send.clone());
        let work = async move {
            let shaken = tokio::time::timeout(HANDSHAKE, shake(stream, keys)).await;
            drop((permit, place));
            match shaken.map_err(|_| anyhow::anyhow!("the handshake took over {HANDSHAKE:?}")).flatten() {
                Ok(connection) => {
                    // Fails where the server is stopping: the connection is closed then.
                    let _ = send.send(Ok(connection)).await;
                }
                Err(error) => tracing::info!(%from, error = format!("{error:#}"), "a connection is refused"),
            }
        };
        let stop = stop.clone();
        tokio::spawn(async move { stop.run_until_cancelled(work).await });
    }
}

async fn shake_with_a_stranger(stream: TcpStream, keys: Arc<Keys>) -> Result<TlsStream<TcpStream>> {
    let Some(config) = keys.open_server() else {
        bail!("this process has no certificate yet");
    };
    stream.set_nodelay(true)?;
    TlsAcceptor::from(config).accept(stream).await.context("the handshake fails")
}

async fn shake(stream: TcpStream, keys: Arc<Keys>) -> Result<Connection> {
    let Some(config) = keys.server() else {
        bail!("this node has no certificate yet");
    };
    stream.set_nodelay(true)?;
    let stream = TlsAcceptor::from(config).accept(stream).await.context("the handshake fails")?;
    let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
    let role = Role::of_certificate(certificate.context("there is no certificate")?)?;
    Ok(Connection { stream, peer: role.into() })
}

/// How many handshakes each address has under way.
#[derive(Debug, Clone, Default)]
struct Crowd(Arc<Mutex<HashMap<IpAddr, usize>>>);

impl Crowd {
    fn enter(&self, from: IpAddr) -> Option<Place> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(from).or_default();
        if *count >= HANDSHAKES_OF_ONE {
            return None;
        }
        *count += 1;
        Some(Place { crowd: self.clone(), from })
    }
}

/// One of the handshakes of an address, until it is dropped.
struct Place {
    crowd: Crowd,
    from: IpAddr,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.crowd.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.from) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.from);
            }
        }
    }
}

/// A connection whose other end has proven its role. Each request on it carries a [`Peer`].
#[derive(Debug)]
pub struct Connection {
    stream: TlsStream<TcpStream>,
    peer: Peer,
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
