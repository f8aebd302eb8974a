//! How full a volume is, and how well, without ever waiting long for its server.

use std::path::Path;

use super::table::Here;
use super::{Inner, Node};
use crate::backend::{Fault, Severity};
use crate::host::{FsUsage, NfsMount};
use crate::volume::size::Range;
use crate::volume::{Error, Kind, Result};

impl Node {
    /// Bytes and inodes of the export at exactly `path`. [`Kind::Unavailable`] where its server does not answer in time.
    pub async fn usage(&self, volume: &str, path: &Path) -> Result<FsUsage> {
        self.inner.require(volume, path).await?;
        self.inner.usage(volume, path).await
    }

    /// What is wrong with the volume as this node sees it. Empty paths are not looked at.
    ///
    /// # Errors
    /// [`Kind::NotFound`] where none of the paths shows anything.
    pub async fn health(&self, volume: &str, published: &Path, staging: &Path) -> Result<Vec<Fault>> {
        let mut faults = Vec::new();
        for path in [published, staging].into_iter().filter(|path| !path.as_os_str().is_empty()) {
            faults.extend(self.inner.fault(volume, path).await);
            // One question to the server is enough.
            if faults.iter().any(|fault| fault.reason == SILENT) {
                break;
            }
        }
        Ok(faults)
    }

    /// What is wrong with the servers that this node mounts from, by their addresses.
    pub async fn storage_health(&self) -> Vec<(String, Vec<Fault>)> {
        let mounts = self.inner.table().await.unwrap_or_default();
        let mut asked: Vec<(String, Vec<Fault>)> = Vec::new();
        for mount in mounts {
            let Some(source) = &mount.source else { continue };
            let server = source.server.to_string();
            if asked.iter().any(|(name, _)| *name == server) {
                continue;
            }
            let silent = !self.inner.answers(&server, &mount).await;
            asked.push((server.clone(), if silent { vec![silence(&mount)] } else { Vec::new() }));
        }
        asked
    }

    /// Nothing is to be grown: the size of a volume is the engine's business. Its size as it was asked for, in bytes.
    pub async fn expand(&self, volume: &str, path: &Path, range: Range) -> Result<u64> {
        self.inner.require(volume, path).await?;
        Ok(range.required.max(1))
    }
}

const SILENT: &str = "ServerSilent";

impl Inner {
    /// The export at `path`; [`Kind::NotFound`] if none is there.
    async fn require(&self, volume: &str, path: &Path) -> Result<NfsMount> {
        match self.look(path).await? {
            Here::Export(mount) => Ok(mount),
            Here::Nothing | Here::Other(_) => {
                let text = format!("volume {volume} is not mounted at {}", path.display());
                Err(Error::new(Kind::NotFound, text))
            }
        }
    }

    async fn usage(&self, volume: &str, path: &Path) -> Result<FsUsage> {
        let at = path.to_owned();
        let asked = self.slow.run(volume, "statfs", self.limits.usage, move |host| {
            host.usage(&at).map_err(|error| Error::new(Kind::Unavailable, error.to_string()))
        });
        asked.await
    }

    async fn fault(&self, volume: &str, path: &Path) -> Option<Fault> {
        let fault = |severity, reason, message: String| Some(Fault { severity, reason, message });
        let at = path.display();
        match self.look(path).await {
            Ok(Here::Nothing) => {
                let message = format!("it is no longer mounted at {at}: restart the pod that uses it");
                fault(Severity::Inaccessible, "MountMissing", message)
            }
            Ok(Here::Other(_)) => {
                let message = format!("something else is mounted over it at {at}: unmount that");
                fault(Severity::Inaccessible, "MountCovered", message)
            }
            Ok(Here::Export(mount)) if !self.answers(volume, &mount).await => Some(silence(&mount)),
            Ok(Here::Export(_)) => match self.usage(volume, path).await {
                Ok(_) => None,
                Err(error) => {
                    let message = format!(
                        "{at} gives no answer though its server does ({error}): it may have been disabled, rewound or refreshed \
                         while it was mounted; restart the pod that uses it"
                    );
                    fault(Severity::Inaccessible, "ExportGone", message)
                }
            },
            Err(error) => fault(Severity::Degraded, "Unknown", format!("{at} gives no answer: {error}")),
        }
    }
}

fn silence(mount: &NfsMount) -> Fault {
    let server = mount.source.as_ref().map_or_else(String::new, |source| format!(" {}", source.server));
    Fault {
        severity: Severity::Inaccessible,
        reason: SILENT,
        message: format!(
            "the NFS server{server} does not answer: look at the engine and at the network to it"
        ),
    }
}
