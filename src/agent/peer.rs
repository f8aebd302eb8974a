//! Who is at the other end of a connection, as its certificate says.

use std::sync::Arc;

/// The role of a caller, proven by its certificate. It is an extension of every request that comes over TCP, and of none
/// that comes over a unix socket.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Peer {
    /// The router, which may call everything.
    Controller,
    /// The agent of the node of that name, which may read snapshots that it was allowed.
    Node(Arc<str>),
}
