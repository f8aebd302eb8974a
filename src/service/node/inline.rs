//! Inline ephemeral volumes: made when a pod starts, gone when it ends.
//!
//! They are never staged: the volume is mounted at the target itself. So its mount is all that says it is in use, and a
//! start that finds the record without the mount (a crash in between, a reboot) removes the volume; kubelet's retry makes
//! it anew.

use std::sync::Arc;

use super::super::Inner;
use super::super::api::{CreateVolume, Inline, Publish};
use super::super::pool::blocking;
use super::mounts::{Here, Wanted, taken, unfinished};
use super::paths::named;
use super::publish::{TARGET, same_publish, target_error};
use crate::host::FileKind;
use crate::volume::size::Range;
use crate::volume::{AccessType, Error, Phase, Result, Volume};

/// The name of the volume that is made for a handle of kubelet's.
pub(super) fn inline_name(handle: &str) -> String {
    format!("inline-{handle}")
}

impl Inner {
    pub(super) async fn publish_inline(self: &Arc<Self>, request: &Publish, inline: Inline) -> Result<()> {
        self.outside_pools(TARGET, &request.target)?;
        let handle = &request.node.volume;
        let capability = &request.node.capability;
        if capability.access == AccessType::Block {
            return Err(Error::invalid("volume_capability", "an inline volume cannot be a raw device"));
        }
        let create = CreateVolume {
            name: inline_name(handle),
            range: Range { required: inline.size, limit: 0 },
            capabilities: vec![capability.clone()],
            params: inline.params,
            source: None,
            requisite: Vec::new(),
        };
        let volume = self.create(create, Some(handle.as_str().into())).await?.volume;
        match self.mount_inline(&volume, request).await {
            Ok(()) => Ok(()),
            // Whatever is mounted somewhere stays, and so does its volume.
            Err(error) if self.uses.any(volume.id) => Err(error),
            Err(error) => match self.delete_inline(&volume).await {
                Ok(()) => Err(error),
                Err(undo) => Err(unfinished(&error, &undo)),
            },
        }
    }

    async fn mount_inline(&self, volume: &Volume, request: &Publish) -> Result<()> {
        let target = &request.target;
        // The first mount formats and must write; what the pod sees may still refuse to.
        let mut wanted = Wanted::new(volume, &request.node.capability, &self.settings.node_id)?;
        wanted.read_only |= request.read_only;
        match self.look(volume, target).await.map_err(|error| named(TARGET, error))? {
            Here::Ours(there) => return same_publish(volume, &there, false, wanted.read_only),
            Here::Other(entry) => return Err(taken(TARGET, target, &entry, self.uses.owner(target))),
            Here::Nothing => {}
        }
        let (host, path) = (self.host.clone(), target.clone());
        let made =
            blocking(move || host.make_target(&path, FileKind::Directory).map_err(target_error)).await?;
        match self.mount(volume, target, &wanted).await {
            Ok(()) => Ok(()),
            Err(error) => Err(self.undo_target(volume, target, made, error).await),
        }
    }

    /// Removes an inline volume, from wherever an earlier removal stopped.
    pub(super) async fn delete_inline(self: &Arc<Self>, volume: &Arc<Volume>) -> Result<()> {
        match volume.phase {
            // This call holds the name, so nobody else is making it.
            Phase::Creating => self.clear_away(volume).await,
            _ => self.delete(volume.id).await,
        }
    }
}
