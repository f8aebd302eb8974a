//! Temporary names that work in this process is using now.
//!
//! A pool is open in one process only (its lock says so). So a temporary file that no work here has claimed belongs to
//! work that is dead, whatever its age: that is what makes it *proven* left-over, without a guess about time.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::volume::{Error, Kind, Result};

/// The names in use.
#[derive(Debug, Default)]
pub(super) struct Claims(Mutex<HashSet<PathBuf>>);

/// A name that is in use until this is dropped.
#[derive(Debug)]
pub(super) struct Claim<'a> {
    claims: &'a Claims,
    path: PathBuf,
}

impl Claims {
    /// Claims a temporary name. [`Kind::Busy`] while other work uses it.
    pub(super) fn take(&self, path: &Path) -> Result<Claim<'_>> {
        if self.names().insert(path.to_owned()) {
            Ok(Claim { claims: self, path: path.to_owned() })
        } else {
            Err(Error::new(Kind::Busy, format!("{} is being written: ask again later", path.display())))
        }
    }

    /// Whether some work uses the name now.
    pub(super) fn taken(&self, path: &Path) -> bool {
        self.names().contains(path)
    }

    fn names(&self) -> MutexGuard<'_, HashSet<PathBuf>> {
        // A set of names cannot be half changed, so a panic elsewhere does not spoil it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        self.claims.names().remove(&self.path);
    }
}
