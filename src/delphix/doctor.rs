//! What `offshoot doctor` says about the Delphix side: each DCT, and what of ours on it nobody will come back for.
//!
//! A caller that gives up between two attempts leaves something that only its next attempt would have taken up. It is
//! all tagged, so it can be found; nothing is removed here.

use std::collections::BTreeMap;

use tokio::try_join;

use super::api::{Check, CheckStatus};
use super::tags::{Mark, Record, Use, handle};
use super::{Driver, Inner};
use crate::backend::delphix::{Bookmark, Dct, Health, Vdb};
use crate::volume::Result;

impl Driver {
    /// Everything that was looked at. Changes nothing.
    pub async fn diagnose(&self) -> Vec<Check> {
        let mut checks = Vec::new();
        for dct in self.inner.dcts.iter() {
            let name = |of: &str| format!("dct {}: {of}", dct.name());
            let mut reached = true;
            for check in dct.check().await {
                let status = match check.health {
                    Health::Ok => CheckStatus::Ok,
                    Health::Warn => CheckStatus::Warn,
                    Health::Fail => CheckStatus::Fail,
                };
                reached &= !(check.name == "reachable" && status == CheckStatus::Fail);
                checks.push(Check { name: name(check.name), status, detail: check.detail, mend: check.mend });
            }
            if !reached {
                continue;
            }
            match self.inner.leftovers(dct).await {
                Ok(found) if found.is_empty() => checks.push(Check {
                    name: name("leftovers"),
                    status: CheckStatus::Ok,
                    detail: "everything of ours is what it should be".to_owned(),
                    mend: String::new(),
                }),
                Ok(found) => checks.extend(found.into_iter().map(|(detail, mend)| Check {
                    name: name("leftovers"),
                    status: CheckStatus::Warn,
                    detail,
                    mend,
                })),
                Err(error) => checks.push(Check {
                    name: name("leftovers"),
                    status: CheckStatus::Warn,
                    detail: format!("cannot be told: {error}"),
                    mend: "see the other checks of this DCT".to_owned(),
                }),
            }
        }
        if checks.is_empty() {
            checks.push(Check {
                name: "dct".to_owned(),
                status: CheckStatus::Fail,
                detail: "no DCT is configured".to_owned(),
                mend: "add a [[dct]] to the settings".to_owned(),
            });
        }
        checks
    }
}

impl Inner {
    /// What is not as it should be, and the mend of each.
    async fn leftovers(&self, dct: &Dct) -> Result<Vec<(String, String)>> {
        let (volumes, bookmarks) = try_join!(self.volumes(dct), self.bookmarks(dct, None))?;
        let mut found = twins(dct, &volumes);
        for (vdb, record) in &volumes {
            let id = handle(dct.name(), &vdb.id);
            if vdb.enabled == Some(true) && record.published.is_empty() && !record.adopted {
                let detail = format!("volume {id} ({}) is enabled, though no node has it", record.name);
                found.push((
                    detail,
                    format!("disable VDB {} in the DCT, unless something is just being done", vdb.id),
                ));
            }
            if vdb.enabled == Some(false) && !record.published.is_empty() {
                let detail = format!("volume {id} ({}) is disabled, though a node has it", record.name);
                found.push((
                    detail,
                    format!("enable VDB {} in the DCT, or delete the pod that uses it", vdb.id),
                ));
            }
            if record.published.is_empty() && !record.entered.is_empty() {
                let detail = format!("volume {id} ({}) keeps addresses on an export list", record.name);
                found.push((
                    detail,
                    "delete its VolumeAttachments, or the volume: either takes them off".to_owned(),
                ));
            }
            if record.replacing.is_some() {
                let detail = format!("a rewind or refresh of volume {id} ({}) has not ended", record.name);
                found.push((detail, "ask for the same again: that ends it".to_owned()));
            }
        }
        found.extend(
            bookmarks.iter().filter_map(|(bookmark, mark)| origin_without_copy(bookmark, mark, &volumes)),
        );
        Ok(found)
    }
}

/// Volumes that have one name: two controllers worked at once.
fn twins(dct: &Dct, volumes: &[(Vdb, Record)]) -> Vec<(String, String)> {
    let mut names: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (vdb, record) in volumes.iter().filter(|(_, record)| !record.adopted) {
        names.entry(&record.name).or_default().push(handle(dct.name(), &vdb.id).to_string());
    }
    let twins = names.into_iter().filter(|(_, ids)| ids.len() > 1);
    twins
        .map(|(name, ids)| {
            let detail = format!("{} are all volume {name}", ids.join(", "));
            (detail, "delete the VDBs that no PersistentVolume names".to_owned())
        })
        .collect()
}

fn origin_without_copy(
    bookmark: &Bookmark,
    mark: &Mark,
    volumes: &[(Vdb, Record)],
) -> Option<(String, String)> {
    let copied = |(_, record): &(Vdb, Record)| record.origin.as_deref() == Some(&bookmark.id);
    (mark.use_ == Use::Origin && !volumes.iter().any(copied)).then(|| {
        let name = bookmark.name.as_deref().unwrap_or_default();
        let detail = format!("bookmark {name} was made for a clone, {}, that does not exist", mark.name);
        (detail, format!("delete bookmark {} in the DCT, unless the clone is just being made", bookmark.id))
    })
}
