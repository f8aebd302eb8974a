//! Offshoot: a CSI driver whose volumes can be copied, rewound and refreshed in seconds.
//!
//! `ARCHITECTURE.md` at the top of the repository is the map. In reading order:

pub mod volume;

pub mod host;

pub mod store;

pub mod backend;

pub mod service;

pub mod delphix;

pub mod proto;

pub mod telemetry;

pub mod config;

pub mod metrics;

pub mod admin;

pub mod csi;

pub mod tls;

pub mod agent;

pub mod cluster;
pub mod router;

pub mod cli;
