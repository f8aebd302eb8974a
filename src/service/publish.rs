//! ControllerPublishVolume and its opposite: which node may have a volume.
//!
//! A volume of a local pool is where its bytes are, so there is nothing to attach. What these calls keep is the
//! promise: who has the volume, how, and that it is not deleted or replaced under them.

use std::sync::Arc;

use super::list::unsuitable;
use super::work::exclusive;
use super::{Inner, Service};
use crate::volume::{Capability, Error, Kind, Published, Result, Volume, VolumeId};

impl Service {
    /// Gives a volume to a node. Repeatable; refused with other access than the node has it with.
    pub async fn publish_to_node(
        &self,
        id: &str,
        node: &str,
        capability: &Capability,
        read_only: bool,
    ) -> Result<()> {
        let volume = self.inner.volume(id)?;
        if let Some(why) = unsuitable(&volume, capability) {
            return Err(Error::invalid("volume_capability", why));
        }
        if node != self.inner.settings.node_id {
            return Err(Error::not_found(format!("node_id: node {node:?}")));
        }
        let id = volume.id;
        let published =
            Published { node: node.to_owned(), read_only: read_only || capability.mode.is_read_only() };
        self.work(vec![exclusive(id)], move |inner| async move { inner.publish(id, published).await }).await
    }

    /// Takes a volume from a node, or from every node if `node` is empty. What is not published is unpublished
    /// already, also when the volume or the node is gone.
    pub async fn unpublish_from_node(&self, id: &str, node: &str) -> Result<()> {
        let Some(volume) = self.inner.find_volume(id) else { return Ok(()) };
        let (id, node) = (volume.id, node.to_owned());
        self.work(vec![exclusive(id)], move |inner| async move { inner.unpublish(id, &node).await }).await
    }
}

impl Inner {
    async fn publish(self: &Arc<Self>, id: VolumeId, published: Published) -> Result<()> {
        let volume = self.settled(id).await?;
        if let Some(existing) = volume.published.iter().find(|other| other.node == published.node) {
            if existing.read_only == published.read_only {
                return Ok(());
            }
            let say = |read_only| if read_only { "read-only" } else { "read-write" };
            let text = format!(
                "readonly: volume {id} is published to node {} {}, asked for {}: unpublish it first",
                published.node,
                say(existing.read_only),
                say(published.read_only)
            );
            return Err(Error::new(Kind::AlreadyExists, text));
        }
        self.check_limit(&published.node)?;
        let mut changed = Volume::clone(&volume);
        changed.published.push(published);
        self.save(changed).await
    }

    async fn unpublish(&self, id: VolumeId, node: &str) -> Result<()> {
        let Some(volume) = self.catalog().volume(id).cloned() else { return Ok(()) };
        let mut changed = Volume::clone(&volume);
        changed.published.retain(|published| !node.is_empty() && published.node != node);
        if changed.published.len() == volume.published.len() {
            return Ok(());
        }
        self.save(changed).await
    }

    fn check_limit(&self, node: &str) -> Result<()> {
        let limit = self.settings.max_volumes as usize;
        if limit == 0 {
            return Ok(());
        }
        let catalog = self.catalog();
        let has = |volume: &&Arc<Volume>| volume.published.iter().any(|published| published.node == node);
        if catalog.volumes().values().filter(has).count() >= limit {
            let text = format!(
                "node {node} has its limit of {limit} volumes: unpublish one, or raise --max-volumes-per-node"
            );
            return Err(Error::new(Kind::Exhausted, text));
        }
        Ok(())
    }

    /// Replaces a volume's record, then what the catalogue says.
    pub(super) async fn save(&self, volume: Volume) -> Result<()> {
        let volume = Arc::new(volume);
        self.pool(volume.id.pool())?.put(&volume).await?;
        self.catalog_mut().put_volume(volume);
        Ok(())
    }
}
