//! What the router counts: which agents it reaches, how long they take, and which answers are not whole.
//!
//! Its labels are the names of nodes. They come from the source of agents and never from a request, and those of a node
//! that is gone are taken away with it.

use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::registry::{RPC_BUCKETS, register};
use super::table;

/// How an agent stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AgentState {
    /// Nothing was asked of it yet, or its connection ended in good order.
    Idle,
    /// There is a connection.
    Connected,
    /// The last attempt to connect failed, or the connection broke.
    Unreachable,
}

impl AgentState {
    const ALL: [AgentState; 3] = [AgentState::Idle, AgentState::Connected, AgentState::Unreachable];

    fn as_str(self) -> &'static str {
        match self {
            AgentState::Idle => "idle",
            AgentState::Connected => "connected",
            AgentState::Unreachable => "unreachable",
        }
    }
}

type NodeState = [(&'static str, String); 2];
type Node = [(&'static str, String); 1];

/// The figures of a router.
#[derive(Debug, Clone)]
pub struct RouterFigures {
    agents: Family<NodeState, Gauge>,
    forward: Family<Node, Histogram, fn() -> Histogram>,
    partial: Family<[(&'static str, &'static str); 1], Counter>,
}

impl Default for RouterFigures {
    fn default() -> Self {
        RouterFigures {
            agents: Family::default(),
            forward: Family::new_with_constructor(|| Histogram::new(RPC_BUCKETS)),
            partial: Family::default(),
        }
    }
}

impl RouterFigures {
    pub(super) fn register(&self, registry: &mut Registry) {
        register(registry, &table::ROUTER_AGENTS, self.agents.clone());
        register(registry, &table::ROUTER_FORWARD, self.forward.clone());
        register(registry, &table::ROUTER_PARTIAL, self.partial.clone());
    }

    /// The agent of `node` stands like this now.
    pub fn agent(&self, node: &str, state: AgentState) {
        for other in AgentState::ALL {
            let labels = [("node", node.to_owned()), ("state", other.as_str().to_owned())];
            self.agents.get_or_create(&labels).set((other == state).into());
        }
    }

    /// The agent of `node` is no longer known.
    pub fn forget(&self, node: &str) {
        for state in AgentState::ALL {
            self.agents.remove(&[("node", node.to_owned()), ("state", state.as_str().to_owned())]);
        }
        self.forward.remove(&[("node", node.to_owned())]);
    }

    /// An agent answered (or failed) after so long.
    pub fn forwarded(&self, node: &str, took: Duration) {
        self.forward.get_or_create(&[("node", node.to_owned())]).observe(took.as_secs_f64());
    }

    /// An answer to `rpc` leaves out what is on nodes that could not be asked.
    pub fn partial(&self, rpc: &'static str) {
        self.partial.get_or_create(&[("rpc", rpc)]).inc();
    }
}
