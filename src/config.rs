//! The settings of the server, from the command line, the environment and a file.
//!
//! One list of fields serves all three, so a key cannot exist in one and be missing in another; a key that is not
//! known is an error with its line, because a misspelt limit that is ignored is found out too late. The command line
//! is stronger than the environment, that than the file, that than the default. Values are types of their own: what
//! parsed is valid, whichever way it came.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

use crate::telemetry::{self, LogFormat};
use crate::volume::names::check_pool_name;
use crate::volume::quantity::Share;

/// Where the socket is if nothing is said.
pub const DEFAULT_ENDPOINT: &str = "/run/offshoot/csi.sock";
/// Where the server keeps what belongs to no pool if nothing is said.
pub const DEFAULT_STATE_DIR: &str = "/var/lib/offshoot";
/// The driver's name if nothing is said.
pub const DEFAULT_DRIVER_NAME: &str = "csi.offshoot.dev";
/// The part of each pool that is kept free if nothing is said.
pub const DEFAULT_RESERVE: Share = Share::Permille(20);
/// How long a filesystem may be frozen if nothing is said.
pub const DEFAULT_FREEZE_LIMIT: Duration = Duration::from_secs(10);
/// How long a stopping server waits for its work if nothing is said.
pub const DEFAULT_SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(30);

/// What can be set. A field that is `None` or empty was not set here.
#[derive(Debug, Clone, Default, clap::Args, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct ServeOptions {
    /// Socket to serve on: a path, or unix:///path [default: /run/offshoot/csi.sock]
    #[arg(long, env = "OFFSHOOT_ENDPOINT", value_name = "SOCKET")]
    pub endpoint: Option<Endpoint>,

    /// Name of this node, as Kubernetes knows it [default: the host's name]
    #[arg(long, env = "OFFSHOOT_NODE_ID", value_name = "NAME")]
    pub node_id: Option<NodeId>,

    /// Directory for what belongs to no pool, such as the list of pools made by `pool create` [default: /var/lib/offshoot]
    #[arg(long, env = "OFFSHOOT_STATE_DIR", value_name = "DIR")]
    pub state_dir: Option<PathBuf>,

    /// A pool: its name and an existing directory on XFS or btrfs; give it once per pool
    #[arg(long, env = "OFFSHOOT_POOL", value_name = "NAME=DIR", value_delimiter = ',')]
    pub pool: Vec<PoolDir>,

    /// Most volumes that Kubernetes may put on this node; 0 is no limit [default: 0]
    #[arg(long, env = "OFFSHOOT_MAX_VOLUMES_PER_NODE", value_name = "N")]
    pub max_volumes_per_node: Option<u32>,

    /// Part of each pool that new volumes and snapshots may not take: 2%, 10Gi [default: 2%]
    #[arg(long, env = "OFFSHOOT_RESERVE", value_name = "SHARE")]
    pub reserve: Option<Share>,

    /// Driver name, as StorageClasses say it [default: csi.offshoot.dev]
    #[arg(long, env = "OFFSHOOT_DRIVER_NAME", value_name = "NAME")]
    pub driver_name: Option<DriverName>,

    /// Address for /healthz, /readyz and /metrics over plain HTTP, such as 127.0.0.1:9810 [default: none]
    #[arg(long, env = "OFFSHOOT_ADMIN_ADDR", value_name = "IP:PORT")]
    pub admin_addr: Option<SocketAddr>,

    /// Longest freeze of a filesystem for a snapshot, such as 10s [default: 10s]
    #[arg(long, env = "OFFSHOOT_FREEZE_LIMIT", value_name = "TIME")]
    pub freeze_limit: Option<Span>,

    /// How long to let running work finish when stopped, such as 30s [default: 30s]
    #[arg(long, env = "OFFSHOOT_SHUTDOWN_TIMEOUT", value_name = "TIME")]
    pub shutdown_timeout: Option<Span>,

    /// How log lines look; auto is human on a terminal, else JSON [default: auto]
    #[arg(long, env = "OFFSHOOT_LOG_FORMAT", value_name = "FORMAT")]
    pub log_format: Option<LogFormat>,

    /// Log level: error, warn, info, debug, trace, off, or directives as in RUST_LOG [default: RUST_LOG, else info]
    #[arg(long, env = "OFFSHOOT_LOG_LEVEL", value_name = "LEVEL")]
    pub log_level: Option<String>,

    /// Collector for traces: OTLP over gRPC without TLS, such as http://127.0.0.1:4317 [default: none]
    #[arg(long, env = "OFFSHOOT_OTLP_ENDPOINT", value_name = "URL")]
    pub otlp_endpoint: Option<String>,
}

/// The settings that hold.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The socket.
    pub endpoint: PathBuf,
    /// This node.
    pub node_id: String,
    /// The directory for what belongs to no pool.
    pub state_dir: PathBuf,
    /// The directory of each pool by its name.
    pub pools: BTreeMap<String, PathBuf>,
    /// Zero is no limit.
    pub max_volumes_per_node: u32,
    /// What is kept free in each pool.
    pub reserve: Share,
    /// The driver's name.
    pub driver_name: String,
    /// The admin page, if there is to be one.
    pub admin_addr: Option<SocketAddr>,
    /// The longest freeze.
    pub freeze_limit: Duration,
    /// How long a stop may take.
    pub shutdown_timeout: Duration,
    /// How log lines look.
    pub log_format: LogFormat,
    /// What is logged.
    pub log_level: Option<String>,
    /// Where traces go.
    pub otlp_endpoint: Option<String>,
}

impl ServeOptions {
    /// Reads a file of settings.
    pub fn read(path: &Path) -> Result<ServeOptions> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read the settings in {}", path.display()))?;
        Self::parse(&text).with_context(|| format!("the settings in {} are not understood", path.display()))
    }

    fn parse(text: &str) -> Result<ServeOptions> {
        // The error has the line, a caret and the known keys, and ends in a newline.
        toml::from_str(text).map_err(|error| anyhow::anyhow!("{}", error.to_string().trim_end()))
    }

    /// What holds: these, else those of `file`, else the defaults.
    ///
    /// Fails where two pools have one name or one directory, and where no name for the node is found.
    pub fn resolve(self, file: ServeOptions) -> Result<Config> {
        let pools = if self.pool.is_empty() { file.pool } else { self.pool };
        let node_id = match self.node_id.or(file.node_id) {
            Some(node_id) => node_id,
            None => host_name()?,
        };
        let path = |ours: Option<PathBuf>, files: Option<PathBuf>, default: &str| {
            ours.or(files).unwrap_or_else(|| default.into())
        };
        Ok(Config {
            endpoint: path(self.endpoint.map(|e| e.0), file.endpoint.map(|e| e.0), DEFAULT_ENDPOINT),
            node_id: node_id.0,
            state_dir: path(self.state_dir, file.state_dir, DEFAULT_STATE_DIR),
            pools: by_name(pools)?,
            max_volumes_per_node: self.max_volumes_per_node.or(file.max_volumes_per_node).unwrap_or(0),
            reserve: self.reserve.or(file.reserve).unwrap_or(DEFAULT_RESERVE),
            driver_name: self
                .driver_name
                .or(file.driver_name)
                .map_or_else(|| DEFAULT_DRIVER_NAME.to_owned(), |n| n.0),
            admin_addr: self.admin_addr.or(file.admin_addr),
            freeze_limit: self.freeze_limit.or(file.freeze_limit).map_or(DEFAULT_FREEZE_LIMIT, |s| s.0),
            shutdown_timeout: self
                .shutdown_timeout
                .or(file.shutdown_timeout)
                .map_or(DEFAULT_SHUTDOWN_TIMEOUT, |s| s.0),
            log_format: self.log_format.or(file.log_format).unwrap_or_default(),
            log_level: self.log_level.or(file.log_level),
            otlp_endpoint: self.otlp_endpoint.or(file.otlp_endpoint),
        })
    }
}

impl Config {
    /// How this process logs and traces.
    pub fn telemetry(&self) -> telemetry::Options {
        telemetry::Options {
            format: self.log_format,
            level: self.log_level.clone(),
            otlp_endpoint: self.otlp_endpoint.clone(),
        }
    }
}

fn by_name(pools: Vec<PoolDir>) -> Result<BTreeMap<String, PathBuf>> {
    let mut named = BTreeMap::new();
    for pool in pools {
        if let Some((other, _)) = named.iter().find(|(_, dir)| **dir == pool.dir) {
            bail!(
                "pool: `{other}` and `{}` are the same directory {}; give each pool its own",
                pool.name,
                pool.dir.display()
            );
        }
        if let Some(first) = named.insert(pool.name.clone(), pool.dir.clone()) {
            bail!(
                "pool: `{}` is both {} and {}; give each pool its own name",
                pool.name,
                first.display(),
                pool.dir.display()
            );
        }
    }
    Ok(named)
}

fn host_name() -> Result<NodeId> {
    let uname = rustix::system::uname();
    let name = uname.nodename().to_string_lossy();
    name.parse()
        .with_context(|| format!("the host's name `{name}` cannot name a node; give one with --node-id"))
}

/// Text that is not a valid value; says what is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadValue(String);

macro_rules! deserialize_from_str {
    ($($name:ident),+) => {$(
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
            }
        }
    )+};
}

deserialize_from_str!(Endpoint, NodeId, DriverName, PoolDir, Span);

/// The absolute path of a unix socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint(pub PathBuf);

impl FromStr for Endpoint {
    type Err = BadValue;

    fn from_str(text: &str) -> Result<Self, BadValue> {
        let path = text.strip_prefix("unix://").or_else(|| text.strip_prefix("unix:")).unwrap_or(text);
        if !path.starts_with('/') || path.ends_with('/') || path.contains("://") {
            return Err(BadValue(format!(
                "`{text}` is not a unix socket; give an absolute path such as {DEFAULT_ENDPOINT}"
            )));
        }
        // The kernel's limit for the name of a socket is 108 bytes with the final zero; ours has a short suffix while
        // it is made.
        if path.len() > 90 {
            return Err(BadValue(format!(
                "`{text}` is too long for a socket; give a path of at most 90 bytes"
            )));
        }
        Ok(Endpoint(path.into()))
    }
}

/// A name that can be the value of a topology label, as the node's must.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeId(pub String);

impl FromStr for NodeId {
    type Err = BadValue;

    fn from_str(text: &str) -> Result<Self, BadValue> {
        if is_label(text, 63, b"-_.") {
            return Ok(NodeId(text.to_owned()));
        }
        Err(BadValue(format!(
            "`{}` cannot name a node; give at most 63 letters, digits, `-`, `_` or `.`, beginning and ending with a letter or digit",
            text.escape_debug()
        )))
    }
}

/// A driver name as CSI wants it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DriverName(pub String);

impl FromStr for DriverName {
    type Err = BadValue;

    fn from_str(text: &str) -> Result<Self, BadValue> {
        if is_label(text, 63, b"-.") {
            return Ok(DriverName(text.to_owned()));
        }
        Err(BadValue(format!(
            "`{}` cannot name a driver; give at most 63 letters, digits, `-` or `.`, such as {DEFAULT_DRIVER_NAME}",
            text.escape_debug()
        )))
    }
}

fn is_label(text: &str, longest: usize, inside: &[u8]) -> bool {
    let bytes = text.as_bytes();
    let ends = [bytes.first(), bytes.last()];
    (1..=longest).contains(&bytes.len())
        && ends.iter().all(|end| end.is_some_and(u8::is_ascii_alphanumeric))
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || inside.contains(b))
}

/// A pool's name and directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolDir {
    /// Its name, by which StorageClasses choose it.
    pub name: String,
    /// Its absolute path.
    pub dir: PathBuf,
}

impl FromStr for PoolDir {
    type Err = BadValue;

    fn from_str(text: &str) -> Result<Self, BadValue> {
        let bad = |why: &str| {
            BadValue(format!(
                "`{}` is not a pool: {why}; give NAME=DIR, such as fast=/srv/fast",
                text.escape_debug()
            ))
        };
        let (name, dir) = text.split_once('=').ok_or_else(|| bad("it has no `=`"))?;
        check_pool_name("its name", name).map_err(|error| bad(&error.to_string()))?;
        if !dir.starts_with('/') || dir.contains('\0') {
            return Err(bad("its directory is not an absolute path"));
        }
        // Compared as components, so that a slash at the end is no other directory.
        Ok(PoolDir { name: name.to_owned(), dir: PathBuf::from(dir).components().collect() })
    }
}

/// A length of time such as `10s` or `1m 30s`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span(pub Duration);

impl FromStr for Span {
    type Err = BadValue;

    fn from_str(text: &str) -> Result<Self, BadValue> {
        let span = humantime::parse_duration(text).map_err(|error| {
            BadValue(format!(
                "`{}` is not a length of time ({error}); give one such as 10s or 1m30s",
                text.escape_debug()
            ))
        })?;
        if span.is_zero() || span > Duration::from_secs(3600) {
            return Err(BadValue(format!("`{text}` is not between 1ms and 1h")));
        }
        Ok(Span(span))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_duration(self.0).fmt(f)
    }
}

#[cfg(test)]
mod tests;
