//! Where a cluster keeps its things, and the names and addresses that follow from that.
//!
//! Everything lies below one directory, so that `cluster down` knows what is the cluster's without having seen it being
//! made. Several clusters may run on one machine: the names of what is not in a directory (network interfaces, control
//! groups) and the addresses contain a number made from the directory's path.

use std::hash::{DefaultHasher, Hasher};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The place of one cluster.
#[derive(Debug, Clone)]
pub struct Layout {
    dir: PathBuf,
    id: u64,
}

impl Layout {
    /// The cluster of the environment: `OFFSHOOT_CLUSTER_DIR`, or `cluster` in the cache.
    ///
    /// # Errors
    /// If neither `OFFSHOOT_CLUSTER_DIR`, `OFFSHOOT_CACHE`, `XDG_CACHE_HOME` nor `HOME` is set.
    pub fn from_env() -> Result<Self> {
        let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let dir = match set("OFFSHOOT_CLUSTER_DIR") {
            Some(dir) => dir,
            None => cache().context("no place for the cluster: set OFFSHOOT_CLUSTER_DIR")?.join("cluster"),
        };
        Ok(Self::at(&dir))
    }

    /// The cluster in a directory, which need not be there yet.
    #[must_use]
    pub fn at(dir: &Path) -> Self {
        let dir = std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned());
        let mut hasher = DefaultHasher::new();
        hasher.write(dir.as_os_str().as_encoded_bytes());
        Self { id: hasher.finish(), dir }
    }

    /// The directory that holds all of the cluster.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// A path below the directory.
    #[must_use]
    pub fn path(&self, below: &str) -> PathBuf {
        self.dir.join(below)
    }

    /// The administrator's kubeconfig.
    #[must_use]
    pub fn kubeconfig(&self) -> PathBuf {
        self.path("kubeconfig")
    }

    /// Six digits that stand for this cluster on this machine.
    #[must_use]
    pub fn short_id(&self) -> String {
        format!("{:06x}", self.id & 0xff_ffff)
    }

    /// The network interface of the host into the cluster; at most 15 letters, as the kernel demands.
    #[must_use]
    pub fn host_interface(&self) -> String {
        format!("ofs{}h", self.short_id())
    }

    /// The interface at the cluster's switch for a machine.
    #[must_use]
    pub fn port(&self, machine: u8) -> String {
        format!("ofs{}p{machine}", self.short_id())
    }

    /// The control group that all pods of a node are in.
    #[must_use]
    pub fn cgroup(&self, node: &str) -> String {
        format!("{}/{node}", self.cgroup_root())
    }

    /// The control group of the whole cluster.
    #[must_use]
    pub fn cgroup_root(&self) -> String {
        format!("offshoot-{}", self.short_id())
    }

    /// An address of a machine: 1 is the control plane, 254 the host, a node has its number + 10.
    #[must_use]
    pub fn address(&self, last: u8) -> String {
        format!("10.{}.0.{last}", self.octet())
    }

    /// The range of the pods of a node.
    #[must_use]
    pub fn pod_range(&self, node: u8) -> String {
        format!("10.{}.{}.0/24", self.octet(), 128 + u16::from(node))
    }

    /// The range of all pods.
    #[must_use]
    pub fn pods_range(&self) -> String {
        format!("10.{}.128.0/17", self.octet())
    }

    /// The range of the services.
    #[must_use]
    pub fn service_range(&self) -> String {
        format!("10.{}.64.0/20", self.octet())
    }

    /// The API server's address as pods see it.
    #[must_use]
    pub fn service_address(&self) -> String {
        format!("10.{}.64.1", self.octet())
    }

    fn octet(&self) -> u64 {
        64 + (self.id >> 24) % 128
    }
}

/// Offshoot's cache, as the scripts know it.
fn cache() -> Option<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set("OFFSHOOT_CACHE")
        .or_else(|| Some(set("XDG_CACHE_HOME")?.join("offshoot")))
        .or_else(|| Some(set("HOME")?.join(".cache/offshoot")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_directories_share_no_name_and_names_fit_the_kernel() {
        let (one, two) = (Layout::at(Path::new("/a")), Layout::at(Path::new("/b")));
        assert_ne!(one.host_interface(), two.host_interface());
        assert_ne!(one.cgroup_root(), two.cgroup_root());
        assert!(one.port(99).len() <= 15 && one.host_interface().len() <= 15);
    }
}
