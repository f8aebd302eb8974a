//! NodeExpandVolume: the device and the filesystem catch up with the volume's size.

use std::path::Path;
use std::sync::Arc;

use super::super::pool::blocking;
use super::super::work::exclusive;
use super::super::{Inner, Service};
use super::mounts::Here;
use super::uses::Mounted;
use crate::backend::{Attachment, Use};
use crate::host::Probe;
use crate::volume::size::Range;
use crate::volume::{Error, FsType, Kind, Result, Volume, VolumeId};

impl Service {
    /// Makes the volume that is mounted at `path` as large as its record says; its size in bytes. Repeatable.
    ///
    /// Fails with [`Kind::Precondition`] where the filesystem cannot grow while it is mounted; it does then when the
    /// volume is staged the next time.
    pub async fn node_expand(&self, id: &str, path: &Path, range: Range) -> Result<u64> {
        let id = self.inner.volume(id)?.id;
        let path = path.to_owned();
        self.work(vec![exclusive(id)], move |inner| async move { inner.expand_at(id, &path, range).await })
            .await
    }
}

impl Inner {
    async fn expand_at(self: &Arc<Self>, id: VolumeId, path: &Path, range: Range) -> Result<u64> {
        let volume = self.volume(&id.to_string())?;
        let mounted = self.require_at(&volume, path).await?;
        let volume = self.settled(id).await?;
        if !range.holds(volume.size) {
            let text = format!(
                "capacity_range: volume {id} has {} bytes, asked for {} to {}: expand it with the controller first",
                volume.size, range.required, range.limit
            );
            return Err(Error::new(Kind::OutOfRange, text));
        }
        let backend = &self.pool(id.pool())?.backend;
        if mounted.block() {
            // Attaching what is attached makes its device as large as its image.
            backend.attach(&volume, Use::Block { read_only: mounted.read_only }).await?;
            return Ok(volume.size);
        }
        let grown = match self.writable(&volume, mounted).await? {
            Some(writable) => backend.grow_mounted(&volume, &writable.target).await,
            None => Err(Error::precondition("it is mounted read-only")),
        };
        match grown {
            Ok(()) => Ok(volume.size),
            Err(error) => self.why_not_grown(&volume, error).await.map(|()| volume.size),
        }
    }

    /// The mount of the volume at `path`; [`Kind::NotFound`] if it is not there.
    pub(super) async fn require_at(&self, volume: &Volume, path: &Path) -> Result<Mounted> {
        let none = || {
            Error::new(Kind::NotFound, format!("volume {} is not mounted at {}", volume.id, path.display()))
        };
        match self.look(volume, path).await {
            Ok(Here::Ours(mounted)) => Ok(mounted),
            Ok(_) => Err(none()),
            // A relative path, or one through a symbolic link, is no place where this driver mounts.
            Err(error) if error.kind() == Kind::Invalid => Err(none()),
            Err(error) => Err(error),
        }
    }

    /// A mount of the same filesystem through which it can grow.
    async fn writable(&self, volume: &Volume, mounted: Mounted) -> Result<Option<Mounted>> {
        if !mounted.read_only {
            return Ok(Some(mounted));
        }
        for other in self.uses.of(volume.id).into_iter().filter(|other| !other.read_only && !other.block()) {
            if let Here::Ours(other) = self.look(volume, &other.target).await? {
                return Ok(Some(other));
            }
        }
        Ok(None)
    }

    /// Tells a filesystem that has its size already from one that must wait for the next staging.
    async fn why_not_grown(&self, volume: &Volume, error: Error) -> Result<()> {
        let attached = self.pool(volume.id.pool())?.backend.attached(volume).await?;
        let device = attached.into_iter().find_map(|attachment| match attachment {
            Attachment::Device { path, .. } => Some(path),
            Attachment::Directory { .. } => None,
        });
        let Some(device) = device else { return Err(error) };
        let host = self.host.clone();
        let (probe, facts) = blocking(move || Ok((host.probe(&device)?, host.facts()?))).await?;
        let Probe::Fs { fs, size, .. } = probe else { return Err(error) };
        if size >= volume.size {
            return Ok(());
        }
        let denied = fs == FsType::Ext4.as_str() && !facts.cap_sys_resource;
        if !denied && error.kind() != Kind::Precondition {
            return Err(error);
        }
        Err(Error::precondition(format!(
            "volume {} has {} bytes now, but its filesystem cannot grow while it is mounted like this ({error}): it grows \
             when the volume is staged the next time, so restart the pod that uses it",
            volume.id, volume.size
        )))
    }
}
