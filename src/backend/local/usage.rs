//! How much of the pool an object takes: blocks of its own, and blocks that it shares.
//!
//! The length of a file says nothing here, and neither does its block count, in which shared blocks count in full for
//! each file. The extents say it.

use std::path::Path;

use super::extents::{Failure, stream};
use super::names::Part;
use super::pool::Pool;
use crate::backend::Usage;
use crate::host::SubvolumeUsage;
use crate::volume::extents::own_and_shared;
use crate::volume::{Layout, Result, Snapshot, Volume};

impl Pool {
    pub(super) fn volume_usage(&self, volume: &Volume) -> Result<Usage> {
        match volume.layout {
            Layout::Subvolume => self.subvolume_usage(&self.names.volume(volume.id, Part::Subvolume)),
            _ => self.image_usage(&self.names.volume(volume.id, Part::Image)),
        }
    }

    pub(super) fn snapshot_usage(&self, snapshot: &Snapshot) -> Result<Usage> {
        match snapshot.layout {
            Layout::Subvolume => self.subvolume_usage(&self.names.snapshot(snapshot.id, Part::Subvolume)),
            _ => self.image_usage(&self.names.snapshot(snapshot.id, Part::Image)),
        }
    }

    fn subvolume_usage(&self, path: &Path) -> Result<Usage> {
        let SubvolumeUsage { referenced, exclusive, .. } = self.host.subvolume_usage(path)?;
        Ok(Usage { own: exclusive, shared: referenced.saturating_sub(exclusive) })
    }

    /// Bytes of one image.
    pub(super) fn image_usage(&self, image: &Path) -> Result<Usage> {
        if !self.reflink {
            // Nothing is shared, and there may be no map of extents to ask.
            let own = self.host.metadata(image)?.map_or(0, |meta| meta.allocated);
            return Ok(Usage { own, shared: 0 });
        }
        let failure = Failure::default();
        let (own, shared) = own_and_shared(stream(&*self.host, image, 0, &failure));
        failure.check(Usage { own, shared })
    }
}
