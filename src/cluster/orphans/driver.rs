//! The driver's own side: what it has, and deleting it.

use anyhow::{Result, anyhow};
use async_trait::async_trait;
use tonic::Status;
use tonic::transport::Channel;

use super::decide::Held;
use crate::proto::csi::controller_client::ControllerClient;
use crate::proto::csi::{DeleteSnapshotRequest, DeleteVolumeRequest};
use crate::proto::offshoot::data_copies_client::DataCopiesClient;
use crate::proto::offshoot::lineage_node::State;
use crate::proto::offshoot::{GetLineageRequest, LineageNode};
use crate::volume::ObjectId;

/// Entries of one page.
const PAGE: i32 = 1000;

/// The largest page, in bytes.
const MAX_PAGE: usize = 64 << 20;

/// What the driver has.
#[async_trait]
pub trait Objects: Send + Sync {
    /// Every volume and snapshot of the agents that can be reached.
    ///
    /// # Errors
    /// Where the list did not come to its end. Agents that cannot be reached are no error: what they have is not in the
    /// list, and so nothing is concluded about it.
    async fn all(&self) -> Result<Vec<Held>>;

    /// Deletes one.
    ///
    /// # Errors
    /// What the driver says; it refuses what is in use.
    async fn delete(&self, id: ObjectId) -> Result<()>;
}

/// The driver behind its own socket.
#[derive(Debug, Clone)]
pub struct OverGrpc(pub Channel);

#[async_trait]
impl Objects for OverGrpc {
    async fn all(&self) -> Result<Vec<Held>> {
        let mut copies = DataCopiesClient::new(self.0.clone()).max_decoding_message_size(MAX_PAGE);
        let (mut all, mut token) = (Vec::new(), String::new());
        loop {
            let request = GetLineageRequest {
                max_entries: PAGE,
                starting_token: token,
                skip_usage: true,
                ..GetLineageRequest::default()
            };
            let page = copies.get_lineage(request).await.map_err(|status| said(&status))?.into_inner();
            all.extend(page.nodes.iter().filter_map(held));
            token = page.next_token;
            if token.is_empty() {
                return Ok(all);
            }
        }
    }

    async fn delete(&self, id: ObjectId) -> Result<()> {
        let mut controller = ControllerClient::new(self.0.clone());
        let deleted = match id {
            ObjectId::Volume(id) => {
                let request =
                    DeleteVolumeRequest { volume_id: id.to_string(), ..DeleteVolumeRequest::default() };
                controller.delete_volume(request).await.map(|_| ())
            }
            ObjectId::Snapshot(id) => {
                let request =
                    DeleteSnapshotRequest { snapshot_id: id.to_string(), ..DeleteSnapshotRequest::default() };
                controller.delete_snapshot(request).await.map(|_| ())
            }
            ObjectId::Group(id) => return Err(anyhow!("group {id} is not deleted as an orphan")),
        };
        deleted.map_err(|status| said(&status))
    }
}

fn said(status: &Status) -> anyhow::Error {
    anyhow!("{}: {}", status.code(), status.message())
}

/// Reads an object off the wire. `None` for a group, and for what has an id that is not understood.
fn held(node: &LineageNode) -> Option<Held> {
    let id: ObjectId = node.id.parse().ok()?;
    if matches!(id, ObjectId::Group(_)) {
        return None;
    }
    let created = node.created.as_ref();
    Some(Held {
        id,
        name: node.name.clone(),
        created: created
            .map(|at| at.seconds.saturating_mul(1000).saturating_add(i64::from(at.nanos) / 1_000_000)),
        size: u64::try_from(node.size_bytes).unwrap_or(0),
        settled: node.state() == State::Ready,
        in_use: node.published,
        exempt: Held::exempt(
            |key| node.attributes.contains_key(key),
            &node.name,
            !node.group_snapshot_id.is_empty(),
        ),
    })
}
