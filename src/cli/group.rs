//! `offshoot group`: snapshots of several volumes at one moment.

use std::collections::BTreeMap;
use std::time::Instant;

use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use serde::Serialize;

use super::output::{Style, age, clean, human, rfc3339};
use super::progress::watched;
use super::session::{Common, Session, millis, now, said};
use super::snapshot::Taken;
use super::view::Object;
use super::volume_change::Deleted;
use super::volume_make::took;
use crate::proto::csi::{
    CreateVolumeGroupSnapshotRequest, DeleteVolumeGroupSnapshotRequest, GetVolumeGroupSnapshotRequest,
    VolumeGroupSnapshot,
};
use crate::volume::GroupId;
use crate::volume::record::Millis;

/// Take snapshots of several volumes at one moment
///
/// All volumes are frozen together, so that a database whose data and log lie on two volumes can be taken back as one.
#[derive(Debug, Args)]
pub(super) struct Group {
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

impl Group {
    pub(super) fn run(self) -> Result<()> {
        match self.command {
            Command::List(list) => list.run(),
            Command::Show(show) => show.run(),
            Command::Create(create) => create.run(),
            Command::Delete(delete) => delete.run(),
        }
    }
}

/// List group snapshots
#[derive(Debug, Args)]
#[command(after_long_help = "Example:\n  offshoot group list")]
struct List {
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Serialize)]
struct Groups {
    groups: Vec<Listed>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Listed {
    id: String,
    name: String,
    /// The ids of its snapshots.
    snapshots: Vec<String>,
    size_bytes: u64,
    created_at: Option<String>,
    #[serde(skip)]
    created: Option<Millis>,
}

impl List {
    fn run(self) -> Result<()> {
        let common = self.common.clone();
        common.run(async |session| {
            let list = Groups { groups: grouped(session.objects_of("", true).await?) };
            let ids: Vec<_> = list.groups.iter().map(|group| group.id.as_str()).collect();
            common.output.print(&list, &ids, |style| draw(style, &list.groups, now()))
        })
    }
}

/// The groups, with the ids of their members.
fn grouped(objects: Vec<Object>) -> Vec<Listed> {
    let mut members: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for object in &objects {
        if let Some(group) = &object.group_snapshot_id {
            members.entry(group.clone()).or_default().push(object.id.clone());
        }
    }
    let groups = objects.into_iter().filter(|object| object.kind == "group");
    let listed = |group: Object| Listed {
        snapshots: members.remove(&group.id).unwrap_or_default(),
        name: group.name,
        id: group.id,
        size_bytes: group.size_bytes,
        created_at: group.created_at,
        created: group.created,
    };
    groups.map(listed).collect()
}

fn draw(style: &Style, groups: &[Listed], now: Millis) -> String {
    let rows = groups.iter().map(|group| {
        vec![
            group.name.clone(),
            group.id.clone(),
            group.snapshots.len().to_string(),
            human(group.size_bytes),
            age(group.created, now),
        ]
    });
    style.table(&["NAME", "ID", ">SNAPSHOTS", ">SIZE", ">AGE"], rows.collect())
}

/// Show one group snapshot with its members
#[derive(Debug, Args)]
#[command(after_long_help = "Example:\n  offshoot group show nightly")]
struct Show {
    /// The group: its name or id
    #[arg(value_name = "GROUP")]
    group: String,
    #[command(flatten)]
    common: Common,
}

/// A group with its members.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown {
    id: String,
    created_at: Option<String>,
    snapshots: Vec<Taken>,
}

impl Shown {
    fn new(group: VolumeGroupSnapshot) -> Shown {
        Shown {
            id: group.group_snapshot_id,
            created_at: millis(group.creation_time.as_ref()).map(rfc3339),
            snapshots: group.snapshots.into_iter().map(|snapshot| Taken::new(snapshot, None)).collect(),
        }
    }

    fn draw(&self, style: &Style) -> String {
        let row = |snapshot: &Taken| {
            vec![snapshot.id.clone(), snapshot.source_volume_id.clone(), human(snapshot.size_bytes)]
        };
        style.table(&["ID", "VOLUME", ">SIZE"], self.snapshots.iter().map(row).collect())
    }
}

impl Show {
    fn run(self) -> Result<()> {
        let common = self.common.clone();
        common.run(async |session| {
            let (id, members) = find(&session, &self.group).await?;
            let request = GetVolumeGroupSnapshotRequest {
                group_snapshot_id: id,
                snapshot_ids: members,
                ..GetVolumeGroupSnapshotRequest::default()
            };
            let answer =
                session.groups().get_volume_group_snapshot(request).await.map_err(said)?.into_inner();
            let shown = Shown::new(answer.group_snapshot.unwrap_or_default());
            common.output.print(&shown, &[&shown.id], |style| {
                format!(
                    "group {} of {}\n{}",
                    shown.id,
                    shown.created_at.as_deref().unwrap_or("?"),
                    shown.draw(style)
                )
            })
        })
    }
}

/// The id of a group and those of its members, which CSI wants with it.
async fn find(session: &Session, name_or_id: &str) -> Result<(String, Vec<String>)> {
    let groups = grouped(session.objects_of("", true).await?);
    let named = |group: &&Listed| group.id == name_or_id || group.name == name_or_id;
    match groups.iter().filter(named).collect::<Vec<_>>().as_slice() {
        [one] => Ok((one.id.clone(), one.snapshots.clone())),
        // The server knows what to say of one that is gone.
        [] if name_or_id.parse::<GroupId>().is_ok() => Ok((name_or_id.to_owned(), Vec::new())),
        [] => {
            bail!("no group has the name or id {name_or_id:?}; see what there is with `offshoot group list`")
        }
        several => {
            let ids: Vec<_> = several.iter().map(|group| group.id.as_str()).collect();
            bail!(
                "{} groups have the name {name_or_id:?}; give one of their ids: {}",
                ids.len(),
                ids.join(", ")
            )
        }
    }
}

/// Take snapshots of several volumes at one moment
#[derive(Debug, Args)]
#[command(after_long_help = "Example:\n  offshoot group create nightly db-data db-log")]
struct Create {
    /// The group's name
    #[arg(value_name = "NAME")]
    name: String,
    /// The volumes: names or ids
    #[arg(value_name = "VOLUME", required = true)]
    volumes: Vec<String>,
    #[command(flatten)]
    common: Common,
}

impl Create {
    fn run(self) -> Result<()> {
        let common = self.common.clone();
        common.run(async |session| {
            let mut source_volume_ids = Vec::new();
            for volume in &self.volumes {
                source_volume_ids.push(session.volume(volume).await?);
            }
            let request = CreateVolumeGroupSnapshotRequest {
                name: self.name.clone(),
                source_volume_ids,
                ..CreateVolumeGroupSnapshotRequest::default()
            };
            let start = Instant::now();
            let mut groups = session.groups();
            let quiet = !common.output.is_for_people();
            let answer = watched(&session, quiet, None, groups.create_volume_group_snapshot(request)).await?;
            let shown = Shown::new(answer.group_snapshot.unwrap_or_default());
            common.output.print(&shown, &[&shown.id], |style| {
                let name = clean(&self.name);
                format!("took group {name} ({}) in {}\n{}", shown.id, took(start), shown.draw(style))
            })
        })
    }
}

/// Delete group snapshots with all their members
///
/// Volumes made from the members stay whole.
#[derive(Debug, Args)]
#[command(after_long_help = "Example:\n  offshoot group delete nightly")]
struct Delete {
    /// The groups: names or ids
    #[arg(value_name = "GROUP", required = true)]
    groups: Vec<String>,
    #[command(flatten)]
    common: Common,
}

impl Delete {
    fn run(self) -> Result<()> {
        let common = self.common.clone();
        common.run(async |session| {
            let mut done = Deleted { deleted: Vec::new() };
            for group in &self.groups {
                let (id, members) = find(&session, group).await?;
                let request = DeleteVolumeGroupSnapshotRequest {
                    group_snapshot_id: id.clone(),
                    snapshot_ids: members,
                    ..DeleteVolumeGroupSnapshotRequest::default()
                };
                session.groups().delete_volume_group_snapshot(request).await.map_err(said)?;
                done.deleted.push(id);
            }
            common.output.print(&done, &[], |_| done.draw("group"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::tests_samples::{node, pools};
    use crate::proto::offshoot::lineage_node::Kind;

    #[test]
    fn groups_are_listed_with_their_members() {
        let mut nodes = [
            node("v1", "db", "", 0),
            node("s2", "night-ly-0", "v1", 0),
            node("s3", "night-ly-1", "v1", 0),
            node("s1", "night-ly", "", 0),
        ];
        let id = nodes[3].id.replacen('s', "g", 1);
        for snapshot in &mut nodes[1..3] {
            snapshot.group_snapshot_id = id.clone();
        }
        nodes[3].kind = Kind::Group.into();
        nodes[3].size_bytes = 20 << 30;
        nodes[3].id = id;
        let groups = grouped(nodes.map(|node| Object::new(node, &pools())).into());
        assert_eq!(groups.len(), 1);
        assert_eq!(groups[0].name, "night-ly");
        assert_eq!(groups[0].snapshots.len(), 2);
        assert_eq!(groups[0].size_bytes, 20 << 30);
        insta::assert_snapshot!("groups", draw(&Style::PLAIN, &groups, 3_600_000));
    }
}
