//! What is mounted where, and taking it away.
//!
//! Only the kernel's table is read: it asks no server. A mount that is not of NFS is somebody else's, and is reported and
//! left alone, also when it lies on top of ours.

use std::path::Path;
use std::time::{Duration, Instant};

use super::Inner;
use crate::host::{Cause, MountEntry, NfsMount, NfsSource};
use crate::service::blocking;
use crate::service::node::{not_empty, still_used};
use crate::volume::{Error, Kind, Result};

/// More mounts than this on top of each other are not taken away in one call.
const MAX_STACKED: usize = 64;
/// Between two tries to unmount what programs still use.
const PAUSE: Duration = Duration::from_millis(250);

/// What is mounted at a path, uppermost.
#[derive(Debug, Clone)]
pub(super) enum Here {
    /// Nothing.
    Nothing,
    /// An NFS export.
    Export(NfsMount),
    /// Something else.
    Other(MountEntry),
}

impl Inner {
    /// All NFS mounts, lowest first.
    pub(super) async fn table(&self) -> Result<Vec<NfsMount>> {
        let host = self.host.clone();
        blocking(move || Ok(host.nfs_mounts()?)).await
    }

    /// What is mounted at exactly `path`.
    pub(super) async fn look(&self, path: &Path) -> Result<Here> {
        let (host, path) = (self.host.clone(), path.to_owned());
        blocking(move || {
            let Some(entry) = host.mounts()?.into_iter().rev().find(|entry| entry.target == path) else {
                return Ok(Here::Nothing);
            };
            let export = host.nfs_mounts()?.into_iter().rev().find(|mount| mount.target == path);
            // Between the two looks it may have gone; then it is nobody's any more.
            Ok(match export {
                Some(export) if entry.fs.starts_with("nfs") => Here::Export(export),
                None if entry.fs.starts_with("nfs") => Here::Nothing,
                _ => Here::Other(entry),
            })
        })
        .await
    }

    /// Every other place where the same export is mounted.
    pub(super) async fn elsewhere(&self, source: &NfsSource, but: &[&Path]) -> Result<Vec<NfsMount>> {
        let same = |mount: &NfsMount| {
            mount
                .source
                .as_ref()
                .is_some_and(|other| other.server == source.server && other.path == source.path)
        };
        let mut all = self.table().await?;
        all.retain(|mount| same(mount) && !but.contains(&mount.target.as_path()));
        Ok(all)
    }

    /// Unmounts every export at `path`, within a bounded time, whatever its server does.
    pub(super) async fn clear(&self, volume: &str, path: &Path, field: &str) -> Result<()> {
        for _ in 0..MAX_STACKED {
            match self.look(path).await? {
                Here::Nothing => {
                    self.plans().remove(path);
                    return Ok(());
                }
                Here::Other(entry) => return Err(taken(field, path, &entry.fs)),
                Here::Export(mount) => self.unmount(volume, &mount).await?,
            }
        }
        let text =
            format!("{field}: {} has more than {MAX_STACKED} mounts on top of each other", path.display());
        Err(Error::precondition(text))
    }

    async fn unmount(&self, volume: &str, mount: &NfsMount) -> Result<()> {
        let path = mount.target.clone();
        if self.answers(volume, mount).await {
            let at = path.clone();
            let done = self.slow.run(volume, "unmounting", self.limits.unmount, move |host| {
                host.unmount(&at).map(drop).map_err(|error| match error.cause {
                    Cause::Busy => still_used(&at, &error),
                    _ => error.into(),
                })
            });
            match done.await {
                // It went silent meanwhile.
                Err(error) if error.kind() == Kind::Unavailable => {}
                done => return done,
            }
        }
        self.unmount_dead(volume, mount).await
    }

    /// Whether the server of a mount answers now.
    pub(super) async fn answers(&self, volume: &str, mount: &NfsMount) -> bool {
        let Some(source) = mount.source.clone() else { return true };
        let asked = self.slow.run(volume, "asking the server", self.limits.usage * 3, move |host| {
            Ok(host.nfs_answers(source.server, source.version)?)
        });
        asked.await.is_ok()
    }

    /// Takes a mount away whose server is dead: by force, which ends what waits for the server, and if programs keep
    /// files open for longer than the limit, by hiding it from the tree until they end.
    async fn unmount_dead(&self, volume: &str, mount: &NfsMount) -> Result<()> {
        let shown = mount.source.as_ref().map_or_else(|| "its NFS server".to_owned(), ToString::to_string);
        let path = mount.target.clone();
        tracing::warn!(volume, path = %path.display(), export = shown, "the NFS server does not answer; unmounting by force");
        let begun = Instant::now();
        loop {
            let at = path.clone();
            let hide = begun.elapsed() >= self.limits.force;
            if hide {
                tracing::warn!(volume, path = %path.display(), export = shown, "programs still use it; detaching it from the tree, its last writes may be lost");
            }
            let done =
                self.slow.run(volume, "forced unmounting", self.limits.unmount, move |host| {
                    match host.unmount_dead(&at, hide) {
                        Ok(_) => Ok(true),
                        Err(error) if error.cause == Cause::Busy && !hide => Ok(false),
                        Err(error) => Err(error.into()),
                    }
                });
            match done.await {
                Ok(true) => return Ok(()),
                Ok(false) => tokio::time::sleep(PAUSE.min(self.limits.force)).await,
                // The kernel waits for the last writes, but the mount is out of the tree.
                Err(error) if error.kind() == Kind::Unavailable => {
                    return match self.look(&path).await? {
                        Here::Nothing => Ok(()),
                        _ => Err(error),
                    };
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Removes the empty directory at the end of a target path.
    pub(super) async fn remove_target(&self, field: &'static str, target: &Path) -> Result<()> {
        let (host, target) = (self.host.clone(), target.to_owned());
        blocking(move || match host.remove_target(&target) {
            Ok(_) => Ok(()),
            Err(error) if error.cause == Cause::NotEmpty => Err(not_empty(field, &target)),
            Err(error) => Err(error.into()),
        })
        .await
    }

    pub(super) fn plans(
        &self,
    ) -> std::sync::MutexGuard<
        '_,
        std::collections::BTreeMap<std::path::PathBuf, crate::volume::mount_options::NfsPlan>,
    > {
        self.plans.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// The error for a path where something else is mounted. `field` is the request's.
pub(super) fn taken(field: &str, path: &Path, what: &str) -> Error {
    let at = path.display();
    Error::precondition(format!(
        "{field}: {at}: {what} that is not this volume is mounted there; it is left alone: unmount it, then ask again"
    ))
}
