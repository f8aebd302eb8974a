//! Many nodes behind one socket: serves what the edge serves, by asking the agents of the nodes.
//!
//! The sidecars know one controller, and the volumes lie on the disks of many nodes. Whatever a controller remembers
//! can be wrong after a crash, so this one remembers nothing: an id names its pool, the agents say which pools they
//! have, and everything else is asked for anew. `docs/decisions/0011-a-router-without-state.md` says where each call
//! goes. It refuses to guess: what it cannot ask is UNAVAILABLE or named as missing, and never taken for gone.

pub mod connect;
pub mod discovery;

pub use connect::{AgentAddress, Connect, Io};
pub use discovery::{Discovery, Known};
