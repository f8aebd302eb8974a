//! Volumes and snapshots that Kubernetes has forgotten.
//!
//! The sidecars lose objects: a provisioner that is killed between the answer of CreateVolume and the writing of the
//! PersistentVolume, a late retry after the delete, a finalizer that somebody took away by hand. Nobody else looks for
//! what then takes up room for ever. So the controller does, every few minutes, and says how many there are; whether they
//! are deleted too is for the administrator to switch on. It refuses to conclude anything from lists that are not whole.

pub mod decide;
mod driver;
mod known;
mod watch;

pub use decide::{Held, Known};
pub use driver::{Objects, OverGrpc};
pub use known::{known_of, read, want};
pub use watch::{Mode, Options, Round, Watch};
