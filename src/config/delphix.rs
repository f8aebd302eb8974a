//! The settings of `offshoot delphix …`.
//!
//! All three roles take the same options, and each looks at those that are its own: the connections to DCTs are the
//! controller's, the name and the addresses are the node's.

use std::net::IpAddr;
use std::path::PathBuf;

use anyhow::{Result, bail};

use super::{DEFAULT_DELPHIX_NAME, DriverName, NodeId, Server};

options! {
    /// What can be set for `offshoot delphix`. A field that is `None` or empty was not set here.
    pub struct DelphixOptions {
        /// Controller: file in TOML that names the DCTs, with the files of their API keys
        #[arg(long, env = "OFFSHOOT_DCT_CONFIG", value_name = "FILE")]
        pub dct_config: Option<PathBuf>,

        /// Controller: let DCTs be used whose certificates nobody checks, as insecure-skip-verify says. Whoever is on the way to such a DCT gets its API key
        #[arg(long, env = "OFFSHOOT_ALLOW_INSECURE_DCT", num_args = 0..=1, default_missing_value = "true", value_name = "true|false")]
        pub allow_insecure_dct: Option<bool>,

        /// Controller: take the five annotations of the vendor's driver on claims as parameters; needs the right to get claims
        #[arg(long, env = "OFFSHOOT_VENDOR_ANNOTATIONS", num_args = 0..=1, default_missing_value = "true", value_name = "true|false")]
        pub vendor_annotations: Option<bool>,

        /// Controller: tell the owners of claims what becomes of their volumes, as events in Kubernetes
        #[arg(long, env = "OFFSHOOT_CLAIM_EVENTS", num_args = 0..=1, default_missing_value = "true", value_name = "true|false")]
        pub claim_events: Option<bool>,

        /// Controller: namespace of events that are about no claim [default: that of this pod]
        #[arg(long, env = "OFFSHOOT_NAMESPACE", value_name = "NAME")]
        pub namespace: Option<String>,

        /// Node: its name, as Kubernetes knows it [default: the host's name]
        #[arg(long, env = "OFFSHOOT_NODE_ID", value_name = "NAME")]
        pub node_id: Option<NodeId>,

        /// Node: an address from which it mounts, which engines let in; give it once per address [default: that of the default route]
        #[arg(long, env = "OFFSHOOT_NODE_ADDRESS", value_name = "IP", value_delimiter = ',')]
        pub node_address: Vec<IpAddr>,

        /// Node: most volumes that Kubernetes may put on it; 0 is no limit [default: 0]
        #[arg(long, env = "OFFSHOOT_MAX_VOLUMES_PER_NODE", value_name = "N")]
        pub max_volumes_per_node: Option<u32>,
    }
}

/// The settings that hold.
#[derive(Debug, Clone, PartialEq)]
pub struct DelphixConfig {
    /// What every server has.
    pub server: Server,
    /// The file that names the DCTs.
    pub dct_config: Option<PathBuf>,
    /// Whether DCTs without checked certificates are let be.
    pub allow_insecure: bool,
    /// Whether the vendor's annotations count.
    pub vendor_annotations: bool,
    /// Whether events are written.
    pub claim_events: bool,
    /// The namespace of events that are about no claim.
    pub namespace: Option<String>,
    /// What a node says of itself.
    pub node: DelphixNode,
}

/// What a node says of itself.
#[derive(Debug, Clone, PartialEq)]
pub struct DelphixNode {
    /// Its name.
    pub name: String,
    /// Its addresses, as they were given; perhaps none.
    pub addresses: Vec<IpAddr>,
    /// Zero is no limit.
    pub max_volumes: u32,
}

impl DelphixOptions {
    /// What holds: these, else those of `file`, else the defaults.
    ///
    /// Fails where no name for the node is found, and for addresses by which no engine could know a node.
    pub fn resolve(mut self, mut file: DelphixOptions) -> Result<DelphixConfig> {
        if self.driver_name.is_none() && file.driver_name.is_none() {
            self.driver_name = Some(DriverName(DEFAULT_DELPHIX_NAME.to_owned()));
        }
        let server = self.take_server(&mut file);
        let addresses = if self.node_address.is_empty() { file.node_address } else { self.node_address };
        if let Some(bad) = addresses.iter().find(|address| address.is_unspecified() || address.is_multicast())
        {
            bail!(
                "node-address: {bad} is no address of a node; give the one from which it reaches the engines"
            );
        }
        Ok(DelphixConfig {
            server,
            dct_config: self.dct_config.or(file.dct_config),
            allow_insecure: self.allow_insecure_dct.or(file.allow_insecure_dct).unwrap_or(false),
            vendor_annotations: self.vendor_annotations.or(file.vendor_annotations).unwrap_or(false),
            claim_events: self.claim_events.or(file.claim_events).unwrap_or(false),
            namespace: self.namespace.or(file.namespace),
            node: DelphixNode {
                name: super::serve::node_id(self.node_id.or(file.node_id))?,
                addresses,
                max_volumes: self.max_volumes_per_node.or(file.max_volumes_per_node).unwrap_or(0),
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> DelphixOptions {
        super::super::parse(text).unwrap()
    }

    #[test]
    fn the_delphix_driver_has_a_name_of_its_own_unless_another_is_given() {
        let plain = DelphixOptions::default().resolve(file("node-id = \"n1\"")).unwrap();
        assert_eq!(plain.server.driver_name, DEFAULT_DELPHIX_NAME);
        assert!(!plain.allow_insecure && !plain.vendor_annotations && !plain.claim_events);
        let named =
            DelphixOptions::default().resolve(file("driver-name = \"x.example\"\nvendor-annotations = true"));
        let named = named.unwrap();
        assert_eq!((named.server.driver_name.as_str(), named.vendor_annotations), ("x.example", true));
    }

    #[test]
    fn an_address_that_no_engine_could_let_in_is_refused() {
        fn check(addresses: &str, good: bool) {
            let given = file(&format!("node-id = \"n1\"\nnode-address = [{addresses}]"));
            let resolved = DelphixOptions::default().resolve(given);
            assert_eq!(resolved.is_ok(), good, "{addresses}");
        }
        check("\"10.0.0.1\", \"fd00::1\"", true);
        check("\"0.0.0.0\"", false);
        check("\"ff02::1\"", false);
        check("", true);
    }
}
