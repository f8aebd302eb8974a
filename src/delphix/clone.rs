//! What a copy of a volume or snapshot of ours is made from.
//!
//! A snapshot is a bookmark, and a volume is provisioned from that. A volume is copied as it is now, so a bookmark is
//! made for the copy alone, its *origin*: the engine needs its snapshot for as long as the copy lives, and it goes with
//! the copy.

use super::Inner;
use super::api::{CreateVolume, SourceRef};
use super::create::Copied;
use super::params::SnapshotParams;
use super::resolve::Source;
use super::tags::{Mark, Record, Use, harmless};
use crate::backend::delphix::{Dct, ProvisionFrom};
use crate::volume::{Error, Result};

impl Inner {
    /// What the request copies, if that is something of ours.
    pub(super) async fn copied(
        &self,
        dct: &Dct,
        request: &CreateVolume,
        name: &str,
    ) -> Result<Option<Copied>> {
        match &request.source {
            None => Ok(None),
            Some(SourceRef::Snapshot(id)) => {
                let missing = || Error::not_found(format!("snapshot {id:?}"));
                let id = super::snapshot_id("volume_content_source.snapshot_id", id)?;
                let (bookmark, mark) = self.bookmark(dct, &id.bookmark).await?.ok_or_else(missing)?;
                super::snapshot::ready(&bookmark)?;
                let source = match super::snapshot::vdb_of(&bookmark) {
                    Some(vdb) => dct.vdb(&vdb).await?.map(|vdb| Source::of_vdb(&vdb)),
                    None => None,
                };
                let source = source.unwrap_or_else(|| Source {
                    engine: bookmark.engine_ids.first().cloned(),
                    ..Source::default()
                });
                let from = ProvisionFrom::Bookmark(bookmark.id);
                Ok(Some(Copied { from, source, size: mark.size, origin: None }))
            }
            Some(SourceRef::Volume(id)) => {
                let missing = || Error::not_found(format!("volume {id:?}"));
                let id = super::volume_id("volume_content_source.volume_id", id)?;
                let vdb = dct.vdb(&id.vdb).await?.ok_or_else(missing)?;
                let record = Record::read(&self.owner, &vdb.tags).ok_or_else(missing)?;
                let mark = Mark {
                    name: request.name.clone(),
                    size: record.size,
                    use_: Use::Origin,
                    claim: request.params.claim.clone(),
                };
                let called = harmless(&format!("{name}-origin"));
                let none = SnapshotParams::default();
                let bookmark = self.ensure_bookmark(dct, &called, &vdb.id, &mark, &none).await?;
                let origin = Some(bookmark.id.clone());
                let from = ProvisionFrom::Bookmark(bookmark.id);
                Ok(Some(Copied { from, source: Source::of_vdb(&vdb), size: record.size, origin }))
            }
        }
    }
}
