//! NodeStageVolume and its opposite: the export mounted once on the node.
//!
//! The path of a volume's export changes when it is rewound or refreshed. Kubelet unstages before it stages again, but a
//! node that was away, or a forced detach, can leave the old export at the staging path: it is taken away if no pod sees it
//! any more, and never mounted over.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use super::table::{Here, taken};
use super::{Inner, Node, Stage};
use crate::host::{Cause, FileKind, HostError, MountSpec, NfsSource, NfsVersion};
use crate::service::blocking;
use crate::service::node::mount_flag;
use crate::volume::mount_options::{self, NfsPlan};
use crate::volume::nfs::check_export_path;
use crate::volume::{AccessType, Error, Kind, Result};

/// The request's field, for messages.
pub(super) const STAGING: &str = "staging_target_path";

/// An export as the controller names it, and how it is to be mounted.
pub(super) struct Wanted {
    pub(super) addresses: Vec<IpAddr>,
    pub(super) path: String,
    pub(super) version: NfsVersion,
    pub(super) plan: NfsPlan,
    pub(super) read_only: bool,
}

impl Node {
    /// Mounts the volume at its staging path. Repeatable.
    pub async fn stage(&self, request: Stage) -> Result<()> {
        let inner = self.inner.clone();
        let volume = request.volume.clone();
        self.inner.work(&volume, async move { inner.stage(&request).await }).await
    }

    /// Unmounts whatever export is at the staging path, within a bounded time also where its server is dead. What is not
    /// staged is unstaged already.
    pub async fn unstage(&self, volume: &str, staging: &Path) -> Result<()> {
        let (inner, id, staging) = (self.inner.clone(), volume.to_owned(), staging.to_owned());
        self.inner.work(volume, async move { inner.clear(&id, &staging, STAGING).await }).await
    }
}

impl Inner {
    async fn stage(self: &Arc<Self>, request: &Stage) -> Result<()> {
        let wanted = self.wanted(request).await?;
        let staging = &request.staging;
        match self.look(staging).await? {
            Here::Nothing => self.directory(staging).await?,
            Here::Other(entry) => return Err(taken(STAGING, staging, &entry.fs)),
            Here::Export(there) => {
                if there.source.as_ref().is_some_and(|source| wanted.is(source)) {
                    return self.restage(request, &wanted, there.source.as_ref(), there.read_only);
                }
                self.refuse_seen(request, there.source.as_ref()).await?;
                tracing::info!(volume = request.volume, path = %staging.display(), "an earlier export of the volume is still mounted; taking it away");
                self.clear(&request.volume, staging, STAGING).await?;
            }
        }
        self.mount(request, wanted).await
    }

    /// What the request says, with names looked up. [`Kind::Invalid`] where it cannot be.
    pub(super) async fn wanted(&self, request: &Stage) -> Result<Wanted> {
        let flags = match &request.capability.access {
            AccessType::Mount { fs: None, flags } => flags,
            AccessType::Mount { fs: Some(fs), .. } => {
                let why = format!(
                    "asks for {}, but the volume is a directory of an NFS server: leave it out",
                    fs.as_str()
                );
                return Err(Error::invalid("volume_capability.mount.fs_type", why));
            }
            AccessType::Block => {
                let why = "asks for a raw device, but the volume is a directory of an NFS server: use volumeMode Filesystem";
                return Err(Error::invalid("volume_capability", why));
            }
        };
        let plan = mount_options::check_nfs(flags)?;
        let path = said(request, "path")?;
        check_export_path("publish_context.path", path)?;
        // A DCT of before 2025.6 does not say which version the engine used last.
        let told = request
            .context
            .get("nfsVersion")
            .map_or(Some(NfsVersion::V4(None)), |told| NfsVersion::parse(told));
        let Some(told) = told else {
            return Err(Error::invalid("publish_context.nfsVersion", "is not 3, 4, 4.0, 4.1 or 4.2"));
        };
        let server = said(request, "server")?;
        let addresses = match server.parse::<IpAddr>() {
            Ok(address) => vec![address],
            Err(_) => self.look_up(server).await?,
        };
        let read_only = plan.plan.read_only || request.capability.mode.is_read_only();
        Ok(Wanted {
            addresses,
            path: path.to_owned(),
            version: plan.version.unwrap_or(told),
            plan,
            read_only,
        })
    }

    async fn look_up(&self, server: &str) -> Result<Vec<IpAddr>> {
        let lookup = tokio::time::timeout(self.limits.usage, tokio::net::lookup_host((server, 2049))).await;
        let mut all: Vec<IpAddr> = match lookup {
            Ok(Ok(found)) => found.map(|at| at.ip()).collect(),
            Ok(Err(_)) | Err(_) => Vec::new(),
        };
        all.dedup();
        match all.is_empty() {
            false => Ok(all),
            true => Err(Error::new(
                Kind::Unavailable,
                format!(
                    "the name {server:?} of the NFS server is not known to this node: mend its DNS, or set data-address for the engine"
                ),
            )),
        }
    }

    /// The staging path must be a directory; kubelet makes it.
    async fn directory(&self, staging: &Path) -> Result<()> {
        let (host, at) = (self.host.clone(), staging.to_owned());
        let kind =
            blocking(move || Ok(host.target_kind(&at)?)).await.map_err(|error| error.context(STAGING))?;
        let what = match kind {
            Some(FileKind::Directory) => return Ok(()),
            Some(_) => "is not a directory",
            None => "does not exist: make it first",
        };
        Err(Error::precondition(format!("{STAGING}: {} {what}", staging.display())))
    }

    /// The volume is staged here already: is that what is asked for?
    fn restage(
        &self,
        request: &Stage,
        wanted: &Wanted,
        there: Option<&NfsSource>,
        read_only: bool,
    ) -> Result<()> {
        let differs = |what: &str| {
            let (volume, at) = (&request.volume, request.staging.display());
            let text =
                format!("volume_capability: volume {volume} is staged at {at} {what}: unstage it first");
            Err(Error::new(Kind::AlreadyExists, text))
        };
        if read_only != wanted.read_only {
            return differs(if read_only { "read-only" } else { "for writing" });
        }
        if there.is_some_and(|there| !wanted.version.admits(there.version)) {
            return differs("with another version of NFS");
        }
        match self.plans().get(&request.staging) {
            Some(plan) if *plan != wanted.plan => differs("with other mount options"),
            _ => Ok(()),
        }
    }

    /// An old export that a pod still sees is not taken away under it.
    async fn refuse_seen(&self, request: &Stage, there: Option<&NfsSource>) -> Result<()> {
        let Some(there) = there else { return Ok(()) };
        let seen = self.elsewhere(there, &[&request.staging]).await?;
        let Some(first) = seen.first() else { return Ok(()) };
        let text = format!(
            "{STAGING}: {} still has {there} of an earlier publication of volume {}, which is in use at {}: end the pod that uses it",
            request.staging.display(),
            request.volume,
            first.target.display()
        );
        Err(Error::precondition(text))
    }

    async fn mount(&self, request: &Stage, wanted: Wanted) -> Result<()> {
        let spec = MountSpec {
            fs: "nfs".to_owned(),
            options: wanted.plan.plan.options.clone(),
            read_only: wanted.read_only,
            flags: wanted.plan.plan.flags.iter().copied().map(mount_flag).collect(),
        };
        let mut failed = Error::internal("the NFS server has no address");
        for server in wanted.addresses {
            let source = NfsSource { server, path: wanted.path.clone(), version: wanted.version };
            let (spec, target) = (spec.clone(), request.staging.clone());
            let mounted = self.slow.run(&request.volume, "mounting", self.limits.mount, move |host| {
                host.mount_nfs(&source, &target, &spec).map_err(|error| explain(&error, &source, &target))
            });
            match mounted.await {
                Ok(()) => {
                    self.plans().insert(request.staging.clone(), wanted.plan);
                    return Ok(());
                }
                Err(error) if error.kind() == Kind::Unavailable => failed = error,
                Err(error) => return Err(error),
            }
        }
        Err(failed)
    }
}

impl Wanted {
    /// Whether a mount shows the export that is wanted.
    pub(super) fn is(&self, source: &NfsSource) -> bool {
        self.path == source.path && self.addresses.contains(&source.server)
    }
}

fn said<'a>(request: &'a Stage, key: &str) -> Result<&'a str> {
    match request.context.get(key).map(String::as_str) {
        Some(value) if !value.is_empty() => Ok(value),
        _ => Err(Error::invalid(
            &format!("publish_context.{key}"),
            "is missing: the volume must be published to this node first (attachRequired in the CSIDriver object)",
        )),
    }
}

fn explain(error: &HostError, source: &NfsSource, target: &Path) -> Error {
    let kind = match error.cause {
        Cause::Unreachable => Kind::Unavailable,
        Cause::Denied | Cause::NotFound | Cause::Unsupported => Kind::Precondition,
        _ => return error.clone().into(),
    };
    Error::new(kind, format!("cannot mount {source} at {}: {}", target.display(), error.detail))
}
