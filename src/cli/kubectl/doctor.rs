//! `kubectl offshoot doctor`: what is wrong between Kubernetes and the driver.

use anyhow::{Result, bail};
use clap::Args;

use super::World;
use crate::cli::doctor::{Checks, FAIL};
use crate::cli::output::Output;
use crate::cluster::checks::examine;

/// Check the installation in the cluster, and say how to mend what is wrong
///
/// Looks at the CSIDriver, the controller and its sidecars, the agents and their registration with kubelet, whether they
/// answer, pools, StorageClasses, versions and certificates. Changes nothing. Ends with 1 if a check fails; a warning is no
/// failure.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:\n  kubectl offshoot doctor\n  kubectl offshoot doctor --output json")]
pub(super) struct Doctor {
    #[command(flatten)]
    output: Output,
}

impl Doctor {
    pub(super) async fn run(self, world: &World) -> Result<()> {
        let checks = Checks::of(examine(&world.access, world.driver.as_ref()).await);
        self.output.print(&checks, &[], |style| checks.draw(style))?;
        match checks.count(FAIL) {
            0 => Ok(()),
            failed => bail!("{failed} of {} checks failed", checks.len()),
        }
    }
}
