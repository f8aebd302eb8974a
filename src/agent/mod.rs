//! A node in a cluster: the TCP listener and who may call it, registration with kubelet, enrolment.
//!
//! An agent does what it is told as root, and its port can be reached by every pod. So nobody without a certificate
//! gets as far as HTTP, and each call is held to the role in the certificate of its caller. Nothing here decides what
//! a call means: that is `csi`'s business, as it is on one machine.

pub mod authority;
pub mod enrol;
pub mod listen;
mod peer;
pub mod registration;

pub use peer::Peer;

#[cfg(test)]
mod tests;
