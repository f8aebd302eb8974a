//! Finding what no record explains, and removing it only where that is proven.
//!
//! Proven is what only this driver makes, under a temporary name, while no work here has claimed it. An image or
//! subvolume without a record is *not*: a record is written before the bytes and removed after them, so losing one means
//! that something else went wrong, and then the bytes may be all that is left. A person decides about those.

use std::path::PathBuf;

use super::attach::is_of;
use super::names::{self, Part};
use super::pool::Pool;
use crate::backend::{Known, Leftover};
use crate::host::{Detached, FileKind};
use crate::volume::{Error, ObjectId, Result};

/// What the id of a left-over loop device begins with; the rest is the object whose image it had.
const LOOP: &str = "loop:";

/// Something that lies in the pool and is no whole part of an object, as far as the pool alone can tell.
pub(super) struct Found {
    leftover: Leftover,
    /// Whose it is, by its name.
    owner: Option<ObjectId>,
    /// Whether it is left over even if its owner exists.
    even_if_known: bool,
}

impl Found {
    /// The left-over, unless the records explain it.
    pub(super) fn judge(self, known: &Known<'_>) -> Option<Leftover> {
        let owned = match self.owner {
            Some(ObjectId::Volume(id)) => (known.volumes)(id),
            Some(ObjectId::Snapshot(id)) => (known.snapshots)(id),
            Some(ObjectId::Group(_)) | None => false,
        };
        (self.even_if_known || !owned).then_some(self.leftover)
    }
}

impl Pool {
    /// Everything in the pool that is not plainly a record or belongs to running work.
    pub(super) fn unexplained(&self) -> Result<Vec<Found>> {
        let mut all = Vec::new();
        for dir in [names::VOLUMES, names::SNAPSHOTS, names::TEMPLATES] {
            for entry in self.host.read_dir(&self.names.dir.join(dir))? {
                let path = self.names.dir.join(dir).join(&entry.name);
                if !self.claims.taken(&path) && !self.claims.taken(&names::new_beside(&path)) {
                    all.extend(self.classify(dir, &entry.name)?);
                }
            }
        }
        all.extend(self.stray_devices()?);
        Ok(all)
    }

    /// Loop devices whose image has been removed. They keep its blocks until they are detached.
    fn stray_devices(&self) -> Result<Vec<Found>> {
        let mut all = Vec::new();
        for device in self.host.loops_below(&self.names.dir)? {
            let Some((owner, image)) = self.claimed_image(&device) else { continue };
            if self.image_of(&device)?.is_some() {
                continue;
            }
            let idle = self.host.metadata(&image)?.is_none() && !self.host.device_in_use(&device.path)?;
            let leftover = Leftover {
                id: format!("{LOOP}{owner}"),
                kind: "loop device",
                path: device.path,
                size: 0,
                reason: format!("its file {} was removed", device.file.display()),
                proven: idle,
            };
            all.push(Found { leftover, owner: Some(owner), even_if_known: true });
        }
        Ok(all)
    }

    /// Detaches the loop devices of a removed image, each looked at again.
    fn reap_devices(&self, owner: &str) -> Result<()> {
        let mounts = self.host.mounts()?;
        for device in self.host.loops_below(&self.names.dir)? {
            let Some((id, image)) = self.claimed_image(&device) else { continue };
            if id.to_string() != owner || self.host.metadata(&image)?.is_some() {
                continue;
            }
            let held =
                mounts.iter().any(|mount| is_of(mount, &device)) || self.host.device_in_use(&device.path)?;
            if held || self.host.loop_detach(&device, &image)? == Detached::Held {
                let path = device.path.display();
                return Err(Error::precondition(format!("left-over {LOOP}{owner}: something holds {path}")));
            }
        }
        Ok(())
    }

    /// Looks at one name; `None` if it is a record, a template, or gone.
    fn classify(&self, dir: &str, name: &str) -> Result<Option<Found>> {
        let path = self.names.dir.join(dir).join(name);
        let parsed = names::parse(name);
        let template = dir == names::TEMPLATES;
        if matches!(parsed, Some((_, Part::Record))) || (template && name.ends_with(".img")) {
            return Ok(None);
        }
        let Some(meta) = self.host.metadata(&path)? else { return Ok(None) };
        let size = match meta.kind {
            FileKind::Directory => 0,
            _ => meta.allocated,
        };
        let found = |kind, reason: &str, proven, owner, even_if_known| {
            let (id, reason) = (format!("{dir}/{name}"), reason.to_owned());
            let leftover = Leftover { id, kind, path: path.clone(), size, reason, proven };
            Ok(Some(Found { leftover, owner, even_if_known }))
        };
        let owner = parsed.map(|(id, _)| id);
        let of_volume = dir == names::VOLUMES && matches!(owner, Some(ObjectId::Volume(_)));
        let of_snapshot = dir == names::SNAPSHOTS && matches!(owner, Some(ObjectId::Snapshot(_)));
        match parsed {
            _ if template && name.ends_with(".new") => {
                found("temporary file", "a template that was not finished", true, None, true)
            }
            Some((_, Part::New)) if of_volume => {
                found("temporary file", "made for a volume by work that did not end", true, owner, true)
            }
            Some((_, Part::Partial)) if of_volume => {
                found("temporary file", "received for a volume that does not exist", true, owner, false)
            }
            Some((_, Part::Old)) if of_volume => {
                let replaced = self.host.metadata(&path.with_extension("sub"))?.is_some();
                found(
                    "replaced subvolume",
                    "the content from before a replacement",
                    replaced,
                    owner,
                    replaced,
                )
            }
            Some((_, Part::Cut)) if of_snapshot => {
                found("temporary file", "cut for a snapshot that does not exist", true, owner, false)
            }
            Some((_, Part::Image)) if of_volume || of_snapshot => {
                found("image without record", "its record is gone or cannot be read", false, owner, false)
            }
            Some((_, Part::Subvolume)) if of_volume || of_snapshot => {
                found("subvolume without record", "its record is gone or cannot be read", false, owner, false)
            }
            _ => found("unknown file", "its name is none that this driver gives", false, None, true),
        }
    }

    pub(super) fn reap(&self, leftover: &Leftover) -> Result<()> {
        let refuse = |why: &str| Err(Error::precondition(format!("left-over {}: {why}", leftover.id)));
        if !leftover.proven {
            return refuse("it is not certain that nobody needs it: look at it, and remove it by hand");
        }
        if let Some(owner) = leftover.id.strip_prefix(LOOP) {
            return self.reap_devices(owner);
        }
        let Some((dir, name)) = leftover.id.split_once('/') else { return refuse("is not of this pool") };
        if ![names::VOLUMES, names::SNAPSHOTS, names::TEMPLATES].contains(&dir) || name.contains('/') {
            return refuse("is not of this pool");
        }
        let path: PathBuf = self.names.dir.join(dir).join(name);
        // Claimed first and looked at second: from here on no work can begin to use the name.
        let new = names::new_beside(&path);
        let _claim = self.claims.take(&new)?;
        let _cut = if path == new { None } else { Some(self.claims.take(&path)?) };
        let Some(found) = self.classify(dir, name)? else { return Ok(()) };
        if !found.leftover.proven {
            return refuse("it is no longer certain that nobody needs it");
        }
        if let Some(owner) = found.owner.filter(|_| !found.even_if_known) {
            for record in names::records(owner) {
                if self.host.metadata(&self.names.dir.join(dir).join(record))?.is_some() {
                    return refuse("a record of its object has appeared");
                }
            }
        }
        match self.host.metadata(&path)?.map(|meta| meta.kind) {
            Some(FileKind::Directory) => {
                self.host.subvolume_delete(&path)?;
            }
            Some(FileKind::File) => {
                if !self.host.loops_of(&path)?.is_empty() {
                    return refuse("a loop device uses it");
                }
                self.host.remove_file(&path)?;
            }
            Some(_) => return refuse("is neither a file nor a subvolume"),
            None => {}
        }
        Ok(())
    }
}
