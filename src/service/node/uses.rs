//! Which volumes are mounted where, so that no call has to read the whole mount table.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::volume::{Error, Result, Volume, VolumeId};

use super::super::Inner;
use super::super::pool::blocking;

/// One mount of a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct Mounted {
    /// Where.
    pub(in super::super) target: PathBuf,
    /// Whether it is the bound device node and not a filesystem.
    pub(in super::super) block: bool,
    /// Whether it refuses writes.
    pub(in super::super) read_only: bool,
}

/// All mounts of all volumes on this machine, as far as this server knows.
#[derive(Default)]
pub(in super::super) struct Uses(Mutex<HashMap<VolumeId, Vec<Mounted>>>);

impl Uses {
    fn map(&self) -> std::sync::MutexGuard<'_, HashMap<VolumeId, Vec<Mounted>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the volume is mounted anywhere.
    pub(in super::super) fn any(&self, id: VolumeId) -> bool {
        self.map().contains_key(&id)
    }

    /// All mounts of the volume.
    pub(in super::super) fn of(&self, id: VolumeId) -> Vec<Mounted> {
        self.map().get(&id).cloned().unwrap_or_default()
    }

    /// A place where the volume's filesystem is mounted.
    pub(in super::super) fn mounted_filesystem(&self, id: VolumeId) -> Option<PathBuf> {
        self.map().get(&id)?.iter().find(|mounted| !mounted.block).map(|mounted| mounted.target.clone())
    }

    /// Notes a mount, once.
    pub(in super::super) fn add(&self, id: VolumeId, mounted: Mounted) {
        let mut map = self.map();
        let all = map.entry(id).or_default();
        all.retain(|other| other.target != mounted.target);
        all.push(mounted);
    }

    /// Notes that nothing of the volume is mounted at `target` any more.
    pub(in super::super) fn remove(&self, id: VolumeId, target: &Path) {
        let mut map = self.map();
        if let Some(all) = map.get_mut(&id) {
            all.retain(|mounted| mounted.target != target);
            if all.is_empty() {
                map.remove(&id);
            }
        }
    }
}

impl Inner {
    /// Fails while the volume is mounted anywhere on this machine. Mounts that somebody else took away are forgotten.
    pub(in super::super) async fn refuse_in_use(&self, volume: &Volume) -> Result<()> {
        for mounted in self.uses.of(volume.id) {
            let (host, target) = (self.host.clone(), mounted.target.clone());
            let there = blocking(move || host.mount_at(&target).map_err(Error::from)).await?;
            if there.is_some() {
                let text = format!(
                    "volume {} is in use on this node, mounted at {}: unpublish and unstage it first",
                    volume.id,
                    mounted.target.display()
                );
                return Err(Error::precondition(text));
            }
            self.uses.remove(volume.id, &mounted.target);
        }
        Ok(())
    }
}
