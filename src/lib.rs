//! Offshoot.

pub mod proto;
