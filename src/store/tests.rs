//! What the store promises, on the fake machine: each record is there or not, through crashes and power cuts.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Loaded, Record, Store};
use crate::host::Host;
use crate::host::fake::{Fake, Moment};
use crate::volume::{
    FsType, Group, GroupId, Kind, Layout, Mutable, ObjectId, Phase, PoolId, Snapshot, SnapshotId, Volume,
    VolumeId,
};

const ROOT: &str = "/pool";

fn fake() -> Fake {
    Fake::with_pool(ROOT, "xfs", 1 << 30)
}

fn open(fake: &Fake) -> (Store, Loaded) {
    Store::open(fake.host(), Path::new(ROOT)).unwrap()
}

fn volume(name: &str) -> Volume {
    Volume {
        id: VolumeId::new(PoolId::random()),
        name: name.into(),
        size: 1 << 30,
        layout: Layout::Image,
        fs: FsType::Ext4,
        mount: true,
        block: false,
        mkfs_options: vec!["-m".into()],
        discard: true,
        mutable: Mutable::default(),
        source: None,
        origin: None,
        base: None,
        raw_written: false,
        trust_raw: true,
        created: 7,
        published: Vec::new(),
        ephemeral: None,
        claim: None,
        phase: Phase::Ready,
    }
}

fn path(id: ObjectId, suffix: &str) -> PathBuf {
    Store::dir_of(Path::new(ROOT), id).join(format!("{id}.{suffix}"))
}

#[test]
fn a_record_lives_through_all_its_phases_and_every_field_comes_back() {
    let fake = fake();
    let volume = volume("pvc");
    let id = ObjectId::Volume(volume.id);
    let check = |fake: &Fake, phase: Option<Phase>| {
        let fake = fake.restart();
        let (store, loaded) = open(&fake);
        let expect: Vec<Volume> = phase.map(|phase| Volume { phase, ..volume.clone() }).into_iter().collect();
        assert_eq!(loaded.volumes, expect);
        assert!(loaded.damaged.is_empty() && loaded.unfinished.is_empty());
        (fake, store)
    };
    let (fake, store) = check(&fake, None);
    store.begin(Record::Volume(&volume)).unwrap();
    let (fake, store) = check(&fake, Some(Phase::Creating));
    store.commit(id).unwrap();
    let (fake, store) = check(&fake, Some(Phase::Ready));
    let growing = Volume { phase: Phase::Growing { to: 2 << 30 }, ..volume.clone() };
    store.put(Record::Volume(&growing)).unwrap();
    let (fake, store) = check(&fake, Some(growing.phase));
    assert!(store.condemn(id).unwrap());
    assert!(store.condemn(id).unwrap(), "condemned twice is condemned");
    let (fake, store) = check(&fake, Some(Phase::Deleting));
    store.forget(id).unwrap();
    store.forget(id).unwrap();
    assert!(!store.condemn(id).unwrap());
    check(&fake, None);
}

#[test]
fn snapshots_and_groups_come_back_as_they_were() {
    let fake = fake();
    let (store, _) = open(&fake);
    let of = volume("pvc");
    let group = GroupId::new(of.id.pool());
    let snapshot = Snapshot {
        id: SnapshotId::new(of.id.pool()),
        name: "snapshot".into(),
        volume: of.id,
        size: of.size,
        layout: Layout::Subvolume,
        fs: FsType::Btrfs,
        raw_written: true,
        created: 9,
        group: Some(group),
        undo: true,
        claim: None,
        phase: Phase::Ready,
    };
    let members = vec![(of.id, snapshot.id)];
    let group = Group { id: group, name: "group".into(), members, created: 9, phase: Phase::Ready };
    for record in [Record::Snapshot(&snapshot), Record::Group(&group)] {
        store.begin(record).unwrap();
        store.commit(record.id()).unwrap();
    }
    let (_, loaded) = open(&fake.restart());
    assert_eq!((loaded.snapshots, loaded.groups), (vec![snapshot], vec![group]));
}

#[test]
fn a_second_server_is_refused_until_the_first_is_gone() {
    let fake = fake();
    let first = open(&fake);
    let host: Arc<dyn Host> = fake.host();
    assert_eq!(Store::open(host, Path::new(ROOT)).err().unwrap().kind(), Kind::Busy);
    drop(first);
    open(&fake);
}

#[test]
fn what_cannot_be_read_is_reported_and_left_alone() {
    let check = |suffix: &str, bytes: &str, damaged: usize, unfinished: &[bool]| {
        let fake = fake();
        drop(open(&fake));
        let id = ObjectId::Volume(volume("pvc").id);
        let file = path(id, suffix);
        fake.plant(&file, bytes).unwrap();
        let (_, loaded) = open(&fake);
        let found: Vec<bool> = loaded.unfinished.iter().map(|found| found.certain).collect();
        assert_eq!((loaded.damaged.len(), found.as_slice()), (damaged, unfinished), "{suffix} {bytes}");
        assert!(loaded.volumes.is_empty());
        assert_eq!(fake.read_file(&file).unwrap(), (suffix != "tmp").then(|| bytes.into()), "{suffix}");
    };
    check("json", "{", 1, &[]);
    check("json", r#"{"format":99,"kind":"volume"}"#, 1, &[]);
    check("deleting", "half a rec", 1, &[]);
    // A power cut leaves any part of an intent, and nothing of what was never forced to the disk.
    check("creating", "half a rec", 0, &[true]);
    check("creating", "", 0, &[true]);
    check("deleting", "", 0, &[true]);
    check("json", "", 0, &[false]);
    check("tmp", "half a rec", 0, &[]);
}

#[test]
fn a_record_of_another_object_is_damage() {
    let fake = fake();
    let (store, _) = open(&fake);
    let (one, other) = (volume("one"), volume("other"));
    store.begin(Record::Volume(&one)).unwrap();
    let bytes = fake.read_file(&path(one.id.into(), "creating")).unwrap().unwrap();
    fake.plant(path(other.id.into(), "json"), bytes).unwrap();
    let (_, loaded) = open(&fake.restart());
    assert_eq!(loaded.damaged.len(), 1);
    assert!(loaded.damaged[0].why.contains(&one.id.to_string()), "{:?}", loaded.damaged);
}

/// Runs `work` on a store with one committed volume, with a power cut at each of its calls, and shows what is left.
fn cut(work: impl Fn(&Store, &Volume), check: impl Fn(&Volume, &Loaded, bool)) {
    let world = || {
        let fake = fake();
        let (store, _) = open(&fake);
        let volume = volume("pvc");
        store.begin(Record::Volume(&volume)).unwrap();
        store.commit(volume.id.into()).unwrap();
        (fake, store, volume)
    };
    let (fake, store, volume) = world();
    let before = fake.counted();
    work(&store, &volume);
    let calls = fake.counted() - before;
    assert!(calls > 0);
    check(&volume, &open(&fake.power_cut()).1, true);
    for n in 1..=calls {
        for moment in [Moment::Before, Moment::During, Moment::After] {
            let (fake, store, volume) = world();
            fake.crash(fake.counted() + n, moment);
            work(&store, &volume);
            check(&volume, &open(&fake.power_cut()).1, false);
        }
    }
}

#[test]
fn after_a_power_cut_a_rewritten_record_is_the_old_or_the_new_one() {
    let phase = Phase::Growing { to: 2 << 30 };
    cut(
        |store, volume| drop(store.put(Record::Volume(&Volume { phase, ..volume.clone() }))),
        |volume, loaded, answered| {
            assert!(loaded.damaged.is_empty() && loaded.unfinished.is_empty());
            let found = &loaded.volumes[..];
            let old = [volume.clone()];
            let new = [Volume { phase, ..volume.clone() }];
            assert!(found == new || (!answered && found == old), "{found:?}");
        },
    );
}

#[test]
fn after_a_power_cut_an_acknowledged_volume_is_there_and_another_is_at_most_an_intent() {
    let late = volume("late");
    cut(
        |store, _| {
            let _ = store.begin(Record::Volume(&late)).and_then(|()| store.commit(late.id.into()));
        },
        |volume, loaded, answered| {
            assert!(loaded.damaged.is_empty());
            assert!(loaded.volumes.contains(volume));
            let there = loaded.volumes.contains(&late);
            assert!(there || !answered);
            assert!(loaded.unfinished.iter().all(|unfinished| unfinished.id == late.id.into()));
        },
    );
}

#[test]
fn after_a_power_cut_a_forgotten_volume_is_gone_or_still_condemned() {
    cut(
        |store, volume| {
            let id = volume.id.into();
            let _ = store.condemn(id).and_then(|_| store.forget(id));
        },
        |_, loaded, answered| {
            assert!(loaded.damaged.is_empty() && loaded.unfinished.is_empty());
            assert!(loaded.volumes.is_empty() || !answered);
        },
    );
}
