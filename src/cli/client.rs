//! How a command reaches the server.

use std::time::Duration;

use anyhow::{Context as _, Result};
use tonic::transport::{Channel, Endpoint};

use crate::config;

/// The largest answer: a long lineage comes in one piece if it is asked for so.
pub const MAX_ANSWER: usize = 64 << 20;

/// Which server to ask.
#[derive(Debug, Clone, clap::Args)]
pub struct Client {
    /// Socket of the server: a path, or unix:///path
    #[arg(long, env = "OFFSHOOT_SOCKET", value_name = "SOCKET", default_value = config::DEFAULT_ENDPOINT)]
    pub socket: config::Endpoint,
}

impl Client {
    /// Connects, or says what to do where nobody answers.
    pub async fn connect(&self) -> Result<Channel> {
        let path = self.socket.0.display();
        Endpoint::from_shared(format!("unix://{path}"))
            .with_context(|| format!("{path} cannot be the path of a socket"))?
            .connect_timeout(Duration::from_secs(5))
            .connect()
            .await
            .with_context(|| {
                format!("no server answers on {path}; start one with `offshoot serve`, or name its socket with --socket (it needs the server's rights)")
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_missing_server_says_how_to_start_one() {
        let dir = tempfile::tempdir().unwrap();
        let client = Client { socket: config::Endpoint(dir.path().join("none.sock")) };
        let error = format!("{:#}", client.connect().await.unwrap_err());
        assert!(error.contains("start one with `offshoot serve`"), "{error}");
    }
}
