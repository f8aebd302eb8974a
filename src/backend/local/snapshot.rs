//! Cutting, sealing and putting back: everything in which the bytes of a snapshot move.
//!
//! The cut is all that happens while the workload's writes wait, so it does only what must be done then: it forces the
//! image to the disk (on a loop device without direct I/O the newest bytes are in the page cache of the *file*, which
//! flushing the device does not write) and clones it. Making the clone durable and giving it its name is the seal.

use super::image::{gone, not_here};
use super::names::{self, Part};
use super::pool::Pool;
use crate::backend::Progress;
use crate::volume::{Error, Kind, Layout, Provisioning, Result, Snapshot, Volume};

use std::path::Path;

impl Pool {
    pub(super) fn needs_freeze(&self, volume: &Volume) -> Result<bool> {
        match volume.layout {
            // A snapshot of a subvolume is one transaction of btrfs.
            Layout::Subvolume => Ok(false),
            Layout::Image if self.reflink => Ok(true),
            Layout::Image => {
                let (image, _) = self.whole_image(volume)?;
                self.check_copyable(volume, &image)?;
                Ok(false)
            }
            Layout::Remote => Err(not_here(volume)),
        }
    }

    /// Refuses to copy a volume in use where that takes as long as its data: a freeze must not last that long.
    pub(super) fn check_copyable(&self, volume: &Volume, image: &Path) -> Result<()> {
        if !self.reflink && self.host.loops_of(image)?.iter().any(|device| !device.read_only) {
            return Err(Error::precondition(format!(
                "volume {} is in use, and pool {} copies without sharing blocks: unpublish the volume first",
                volume.id, self.info.name
            )));
        }
        Ok(())
    }

    /// Forces everything written to the volume into its image and on to the disk.
    pub(super) fn flush(&self, volume: &Volume, image: &Path) -> Result<()> {
        // A freeze has flushed a mounted device. A raw one has a page cache of its own that nobody flushes.
        if volume.block || volume.raw_written {
            for device in self.host.loops_of(image)? {
                if !device.read_only {
                    self.host.sync_file(&device.path)?;
                }
            }
        }
        self.host.sync_file(image)?;
        Ok(())
    }

    pub(super) fn cut(&self, volume: &Volume, snapshot: &Snapshot, progress: &Progress) -> Result<()> {
        match volume.layout {
            Layout::Subvolume => self.cut_subvolume(volume, snapshot),
            Layout::Image => {
                if self.host.metadata(&self.names.snapshot(snapshot.id, Part::Image))?.is_some() {
                    return Ok(());
                }
                let (image, _) = self.whole_image(volume)?;
                self.check_copyable(volume, &image)?;
                let cut = self.names.snapshot(snapshot.id, Part::Cut);
                let _claim = self.claims.take(&cut)?;
                self.flush(volume, &image)?;
                // One that is there already is of an attempt that ended somewhere in the middle.
                let made = self.fill(&image, &cut, 0, self.reflink, progress);
                self.or_remove(&cut, made)
            }
            Layout::Remote => Err(not_here(volume)),
        }
    }

    pub(super) fn seal(&self, snapshot: &Snapshot) -> Result<()> {
        let (whole, durable) = match snapshot.layout {
            Layout::Subvolume => (self.names.snapshot(snapshot.id, Part::Subvolume), true),
            _ => (self.names.snapshot(snapshot.id, Part::Image), false),
        };
        let cut = self.names.snapshot(snapshot.id, Part::Cut);
        if self.host.metadata(&cut)?.is_some() {
            if !durable {
                self.host.sync_file(&cut)?;
            }
            self.host.rename(&cut, &whole)?;
        } else if self.host.metadata(&whole)?.is_none() {
            return Err(gone(&format!("snapshot {}", snapshot.id), &cut));
        }
        self.host.sync_dir(&self.names.snapshots())?;
        Ok(())
    }

    pub(super) fn delete_snapshot(&self, snapshot: &Snapshot) -> Result<()> {
        match snapshot.layout {
            Layout::Subvolume => self.delete_subvolume_snapshot(snapshot),
            _ => {
                let image = self.names.snapshot(snapshot.id, Part::Image);
                if self.host.metadata(&image)?.is_some() {
                    self.release(&image, &format!("snapshot {}", snapshot.id))?;
                }
                self.host.remove_file(&self.names.snapshot(snapshot.id, Part::Cut))?;
                self.host.remove_file(&image)?;
                Ok(())
            }
        }
    }

    pub(super) fn replace(&self, volume: &Volume, from: &Snapshot, progress: &Progress) -> Result<()> {
        if from.layout != volume.layout {
            let why = format!("snapshot {} is {:?} and the volume {:?}", from.id, from.layout, volume.layout);
            return Err(Error::invalid("snapshot_id", why));
        }
        if from.size > volume.size {
            let why =
                format!("snapshot {} has {} bytes, the volume only {}", from.id, from.size, volume.size);
            return Err(Error::new(Kind::OutOfRange, why));
        }
        match volume.layout {
            Layout::Subvolume => self.replace_subvolume(volume, from),
            Layout::Image => {
                let source = self.sealed_image(from)?;
                let image = self.names.volume(volume.id, Part::Image);
                if self.host.metadata(&image)?.is_some() {
                    self.release(&image, &format!("volume {}", volume.id))?;
                }
                let new = names::new_beside(&image);
                let _claim = self.claims.take(&new)?;
                let thick = volume.mutable.provisioning == Provisioning::Thick;
                let made = self
                    // The volume is detached, so nobody waits: a thick one gets blocks of its own at once.
                    .fill(&source, &new, volume.size, self.reflink && !thick, progress)
                    .and_then(|()| if thick { self.host.allocate(&new) } else { Ok(()) })
                    .and_then(|()| self.host.sync_file(&new))
                    .and_then(|()| self.host.rename(&new, &image));
                self.or_remove(&new, made)?;
                self.host.sync_dir(&self.names.volumes())?;
                Ok(())
            }
            Layout::Remote => Err(not_here(volume)),
        }
    }
}
