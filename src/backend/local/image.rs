//! Making, copying, growing and removing image files.
//!
//! The rule that the rest of the backend stands on: `ID.img` is whole. A blank image is made in place, because each of
//! its in-between states is a blank image too; a copy is made at `ID.new` and renamed.

use std::path::{Path, PathBuf};

use super::names::{self, Part};
use super::pool::Pool;
use crate::backend::{Origin, Progress};
use crate::host::{FileMeta, HostResult};
use crate::volume::{Error, Kind, Layout, Mutable, Provisioning, Result, Snapshot, Volume};

impl Pool {
    pub(super) fn create(
        &self,
        volume: &Volume,
        origin: Option<Origin<'_>>,
        progress: &Progress,
    ) -> Result<()> {
        if let Some(origin) = &origin {
            self.check_origin(volume, origin)?;
        }
        match (volume.layout, origin) {
            (Layout::Subvolume, origin) => self.create_subvolume(volume, origin),
            (Layout::Image, None) => self.create_blank(volume),
            (Layout::Image, Some(Origin::Snapshot(snapshot))) => {
                self.copy_image(&self.sealed_image(snapshot)?, volume, progress)
            }
            (Layout::Image, Some(Origin::Volume(source))) => {
                let (image, _) = self.whole_image(source)?;
                self.check_copyable(source, &image)?;
                self.flush(source, &image)?;
                self.copy_image(&image, volume, progress)
            }
            (Layout::Remote, _) => Err(not_here(volume)),
        }
    }

    /// Refuses a source that this pool cannot have, or that cannot become this volume.
    fn check_origin(&self, volume: &Volume, origin: &Origin<'_>) -> Result<()> {
        let (pool, layout, size) = match origin {
            Origin::Snapshot(snapshot) => (snapshot.id.pool(), snapshot.layout, snapshot.size),
            Origin::Volume(source) => (source.id.pool(), source.layout, source.size),
        };
        if pool != self.info.id {
            let why = format!("the source lies in pool {pool}, and this is pool {}", self.info.id);
            return Err(Error::new(Kind::Exhausted, why));
        }
        if layout != volume.layout {
            let why = format!("the source is {layout:?} and the volume would be {:?}", volume.layout);
            return Err(Error::invalid("volume_content_source", why));
        }
        if size > volume.size {
            let why = format!("capacity_range: the source has {size} bytes, the volume only {}", volume.size);
            return Err(Error::new(Kind::OutOfRange, why));
        }
        Ok(())
    }

    fn create_blank(&self, volume: &Volume) -> Result<()> {
        let image = self.names.volume(volume.id, Part::Image);
        match self.host.metadata(&image)? {
            None => self.host.create_file(&image, volume.size)?,
            Some(meta) if meta.len == volume.size => {}
            // Made, but not yet given its length: what a crash inside the call can leave.
            Some(meta) if meta.len == 0 => self.host.set_len(&image, volume.size)?,
            Some(meta) => return Err(wrong_length(&image, meta.len, volume.size)),
        }
        if volume.mutable.provisioning == Provisioning::Thick {
            self.or_remove(&image, self.host.allocate(&image))?;
        }
        Ok(())
    }

    /// Makes the volume's image a copy of `from`, grown to the volume's size.
    fn copy_image(&self, from: &Path, volume: &Volume, progress: &Progress) -> Result<()> {
        let image = self.names.volume(volume.id, Part::Image);
        match self.host.metadata(&image)? {
            Some(meta) if meta.len == volume.size => return Ok(()),
            Some(meta) => return Err(wrong_length(&image, meta.len, volume.size)),
            None => {}
        }
        let new = names::new_beside(&image);
        let _claim = self.claims.take(&new)?;
        // Where blocks are shared, a thick volume gets blocks of its own in `settle`, when its source has been
        // thawed; without sharing it already has them, but for the holes.
        let made = self
            .fill(from, &new, volume.size, self.reflink, progress)
            .and_then(|()| match volume.mutable.provisioning {
                Provisioning::Thick if !self.reflink => self.host.allocate(&new),
                _ => Ok(()),
            })
            .and_then(|()| self.host.rename(&new, &image));
        self.or_remove(&new, made)
    }

    /// Makes `to` a copy of `from` with `len` bytes, by sharing its blocks or by copying them.
    pub(super) fn fill(
        &self,
        from: &Path,
        to: &Path,
        len: u64,
        share: bool,
        progress: &Progress,
    ) -> HostResult<()> {
        self.host.remove_file(to)?;
        if share {
            self.host.clone_file(from, to)?;
        } else {
            self.host.copy_sparse(from, to, &mut |done, total| {
                progress(done, total);
                true
            })?;
        }
        match self.host.metadata(to)? {
            Some(meta) if meta.len < len => self.host.set_len(to, len),
            _ => Ok(()),
        }
    }

    /// Whether there is anything for [`Pool::settle`] to do.
    pub(super) fn has_to_settle(&self, volume: &Volume, from_copy: bool) -> bool {
        if volume.layout != Layout::Image {
            // A subvolume is made by a transaction of its own; the record's commit brings the names along.
            return false;
        }
        // A blank image is only names and numbers, and on XFS and ext4 the record's commit forces those along.
        let thick = volume.mutable.provisioning == Provisioning::Thick;
        from_copy || thick || !matches!(self.info.filesystem.as_str(), "xfs" | "ext4")
    }

    pub(super) fn settle(&self, volume: &Volume, from_copy: bool) -> Result<()> {
        if !self.has_to_settle(volume, from_copy) {
            return Ok(());
        }
        let image = self.names.volume(volume.id, Part::Image);
        let thick = volume.mutable.provisioning == Provisioning::Thick;
        if from_copy && thick && self.reflink {
            return self.unshare(volume, &image);
        }
        self.host.sync_file(&image)?;
        Ok(())
    }

    /// Gives a thick volume blocks of its own for all its bytes: shared ones are copied, holes filled.
    fn unshare(&self, volume: &Volume, image: &Path) -> Result<()> {
        if self.image_usage(image)?.shared > 0 {
            self.release(image, &format!("volume {}", volume.id))?;
            let new = names::new_beside(image);
            let _claim = self.claims.take(&new)?;
            let quiet: Progress = std::sync::Arc::new(|_, _| {});
            let made = self
                .fill(image, &new, volume.size, false, &quiet)
                .and_then(|()| self.host.allocate(&new))
                .and_then(|()| self.host.sync_file(&new))
                .and_then(|()| self.host.rename(&new, image));
            self.or_remove(&new, made)?;
        } else {
            self.host.allocate(image)?;
            self.host.sync_file(image)?;
        }
        self.host.sync_dir(&self.names.volumes())?;
        Ok(())
    }

    pub(super) fn delete(&self, volume: &Volume) -> Result<()> {
        match volume.layout {
            Layout::Subvolume => self.delete_subvolume(volume),
            Layout::Image => {
                let image = self.names.volume(volume.id, Part::Image);
                if self.host.metadata(&image)?.is_some() {
                    self.release(&image, &format!("volume {}", volume.id))?;
                }
                let new = names::new_beside(&image);
                let _claim = self.claims.take(&new)?;
                self.host.remove_file(&new)?;
                self.host.remove_file(&self.names.volume(volume.id, Part::Partial))?;
                self.host.remove_file(&image)?;
                Ok(())
            }
            Layout::Remote => Err(not_here(volume)),
        }
    }

    pub(super) fn grow(&self, volume: &Volume, to: u64) -> Result<bool> {
        match volume.layout {
            Layout::Subvolume => self.grow_subvolume(volume, to).map(|()| false),
            Layout::Image => {
                let (image, meta) = self.whole_image(volume)?;
                if meta.len < to {
                    self.host.set_len(&image, to)?;
                }
                if volume.mutable.provisioning == Provisioning::Thick
                    && let Err(error) = self.host.allocate(&image)
                {
                    // No device knows of the new end yet, so nothing was written there.
                    let _ = self.host.set_len(&image, meta.len);
                    return Err(error.into());
                }
                self.host.sync_file(&image)?;
                for device in self.host.loops_of(&image)? {
                    self.host.loop_resize(&device)?;
                }
                Ok(volume.mount)
            }
            Layout::Remote => Err(not_here(volume)),
        }
    }

    pub(super) fn modify(&self, volume: &Volume, to: &Mutable) -> Result<()> {
        if volume.layout != Layout::Image {
            // The other settings are of a block device, which a subvolume has not: one class serves pools of both kinds.
            return match to.provisioning {
                Provisioning::Thin => Ok(()),
                Provisioning::Thick => Err(Error::invalid("parameters", "a subvolume cannot be thick")),
            };
        }
        let (image, _) = self.whole_image(volume)?;
        let devices = self.host.loops_of(&image)?;
        match (volume.mutable.provisioning, to.provisioning) {
            // What is attached cannot change places, so there only the holes are filled.
            (_, Provisioning::Thick) if devices.is_empty() => self.unshare(volume, &image)?,
            (_, Provisioning::Thick) => {
                self.host.allocate(&image)?;
                self.host.sync_file(&image)?;
            }
            // While somebody may write, a block that was zero when it was read may hold data when it is given back.
            // An attached volume gives its space back by discard instead.
            (Provisioning::Thick, Provisioning::Thin) if devices.is_empty() => {
                self.host.deallocate_zeros(&image)?;
                self.host.sync_file(&image)?;
            }
            _ => {}
        }
        for device in &devices {
            self.tune(device, to)?;
        }
        Ok(())
    }

    /// The image of a volume, once it is known to be there in full length.
    pub(super) fn whole_image(&self, volume: &Volume) -> Result<(PathBuf, FileMeta)> {
        let image = self.names.volume(volume.id, Part::Image);
        match self.host.metadata(&image)? {
            Some(meta) if meta.len >= volume.size => Ok((image, meta)),
            Some(meta) => Err(wrong_length(&image, meta.len, volume.size)),
            None => Err(gone(&format!("volume {}", volume.id), &image)),
        }
    }

    /// The image of a sealed snapshot, once it is known to be there in full length.
    pub(super) fn sealed_image(&self, snapshot: &Snapshot) -> Result<PathBuf> {
        let image = self.names.snapshot(snapshot.id, Part::Image);
        match self.host.metadata(&image)? {
            Some(meta) if meta.len >= snapshot.size => Ok(image),
            Some(meta) => Err(wrong_length(&image, meta.len, snapshot.size)),
            None => Err(gone(&format!("snapshot {}", snapshot.id), &image)),
        }
    }

    /// The result, after removing what the failed work left at `path`.
    pub(super) fn or_remove(&self, path: &Path, result: HostResult<()>) -> Result<()> {
        if result.is_err() {
            // Best effort: the name is a temporary one, or its record is an intent, so it is found again.
            let _ = self.host.remove_file(path);
        }
        result.map_err(Error::from)
    }
}

pub(super) fn not_here(volume: &Volume) -> Error {
    Error::internal(format!("volume {} is not of a local pool", volume.id))
}

pub(super) fn gone(what: &str, path: &Path) -> Error {
    Error::internal(format!("the bytes of {what} are gone: {} does not exist", path.display()))
}

pub(super) fn wrong_length(path: &Path, is: u64, should: u64) -> Error {
    Error::internal(format!("{} has {is} bytes where its record says {should}", path.display()))
}
