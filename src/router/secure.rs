//! Connections to agents with mutual TLS.
//!
//! An address says nothing about who answers on it: pods come and go, and addresses are given out again. So the name of
//! the node is asked for in the handshake, and an agent of another node does not have a certificate for it.

use std::io;
use std::sync::Arc;

use async_trait::async_trait;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::connect::{AgentAddress, Connect, Io};
use crate::tls::{Keys, Role};

/// Connects with the keys that are in use at the moment, to the node that was meant.
#[derive(Debug, Clone)]
pub struct Secure {
    keys: Arc<Keys>,
}

impl Secure {
    /// Proves to be who `keys` say.
    pub fn new(keys: Arc<Keys>) -> Self {
        Secure { keys }
    }
}

#[async_trait]
impl Connect for Secure {
    async fn connect(&self, agent: &AgentAddress) -> io::Result<Box<dyn Io>> {
        let name = Role::node(&agent.node).map_err(io::Error::other)?.name();
        let name = ServerName::try_from(name).map_err(io::Error::other)?;
        let Some(config) = self.keys.client() else {
            return Err(io::Error::other("this process has no certificate yet; it is being made"));
        };
        let stream = TcpStream::connect(&agent.address).await?;
        stream.set_nodelay(true)?;
        Ok(Box::new(TlsConnector::from(config).connect(name, stream).await?))
    }
}
