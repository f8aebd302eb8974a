//! Where an NFS volume is: a server, a path that it exports, and the protocol's version.
//!
//! A publish context brings these as text from the controller; a mount table has them as the kernel writes them. Both
//! become these types, so that "is this the same export" is asked in one place.

use std::fmt;
use std::net::IpAddr;

use super::error::{Error, Result};

/// A version of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NfsVersion {
    /// Version 3, with its own mount protocol.
    V3,
    /// Version 4 with this minor version; `None` is the newest that both sides speak.
    V4(Option<u8>),
}

impl NfsVersion {
    /// Reads `3`, `4`, `4.0`, `4.1` or `4.2`.
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "3" => NfsVersion::V3,
            "4" => NfsVersion::V4(None),
            "4.0" => NfsVersion::V4(Some(0)),
            "4.1" => NfsVersion::V4(Some(1)),
            "4.2" => NfsVersion::V4(Some(2)),
            _ => return None,
        })
    }

    /// The protocol's number: 3 or 4.
    pub fn major(self) -> u32 {
        match self {
            NfsVersion::V3 => 3,
            NfsVersion::V4(_) => 4,
        }
    }

    /// Whether a mount of version `there` is what was asked for with this one.
    pub fn admits(self, there: NfsVersion) -> bool {
        match (self, there) {
            (NfsVersion::V4(None), NfsVersion::V4(_)) => true,
            (wanted, there) => wanted == there,
        }
    }
}

impl fmt::Display for NfsVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NfsVersion::V3 => f.write_str("3"),
            NfsVersion::V4(None) => f.write_str("4"),
            NfsVersion::V4(Some(minor)) => write!(f, "4.{minor}"),
        }
    }
}

/// An export, with the address under which its server is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NfsSource {
    /// The server's address.
    pub server: IpAddr,
    /// The exported path, absolute.
    pub path: String,
    /// The protocol's version.
    pub version: NfsVersion,
}

impl NfsSource {
    /// `server:/path` as the kernel takes it.
    pub fn device(&self) -> String {
        match self.server {
            IpAddr::V4(address) => format!("{address}:{}", self.path),
            IpAddr::V6(address) => format!("[{address}]:{}", self.path),
        }
    }
}

impl fmt::Display for NfsSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.device())
    }
}

/// The longest path of an export that is taken; the protocol itself stops at 1024.
const MAX_PATH: usize = 1024;

/// Checks a path that a server is said to export.
///
/// # Errors
/// [`super::Kind::Invalid`], naming `field`.
pub fn check_export_path(field: &str, path: &str) -> Result<()> {
    let refuse = |why: &str| Err(Error::invalid(field, why));
    if !path.starts_with('/') {
        return refuse("is not an absolute path");
    }
    if path.len() > MAX_PATH {
        return refuse("is longer than 1024 bytes");
    }
    if path.chars().any(char::is_control) {
        return refuse("holds control characters");
    }
    if path.split('/').any(|part| part == "..") {
        return refuse("has a component `..`");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_reads_back_as_it_is_written_and_four_alone_admits_every_minor() {
        for text in ["3", "4", "4.0", "4.1", "4.2"] {
            assert_eq!(NfsVersion::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(NfsVersion::parse("2"), None);
        assert_eq!(NfsVersion::parse("4.3"), None);
        assert!(NfsVersion::V4(None).admits(NfsVersion::V4(Some(2))));
        assert!(!NfsVersion::V4(Some(1)).admits(NfsVersion::V4(Some(2))));
        assert!(!NfsVersion::V3.admits(NfsVersion::V4(None)));
    }

    #[test]
    fn an_address_of_version_six_stands_in_brackets() {
        let source = |server: &str| NfsSource {
            server: server.parse().unwrap(),
            path: "/domain0/x".to_owned(),
            version: NfsVersion::V3,
        };
        assert_eq!(source("10.1.2.3").device(), "10.1.2.3:/domain0/x");
        assert_eq!(source("fd00::1").device(), "[fd00::1]:/domain0/x");
    }

    #[test]
    fn only_a_plain_absolute_path_is_an_export() {
        assert!(check_export_path("f", "/domain0/group-2/appdata timeflow-4/datafile").is_ok());
        for bad in ["", "domain0", "/a/../b", "/a\nb", &format!("/{}", "a".repeat(1024))] {
            assert!(check_export_path("f", bad).unwrap_err().to_string().starts_with("f: "), "{bad:?}");
        }
    }
}
