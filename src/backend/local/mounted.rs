//! Which volumes of the pool this machine has mounted now, as the kernel's tables say it.
//!
//! Asked at start: a restart of the server changes nothing about what is mounted, and no record of ours says it.

use super::attach::is_of;
use super::names::{self, Part};
use super::pool::Pool;
use super::subvolume::shows;
use crate::host::{LoopDevice, MountEntry};
use crate::volume::{ObjectId, Result, VolumeId};

impl Pool {
    pub(super) fn mounted(&self) -> Result<Vec<(VolumeId, MountEntry)>> {
        let mounts = self.host.mounts()?;
        let mut found = Vec::new();
        for (id, device) in self.devices()? {
            let shown = mounts.iter().filter(|mount| is_of(mount, &device));
            found.extend(shown.map(|mount| (id, mount.clone())));
        }
        for (id, part) in self.volumes()? {
            if part == Part::Subvolume {
                let path = self.names.volume(id, part);
                let shown = mounts.iter().filter(|mount| shows(mount, &path));
                found.extend(shown.map(|mount| (id, mount.clone())));
            }
        }
        Ok(found)
    }

    /// The images and subvolumes of all volumes.
    fn volumes(&self) -> Result<Vec<(VolumeId, Part)>> {
        let names = self.host.read_dir(&self.names.volumes())?;
        let whole = names.iter().filter_map(|entry| match names::parse(&entry.name) {
            Some((ObjectId::Volume(id), part @ (Part::Image | Part::Subvolume))) => Some((id, part)),
            _ => None,
        });
        Ok(whole.collect())
    }

    /// Every loop device of a volume's image.
    fn devices(&self) -> Result<Vec<(VolumeId, LoopDevice)>> {
        let mut left = self.host.loops_below(&self.names.volumes())?;
        let mut found = Vec::new();
        if left.is_empty() {
            return Ok(found);
        }
        for (id, part) in self.volumes()? {
            if part != Part::Image {
                continue;
            }
            for device in self.host.loops_of(&self.names.volume(id, part))? {
                left.retain(|other| other.rdev != device.rdev);
                found.push((id, device));
            }
            if left.is_empty() {
                break;
            }
        }
        Ok(found)
    }
}
