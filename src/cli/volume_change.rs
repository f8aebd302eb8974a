//! `offshoot volume delete`, `expand`, `modify`, `publish` and `unpublish`.

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::Args;
use serde::Serialize;

use super::output::human;
use super::session::{Common, Session, bytes, said};
use super::view::{KeyValue, by_key};
use super::volume_make::capability;
use super::volume_mount::request_path;
use crate::proto::csi::volume_capability::access_mode::Mode;
use crate::proto::csi::{
    CapacityRange, ControllerExpandVolumeRequest, ControllerModifyVolumeRequest,
    ControllerPublishVolumeRequest, ControllerUnpublishVolumeRequest, DeleteVolumeRequest,
    NodeExpandVolumeRequest, NodeGetInfoRequest,
};
use crate::volume::quantity::Bytes;

/// What was deleted.
#[derive(Serialize)]
pub(super) struct Deleted {
    pub(super) deleted: Vec<String>,
}

impl Deleted {
    /// One line per id.
    pub(super) fn draw(&self, what: &str) -> String {
        self.deleted.iter().map(|id| format!("deleted {what} {id}\n")).collect()
    }
}

/// Delete volumes
///
/// Refused while a volume is mounted or published. Its snapshots and the copies made from it stay whole.
#[derive(Debug, Args)]
#[command(after_long_help = "Example:\n  offshoot volume delete db-anna db-bert")]
pub(super) struct Delete {
    /// The volumes: names or ids
    #[arg(value_name = "VOLUME", required = true)]
    volumes: Vec<String>,
    #[command(flatten)]
    common: Common,
}

impl Delete {
    pub(super) fn run(self) -> Result<()> {
        let common = self.common.clone();
        common.run(async |session| {
            let mut done = Deleted { deleted: Vec::new() };
            for volume in &self.volumes {
                let id = session.volume(volume).await?;
                let request = DeleteVolumeRequest { volume_id: id.clone(), ..DeleteVolumeRequest::default() };
                session.controller().delete_volume(request).await.map_err(said)?;
                done.deleted.push(id);
            }
            common.output.print(&done, &[], |_| done.draw("volume"))
        })
    }
}

/// Make a volume larger
///
/// A volume that is mounted grows at once where its filesystem can (say where it is mounted with --at), else when it
/// is mounted the next time. Volumes never shrink.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:\n\
\x20 offshoot volume expand db 20Gi\n\
\x20 offshoot volume expand db 20Gi --at /mnt/db")]
pub(super) struct Expand {
    /// The volume: its name or id
    #[arg(value_name = "VOLUME")]
    volume: String,
    /// The new size, such as 20Gi
    #[arg(value_name = "SIZE")]
    size: Bytes,
    /// Where it is mounted now, so that the filesystem grows too
    #[arg(long, value_name = "DIR")]
    at: Option<PathBuf>,
    #[command(flatten)]
    common: Common,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Expanded {
    id: String,
    size_bytes: u64,
    /// Whether the filesystem still has to grow, which the next mount does.
    filesystem_pending: bool,
}

impl Expand {
    pub(super) fn run(self) -> Result<()> {
        let common = self.common.clone();
        common.run(async |session| {
            let id = session.volume(&self.volume).await?;
            let range = CapacityRange {
                required_bytes: i64::try_from(self.size.0).unwrap_or(i64::MAX),
                limit_bytes: 0,
            };
            let request = ControllerExpandVolumeRequest {
                volume_id: id.clone(),
                capacity_range: Some(range),
                ..ControllerExpandVolumeRequest::default()
            };
            let answer = session.controller().controller_expand_volume(request).await.map_err(said)?.into_inner();
            let mut pending = answer.node_expansion_required;
            if let Some(at) = &self.at {
                let request = NodeExpandVolumeRequest {
                    volume_id: id.clone(),
                    volume_path: request_path(at)?,
                    capacity_range: Some(range),
                    ..NodeExpandVolumeRequest::default()
                };
                session.node().node_expand_volume(request).await.map_err(said)?;
                pending = false;
            }
            let done = Expanded { id, size_bytes: bytes(answer.capacity_bytes), filesystem_pending: pending };
            common.output.print(&done, &[&done.id], |_| {
                let mut text = format!("volume {} has {}\n", done.id, human(done.size_bytes));
                if done.filesystem_pending {
                    text += "its filesystem grows when it is mounted the next time; if it is mounted now, repeat this with --at DIR\n";
                }
                text
            })
        })
    }
}

/// Change the settings of a volume that can change while it lives
///
/// The keys are those of a VolumeAttributesClass: provisioning, readAheadKiB, directIO. See
/// docs/reference/parameters.md.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:\n\
\x20 offshoot volume modify db --param provisioning=thick\n\
\x20 offshoot volume modify db --param readAheadKiB=4096 --param directIO=auto")]
pub(super) struct Modify {
    /// The volume: its name or id
    #[arg(value_name = "VOLUME")]
    volume: String,
    /// A setting; give it once per setting
    #[arg(long, value_name = "KEY=VALUE", required = true)]
    param: Vec<KeyValue>,
    #[command(flatten)]
    common: Common,
}

#[derive(Serialize)]
struct Done {
    id: String,
}

impl Modify {
    pub(super) fn run(self) -> Result<()> {
        let common = self.common.clone();
        common.run(async |session| {
            let id = session.volume(&self.volume).await?;
            let request = ControllerModifyVolumeRequest {
                volume_id: id.clone(),
                mutable_parameters: by_key(self.param)?,
                ..ControllerModifyVolumeRequest::default()
            };
            session.controller().controller_modify_volume(request).await.map_err(said)?;
            let done = Done { id };
            common.output.print(&done, &[&done.id], |_| format!("modified volume {}\n", done.id))
        })
    }
}

/// Give a volume to a node, as Kubernetes does before a pod starts there
///
/// To use a volume on this machine by hand, `volume mount` is enough. A published volume is not deleted, rewound or
/// refreshed.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:\n\
\x20 offshoot volume publish db\n\
\x20 offshoot volume publish db --read-only")]
pub(super) struct Publish {
    /// The volume: its name or id
    #[arg(value_name = "VOLUME")]
    volume: String,
    /// The node's id [default: the server's own]
    #[arg(long, value_name = "NODE")]
    node: Option<String>,
    /// The node may only read
    #[arg(long)]
    read_only: bool,
    /// As a raw block device
    #[arg(long)]
    block: bool,
    #[command(flatten)]
    common: Common,
}

/// Take a volume from a node
#[derive(Debug, Args)]
#[command(after_long_help = "Example:\n  offshoot volume unpublish db")]
pub(super) struct Unpublish {
    /// The volume: its name or id
    #[arg(value_name = "VOLUME")]
    volume: String,
    /// The node's id [default: the server's own]
    #[arg(long, value_name = "NODE")]
    node: Option<String>,
    #[command(flatten)]
    common: Common,
}

#[derive(Serialize)]
struct OnNode {
    id: String,
    node: String,
}

async fn node_or_own(session: &Session, node: Option<String>) -> Result<String> {
    let node = match node {
        Some(node) => node,
        None => session.node().node_get_info(NodeGetInfoRequest {}).await.map_err(said)?.into_inner().node_id,
    };
    // Empty means "every node" to the server, which nobody means who leaves it out.
    if node.is_empty() {
        bail!("the server does not say which node it is; name one with --node");
    }
    Ok(node)
}

impl Publish {
    pub(super) fn run(self) -> Result<()> {
        let common = self.common.clone();
        common.run(async |session| {
            let id = session.volume(&self.volume).await?;
            let node = node_or_own(&session, self.node).await?;
            let request = ControllerPublishVolumeRequest {
                volume_id: id.clone(),
                node_id: node.clone(),
                volume_capability: Some(capability(self.block, None, &[], Mode::SingleNodeWriter)),
                readonly: self.read_only,
                ..ControllerPublishVolumeRequest::default()
            };
            session.controller().controller_publish_volume(request).await.map_err(said)?;
            let done = OnNode { id, node };
            common.output.print(&done, &[&done.id], |_| {
                format!("published volume {} to node {}\n", done.id, done.node)
            })
        })
    }
}

impl Unpublish {
    pub(super) fn run(self) -> Result<()> {
        let common = self.common.clone();
        common.run(async |session| {
            let id = session.volume(&self.volume).await?;
            let node = node_or_own(&session, self.node).await?;
            let request = ControllerUnpublishVolumeRequest {
                volume_id: id.clone(),
                node_id: node.clone(),
                ..ControllerUnpublishVolumeRequest::default()
            };
            session.controller().controller_unpublish_volume(request).await.map_err(said)?;
            let done = OnNode { id, node };
            common
                .output
                .print(&done, &[&done.id], |_| format!("took volume {} from node {}\n", done.id, done.node))
        })
    }
}
