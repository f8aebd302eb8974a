//! The settings of `offshoot controller`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Result, bail};

use super::{AgentAt, Server};
use crate::router::AgentAddress;

options! {
    /// What can be set for `offshoot controller`. A field that is `None` or empty was not set here.
    pub struct ControllerOptions {
        /// The agent of a node: the node's name and where it listens; give it once per node
        #[arg(long, env = "OFFSHOOT_AGENT", value_name = "NODE=HOST:PORT", value_delimiter = ',')]
        pub agent: Vec<AgentAt>,

        /// Directory with tls.crt, tls.key and ca.crt for the way to the agents; read again when they change
        #[arg(long, env = "OFFSHOOT_TLS_DIR", value_name = "DIR")]
        pub tls_dir: Option<PathBuf>,
    }
}

/// The settings of a controller that hold.
#[derive(Debug, Clone, PartialEq)]
pub struct ControllerConfig {
    /// What every server has.
    pub server: Server,
    /// The agents that were named.
    pub agents: Vec<AgentAddress>,
    /// The directory of certificates.
    pub tls_dir: Option<PathBuf>,
}

impl ControllerOptions {
    /// What holds: these, else those of `file`, else the defaults.
    ///
    /// Fails where a node has two agents.
    pub fn resolve(mut self, mut file: ControllerOptions) -> Result<ControllerConfig> {
        let server = self.take_server(&mut file);
        let agents = if self.agent.is_empty() { file.agent } else { self.agent };
        let mut named = BTreeMap::new();
        for AgentAt(agent) in agents {
            if let Some(first) = named.insert(agent.node.clone(), agent.address.clone()) {
                bail!("agent: `{}` is both {first} and {}; a node has one agent", agent.node, agent.address);
            }
        }
        let agents = named.into_iter().map(|(node, address)| AgentAddress { node, address }).collect();
        Ok(ControllerConfig { server, agents, tls_dir: self.tls_dir.or(file.tls_dir) })
    }
}
