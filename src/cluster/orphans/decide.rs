//! What is an orphan: the decision, without asking anybody.
//!
//! A volume without a PersistentVolume takes up room for ever, and a volume that is taken for one is lost data. So every
//! doubt counts for keeping: an answer that is not whole, an object that is younger than the answer by less than the
//! grace, one that is in the making or in use, one that people keep on purpose. Clocks of nodes and controller differ;
//! the grace is much longer than that.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::router::SNAPSHOT_PREFIX;
use crate::volume::ObjectId;
use crate::volume::record::Millis;

/// How long a snapshot that was made for a copy to another node is left alone, in milliseconds: a copy that nobody asks
/// for is given up after a day.
const TRANSFER: Millis = 24 * 3600 * 1000;

/// So many orphans are believed however few other objects there are.
const FEW: usize = 10;

/// Why an object is wanted though Kubernetes does not know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exempt {
    /// A rewind or refresh made it, so that it can be undone.
    Undo,
    /// An inline volume lives and dies with its pod.
    Inline,
    /// Its group is what Kubernetes knows.
    Member,
    /// A copy to another node reads it.
    Transfer,
}

/// An object that the driver has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// Its id; never a group's.
    pub id: ObjectId,
    /// The name that the sidecar gave, which ends in the uid of the claim or VolumeSnapshot.
    pub name: String,
    /// When it was made; `None` where that is not known.
    pub created: Option<Millis>,
    /// Bytes that deleting it gives back at most.
    pub size: u64,
    /// Whether it is whole: not being made, changed or deleted.
    pub settled: bool,
    /// Whether a node has it.
    pub in_use: bool,
    /// Why it is wanted anyway.
    pub exempt: Option<Exempt>,
}

impl Held {
    /// What the attributes, name and membership of a group exempt an object from.
    pub fn exempt(has: impl Fn(&str) -> bool, name: &str, is_member: bool) -> Option<Exempt> {
        let marks = [
            (has("undo"), Exempt::Undo),
            (has("ephemeral"), Exempt::Inline),
            (name.starts_with(SNAPSHOT_PREFIX), Exempt::Transfer),
            (is_member, Exempt::Member),
        ];
        marks.into_iter().find(|(marked, _)| *marked).map(|(_, exempt)| exempt)
    }

    /// The last part of the name, where that has the form of a uid.
    pub fn uid(&self) -> Option<&str> {
        let start = self.name.len().checked_sub(36)?;
        self.name.get(start..).filter(|uid| uuid::Uuid::try_parse(uid).is_ok())
    }
}

/// What Kubernetes names.
#[derive(Debug, Clone, Default)]
pub struct Known {
    /// When the first list began.
    pub began: Millis,
    /// Whether every list came to its end.
    pub whole: bool,
    /// Whether VolumeSnapshotContents exist in this cluster; without them nothing is known about snapshots.
    pub snapshots: bool,
    /// The handles of PersistentVolumes and VolumeSnapshotContents, whoever made them.
    pub named: BTreeSet<ObjectId>,
    /// Uids of claims and VolumeSnapshots that exist: what is made for them may not have its object yet.
    pub wanted: BTreeSet<String>,
}

/// What an object is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finding {
    /// Kubernetes names it.
    Named,
    /// It is wanted for another reason.
    Kept(Exempt),
    /// Too young, in the making, or nothing whole is known.
    Undecided,
    /// Nothing names it.
    Orphan,
}

/// Decides about one object.
pub fn judge(held: &Held, known: &Known, grace: Duration) -> Finding {
    if known.named.contains(&held.id) {
        return Finding::Named;
    }
    let is_snapshot = matches!(held.id, ObjectId::Snapshot(_));
    if !known.whole
        || !held.settled
        || is_snapshot && !known.snapshots
        || matches!(held.id, ObjectId::Group(_))
    {
        return Finding::Undecided;
    }
    let Some(age) = held.created.and_then(|created| known.began.checked_sub(created)) else {
        return Finding::Undecided;
    };
    if age < Millis::try_from(grace.as_millis()).unwrap_or(Millis::MAX) || age <= 0 {
        return Finding::Undecided;
    }
    match held.exempt {
        Some(Exempt::Transfer) if age >= TRANSFER => {}
        Some(exempt) => return Finding::Kept(exempt),
        None => {}
    }
    if held.uid().is_some_and(|uid| known.wanted.contains(uid)) {
        return Finding::Undecided;
    }
    Finding::Orphan
}

/// The orphans among everything that is held.
pub fn orphans<'a>(held: &'a [Held], known: &Known, grace: Duration) -> Vec<&'a Held> {
    held.iter().filter(|held| judge(held, known, grace) == Finding::Orphan).collect()
}

/// Why none of so many orphans is to be deleted without a person: a cluster that was set up anew, or restored from an
/// old backup, knows few volumes, and all others look like orphans.
pub fn is_suspicious(orphans: usize, held: usize) -> bool {
    orphans > FEW && orphans > held / 2 || orphans > 0 && orphans == held && held > 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HOUR: Duration = Duration::from_secs(3600);
    const NOW: Millis = 1_700_000_000_000;
    const UID: &str = "0b5ad0a4-6d7e-4c40-9d5f-1f9fd3b1a001";

    fn id(n: u32, kind: char) -> ObjectId {
        format!("{kind}-aaaaaaaa-{n:032x}").parse().unwrap()
    }

    fn old(n: u32) -> Held {
        Held {
            id: id(n, 'v'),
            name: format!("pvc-{UID}"),
            created: Some(NOW - 7_200_000),
            size: 1,
            settled: true,
            in_use: false,
            exempt: None,
        }
    }

    fn known(named: &[ObjectId]) -> Known {
        Known {
            began: NOW,
            whole: true,
            snapshots: true,
            named: named.iter().copied().collect(),
            wanted: BTreeSet::new(),
        }
    }

    #[track_caller]
    fn check(held: &Held, known: &Known, expect: Finding) {
        assert_eq!(judge(held, known, HOUR), expect);
    }

    #[test]
    fn what_nothing_names_and_nobody_wants_is_an_orphan() {
        check(&old(1), &known(&[]), Finding::Orphan);
        check(&old(1), &known(&[id(2, 'v'), id(1, 's')]), Finding::Orphan);
        check(&old(1), &known(&[id(1, 'v')]), Finding::Named);
        check(&Held { id: id(1, 's'), ..old(1) }, &known(&[]), Finding::Orphan);
    }

    #[test]
    fn every_doubt_counts_for_keeping() {
        let lists = known(&[]);
        check(&old(1), &Known { whole: false, ..lists.clone() }, Finding::Undecided);
        check(&old(1), &Known { wanted: [UID.to_owned()].into(), ..lists.clone() }, Finding::Undecided);
        check(
            &Held { id: id(1, 's'), ..old(1) },
            &Known { snapshots: false, ..lists.clone() },
            Finding::Undecided,
        );
        check(&Held { id: id(1, 'g'), ..old(1) }, &lists, Finding::Undecided);
        check(&Held { created: None, ..old(1) }, &lists, Finding::Undecided);
        check(&Held { created: Some(NOW - 3_599_999), ..old(1) }, &lists, Finding::Undecided);
        check(&Held { created: Some(NOW + 1), ..old(1) }, &lists, Finding::Undecided);
        check(&Held { created: Some(Millis::MIN), ..old(1) }, &lists, Finding::Undecided);
        check(&Held { settled: false, ..old(1) }, &lists, Finding::Undecided);
    }

    #[test]
    fn what_people_keep_on_purpose_is_kept() {
        for exempt in [Exempt::Undo, Exempt::Inline, Exempt::Member, Exempt::Transfer] {
            check(&Held { exempt: Some(exempt), ..old(1) }, &known(&[]), Finding::Kept(exempt));
        }
        let days = Some(NOW - 2 * TRANSFER);
        check(
            &Held { exempt: Some(Exempt::Transfer), created: days, ..old(1) },
            &known(&[]),
            Finding::Orphan,
        );
        check(
            &Held { exempt: Some(Exempt::Undo), created: days, ..old(1) },
            &known(&[]),
            Finding::Kept(Exempt::Undo),
        );
        assert_eq!(Held::exempt(|key| key == "undo", "", true), Some(Exempt::Undo));
        assert_eq!(Held::exempt(|_| false, "snapshot-1", true), Some(Exempt::Member));
        assert_eq!(Held::exempt(|_| false, "remote-copy-1", false), Some(Exempt::Transfer));
        assert_eq!(Held::exempt(|_| false, "snapshot-1", false), None);
    }

    #[test]
    fn a_cluster_that_forgot_everything_deletes_nothing() {
        let check =
            |orphans, held, expect| assert_eq!(is_suspicious(orphans, held), expect, "{orphans} of {held}");
        check(0, 0, false);
        check(1, 1, false);
        check(2, 2, true);
        check(3, 4, false);
        check(11, 20, true);
        check(11, 100, false);
        check(200, 200, true);
    }

    #[test]
    fn only_a_uid_at_its_end_ties_a_name_to_a_claim() {
        let uid = |name: &str| Held { name: name.into(), ..old(1) }.uid().map(str::to_owned);
        assert_eq!(uid(&format!("snapshot-{UID}")).as_deref(), Some(UID));
        assert_eq!(uid("a-name-that-somebody-chose-by-hand-0000"), None);
        assert_eq!(uid("ü-short"), None);
    }

    proptest! {
        #[test]
        fn never_when_the_list_is_partial_or_older_than_the_object_or_names_it(
            number in 0u32..4,
            snapshot: bool,
            created in proptest::option::of(NOW - 10_000_000..NOW + 10_000_000),
            settled: bool,
            began in NOW - 10_000_000..NOW + 10_000_000,
            whole: bool,
            snapshots: bool,
            named in proptest::collection::btree_set((0u32..4, any::<bool>()), 0..4),
            grace in 0u64..8000,
        ) {
            let kind = |snapshot| if snapshot { 's' } else { 'v' };
            let held = Held { id: id(number, kind(snapshot)), created, settled, ..old(0) };
            let named: BTreeSet<ObjectId> = named.into_iter().map(|(n, s)| id(n, kind(s))).collect();
            let known = Known { began, whole, snapshots, named, wanted: BTreeSet::new() };
            if judge(&held, &known, Duration::from_secs(grace)) == Finding::Orphan {
                prop_assert!(whole && settled && !known.named.contains(&held.id));
                prop_assert!(created.is_some_and(|created| created + i64::try_from(grace).unwrap() * 1000 <= began && created < began));
                prop_assert!(!snapshot || snapshots);
            }
        }
    }
}
