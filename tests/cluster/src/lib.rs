//! A real Kubernetes of several nodes on one machine, without an image registry.
//!
//! Offshoot's end-to-end tests need nodes that can be killed, rebooted and lost, with kubelets, containerd, pods that mount, and the
//! stock CSI sidecars. Here a node is a set of namespaces with a process 1 of its own; everything that the cluster makes is below one
//! directory, [`Layout::dir`], or gone when that process is killed. `docs/development/cluster.md` says how it is made and why so.
//!
//! ```no_run
//! # fn example() -> anyhow::Result<()> {
//! use offshoot_cluster::{Cluster, Layout, Spec, quiet};
//!
//! let cluster = Cluster::up(&Layout::from_env()?, vec![Spec::usual(1), Spec::usual(2)], quiet)?;
//! println!("{}", cluster.kubectl(&["get", "nodes"], None)?);
//! cluster.kill_node("node-b")?;
//! cluster.start_node("node-b")?;
//! # Ok(())
//! # }
//! ```

pub mod audit;
pub mod certificates;
mod cgroups;
mod cluster;
pub mod control;
pub mod dns;
pub mod images;
mod layout;
pub mod machine;
pub mod network;
pub mod node;
mod process;
mod record;

pub use audit::Inventory;
pub use cluster::{Cluster, quiet};
pub use layout::Layout;
pub use machine::Machine;
pub use node::{Node, Spec};
pub use process::Recorded;
pub use record::Settings;
