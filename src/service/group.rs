//! Group snapshots: several volumes at one moment.

use std::sync::Arc;

use super::api::GroupStatus;
use super::delete::unfinished;
use super::group_part::GroupPart;
use super::locks::{Key, Mode};
use super::lookup::is_visible;
use super::pool::Pool;
use super::work::{exclusive, undone};
use super::{Inner, Service};
use crate::volume::{Error, Group, GroupId, Kind, ObjectId, Phase, Result, SnapshotId, VolumeId};

impl Service {
    /// Cuts snapshots of all `volumes` at one moment, or finds the group that an earlier call of the same request cut.
    pub async fn create_group_snapshot(&self, name: &str, volumes: Vec<String>) -> Result<GroupStatus> {
        self.cut_group(name.into(), volumes, None).await
    }

    /// Cuts a group, or one part of a group over several nodes.
    pub(super) async fn cut_group(
        &self,
        name: Arc<str>,
        volumes: Vec<String>,
        part: Option<GroupPart>,
    ) -> Result<GroupStatus> {
        let mut keys = vec![(Key::SnapshotName(name.clone()), Mode::Exclusive)];
        keys.extend(volumes.iter().filter_map(|id| self.inner.volume_id(id)).map(exclusive));
        // The router knows the id of a part before it is cut, and may delete it while it is.
        keys.extend(part.as_ref().map(|part| exclusive(part.id)));
        self.work(keys, |inner| async move { inner.create_group(name, volumes, part).await }).await
    }

    /// Removes a group with its members. `members` are those that the caller knows; foreign ones are refused.
    pub async fn delete_group_snapshot(&self, id: &str, members: &[String]) -> Result<()> {
        let Ok(id) = id.parse::<GroupId>() else { return Ok(()) };
        let found = self.inner.catalog().group(id).cloned();
        let Some(group) = found else { return self.inner.absent(id.into()) };
        check_members(&group, members)?;
        let mut keys = vec![exclusive(id)];
        keys.extend(group.members.iter().map(|&(_, snapshot)| exclusive(snapshot)));
        let unfinished = group.phase == Phase::Creating;
        if unfinished {
            keys.push((Key::SnapshotName(group.name.clone()), Mode::Exclusive));
        }
        self.work(keys, move |inner| async move { inner.delete_group(id, unfinished).await }).await
    }

    /// A group with its members. `members` are those that the caller knows; they must be all of them.
    pub fn get_group_snapshot(&self, id: &str, members: &[String]) -> Result<GroupStatus> {
        let group =
            self.inner.find_group(id).ok_or_else(|| Error::not_found(format!("group snapshot {id:?}")))?;
        check_members(&group, members)?;
        self.inner.group_status(&group)
    }
}

impl Inner {
    async fn create_group(
        self: &Arc<Self>,
        name: Arc<str>,
        ids: Vec<String>,
        part: Option<GroupPart>,
    ) -> Result<GroupStatus> {
        let existing = self.catalog().group_named(&name).cloned();
        if let Some(existing) = existing {
            if is_visible(existing.phase) {
                let have: Vec<VolumeId> = existing.members.iter().map(|&(volume, _)| volume).collect();
                let same = have.len() == ids.len()
                    && ids.iter().all(|id| id.parse().is_ok_and(|id: VolumeId| have.contains(&id)));
                if same {
                    if let Some(part) = part {
                        part.gate.pass(Some(existing.id), self.settings.freeze_limit).await?;
                    }
                    return self.group_status(&existing);
                }
                return Err(Error::new(
                    Kind::AlreadyExists,
                    format!(
                        "name: group snapshot {name:?} exists with other source_volume_ids: use another name or the same request"
                    ),
                ));
            }
            let removing = match existing.phase {
                // It may be running right now: it has the lock of the id, where a creation has that of the name.
                Phase::Deleting => Some(self.locks.take(vec![exclusive(existing.id)]).await?),
                _ => None,
            };
            let still = self.catalog().group(existing.id).cloned();
            if let Some(still) = still {
                self.clear_away_group(&still).await.map_err(unfinished)?;
            }
            drop(removing);
        }
        let mut volumes = Vec::with_capacity(ids.len());
        for id in &ids {
            volumes.push(self.settled(self.volume(id)?.id).await?);
        }
        let Some(first) = volumes.first() else {
            return Err(Error::invalid("source_volume_ids", "is empty: name at least one volume"));
        };
        for volume in &volumes {
            self.admit_copies(volume, "a new snapshot", 1).await?;
        }
        let home = self.pool(first.id.pool())?;
        let (id, created, gate) = match part {
            None => (GroupId::new(home.id()), self.now(), None),
            Some(GroupPart { id, created, gate }) => {
                if let Some(other) = self.catalog().group(id) {
                    let text = format!("group_snapshot_id: {id} is group snapshot {:?}", other.name);
                    return Err(Error::new(Kind::AlreadyExists, text));
                }
                (id, created.unwrap_or_else(|| self.now()), Some(gate))
            }
        };
        let drafts: Vec<_> = volumes
            .into_iter()
            .enumerate()
            .map(|(n, volume)| {
                let member: Arc<str> = format!("{name}-{n}-{id}").into();
                let snapshot = self.draft(&volume, member, created, Some(id), None);
                (volume, snapshot)
            })
            .collect();
        let members = drafts.iter().map(|(volume, snapshot)| (volume.id, snapshot.id)).collect();
        let group = Arc::new(Group { id, name, members, created, phase: Phase::Creating });
        // The group's intent names its members, so recovery finds them whichever of them were cut.
        home.begin(&group).await?;
        self.catalog_mut().put_group(group.clone());
        let cut = async {
            self.cut(drafts, gate).await?;
            home.commit(id.into()).await
        };
        if let Err(error) = cut.await {
            return Err(undone(id.into(), error, self.clear_away_group(&group).await));
        }
        let group = Arc::new(Group { phase: Phase::Ready, ..Group::clone(&group) });
        self.catalog_mut().put_group(group.clone());
        self.group_status(&group)
    }

    /// DeleteVolumeGroupSnapshot under its locks. `unfinished` says that the lock of the name is held too, so that
    /// nobody is making it.
    async fn delete_group(&self, id: GroupId, unfinished: bool) -> Result<()> {
        let Some(group) = self.catalog().group(id).cloned() else { return Ok(()) };
        if group.phase == Phase::Creating {
            let cleared = if unfinished { self.clear_away_group(&group).await } else { Ok(()) };
            return cleared.map_err(|error| error.with_kind(Kind::Unavailable));
        }
        let home = self.group_home(&group)?;
        home.condemn(id.into()).await?;
        let group = Arc::new(Group { phase: Phase::Deleting, ..Group::clone(&group) });
        self.catalog_mut().put_group(group.clone());
        self.clear_away_group(&group).await.map_err(|error| error.with_kind(Kind::Unavailable))
    }

    /// Removes the members and then the record of a group that callers cannot see.
    pub(super) async fn clear_away_group(&self, group: &Arc<Group>) -> Result<()> {
        let home = self.group_home(group)?;
        if group.phase == Phase::Creating {
            home.condemn(group.id.into()).await?;
        }
        for &(_, snapshot) in &group.members {
            let found = self.catalog().snapshot(snapshot).cloned();
            match found {
                Some(found) if found.phase == Phase::Creating => self.clear_away_snapshot(&found).await?,
                Some(_) => self.delete_snapshot(snapshot, Some(group.id)).await?,
                None => self.absent(snapshot.into())?,
            }
        }
        home.forget(group.id.into()).await?;
        self.catalog_mut().remove(ObjectId::Group(group.id));
        Ok(())
    }

    /// The pool that holds the group's record: that of its first member here. Of a group over several nodes, the pool
    /// in the id may be another node's.
    fn group_home(&self, group: &Group) -> Result<Arc<Pool>> {
        self.pool(group.home())
    }

    fn group_status(&self, group: &Group) -> Result<GroupStatus> {
        let catalog = self.catalog();
        let member = |&(_, id): &(VolumeId, SnapshotId)| {
            let gone = || Error::internal(format!("member {id} of group snapshot {} is gone", group.id));
            catalog.snapshot(id).cloned().ok_or_else(gone)
        };
        let snapshots = group.members.iter().map(member).collect::<Result<_>>()?;
        Ok(GroupStatus { id: group.id, snapshots, created: group.created })
    }
}

/// Every id that the caller gave must be a member.
fn check_members(group: &Group, members: &[String]) -> Result<()> {
    let is_member = |id: &str| {
        id.parse::<SnapshotId>().is_ok_and(|id| group.members.iter().any(|&(_, member)| member == id))
    };
    match members.iter().find(|id| !is_member(id)) {
        None => Ok(()),
        Some(foreign) => {
            let why = format!("{foreign:?} is no member of group snapshot {}", group.id);
            Err(Error::invalid("snapshot_ids", why))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use crate::backend::{Place, PoolSpec};
    use crate::host::Host as _;
    use crate::host::fake::Fake;
    use crate::service::testing::{Bench, POOL, params, pool, raw, server_with};
    use crate::service::{Service, Settings, api};
    use crate::volume::Kind;
    use crate::volume::size::{MIB, Range};

    fn other() -> PoolSpec {
        PoolSpec { name: "other".into(), place: Place::Directory("/other".into()), ..pool() }
    }

    async fn server(fake: &Fake, pools: Vec<PoolSpec>) -> Service {
        let service = server_with(fake, &Arc::default(), Settings::default());
        service.open_pools(pools).await.unwrap();
        service
    }

    /// A machine that was switched off while a group over two pools was cut: both members are whole, the group is not.
    async fn interrupted() -> (Fake, String) {
        let bench = Bench::new("xfs").await;
        bench.fake.add_pool("/other", "xfs", 8 << 30);
        bench.service.create_pool(other()).await.unwrap();
        let here = bench.create("here", vec![raw()], &[("pool", "fast")], None).await.unwrap();
        let request = api::CreateVolume {
            name: "there".into(),
            range: Range { required: 64 * MIB, limit: 0 },
            capabilities: vec![raw()],
            params: params(&[("pool", "other")]),
            source: None,
            requisite: Vec::new(),
        };
        let there = bench.service.create_volume(request).await.unwrap().volume.id.to_string();
        let group = bench.service.create_group_snapshot("night", vec![here, there]).await.unwrap();
        let groups = Path::new(POOL).join("groups");
        let record = |end: &str| groups.join(format!("{}{end}", group.id));
        bench.fake.rename(&record(".json"), &record(".creating")).unwrap();
        (bench.fake.restart(), group.id.to_string())
    }

    fn snapshots(service: &Service) -> usize {
        service.list_snapshots(&Default::default(), "", 0).unwrap().entries.len()
    }

    #[tokio::test]
    async fn an_interrupted_group_over_two_pools_leaves_nothing_in_whatever_order_they_are_opened() {
        for pools in [vec![pool(), other()], vec![other(), pool()]] {
            let (fake, _) = interrupted().await;
            assert_eq!(snapshots(&server(&fake, pools).await), 0);
        }
    }

    #[tokio::test]
    async fn members_in_a_pool_that_is_missing_are_not_forgotten() {
        let (fake, id) = interrupted().await;
        let nowhere = PoolSpec { place: Place::Directory("/nowhere".into()), ..other() };
        let service = server(&fake, vec![pool(), nowhere]).await;
        let error = service.delete_group_snapshot(&id, &[]).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Unavailable, "{error}");

        let service = server(&fake.restart(), vec![pool(), other()]).await;
        assert_eq!(snapshots(&service), 0);
        assert_eq!(service.list_pools().await.iter().map(|pool| pool.snapshots).sum::<u64>(), 0);
    }
}
