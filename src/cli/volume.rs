//! `offshoot volume`: look at volumes; and the list of what can be done to one.

use anyhow::Result;
use clap::{Args, Subcommand};
use serde::Serialize;

use super::output::sheet;
use super::session::{Common, Session, now, said};
use super::view::{Object, objects};
use super::volume_change::{Delete, Expand, Modify, Publish, Unpublish};
use super::volume_make::{Clone as CloneVolume, Create, Restore};
use super::volume_mount::{Mount, Unmount};
use crate::proto::csi::{ControllerGetVolumeRequest, ControllerGetVolumeResponse};
use crate::proto::offshoot::lineage_node::Kind;

/// Make, look at, change and mount volumes
///
/// Where a VOLUME is asked for, give its name, its id, or the last eight characters of its id.
#[derive(Debug, Args)]
pub(super) struct Volume {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    #[command(visible_alias = "ls")]
    List(List),
    Show(Show),
    Create(Create),
    Clone(CloneVolume),
    Restore(Restore),
    #[command(visible_alias = "rm")]
    Delete(Delete),
    Expand(Expand),
    Modify(Modify),
    Mount(Mount),
    Unmount(Unmount),
    Publish(Publish),
    Unpublish(Unpublish),
}

impl Volume {
    pub(super) fn run(self) -> Result<()> {
        match self.command {
            Command::List(list) => list.run(),
            Command::Show(show) => show.run(),
            Command::Create(create) => create.run(),
            Command::Clone(clone) => clone.run(),
            Command::Restore(restore) => restore.run(),
            Command::Delete(delete) => delete.run(),
            Command::Expand(expand) => expand.run(),
            Command::Modify(modify) => modify.run(),
            Command::Mount(mount) => mount.run(),
            Command::Unmount(unmount) => unmount.run(),
            Command::Publish(publish) => publish.run(),
            Command::Unpublish(unpublish) => unpublish.run(),
        }
    }
}

/// List volumes with what each costs
///
/// OWN is what deleting the volume would give back, SHARED what it has in common with its copies and snapshots.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:\n\
\x20 offshoot volume list\n\
\x20 offshoot volume list --pool fast --output json\n\
\x20 offshoot volume list -q")]
struct List {
    /// Only those in this pool
    #[arg(long, value_name = "NAME")]
    pool: Option<String>,
    #[command(flatten)]
    common: Common,
}

#[derive(Serialize)]
struct Volumes {
    volumes: Vec<Object>,
}

impl List {
    fn run(self) -> Result<()> {
        let common = self.common.clone();
        common.run(async |session| {
            let mut volumes = session.objects(Kind::Volume).await?;
            volumes.retain(|volume| {
                self.pool.as_ref().is_none_or(|pool| [&volume.pool, &volume.pool_id].contains(&pool))
            });
            let list = Volumes { volumes };
            let ids: Vec<_> = list.volumes.iter().map(|volume| volume.id.as_str()).collect();
            common.output.print(&list, &ids, |style| objects(style, &list.volumes, now()))
        })
    }
}

/// Show one volume: where it is, what it costs, who has it, and what is wrong with it
#[derive(Debug, Args)]
#[command(after_long_help = "Example:\n  offshoot volume show db")]
struct Show {
    /// The volume: its name or id
    #[arg(value_name = "VOLUME")]
    volume: String,
    #[command(flatten)]
    common: Common,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown {
    #[serde(flatten)]
    object: Object,
    /// The nodes that have it.
    nodes: Vec<String>,
    /// Whether nothing is wrong with it; `null` if the server does not say.
    healthy: Option<bool>,
    health: String,
    snapshots: Vec<String>,
}

impl Show {
    fn run(self) -> Result<()> {
        let common = self.common.clone();
        common.run(async |session| {
            let id = session.volume(&self.volume).await?;
            let request = ControllerGetVolumeRequest { volume_id: id.clone() };
            let volume =
                session.controller().controller_get_volume(request).await.map_err(said)?.into_inner();
            let all = session.objects_all().await?;
            let snapshots = all
                .iter()
                .filter(|object| object.kind == "snapshot" && object.parent_id.as_deref() == Some(&id));
            let snapshots = snapshots.map(|snapshot| snapshot.id.clone()).collect();
            let Some(object) = all.iter().find(|object| object.id == id).cloned() else {
                anyhow::bail!("volume {id} went away while it was looked at");
            };
            let shown = Shown::new(object, volume, snapshots);
            common.output.print(&shown, &[&shown.object.id], |_| shown.draw())
        })
    }
}

impl Shown {
    fn new(object: Object, volume: ControllerGetVolumeResponse, snapshots: Vec<String>) -> Shown {
        let status = volume.status.unwrap_or_default();
        let condition = status.volume_condition;
        Shown {
            object,
            nodes: status.published_node_ids,
            healthy: condition.as_ref().map(|condition| !condition.abnormal),
            health: condition.map(|condition| condition.message).unwrap_or_default(),
            snapshots,
        }
    }

    fn draw(&self) -> String {
        let mut lines = self.object.sheet(now());
        let health = match (self.healthy, self.health.is_empty()) {
            (Some(true), true) => "well".into(),
            (Some(false), true) => "not well".into(),
            _ => self.health.clone(),
        };
        lines.push(("nodes", self.nodes.join(", ")));
        lines.push(("health", health));
        lines.push(("snapshots", self.snapshots.join(", ")));
        lines.extend(self.object.attributes.iter().map(|(key, value)| (key.as_str(), value.clone())));
        sheet(&lines)
    }
}

impl Session {
    /// Every volume, snapshot and group, as JSON shows them.
    pub(super) async fn objects_all(&self) -> Result<Vec<Object>> {
        self.objects_of("", false).await
    }

    /// As [`Session::lineage`] says, as JSON shows them.
    pub(super) async fn objects_of(&self, id: &str, skip_usage: bool) -> Result<Vec<Object>> {
        let pools = self.pool_names().await?;
        Ok(self.lineage(id, skip_usage).await?.into_iter().map(|node| Object::new(node, &pools)).collect())
    }

    /// Every object of one kind.
    pub(super) async fn objects(&self, kind: Kind) -> Result<Vec<Object>> {
        let mut all = self.objects_all().await?;
        all.retain(|object| object.kind == super::session::kind_name(kind));
        Ok(all)
    }
}
