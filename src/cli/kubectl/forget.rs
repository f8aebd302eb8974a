//! `kubectl offshoot forget-node`: letting go of what was on a node that does not come back.

use anyhow::{Result, bail};
use clap::Args;
use serde::Serialize;

use super::{World, confirm};
use crate::cli::output::{Output, Style, clean};
use crate::cluster::lost::{Loss, Outcome, refusal, release, survey};
use crate::volume::PoolId;

/// Let go of the PVCs, PersistentVolumes and snapshots of a node that is gone for good
///
/// THE DATA OF THESE VOLUMES WAS ON THE LOST NODE ONLY; this cannot bring it back, and if the node returns, Kubernetes no
/// longer knows it. Refused while the node is Ready or its agent answers. First says what would go, and asks. May be broken
/// off and repeated; ends with 1 if something remained, and says what and why. Finalizers of others are never taken away.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:\n\
\x20 kubectl offshoot forget-node worker-3 --dry-run\n\
\x20 kubectl offshoot forget-node worker-3\n\
\x20 kubectl offshoot forget-node worker-3 --yes --output json")]
pub(super) struct ForgetNode {
    /// The node
    #[arg(value_name = "NODE")]
    node: String,
    /// Say what would be let go of, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
    /// The id of a pool that was on the node, if only snapshots are left of it; give it once per pool
    #[arg(long = "pool", value_name = "ID", value_parser = pool)]
    pools: Vec<PoolId>,
    #[command(flatten)]
    output: Output,
}

fn pool(text: &str) -> Result<PoolId, String> {
    text.parse()
        .map_err(|_| "is not the id of a pool: eight characters, the second part of a volume's id".to_owned())
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Report<'a> {
    dry_run: bool,
    loss: &'a Loss,
    outcomes: &'a [Outcome],
}

impl ForgetNode {
    pub(super) async fn run(self, world: &World) -> Result<()> {
        let (loss, answers) = survey(&world.access, world.driver.as_ref(), &self.node, &self.pools).await?;
        if let Some(reason) = refusal(&world.access, &answers, &self.node).await? {
            bail!("{reason}");
        }
        if self.dry_run || loss.is_empty() {
            let report = Report { dry_run: self.dry_run, loss: &loss, outcomes: &[] };
            return self.output.print(&report, &[], |style| draw(style, &loss));
        }
        let question = format!(
            "{}\nTHE DATA OF THESE VOLUMES WAS ON NODE {} ONLY AND CANNOT BE BROUGHT BACK.\n",
            draw(&Style::of_stderr(), &loss),
            self.node
        );
        confirm(self.yes, &question, &self.node)?;
        let outcomes = release(&world.access, &loss, |outcome| tracing::debug!(?outcome, "let go")).await;
        let report = Report { dry_run: false, loss: &loss, outcomes: &outcomes };
        self.output.print(&report, &[], |_| draw_outcomes(&outcomes))?;
        let remained = outcomes.iter().filter(|outcome| outcome.remains.is_some()).count();
        if remained > 0 {
            bail!(
                "{remained} of {} objects remain; do what is said there, and run this again",
                outcomes.len()
            );
        }
        Ok(())
    }
}

fn draw(style: &Style, loss: &Loss) -> String {
    let mut text = String::new();
    if loss.is_empty() {
        text += &format!("Kubernetes holds nothing of node {} that could be let go of\n", clean(&loss.node));
    } else {
        let row = |kind: &str, object: &str, of: Option<String>, id: &str| {
            vec![kind.to_owned(), of.unwrap_or_default(), object.to_owned(), id.to_owned()]
        };
        let mut rows = Vec::new();
        for volume in &loss.volumes {
            let of = volume.claim.as_ref().map(|claim| claim.name.to_string());
            rows.push(row("volume", &volume.name, of, &volume.id));
        }
        for snapshot in &loss.snapshots {
            let of = snapshot.snapshot.as_ref().map(|of| of.name.to_string());
            rows.push(row("snapshot", &snapshot.name, of, &snapshot.id));
        }
        for group in &loss.groups {
            let of = group.snapshot.as_ref().map(|of| of.name.to_string());
            rows.push(row("group", &group.name, of, &group.id));
        }
        text += &style.table(&["KIND", "NAME", "OBJECT", "ID"], rows);
        let count = (loss.volumes.len(), loss.snapshots.len(), loss.groups.len());
        text += &format!(
            "{} volumes, {} snapshots, {} groups of pools {}\n",
            count.0,
            count.1,
            count.2,
            loss.pools.join(", ")
        );
    }
    for kept in &loss.kept {
        text += &format!("let alone: {}: {}\n", clean(&kept.object), clean(&kept.reason));
    }
    text
}

fn draw_outcomes(outcomes: &[Outcome]) -> String {
    let mut text = String::new();
    for outcome in outcomes {
        text += &match &outcome.remains {
            None => format!("gone     {}\n", clean(&outcome.object)),
            Some(reason) => format!("REMAINS  {}: {}\n", clean(&outcome.object), clean(reason)),
        };
    }
    text
}
