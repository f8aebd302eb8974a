//! CreateVolume: a VDB with the name and the tags of the volume, made and not enabled.
//!
//! | found | then |
//! | --- | --- |
//! | a VDB of ours of that name | it is the volume, if the request is the same |
//! | a job of that name | waited for, and looked again |
//! | a VDB of ours that a failed job left | deleted, and made anew |
//! | a VDB that is not ours | refused, naming it |
//! | nothing | provisioned |
//!
//! A final error leaves nothing on the engine: what a failed job made is deleted before it is given, and where that
//! fails the error says "retry".

use std::collections::BTreeMap;
use std::sync::Arc;

use super::api::{CreateVolume, SourceRef, VolumeInfo};
use super::asked::{check, digests, same_request};
use super::jobs::{Ended, ended, failed};
use super::look::{Look, gone};
use super::params::{Container, Params};
use super::resolve::{Source, Target};
use super::tags::{Record, handle, harmless, more};
use super::{Driver, Inner, Key, again};
use crate::backend::delphix::{
    Capabilities, Containerization, Dct, Failure, Fault, Provision, ProvisionFrom, Vdb,
};
use crate::volume::names::check_name;
use crate::volume::size::{DEFAULT_SIZE, Range};
use crate::volume::{Error, Kind, Result};

/// The longest path of a mount on the environment's host.
const MAX_MOUNT: usize = 256;

/// What is copied, if the request names something of ours.
pub(super) struct Copied {
    pub(super) from: ProvisionFrom,
    pub(super) source: Source,
    /// Bytes that the copy has to have at least.
    pub(super) size: u64,
    /// The bookmark that was made for this copy alone.
    pub(super) origin: Option<String>,
}

impl Driver {
    /// Makes a volume, or finds the one that an earlier attempt made.
    ///
    /// # Errors
    /// [`Kind::Invalid`] names the parameter that is wrong; [`Kind::AlreadyExists`] the field in which a volume of this
    /// name differs, or the VDB that has the name and is not ours.
    pub async fn create_volume(&self, mut request: CreateVolume) -> Result<VolumeInfo> {
        check_name("name", &request.name)?;
        check(&request)?;
        if let (Some(annotations), Some(claim)) = (&self.inner.settings.annotations, &request.params.claim) {
            let found = annotations.of(&claim.namespace, &claim.name).await?;
            request.params = request.params.overridden(&found)?;
        }
        let dct = self.inner.dct_for(&request)?.clone();
        let name = request.name.clone();
        self.work(Key::VolumeName(name), |inner| async move { inner.create(&dct, &request).await }).await
    }
}

impl Inner {
    /// The connection of a request: that of what is copied, else that of the class, else the only one.
    fn dct_for(&self, request: &CreateVolume) -> Result<&Dct> {
        let named = match &request.source {
            Some(SourceRef::Snapshot(id)) => {
                Some(super::snapshot_id("volume_content_source.snapshot_id", id)?.dct)
            }
            Some(SourceRef::Volume(id)) => Some(super::volume_id("volume_content_source.volume_id", id)?.dct),
            None => None,
        };
        if let (Some(source), Some(class)) = (&named, &request.params.dct)
            && source != class
        {
            let why = format!("is {class}, but what is copied is on {source}: use a class of that DCT");
            return Err(Error::invalid("parameters.dct", why));
        }
        self.dct_of(named.as_deref().or(request.params.dct.as_deref()))
    }

    /// The connection of that name, else the only one.
    pub(super) fn dct_of(&self, name: Option<&str>) -> Result<&Dct> {
        let found = match name {
            Some(name) => self.dct(name),
            None => self.dcts.only(),
        };
        found.map_err(|error| error.context("parameters"))
    }

    async fn create(self: &Arc<Self>, dct: &Dct, request: &CreateVolume) -> Result<VolumeInfo> {
        let name = harmless(&request.name);
        match self.look(dct, &request.name, &name).await? {
            Look::Ours(vdb, record) => return self.found(dct, request, *vdb, *record).await,
            Look::Half(vdb) => {
                tracing::warn!(
                    vdb = vdb.id,
                    "a VDB that a failed job left is deleted before it is made anew"
                );
                self.remove_half(dct, &vdb.id).await?;
            }
            Look::Free => {}
        }
        let size = request.range.pick(DEFAULT_SIZE, 1, i64::MAX as u64)?;
        let copied = self.copied(dct, request, &name).await?;
        if let Some(copied) = &copied
            && size < copied.size
        {
            let text = format!(
                "capacity_range: {size} bytes is smaller than the source, {} bytes: ask for at least that",
                copied.size
            );
            return Err(self.give_up(dct, &copied.origin, Error::new(Kind::OutOfRange, text)).await);
        }
        let origin = copied.as_ref().and_then(|copied| copied.origin.clone());
        match self.provision(dct, request, &name, size, copied).await {
            Ok(info) => Ok(info),
            Err(error) if error.kind().is_final() => {
                let error = self.lost_snapshot(dct, request, error).await;
                Err(self.give_up(dct, &origin, error).await)
            }
            Err(error) => Err(error),
        }
    }

    /// The failure, or what explains it: the snapshot to be restored is not there any more.
    async fn lost_snapshot(&self, dct: &Dct, request: &CreateVolume, error: Error) -> Error {
        let Some(SourceRef::Snapshot(id)) = &request.source else { return error };
        let Ok(handle) = id.parse::<super::id::SnapshotHandle>() else { return error };
        match self.snapshot_drift(dct, &handle.bookmark).await {
            Ok(Some(drift)) => Error::precondition(format!("volume_content_source: snapshot {id}: {drift}")),
            _ => error,
        }
    }

    /// The answer to a failure, after what was made for the copy alone is gone.
    async fn give_up(&self, dct: &Dct, origin: &Option<String>, error: Error) -> Error {
        let Some(origin) = origin else { return error };
        let gone = async {
            match dct.bookmark(origin).await? {
                Some(bookmark) => self.forget_bookmark(dct, &bookmark).await,
                None => Ok(()),
            }
        };
        match gone.await {
            Ok(()) => error,
            Err(left) => {
                let text = format!("{error}; bookmark {origin} could not be removed ({left}): try again");
                Error::new(Kind::Unavailable, text)
            }
        }
    }

    async fn provision(
        self: &Arc<Self>,
        dct: &Dct,
        request: &CreateVolume,
        name: &str,
        size: u64,
        copied: Option<Copied>,
    ) -> Result<VolumeInfo> {
        let params = &request.params;
        let origin = copied.as_ref().and_then(|copied| copied.origin.clone());
        let target = match copied {
            Some(copied) => self.place(dct, params, copied.from, copied.source).await?,
            None => self.target(dct, params).await?,
        };
        let record = Record {
            name: request.name.clone(),
            request: digests(request),
            size,
            claim: params.claim.clone(),
            source: request.source.clone(),
            origin,
            ownership: params.ownership.clone(),
            nfs_version: params.nfs_version,
            ..Record::default()
        };
        let can = dct.capabilities().await?;
        let what = self.wanted(dct, params, name, target, &record, &can)?;
        let started = match dct.provision(&what).await {
            Ok(started) => started,
            Err(failure) => {
                // What was found out about names may be what is wrong.
                self.forget_names();
                return Err(refused(name, failure));
            }
        };
        let made = match ended(dct, &started).await {
            Ok(ended) => self.shown(dct, request, name, &started.object, ended).await?,
            Err(failure) if failed(&failure) => {
                self.forget_names();
                match self.remains(dct, request, name, started.object.as_deref()).await? {
                    Some(made) => made,
                    None => {
                        return Err(Error::from(failure).context(format!("VDB {name} cannot be provisioned")));
                    }
                }
            }
            Err(failure) => return Err(again(failure)),
        };
        self.found(dct, request, made.0, made.1).await
    }

    /// The request to the DCT.
    fn wanted(
        &self,
        dct: &Dct,
        params: &Params,
        name: &str,
        target: Target,
        record: &Record,
        can: &Capabilities,
    ) -> Result<Provision> {
        let too_old = |key: &str, what: &str, mend: &str| {
            let version = can.version.as_deref().unwrap_or("unknown");
            let why = format!(
                "{what} is more than DCT {} can do (its API has version {version}): {mend}",
                dct.name()
            );
            Error::invalid(&format!("parameters.{key}"), why)
        };
        if target.from == ProvisionFrom::Empty && !can.empty_vdb {
            let mend = "name a source, such as a dSource that is empty";
            return Err(too_old("source", "an empty volume", mend));
        }
        if record.ownership.is_some() && !can.ownership_spec {
            return Err(too_old(
                "ownership",
                "an owner of files",
                "leave it out, or upgrade to 2025.2 or later",
            ));
        }
        let container = match params.container {
            Container::On if !can.container_mode => {
                let mend = "leave it out, or upgrade to 2025.1 or later";
                return Err(too_old("containerMode", "a VDB for containers", mend));
            }
            Container::On => Some(true),
            Container::Auto => can.container_mode.then_some(true),
            Container::Off => can.container_mode.then_some(false),
        };
        let mount_point = params.mount_base.as_ref().map(|base| format!("{base}/{name}"));
        if mount_point.as_ref().is_some_and(|path| path.len() > MAX_MOUNT) {
            let why =
                format!("with the volume's name it is longer than {MAX_MOUNT} bytes: give a shorter one");
            return Err(Error::invalid("parameters.mountBase", why));
        }
        let mut tags = record.tags(&self.owner);
        tags.extend(more(&params.tags));
        Ok(Provision {
            engine_id: target.engine,
            environment_id: Some(target.environment),
            repository_id: Some(target.repository),
            target_group_id: target.group,
            mount_point,
            container_mode: container,
            masked: params.masked,
            retention_policy_id: params.retention_policy.clone(),
            snapshot_policy_id: params.snapshot_policy.clone(),
            tags,
            hooks: params.hooks.clone(),
            ..Provision::new(name, target.from)
        })
    }

    /// The VDB that a job made, once it shows.
    async fn shown(
        &self,
        dct: &Dct,
        request: &CreateVolume,
        name: &str,
        object: &Option<String>,
        ended: Ended,
    ) -> Result<(Vdb, Record)> {
        if let Some(id) = object {
            match dct.until_vdb(id, "to show", |vdb| vdb.is_some()).await {
                Ok(Some(vdb)) => {
                    if let Some(record) = Record::read(&self.owner, &vdb.tags) {
                        return Ok((vdb, record));
                    }
                    let text =
                        format!("VDB {id} lost the tags that it was made with: somebody took them off");
                    return Err(Error::internal(text));
                }
                Ok(None) => {}
                Err(failure) if ended == Ended::Unknown && *failure.fault() == Fault::Lagging => {}
                Err(failure) => return Err(again(failure)),
            }
        }
        match self.look(dct, &request.name, name).await? {
            Look::Ours(vdb, record) => Ok((*vdb, *record)),
            _ => {
                let text = format!("what became of provisioning VDB {name} is not known: ask again");
                Err(Error::new(Kind::Unavailable, text))
            }
        }
    }

    /// What there is of the name after a job failed: another attempt's VDB, or nothing, once what this one left is gone.
    async fn remains(
        &self,
        dct: &Dct,
        request: &CreateVolume,
        name: &str,
        object: Option<&str>,
    ) -> Result<Option<(Vdb, Record)>> {
        if let Some(id) = object {
            // A failed job mostly leaves nothing, so this is not waited for as long as for what has to show.
            let shows = dct.until_vdb(id, "to show what a failed job left of it", |vdb| vdb.is_some());
            if let Ok(Ok(Some(_))) = tokio::time::timeout(self.settings.remains_for, shows).await {
                self.remove_half(dct, id).await?;
                return Ok(None);
            }
        }
        match self.look(dct, &request.name, name).await? {
            Look::Ours(vdb, record) if Some(vdb.id.as_str()) != object => Ok(Some((*vdb, *record))),
            Look::Ours(vdb, _) | Look::Half(vdb) => {
                self.remove_half(dct, &vdb.id).await?;
                Ok(None)
            }
            Look::Free => Ok(None),
        }
    }

    /// Deletes a VDB of ours that a failed job left.
    async fn remove_half(&self, dct: &Dct, id: &str) -> Result<()> {
        self.remove_vdb(dct, id).await.map_err(|error| {
            again(error.context(format!("VDB {id}, which a failed job left, cannot be removed")))
        })
    }

    /// Deletes a VDB and waits until it is gone.
    pub(super) async fn remove_vdb(&self, dct: &Dct, id: &str) -> Result<()> {
        match dct.delete_vdb(id).await {
            Ok(started) => _ = ended(dct, &started).await?,
            Err(failure) if failure.is_not_found() => return Ok(()),
            Err(failure) => return Err(failure.into()),
        }
        dct.until_vdb(id, "to be gone", gone).await?;
        Ok(())
    }

    /// A VDB of the name: the volume, if it is what was asked for.
    async fn found(&self, dct: &Dct, request: &CreateVolume, vdb: Vdb, record: Record) -> Result<VolumeInfo> {
        same_request(&record, request)?;
        let id = handle(dct.name(), &vdb.id);
        // Provisioning enables a VDB that is not for containers. Nothing has it yet.
        if vdb.enabled == Some(true) && record.published.is_empty() {
            self.disable(dct, &vdb).await.map_err(again)?;
        }
        self.calm().insert(id);
        Ok(info(dct, &vdb, &record))
    }

    /// Disables a VDB and waits until that shows.
    pub(super) async fn disable(&self, dct: &Dct, vdb: &Vdb) -> Result<()> {
        let started = match dct.disable(&vdb.id, container(vdb)).await {
            Ok(started) => started,
            Err(failure) if failure.is_not_found() => return Ok(()),
            Err(failure) => return Err(failure.into()),
        };
        let off = |vdb: Option<&Vdb>| gone(vdb) || vdb.is_some_and(|vdb| vdb.enabled != Some(true));
        if let Err(failure) = ended(dct, &started).await {
            // An engine may refuse to disable what is disabled, though it does not show yet.
            let settled = failed(&failure) && dct.until_vdb(&vdb.id, "to be disabled", off).await.is_ok();
            return if settled { Ok(()) } else { Err(failure.into()) };
        }
        dct.until_vdb(&vdb.id, "to be disabled", off).await?;
        Ok(())
    }

    /// ControllerExpandVolume: the new size is noted; the engine knows none.
    pub(super) async fn resize(&self, dct: &Dct, vdb: &Vdb, record: &Record, range: Range) -> Result<u64> {
        let size = range.pick(record.size, 1, i64::MAX as u64)?.max(record.size);
        if range.limit != 0 && size > range.limit {
            let text = format!(
                "capacity_range: the volume has {size} bytes already, over limit_bytes {}",
                range.limit
            );
            return Err(Error::new(Kind::OutOfRange, text));
        }
        if size != record.size {
            // The new one first: a volume must not be without a size.
            dct.tag_vdb(&vdb.id, &[super::tags::size_tag(size)]).await?;
            dct.untag_vdb(&vdb.id, &[super::tags::size_tag(record.size)]).await?;
        }
        Ok(size)
    }
}

/// Whether enable and disable of this VDB are for a container; not said where it is not known.
pub(super) fn container(vdb: &Vdb) -> Option<bool> {
    match vdb.containerization_state {
        Some(Containerization::ReadyForContainer | Containerization::RunningInContainer) => Some(true),
        _ => None,
    }
}

fn refused(name: &str, failure: Failure) -> Error {
    let kind = match failure.fault() {
        // It is one of the things that the parameters name.
        Fault::NotFound => Kind::Invalid,
        _ => failure.kind(),
    };
    Error::from(failure).with_kind(kind).context(format!("VDB {name} cannot be provisioned"))
}

/// What a caller learns of a volume.
pub(super) fn info(dct: &Dct, vdb: &Vdb, record: &Record) -> VolumeInfo {
    VolumeInfo {
        id: handle(dct.name(), &vdb.id),
        name: if record.name.is_empty() { vdb.name.clone().unwrap_or_default() } else { record.name.clone() },
        size: record.size,
        context: BTreeMap::from([("dct".to_owned(), dct.name().to_owned())]),
        source: record.source.clone(),
        claim: record.claim.clone(),
    }
}
