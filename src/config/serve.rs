//! The settings of `offshoot serve`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use super::{NodeId, PoolDir, Server};
use crate::volume::quantity::Share;

machine_options! {
    /// What can be set for `offshoot serve`. A field that is `None` or empty was not set here.
    pub struct ServeOptions {}
}

/// The settings that hold.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// What every server has.
    pub server: Server,
    /// This node.
    pub node_id: String,
    /// The directory for what belongs to no pool.
    pub state_dir: PathBuf,
    /// The directory of each pool by its name.
    pub pools: BTreeMap<String, PathBuf>,
    /// Zero is no limit.
    pub max_volumes_per_node: u32,
    /// What is kept free in each pool.
    pub reserve: Share,
    /// The longest freeze.
    pub freeze_limit: Duration,
}

impl ServeOptions {
    /// What holds: these, else those of `file`, else the defaults.
    ///
    /// Fails where two pools have one name or one directory, and where no name for the node is found.
    pub fn resolve(mut self, mut file: ServeOptions) -> Result<Config> {
        self.take_machine(&mut file)
    }
}

/// The directory of each pool by its name. Refuses a name or a directory that is there twice.
pub(super) fn by_name(pools: Vec<PoolDir>) -> Result<BTreeMap<String, PathBuf>> {
    let mut named = BTreeMap::new();
    for pool in pools {
        if let Some((other, _)) = named.iter().find(|(_, dir)| **dir == pool.dir) {
            bail!(
                "pool: `{other}` and `{}` are the same directory {}; give each pool its own",
                pool.name,
                pool.dir.display()
            );
        }
        if let Some(first) = named.insert(pool.name.clone(), pool.dir.clone()) {
            bail!(
                "pool: `{}` is both {} and {}; give each pool its own name",
                pool.name,
                first.display(),
                pool.dir.display()
            );
        }
    }
    Ok(named)
}

/// The name that was given, or that of the host.
pub(super) fn node_id(given: Option<NodeId>) -> Result<String> {
    if let Some(given) = given {
        return Ok(given.0);
    }
    let uname = rustix::system::uname();
    let name = uname.nodename().to_string_lossy();
    let name: NodeId = name
        .parse()
        .with_context(|| format!("the host's name `{name}` cannot name a node; give one with --node-id"))?;
    Ok(name.0)
}
