//! How a byte stream to an agent is made.
//!
//! The router must not care whether there is TLS on it, whose names the certificates carry or that a test runs in one
//! process: all of that is behind one small trait. What it refuses: an agent that is known without an address, because
//! its node is there and its pod is not.

use std::fmt;
use std::io;

use async_trait::async_trait;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// An agent: the node that it answers for, and where it listens.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AgentAddress {
    /// The node's name, as Kubernetes knows it and as the agent's certificate carries it.
    pub node: String,
    /// `HOST:PORT`. Empty for a node that is known to have pools and whose agent has no address now: it counts as
    /// unreachable, and not as absent.
    pub address: String,
}

impl fmt::Display for AgentAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}", self.node, self.address)
    }
}

/// A byte stream in both directions.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Io for T {}

/// Makes connections to agents.
#[async_trait]
pub trait Connect: Send + Sync + 'static {
    /// A new connection, over which HTTP/2 can be spoken at once: a TLS handshake is over when this returns, and has
    /// proven that the other side answers for `agent.node`. The caller limits the time.
    ///
    /// # Errors
    /// Whatever keeps the agent from being reached; the text is shown to people.
    async fn connect(&self, agent: &AgentAddress) -> io::Result<Box<dyn Io>>;
}

/// Connections without TLS: for tests, and where something else protects the way.
#[derive(Debug, Clone, Copy, Default)]
pub struct Plain;

#[async_trait]
impl Connect for Plain {
    async fn connect(&self, agent: &AgentAddress) -> io::Result<Box<dyn Io>> {
        let stream = TcpStream::connect(&agent.address).await?;
        stream.set_nodelay(true)?;
        Ok(Box::new(stream))
    }
}
