//! The state file: the whole world as JSON, replaced at once so that a simulator killed while writing leaves the last one.

use std::fs;
use std::io;
use std::path::Path;

use crate::world::World;

pub(crate) fn save(path: &Path, world: &World) -> io::Result<()> {
    let half = path.with_extension("half");
    fs::write(&half, serde_json::to_vec(world)?)?;
    fs::rename(&half, path)
}

/// The world in a state file; none if there is no such file.
pub(crate) fn load(path: &Path) -> io::Result<Option<World>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}
