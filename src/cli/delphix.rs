//! `offshoot delphix serve | controller | node`: the Delphix driver, whole or one role of it.
//!
//! The controller has the API key and no rights on any machine; a node may mount and has no key.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use clap::Subcommand;

use super::role;
use crate::backend::delphix::{Dcts, Settings};
use crate::cluster::controller::Cluster;
use crate::cluster::delphix::Claims;
use crate::config::{DelphixConfig, DelphixNode, DelphixOptions};
use crate::csi::calls::CallLayer;
use crate::csi::delphix::DelphixEdge;
use crate::csi::server;
use crate::csi::socket::Socket;
use crate::delphix::id::NodeId;
use crate::delphix::node::{Limits, Node};
use crate::delphix::{self, Driver};
use crate::host::Host;
use crate::host::linux::Linux;
use crate::metrics::Metrics;

/// Serve virtual databases and files of Delphix engines, through Data Control Tower
///
/// A driver of its own, beside the one for the disks of the nodes. Every other command works with it too: name its
/// socket with --socket.
#[derive(Debug, clap::Args)]
pub(super) struct Delphix {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve the controller's and the node's calls in one process: for one machine, and for tests
    Serve(Box<Options>),
    /// Serve the controller's calls: the only role that talks to the DCT, and the only one with its API key
    Controller(Box<Options>),
    /// Serve a node's calls: mounts exports over NFS
    Node(Box<Options>),
}

/// Every option can also be given in the environment (as shown), or in the file of --config under the same name
/// without dashes in front. The command line is stronger than the environment, that than the file, that than the
/// default.
#[derive(Debug, clap::Args)]
struct Options {
    /// File of settings in TOML; its keys are the names of the options below
    #[arg(long, env = "OFFSHOOT_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,

    #[command(flatten)]
    options: DelphixOptions,
}

impl Delphix {
    pub(super) fn run(self) -> Result<()> {
        let (name, options, controller, node) = match self.command {
            Command::Serve(options) => ("offshoot-delphix", options, true, true),
            Command::Controller(options) => ("offshoot-delphix-controller", options, true, false),
            Command::Node(options) => ("offshoot-delphix-node", options, false, true),
        };
        let file = options.config.as_deref().map(DelphixOptions::read).transpose()?.unwrap_or_default();
        let config = options.options.resolve(file)?;
        role::run(&config.server.telemetry(), name, || serve(config, controller, node))
    }
}

async fn serve(config: DelphixConfig, controller: bool, node: bool) -> Result<()> {
    let server = config.server.clone();
    let id = if node { node_id(&Linux::new(), &config.node)? } else { String::new() };
    let (metrics, stop) = role::begin(&server.driver_name, &id)?;
    // Before any work, so that a taken address is an error at start.
    let socket = Socket::bind(&server.endpoint)?;
    let driver = if controller { Some(driver(&config, &metrics).await?) } else { None };
    let node =
        node.then(|| Node::new(Arc::new(Linux::new()), &id, config.node.max_volumes, Limits::default()));
    let edge = DelphixEdge::new(&server.driver_name, driver.clone(), node);
    role::admin_page(server.admin_addr, &metrics, Arc::new(edge.clone()), &stop).await?;
    let mut services = tonic::service::Routes::builder();
    edge.add_to(&mut services);
    let health = server::with_reflection_and_health(&mut services)?;
    server::report_health(&health, true).await;
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        socket = %server.endpoint.display(),
        admin = server.admin_addr.map(tracing::field::display),
        node = id,
        driver = server.driver_name,
        "serving"
    );
    let calls = CallLayer::new(metrics, stop.clone());
    let drain = async move {
        if let Some(driver) = driver {
            driver.drain().await;
        }
    };
    server::serve(socket, services.routes(), calls, drain, stop, server.shutdown_timeout).await?;
    tracing::info!("stopped");
    Ok(())
}

async fn driver(config: &DelphixConfig, metrics: &Arc<Metrics>) -> Result<Driver> {
    let Some(file) = &config.dct_config else {
        bail!("the controller knows no DCT; name a file that has them with --dct-config");
    };
    let settings = connections(file, config.allow_insecure)?;
    let cluster = settings.cluster.clone();
    let dcts = Dcts::open_counted(settings, metrics.dct())?;
    let mut wishes = delphix::Settings::default();
    if config.vendor_annotations || config.claim_events {
        let found = Cluster::find(config.namespace.clone()).await?;
        // Kubernetes gives a pod its own name as that of its host.
        let pod = std::env::var("HOSTNAME").ok();
        let claims = Arc::new(Claims::new(&found, &config.server.driver_name, pod.as_deref()));
        wishes.annotations =
            config.vendor_annotations.then(|| claims.clone() as Arc<dyn delphix::Annotations>);
        wishes.tell = config.claim_events.then_some(claims as Arc<dyn delphix::Tell>);
    }
    Ok(Driver::new(&config.server.driver_name, &cluster, dcts, wishes))
}

/// Reads which DCTs there are. One whose certificate nobody checks is refused unless that was said twice.
fn connections(file: &Path, allow_insecure: bool) -> Result<Settings> {
    let text = std::fs::read_to_string(file)
        .with_context(|| format!("cannot read --dct-config {}", file.display()))?;
    let settings = Settings::parse(&text)
        .with_context(|| format!("the settings in {} are not understood", file.display()))?;
    if settings.dcts.is_empty() {
        bail!("{} names no DCT; add a section [[dct]] with name, url and key-file", file.display());
    }
    for dct in settings.dcts.iter().filter(|dct| dct.insecure_skip_verify) {
        if !allow_insecure {
            bail!(
                "dct `{}` has insecure-skip-verify: whoever is on the way to it gets the API key; give ca-file instead, or, for \
                 a trial, --allow-insecure-dct",
                dct.name
            );
        }
        tracing::warn!(
            dct = dct.name,
            "NOBODY CHECKS THE CERTIFICATE OF THIS DCT: whoever is on the way to it gets the API key"
        );
    }
    Ok(settings)
}

/// The id by which the controller knows this node: its name, and the addresses that engines have to let in.
fn node_id(host: &dyn Host, node: &DelphixNode) -> Result<String> {
    let mut addresses = node.addresses.clone();
    if addresses.is_empty() {
        addresses.extend(host.addresses().map_err(|error| anyhow::anyhow!("{error}"))?.first());
    }
    if addresses.is_empty() {
        bail!("no address of this node is found that an engine could let in; give one with --node-address");
    }
    let id = NodeId { name: node.name.clone(), addresses }.to_string();
    NodeId::parse("node-address", &id)?;
    Ok(id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fake::Fake;

    #[test]
    fn a_node_is_known_by_its_name_and_where_it_mounts_from() {
        fn check(given: &[&str], found: &[&str], expect: Option<&str>) {
            let read = |all: &[&str]| all.iter().map(|text| text.parse().unwrap()).collect::<Vec<_>>();
            let fake = Fake::new();
            fake.set_addresses(&read(found));
            let node = DelphixNode { name: "worker-1".to_owned(), addresses: read(given), max_volumes: 0 };
            assert_eq!(node_id(&fake, &node).ok().as_deref(), expect);
        }
        check(&[], &["10.0.0.1", "10.0.0.2"], Some("worker-1@10.0.0.1"));
        check(&["10.0.0.7", "fd00::7"], &["10.0.0.1"], Some("worker-1@10.0.0.7,fd00::7"));
        check(&[], &[], None);
        check(&["10.0.0.1"; 1], &[], Some("worker-1@10.0.0.1"));
    }

    #[test]
    fn a_dct_whose_certificate_nobody_checks_has_to_be_asked_for_twice() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("dct.toml");
        let write = |text: &str| std::fs::write(&file, text).unwrap();
        write(
            "[[dct]]\nname = \"a\"\nurl = \"https://dct.example\"\nkey-file = \"/k\"\ninsecure-skip-verify = true\n",
        );
        assert!(format!("{:#}", connections(&file, false).unwrap_err()).contains("--allow-insecure-dct"));
        assert_eq!(connections(&file, true).unwrap().dcts.len(), 1);
        write("cluster = \"c\"\n");
        assert!(format!("{:#}", connections(&file, true).unwrap_err()).contains("[[dct]]"));
        write("[[dct]]\nname = \"a\"\n");
        assert!(format!("{:#}", connections(&file, true).unwrap_err()).contains("not understood"));
    }
}
