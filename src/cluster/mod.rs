//! The Kubernetes API: the only code that names kube.
//!
//! Everything else speaks of volumes and nodes; here those meet PersistentVolumes, VolumeSnapshotContents and Nodes.
//! What is concluded from the API's answers is decided by pure functions, and nothing is concluded from an answer that
//! is not whole.

pub mod access;
pub mod checks;
pub mod claims;
pub mod controller;
pub mod delphix;
pub mod discover;
pub mod driver;
pub mod enrol;
pub mod events;
mod kinds;
pub mod lost;
pub mod orphans;
pub mod secret;
pub mod support;

#[cfg(test)]
mod keys_tests;
#[cfg(test)]
pub(crate) mod testing;
