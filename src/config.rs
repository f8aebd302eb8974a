//! The settings of the servers, from the command line, the environment and a file.
//!
//! One list of fields serves all three, so a key cannot exist in one and be missing in another; a key that is not
//! known is an error with its line, because a misspelt limit that is ignored is found out too late. The command line
//! is stronger than the environment, that than the file, that than the default. Values are types of their own: what
//! parsed is valid, whichever way it came.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::de::DeserializeOwned;

use crate::telemetry::{self, LogFormat};
use crate::volume::quantity::Share;

/// Where the socket is if nothing is said.
pub const DEFAULT_ENDPOINT: &str = "/run/offshoot/csi.sock";
/// Where the server keeps what belongs to no pool if nothing is said.
pub const DEFAULT_STATE_DIR: &str = "/var/lib/offshoot";
/// The driver's name if nothing is said.
pub const DEFAULT_DRIVER_NAME: &str = "csi.offshoot.dev";
/// The Delphix driver's name if nothing is said.
pub const DEFAULT_DELPHIX_NAME: &str = "delphix.csi.offshoot.dev";
/// The part of each pool that is kept free if nothing is said.
pub const DEFAULT_RESERVE: Share = Share::Permille(20);
/// How long a filesystem may be frozen if nothing is said.
pub const DEFAULT_FREEZE_LIMIT: Duration = Duration::from_secs(10);
/// How long a stopping server waits for its work if nothing is said.
pub const DEFAULT_SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(30);

/// Options of one role: those that every server has, and its own between them.
///
/// Flattening one struct into another would do for the command line, but serde then no longer refuses unknown keys.
macro_rules! options {
    ($(#[$doc:meta])* pub struct $name:ident { $($own:tt)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Default, clap::Args, serde::Deserialize)]
        #[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
        pub struct $name {
            /// Socket to serve on: a path, or unix:///path [default: /run/offshoot/csi.sock]
            #[arg(long, env = "OFFSHOOT_ENDPOINT", value_name = "SOCKET")]
            pub endpoint: Option<$crate::config::Endpoint>,

            $($own)*

            /// Driver name, as StorageClasses say it; of `offshoot delphix` it is delphix.csi.offshoot.dev if nothing is said [default: csi.offshoot.dev]
            #[arg(long, env = "OFFSHOOT_DRIVER_NAME", value_name = "NAME")]
            pub driver_name: Option<$crate::config::DriverName>,

            /// Address for /healthz, /readyz and /metrics over plain HTTP, such as 127.0.0.1:9810 [default: none]
            #[arg(long, env = "OFFSHOOT_ADMIN_ADDR", value_name = "IP:PORT")]
            pub admin_addr: Option<std::net::SocketAddr>,

            /// How long to let running work finish when stopped, such as 30s [default: 30s]
            #[arg(long, env = "OFFSHOOT_SHUTDOWN_TIMEOUT", value_name = "TIME")]
            pub shutdown_timeout: Option<$crate::config::Span>,

            /// How log lines look; auto is human on a terminal, else JSON [default: auto]
            #[arg(long, env = "OFFSHOOT_LOG_FORMAT", value_name = "FORMAT")]
            pub log_format: Option<$crate::telemetry::LogFormat>,

            /// Log level: error, warn, info, debug, trace, off, or directives as in RUST_LOG [default: RUST_LOG, else info]
            #[arg(long, env = "OFFSHOOT_LOG_LEVEL", value_name = "LEVEL")]
            pub log_level: Option<String>,

            /// Collector for traces: OTLP over gRPC without TLS, such as http://127.0.0.1:4317 [default: none]
            #[arg(long, env = "OFFSHOOT_OTLP_ENDPOINT", value_name = "URL")]
            pub otlp_endpoint: Option<String>,
        }

        impl $name {
            /// Reads a file of settings.
            pub fn read(path: &std::path::Path) -> anyhow::Result<$name> {
                $crate::config::read(path)
            }

            /// What every server has: these, else those of `file`, else the defaults.
            fn take_server(&mut self, file: &mut $name) -> $crate::config::Server {
                $crate::config::Server {
                    endpoint: (self.endpoint.take().or(file.endpoint.take()))
                        .map_or_else(|| $crate::config::DEFAULT_ENDPOINT.into(), |e| e.0),
                    driver_name: (self.driver_name.take().or(file.driver_name.take()))
                        .map_or_else(|| $crate::config::DEFAULT_DRIVER_NAME.to_owned(), |n| n.0),
                    admin_addr: self.admin_addr.or(file.admin_addr),
                    shutdown_timeout: (self.shutdown_timeout.or(file.shutdown_timeout))
                        .map_or($crate::config::DEFAULT_SHUTDOWN_TIMEOUT, |s| s.0),
                    log_format: self.log_format.or(file.log_format).unwrap_or_default(),
                    log_level: self.log_level.take().or(file.log_level.take()),
                    otlp_endpoint: self.otlp_endpoint.take().or(file.otlp_endpoint.take()),
                }
            }
        }
    };
}

/// Options of a role with pools of its own: those of every server, those of a machine with pools, and its own.
macro_rules! machine_options {
    ($(#[$doc:meta])* pub struct $name:ident { $($own:tt)* }) => {
        options! {
            $(#[$doc])*
            pub struct $name {
                /// Name of this node, as Kubernetes knows it [default: the host's name]
                #[arg(long, env = "OFFSHOOT_NODE_ID", value_name = "NAME")]
                pub node_id: Option<$crate::config::NodeId>,

                /// Directory for what belongs to no pool, such as the list of pools made by `pool create` [default: /var/lib/offshoot]
                #[arg(long, env = "OFFSHOOT_STATE_DIR", value_name = "DIR")]
                pub state_dir: Option<std::path::PathBuf>,

                /// A pool: its name and an existing directory on XFS or btrfs; give it once per pool
                #[arg(long, env = "OFFSHOOT_POOL", value_name = "NAME=DIR", value_delimiter = ',')]
                pub pool: Vec<$crate::config::PoolDir>,

                /// Most volumes that Kubernetes may put on this node; 0 is no limit [default: 0]
                #[arg(long, env = "OFFSHOOT_MAX_VOLUMES_PER_NODE", value_name = "N")]
                pub max_volumes_per_node: Option<u32>,

                /// Part of each pool that new volumes and snapshots may not take: 2%, 10Gi [default: 2%]
                #[arg(long, env = "OFFSHOOT_RESERVE", value_name = "SHARE")]
                pub reserve: Option<$crate::volume::quantity::Share>,

                /// Longest freeze of a filesystem for a snapshot, such as 10s [default: 10s]
                #[arg(long, env = "OFFSHOOT_FREEZE_LIMIT", value_name = "TIME")]
                pub freeze_limit: Option<$crate::config::Span>,

                $($own)*
            }
        }

        impl $name {
            /// What every role with pools has: these, else those of `file`, else the defaults.
            ///
            /// Fails where two pools have one name or one directory, and where no name for the node is found.
            fn take_machine(&mut self, file: &mut $name) -> anyhow::Result<$crate::config::Config> {
                let server = self.take_server(file);
                let ours = std::mem::take(&mut self.pool);
                let theirs = std::mem::take(&mut file.pool);
                Ok($crate::config::Config {
                    server,
                    node_id: $crate::config::serve::node_id(self.node_id.take().or(file.node_id.take()))?,
                    state_dir: (self.state_dir.take().or(file.state_dir.take()))
                        .unwrap_or_else(|| $crate::config::DEFAULT_STATE_DIR.into()),
                    pools: $crate::config::serve::by_name(if ours.is_empty() { theirs } else { ours })?,
                    max_volumes_per_node: (self.max_volumes_per_node.or(file.max_volumes_per_node)).unwrap_or(0),
                    reserve: self.reserve.or(file.reserve).unwrap_or($crate::config::DEFAULT_RESERVE),
                    freeze_limit: (self.freeze_limit.or(file.freeze_limit))
                        .map_or($crate::config::DEFAULT_FREEZE_LIMIT, |s| s.0),
                })
            }
        }
    };
}

mod controller;
mod delphix;
mod node;
mod serve;
mod values;

pub use controller::{AgentsFrom, ControllerConfig, ControllerOptions, KeysFrom};
pub use delphix::{DelphixConfig, DelphixNode, DelphixOptions};
pub use node::{
    DEFAULT_AGENT_LISTEN, DEFAULT_ENROL_DIR, DEFAULT_ENROL_PORT, Identity, NodeConfig, NodeOptions,
};
pub use serve::{Config, ServeOptions};
pub use values::{AgentAt, BadValue, DriverName, Endpoint, Lasts, NodeId, PoolDir, Span};

/// The settings of every server.
#[derive(Debug, Clone, PartialEq)]
pub struct Server {
    /// The socket.
    pub endpoint: PathBuf,
    /// The driver's name.
    pub driver_name: String,
    /// The admin page, if there is to be one.
    pub admin_addr: Option<SocketAddr>,
    /// How long a stop may take.
    pub shutdown_timeout: Duration,
    /// How log lines look.
    pub log_format: LogFormat,
    /// What is logged.
    pub log_level: Option<String>,
    /// Where traces go.
    pub otlp_endpoint: Option<String>,
}

impl Server {
    /// How it logs and where its traces go.
    pub fn telemetry(&self) -> telemetry::Options {
        telemetry::Options {
            format: self.log_format,
            level: self.log_level.clone(),
            otlp_endpoint: self.otlp_endpoint.clone(),
        }
    }
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("cannot read the settings in {}", path.display()))?;
    parse(&text).with_context(|| format!("the settings in {} are not understood", path.display()))
}

fn parse<T: DeserializeOwned>(text: &str) -> Result<T> {
    // The error has the line, a caret and the known keys, and ends in a newline.
    toml::from_str(text).map_err(|error| anyhow::anyhow!("{}", error.to_string().trim_end()))
}

#[cfg(test)]
mod tests;
