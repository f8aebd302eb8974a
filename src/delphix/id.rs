//! The ids that Kubernetes keeps for objects of a DCT, and the ids of nodes.
//!
//! A volume is `DCT:VDB` and a snapshot `DCT:BOOKMARK`: the name of the connection in our settings, and the id that the
//! DCT itself gave. So every call knows whom to ask without looking anything up, and an adopted VDB has the id that it
//! would have had anyway.
//!
//! A node is `NAME@ADDRESS[,ADDRESS]`, since the address has to be taken off the engine's export list when the node is
//! long gone and nobody can be asked for it.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use crate::volume::names::check_node_id;
use crate::volume::{Error, Result};

/// Longest id of an object that we take, in bytes.
const MAX_ID: usize = 100;
/// Most addresses of one node.
const MAX_ADDRESSES: usize = 8;

macro_rules! handle {
    ($name:ident, $object:ident, $what:literal, $doc:literal) => {
        #[doc = $doc]
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name {
            /// The name of the connection.
            pub dct: String,
            #[doc = concat!("The DCT's own id of the ", $what, ".")]
            pub $object: String,
        }

        impl $name {
            #[doc = concat!("The handle of a ", $what, ", by its connection and its id there.")]
            pub fn new(dct: &str, $object: &str) -> Self {
                $name { dct: dct.to_owned(), $object: $object.to_owned() }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}:{}", self.dct, self.$object)
            }
        }

        impl FromStr for $name {
            type Err = ();

            fn from_str(text: &str) -> Result<Self, ()> {
                let (dct, object) = text.split_once(':').ok_or(())?;
                let inside = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
                let plain = |s: &str| (1..=MAX_ID).contains(&s.len()) && s.bytes().all(inside);
                if !plain(dct) || !plain(object) {
                    return Err(());
                }
                Ok($name::new(dct, object))
            }
        }
    };
}

handle!(VolumeHandle, vdb, "VDB", "The id of a volume: `DCT:VDB`.");
handle!(SnapshotHandle, bookmark, "bookmark", "The id of a snapshot: `DCT:BOOKMARK`.");

/// The id of a node: its name, and the addresses from which it mounts.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId {
    /// The node's name.
    pub name: String,
    /// The addresses that the engine has to let in; at least one, each once.
    pub addresses: Vec<IpAddr>,
}

impl NodeId {
    /// Reads a node id of a request; `field` is named in the error.
    ///
    /// # Errors
    /// [`crate::volume::Kind::Invalid`] for one that is not `NAME@ADDRESS[,ADDRESS]`.
    pub fn parse(field: &str, text: &str) -> Result<NodeId> {
        check_node_id(field, text)?;
        text.parse().map_err(|why| Error::invalid(field, why))
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@", self.name)?;
        for (n, address) in self.addresses.iter().enumerate() {
            write!(f, "{}{address}", if n == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

impl FromStr for NodeId {
    type Err = String;

    fn from_str(text: &str) -> Result<NodeId, String> {
        let shape = || "is not like NAME@ADDRESS[,ADDRESS]: the node plugin of this driver gives such ids";
        let (name, rest) = text.split_once('@').ok_or_else(shape)?;
        if name.is_empty() || name.chars().any(|c| c.is_whitespace() || c.is_control() || "'\"\\".contains(c))
        {
            return Err(shape().to_owned());
        }
        let mut addresses: Vec<IpAddr> = Vec::new();
        for part in rest.split(',') {
            let address = part.parse().map_err(|_| format!("has {part:?} where an IP address belongs"))?;
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        if addresses.len() > MAX_ADDRESSES {
            return Err(format!("has {} addresses; at most {MAX_ADDRESSES} are taken", addresses.len()));
        }
        Ok(NodeId { name: name.to_owned(), addresses })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_is_the_connection_and_the_id_and_is_read_back() {
        #[track_caller]
        fn check(text: &str, expect: Option<(&str, &str)>) {
            let read: Option<VolumeHandle> = text.parse().ok();
            assert_eq!(read, expect.map(|(dct, vdb)| VolumeHandle::new(dct, vdb)), "{text:?}");
            assert!(read.is_none_or(|read| read.to_string() == text));
            assert_eq!(text.parse::<SnapshotHandle>().is_ok(), expect.is_some());
        }
        check("prod:11-ORACLE_DB_CONTAINER-27", Some(("prod", "11-ORACLE_DB_CONTAINER-27")));
        check("eu.1:00ff", Some(("eu.1", "00ff")));
        for text in [
            "",
            "prod",
            ":",
            "prod:",
            ":x",
            "prod:a b",
            "prod:../x",
            "prod:a'b",
            "prod:a:b",
            "v-1-2",
            "prod:ü",
        ] {
            check(text, None);
        }
        check(&format!("prod:{}", "x".repeat(101)), None);
    }

    #[test]
    fn a_node_is_its_name_and_its_addresses() {
        #[track_caller]
        fn check(text: &str, expect: Option<&str>) {
            let read = NodeId::parse("node_id", text);
            assert_eq!(read.as_ref().ok().map(NodeId::to_string).as_deref(), expect, "{text:?}");
            if let Err(error) = read {
                assert!(error.to_string().starts_with("node_id: "), "{error}");
            }
        }
        check("n1@10.0.0.1", Some("n1@10.0.0.1"));
        check("n1@10.0.0.1,fd00::1,10.0.0.1", Some("n1@10.0.0.1,fd00::1"));
        check("a@b@10.0.0.1", None);
        for text in ["", "n1", "n1@", "@10.0.0.1", "n1@host", "n1@10.0.0.1,", "n 1@10.0.0.1", "n'@10.0.0.1"] {
            check(text, None);
        }
        let many: Vec<String> = (0..9).map(|n| format!("10.0.0.{n}")).collect();
        check(&format!("n@{}", many.join(",")), None);
    }
}
