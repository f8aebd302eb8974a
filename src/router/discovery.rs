//! Which agents there are.
//!
//! The router asks nobody but this. Where the answer comes from (a list on the command line, Kubernetes'
//! EndpointSlices) is behind one trait, and it is watched, so that nodes may come and go. An agent that drops out of
//! the set is forgotten, with everything on its node: so a source keeps a node whose agent is only down, without an
//! address, and drops one that is gone for good.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::sync::watch;

use super::connect::AgentAddress;

/// The agents that are known; `None` until the source has been read for the first time.
pub type Known = Option<Arc<BTreeSet<AgentAddress>>>;

/// A source of agents.
pub trait Discovery: Send + Sync + 'static {
    /// The agents, now and from now on. A node is in the set once. The sender lives as long as the source does.
    fn agents(&self) -> watch::Receiver<Known>;
}

/// Agents that never change: those on the command line.
#[derive(Debug)]
pub struct Static(watch::Sender<Known>);

impl Static {
    /// These agents and no other.
    pub fn new(agents: impl IntoIterator<Item = AgentAddress>) -> Self {
        Static(watch::Sender::new(Some(Arc::new(agents.into_iter().collect()))))
    }
}

impl Discovery for Static {
    fn agents(&self) -> watch::Receiver<Known> {
        self.0.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_known_from_the_start() {
        let agent = AgentAddress { node: "a".to_owned(), address: "10.0.0.1:9800".to_owned() };
        let list = Static::new([agent.clone(), agent.clone()]);
        let known = list.agents().borrow().clone();
        assert_eq!(known.unwrap().iter().collect::<Vec<_>>(), [&agent]);
    }
}
