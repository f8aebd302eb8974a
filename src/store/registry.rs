//! The pools that were added by a call, so that the next start opens them again.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::disk::FORMAT;
use crate::backend::PoolSpec;
use crate::host::Host;
use crate::volume::Error;

const FILE: &str = "pools.json";

/// The pools that a state directory remembers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registry {
    format: u32,
    /// Those that were made and acknowledged.
    pub pools: Vec<PoolSpec>,
    /// Intents: those that are being made. What a crash left of them is taken off again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub making: Vec<PoolSpec>,
}

/// What `state_dir` remembers; nothing if it has no registry yet.
pub fn read_pools(host: &dyn Host, state_dir: &Path) -> Result<Registry, Error> {
    let path = state_dir.join(FILE);
    let Some(bytes) = host.read_file(&path)? else { return Ok(Registry::default()) };
    let registry: Registry = serde_json::from_slice(&bytes)
        .map_err(|e| Error::internal(format!("{}: {e}: mend the file or move it away", path.display())))?;
    if registry.format > FORMAT {
        let text =
            format!("{} has format {}, newer than this version's {FORMAT}", path.display(), registry.format);
        return Err(Error::internal(text));
    }
    Ok(registry)
}

/// Replaces what `state_dir` remembers: durable when this returns.
pub fn write_pools(host: &dyn Host, state_dir: &Path, registry: &Registry) -> Result<(), Error> {
    let bytes = serde_json::to_vec_pretty(&Registry { format: FORMAT, ..registry.clone() })
        .map_err(|e| Error::internal(format!("{FILE}: {e}")))?;
    let (path, tmp) = (state_dir.join(FILE), state_dir.join("pools.tmp"));
    host.make_dir(state_dir)?;
    host.remove_file(&tmp)?;
    host.write_file(&tmp, &bytes)?;
    host.sync_file(&tmp)?;
    host.rename(&tmp, &path)?;
    host.sync_dir(state_dir)?;
    Ok(())
}
