//! What is written down about a cluster, and the lock that keeps two from changing it.

use std::fs::{self, File};
use std::path::PathBuf;

use anyhow::{Context, Result};
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

use crate::layout::Layout;
use crate::node::Spec;

/// What a cluster is made from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// The nodes.
    pub nodes: Vec<Spec>,
    /// Where the programs are, see `scripts/cluster-tools.sh`.
    pub tools: PathBuf,
}

impl Settings {
    /// Reads them; `None` if no cluster was made.
    ///
    /// # Errors
    /// If the file is there and cannot be read.
    pub(crate) fn load(layout: &Layout) -> Result<Option<Self>> {
        let file = layout.path("cluster.json");
        match fs::read(&file) {
            Ok(bytes) => Ok(Some(
                serde_json::from_slice(&bytes).with_context(|| format!("cannot read {}", file.display()))?,
            )),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("cannot read {}", file.display())),
        }
    }

    /// Writes them, whole or not at all.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub(crate) fn save(&self, layout: &Layout) -> Result<()> {
        let (file, part) = (layout.path("cluster.json"), layout.path("cluster.json.part"));
        fs::write(&part, serde_json::to_vec_pretty(self)?).context("cannot write the cluster's record")?;
        fs::rename(&part, &file).context("cannot write the cluster's record")
    }
}

/// One `up` or `down` at a time.
pub(crate) fn lock(layout: &Layout) -> Result<Flock<File>> {
    fs::create_dir_all(layout.dir()).with_context(|| format!("cannot make {}", layout.dir().display()))?;
    let path = layout.path("lock");
    let file = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
    Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, error)| error).context("cannot lock the cluster")
}
