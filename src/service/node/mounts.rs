//! Looking at a mount point, mounting a volume there, and taking it away again.
//!
//! Paths come from requests. Before anything is done at one, the kernel is asked what is there; the answer is the
//! volume, nothing, or somebody else's. Others' mounts are reported and left alone, also when they lie on top of ours.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::super::Inner;
use super::super::pool::{Pool, blocking};
use super::paths::named;
use super::uses::Mounted;
use crate::backend::{Attachment, Use};
use crate::host::{Cause, HostError, MountEntry, MountFlag, MountSpec};
use crate::volume::mount_options::{self, GenericFlag, MountPlan};
use crate::volume::{Capability, Error, FsType, Kind, Result, Volume, VolumeId};

/// More mounts than this on top of each other are not taken away in one call.
const MAX_STACKED: usize = 64;

/// What is mounted at a path.
pub(super) enum Here {
    /// Nothing.
    Nothing,
    /// The volume.
    Ours(Mounted),
    /// Something else.
    Other(MountEntry),
}

/// How a filesystem is to be mounted.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    /// The flags of the request, as they came.
    pub(super) flags: Vec<String>,
    /// The same, checked for the volume's filesystem.
    pub(super) plan: MountPlan,
    /// Refuse writes.
    pub(super) read_only: bool,
}

impl Wanted {
    /// What `capability` asks for. [`Kind::Invalid`] for flags that are not allowed.
    pub(super) fn new(volume: &Volume, capability: &Capability, node: &str) -> Result<Self> {
        let flags = match &capability.access {
            crate::volume::AccessType::Mount { flags, .. } => flags.clone(),
            crate::volume::AccessType::Block => Vec::new(),
        };
        let plan = mount_options::check(volume.fs, &flags)?;
        let read_only = plan.read_only || refuses_writes(volume, capability, node);
        Ok(Wanted { flags, plan, read_only })
    }
}

/// Whether the access mode or the controller's publication lets nobody on this node write.
pub(super) fn refuses_writes(volume: &Volume, capability: &Capability, node: &str) -> bool {
    capability.mode.is_read_only()
        || volume.published.iter().any(|published| published.node == node && published.read_only)
}

/// The error for a path where something else is mounted. `field` is the request's.
pub(super) fn taken(field: &str, path: &Path, entry: &MountEntry, by: Option<VolumeId>) -> Error {
    let what = match by {
        Some(id) => format!("volume {id} is mounted there"),
        None => format!("{} that is not this volume is mounted there", entry.fs),
    };
    Error::precondition(format!(
        "{field}: {}: {what}; it is left alone: unmount it, then ask again",
        path.display()
    ))
}

impl Inner {
    /// What is mounted at exactly `path`, in relation to the volume. What the kernel says goes into the index.
    pub(super) async fn look(&self, volume: &Volume, path: &Path) -> Result<Here> {
        let Some(entry) = self.mount_at(path).await? else {
            self.uses.remove(volume.id, path);
            return Ok(Here::Nothing);
        };
        if let Some(noted) = self.uses.at(volume.id, path).filter(|noted| noted.is(&entry)) {
            return Ok(Here::Ours(noted));
        }
        let attached = self.pool(volume.id.pool())?.backend.attached(volume).await?;
        if attached.iter().any(|attachment| is_shown(attachment, &entry)) {
            let found = Mounted { target: path.to_owned(), ..Mounted::found(entry) };
            self.uses.add(volume.id, found.clone());
            return Ok(Here::Ours(found));
        }
        self.uses.remove(volume.id, path);
        Ok(Here::Other(entry))
    }

    /// A place where the volume's filesystem is mounted now, by the kernel's word: somebody may have unmounted it
    /// behind our back.
    pub(in super::super) async fn shown_filesystem(&self, volume: &Volume) -> Result<Option<PathBuf>> {
        for mounted in self.uses.of(volume.id).into_iter().filter(|mounted| !mounted.block()) {
            if let Here::Ours(_) = self.look(volume, &mounted.target).await? {
                return Ok(Some(mounted.target));
            }
        }
        Ok(None)
    }

    /// The uppermost mount at exactly `path`.
    pub(super) async fn mount_at(&self, path: &Path) -> Result<Option<MountEntry>> {
        let (host, path) = (self.host.clone(), path.to_owned());
        blocking(move || Ok(host.mount_at(&path)?)).await
    }

    /// Mounts the volume's filesystem at `target`, an empty directory. On failure the mount is gone again, and the
    /// device too where nothing else uses it; if that cannot be, the error says "retry".
    pub(super) async fn mount(&self, volume: &Volume, target: &Path, wanted: &Wanted) -> Result<()> {
        let pool = self.pool(volume.id.pool())?;
        match self.mount_steps(&pool, volume, target, wanted).await {
            Ok(()) => Ok(()),
            Err(error) => Err(self.undo_mount(volume, target, error).await),
        }
    }

    async fn mount_steps(
        &self,
        pool: &Arc<Pool>,
        volume: &Volume,
        target: &Path,
        wanted: &Wanted,
    ) -> Result<()> {
        let add = |entry: MountEntry| {
            let (target, plan) = (target.to_owned(), Some(wanted.plan.clone()));
            let read_only = wanted.read_only;
            self.uses.add(volume.id, Mounted { target, plan, read_only, ..Mounted::found(entry) });
        };
        if let Some(there) = self.mounted_elsewhere(volume, wanted).await? {
            // The kernel has one set of options per filesystem; a second mount is a second view of the first.
            add(self.bind(&there.target, target, wanted.read_only).await?);
            return Ok(());
        }
        match pool.backend.attach(volume, Use::Filesystem { read_only: wanted.read_only }).await? {
            Attachment::Directory { path } => {
                if wanted.plan != (MountPlan { read_only: wanted.plan.read_only, ..MountPlan::default() }) {
                    let why = "volumes that are btrfs subvolumes share the pool's mount and take only ro and rw: leave \
                               the others out, or make the volume with layout `image`";
                    return Err(Error::invalid("volume_capability.mount.mount_flags", why));
                }
                add(self.bind(&path, target, wanted.read_only).await?);
            }
            Attachment::Device { path, fs: Some(fs), options, grow, .. } => {
                let spec = spec(volume, fs, options, wanted)?;
                let (host, at) = (self.host.clone(), target.to_owned());
                let mounted = blocking(move || {
                    host.mount_device(&path, &at, &spec).map_err(|error| explain(error, &at))?;
                    Ok(host.mount_at(&at)?)
                });
                add(mounted.await?.ok_or_else(|| vanished(target))?);
                if grow && !wanted.read_only {
                    pool.backend.grow_mounted(volume, target).await?;
                }
            }
            Attachment::Device { fs: None, .. } => {
                return Err(Error::internal(format!(
                    "volume {} was attached without a filesystem",
                    volume.id
                )));
            }
        }
        Ok(())
    }

    /// Makes `source` visible at `target`; what the kernel says is there then.
    async fn bind(&self, source: &Path, target: &Path, read_only: bool) -> Result<MountEntry> {
        let (host, source, at) = (self.host.clone(), source.to_owned(), target.to_owned());
        let entry = blocking(move || {
            host.bind(&source, &at, read_only).map_err(|error| explain(error, &at))?;
            Ok(host.mount_at(&at)?)
        });
        entry.await?.ok_or_else(|| vanished(target))
    }

    /// A mount of the volume's filesystem that there is already, checked to suit what is wanted now.
    async fn mounted_elsewhere(&self, volume: &Volume, wanted: &Wanted) -> Result<Option<Mounted>> {
        let mut found: Option<Mounted> = None;
        for mounted in self.uses.of(volume.id).into_iter().filter(|mounted| !mounted.block()) {
            let Here::Ours(mounted) = self.look(volume, &mounted.target).await? else { continue };
            let at = mounted.target.display();
            if mounted.plan.as_ref().is_some_and(|plan| *plan != wanted.plan) {
                let text = format!(
                    "volume {} is mounted with other options at {at}: unstage it there first",
                    volume.id
                );
                return Err(Error::precondition(text));
            }
            if found.as_ref().is_none_or(|found| found.read_only) {
                found = Some(mounted);
            }
        }
        if let Some(found) = found.as_ref().filter(|found| found.read_only && !wanted.read_only) {
            let at = found.target.display();
            let text = format!("volume {} is mounted read-only at {at}: unstage it there first", volume.id);
            return Err(Error::precondition(text));
        }
        Ok(found)
    }

    async fn undo_mount(&self, volume: &Volume, target: &Path, error: Error) -> Error {
        let undone = match self.clear(volume, target, "target path").await {
            Ok(()) => match self.let_go(volume).await {
                // Somebody else holds it, so it was not this call that brought it here.
                Err(held) if held.kind() == Kind::Precondition => Ok(()),
                done => done,
            },
            Err(undo) => Err(undo),
        };
        match undone {
            Ok(()) => error,
            Err(undo) => unfinished(&error, &undo),
        }
    }

    /// Unmounts the volume at `path`, as often as it is stacked there. Fails if something else is mounted there.
    pub(super) async fn clear(&self, volume: &Volume, path: &Path, field: &str) -> Result<()> {
        for _ in 0..MAX_STACKED {
            match self.look(volume, path).await.map_err(|error| named(field, error))? {
                Here::Nothing => return Ok(()),
                Here::Other(entry) => return Err(taken(field, path, &entry, self.uses.owner(path))),
                Here::Ours(_) => self.unmount(path).await?,
            }
        }
        let text =
            format!("{field}: {} has more than {MAX_STACKED} mounts on top of each other", path.display());
        Err(Error::precondition(text))
    }

    /// Removes the uppermost mount at `path`.
    pub(super) async fn unmount(&self, path: &Path) -> Result<()> {
        let (host, path) = (self.host.clone(), path.to_owned());
        blocking(move || match host.unmount(&path) {
            Ok(_) => Ok(()),
            Err(error) if error.cause == Cause::Busy => Err(still_used(&path, &error)),
            Err(error) => Err(error.into()),
        })
        .await
    }

    /// Takes the volume off this machine, unless it is still mounted or staged somewhere.
    pub(super) async fn let_go(&self, volume: &Volume) -> Result<()> {
        if self.uses.is_raw_staged(volume.id, None) || self.first_use(volume.id).await?.is_some() {
            return Ok(());
        }
        self.pool(volume.id.pool())?.backend.detach(volume).await
    }
}

/// An error after which something is left behind: a retry goes on from there.
pub(super) fn unfinished(error: &Error, undo: &Error) -> Error {
    Error::new(Kind::Unavailable, format!("{error}; what was done could not be undone ({undo}): try again"))
}

/// Whether a mount shows what is attached. A subvolume is known by its name, which is unique; the device numbers that
/// btrfs shows for it change.
fn is_shown(attachment: &Attachment, entry: &MountEntry) -> bool {
    match attachment {
        Attachment::Device { rdev, .. } => entry.dev == *rdev || entry.node_rdev == Some(*rdev),
        Attachment::Directory { path } => {
            entry.node_rdev.is_none() && entry.root.file_name() == path.file_name()
        }
    }
}

/// The mount of a device with everything that it needs.
fn spec(
    volume: &Volume,
    fs: FsType,
    mut options: Vec<(String, Option<String>)>,
    wanted: &Wanted,
) -> Result<MountSpec> {
    // A trusted raw volume may hold another filesystem than it was made for.
    let plan = if fs == volume.fs { wanted.plan.clone() } else { mount_options::check(fs, &wanted.flags)? };
    options.retain(|(key, _)| plan.options.iter().all(|(asked, _)| asked != key));
    options.extend(plan.options);
    let decided = options.iter().any(|(key, _)| key == "discard" || key == "nodiscard");
    if volume.discard && !wanted.read_only && !decided {
        let how = (fs == FsType::Btrfs).then(|| "async".to_owned());
        options.push(("discard".to_owned(), how));
    }
    let flags = plan.flags.into_iter().map(mount_flag).collect();
    Ok(MountSpec { fs: fs.as_str().to_owned(), options, read_only: wanted.read_only, flags })
}

/// The error for a mount that programs use.
pub(crate) fn still_used(path: &Path, error: &HostError) -> Error {
    let at = path.display();
    Error::precondition(format!("{at} is still in use: stop what uses it, then ask again ({})", error.detail))
}

/// A flag of the request as the host takes it.
pub(crate) fn mount_flag(flag: GenericFlag) -> MountFlag {
    match flag {
        GenericFlag::NoExec => MountFlag::NoExec,
        GenericFlag::NoAtime => MountFlag::NoAtime,
        GenericFlag::NoDirAtime => MountFlag::NoDirAtime,
        GenericFlag::RelAtime => MountFlag::RelAtime,
        GenericFlag::StrictAtime => MountFlag::StrictAtime,
    }
}

fn explain(error: HostError, target: &Path) -> Error {
    match error.cause {
        Cause::NotFound => Error::precondition(format!(
            "cannot mount at {}: a directory on the way, or the source, does not exist ({error})",
            target.display()
        )),
        _ => error.into(),
    }
}

fn vanished(target: &Path) -> Error {
    Error::internal(format!("{} was unmounted by somebody else right after it was mounted", target.display()))
}
