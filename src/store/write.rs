//! Writing records: what is forced to the disk, and in which order.

use std::path::{Path, PathBuf};

use super::{Record, Store, disk};
use crate::host::{Cause, DirLock, Host, HostError};
use crate::volume::{Error, Kind, ObjectId};

/// A record that may be read: the object exists.
pub(super) const READY: &str = "json";
/// An intent to make an object.
pub(super) const CREATING: &str = "creating";
/// An intent to remove an object.
pub(super) const DELETING: &str = "deleting";
/// A rewrite that is not finished.
pub(super) const TMP: &str = "tmp";

/// The directories of a pool that hold records.
pub(super) const DIRS: [&str; 3] = ["volumes", "snapshots", "groups"];

/// Makes the directories of a pool and takes its lock.
pub(super) fn prepare(host: &dyn Host, root: &Path) -> Result<DirLock, Error> {
    let lock = host.lock_dir(root).map_err(|error| match error.cause {
        Cause::Busy => Error::new(
            Kind::Busy,
            format!("pool {} is in use by another offshoot server: stop that one first", root.display()),
        ),
        _ => error.into(),
    })?;
    let mut made = false;
    for dir in DIRS {
        made |= host.make_dir(&root.join(dir))?;
    }
    if made {
        host.sync_dir(root)?;
    }
    Ok(lock)
}

impl Store {
    fn file(&self, id: ObjectId, suffix: &str) -> PathBuf {
        Store::dir_of(&self.root, id).join(format!("{id}.{suffix}"))
    }

    fn encode(record: Record<'_>) -> Result<Vec<u8>, Error> {
        disk::encode(record).map_err(|e| Error::internal(format!("record of {}: {e}", record.id())))
    }

    /// Writes the intent to make an object. Costs no wait: see the module's text.
    pub fn begin(&self, record: Record<'_>) -> Result<(), Error> {
        let path = self.file(record.id(), CREATING);
        let bytes = Self::encode(record)?;
        self.host.write_file(&path, &bytes).map_err(Error::from)
    }

    /// Makes the object of an intent exist: durable when this returns.
    ///
    /// The intent holds the very bytes of the record, so one rename and one forced write are all.
    pub fn commit(&self, id: ObjectId) -> Result<(), Error> {
        let ready = self.file(id, READY);
        self.host.rename(&self.file(id, CREATING), &ready)?;
        self.host.sync_file(&ready)?;
        self.host.sync_dir(&Store::dir_of(&self.root, id))?;
        Ok(())
    }

    /// Replaces the record of an object that exists: either the old or the new one is there after a crash.
    ///
    /// Fails with [`Kind::Unavailable`] where it is not known which of the two a crash would leave: do it again.
    pub fn put(&self, record: Record<'_>) -> Result<(), Error> {
        self.replace(record, READY)
    }

    /// Writes an intent again, or for the first time, so that it is durable when this returns: for work that is continued
    /// after a crash and not undone. Either the old or the new one is there after a crash. Fails as [`Store::put`].
    pub fn amend(&self, record: Record<'_>) -> Result<(), Error> {
        self.replace(record, CREATING)
    }

    fn replace(&self, record: Record<'_>, suffix: &str) -> Result<(), Error> {
        let id = record.id();
        let tmp = self.file(id, TMP);
        let bytes = Self::encode(record)?;
        // One left by a failed attempt of this very process; at start `load` has removed all others.
        self.host.remove_file(&tmp)?;
        let written = self
            .host
            .write_file(&tmp, &bytes)
            .and_then(|()| self.host.sync_file(&tmp))
            .and_then(|()| self.host.rename(&tmp, &self.file(id, suffix)));
        if written.is_err() {
            // Best effort: a temporary file is proven left-over, and the next start removes it.
            let _ = self.host.remove_file(&tmp);
        }
        written?;
        let synced = self.host.sync_dir(&Store::dir_of(&self.root, id));
        synced.map_err(|error| Error::from(error).with_kind(Kind::Unavailable))
    }

    /// Marks an object as being removed. From here on it no longer exists for callers, also after a crash.
    /// `false` if there is no record of it to mark, such as of an intent.
    pub fn condemn(&self, id: ObjectId) -> Result<bool, Error> {
        let deleting = self.file(id, DELETING);
        match self.host.rename(&self.file(id, READY), &deleting) {
            Ok(()) => Ok(true),
            Err(HostError { cause: Cause::NotFound, .. }) => Ok(self.host.metadata(&deleting)?.is_some()),
            Err(error) => Err(error.into()),
        }
    }

    /// Forgets an object whose bytes are gone, or an intent that was undone: durable when this returns.
    pub fn forget(&self, id: ObjectId) -> Result<(), Error> {
        let mut removed = false;
        for suffix in [CREATING, DELETING] {
            removed |= self.host.remove_file(&self.file(id, suffix))?;
        }
        if removed {
            self.host.sync_dir(&Store::dir_of(&self.root, id))?;
        }
        Ok(())
    }
}
