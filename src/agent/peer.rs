//! Who is at the other end of a connection, as its certificate says, and what it may call.

use std::sync::Arc;

use http::Extensions;

use crate::csi::rpc::Rpc;
use crate::tls::Role;

/// The role of a caller, proven by its certificate. It is an extension of every request that comes over TCP, and of none
/// that comes over a unix socket.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Peer {
    /// The router, which may call everything.
    Controller,
    /// The agent of the node of that name, which may read snapshots that it was allowed.
    Node(Arc<str>),
}

impl Peer {
    fn may(&self, rpc: Option<Rpc>) -> bool {
        match self {
            Peer::Controller => true,
            Peer::Node(_) => rpc == Some(Rpc::ReadSnapshot),
        }
    }

    /// Whether whoever is at the other end may make a call. Nobody may do anything.
    pub fn admit(of: &Extensions, rpc: Option<Rpc>) -> bool {
        of.get::<Peer>().is_some_and(|peer| peer.may(rpc))
    }
}

impl From<Role> for Peer {
    fn from(role: Role) -> Self {
        match role {
            Role::Controller => Peer::Controller,
            Role::Node(node) => Peer::Node(node.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_may_only_read_snapshots_and_nobody_may_do_anything() {
        let check = |peer: Option<Peer>, rpc: Option<Rpc>, expect: bool| {
            let mut of = Extensions::new();
            if let Some(peer) = peer.clone() {
                of.insert(peer);
            }
            assert_eq!(Peer::admit(&of, rpc), expect, "{peer:?} {rpc:?}");
        };
        let node = || Some(Peer::Node("a".into()));
        for rpc in Rpc::ALL.iter().copied().map(Some).chain([None]) {
            check(Some(Peer::Controller), rpc, true);
            check(node(), rpc, rpc == Some(Rpc::ReadSnapshot));
            check(None, rpc, false);
        }
    }
}
