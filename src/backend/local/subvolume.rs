//! Volumes as btrfs subvolumes: no loop device, no mkfs, snapshots in one step, size by quota group.
//!
//! A subvolume cannot be replaced by one rename, since a directory is never renamed over one that is not empty. So a
//! replacement takes two: the old one goes to `ID.old`, the new one takes its name. In between, `ID.old` holds the
//! volume's old bytes and is never taken for left-over; doing the call again finishes it.

use std::path::{Path, PathBuf};

use super::image::gone;
use super::names::{self, Part};
use super::pool::Pool;
use crate::backend::{Attachment, Origin};
use crate::host::MountEntry;
use crate::volume::{Error, Result, Snapshot, Volume};

impl Pool {
    fn whole_subvolume(&self, volume: &Volume) -> Result<PathBuf> {
        let path = self.names.volume(volume.id, Part::Subvolume);
        match self.host.metadata(&path)? {
            Some(_) => Ok(path),
            None => Err(gone(&format!("volume {}", volume.id), &path)),
        }
    }

    fn sealed_subvolume(&self, snapshot: &Snapshot) -> Result<PathBuf> {
        let path = self.names.snapshot(snapshot.id, Part::Subvolume);
        match self.host.metadata(&path)? {
            Some(_) => Ok(path),
            None => Err(gone(&format!("snapshot {}", snapshot.id), &path)),
        }
    }

    pub(super) fn create_subvolume(&self, volume: &Volume, origin: Option<Origin<'_>>) -> Result<()> {
        let path = self.names.volume(volume.id, Part::Subvolume);
        if self.host.metadata(&path)?.is_some() {
            // Its limit may be what the crash kept from it.
            self.host.subvolume_limit(&path, volume.size)?;
            return Ok(());
        }
        let from = match origin {
            None => None,
            Some(Origin::Snapshot(snapshot)) => Some(self.sealed_subvolume(snapshot)?),
            Some(Origin::Volume(source)) => Some(self.whole_subvolume(source)?),
        };
        let made = match from {
            None => self.host.subvolume_create(&path, volume.size),
            Some(from) => self.host.subvolume_snapshot(&from, &path, false, Some(volume.size)),
        };
        if made.is_err() {
            // Best effort: the record is an intent, and undoing it removes this too.
            let _ = self.host.subvolume_delete(&path);
        }
        made.map_err(Error::from)
    }

    pub(super) fn delete_subvolume(&self, volume: &Volume) -> Result<()> {
        self.check_unbound(volume)?;
        let new = self.names.volume(volume.id, Part::New);
        let _claim = self.claims.take(&new)?;
        for part in [Part::New, Part::Old, Part::Subvolume] {
            self.host.subvolume_delete(&self.names.volume(volume.id, part))?;
        }
        Ok(())
    }

    pub(super) fn grow_subvolume(&self, volume: &Volume, to: u64) -> Result<()> {
        let path = self.whole_subvolume(volume)?;
        self.host.subvolume_limit(&path, to)?;
        Ok(())
    }

    pub(super) fn cut_subvolume(&self, volume: &Volume, snapshot: &Snapshot) -> Result<()> {
        if self.host.metadata(&self.names.snapshot(snapshot.id, Part::Subvolume))?.is_some() {
            return Ok(());
        }
        let from = self.whole_subvolume(volume)?;
        let cut = self.names.snapshot(snapshot.id, Part::Cut);
        let _claim = self.claims.take(&cut)?;
        self.host.subvolume_delete(&cut)?;
        self.host.subvolume_snapshot(&from, &cut, true, None)?;
        Ok(())
    }

    pub(super) fn delete_subvolume_snapshot(&self, snapshot: &Snapshot) -> Result<()> {
        for part in [Part::Cut, Part::Subvolume] {
            self.host.subvolume_delete(&self.names.snapshot(snapshot.id, part))?;
        }
        Ok(())
    }

    pub(super) fn replace_subvolume(&self, volume: &Volume, from: &Snapshot) -> Result<()> {
        let source = self.sealed_subvolume(from)?;
        self.check_unbound(volume)?;
        let path = self.names.volume(volume.id, Part::Subvolume);
        let new = names::new_beside(&path);
        let old = self.names.volume(volume.id, Part::Old);
        let _claim = self.claims.take(&new)?;
        self.host.subvolume_delete(&new)?;
        self.host.subvolume_snapshot(&source, &new, false, Some(volume.size))?;
        if self.host.metadata(&path)?.is_some() {
            self.host.subvolume_delete(&old)?;
            self.host.rename(&path, &old)?;
        }
        self.host.rename(&new, &path)?;
        self.host.sync_dir(&self.names.volumes())?;
        self.host.subvolume_delete(&old)?;
        Ok(())
    }

    pub(super) fn attach_subvolume(&self, volume: &Volume) -> Result<Attachment> {
        self.whole_subvolume(volume).map(|path| Attachment::Directory { path })
    }

    pub(super) fn attached_subvolume(&self, volume: &Volume) -> Result<Vec<Attachment>> {
        let path = self.names.volume(volume.id, Part::Subvolume);
        let bound = self.host.mounts()?.iter().any(|mount| shows(mount, &path));
        Ok(if bound { vec![Attachment::Directory { path }] } else { Vec::new() })
    }

    /// Refuses while the subvolume is bound somewhere: removing one succeeds even then.
    pub(super) fn check_unbound(&self, volume: &Volume) -> Result<()> {
        let path = self.names.volume(volume.id, Part::Subvolume);
        match self.host.mounts()?.iter().find(|mount| shows(mount, &path)) {
            Some(mount) => Err(Error::precondition(format!(
                "volume {} is still mounted at {}: unpublish it first",
                volume.id,
                mount.target.display()
            ))),
            None => Ok(()),
        }
    }
}

/// Whether a mount shows the subvolume `path` or a part of it. Its name is unique, so it is enough to find it in the
/// mount's root; device numbers say nothing, since btrfs gives each subvolume one of its own.
pub(super) fn shows(mount: &MountEntry, path: &Path) -> bool {
    path.file_name().is_some_and(|name| mount.root.iter().any(|part| part == name))
}
