//! `offshoot snapshot`: take, look at and delete snapshots.

use std::time::Instant;

use anyhow::Result;
use clap::{Args, Subcommand};
use serde::Serialize;

use super::output::{clean, human, rfc3339, sheet};
use super::progress::watched;
use super::session::{Common, bytes, millis, now, said};
use super::view::{Object, objects, some};
use super::volume_change::Deleted;
use super::volume_make::took;
use crate::proto::csi::{self, CreateSnapshotRequest, DeleteSnapshotRequest};
use crate::proto::offshoot::lineage_node::Kind;

/// Take, look at and delete snapshots
///
/// Where a SNAPSHOT is asked for, give its name, its id, or the last eight characters of its id.
#[derive(Debug, Args)]
pub(super) struct Snapshot {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    #[command(visible_alias = "ls")]
    List(List),
    Show(Show),
    Create(Create),
    #[command(visible_alias = "rm")]
    Delete(Delete),
}

impl Snapshot {
    pub(super) fn run(self) -> Result<()> {
        match self.command {
            Command::List(list) => list.run(),
            Command::Show(show) => show.run(),
            Command::Create(create) => create.run(),
            Command::Delete(delete) => delete.run(),
        }
    }
}

/// List snapshots with what each costs
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:\n  offshoot snapshot list\n  offshoot snapshot list --volume db")]
struct List {
    /// Only those of this volume: its name or id
    #[arg(long, value_name = "VOLUME")]
    volume: Option<String>,
    #[command(flatten)]
    common: Common,
}

#[derive(Serialize)]
struct Snapshots {
    snapshots: Vec<Object>,
}

impl List {
    fn run(self) -> Result<()> {
        let common = self.common.clone();
        common.run(async |session| {
            let volume = match &self.volume {
                Some(volume) => Some(session.volume(volume).await?),
                None => None,
            };
            let mut snapshots = session.objects(Kind::Snapshot).await?;
            snapshots.retain(|snapshot| volume.is_none() || snapshot.parent_id == volume);
            let list = Snapshots { snapshots };
            let ids: Vec<_> = list.snapshots.iter().map(|snapshot| snapshot.id.as_str()).collect();
            common.output.print(&list, &ids, |style| objects(style, &list.snapshots, now()))
        })
    }
}

/// Show one snapshot
#[derive(Debug, Args)]
#[command(after_long_help = "Example:\n  offshoot snapshot show monday")]
struct Show {
    /// The snapshot: its name or id
    #[arg(value_name = "SNAPSHOT")]
    snapshot: String,
    #[command(flatten)]
    common: Common,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown {
    #[serde(flatten)]
    object: Object,
    /// The volumes that were made of it.
    copies: Vec<String>,
}

impl Show {
    fn run(self) -> Result<()> {
        let common = self.common.clone();
        common.run(async |session| {
            let id = session.snapshot(&self.snapshot).await?;
            let all = session.objects_all().await?;
            let Some(object) = all.iter().find(|object| object.id == id).cloned() else {
                anyhow::bail!("no snapshot has the id {id}; see what there is with `offshoot snapshot list`");
            };
            let copies = all.iter().filter(|object| object.parent_id.as_deref() == Some(&id));
            let copies = copies.map(|copy| copy.id.clone()).collect();
            let shown = Shown { object, copies };
            common.output.print(&shown, &[&shown.object.id], |_| {
                let mut lines = shown.object.sheet(now());
                lines.push(("copies", shown.copies.join(", ")));
                lines
                    .extend(shown.object.attributes.iter().map(|(key, value)| (key.as_str(), value.clone())));
                sheet(&lines)
            })
        })
    }
}

/// Take a snapshot of a volume as it is now
///
/// Takes milliseconds where the pool can share bytes, whatever the size. A volume in use is frozen for that moment:
/// the snapshot is what a crash at that moment would have left, which every filesystem and database recovers from.
/// Without a NAME it is called VOLUME-YYYYMMDD-HHMMSS, by the time in UTC.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:\n\
\x20 offshoot snapshot create db monday\n\
\x20 offshoot snapshot create db")]
struct Create {
    /// The volume: its name or id
    #[arg(value_name = "VOLUME")]
    volume: String,
    /// The snapshot's name
    #[arg(value_name = "NAME")]
    name: Option<String>,
    #[command(flatten)]
    common: Common,
}

/// A snapshot that was taken.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Taken {
    pub(super) id: String,
    pub(super) name: Option<String>,
    pub(super) source_volume_id: String,
    pub(super) size_bytes: u64,
    pub(super) created_at: Option<String>,
    pub(super) group_snapshot_id: Option<String>,
}

impl Taken {
    pub(super) fn new(snapshot: csi::Snapshot, name: Option<String>) -> Taken {
        Taken {
            id: snapshot.snapshot_id,
            name,
            source_volume_id: snapshot.source_volume_id,
            size_bytes: bytes(snapshot.size_bytes),
            created_at: millis(snapshot.creation_time.as_ref()).map(rfc3339),
            group_snapshot_id: some(snapshot.group_snapshot_id),
        }
    }
}

impl Create {
    fn run(self) -> Result<()> {
        let common = self.common.clone();
        common.run(async |session| {
            let source_volume_id = session.volume(&self.volume).await?;
            let name = self.name.unwrap_or_else(|| name_now(&self.volume));
            let request = CreateSnapshotRequest {
                source_volume_id,
                name: name.clone(),
                ..CreateSnapshotRequest::default()
            };
            let start = Instant::now();
            let mut controller = session.controller();
            let quiet = !common.output.is_for_people();
            let answer = watched(&session, quiet, None, controller.create_snapshot(request)).await?;
            let taken = Taken::new(answer.snapshot.unwrap_or_default(), Some(name));
            common.output.print(&taken, &[&taken.id], |_| {
                let name = taken.name.as_deref().map(clean).unwrap_or_default();
                let size = human(taken.size_bytes);
                format!(
                    "took snapshot {name} ({}, {size}) of {} in {}\n",
                    taken.id,
                    taken.source_volume_id,
                    took(start)
                )
            })
        })
    }
}

/// A name made of the volume's and the time.
pub(super) fn name_now(volume: &str) -> String {
    let time: String = rfc3339(now()).chars().take(19).filter(|c| !matches!(c, '-' | ':')).collect();
    format!("{volume}-{}", time.replace('T', "-"))
}

/// Delete snapshots
///
/// Volumes made from them stay whole. A member of a group is deleted with its group.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:\n\
\x20 offshoot snapshot delete monday\n\
\x20 offshoot snapshot delete $(offshoot snapshot list --volume db -q)")]
struct Delete {
    /// The snapshots: names or ids
    #[arg(value_name = "SNAPSHOT", required = true)]
    snapshots: Vec<String>,
    #[command(flatten)]
    common: Common,
}

impl Delete {
    fn run(self) -> Result<()> {
        let common = self.common.clone();
        common.run(async |session| {
            let mut done = Deleted { deleted: Vec::new() };
            for snapshot in &self.snapshots {
                let id = session.snapshot(snapshot).await?;
                let request =
                    DeleteSnapshotRequest { snapshot_id: id.clone(), ..DeleteSnapshotRequest::default() };
                session.controller().delete_snapshot(request).await.map_err(said)?;
                done.deleted.push(id);
            }
            common.output.print(&done, &[], |_| done.draw("snapshot"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_without_a_name_is_called_by_its_volume_and_moment() {
        let name = name_now("db");
        let shape: String = name.chars().map(|c| if c.is_ascii_digit() { '9' } else { c }).collect();
        assert_eq!(shape, "db-99999999-999999");
    }
}
