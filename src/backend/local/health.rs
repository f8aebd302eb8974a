//! What is wrong with the pool or a volume right now, as far as this machine can see.
//!
//! A question that the host cannot answer is a fault too, of the mildest kind: unknown is not healthy.

use super::attach::is_of;
use super::names::Part;
use super::pool::Pool;
use crate::backend::{Fault, Severity};
use crate::volume::{Error, Layout, Result, Volume};

/// From this part of the pool's size on it is nearly full, in hundredths.
const NEARLY_FULL: u128 = 90;

/// The fault of not knowing.
pub(super) fn unknown(error: &Error) -> Fault {
    fault(Severity::Degraded, "Unknown", format!("the machine gives no answer: {error}"))
}

fn fault(severity: Severity, reason: &'static str, message: String) -> Fault {
    Fault { severity, reason, message }
}

impl Pool {
    pub(super) fn faults(&self) -> Vec<Fault> {
        self.look_at_pool().unwrap_or_else(|error| vec![unknown(&error)])
    }

    fn look_at_pool(&self) -> Result<Vec<Fault>> {
        let dir = self.names.dir.display();
        let marker = self.host.metadata(&self.names.marker())?;
        if marker.is_none_or(|marker| marker.dev != self.dev) {
            let message = format!("{dir} no longer shows the pool: mount its disk there again");
            return Ok(vec![fault(Severity::Inaccessible, "PoolGone", message)]);
        }
        let stat = self.host.fs_stat(&self.names.dir)?;
        let mut faults = Vec::new();
        if stat.read_only {
            let message =
                format!("the filesystem of {dir} is read-only: look for disk errors in the kernel's log");
            faults.push(fault(Severity::Inaccessible, "PoolReadOnly", message));
        }
        let capacity = self.capacity_of(&stat);
        let mend = "delete snapshots or volumes, or add space";
        if capacity.available == 0 {
            let message =
                format!("{dir} is down to its reserve and takes no new volumes or snapshots: {mend}");
            faults.push(fault(Severity::Degraded, "PoolFull", message));
        } else if u128::from(capacity.allocated) * 100 >= u128::from(capacity.size) * NEARLY_FULL {
            let message = format!("{dir} has only {} bytes left: {mend}", capacity.available);
            faults.push(fault(Severity::Degraded, "PoolNearlyFull", message));
        }
        Ok(faults)
    }

    pub(super) fn volume_faults(&self, volume: &Volume) -> Vec<Fault> {
        let looked = match volume.layout {
            Layout::Subvolume => self.look_at_subvolume(volume),
            _ => self.look_at_image(volume),
        };
        looked.unwrap_or_else(|error| vec![unknown(&error)])
    }

    fn look_at_subvolume(&self, volume: &Volume) -> Result<Vec<Fault>> {
        let there = |part| Ok::<_, Error>(self.host.metadata(&self.names.volume(volume.id, part))?.is_some());
        if there(Part::Subvolume)? {
            return Ok(Vec::new());
        }
        Ok(vec![if there(Part::Old)? {
            let message = "its content is being replaced, and that has not ended".into();
            fault(Severity::Inaccessible, "ReplaceUnfinished", message)
        } else {
            fault(Severity::DataLoss, "SubvolumeMissing", "its subvolume is gone from the pool".into())
        }])
    }

    fn look_at_image(&self, volume: &Volume) -> Result<Vec<Fault>> {
        let image = self.names.volume(volume.id, Part::Image);
        let Some(meta) = self.host.metadata(&image)? else {
            let message = "its image is gone from the pool".into();
            return Ok(vec![fault(Severity::DataLoss, "ImageMissing", message)]);
        };
        let mut faults = Vec::new();
        if meta.len < volume.size {
            let message = format!("its image has {} bytes of {}: the end is gone", meta.len, volume.size);
            faults.push(fault(Severity::DataLoss, "ImageTruncated", message));
        }
        let devices = self.host.loops_of(&image)?;
        if devices.is_empty() {
            return Ok(faults);
        }
        if volume.mutable.direct_io == Some(true) && devices.iter().any(|device| !device.direct_io) {
            let message =
                "direct I/O was asked for, but the pool's filesystem cannot do it: writes go through \
                           the page cache of the pool"
                    .into();
            faults.push(fault(Severity::Degraded, "BufferedIo", message));
        }
        let mounts = self.host.mounts()?;
        let mut mounted = mounts.iter().filter(|mount| {
            !mount.read_only && mount.node_rdev.is_none() && devices.iter().any(|device| is_of(mount, device))
        });
        if let Some(mount) = mounted.next()
            && self.host.usage(&mount.target)?.read_only
        {
            let message =
                "its filesystem went read-only after an error: stop what uses it and publish it again, \
                           so that it is mended"
                    .into();
            faults.push(fault(Severity::Inaccessible, "FilesystemReadOnly", message));
        }
        Ok(faults)
    }
}
