//! `kubectl offshoot rewind` and `refresh`: other bytes behind the same claim.

use anyhow::{Result, bail};
use clap::Args;
use serde::{Deserialize, Serialize};

use super::World;
use crate::cli::output::Output;
use crate::cluster::claims::{Name, snapshot_of, users_of, volume_of};
use crate::cluster::driver::ask;

/// Take a PVC back, in place, to one of its own VolumeSnapshots
///
/// The PVC, its PersistentVolume and everything that refers to them stay as they are. What the volume held before is kept
/// as an undo snapshot, whose id is printed: --to takes it too, so that a rewind can be rewound. No pod may use the PVC;
/// scale its workload to zero first.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:\n\
\x20 kubectl offshoot rewind -n shop db --to monday\n\
\x20 kubectl offshoot rewind db --to s-k3v9xq2m-0190c7a51b7c7e0d8f6a3b2c1d0e9f8a")]
pub(super) struct Rewind {
    /// The PVC
    #[arg(value_name = "PVC")]
    claim: String,
    /// The VolumeSnapshot, or the id of an undo snapshot
    #[arg(long, value_name = "VOLUMESNAPSHOT")]
    to: String,
    #[command(flatten)]
    output: Output,
}

/// Bring the copy behind a PVC up to date, in place, from what it was copied from
///
/// Without --from, the copy gets what its source holds now. The PVC stays as it is; what the volume held before is kept as
/// an undo snapshot, whose id is printed. No pod may use the PVC; scale its workload to zero first.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:\n\
\x20 kubectl offshoot refresh -n dev db-anna\n\
\x20 kubectl offshoot refresh -n dev db-anna --from shop/tuesday")]
pub(super) struct Refresh {
    /// The PVC
    #[arg(value_name = "PVC")]
    claim: String,
    /// A VolumeSnapshot of its source, with its namespace if that is another [default: the source as it is now]
    #[arg(long, value_name = "VOLUMESNAPSHOT")]
    from: Option<String>,
    #[command(flatten)]
    output: Output,
}

/// What the driver answers, and what is shown.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Replaced {
    id: String,
    snapshot_id: Option<String>,
    undo_snapshot_id: String,
}

impl Rewind {
    pub(super) async fn run(self, world: &World) -> Result<()> {
        let claim = Name::read(&self.claim, &world.access.namespace);
        let volume = free_volume(world, &claim).await?;
        let snapshot = snapshot_of(&world.access, &self.to).await?;
        let done: Replaced = ask(world.driver.as_ref(), &["rewind", &volume, &snapshot]).await?;
        self.output.print(&done, &[&done.undo_snapshot_id], |_| done.draw("rewound", &claim))
    }
}

impl Refresh {
    pub(super) async fn run(self, world: &World) -> Result<()> {
        let claim = Name::read(&self.claim, &world.access.namespace);
        let volume = free_volume(world, &claim).await?;
        let from = match &self.from {
            Some(from) => Some(snapshot_of(&world.access, from).await?),
            None => None,
        };
        let mut args = vec!["refresh", volume.as_str()];
        args.extend(from.iter().flat_map(|from| ["--from", from]));
        let done: Replaced = ask(world.driver.as_ref(), &args).await?;
        self.output.print(&done, &[&done.undo_snapshot_id], |_| done.draw("refreshed", &claim))
    }
}

/// The volume of a claim that no pod uses. The driver looks too, but knows no pods to name, and none that only wait.
async fn free_volume(world: &World, claim: &Name) -> Result<String> {
    let volume = volume_of(&world.access, claim).await?;
    let users = users_of(&world.access, claim).await?;
    if !users.is_empty() {
        bail!(
            "PVC {claim} is used by {}; stop what uses it first, for example by scaling it to zero",
            users.join(", ")
        );
    }
    Ok(volume)
}

impl Replaced {
    fn draw(&self, what: &str, claim: &Name) -> String {
        let (Name { namespace, name }, undo) = (claim, &self.undo_snapshot_id);
        let from = self.snapshot_id.as_deref().unwrap_or("its source as it was just now");
        format!(
            "{what} PVC {claim} to {from}\n\
             before that it held {undo}\n\
             to go back: kubectl offshoot rewind -n {namespace} {name} --to {undo}\n"
        )
    }
}
