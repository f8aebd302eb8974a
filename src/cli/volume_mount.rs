//! `offshoot volume mount` and `unmount`: what kubelet does for a pod, done for a person.
//!
//! The server mounts, by the same two calls (stage, publish) that it answers to kubelet. It refuses paths with symbolic
//! links in them, so links are resolved here, where the person who gave the path is trusted. The staging directory
//! lies below the state directory, one per volume.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use serde::Serialize;
use tonic::Code;

use super::output::clean;
use super::session::{Common, said};
use super::volume_make::capability;
use crate::config::DEFAULT_STATE_DIR;
use crate::proto::csi::volume_capability::access_mode::Mode;
use crate::proto::csi::{
    ControllerGetVolumeRequest, NodePublishVolumeRequest, NodeStageVolumeRequest, NodeUnpublishVolumeRequest,
    NodeUnstageVolumeRequest,
};

/// Where volumes are staged for people.
#[derive(Debug, Clone, Args)]
struct Staging {
    /// Directory of the server's state; volumes are staged below it
    #[arg(long, env = "OFFSHOOT_STATE_DIR", value_name = "DIR", default_value = DEFAULT_STATE_DIR)]
    state_dir: PathBuf,
}

impl Staging {
    fn of(&self, volume: &str) -> Result<PathBuf> {
        let dir = std::path::absolute(&self.state_dir).context("--state-dir is not a path")?;
        // Whatever comes here names one entry of one directory.
        if volume.contains('/') || volume.starts_with('.') {
            bail!("{volume:?} is not the id of a volume");
        }
        Ok(dir.join("staging").join(volume))
    }
}

/// Mount a volume on this machine
///
/// The directory is made if it is not there. With --block, PATH becomes the raw device. The volume can be mounted at
/// several places; it stays mounted when the server stops.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:\n\
\x20 offshoot volume mount db /mnt/db\n\
\x20 offshoot volume mount db /mnt/db --read-only --option noatime\n\
\x20 offshoot volume mount disk /dev/my-disk --block")]
pub(super) struct Mount {
    /// The volume: its name or id
    #[arg(value_name = "VOLUME")]
    volume: String,
    /// Where it is to appear
    #[arg(value_name = "PATH")]
    path: PathBuf,
    /// Refuse writes
    #[arg(long)]
    read_only: bool,
    /// As a raw block device
    #[arg(long)]
    block: bool,
    /// A mount option, such as noatime; give it once per option
    #[arg(long = "option", value_name = "OPTION", conflicts_with = "block")]
    options: Vec<String>,
    #[command(flatten)]
    staging: Staging,
    #[command(flatten)]
    common: Common,
}

/// Unmount a volume from one place
///
/// When that was the last place on this machine, the volume is detached too.
#[derive(Debug, Args)]
#[command(after_long_help = "Example:\n  offshoot volume unmount db /mnt/db")]
pub(super) struct Unmount {
    /// The volume: its name or id
    #[arg(value_name = "VOLUME")]
    volume: String,
    /// Where it is mounted
    #[arg(value_name = "PATH")]
    path: PathBuf,
    #[command(flatten)]
    staging: Staging,
    #[command(flatten)]
    common: Common,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Mounted {
    id: String,
    path: String,
    staging_path: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Unmounted {
    id: String,
    path: String,
    /// Whether the volume is off this machine now.
    detached: bool,
}

impl Mount {
    pub(super) fn run(self) -> Result<()> {
        let common = self.common.clone();
        common.run(async |session| {
            let id = session.volume(&self.volume).await?;
            let staging = self.staging.of(&id)?;
            let path = request_path(&self.path)?;
            let made = DirBuilder::new().recursive(true).mode(0o700).create(&staging);
            made.with_context(|| {
                format!(
                    "cannot make the staging directory {}; name another place with --state-dir",
                    staging.display()
                )
            })?;
            let staging = request_path(&staging)?;
            let request = ControllerGetVolumeRequest { volume_id: id.clone() };
            let volume =
                session.controller().controller_get_volume(request).await.map_err(said)?.into_inner();
            let volume_context = volume.volume.map(|volume| volume.volume_context).unwrap_or_default();
            // Several places at once are what a person may want.
            let capability = Some(capability(self.block, None, &self.options, Mode::SingleNodeMultiWriter));
            let stage = NodeStageVolumeRequest {
                volume_id: id.clone(),
                staging_target_path: staging.clone(),
                volume_capability: capability.clone(),
                volume_context: volume_context.clone(),
                ..NodeStageVolumeRequest::default()
            };
            session.node().node_stage_volume(stage).await.map_err(said)?;
            let publish = NodePublishVolumeRequest {
                volume_id: id.clone(),
                staging_target_path: staging.clone(),
                target_path: path.clone(),
                volume_capability: capability,
                readonly: self.read_only,
                volume_context,
                ..NodePublishVolumeRequest::default()
            };
            session.node().node_publish_volume(publish).await.map_err(said)?;
            let done = Mounted { id, path, staging_path: staging };
            common.output.print(&done, &[&done.id], |_| {
                format!("mounted volume {} at {}\n", done.id, clean(&done.path))
            })
        })
    }
}

impl Unmount {
    pub(super) fn run(self) -> Result<()> {
        let common = self.common.clone();
        common.run(async |session| {
            let id = session.volume(&self.volume).await?;
            let staging = self.staging.of(&id)?;
            let path = request_path(&self.path)?;
            let unpublish = NodeUnpublishVolumeRequest { volume_id: id.clone(), target_path: path.clone() };
            session.node().node_unpublish_volume(unpublish).await.map_err(said)?;
            let mut done = Unmounted { id, path, detached: false };
            if staging.is_dir() {
                let unstage = NodeUnstageVolumeRequest {
                    volume_id: done.id.clone(),
                    staging_target_path: request_path(&staging)?,
                };
                match session.node().node_unstage_volume(unstage).await {
                    Ok(_) => {
                        done.detached = true;
                        // Ours and empty now; one that is not empty is left alone.
                        let _ = std::fs::remove_dir(&staging);
                    }
                    // It is still mounted at another place.
                    Err(status) if status.code() == Code::FailedPrecondition => {}
                    Err(status) => return Err(said(status)),
                }
            }
            common.output.print(&done, &[&done.id], |_| {
                let still =
                    if done.detached { "" } else { "; it is still staged, for another place or by kubelet" };
                format!("unmounted volume {} from {}{still}\n", done.id, clean(&done.path))
            })
        })
    }
}

/// A path as the server takes it: absolute, without links in its parents.
pub(super) fn request_path(path: &Path) -> Result<String> {
    let absolute = std::path::absolute(path).with_context(|| format!("{} is not a path", path.display()))?;
    let whole = match (absolute.parent(), absolute.file_name()) {
        (Some(parent), Some(name)) => match parent.canonicalize() {
            Ok(parent) => parent.join(name),
            // The server makes it, or says why it cannot.
            Err(_) => absolute,
        },
        _ => bail!("{} has no name that something could be mounted at", path.display()),
    };
    match whole.into_os_string().into_string() {
        Ok(text) => Ok(text),
        Err(path) => bail!("{} is not UTF-8, which the protocol needs", path.display()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_in_the_parents_of_a_path_are_resolved() {
        let dir = tempfile::tempdir().unwrap();
        let real = dir.path().canonicalize().unwrap();
        std::fs::create_dir(real.join("real")).unwrap();
        std::os::unix::fs::symlink(real.join("real"), real.join("link")).unwrap();
        let given = real.join("link").join("target");
        assert_eq!(request_path(&given).unwrap(), real.join("real/target").to_str().unwrap());
        let missing = real.join("none/target");
        assert_eq!(request_path(&missing).unwrap(), missing.to_str().unwrap());
        assert!(request_path(Path::new("/")).is_err());
    }

    #[test]
    fn staging_directories_lie_below_the_state_directory() {
        let staging = Staging { state_dir: "/var/lib/offshoot".into() };
        assert_eq!(staging.of("v-a").unwrap(), Path::new("/var/lib/offshoot/staging/v-a"));
        assert!(staging.of("../etc").is_err());
        assert!(staging.of("..").is_err());
    }
}
