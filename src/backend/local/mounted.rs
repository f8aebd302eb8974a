//! Which volumes of the pool this machine has mounted now, as the kernel's tables say it.
//!
//! Asked at start: a restart of the server changes nothing about what is mounted, and no record of ours says it.

use std::path::PathBuf;

use super::attach::is_of;
use super::names::{self, Part};
use super::pool::Pool;
use super::subvolume::shows;
use crate::host::{LoopDevice, MountEntry};
use crate::volume::{ObjectId, Result, VolumeId};

impl Pool {
    pub(super) fn mounted(&self) -> Result<Vec<(VolumeId, MountEntry)>> {
        let mut devices = Vec::new();
        for device in self.host.loops_below(&self.names.volumes())? {
            if let Some(ObjectId::Volume(id)) = self.image_of(&device)? {
                devices.push((id, device));
            }
        }
        let mut subvolumes = Vec::new();
        for entry in self.host.read_dir(&self.names.volumes())? {
            if let Some((ObjectId::Volume(id), Part::Subvolume)) = names::parse(&entry.name) {
                subvolumes.push((id, self.names.volume(id, Part::Subvolume)));
            }
        }
        let mut found = Vec::new();
        // In the order of the table, in which the uppermost of several mounts at one place comes last.
        for mount in self.host.mounts()? {
            let of_device = devices.iter().find(|(_, device)| is_of(&mount, device)).map(|(id, _)| *id);
            let of_directory = || subvolumes.iter().find(|(_, path)| shows(&mount, path)).map(|(id, _)| *id);
            if let Some(id) = of_device.or_else(of_directory) {
                found.push((id, mount));
            }
        }
        Ok(found)
    }

    /// Whose image a loop device has. Its name only says where to look: what counts is that the file of that name is
    /// the very one behind the device.
    pub(super) fn image_of(&self, device: &LoopDevice) -> Result<Option<ObjectId>> {
        let Some((id, path)) = self.claimed_image(device) else { return Ok(None) };
        if self.host.metadata(&path)?.is_none() {
            return Ok(None);
        }
        let same = self.host.loops_of(&path)?.iter().any(|other| other.rdev == device.rdev);
        Ok(same.then_some(id))
    }

    /// The object and image that the name of a device's file points to.
    pub(super) fn claimed_image(&self, device: &LoopDevice) -> Option<(ObjectId, PathBuf)> {
        let name = device.file.file_name()?.to_str()?;
        // What the kernel writes behind the name of a removed file.
        match names::parse(name.strip_suffix(" (deleted)").unwrap_or(name))? {
            (ObjectId::Volume(id), Part::Image) => {
                Some((ObjectId::Volume(id), self.names.volume(id, Part::Image)))
            }
            (ObjectId::Snapshot(id), Part::Image) => {
                Some((ObjectId::Snapshot(id), self.names.snapshot(id, Part::Image)))
            }
            _ => None,
        }
    }
}
