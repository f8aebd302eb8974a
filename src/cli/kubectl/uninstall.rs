//! `kubectl offshoot uninstall-check`: whether the driver may go.

use anyhow::{Result, bail};
use clap::Args;

use super::World;
use crate::cli::output::print;
use crate::cluster::claims::{Left, left};

/// Refuse where volumes or snapshots of the driver are left, as the chart's hook before an uninstall does
///
/// Without the driver nothing mounts, grows or deletes them any more, and their finalizers hold them for ever. Ends with 1
/// and says what is left, also where it cannot be found out.
#[derive(Debug, Args)]
#[command(after_long_help = "Example:\n  kubectl offshoot uninstall-check")]
pub(super) struct UninstallCheck {
    /// What takes back that the release is marked as being uninstalled; told where it is refused
    #[arg(long, value_name = "COMMAND")]
    back: Option<String>,
}

impl UninstallCheck {
    pub(super) async fn run(self, world: &World) -> Result<()> {
        let Left { volumes, snapshots, groups, examples } = left(&world.access).await?;
        if volumes + snapshots + groups == 0 {
            return print("nothing of the driver is left: it can be uninstalled\n");
        }
        let back = self.back.map(|command| format!("; `{command}` tells Helm so")).unwrap_or_default();
        bail!(
            "{} still has {volumes} PersistentVolumes, {snapshots} VolumeSnapshotContents and {groups} VolumeGroupSnapshotContents \
             ({}); delete their PVCs and VolumeSnapshots first and wait until these are gone, or give the volumes another owner. \
             Nothing was uninstalled{back}",
            world.access.driver,
            examples.join(", ")
        );
    }
}
