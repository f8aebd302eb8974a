//! The types of settings: what parsed is valid, whichever way it came.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use serde::Deserialize;

use super::{DEFAULT_DRIVER_NAME, DEFAULT_ENDPOINT};
use crate::router::AgentAddress;
use crate::volume::names::check_pool_name;

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

deserialize_from_str!(Endpoint, NodeId, DriverName, PoolDir, Span, AgentAt, Lasts);

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

/// Where the agent of a node listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentAt(pub AgentAddress);

impl FromStr for AgentAt {
    type Err = BadValue;

    fn from_str(text: &str) -> Result<Self, BadValue> {
        let bad = |why: &str| {
            BadValue(format!(
                "`{}` is not an agent: {why}; give NODE=HOST:PORT, such as node-1=10.0.0.1:9820",
                text.escape_debug()
            ))
        };
        let (node, address) = text.split_once('=').ok_or_else(|| bad("it has no `=`"))?;
        let NodeId(node) = node.parse().map_err(|_| bad("its node is not the name of one"))?;
        let (host, port) = address.rsplit_once(':').ok_or_else(|| bad("its address has no port"))?;
        let port_is_good = port.parse::<u16>().is_ok_and(|port| port != 0);
        if !port_is_good {
            return Err(bad("its port is not a number from 1 to 65535"));
        }
        if host.is_empty() || host.chars().any(|c| c.is_whitespace() || c.is_control() || c == '/') {
            return Err(bad("its address has no host"));
        }
        Ok(AgentAt(AgentAddress { node, address: address.to_owned() }))
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

/// How long something is valid, such as `720h` or `30d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lasts(pub Duration);

impl FromStr for Lasts {
    type Err = BadValue;

    fn from_str(text: &str) -> Result<Self, BadValue> {
        const LEAST: Duration = Duration::from_secs(60);
        const MOST: Duration = Duration::from_secs(3650 * 86_400);
        let lasts = humantime::parse_duration(text).map_err(|error| {
            BadValue(format!(
                "`{}` is not a length of time ({error}); give one such as 720h or 30d",
                text.escape_debug()
            ))
        })?;
        if !(LEAST..=MOST).contains(&lasts) {
            return Err(BadValue(format!("`{text}` is not between 1m and 3650d")));
        }
        Ok(Lasts(lasts))
    }
}
