//! The pools that were added by a call, so that the next start opens them again.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::disk::FORMAT;
use crate::backend::PoolSpec;
use crate::host::Host;
use crate::volume::Error;

const FILE: &str = "pools.json";

#[derive(Serialize, Deserialize)]
struct Registry {
    format: u32,
    pools: Vec<PoolSpec>,
}

/// The pools that `state_dir` remembers; none if it remembers nothing yet.
pub fn read_pools(host: &dyn Host, state_dir: &Path) -> Result<Vec<PoolSpec>, Error> {
    let path = state_dir.join(FILE);
    let Some(bytes) = host.read_file(&path)? else { return Ok(Vec::new()) };
    let registry: Registry = serde_json::from_slice(&bytes)
        .map_err(|e| Error::internal(format!("{}: {e}: mend the file or move it away", path.display())))?;
    if registry.format > FORMAT {
        let text =
            format!("{} has format {}, newer than this version's {FORMAT}", path.display(), registry.format);
        return Err(Error::internal(text));
    }
    Ok(registry.pools)
}

/// Replaces what `state_dir` remembers: durable when this returns.
pub fn write_pools(host: &dyn Host, state_dir: &Path, pools: &[PoolSpec]) -> Result<(), Error> {
    let registry = Registry { format: FORMAT, pools: pools.to_vec() };
    let bytes = serde_json::to_vec_pretty(&registry).map_err(|e| Error::internal(format!("{FILE}: {e}")))?;
    let (path, tmp) = (state_dir.join(FILE), state_dir.join("pools.tmp"));
    host.make_dir(state_dir)?;
    host.remove_file(&tmp)?;
    host.write_file(&tmp, &bytes)?;
    host.sync_file(&tmp)?;
    host.rename(&tmp, &path)?;
    host.sync_dir(state_dir)?;
    Ok(())
}
