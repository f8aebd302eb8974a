//! `kubectl offshoot orphans`: what takes up room and has nobody.

use std::time::Duration;

use anyhow::{Result, bail};
use clap::Args;
use serde::{Deserialize, Serialize};

use super::{World, confirm};
use crate::cli::output::{Output, Style, age, clean, human};
use crate::cli::session::now;
use crate::cluster::driver::{self, Lineage, Object, ask, said};
use crate::cluster::orphans::decide::{Finding, is_suspicious, judge, orphans};
use crate::cluster::orphans::{Held, known_of};
use crate::volume::ObjectId;
use crate::volume::record::Millis;

/// List volumes and snapshots that Kubernetes has forgotten, and left-overs of the agents
///
/// Forgotten is what no PersistentVolume or VolumeSnapshotContent names and what is older than --grace. Undo snapshots,
/// inline volumes and members of groups are wanted, and not shown. With --reap they are deleted, after a last look at
/// each; refused where any list was partial, as when an agent does not answer.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:\n\
\x20 kubectl offshoot orphans\n\
\x20 kubectl offshoot orphans --reap")]
pub(super) struct Orphans {
    /// Delete them
    #[arg(long)]
    reap: bool,
    /// Do not ask
    #[arg(long, short, requires = "reap")]
    yes: bool,
    /// Age from which an object that nothing names counts as forgotten
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = humantime::parse_duration)]
    grace: Duration,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct List {
    orphans: Vec<Orphan>,
    leftovers: Vec<Leftover>,
    unreachable: Vec<String>,
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
struct Orphan {
    id: String,
    kind: &'static str,
    name: String,
    pool: String,
    size_bytes: u64,
    own_bytes: Option<u64>,
    created_at: Option<String>,
    in_use: bool,
    reason: &'static str,
    /// Whether --reap deleted it, and what kept it from that.
    reaped: bool,
    kept: Option<String>,
    #[serde(skip)]
    created: Option<Millis>,
}

/// As `offshoot orphans list` answers it.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Leftover {
    id: String,
    kind: String,
    path: String,
    pool: String,
    size_bytes: u64,
    reason: String,
    proven: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Leftovers {
    orphans: Vec<Leftover>,
    unreachable: Vec<String>,
}

impl Orphans {
    pub(super) async fn run(self, world: &World) -> Result<()> {
        let lineage = driver::lineage(world.driver.as_ref()).await?;
        let leftovers: Leftovers = ask(world.driver.as_ref(), &["orphans", "list"]).await?;
        let held: Vec<Held> = lineage.nodes.iter().filter_map(held).collect();
        let found = self.find(world, &held).await?;
        let mut list = List {
            orphans: found.iter().filter_map(|held| orphan(held, &lineage)).collect(),
            leftovers: leftovers.orphans,
            unreachable: [lineage.unreachable, leftovers.unreachable].concat(),
        };
        list.unreachable.sort();
        list.unreachable.dedup();
        let mut failed = 0;
        if self.reap && !(list.orphans.is_empty() && list.leftovers.is_empty()) {
            if !list.unreachable.is_empty() {
                bail!(
                    "the lists are partial: the agents of {} do not answer; nothing is deleted until they do, or are forgotten with forget-node",
                    list.unreachable.join(", ")
                );
            }
            let mut question = draw(&Style::of_stderr(), &list, now());
            if is_suspicious(found.len(), held.len()) {
                question += &format!(
                    "{} OF {} OBJECTS LOOK FORGOTTEN. HAS THE CLUSTER BEEN RESTORED OR SET UP ANEW?\n",
                    found.len(),
                    held.len()
                );
            }
            confirm(self.yes, &question, "delete")?;
            for (orphan, held) in list.orphans.iter_mut().zip(&found) {
                match self.reap(world, held).await {
                    Ok(()) => orphan.reaped = true,
                    Err(error) => {
                        orphan.kept = Some(format!("{error:#}"));
                        failed += 1;
                    }
                }
            }
            if list.leftovers.iter().any(|leftover| leftover.proven) {
                let ran = world.driver.run(&["orphans", "reap", "--output", "json"]).await?;
                if !ran.ok {
                    bail!("the left-overs of the agents are still there: {}", said(&ran));
                }
            }
        }
        let ids: Vec<&str> = list.orphans.iter().map(|orphan| orphan.id.as_str()).collect();
        self.output.print(&list, &ids, |style| draw(style, &list, now()))?;
        if failed > 0 {
            bail!("{failed} of {} orphans are still there", list.orphans.len());
        }
        Ok(())
    }

    async fn find<'a>(&self, world: &World, held: &'a [Held]) -> Result<Vec<&'a Held>> {
        let known = known_of(&world.access, |known| orphans(held, known, self.grace)).await?;
        Ok(orphans(held, &known, self.grace))
    }

    /// Deletes one after a last look.
    async fn reap(&self, world: &World, held: &Held) -> Result<()> {
        let known = known_of(&world.access, |_| vec![held]).await?;
        if judge(held, &known, self.grace) != Finding::Orphan {
            bail!("something in Kubernetes names it now");
        }
        let kind = if matches!(held.id, ObjectId::Snapshot(_)) { "snapshot" } else { "volume" };
        let id = held.id.to_string();
        let ran = world.driver.run(&[kind, "delete", &id, "--output", "json"]).await?;
        if !ran.ok {
            bail!("{}", said(&ran));
        }
        Ok(())
    }
}

fn held(object: &Object) -> Option<Held> {
    let id: ObjectId = object.id.parse().ok()?;
    let is_group = matches!(id, ObjectId::Group(_));
    (!is_group).then(|| Held {
        id,
        name: object.name.clone(),
        created: object.created(),
        size: object.size_bytes,
        settled: object.state == "ready",
        in_use: object.in_use,
        exempt: Held::exempt(
            |key| object.attributes.contains_key(key),
            &object.name,
            object.group_snapshot_id.is_some(),
        ),
    })
}

fn orphan(held: &Held, lineage: &Lineage) -> Option<Orphan> {
    let id = held.id.to_string();
    let object = lineage.nodes.iter().find(|object| object.id == id)?;
    let is_snapshot = matches!(held.id, ObjectId::Snapshot(_));
    Some(Orphan {
        id,
        kind: if is_snapshot { "snapshot" } else { "volume" },
        name: object.name.clone(),
        pool: object.pool.clone(),
        size_bytes: object.size_bytes,
        own_bytes: object.own_bytes,
        created_at: object.created_at.clone(),
        in_use: held.in_use,
        reason: if is_snapshot {
            "no VolumeSnapshotContent names it"
        } else {
            "no PersistentVolume names it"
        },
        reaped: false,
        kept: None,
        created: held.created,
    })
}

fn draw(style: &Style, list: &List, now: Millis) -> String {
    let mut text = String::new();
    if list.orphans.is_empty() && list.leftovers.is_empty() {
        text += "nothing is forgotten or left over\n";
    } else {
        let forgotten = list.orphans.iter().map(|orphan| {
            let reason = match (&orphan.kept, orphan.reaped) {
                (Some(kept), _) => format!("kept: {kept}"),
                (None, true) => "deleted".to_owned(),
                (None, false) if orphan.in_use => format!("{}, but a node uses it", orphan.reason),
                (None, false) => orphan.reason.to_owned(),
            };
            let own = orphan.own_bytes.map_or_else(|| "?".to_owned(), human);
            vec![
                orphan.kind.to_owned(),
                orphan.id.clone(),
                orphan.pool.clone(),
                own,
                age(orphan.created, now),
                reason,
            ]
        });
        let left = list.leftovers.iter().map(|leftover| {
            let proven = if leftover.proven { "" } else { " (not proven to be ours: never deleted)" };
            let reason = format!("{}{proven}", leftover.reason);
            let cells = [&leftover.kind, &leftover.path, &leftover.pool].map(String::clone);
            cells.into_iter().chain([human(leftover.size_bytes), String::new(), reason]).collect()
        });
        text +=
            &style.table(&["KIND", "ID", "POOL", ">SIZE", ">AGE", "REASON"], forgotten.chain(left).collect());
    }
    for node in &list.unreachable {
        text += &format!("what is on node {} is not known: its agent does not answer\n", clean(node));
    }
    text
}
