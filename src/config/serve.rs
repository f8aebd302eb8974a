//! The settings of `offshoot serve`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use super::{DEFAULT_FREEZE_LIMIT, DEFAULT_RESERVE, DEFAULT_STATE_DIR, NodeId, PoolDir, Server, Span};
use crate::volume::quantity::Share;

options! {
    /// What can be set for `offshoot serve`. A field that is `None` or empty was not set here.
    pub struct ServeOptions {
        /// Name of this node, as Kubernetes knows it [default: the host's name]
        #[arg(long, env = "OFFSHOOT_NODE_ID", value_name = "NAME")]
        pub node_id: Option<NodeId>,

        /// Directory for what belongs to no pool, such as the list of pools made by `pool create` [default: /var/lib/offshoot]
        #[arg(long, env = "OFFSHOOT_STATE_DIR", value_name = "DIR")]
        pub state_dir: Option<PathBuf>,

        /// A pool: its name and an existing directory on XFS or btrfs; give it once per pool
        #[arg(long, env = "OFFSHOOT_POOL", value_name = "NAME=DIR", value_delimiter = ',')]
        pub pool: Vec<PoolDir>,

        /// Most volumes that Kubernetes may put on this node; 0 is no limit [default: 0]
        #[arg(long, env = "OFFSHOOT_MAX_VOLUMES_PER_NODE", value_name = "N")]
        pub max_volumes_per_node: Option<u32>,

        /// Part of each pool that new volumes and snapshots may not take: 2%, 10Gi [default: 2%]
        #[arg(long, env = "OFFSHOOT_RESERVE", value_name = "SHARE")]
        pub reserve: Option<Share>,

        /// Longest freeze of a filesystem for a snapshot, such as 10s [default: 10s]
        #[arg(long, env = "OFFSHOOT_FREEZE_LIMIT", value_name = "TIME")]
        pub freeze_limit: Option<Span>,
    }
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
        let server = self.take_server(&mut file);
        let pools = if self.pool.is_empty() { file.pool } else { self.pool };
        let node_id = match self.node_id.or(file.node_id) {
            Some(node_id) => node_id,
            None => host_name()?,
        };
        Ok(Config {
            server,
            node_id: node_id.0,
            state_dir: self.state_dir.or(file.state_dir).unwrap_or_else(|| DEFAULT_STATE_DIR.into()),
            pools: by_name(pools)?,
            max_volumes_per_node: self.max_volumes_per_node.or(file.max_volumes_per_node).unwrap_or(0),
            reserve: self.reserve.or(file.reserve).unwrap_or(DEFAULT_RESERVE),
            freeze_limit: self.freeze_limit.or(file.freeze_limit).map_or(DEFAULT_FREEZE_LIMIT, |s| s.0),
        })
    }
}

fn by_name(pools: Vec<PoolDir>) -> Result<BTreeMap<String, PathBuf>> {
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

fn host_name() -> Result<NodeId> {
    let uname = rustix::system::uname();
    let name = uname.nodename().to_string_lossy();
    name.parse()
        .with_context(|| format!("the host's name `{name}` cannot name a node; give one with --node-id"))
}
