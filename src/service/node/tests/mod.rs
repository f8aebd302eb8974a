//! The node on the fake machine. After each call it is the kernel that is asked what came of it.

mod crash;
mod inline;
mod publish;
mod raw;
mod stage;
mod watch;

use std::path::{Path, PathBuf};

use super::super::api::{NodeVolume, Publish};
use super::super::testing::Bench;
use crate::volume::{Capability, Result};

const STAGING: &str = "/var/lib/kubelet/plugins/globalmount";
const TARGET: &str = "/var/lib/kubelet/pods/1/mount";
const OTHER: &str = "/var/lib/kubelet/pods/2/mount";

impl Bench {
    /// A machine whose pool is on XFS, with the directories that kubelet makes.
    async fn node() -> Self {
        Self::node_on("xfs").await
    }

    async fn node_on(fs: &str) -> Self {
        let bench = Bench::new(fs).await;
        for dir in [STAGING, "/var/lib/kubelet/pods/1", "/var/lib/kubelet/pods/2"] {
            bench.dir(dir);
        }
        bench
    }

    async fn stage(&self, id: &str, capability: &Capability) -> Result<()> {
        self.stage_at(id, capability, STAGING).await
    }

    async fn stage_at(&self, id: &str, capability: &Capability, staging: &str) -> Result<()> {
        self.service.stage_volume(of(id, capability, staging)).await
    }

    async fn publish(&self, id: &str, capability: &Capability, target: &str) -> Result<()> {
        self.publish_as(id, capability, target, false).await
    }

    async fn publish_as(
        &self,
        id: &str,
        capability: &Capability,
        target: &str,
        read_only: bool,
    ) -> Result<()> {
        let node = of(id, capability, STAGING);
        let request = Publish { node, target: target.into(), read_only, inline: None };
        self.service.publish_volume(request).await
    }

    async fn unpublish(&self, id: &str, target: &str) -> Result<()> {
        self.service.unpublish_volume(id, Path::new(target)).await
    }

    async fn unstage(&self, id: &str) -> Result<()> {
        self.service.unstage_volume(id, Path::new(STAGING)).await
    }

    /// What the kernel has: exactly these mounts, and so many loop devices.
    #[track_caller]
    fn holds(&self, mounts: &[&str], loops: usize) {
        let expect: Vec<PathBuf> = mounts.iter().map(PathBuf::from).collect();
        assert_eq!((self.mounts(), self.loops()), (expect, loops));
    }

    fn exists(&self, path: &str) -> bool {
        self.fake.audit().files.iter().any(|file| file == Path::new(path))
    }
}

fn of(id: &str, capability: &Capability, staging: &str) -> NodeVolume {
    NodeVolume { volume: id.into(), capability: capability.clone(), staging: staging.into() }
}
