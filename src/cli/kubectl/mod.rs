//! `kubectl offshoot`: the driver, seen from the cluster.
//!
//! An administrator thinks in claims, VolumeSnapshots and nodes; the driver's own commands speak of ids and pools. The
//! plugin brings both together: it reads the cluster with the person's own kubeconfig and rights, and asks the driver by
//! running `offshoot` in the controller's pod. It is this same binary: started as `kubectl-offshoot` it has these commands
//! and no other.

mod doctor;
mod forget;
mod orphans;
mod pools;
mod replace;
mod support;
#[cfg(test)]
mod testing;
mod tree;
mod uninstall;

use std::ffi::OsString;
use std::io::{BufRead as _, IsTerminal as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use async_trait::async_trait;
use clap::{Args, Parser, Subcommand};
use tokio::sync::OnceCell;

use super::session::block_on;
use crate::cluster::access::{Access, Target};
use crate::cluster::driver::{ControllerPod, Driver, Ran};
use crate::config::DEFAULT_DRIVER_NAME;

/// See and command Offshoot from a Kubernetes cluster
///
/// Reads the cluster with your kubeconfig and your rights, and asks the driver by running `offshoot` in the controller's
/// pod, for which you need the right to create pods/exec in its namespace.
#[derive(Debug, Parser)]
#[command(name = "kubectl-offshoot", bin_name = "kubectl offshoot", version, propagate_version = true)]
#[command(max_term_width = 100)]
pub struct Plugin {
    #[command(flatten)]
    cluster: Cluster,
    #[command(subcommand)]
    command: Command,
}

/// Which cluster and which driver.
#[derive(Debug, Clone, Args)]
struct Cluster {
    /// Kubeconfig file [default: KUBECONFIG, else ~/.kube/config]
    #[arg(long, global = true, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig [default: its current one]
    #[arg(long, global = true, value_name = "NAME")]
    context: Option<String>,
    /// Namespace of claims and VolumeSnapshots [default: the context's]
    #[arg(long, short, global = true, value_name = "NAME")]
    namespace: Option<String>,
    /// Namespace that the driver runs in [default: found by the labels of its pods]
    #[arg(long, global = true, env = "OFFSHOOT_NAMESPACE", value_name = "NAME")]
    driver_namespace: Option<String>,
    /// Name of the driver, as StorageClasses say it
    #[arg(long, global = true, env = "OFFSHOOT_DRIVER_NAME", value_name = "NAME", default_value = DEFAULT_DRIVER_NAME)]
    driver_name: String,
}

#[derive(Debug, Subcommand)]
enum Command {
    Tree(tree::Tree),
    Pools(pools::Pools),
    Orphans(orphans::Orphans),
    Rewind(replace::Rewind),
    Refresh(replace::Refresh),
    ForgetNode(forget::ForgetNode),
    Doctor(doctor::Doctor),
    SupportBundle(support::SupportBundle),
    UninstallCheck(uninstall::UninstallCheck),
}

/// What the commands ask.
struct World {
    access: Access,
    driver: Arc<dyn Driver>,
}

impl Plugin {
    /// Runs the command to its end.
    pub fn run(self) -> Result<()> {
        block_on(async {
            let target = Target {
                kubeconfig: self.cluster.kubeconfig,
                context: self.cluster.context,
                namespace: self.cluster.namespace,
                driver: self.cluster.driver_name,
                driver_namespace: self.cluster.driver_namespace,
            };
            let access = Access::open(target).await?;
            let driver = Arc::new(Found { access: access.clone(), pod: OnceCell::new() });
            self.command.run(&World { access, driver }).await
        })
    }
}

impl Command {
    async fn run(self, world: &World) -> Result<()> {
        match self {
            Command::Tree(tree) => tree.run(world).await,
            Command::Pools(pools) => pools.run(world).await,
            Command::Orphans(orphans) => orphans.run(world).await,
            Command::Rewind(rewind) => rewind.run(world).await,
            Command::Refresh(refresh) => refresh.run(world).await,
            Command::ForgetNode(forget) => forget.run(world).await,
            Command::Doctor(doctor) => doctor.run(world).await,
            Command::SupportBundle(support) => support.run(world).await,
            Command::UninstallCheck(check) => check.run(world).await,
        }
    }
}

/// The controller's pod, found when it is first needed.
struct Found {
    access: Access,
    pod: OnceCell<ControllerPod>,
}

#[async_trait]
impl Driver for Found {
    async fn run(&self, args: &[&str]) -> Result<Ran> {
        self.pod.get_or_try_init(|| ControllerPod::find(&self.access)).await?.run(args).await
    }
}

/// Asks for `word` before something is done that cannot be undone.
///
/// Fails where it is not given, and without a terminal to ask on.
#[allow(clippy::print_stderr, reason = "a question beside the answer")]
fn confirm(yes: bool, about: &str, word: &str) -> Result<()> {
    if yes {
        return Ok(());
    }
    let (input, output) = (std::io::stdin(), std::io::stderr());
    if !input.is_terminal() || !output.is_terminal() {
        bail!("there is no terminal to ask on; look with --dry-run or without --reap first, then give --yes");
    }
    eprint!("{about}type {word} to go on: ");
    let mut answer = String::new();
    input.lock().read_line(&mut answer).context("cannot read the answer")?;
    if answer.trim() != word {
        bail!("nothing was changed");
    }
    Ok(())
}

/// Whether a program of this name is kubectl's plugin.
pub(super) fn is_plugin(program: Option<&OsString>) -> bool {
    let name = program.and_then(|program| Path::new(program).file_stem());
    name.is_some_and(|name| name == "kubectl-offshoot")
}

#[cfg(test)]
mod tests;
