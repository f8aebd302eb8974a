//! Making a volume reachable on this machine, and taking it off again.
//!
//! What others lost data by, and what is done here instead:
//!
//! * Loop numbers change over a reboot: a volume's device is found by its backing file (device and inode), never by a
//!   number that was written down.
//! * Detaching a held loop device *succeeds*, and the kernel does it later: holders and mounts are looked at first, and
//!   the end is looked at again.
//! * A filesystem is checked and grown only while nothing has it mounted, and only where it is smaller than its image.
//! * A reader of a raw volume gets a device of its own that refuses writes, however the node publishes it.

use std::path::Path;

use super::image::not_here;
use super::names;
use super::pool::{Pool, SECTOR};
use crate::backend::{Attachment, Progress, Use};
use crate::host::{Cause, Detached, Fsck, LoopDevice, LoopOptions, MountEntry, Probe};
use crate::volume::{Error, FsType, Kind, Layout, Mutable, Provisioning, Result, Volume};

/// The filesystem on an image.
struct Found {
    fs: FsType,
    /// Its size in bytes; `None` if it was made just now, for all of the image.
    size: Option<u64>,
    /// Whether something has it mounted already.
    held: bool,
    /// The sectors of a device for it, in bytes.
    sector: u32,
}

impl Pool {
    pub(super) fn attach(&self, volume: &Volume, how: Use) -> Result<Attachment> {
        match (volume.layout, how) {
            (Layout::Subvolume, Use::Filesystem { .. }) => self.attach_subvolume(volume),
            (Layout::Subvolume, Use::Block { .. }) => Err(Error::precondition(format!(
                "volume {} is a subvolume and has no block device",
                volume.id
            ))),
            (Layout::Image, _) => self.attach_image(volume, how),
            (Layout::Remote, _) => Err(not_here(volume)),
        }
    }

    fn attach_image(&self, volume: &Volume, how: Use) -> Result<Attachment> {
        let (image, _) = self.whole_image(volume)?;
        let found = match how {
            Use::Filesystem { read_only } => Some(self.prepare(volume, &image, read_only)?),
            Use::Block { .. } => None,
        };
        if volume.mutable.provisioning == Provisioning::Thick {
            // mkfs and discard give blocks back. Whoever asked for a thick volume gets them again before each use.
            self.host.allocate(&image)?;
        }
        let mut grow = false;
        if let Some(found) = &found
            && let Some(size) = found.size
        {
            grow = self.grow_detached(volume, &image, found, size)?;
        }
        // A filesystem that is only read still gets a device that takes writes: after a crash, or in a copy of a volume
        // in use, its journal must be replayed before anything can be read. The mount refuses the writes.
        let sector = found.as_ref().map_or(SECTOR, |found| found.sector);
        let device = self.device(volume, &image, how == Use::Block { read_only: true }, sector)?;
        let mut options = Vec::new();
        if found.as_ref().is_some_and(|found| found.fs == FsType::Xfs) {
            // Every copy has the UUID of its source, and giving it another would mean to drop its log.
            options.push(("nouuid".to_owned(), None));
        }
        let fs = found.map(|found| found.fs);
        Ok(Attachment::Device { path: device.path, rdev: device.rdev, fs, options, grow })
    }

    /// Finds the filesystem of an image, or makes it where the image is blank.
    fn prepare(&self, volume: &Volume, image: &Path, read_only: bool) -> Result<Found> {
        let refuse = |why: String| Err(Error::precondition(format!("volume {}: {why}", volume.id)));
        if volume.raw_written && !volume.trust_raw {
            return refuse(
                "was used as a raw device, so its bytes are not trusted as a filesystem: allow it by name, or use \
                 it as a block volume"
                    .into(),
            );
        }
        let devices = self.host.loops_of(image)?;
        let mut held = false;
        for device in &devices {
            held |= self.host.device_in_use(&device.path)?;
        }
        // Through the device where there is one: its page cache may hold what the file does not have yet.
        let place = devices.iter().find(|device| !device.read_only).map_or(image, |device| &device.path);
        match self.host.probe(place)? {
            Probe::Fs { fs, size, sector, .. } => {
                let Some(fs) = FsType::parse(&fs) else {
                    return refuse(format!("holds {fs}, which is not one of ext4, xfs and btrfs"));
                };
                Ok(Found { fs, size: Some(size), held, sector: sector.min(SECTOR) })
            }
            Probe::Foreign(what) => refuse(format!(
                "holds something that is no filesystem of this driver ({what}): it is not touched"
            )),
            Probe::Blank if held => {
                refuse("is blank, and yet something holds its device: it is not formatted".into())
            }
            Probe::Blank if read_only => refuse(
                "is blank, and is only to be read: mount it for writing once, so that it gets formatted"
                    .into(),
            ),
            Probe::Blank => {
                self.release(image, &format!("volume {}", volume.id))?;
                self.format(volume, image)?;
                let sector = match self.host.probe(image)? {
                    Probe::Fs { sector, .. } => sector.min(SECTOR),
                    other => return refuse(format!("was formatted, and holds {other:?} now")),
                };
                Ok(Found { fs: volume.fs, size: None, held: false, sector })
            }
        }
    }

    /// The loop device of an image for writing or for reading: the one that there is, or a new one.
    fn device(&self, volume: &Volume, image: &Path, read_only: bool, sector: u32) -> Result<LoopDevice> {
        let mut devices = self.host.loops_of(image)?;
        devices.retain(|device| device.read_only == read_only);
        let mut chosen = None;
        for device in devices {
            // Where a crash left two, the one that something holds.
            if chosen.is_none() || self.host.device_in_use(&device.path)? {
                chosen = Some(device);
            }
        }
        let direct_io = volume.mutable.direct_io.unwrap_or(true);
        let device = match chosen {
            Some(device) => {
                let len = self.host.metadata(image)?.map_or(0, |meta| meta.len);
                if self.host.device_size(&device.path)? != len {
                    self.host.loop_resize(&device)?;
                }
                device
            }
            None => self.host.loop_attach(image, LoopOptions { read_only, direct_io, sector })?,
        };
        let direct_io = self.tune(&device, &volume.mutable)?;
        Ok(LoopDevice { direct_io, ..device })
    }

    /// Applies settings to a device, also to one that was attached before a crash; whether it has direct I/O now.
    pub(super) fn tune(&self, device: &LoopDevice, settings: &Mutable) -> Result<bool> {
        let wanted = settings.direct_io.unwrap_or(true);
        let mut direct_io = device.direct_io;
        if direct_io != wanted {
            match self.host.loop_set_direct_io(device, wanted) {
                Ok(()) => direct_io = wanted,
                // The pool's filesystem cannot: works, and shows in the volume's health.
                Err(error) if error.cause == Cause::Unsupported => {}
                Err(error) => return Err(error.into()),
            }
        }
        if let Some(kib) = settings.read_ahead_kib {
            self.host.set_read_ahead(&device.path, kib)?;
        }
        Ok(direct_io)
    }

    /// Grows an unmounted filesystem that is smaller than its image, as after a restore into a larger volume. XFS and
    /// btrfs grow only while mounted: `true` means that [`Pool::grow_mounted`] is still to come.
    ///
    /// resize2fs moves tables about without a journal, and when it is killed half-way it leaves a filesystem that no
    /// check mends. So it never works on the volume itself, but on a copy at `ID.new` that then takes the place.
    fn grow_detached(&self, volume: &Volume, image: &Path, found: &Found, size: u64) -> Result<bool> {
        let fs = found.fs;
        let len = self.host.metadata(image)?.map_or(0, |meta| meta.len);
        if size >= len {
            return Ok(false);
        }
        // One that is mounted already may be so since a crash that came before it was grown.
        if fs != FsType::Ext4 || found.held {
            return Ok(true);
        }
        self.release(image, &format!("volume {}", volume.id))?;
        let new = names::new_beside(image);
        let _claim = self.claims.take(&new)?;
        let quiet: Progress = std::sync::Arc::new(|_, _| {});
        let copied = self.fill(image, &new, len, self.reflink, &quiet);
        self.or_remove(&new, copied)?;
        let grown = match self.host.fsck(&new, fs.as_str()) {
            Ok(Fsck::Clean | Fsck::Mended) => self.host.grow_unmounted(&new, fs.as_str()),
            Ok(Fsck::Damaged(what)) => {
                let _ = self.host.remove_file(&new);
                return Err(Error::precondition(format!(
                    "volume {}: its filesystem is damaged and needs a person: {what}",
                    volume.id
                )));
            }
            Err(error) => Err(error),
        };
        let placed = grown
            .and_then(|_| self.host.sync_file(&new))
            .and_then(|()| self.host.rename(&new, image))
            .and_then(|()| self.host.sync_dir(&self.names.volumes()));
        self.or_remove(&new, placed)?;
        Ok(false)
    }

    pub(super) fn grow_mounted(&self, volume: &Volume, target: &Path) -> Result<()> {
        if volume.layout != Layout::Image {
            return Ok(());
        }
        let (image, meta) = self.whole_image(volume)?;
        let Some(mount) = self.host.mount_at(target)? else {
            let what = format!("volume {} is not mounted at {}", volume.id, target.display());
            return Err(Error::new(Kind::NotFound, what));
        };
        let devices = self.host.loops_of(&image)?;
        let Some(device) = devices.iter().find(|device| !device.read_only && device.rdev == mount.dev) else {
            let what = format!("{} is not a mount of volume {}", target.display(), volume.id);
            return Err(Error::precondition(what));
        };
        if self.host.device_size(&device.path)? != meta.len {
            self.host.loop_resize(device)?;
        }
        self.host.grow_mounted(&device.path, target, &mount.fs)?;
        Ok(())
    }

    pub(super) fn attached(&self, volume: &Volume) -> Result<Vec<Attachment>> {
        match volume.layout {
            Layout::Subvolume => self.attached_subvolume(volume),
            Layout::Image => {
                let image = self.names.volume(volume.id, names::Part::Image);
                if self.host.metadata(&image)?.is_none() {
                    return Ok(Vec::new());
                }
                let device = |device: LoopDevice| Attachment::Device {
                    path: device.path,
                    rdev: device.rdev,
                    fs: None,
                    options: Vec::new(),
                    grow: false,
                };
                Ok(self.host.loops_of(&image)?.into_iter().map(device).collect())
            }
            Layout::Remote => Err(not_here(volume)),
        }
    }

    pub(super) fn detach(&self, volume: &Volume) -> Result<()> {
        match volume.layout {
            Layout::Subvolume => self.check_unbound(volume),
            Layout::Image => {
                let image = self.names.volume(volume.id, names::Part::Image);
                if self.host.metadata(&image)?.is_none() {
                    return Ok(());
                }
                self.release(&image, &format!("volume {}", volume.id))
            }
            Layout::Remote => Err(not_here(volume)),
        }
    }

    /// Detaches every loop device of an image. All are looked at before the first is touched, so that one that is held
    /// leaves the others as they are.
    pub(super) fn release(&self, image: &Path, what: &str) -> Result<()> {
        let devices = self.host.loops_of(image)?;
        if devices.is_empty() {
            return Ok(());
        }
        let mounts = self.host.mounts()?;
        for device in &devices {
            if let Some(mount) = mounts.iter().find(|mount| is_of(mount, device)) {
                let target = mount.target.display();
                return Err(Error::precondition(format!(
                    "{what} is still mounted at {target}: unpublish it first"
                )));
            }
            if self.host.device_in_use(&device.path)? {
                return Err(held(what, device));
            }
        }
        for device in &devices {
            if self.host.loop_detach(device, image)? == Detached::Held {
                return Err(held(what, device));
            }
        }
        Ok(())
    }
}

/// Whether a mount shows the filesystem on a device, or the device's node itself.
pub(super) fn is_of(mount: &MountEntry, device: &LoopDevice) -> bool {
    mount.dev == device.rdev || mount.node_rdev == Some(device.rdev)
}

fn held(what: &str, device: &LoopDevice) -> Error {
    let path = device.path.display();
    Error::precondition(format!(
        "{what} is still in use: something holds {path}; stop what uses it, then ask again"
    ))
}
