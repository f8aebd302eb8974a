//! ControllerPublishVolume: the node is let in and the VDB enabled, and the node is told where the data is now.
//!
//! The tag that says which node has the volume is written first, and with it what else will have to be undone. The path
//! is read after the VDB shows that it is enabled: it changes with every rewind and refresh, so none that was read
//! before counts.

use std::sync::Arc;

use super::api::PublishContext;
use super::create::container;
use super::hosts::Known;
use super::id::{NodeId, VolumeHandle};
use super::jobs::{ended, failed};
use super::look::gone;
use super::params::NfsVersion;
use super::snapshot::foreign_vdb;
use super::tags::{Entered, Publication, Record};
use super::{Driver, Inner, again};
use crate::backend::delphix::{Capabilities, Dct, Enable, Vdb};
use crate::volume::{Capability, Error, Kind, Result};

impl Driver {
    /// Gives the volume to a node and says how the node reaches it.
    ///
    /// # Errors
    /// [`Kind::Precondition`] while another node has it and the access mode is for one node;
    /// [`Kind::AlreadyExists`] if the node has it in another way.
    pub async fn publish(
        &self,
        volume: &str,
        node: &NodeId,
        capability: &Capability,
        read_only: bool,
    ) -> Result<PublishContext> {
        let id = super::volume_id("volume_id", volume)?;
        if let Some(why) = super::list::unsuitable(capability) {
            return Err(Error::invalid("volume_capability", why));
        }
        let dct = self.inner.dct(&id.dct)?.clone();
        let read_only = read_only || capability.mode.is_read_only();
        let publication = Publication { node: node.clone(), read_only };
        let several = capability.mode.is_multi_node();
        self.on_volume(
            id.clone(),
            |inner| async move { inner.publish(&dct, &id, publication, several).await },
        )
        .await
    }
}

impl Inner {
    /// The VDB of a volume and its record.
    ///
    /// # Errors
    /// [`Kind::NotFound`] without such a VDB, [`Kind::Precondition`] if it is not ours.
    pub(super) async fn ours(&self, dct: &Dct, id: &VolumeHandle) -> Result<(Vdb, Record)> {
        let vdb = dct.vdb(&id.vdb).await?.filter(|vdb| !gone(Some(vdb)));
        let vdb = vdb.ok_or_else(|| Error::not_found(format!("volume {id}")))?;
        match Record::read(&self.owner, &vdb.tags) {
            Some(record) => Ok((vdb, record)),
            None => Err(foreign_vdb(&vdb.id, &vdb.tags)),
        }
    }

    async fn publish(
        self: &Arc<Self>,
        dct: &Dct,
        id: &VolumeHandle,
        publication: Publication,
        several: bool,
    ) -> Result<PublishContext> {
        let lagging = self.settled(dct, id).await?;
        let (vdb, record) = self.ours(dct, id).await?;
        let name = &publication.node.name;
        if let Some(has) = record.on(name)
            && has.read_only != publication.read_only
        {
            let how = if has.read_only { "read-only" } else { "for writing" };
            let text = format!("volume {id} is published to node {name} {how} already: unpublish it first");
            return Err(Error::new(Kind::AlreadyExists, text));
        }
        if let Some(other) = record.published.iter().find(|other| other.node.name != *name && !several) {
            let text =
                format!("volume {id} is published to node {}: unpublish it there first", other.node.name);
            return Err(Error::precondition(text));
        }
        if vdb.is_locked == Some(true) {
            let by = vdb.locked_by_name.as_deref().unwrap_or("somebody");
            return Err(Error::precondition(format!(
                "VDB {} is locked by {by}: unlock it in the DCT",
                vdb.id
            )));
        }
        let can = dct.capabilities().await?;
        let environment = vdb.environment_id.clone().ok_or_else(|| {
            Error::precondition(format!("VDB {} is in no environment: nothing can let a node in", vdb.id))
        })?;
        let known = self.hosts.known(dct, &environment);
        known.note(&record.entered);
        let entered = self.let_in(dct, &known, &environment, &vdb, &record, &publication).await?;
        // What somebody has it already needs nothing, unless what shows may be from before an attempt to disable it.
        let has = !lagging && !record.published.is_empty();
        let vdb = self.enabled(dct, vdb, &record, &can, has).await?;
        let vdb = vdb.ok_or_else(|| Error::not_found(format!("volume {id}")))?;
        self.verify(dct, &known, &environment, &entered, true).await.map_err(again)?;
        self.context(dct, &vdb, &record, &can).await
    }

    /// Writes the tag of the node and puts its addresses on the lists. What was put there.
    async fn let_in(
        &self,
        dct: &Dct,
        known: &Known,
        environment: &str,
        vdb: &Vdb,
        record: &Record,
        publication: &Publication,
    ) -> Result<Vec<Entered>> {
        let addresses: Vec<String> = publication.node.addresses.iter().map(ToString::to_string).collect();
        let and_host = container(vdb).is_none();
        if known.expects(&addresses) {
            let _together = known.lock.read().await;
            let now = self.environment(dct, environment).await?;
            let need = self.need(dct, known, &now, &addresses, and_host)?;
            if need.missing.is_empty() {
                self.write_down(dct, vdb, record, publication, &need.ours).await?;
                return Ok(Vec::new());
            }
        }
        let _alone = known.lock.write().await;
        let now = self.environment(dct, environment).await?;
        let need = self.need(dct, known, &now, &addresses, and_host)?;
        let both: Vec<Entered> = need.missing.iter().chain(&need.ours).cloned().collect();
        self.write_down(dct, vdb, record, publication, &both).await?;
        self.write(dct, known, &now, &need.missing, true).await.map_err(again)?;
        known.saw(&addresses);
        Ok(need.missing)
    }

    /// Writes the tags of a publication that are not there yet.
    async fn write_down(
        &self,
        dct: &Dct,
        vdb: &Vdb,
        record: &Record,
        publication: &Publication,
        entered: &[Entered],
    ) -> Result<()> {
        let mut tags = vec![publication.tag()];
        tags.extend(entered.iter().map(Entered::tag));
        tags.retain(|tag| !vdb.tags.contains(tag));
        dct.tag_vdb(&vdb.id, &tags).await?;
        // The node came back with other addresses. Those it had before go with the tags that say who needs them.
        let before = record.on(&publication.node.name).filter(|before| *before != publication);
        if let Some(before) = before {
            dct.untag_vdb(&vdb.id, &[before.tag()]).await?;
        }
        Ok(())
    }

    /// The VDB, once it shows that it is enabled and where its data is; `None` if it is gone meanwhile.
    async fn enabled(
        &self,
        dct: &Dct,
        vdb: Vdb,
        record: &Record,
        can: &Capabilities,
        has: bool,
    ) -> Result<Option<Vdb>> {
        let with_path = can.exported_data_directory;
        let on = move |vdb: &Vdb| {
            vdb.enabled == Some(true)
                && (!with_path || vdb.exported_data_directory.as_deref().is_some_and(|p| !p.is_empty()))
        };
        if has && on(&vdb) {
            return Ok(Some(vdb));
        }
        self.enable(dct, &vdb, record, can).await?;
        let shows = move |vdb: Option<&Vdb>| gone(vdb) || vdb.is_some_and(on);
        let vdb = dct.until_vdb(&vdb.id, "to be enabled", shows).await.map_err(again)?;
        Ok(vdb.filter(|vdb| !gone(Some(vdb))))
    }

    /// Enables a VDB. That does not show at once.
    pub(super) async fn enable(
        &self,
        dct: &Dct,
        vdb: &Vdb,
        record: &Record,
        can: &Capabilities,
    ) -> Result<()> {
        let how = Enable {
            container_mode: container(vdb).filter(|_| can.container_mode),
            ownership_spec: record.ownership.clone().filter(|_| can.ownership_spec),
        };
        let started = dct.enable(&vdb.id, &how).await?;
        if let Err(failure) = ended(dct, &started).await {
            let on = |vdb: Option<&Vdb>| gone(vdb) || vdb.is_some_and(|vdb| vdb.enabled == Some(true));
            let is_on = || dct.until_vdb(&vdb.id, "to be enabled", on);
            // An engine may refuse to enable what is enabled, though it does not show yet.
            let settled = failed(&failure) && vdb.enabled == Some(true) && is_on().await.is_ok();
            if !settled {
                let failure = Error::from(failure).context(format!("VDB {} cannot be enabled", vdb.id));
                // Its node's tag is there, so that asking again continues, and unpublishing undoes.
                return Err(again(failure));
            }
        }
        Ok(())
    }

    /// Where a node finds the data of an enabled VDB.
    async fn context(
        &self,
        dct: &Dct,
        vdb: &Vdb,
        record: &Record,
        can: &Capabilities,
    ) -> Result<PublishContext> {
        let by_engine = match vdb.nfs_version {
            Some(3) => Some(NfsVersion::V3),
            Some(4) => Some(NfsVersion::V4),
            _ => None,
        };
        let nfs_version = record.nfs_version.or(by_engine);
        let unknown = || {
            let why = if can.exported_data_directory {
                "it does not say"
            } else {
                "it is too old to say: upgrade to 21.0.0 or later"
            };
            Error::precondition(format!(
                "where VDB {} is exported cannot be told by DCT {}: {why}",
                vdb.id,
                dct.name()
            ))
        };
        // The vendor's first plugins wrote it into a field of their own.
        let by_plugin = || {
            let config = vdb.appdata_config_params.as_ref()?;
            let (server, path) = config.get("export_path")?.as_str()?.split_once(':')?;
            Some((server.to_owned(), path.to_owned()))
        };
        let Some(path) = vdb.exported_data_directory.as_deref().filter(|path| !path.is_empty()) else {
            let (server, path) = by_plugin().ok_or_else(unknown)?;
            return Ok(PublishContext { server, path, nfs_version });
        };
        let engine = vdb.engine_id.as_deref().ok_or_else(unknown)?;
        let engine = self.engine(dct, engine).await?;
        let server = dct.data_address(&engine).map(str::to_owned).ok_or_else(|| {
            let text = format!(
                "engine {} has no hostname: set data-address for it in the settings of DCT {}",
                engine.id,
                dct.name()
            );
            Error::precondition(text)
        })?;
        Ok(PublishContext { server, path: format!("/{}", path.trim_start_matches('/')), nfs_version })
    }
}
