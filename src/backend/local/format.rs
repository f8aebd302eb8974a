//! Formatting a blank volume on its first use.
//!
//! Formatting destroys, so it needs proof. A volume is blank when all places of superblocks and partition tables are
//! zero *and* the image has no block that was ever written: a database on a raw device may well begin with zeros.
//! And it never happens in the volume itself: the filesystem is made at `ID.new` and renamed over the blank image, so
//! that a crash inside mkfs leaves a blank volume and not half a filesystem that looks foreign ever after.

use std::path::Path;

use super::extents::{Failure, stream};
use super::names;
use super::pool::Pool;
use crate::host::Cause;
use crate::volume::{Error, FsType, Provisioning, Result, Volume, mkfs_plan};

impl Pool {
    /// Makes the filesystem of a volume. The caller has probed `image` as blank and detached it.
    pub(super) fn format(&self, volume: &Volume, image: &Path) -> Result<()> {
        if volume.raw_written || self.was_written(image)? {
            return Err(Error::precondition(format!(
                "volume {}: has no filesystem, but it was written to as a raw device: it is not formatted",
                volume.id
            )));
        }
        let size = self.host.metadata(image)?.map_or(volume.size, |meta| meta.len);
        let spec = self.mkfs_spec(volume, size)?;
        let new = names::new_beside(image);
        let _claim = self.claims.take(&new)?;
        self.host.remove_file(&new)?;
        let thick = volume.mutable.provisioning == Provisioning::Thick;
        let template = (self.reflink && !thick && volume.fs != FsType::Btrfs)
            .then(|| format!("{}.img", mkfs_plan::template_name(volume.fs, size, &spec.args)));
        if !self.use_template(template.as_deref(), &new)? {
            let made = self.host.create_file(&new, size).and_then(|()| self.host.mkfs(&new, &spec));
            self.or_remove(&new, made)?;
            if let Some(name) = template {
                self.keep_template(name, &new);
            }
        }
        // Before the name changes: a rename may reach the disk before the bytes do.
        let placed = self.host.sync_file(&new).and_then(|()| self.host.rename(&new, image));
        self.or_remove(&new, placed)?;
        // The space of a thick volume went with its blank image, and comes back here. Having both at once would need
        // twice the volume's size; if the space is gone in between, `attach` says so and tries again.
        if thick {
            self.host.allocate(image)?;
        }
        self.host.sync_dir(&self.names.volumes())?;
        Ok(())
    }

    /// Whether any block of the image was ever written, as opposed to set aside.
    fn was_written(&self, image: &Path) -> Result<bool> {
        match self.host.extents(image, 0, 1) {
            Ok(_) => {
                let failure = Failure::default();
                let written = stream(&*self.host, image, 0, &failure).any(|piece| !piece.unwritten);
                failure.check(written)
            }
            // No such map here (a filesystem in memory): the block count is the next best witness.
            Err(error) if error.cause == Cause::Unsupported => {
                Ok(self.host.metadata(image)?.is_none_or(|meta| meta.allocated > 0))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Makes `to` from the template; `false` where there is none to use.
    fn use_template(&self, name: Option<&str>, to: &Path) -> Result<bool> {
        let Some(name) = name else { return Ok(false) };
        if !self.templates.touch(name) {
            return Ok(false);
        }
        match self.host.clone_file(&self.names.templates().join(name), to) {
            Ok(()) => Ok(true),
            Err(error) if error.cause == Cause::NotFound => {
                self.templates.forget(name);
                Ok(false)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Keeps a copy of a freshly formatted image as a template. Failing to costs only the next volume a mkfs.
    fn keep_template(&self, name: String, formatted: &Path) {
        let path = self.names.templates().join(&name);
        let new = names::new_beside(&path);
        // Taken: another volume of the same kind is making it right now.
        let Ok(_claim) = self.claims.take(&new) else { return };
        let made = self
            .host
            .remove_file(&new)
            .and_then(|_| self.host.clone_file(formatted, &new))
            .and_then(|()| self.host.sync_file(&new))
            .and_then(|()| self.host.rename(&new, &path));
        if self.or_remove(&new, made).is_ok() {
            for old in self.templates.add(name) {
                // One that stays is found again at the next start.
                let _ = self.host.remove_file(&self.names.templates().join(old));
            }
        }
    }
}
