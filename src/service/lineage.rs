//! Which object came from which, and what each costs, by pages.
//!
//! A parent comes before its child, and a page begins where the one before ended, whatever was made or deleted in
//! between. An order by depth could not do both: a deleted ancestor would move everything below it. So objects come in
//! the order of their making, which their ids tell. Where a clock was put back a copy may seem older than its parent;
//! then it takes the parent's place in time and comes after it.

use std::collections::{HashMap, HashSet};

use super::api::{LineageEntry, LineageObject, Page};
use super::catalog::Catalog;
use super::{Inner, Service};
use crate::volume::lineage::{Link, Place};
use crate::volume::page::Ask;
use crate::volume::{Error, GroupId, ObjectId, Result};

impl Service {
    /// A page of the lineage, in the order of making: everything, or what `of` came from and what came from it, with
    /// the groups of the snapshots among them. Without `usage` no pool is asked what an object takes, which is slow
    /// where there are thousands.
    ///
    /// # Errors
    /// [`crate::volume::Kind::NotFound`] where `of` is nothing that exists.
    pub async fn lineage(
        &self,
        of: Option<&str>,
        usage: bool,
        token: &str,
        max: i32,
    ) -> Result<Page<LineageEntry>> {
        let ask: Ask<Place> = Ask::parse(token, max)?;
        let (objects, next) = {
            let catalog = self.inner.catalog();
            let ids = match of {
                None => all(&catalog).collect(),
                Some(of) => {
                    let found = of.parse().ok().filter(|&id| object(&catalog, id).is_some());
                    family(&catalog, found.ok_or_else(|| Error::not_found(format!("object {of:?}")))?)
                }
            };
            let page = ask.take(places(&catalog, ids).into_iter().map(|place| (place, place)));
            let objects = page.items.iter().filter_map(|place| Some((*place, object(&catalog, place.id)?)));
            (objects.collect::<Vec<_>>(), page.next)
        };
        let mut entries = Vec::with_capacity(objects.len());
        for (place, object) in objects {
            entries.push(self.inner.lineage_entry(place, object, usage).await);
        }
        Ok(Page { entries, next: next.unwrap_or_default() })
    }
}

impl Inner {
    async fn lineage_entry(&self, place: Place, object: LineageObject, usage: bool) -> LineageEntry {
        let asked = |pool| if usage { self.pool(pool).ok() } else { None };
        let (usage, parent, in_use) = match &object {
            LineageObject::Volume(volume) => {
                let usage = match asked(volume.id.pool()) {
                    Some(pool) => pool.backend.volume_usage(volume).await.ok(),
                    None => None,
                };
                (usage, Link::from(&**volume).parent, self.uses.any(volume.id))
            }
            LineageObject::Snapshot(snapshot) => {
                let usage = match asked(snapshot.id.pool()) {
                    Some(pool) => pool.backend.snapshot_usage(snapshot).await.ok(),
                    None => None,
                };
                (usage, Link::from(&**snapshot).parent, false)
            }
            LineageObject::Group { .. } => (None, None, false),
        };
        LineageEntry { place, object, parent, usage, in_use }
    }
}

fn all(catalog: &Catalog) -> impl Iterator<Item = ObjectId> {
    let volumes = catalog.volumes().keys().map(|&id| ObjectId::from(id));
    let snapshots = catalog.snapshots().keys().map(|&id| ObjectId::from(id));
    volumes.chain(snapshots).chain(catalog.groups().keys().map(|&id| ObjectId::from(id)))
}

fn object(catalog: &Catalog, id: ObjectId) -> Option<LineageObject> {
    match id {
        ObjectId::Volume(id) => catalog.volume(id).cloned().map(LineageObject::Volume),
        ObjectId::Snapshot(id) => catalog.snapshot(id).cloned().map(LineageObject::Snapshot),
        ObjectId::Group(id) => {
            let group = catalog.group(id)?.clone();
            let members = group.members.iter().filter_map(|&(_, member)| catalog.snapshot(member));
            let size = members.map(|member| member.size).sum();
            Some(LineageObject::Group { group, size })
        }
    }
}

/// What the object was made of; also if that is gone.
fn parent(catalog: &Catalog, id: ObjectId) -> Option<ObjectId> {
    match id {
        ObjectId::Volume(id) => Link::from(&**catalog.volume(id)?).parent,
        ObjectId::Snapshot(id) => Link::from(&**catalog.snapshot(id)?).parent,
        ObjectId::Group(_) => None,
    }
}

/// The snapshot that a refresh took the volume's present bytes from. One of its own, after a rewind, is no origin.
fn refreshed_from(catalog: &Catalog, id: ObjectId) -> Option<ObjectId> {
    let ObjectId::Volume(id) = id else { return None };
    let base = catalog.snapshot(catalog.volume(id)?.base?)?;
    (base.volume != id).then_some(base.id.into())
}

/// The object, what it came from, what came from it, and the groups of the snapshots among them. A group stands for
/// its members.
fn family(catalog: &Catalog, of: ObjectId) -> HashSet<ObjectId> {
    let origins = |id| [parent(catalog, id), refreshed_from(catalog, id)].into_iter().flatten();
    let mut copies: HashMap<ObjectId, Vec<ObjectId>> = HashMap::new();
    for id in all(catalog) {
        origins(id).for_each(|origin| copies.entry(origin).or_default().push(id));
    }
    let start: Vec<ObjectId> = match of {
        ObjectId::Group(id) => members(catalog, id).collect(),
        _ => vec![of],
    };
    let mut found = reach(&start, |id| origins(id).collect());
    found.extend(reach(&start, |id| copies.get(&id).cloned().unwrap_or_default()));
    let groups: Vec<_> = found
        .iter()
        .filter_map(|&id| match id {
            ObjectId::Snapshot(id) => catalog.snapshot(id)?.group,
            _ => None,
        })
        .collect();
    found.extend(groups.into_iter().map(ObjectId::from));
    found.insert(of);
    found.retain(|&id| object(catalog, id).is_some());
    found
}

fn members(catalog: &Catalog, id: GroupId) -> impl Iterator<Item = ObjectId> {
    catalog.group(id).into_iter().flat_map(|group| group.members.iter().map(|&(_, member)| member.into()))
}

/// Everything that can be reached, with the start. A damaged record may lead round in a circle.
fn reach(start: &[ObjectId], next: impl Fn(ObjectId) -> Vec<ObjectId>) -> HashSet<ObjectId> {
    let mut seen: HashSet<ObjectId> = start.iter().copied().collect();
    let mut open = start.to_vec();
    while let Some(id) = open.pop() {
        open.extend(next(id).into_iter().filter(|&id| seen.insert(id)));
    }
    seen
}

/// The places of these objects, in order.
fn places(catalog: &Catalog, ids: HashSet<ObjectId>) -> Vec<Place> {
    let mut known: HashMap<ObjectId, Place> = HashMap::new();
    let mut sorted: Vec<_> = ids.into_iter().map(|id| place(catalog, id, &mut known)).collect();
    sorted.sort_unstable();
    sorted
}

/// The place of one object; `known` has those that were found before.
fn place(catalog: &Catalog, of: ObjectId, known: &mut HashMap<ObjectId, Place>) -> Place {
    let mut chain = vec![of];
    let mut seen = HashSet::from([of]);
    let mut above = None;
    let mut at = of;
    // Chains can be thousands long: no recursion.
    while let Some(origin) = parent(catalog, at).filter(|&origin| seen.insert(origin)) {
        above = known.get(&origin).copied();
        if above.is_some() {
            break;
        }
        chain.push(origin);
        at = origin;
    }
    let mut place = Place { newest: of.unique(), steps: 0, id: of };
    for id in chain.into_iter().rev() {
        place = match above {
            Some(Place { newest, steps, .. }) if newest >= id.unique() => {
                Place { newest, steps: steps + 1, id }
            }
            _ => Place { newest: id.unique(), steps: 0, id },
        };
        known.insert(id, place);
        above = Some(place);
    }
    place
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::api::{CreateSnapshot, RefreshFrom, SourceRef};
    use crate::service::testing::{Bench, SIZE, raw, refused};
    use crate::volume::{Kind, SnapshotId, Source, Volume, VolumeId};
    use std::sync::Arc;

    fn id_of(object: &LineageObject) -> ObjectId {
        match object {
            LineageObject::Volume(volume) => volume.id.into(),
            LineageObject::Snapshot(snapshot) => snapshot.id.into(),
            LineageObject::Group { group, .. } => group.id.into(),
        }
    }

    async fn listed(bench: &Bench, of: Option<&str>, max: i32) -> Vec<String> {
        let (mut seen, mut token) = (Vec::new(), String::new());
        loop {
            let page = bench.service.lineage(of, false, &token, max).await.unwrap();
            seen.extend(page.entries.iter().map(|entry| id_of(&entry.object).to_string()));
            token = page.next;
            if token.is_empty() {
                return seen;
            }
        }
    }

    async fn cut(bench: &Bench, name: &str, volume: &str) -> String {
        let (name, volume) = (name.to_owned(), volume.to_owned());
        let request = CreateSnapshot { name, volume, claim: None, requisite: Vec::new() };
        bench.service.create_snapshot(request).await.unwrap().id.to_string()
    }

    async fn copy(bench: &Bench, name: &str, source: SourceRef) -> String {
        bench.create(name, vec![raw()], &[], Some((source, SIZE))).await.unwrap()
    }

    #[tokio::test]
    async fn an_object_is_listed_with_what_it_came_from_and_what_came_from_it() {
        let bench = Bench::new("xfs").await;
        let db = bench.volume("db", raw()).await;
        let monday = cut(&bench, "monday", &db).await;
        let anna = copy(&bench, "anna", SourceRef::Snapshot(monday.clone())).await;
        let bert = copy(&bench, "bert", SourceRef::Volume(anna.clone())).await;
        let log = bench.volume("log", raw()).await;
        let group =
            bench.service.create_group_snapshot("night", vec![db.clone(), log.clone()]).await.unwrap();
        let [of_db, of_log] = [0, 1].map(|n| group.snapshots[n].id.to_string());
        let night = group.id.to_string();

        let check = async |of: &str, expect: &[&String]| {
            let mut expect: Vec<_> = expect.iter().map(|id| (*id).clone()).collect();
            for max in [0, 1, 2] {
                let mut found = listed(&bench, Some(of), max).await;
                found.sort();
                expect.sort();
                assert_eq!(found, expect, "{of}");
            }
        };
        check(&bert, &[&db, &monday, &anna, &bert]).await;
        check(&monday, &[&db, &monday, &anna, &bert]).await;
        check(&db, &[&db, &monday, &anna, &bert, &of_db, &night]).await;
        check(&night, &[&db, &log, &of_db, &of_log, &night]).await;
        // A refresh brings bytes of another snapshot, which the copy came from as well then.
        let refreshed =
            bench.service.refresh_volume(&anna, RefreshFrom::Snapshot(of_db.clone())).await.unwrap();
        let undo = refreshed.undo.to_string();
        check(&anna, &[&db, &monday, &anna, &bert, &of_db, &night, &undo]).await;

        let everything = listed(&bench, None, 0).await;
        assert_eq!(everything.len(), 9);
        assert_eq!(listed(&bench, None, 1).await, everything);
        let at = |id: &String| everything.iter().position(|other| other == id).unwrap();
        for (origin, copy) in [(&db, &monday), (&monday, &anna), (&anna, &bert), (&log, &of_log)] {
            assert!(at(origin) < at(copy), "{origin} {copy}");
        }
    }

    #[tokio::test]
    async fn what_lives_through_a_listing_is_listed_though_its_parents_go() {
        let bench = Bench::new("xfs").await;
        let db = bench.volume("db", raw()).await;
        let monday = cut(&bench, "monday", &db).await;
        let anna = copy(&bench, "anna", SourceRef::Snapshot(monday.clone())).await;
        let first = bench.service.lineage(None, false, "", 1).await.unwrap();
        assert_eq!(id_of(&first.entries[0].object).to_string(), db);
        bench.service.delete_snapshot(&monday).await.unwrap();
        bench.service.delete_volume(&db).await.unwrap();
        let rest = bench.service.lineage(None, false, &first.next, 0).await.unwrap();
        let rest: Vec<_> = rest.entries.iter().map(|entry| id_of(&entry.object).to_string()).collect();
        assert_eq!(rest, [anna]);
        refused(bench.service.lineage(Some(&db), false, "", 0).await.map(drop), Kind::NotFound, &db);
        refused(bench.service.lineage(None, false, "after-1", 0).await.map(drop), Kind::BadToken, "anew");
    }

    #[tokio::test]
    async fn a_copy_comes_after_its_parent_also_where_the_clock_was_put_back() {
        let bench = Bench::new("xfs").await;
        let early = bench.volume("early", raw()).await;
        let late = bench.volume("late", raw()).await;
        let [early, late] = [early, late].map(|id| id.parse::<VolumeId>().unwrap());
        let mut catalog = Catalog::default();
        let volume = async |id: VolumeId, source: Option<Source>| {
            let volume = bench.service.get_volume(&id.to_string()).await.unwrap().volume;
            Arc::new(Volume { source, ..Volume::clone(&volume) })
        };
        let order = |catalog: &Catalog| {
            let sorted = places(catalog, all(catalog).collect());
            assert!(sorted.iter().all(|place| place.to_string().parse() == Ok(*place)));
            sorted.into_iter().map(|place| place.id).collect::<Vec<_>>()
        };
        catalog.put_volume(volume(early, Some(Source::Volume(late))).await);
        catalog.put_volume(volume(late, None).await);
        assert_eq!(order(&catalog), [late.into(), early.into()]);
        // Nor do parents that go round in a circle hang it.
        catalog.put_volume(volume(late, Some(Source::Volume(early))).await);
        assert_eq!(order(&catalog).len(), 2);
        assert_eq!(family(&catalog, early.into()).len(), 2);
        // One that is gone has its place still.
        let gone = SnapshotId::new(late.pool());
        catalog.put_volume(volume(early, Some(Source::Snapshot(gone))).await);
        catalog.put_volume(volume(late, None).await);
        assert_eq!(order(&catalog), [late.into(), early.into()]);
    }
}
