//! NodePublishVolume and its opposite: the volume where a pod sees it.
//!
//! A raw device that takes writes is handed out only after the record says so: whatever a workload writes there is never
//! again mounted unasked, also after a crash.

use std::path::Path;
use std::sync::Arc;

use super::super::api::{NodeVolume, Publish, allows_second_publish};
use super::super::list::unsuitable;
use super::super::locks::{Key, Mode};
use super::super::pool::blocking;
use super::super::work::exclusive;
use super::super::{Inner, Service};
use super::inline::inline_name;
use super::mounts::{Here, Wanted, refuses_writes, taken, unfinished};
use super::paths::named;
use super::stage::STAGING;
use super::uses::{Mounted, Shows};
use crate::backend::{Attachment, Use};
use crate::host::{Cause, FileKind, HostError};
use crate::volume::{AccessType, Error, Kind, Result, Volume, VolumeId};

/// The request's field, for messages.
pub(super) const TARGET: &str = "target_path";

impl Service {
    /// Makes a staged volume visible at the target path. Repeatable. With [`Publish::inline`] the volume is made first.
    pub async fn publish_volume(&self, request: Publish) -> Result<()> {
        if request.target.as_os_str().is_empty() {
            return Err(Error::invalid(TARGET, "is missing"));
        }
        if let Some(inline) = request.inline.clone() {
            let keys = self.inner.inline_keys(&request.node.volume);
            return self
                .work(keys, move |inner| async move { inner.publish_inline(&request, inline).await })
                .await;
        }
        let volume = self.inner.volume(&request.node.volume)?;
        if let Some(why) = unsuitable(&volume, &request.node.capability) {
            return Err(Error::invalid("volume_capability", why));
        }
        if request.node.staging.as_os_str().is_empty() {
            return Err(Error::precondition("staging_target_path: is missing: stage the volume first"));
        }
        if request.node.staging == request.target {
            return Err(Error::invalid(TARGET, "is the staging path too"));
        }
        let id = volume.id;
        self.work(vec![exclusive(id)], move |inner| async move { inner.publish_staged(id, &request).await })
            .await
    }

    /// Takes the volume from the target path and removes the path. What is not published is unpublished already. Removes
    /// an inline ephemeral volume altogether.
    pub async fn unpublish_volume(&self, id: &str, target: &Path) -> Result<()> {
        let keys = self.inner.inline_keys(id);
        let (id, target) = (id.to_owned(), target.to_owned());
        self.work(keys, move |inner| async move { inner.unpublish_at(&id, &target).await }).await
    }
}

impl Inner {
    /// The locks for a call about a volume that may be an inline one, and may not exist.
    fn inline_keys(&self, id: &str) -> Vec<(Key, Mode)> {
        let known = self.volume_id(id);
        let mut keys: Vec<_> = known.map(exclusive).into_iter().collect();
        if id.parse::<VolumeId>().is_err() {
            keys.push((Key::VolumeName(inline_name(id).into()), Mode::Exclusive));
        }
        keys
    }

    async fn publish_staged(self: &Arc<Self>, id: VolumeId, request: &Publish) -> Result<()> {
        self.outside_pools(TARGET, &request.target)?;
        let volume = self.volume(&id.to_string())?;
        match request.node.capability.access {
            AccessType::Block => self.publish_raw(&volume, request).await,
            AccessType::Mount { .. } => self.publish_filesystem(&volume, request).await,
        }
    }

    async fn publish_filesystem(&self, volume: &Volume, request: &Publish) -> Result<()> {
        let Publish { node: NodeVolume { capability, staging, .. }, target, .. } = request;
        let wanted = Wanted::new(volume, capability, &self.settings.node_id)?;
        let read_only = request.read_only || wanted.read_only;
        match self.look(volume, target).await.map_err(|error| named(TARGET, error))? {
            Here::Ours(there) => return same_publish(volume, &there, false, read_only),
            Here::Other(entry) => return Err(taken(TARGET, target, &entry, self.uses.owner(target))),
            Here::Nothing => {}
        }
        let staged = match self.look(volume, staging).await.map_err(|error| named(STAGING, error))? {
            Here::Ours(staged) if !staged.block() => staged,
            _ => return Err(not_staged(volume, staging)),
        };
        if staged.read_only && !read_only {
            let text = format!(
                "volume {} is staged read-only at {}, asked for writing: unstage it, and stage it for writing",
                volume.id,
                staging.display()
            );
            return Err(Error::precondition(text));
        }
        self.refuse_second(volume, request).await?;
        let published = Mounted { target: target.clone(), read_only, plan: None, ..staged };
        self.show(volume, staging, published, FileKind::Directory).await
    }

    async fn publish_raw(&self, volume: &Volume, request: &Publish) -> Result<()> {
        let Publish { node: NodeVolume { capability, staging, .. }, target, .. } = request;
        let read_only = request.read_only || refuses_writes(volume, capability, &self.settings.node_id);
        let here = self.look(volume, target).await.map_err(|error| named(TARGET, error))?;
        match &here {
            Here::Other(entry) => return Err(taken(TARGET, target, entry, self.uses.owner(target))),
            // Before a device is attached that only this refused call would want.
            Here::Ours(there) if !there.block() || there.read_only != read_only => {
                return same_publish(volume, there, true, read_only);
            }
            Here::Ours(_) | Here::Nothing => {}
        }
        let backend = &self.pool(volume.id.pool())?.backend;
        if !self.uses.is_raw_staged(volume.id, Some(staging)) && backend.attached(volume).await?.is_empty() {
            return Err(not_staged(volume, staging));
        }
        self.refuse_mounted(volume, target).await?;
        // For reading only, a device of its own that refuses writes: a read-only mount of the node would not.
        let Attachment::Device { path, rdev, .. } = backend.attach(volume, Use::Block { read_only }).await?
        else {
            return Err(Error::internal(format!("volume {} was attached without a device", volume.id)));
        };
        let shows = Shows::Node { rdev };
        if let Here::Ours(there) = here {
            if there.shows == shows {
                return Ok(());
            }
            // The device went away under its node, and the volume has another one now.
            self.clear(volume, target, TARGET).await?;
        }
        self.refuse_second(volume, request).await?;
        if !read_only && !volume.raw_written {
            self.save(Volume { raw_written: true, ..volume.clone() }).await?;
        }
        let published = Mounted { target: target.clone(), shows, read_only, plan: None };
        self.show(volume, &path, published, FileKind::File).await
    }

    /// SINGLE_NODE_SINGLE_WRITER is one pod's: a second target is refused while the first is there.
    async fn refuse_second(&self, volume: &Volume, request: &Publish) -> Result<()> {
        if allows_second_publish(request.node.capability.mode) {
            return Ok(());
        }
        for mounted in self.uses.of(volume.id) {
            let staging = mounted.plan.is_some() || mounted.target == request.node.staging;
            if staging || mounted.target == request.target {
                continue;
            }
            if let Here::Ours(first) = self.look(volume, &mounted.target).await? {
                let text = format!(
                    "access_mode: volume {} is for one pod at a time and is published at {}: unpublish it there first",
                    volume.id,
                    first.target.display()
                );
                return Err(Error::precondition(text));
            }
        }
        Ok(())
    }

    /// Makes the target and binds `source` there. Both are gone again if that fails.
    async fn show(&self, volume: &Volume, source: &Path, published: Mounted, kind: FileKind) -> Result<()> {
        let (host, source) = (self.host.clone(), source.to_owned());
        let (target, read_only) = (published.target.clone(), published.read_only);
        let made = blocking(move || host.make_target(&target, kind).map_err(target_error)).await?;
        let (host, target) = (self.host.clone(), published.target.clone());
        let bound = blocking(move || Ok(host.bind(&source, &target, read_only)?)).await;
        match bound {
            Ok(()) => {
                self.uses.add(volume.id, published);
                Ok(())
            }
            Err(error) => Err(self.undo_target(volume, &published.target, made, error).await),
        }
    }

    /// Takes back what was done at a target. `made` says whether the path was made by this call too.
    pub(super) async fn undo_target(
        &self,
        volume: &Volume,
        target: &Path,
        made: bool,
        error: Error,
    ) -> Error {
        let undone = match self.clear(volume, target, TARGET).await {
            Ok(()) if made => self.remove_target(target).await,
            done => done,
        };
        match undone {
            Ok(()) => error,
            Err(undo) => unfinished(&error, &undo),
        }
    }

    /// Removes the empty directory or file at the end of a target path.
    pub(super) async fn remove_target(&self, target: &Path) -> Result<()> {
        let (host, target) = (self.host.clone(), target.to_owned());
        blocking(move || match host.remove_target(&target) {
            Ok(_) => Ok(()),
            Err(error) if error.cause == Cause::NotEmpty => Err(not_empty(TARGET, &target)),
            Err(error) => Err(error.into()),
        })
        .await
    }

    async fn unpublish_at(self: &Arc<Self>, id: &str, target: &Path) -> Result<()> {
        self.outside_pools(TARGET, target)?;
        let found = self.volume_id(id).and_then(|id| self.catalog().volume(id).cloned());
        let Some(volume) = found else {
            self.clear_unknown(id, target, TARGET).await?;
            // A kill between unmounting and this leaves the empty target, and recovery has removed an inline volume by
            // then. Whatever else is there stays: it is not known to be ours.
            if let Err(error) = self.remove_target(target).await {
                tracing::debug!(%error, "the target of a volume that does not exist stays");
            }
            return Ok(());
        };
        self.clear(&volume, target, TARGET).await?;
        self.remove_target(target).await?;
        match volume.ephemeral {
            Some(_) => self.delete_inline(&volume).await,
            None => Ok(()),
        }
    }
}

/// The error for a target that was written to while nothing was mounted there.
pub(crate) fn not_empty(field: &str, target: &Path) -> Error {
    Error::precondition(format!(
        "{field}: {} is unmounted but not empty: something wrote there while no volume was mounted; look at it, move away \
         what is needed, and ask again",
        target.display()
    ))
}

/// Why a target could not be made.
pub(crate) fn target_error(error: HostError) -> Error {
    match error.cause {
        Cause::Exists => Error::precondition(format!("{TARGET}: {error}: remove it, then ask again")),
        _ => Error::from(error).context(TARGET),
    }
}

/// The volume is published here already: is that what is asked for?
pub(super) fn same_publish(volume: &Volume, there: &Mounted, block: bool, read_only: bool) -> Result<()> {
    if there.block() == block && there.read_only == read_only {
        return Ok(());
    }
    let say = |block, read_only| {
        let what = if block { "raw device" } else { "filesystem" };
        format!("{what} for {}", if read_only { "reading only" } else { "writing" })
    };
    let text = format!(
        "{TARGET}: volume {} is published at {} as a {}, asked for as a {}: unpublish it first",
        volume.id,
        there.target.display(),
        say(there.block(), there.read_only),
        say(block, read_only)
    );
    Err(Error::new(Kind::AlreadyExists, text))
}

fn not_staged(volume: &Volume, staging: &Path) -> Error {
    let text = format!(
        "staging_target_path: volume {} is not staged at {}: stage it first",
        volume.id,
        staging.display()
    );
    Error::precondition(text)
}
