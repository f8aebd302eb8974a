//! The node's side: staging, publishing, growing and watching volumes on this machine.
//!
//! The kernel is the truth about what is attached and mounted, and no record says it a second time. [`Uses`] is an
//! index over it in memory: filled from the mount table at start, kept by the calls here, checked against the kernel
//! before anything is decided by it. What is mounted at a path and is not the volume's is never taken away.

mod expand;
mod health;
mod inline;
mod mounts;
mod paths;
mod publish;
mod stage;
mod uses;

#[cfg(test)]
mod tests;

pub(crate) use mounts::{mount_flag, still_used};
pub(crate) use publish::{not_empty, target_error};
pub(super) use uses::{Mounted, Uses};
