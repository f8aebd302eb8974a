//! The settings of `offshoot controller`.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, bail};

use super::{AgentAt, DEFAULT_ENROL_PORT, Lasts, Server, Span};
use crate::cluster::orphans;
use crate::router::AgentAddress;

/// How long certificates last if nothing is said.
const DEFAULT_LIFETIME: Duration = Duration::from_secs(30 * 86_400);
/// The ConfigMap of authorities if nothing is said.
const DEFAULT_CONFIG_MAP: &str = "offshoot-ca";
/// The service account of agents if nothing is said.
const DEFAULT_ACCOUNT: &str = "offshoot-node";

options! {
    /// What can be set for `offshoot controller`. A field that is `None` or empty was not set here.
    pub struct ControllerOptions {
        /// The agent of a node: the node's name and where it listens; give it once per node
        #[arg(long, env = "OFFSHOOT_AGENT", value_name = "NODE=HOST:PORT", value_delimiter = ',')]
        pub agent: Vec<AgentAt>,

        /// Service of the agents, found through its EndpointSlices; instead of --agent
        #[arg(long, env = "OFFSHOOT_AGENTS_SERVICE", value_name = "NAME")]
        pub agents_service: Option<String>,

        /// Namespace of all that is named here [default: that of this pod]
        #[arg(long, env = "OFFSHOOT_NAMESPACE", value_name = "NAME")]
        pub namespace: Option<String>,

        /// Directory with tls.crt, tls.key and ca.crt for the way to the agents; read again when they change
        #[arg(long, env = "OFFSHOOT_TLS_DIR", value_name = "DIR")]
        pub tls_dir: Option<PathBuf>,

        /// Secret that keeps the authorities and the controller's key, made and renewed here; instead of --tls-dir
        #[arg(long, env = "OFFSHOOT_TLS_SECRET", value_name = "NAME")]
        pub tls_secret: Option<String>,

        /// ConfigMap that gets the authorities that nodes trust, with --tls-secret [default: offshoot-ca]
        #[arg(long, env = "OFFSHOOT_CA_CONFIGMAP", value_name = "NAME")]
        pub ca_configmap: Option<String>,

        /// Address on which nodes have certificates signed, with --tls-secret [default: every address, port 9812]
        #[arg(long, env = "OFFSHOOT_ENROL_LISTEN", value_name = "IP:PORT")]
        pub enrol_listen: Option<SocketAddr>,

        /// How long certificates last, with --tls-secret; an authority lasts ten times as long [default: 30d]
        #[arg(long, env = "OFFSHOOT_CERTIFICATE_LIFETIME", value_name = "TIME")]
        pub certificate_lifetime: Option<Lasts>,

        /// Service account of the node agents, whose tokens are believed, with --tls-secret [default: offshoot-node]
        #[arg(long, env = "OFFSHOOT_NODE_SERVICE_ACCOUNT", value_name = "NAME")]
        pub node_service_account: Option<String>,

        /// What to do about volumes and snapshots that Kubernetes has forgotten, where it is there [default: report]
        #[arg(long, env = "OFFSHOOT_ORPHANS", value_enum, value_name = "MODE")]
        pub orphans: Option<orphans::Mode>,

        /// Age from which what nothing in Kubernetes names counts as forgotten [default: 1h]
        #[arg(long, env = "OFFSHOOT_ORPHAN_GRACE", value_name = "TIME")]
        pub orphan_grace: Option<Lasts>,

        /// Time between two looks for orphans, up to 1h; what is forgotten must be so in two of them [default: 10m]
        #[arg(long, env = "OFFSHOOT_ORPHAN_EVERY", value_name = "TIME")]
        pub orphan_every: Option<Span>,
    }
}

/// Where the agents are known from.
#[derive(Debug, Clone, PartialEq)]
pub enum AgentsFrom {
    /// They were named.
    List(Vec<AgentAddress>),
    /// The EndpointSlices of a Service.
    Service(String),
}

/// Where the controller's keys come from.
#[derive(Debug, Clone, PartialEq)]
pub enum KeysFrom {
    /// Files in a directory.
    Directory(PathBuf),
    /// A Secret that the controller keeps, and from which it signs for nodes.
    Secret {
        /// Its name.
        secret: String,
        /// The ConfigMap that gets the authorities.
        config_map: String,
        /// Where nodes have certificates signed.
        enrol_listen: SocketAddr,
        /// How long certificates last.
        lasts: Duration,
        /// The service account of agents.
        account: String,
    },
}

/// The settings of a controller that hold.
#[derive(Debug, Clone, PartialEq)]
pub struct ControllerConfig {
    /// What every server has.
    pub server: Server,
    /// The namespace of all that is named.
    pub namespace: Option<String>,
    /// The agents.
    pub agents: AgentsFrom,
    /// The keys.
    pub keys: KeysFrom,
    /// How orphans are looked for.
    pub orphans: orphans::Options,
}

impl ControllerOptions {
    /// What holds: these, else those of `file`, else the defaults.
    ///
    /// Fails where a node has two agents, and where it is not said, or said twice, where agents and keys come from.
    pub fn resolve(mut self, mut file: ControllerOptions) -> Result<ControllerConfig> {
        let server = self.take_server(&mut file);
        let agents = if self.agent.is_empty() { file.agent } else { self.agent };
        let agents = match self.agents_service.or(file.agents_service) {
            Some(service) if agents.is_empty() => AgentsFrom::Service(service),
            Some(_) => bail!("--agent and --agents-service exclude each other; give one of them"),
            None if agents.is_empty() => {
                bail!("there are no agents; name them with --agent, or their Service with --agents-service")
            }
            None => AgentsFrom::List(by_node(agents)?),
        };
        let keys = match (self.tls_dir.or(file.tls_dir), self.tls_secret.or(file.tls_secret)) {
            (Some(dir), None) => KeysFrom::Directory(dir),
            (None, Some(secret)) => KeysFrom::Secret {
                secret,
                config_map: (self.ca_configmap.or(file.ca_configmap))
                    .unwrap_or_else(|| DEFAULT_CONFIG_MAP.to_owned()),
                enrol_listen: (self.enrol_listen.or(file.enrol_listen))
                    .unwrap_or(SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), DEFAULT_ENROL_PORT)),
                lasts: (self.certificate_lifetime.or(file.certificate_lifetime))
                    .map_or(DEFAULT_LIFETIME, |lasts| lasts.0),
                account: (self.node_service_account.or(file.node_service_account))
                    .unwrap_or_else(|| DEFAULT_ACCOUNT.to_owned()),
            },
            (None, None) => bail!(
                "a controller needs a certificate; give its directory with --tls-dir, or the Secret that keeps it with --tls-secret"
            ),
            (Some(_), Some(_)) => bail!("--tls-dir and --tls-secret exclude each other; give one of them"),
        };
        let usual = orphans::Options::default();
        let orphans = orphans::Options {
            mode: self.orphans.or(file.orphans).unwrap_or(usual.mode),
            grace: self.orphan_grace.or(file.orphan_grace).map_or(usual.grace, |grace| grace.0),
            every: self.orphan_every.or(file.orphan_every).map_or(usual.every, |every| every.0),
        };
        Ok(ControllerConfig { server, namespace: self.namespace.or(file.namespace), agents, keys, orphans })
    }
}

fn by_node(agents: Vec<AgentAt>) -> Result<Vec<AgentAddress>> {
    let mut named = BTreeMap::new();
    for AgentAt(agent) in agents {
        if let Some(first) = named.insert(agent.node.clone(), agent.address.clone()) {
            bail!("agent: `{}` is both {first} and {}; a node has one agent", agent.node, agent.address);
        }
    }
    Ok(named.into_iter().map(|(node, address)| AgentAddress { node, address }).collect())
}
