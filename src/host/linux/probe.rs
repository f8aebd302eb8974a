//! Reading the places where superblocks and partition tables lie, for [`superblock`](crate::volume::superblock) to judge.

use std::path::Path;

use rustix::fs::OFlags;

use super::errno::fail;
use super::files;
use crate::host::{HostError, HostResult, Probe};
use crate::volume::superblock::{Found, identify};

/// See [`Host::probe`](crate::host::Host::probe).
pub(super) fn probe(path: &Path) -> HostResult<Probe> {
    const CALL: &str = "probe";
    let device = files::open(CALL, path, OFlags::RDONLY)?;
    let len = files::len_of(&device, path)?;
    let mut read = |mut offset: u64, mut into: &mut [u8]| -> HostResult<()> {
        while !into.is_empty() {
            match rustix::io::pread(&device, &mut *into, offset) {
                // Shorter than it was a moment ago.
                Ok(0) => return Err(fail(CALL, path, rustix::io::Errno::IO)),
                Ok(got) => {
                    offset += got as u64;
                    into = &mut into[got..];
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(fail(CALL, path, error)),
            }
        }
        Ok(())
    };
    let found = identify::<HostError>(len, &mut read)?;
    Ok(match found {
        Found::Blank => Probe::Blank,
        Found::Fs { fs, uuid, size, dirty, sector } => {
            Probe::Fs { fs: fs.as_str().to_owned(), uuid, size, dirty, sector }
        }
        Found::Foreign(what) => Probe::Foreign(what),
    })
}
