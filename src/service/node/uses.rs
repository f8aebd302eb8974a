//! Which volumes are mounted where, so that no call has to read the whole mount table.
//!
//! It is an index and not the truth: each entry says by what the kernel shows the mount to be the volume's, and that is
//! compared before anything is decided by it.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::host::MountEntry;
use crate::volume::mount_options::MountPlan;
use crate::volume::{Error, Result, Volume, VolumeId};

use super::super::Inner;
use super::super::pool::blocking;

/// What the kernel shows at a mount point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Shows {
    /// A filesystem or a part of it.
    Filesystem {
        /// Its device number.
        dev: u64,
        /// The part that is visible.
        root: PathBuf,
    },
    /// A device node.
    Node {
        /// The device that it stands for.
        rdev: u64,
    },
}

impl Shows {
    /// What this mount shows.
    pub(super) fn of(entry: &MountEntry) -> Self {
        match entry.node_rdev {
            Some(rdev) => Shows::Node { rdev },
            None => Shows::Filesystem { dev: entry.dev, root: entry.root.clone() },
        }
    }
}

/// One mount of a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct Mounted {
    /// Where.
    pub(in super::super) target: PathBuf,
    /// What is there.
    pub(super) shows: Shows,
    /// Whether it was asked to refuse writes.
    pub(super) read_only: bool,
    /// The options that a staging asked for; `None` for what was found at start.
    pub(super) plan: Option<MountPlan>,
}

impl Mounted {
    /// A mount that the kernel's table has.
    pub(in super::super) fn found(entry: MountEntry) -> Self {
        let shows = Shows::of(&entry);
        Mounted { target: entry.target, shows, read_only: entry.read_only, plan: None }
    }

    /// Whether it is the bound device node and not a filesystem.
    pub(super) fn block(&self) -> bool {
        matches!(self.shows, Shows::Node { .. })
    }

    /// Whether the kernel still has this very mount, and not another that took its place.
    pub(super) fn is(&self, entry: &MountEntry) -> bool {
        self.shows == Shows::of(entry)
    }
}

/// All mounts of all volumes on this machine, as far as this server knows.
#[derive(Default)]
pub(in super::super) struct Uses(Mutex<Index>);

#[derive(Default)]
struct Index {
    mounts: HashMap<VolumeId, Vec<Mounted>>,
    /// One place shows one volume: whoever is mounted there now puts the one before out of this index.
    owners: HashMap<PathBuf, VolumeId>,
    /// Staging paths of raw devices, which the kernel knows nothing of. A restart forgets them, and kubelet stages
    /// again before it publishes.
    staged_raw: HashMap<VolumeId, BTreeSet<PathBuf>>,
}

impl Index {
    fn drop_mount(&mut self, id: VolumeId, target: &Path) {
        if let Some(all) = self.mounts.get_mut(&id) {
            all.retain(|mounted| mounted.target != target);
            if all.is_empty() {
                self.mounts.remove(&id);
            }
        }
    }
}

impl Uses {
    fn index(&self) -> std::sync::MutexGuard<'_, Index> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the volume is mounted anywhere.
    pub(in super::super) fn any(&self, id: VolumeId) -> bool {
        self.index().mounts.contains_key(&id)
    }

    /// All mounts of the volume.
    pub(in super::super) fn of(&self, id: VolumeId) -> Vec<Mounted> {
        self.index().mounts.get(&id).cloned().unwrap_or_default()
    }

    /// The volume's mount at `target`.
    pub(super) fn at(&self, id: VolumeId, target: &Path) -> Option<Mounted> {
        self.index().mounts.get(&id)?.iter().find(|mounted| mounted.target == target).cloned()
    }

    /// The volume that is mounted at `target`.
    pub(super) fn owner(&self, target: &Path) -> Option<VolumeId> {
        self.index().owners.get(target).copied()
    }

    /// Notes a mount, once.
    pub(in super::super) fn add(&self, id: VolumeId, mounted: Mounted) {
        let mut index = self.index();
        if let Some(before) = index.owners.insert(mounted.target.clone(), id) {
            index.drop_mount(before, &mounted.target);
        }
        index.mounts.entry(id).or_default().push(mounted);
    }

    /// Notes that nothing of the volume is mounted at `target` any more.
    pub(in super::super) fn remove(&self, id: VolumeId, target: &Path) {
        let mut index = self.index();
        index.drop_mount(id, target);
        if index.owners.get(target) == Some(&id) {
            index.owners.remove(target);
        }
    }

    /// Notes that the raw device is staged at `staging`.
    pub(super) fn stage_raw(&self, id: VolumeId, staging: &Path) {
        self.index().staged_raw.entry(id).or_default().insert(staging.to_owned());
    }

    /// Whether the raw device is staged, at `staging` or (with `None`) anywhere.
    pub(super) fn is_raw_staged(&self, id: VolumeId, staging: Option<&Path>) -> bool {
        let index = self.index();
        let staged = index.staged_raw.get(&id);
        staged.is_some_and(|all| staging.is_none_or(|staging| all.contains(staging)))
    }

    /// Notes that the raw device is no longer staged at `staging`, or (with `None`) anywhere.
    pub(super) fn unstage_raw(&self, id: VolumeId, staging: Option<&Path>) {
        let mut index = self.index();
        let Some(all) = index.staged_raw.get_mut(&id) else { return };
        all.retain(|other| staging.is_some_and(|staging| other != staging));
        if all.is_empty() {
            index.staged_raw.remove(&id);
        }
    }
}

impl Inner {
    /// Fails while the volume is mounted anywhere on this machine. Mounts that somebody else took away are forgotten.
    pub(in super::super) async fn refuse_in_use(&self, volume: &Volume) -> Result<()> {
        if let Some(mounted) = self.first_use(volume.id).await? {
            let text = format!(
                "volume {} is in use on this node, mounted at {}: unpublish and unstage it first",
                volume.id,
                mounted.target.display()
            );
            return Err(Error::precondition(text));
        }
        self.uses.unstage_raw(volume.id, None);
        Ok(())
    }

    /// A mount of the volume that the kernel has too. What it no longer has is forgotten.
    pub(super) async fn first_use(&self, id: VolumeId) -> Result<Option<Mounted>> {
        for mounted in self.uses.of(id) {
            let (host, target) = (self.host.clone(), mounted.target.clone());
            // Anything at all there: ours may be below it.
            if blocking(move || host.mount_at(&target).map_err(Error::from)).await?.is_some() {
                return Ok(Some(mounted));
            }
            self.uses.remove(id, &mounted.target);
        }
        Ok(None)
    }
}
