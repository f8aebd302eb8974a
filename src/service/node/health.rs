//! What the node can say about volumes and itself: how full, how well, who. Takes no locks and changes nothing.

use std::path::Path;

use super::super::api::{Segments, VolumeUsed};
use super::super::pool::blocking;
use super::super::{Inner, Service};
use super::mounts::Here;
use crate::backend::{Attachment, Fault, Severity};
use crate::host::FsUsage;
use crate::volume::{Layout, Result, Volume};

impl Service {
    /// How much of the volume that is mounted at exactly `path` is used. Nothing inside the volume is looked at.
    pub async fn volume_used(&self, id: &str, path: &Path) -> Result<VolumeUsed> {
        let inner = &self.inner;
        let volume = inner.volume(id)?;
        if inner.require_at(&volume, path).await?.block() {
            return Ok(VolumeUsed::Block(volume.size));
        }
        if volume.layout == Layout::Subvolume {
            // The filesystem there is the whole pool's.
            let usage = inner.pool(volume.id.pool())?.backend.volume_usage(&volume).await?;
            let bytes_used = usage.own + usage.shared;
            let bytes_available = volume.size.saturating_sub(bytes_used);
            let used = FsUsage { bytes: volume.size, bytes_used, bytes_available, ..FsUsage::default() };
            return Ok(VolumeUsed::Filesystem(used));
        }
        let (host, path) = (inner.host.clone(), path.to_owned());
        blocking(move || Ok(VolumeUsed::Filesystem(host.usage(&path)?))).await
    }

    /// What is wrong with the volume as this node sees it: its pool, its bytes, its device, its mounts. Empty paths are
    /// not looked at.
    pub async fn node_volume_health(&self, id: &str, published: &Path, staging: &Path) -> Result<Vec<Fault>> {
        let inner = &self.inner;
        let volume = inner.volume(id)?;
        let mut faults = match inner.pool(volume.id.pool()) {
            Ok(pool) => pool.backend.faults().await,
            Err(_) => Vec::new(),
        };
        faults.extend(inner.faults_of(&volume).await);
        let mut expected = false;
        for path in [published, staging] {
            // A raw device leaves nothing at its staging path.
            let raw = path == staging && volume.block && !inner.uses.of(volume.id).iter().any(|m| !m.block());
            if !path.as_os_str().is_empty() && !raw {
                expected = true;
                faults.extend(inner.mount_fault(&volume, path).await);
            }
        }
        if expected {
            faults.extend(inner.device_fault(&volume).await);
        }
        // The backend may have seen the same.
        let mut seen = std::collections::HashSet::new();
        faults.retain(|fault| seen.insert(fault.reason));
        Ok(faults)
    }

    /// What is wrong with each pool of this node, by its name; pools that could not be opened among them.
    pub async fn storage_health(&self) -> Vec<(String, Vec<Fault>)> {
        let mut all = Vec::new();
        for pool in self.inner.pools() {
            all.push((pool.backend.info().name.clone(), pool.backend.faults().await));
        }
        for (name, message) in self.unopened_pools() {
            all.push((
                name,
                vec![Fault { severity: Severity::Inaccessible, reason: "PoolNotOpen", message }],
            ));
        }
        all
    }

    /// This node's id, how many volumes it takes (zero: no limit), and its topology.
    pub fn node_info(&self) -> (String, u32, Segments) {
        let settings = self.settings();
        (settings.node_id.clone(), settings.max_volumes, self.topology())
    }
}

impl Inner {
    async fn mount_fault(&self, volume: &Volume, path: &Path) -> Option<Fault> {
        let fault = |severity, reason, message: String| Some(Fault { severity, reason, message });
        let shown = path.display();
        match self.look(volume, path).await {
            Ok(Here::Nothing) => {
                let message = format!("it is no longer mounted at {shown}: restart the pod that uses it");
                fault(Severity::Inaccessible, "MountMissing", message)
            }
            Ok(Here::Other(_)) => {
                let message = format!("something else is mounted over it at {shown}: unmount that");
                fault(Severity::Inaccessible, "MountCovered", message)
            }
            Ok(Here::Ours(mounted)) if mounted.block() || mounted.read_only => None,
            Ok(Here::Ours(_)) => {
                let (host, path) = (self.host.clone(), path.to_owned());
                match blocking(move || Ok(host.usage(&path)?)).await {
                    Ok(usage) if usage.read_only && volume.layout != Layout::Subvolume => {
                        let message = "its filesystem went read-only after an error: stop what uses it, so that it is \
                                       checked and mended when it is staged again";
                        fault(Severity::Inaccessible, "FilesystemReadOnly", message.into())
                    }
                    Ok(_) => None,
                    Err(error) => {
                        fault(Severity::Degraded, "Unknown", format!("{shown} gives no answer: {error}"))
                    }
                }
            }
            Err(error) => fault(Severity::Degraded, "Unknown", format!("{shown} gives no answer: {error}")),
        }
    }

    async fn device_fault(&self, volume: &Volume) -> Option<Fault> {
        if volume.layout != Layout::Image {
            return None;
        }
        let attached = self.pool(volume.id.pool()).ok()?.backend.attached(volume).await;
        let none = |attached: &Vec<Attachment>| attached.is_empty();
        match attached {
            Ok(attached) if none(&attached) => Some(Fault {
                severity: Severity::Inaccessible,
                reason: "DeviceMissing",
                message: "its loop device is gone: restart the pod that uses it".into(),
            }),
            Ok(_) => None,
            Err(error) => {
                Some(Fault { severity: Severity::Degraded, reason: "Unknown", message: error.to_string() })
            }
        }
    }
}
