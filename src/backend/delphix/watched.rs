//! What is made from a file, and made anew when the file changes.
//!
//! Keys and authorities are exchanged while the controller runs; Kubernetes does it by turning a link. A file that is gone or bad
//! for a moment must not end what works, so the last good value stays in use and the log says so.

use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::fault::{Failure, Fault, Result};

/// The largest file that is read, bytes.
const LARGEST: u64 = 4 << 20;

/// A file and what was made from it.
pub(super) struct Watched<T> {
    /// The key of the settings that names it.
    field: &'static str,
    path: PathBuf,
    last: Mutex<Option<(Stamp, T)>>,
}

/// By what a change is seen: a file that is exchanged has another inode, one that is written over another time or length.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    length: u64,
    seconds: i64,
    nanoseconds: i64,
}

impl From<&Metadata> for Stamp {
    fn from(of: &Metadata) -> Stamp {
        Stamp {
            device: of.dev(),
            inode: of.ino(),
            length: of.len(),
            seconds: of.mtime(),
            nanoseconds: of.mtime_nsec(),
        }
    }
}

impl<T: Clone> Watched<T> {
    pub(super) fn new(field: &'static str, path: &Path) -> Watched<T> {
        Watched { field, path: path.to_owned(), last: Mutex::new(None) }
    }

    /// The value of the file as it is now. With `again`, the file is read though it looks as before.
    pub(super) fn get(&self, again: bool, make: impl FnOnce(&[u8]) -> Result<T, String>) -> Result<T> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let stamp = fs::metadata(&self.path).map_err(|error| error.to_string());
        if let (Ok(found), Some((stamp, value))) = (&stamp, &*last)
            && !again
            && Stamp::from(found) == *stamp
        {
            return Ok(value.clone());
        }
        let made = stamp.and_then(|found| {
            if found.len() > LARGEST {
                return Err(format!("is larger than {LARGEST} bytes"));
            }
            let bytes = fs::read(&self.path).map_err(|error| error.to_string())?;
            Ok((Stamp::from(&found), make(&bytes)?))
        });
        match (made, &*last) {
            (Ok((stamp, value)), _) => {
                *last = Some((stamp, value.clone()));
                Ok(value)
            }
            (Err(why), Some((_, value))) => {
                tracing::warn!(file = %self.path.display(), "{}: {why}; what was read before stays in use", self.field);
                Ok(value.clone())
            }
            (Err(why), None) => {
                let message = format!("{}: {}: {why}", self.field, self.path.display());
                Err(Failure::new(Fault::Denied, message))
            }
        }
    }
}
