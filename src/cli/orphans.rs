//! `offshoot orphans`: left-overs of interrupted work, and taking away those that are proven to be.

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use serde::Serialize;

use super::output::{Style, human};
use super::session::{Common, bytes, said};
use super::view::yes_no;
use crate::proto::offshoot::{self, ListOrphansRequest, ReapOrphansRequest};

/// Look at left-overs of interrupted work, and take the proven ones away
///
/// A left-over is what takes up room in a pool and has no record. Only what is certain to be Offshoot's own, and
/// unused, is ever deleted; everything else is yours to judge.
#[derive(Debug, Args)]
pub(super) struct Orphans {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    #[command(visible_alias = "ls")]
    List(List),
    Reap(Reap),
}

impl Orphans {
    pub(super) fn run(self) -> Result<()> {
        match self.command {
            Command::List(list) => list.run(),
            Command::Reap(reap) => reap.run(),
        }
    }
}

/// List left-overs
#[derive(Debug, Args)]
#[command(after_long_help = "Example:\n  offshoot orphans list")]
struct List {
    #[command(flatten)]
    common: Common,
}

/// Delete left-overs that are proven to be Offshoot's own
///
/// Without an ID, all proven ones. What is kept says why.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:\n  offshoot orphans reap --dry-run\n  offshoot orphans reap")]
struct Reap {
    /// Only these, as `orphans list` names them
    #[arg(value_name = "ID")]
    ids: Vec<String>,
    /// Say what would be deleted, and delete nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Orphan {
    id: String,
    kind: String,
    path: String,
    pool: String,
    pool_id: String,
    size_bytes: u64,
    reason: String,
    proven: bool,
}

impl Orphan {
    fn read(orphans: Vec<offshoot::Orphan>, pools: &BTreeMap<String, String>) -> Vec<Orphan> {
        let read = |orphan: offshoot::Orphan| Orphan {
            id: orphan.id,
            kind: orphan.kind,
            path: orphan.path,
            pool: pools.get(&orphan.pool).unwrap_or(&orphan.pool).clone(),
            pool_id: orphan.pool,
            size_bytes: bytes(orphan.size_bytes),
            reason: orphan.reason,
            proven: orphan.proven,
        };
        orphans.into_iter().map(read).collect()
    }
}

#[derive(Serialize)]
struct Listed {
    orphans: Vec<Orphan>,
    /// Nodes of a cluster whose left-overs are missing here.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    unreachable: Vec<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Reaped {
    dry_run: bool,
    reaped: Vec<Orphan>,
    kept: Vec<Orphan>,
}

impl List {
    fn run(self) -> Result<()> {
        let common = self.common.clone();
        common.run(async |session| {
            let answer = session.whole(session.copies().list_orphans(ListOrphansRequest {}).await)?;
            let orphans = Orphan::read(answer.orphans, &session.pool_names().await?);
            let list = Listed { orphans, unreachable: session.unreachable() };
            let ids: Vec<_> = list.orphans.iter().map(|orphan| orphan.id.as_str()).collect();
            common.output.print(&list, &ids, |style| {
                if list.orphans.is_empty() {
                    return "nothing is left over\n".into();
                }
                let mut text = draw(style, &list.orphans);
                if list.orphans.iter().any(|orphan| orphan.proven) {
                    text += "take the proven ones away with: offshoot orphans reap\n";
                }
                text
            })
        })
    }
}

fn draw(style: &Style, orphans: &[Orphan]) -> String {
    let rows = orphans.iter().map(|orphan| {
        vec![
            orphan.id.clone(),
            orphan.kind.clone(),
            orphan.pool.clone(),
            human(orphan.size_bytes),
            yes_no(orphan.proven).to_owned(),
            orphan.path.clone(),
            orphan.reason.clone(),
        ]
    });
    style.table(&["ID", "KIND", "POOL", ">SIZE", "PROVEN", "PATH", "REASON"], rows.collect())
}

impl Reap {
    fn run(self) -> Result<()> {
        let common = self.common.clone();
        common.run(async |session| {
            let request = ReapOrphansRequest { ids: self.ids.clone(), dry_run: self.dry_run };
            let answer = session.copies().reap_orphans(request).await.map_err(said)?.into_inner();
            let pools = session.pool_names().await?;
            let done = Reaped {
                dry_run: self.dry_run,
                reaped: Orphan::read(answer.reaped, &pools),
                kept: Orphan::read(answer.kept, &pools),
            };
            let ids: Vec<_> = done.reaped.iter().map(|orphan| orphan.id.as_str()).collect();
            common.output.print(&done, &ids, |style| done.draw(style))?;
            let refused =
                self.ids.iter().filter(|id| done.reaped.iter().all(|orphan| orphan.id != **id)).count();
            if refused > 0 {
                bail!(
                    "{refused} of the {} left-overs that were named are not there or were kept",
                    self.ids.len()
                );
            }
            Ok(())
        })
    }
}

impl Reaped {
    fn draw(&self, style: &Style) -> String {
        let mut text = String::new();
        let size = human(self.reaped.iter().map(|orphan| orphan.size_bytes).sum());
        let what = if self.dry_run { "would delete" } else { "deleted" };
        text += &format!("{what} {} left-overs, {size}\n", self.reaped.len());
        if !self.reaped.is_empty() {
            text += &draw(style, &self.reaped);
        }
        if !self.kept.is_empty() {
            text += &format!("kept {}\n{}", self.kept.len(), draw(style, &self.kept));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_reaped_and_what_was_kept_is_drawn() {
        let orphan = |id: &str, proven| offshoot::Orphan {
            id: id.into(),
            kind: "temporary file".into(),
            path: format!("/srv/fast/volumes/{id}"),
            pool: "aaaaaaaa".into(),
            size_bytes: 5 << 20,
            reason: if proven { "no record speaks of it" } else { "its name is none of ours" }.into(),
            proven,
        };
        let pools = crate::cli::tests_samples::pools();
        let done = Reaped {
            dry_run: true,
            reaped: Orphan::read(vec![orphan("a.new", true)], &pools),
            kept: Orphan::read(vec![orphan("holiday.jpg", false)], &pools),
        };
        insta::assert_snapshot!("reaped", done.draw(&Style::PLAIN));
    }
}
