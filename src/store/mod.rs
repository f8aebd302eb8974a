//! Crash-safe records: one file per object, beside the object's bytes, whole and durable when a call returns.
//!
//! The phase of an object's birth and death is the *suffix* of its record's file name, so that it changes by one
//! rename, which the filesystem's journal makes all-or-nothing without rewriting a byte:
//!
//! | name | means | recovery |
//! | --- | --- | --- |
//! | `ID.creating` | an intent: bytes may be there in part | undo: remove the bytes, then the file |
//! | `ID.json` | the object exists | nothing; a pending phase inside it is finished |
//! | `ID.deleting` | bytes may be gone in part | finish: remove the bytes, then the file |
//! | `*.tmp` | a rewrite that was not finished | remove |
//!
//! An intent costs no wait for the disk: XFS, ext4 and btrfs keep the order of name changes, and the one forced write
//! at the end ([`Store::commit`]) brings everything before it along. An `ID.json` of zero length can only come from a
//! power cut before that write, so it was never acknowledged; it is reported as [`Loaded::unfinished`].
//!
//! The store never touches an object's bytes, and removes no file but its own.

mod disk;
mod load;
mod registry;
#[cfg(test)]
mod tests;
mod write;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::host::{DirLock, Host};
use crate::volume::{Error, Group, ObjectId, Snapshot, Volume};

pub use load::{Damaged, Loaded, Unfinished};
pub use registry::{Registry, read_pools, write_pools};

/// The records of one pool.
pub struct Store {
    host: Arc<dyn Host>,
    root: PathBuf,
    _lock: DirLock,
}

/// A record to write.
#[derive(Debug, Clone, Copy)]
pub enum Record<'a> {
    /// A volume.
    Volume(&'a Volume),
    /// A snapshot.
    Snapshot(&'a Snapshot),
    /// A group snapshot.
    Group(&'a Group),
}

impl Record<'_> {
    /// The object that the record is of.
    pub fn id(&self) -> ObjectId {
        match self {
            Record::Volume(volume) => ObjectId::Volume(volume.id),
            Record::Snapshot(snapshot) => ObjectId::Snapshot(snapshot.id),
            Record::Group(group) => ObjectId::Group(group.id),
        }
    }
}

impl Store {
    /// Opens the records below `root`, making their directories where they are missing, and reads all of them.
    ///
    /// Fails with [`crate::volume::Kind::Busy`] while another process has the same root open. A record that cannot be
    /// read is reported in [`Loaded`] and left alone; it never stops the rest.
    pub fn open(host: Arc<dyn Host>, root: &Path) -> Result<(Store, Loaded), Error> {
        let lock = write::prepare(&*host, root)?;
        let loaded = load::all(&*host, root)?;
        Ok((Store { host, root: root.to_owned(), _lock: lock }, loaded))
    }

    /// The directory that holds records and bytes of objects of this kind.
    pub fn dir_of(root: &Path, id: ObjectId) -> PathBuf {
        root.join(match id {
            ObjectId::Volume(_) => "volumes",
            ObjectId::Snapshot(_) => "snapshots",
            ObjectId::Group(_) => "groups",
        })
    }
}
