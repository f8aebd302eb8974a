//! The settings of `offshoot node`: those of a machine with pools, and how it stands in its cluster.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Result, bail};

use super::{Config, Endpoint};

/// Where an agent listens if nothing is said.
pub const DEFAULT_AGENT_LISTEN: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED), 9811);
/// The port on which controllers sign certificates if nothing is said.
pub const DEFAULT_ENROL_PORT: u16 = 9812;
/// Where the token and the authorities are mounted if nothing is said.
pub const DEFAULT_ENROL_DIR: &str = "/var/run/offshoot";

machine_options! {
    /// What can be set for `offshoot node`. A field that is `None` or empty was not set here.
    pub struct NodeOptions {
        /// Address for the controller and other agents, with mutual TLS [default: every address, port 9811]
        #[arg(long, env = "OFFSHOOT_AGENT_LISTEN", value_name = "IP:PORT")]
        pub agent_listen: Option<SocketAddr>,

        /// Directory with this node's tls.crt, tls.key and ca.crt, read again when they change; instead of --enrol-service
        #[arg(long, env = "OFFSHOOT_TLS_DIR", value_name = "DIR")]
        pub tls_dir: Option<PathBuf>,

        /// Service or HOST:PORT of the controller, which signs this node's certificate
        #[arg(long, env = "OFFSHOOT_ENROL_SERVICE", value_name = "NAME")]
        pub enrol_service: Option<String>,

        /// Directory with the service account's token (token, audience offshoot) and the controller's authorities (ca.crt) [default: /var/run/offshoot]
        #[arg(long, env = "OFFSHOOT_ENROL_DIR", value_name = "DIR")]
        pub enrol_dir: Option<PathBuf>,

        /// Namespace of --enrol-service [default: that of this pod, by the search list of its DNS]
        #[arg(long, env = "OFFSHOOT_NAMESPACE", value_name = "NAME")]
        pub namespace: Option<String>,

        /// Kubelet's directory for the sockets of plugins, such as /var/lib/kubelet/plugins_registry [default: none, a registrar does it]
        #[arg(long, env = "OFFSHOOT_REGISTRATION_DIR", value_name = "DIR")]
        pub registration_dir: Option<PathBuf>,

        /// Path of --endpoint as kubelet sees it, where that is another one [default: that of --endpoint]
        #[arg(long, env = "OFFSHOOT_KUBELET_ENDPOINT", value_name = "SOCKET")]
        pub kubelet_endpoint: Option<Endpoint>,
    }
}

/// Where an agent's certificate comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identity {
    /// Files in a directory.
    Directory(PathBuf),
    /// The controller signs it.
    Enrol {
        /// HOST:PORT of the controller.
        address: String,
        /// The directory of token and authorities.
        dir: PathBuf,
    },
}

/// The settings that hold for a node agent.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeConfig {
    /// What every role with pools has.
    pub machine: Config,
    /// The address for the controller and other agents.
    pub agent_listen: SocketAddr,
    /// Where the certificate comes from.
    pub identity: Identity,
    /// Kubelet's directory for plugins.
    pub registration_dir: Option<PathBuf>,
    /// The CSI socket as kubelet sees it.
    pub kubelet_endpoint: PathBuf,
}

impl NodeOptions {
    /// What holds: these, else those of `file`, else the defaults.
    ///
    /// Fails as [`ServeOptions::resolve`](super::ServeOptions::resolve) does, and where it is not said, or said twice,
    /// where the certificate comes from.
    pub fn resolve(mut self, mut file: NodeOptions) -> Result<NodeConfig> {
        let machine = self.take_machine(&mut file)?;
        let tls_dir = self.tls_dir.or(file.tls_dir);
        let service = self.enrol_service.or(file.enrol_service);
        let namespace = self.namespace.or(file.namespace);
        let identity = match (tls_dir, service) {
            (Some(dir), None) => Identity::Directory(dir),
            (None, Some(service)) => Identity::Enrol {
                address: enrol_address(&service, namespace.as_deref()),
                dir: self.enrol_dir.or(file.enrol_dir).unwrap_or_else(|| DEFAULT_ENROL_DIR.into()),
            },
            (None, None) => bail!(
                "a node agent needs a certificate; give its directory with --tls-dir, or the controller that signs one with --enrol-service"
            ),
            (Some(_), Some(_)) => bail!("--tls-dir and --enrol-service exclude each other; give one of them"),
        };
        Ok(NodeConfig {
            agent_listen: self.agent_listen.or(file.agent_listen).unwrap_or(DEFAULT_AGENT_LISTEN),
            identity,
            registration_dir: self.registration_dir.or(file.registration_dir),
            kubelet_endpoint: self
                .kubelet_endpoint
                .or(file.kubelet_endpoint)
                .map_or_else(|| machine.server.endpoint.clone(), |endpoint| endpoint.0),
            machine,
        })
    }
}

/// HOST:PORT of what was given as the name of a Service, a host, or both with a port.
///
/// The name of a Service is found by DNS, so that a node needs no right at the API server.
fn enrol_address(service: &str, namespace: Option<&str>) -> String {
    let has_port = service.rsplit_once(':').is_some_and(|(host, port)| {
        port.parse::<u16>().is_ok() && (!host.contains(':') || host.ends_with(']'))
    });
    if has_port {
        return service.to_owned();
    }
    match namespace {
        Some(namespace) if !service.contains(['.', ':', '[']) => {
            format!("{service}.{namespace}.svc:{DEFAULT_ENROL_PORT}")
        }
        _ if service.contains(':') && !service.starts_with('[') => {
            format!("[{service}]:{DEFAULT_ENROL_PORT}")
        }
        _ => format!("{service}:{DEFAULT_ENROL_PORT}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_controller_is_a_service_a_host_or_an_address() {
        fn check(service: &str, namespace: Option<&str>, expect: &str) {
            assert_eq!(enrol_address(service, namespace), expect);
        }
        check("offshoot-controller", Some("offshoot"), "offshoot-controller.offshoot.svc:9812");
        check("offshoot-controller", None, "offshoot-controller:9812");
        check("controller.example.org", Some("offshoot"), "controller.example.org:9812");
        check("controller:1234", Some("offshoot"), "controller:1234");
        check("10.0.0.1:1234", None, "10.0.0.1:1234");
        check("10.0.0.1", Some("x"), "10.0.0.1:9812");
        check("[fd00::1]:1234", None, "[fd00::1]:1234");
        check("[fd00::1]", None, "[fd00::1]:9812");
        check("fd00::1", Some("x"), "[fd00::1]:9812");
    }

    fn resolve(file: &str) -> Result<NodeConfig> {
        let flags = NodeOptions { node_id: Some("a".parse()?), ..NodeOptions::default() };
        flags.resolve(super::super::parse(file)?)
    }

    #[test]
    fn a_certificate_comes_from_one_place() {
        fn check(file: &str, expect: Result<Identity, &str>) {
            match (resolve(file), expect) {
                (Ok(config), Ok(identity)) => assert_eq!(config.identity, identity),
                (Err(error), Err(text)) => assert!(format!("{error:#}").contains(text), "{error:#}"),
                (found, expect) => panic!("{found:?} and not {expect:?}"),
            }
        }
        check("tls-dir = '/t'", Ok(Identity::Directory("/t".into())));
        let enrol = Identity::Enrol { address: "c.n.svc:9812".to_owned(), dir: DEFAULT_ENROL_DIR.into() };
        check("enrol-service = 'c'\nnamespace = 'n'", Ok(enrol));
        check("", Err("give its directory with --tls-dir"));
        check("tls-dir = '/t'\nenrol-service = 'c'", Err("exclude each other"));
    }

    #[test]
    fn kubelet_sees_the_socket_where_it_is_unless_something_else_is_said() {
        let config = resolve("endpoint = '/csi/csi.sock'\ntls-dir = '/t'").unwrap();
        assert_eq!(config.kubelet_endpoint, std::path::Path::new("/csi/csi.sock"));
        assert_eq!(config.agent_listen, DEFAULT_AGENT_LISTEN);
        let config = resolve("kubelet-endpoint = '/k/csi.sock'\ntls-dir = '/t'").unwrap();
        assert_eq!(config.kubelet_endpoint, std::path::Path::new("/k/csi.sock"));
    }
}
