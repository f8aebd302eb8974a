//! The paths of requests, before anything is done there.
//!
//! Kubelet chooses them, and what is at them may be anybody's. The kernel refuses links whenever a path is used; here
//! the refusal gets the name of the field, and for a staging path it comes before the volume is attached and formatted
//! for nothing. And no mount may cover a pool or anything in it: the records would be gone from sight.

use std::path::Path;

use super::super::Inner;
use super::super::pool::blocking;
use crate::host::FileKind;
use crate::volume::{Error, Kind, Result};

impl Inner {
    /// Refuses a path in a pool or above one.
    pub(super) fn outside_pools(&self, field: &str, path: &Path) -> Result<()> {
        for pool in self.pools() {
            let root = pool.backend.records();
            if path.starts_with(root) || root.starts_with(path) {
                let why = format!(
                    "{} would cover pool {} or a part of it; give a path outside",
                    path.display(),
                    pool.backend.info().name
                );
                return Err(Error::invalid(field, why));
            }
        }
        Ok(())
    }

    /// Refuses a staging path where no filesystem can be mounted: links, pools, what is missing or no directory.
    pub(super) async fn directory_to_mount(&self, field: &str, path: &Path) -> Result<()> {
        self.outside_pools(field, path)?;
        let (host, at) = (self.host.clone(), path.to_owned());
        let found =
            blocking(move || Ok(host.target_kind(&at)?)).await.map_err(|error| named(field, error))?;
        let what = match found {
            Some(FileKind::Directory) => return Ok(()),
            Some(_) => "is not a directory",
            None => "does not exist: make it first",
        };
        Err(Error::precondition(format!("{field}: {} {what}", path.display())))
    }
}

/// An error about a path, with the name of the request's field if the path itself is what is wrong.
pub(super) fn named(field: &str, error: Error) -> Error {
    if error.kind() == Kind::Invalid { error.context(field) } else { error }
}
