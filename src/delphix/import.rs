//! Adoption: a VDB that others made becomes a volume of ours, as it is.
//!
//! It gets our tags and nothing else happens to it. Its id is what it would have been had we made it, so a static
//! PersistentVolume can name it.

use super::api::VolumeInfo;
use super::create::info;
use super::look::gone;
use super::resolve::{by, only};
use super::tags::{Owner, Record, handle};
use super::{Driver, Inner};
use crate::backend::delphix::{Dct, Vdb};
use crate::volume::{Error, Kind, Result};

impl Driver {
    /// Adopts the VDB that `vdb` names by id or name. Adopting it again changes nothing. The name of the only DCT may be
    /// left empty.
    ///
    /// # Errors
    /// [`Kind::AlreadyExists`] if another driver or cluster has it.
    pub async fn import(&self, dct: &str, vdb: &str) -> Result<VolumeInfo> {
        let dct = self.inner.dct_of(Some(dct).filter(|name| !name.is_empty()))?.clone();
        let found: Vec<Vdb> = dct.vdbs(by(vdb)).await?.into_iter().filter(|vdb| !gone(Some(vdb))).collect();
        let found = only("vdb", vdb, None, found).map_err(|error| {
            Error::new(error.kind(), error.to_string().trim_start_matches("parameters.").to_owned())
        })?;
        let id = handle(dct.name(), &found.id);
        self.on_volume(id.clone(), |inner| async move { inner.adopt(&dct, &found.id).await }).await
    }
}

impl Inner {
    async fn adopt(&self, dct: &Dct, id: &str) -> Result<VolumeInfo> {
        let missing = || Error::not_found(format!("VDB {id}"));
        let vdb = dct.vdb(id).await?.ok_or_else(missing)?;
        if let Some(record) = Record::read(&self.owner, &vdb.tags) {
            return Ok(info(dct, &vdb, &record));
        }
        if let Some(other) = Owner::of_other(&vdb.tags) {
            let text = format!("VDB {id} belongs to {other}: let that one go of it first");
            return Err(Error::new(Kind::AlreadyExists, text));
        }
        if vdb.is_replica == Some(true) {
            return Err(Error::precondition(format!("VDB {id} is a replica, which cannot be written to")));
        }
        let record = Record {
            name: vdb.name.clone().unwrap_or_else(|| id.to_owned()),
            size: vdb.size.unwrap_or_default(),
            adopted: true,
            ..Record::default()
        };
        dct.tag_vdb(id, &record.tags(&self.owner)).await?;
        Ok(info(dct, &vdb, &record))
    }
}
