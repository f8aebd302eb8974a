//! ControllerUnpublishVolume: what was opened to a node is closed again.
//!
//! It has to work when the node is long gone, and when the VDB, the environment or the engine is: whatever is not there
//! any more needs no undoing. The tags go last, so that an attempt that stopped is ended by the next one.

use std::sync::Arc;

use super::id::{NodeId, VolumeHandle};
use super::look::gone;
use super::tags::{Entered, Publication, Record, node_key};
use super::{Driver, Inner, again};
use crate::backend::delphix::{Dct, Environment, Filter, Tag, Vdb};
use crate::volume::Result;

impl Driver {
    /// Takes the volume from a node; from all nodes without one. What does not exist is not published.
    pub async fn unpublish(&self, volume: &str, node: Option<&NodeId>) -> Result<()> {
        let Ok(id) = volume.parse::<VolumeHandle>() else { return Ok(()) };
        let dct = self.inner.dct(&id.dct)?.clone();
        let node = node.cloned();
        self.on_volume(id.clone(), |inner| async move { inner.unpublish(&dct, &id, node.as_ref()).await })
            .await
    }
}

impl Inner {
    async fn unpublish(self: &Arc<Self>, dct: &Dct, id: &VolumeHandle, node: Option<&NodeId>) -> Result<()> {
        let lagging = self.settled(dct, id).await?;
        let Some(vdb) = dct.vdb(&id.vdb).await? else {
            self.calm().remove(id);
            return Ok(());
        };
        let Some(record) = Record::read(&self.owner, &vdb.tags) else {
            tracing::warn!(vdb = vdb.id, "a volume that is not tagged as ours is not ours to unpublish");
            return Ok(());
        };
        // A node that came back with other addresses is the same node.
        let (leave, stay): (Vec<_>, Vec<_>) = record
            .published
            .iter()
            .cloned()
            .partition(|has| node.is_none_or(|node| node.name == has.node.name));
        if leave.is_empty() && (node.is_some() || record.entered.is_empty()) {
            return Ok(());
        }
        self.close(dct, &vdb, &record, &leave, &stay, lagging).await
    }

    /// Closes what was opened to `leave`; `stay` still have the volume.
    pub(super) async fn close(
        self: &Arc<Self>,
        dct: &Dct,
        vdb: &Vdb,
        record: &Record,
        leave: &[Publication],
        stay: &[Publication],
        lagging: bool,
    ) -> Result<()> {
        // What shows may be older than an attempt to enable it.
        let off = vdb.enabled == Some(false) && !lagging;
        if stay.is_empty() && !gone(Some(vdb)) && !off {
            self.disable(dct, vdb).await.map_err(again)?;
        }
        let needed = |address: &str| stay.iter().any(|has| has_address(has, address));
        let out: Vec<Entered> = record
            .entered
            .iter()
            .filter(|entered| match stay {
                [] => true,
                _ => !needed(&entered.address) && leave.iter().any(|has| has_address(has, &entered.address)),
            })
            .cloned()
            .collect();
        let mut environments: Vec<&str> = out.iter().map(|entered| entered.environment.as_str()).collect();
        environments.dedup();
        for environment in environments {
            let of: Vec<Entered> = out.iter().filter(|one| one.environment == environment).cloned().collect();
            self.let_out(dct, vdb, environment, leave, &of).await.map_err(again)?;
        }
        let mut tags: Vec<Tag> = leave.iter().map(Publication::tag).collect();
        tags.extend(out.iter().map(Entered::tag));
        match dct.untag_vdb(&vdb.id, &tags).await {
            Err(failure) if failure.is_not_found() => Ok(()),
            result => Ok(result?),
        }
    }

    /// Takes addresses that we put on the lists off them, but for those that another volume of ours needs.
    async fn let_out(
        &self,
        dct: &Dct,
        vdb: &Vdb,
        environment: &str,
        leave: &[Publication],
        out: &[Entered],
    ) -> Result<()> {
        let known = self.hosts.known(dct, environment);
        let removed = {
            let _alone = known.lock.write().await;
            let Some(now) = dct.environment(environment).await? else { return Ok(()) };
            let others = self.others(dct, vdb, environment, leave, &now, out).await?;
            let mut removed = Vec::new();
            for entered in out {
                let own = now.hosts.iter().any(|host| host.hostname.as_deref() == Some(&entered.address));
                let needs = |(_, record): &&(Vdb, Record)| {
                    record.published.iter().any(|has| own || has_address(has, &entered.address))
                };
                match others.iter().find(needs) {
                    // It is handed over: that volume's own unpublishing takes it off.
                    Some((other, record)) if !record.entered.contains(entered) => {
                        dct.tag_vdb(&other.id, &[entered.tag()]).await?;
                    }
                    Some(_) => {}
                    None => removed.push(entered.clone()),
                }
            }
            self.write(dct, &known, &now, &removed, false).await?;
            removed
        };
        self.verify(dct, &known, environment, &removed, false).await
    }

    /// Other volumes of ours in the environment that a node has which may need one of these addresses.
    async fn others(
        &self,
        dct: &Dct,
        vdb: &Vdb,
        environment: &str,
        leave: &[Publication],
        now: &Environment,
        out: &[Entered],
    ) -> Result<Vec<(Vdb, Record)>> {
        let hosts = |address: &str| now.hosts.iter().any(|host| host.hostname.as_deref() == Some(address));
        // The host's own address is needed by whatever is published there, a node's by what that node has.
        let by_node = out.iter().all(|entered| {
            !hosts(&entered.address) && leave.iter().any(|has| has_address(has, &entered.address))
        });
        let mut filter = Filter::eq("environment_id", environment);
        if let (true, [first, rest @ ..]) = (by_node, leave) {
            let of = |has: &Publication| Filter::tag_key(&node_key(&has.node.name));
            filter = filter.and(rest.iter().fold(of(first), |all, has| all.or(of(has))));
        } else {
            filter = filter.and(self.owner.filter());
        }
        let found = dct.vdbs(filter).await?;
        let ours = found.into_iter().filter(|other| other.id != vdb.id && !gone(Some(other)));
        Ok(ours
            .filter_map(|other| Record::read(&self.owner, &other.tags).map(|record| (other, record)))
            .filter(|(_, record)| !record.published.is_empty())
            .collect())
    }
}

fn has_address(has: &Publication, address: &str) -> bool {
    has.node.addresses.iter().any(|one| one.to_string() == address)
}
