//! How much of the pool an object takes: blocks of its own, and blocks that it shares.
//!
//! The length of a file says nothing here, and neither does its block count, in which shared blocks count in full for
//! each file. The extents say it.

use std::path::Path;

use super::names::Part;
use super::pool::Pool;
use crate::backend::Usage;
use crate::host::SubvolumeUsage;
use crate::volume::{Layout, Result, Snapshot, Volume};

/// How many extents are asked for at once.
const PAGE: usize = 4096;

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
        let mut usage = Usage::default();
        let mut start = 0;
        loop {
            let extents = self.host.extents(image, start, PAGE)?;
            for extent in &extents {
                let sum = if extent.shared { &mut usage.shared } else { &mut usage.own };
                *sum += extent.len;
            }
            match extents.last() {
                Some(last) if extents.len() == PAGE => start = last.logical + last.len,
                _ => return Ok(usage),
            }
        }
    }
}
