//! Random sequences of calls, crashes and reboots, against a small model of what must be there; and random callers at
//! the same time, after which nothing may be left over.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test"
)]

mod common;

use std::collections::BTreeMap;

use common::{PoolFs, Rig, SIZE, blank, copy_of, run};
use offshoot::host::fake::Moment;
use offshoot::service::api::RefreshFrom;
use offshoot::volume::size::Range;
use offshoot::volume::{Error, Kind, Result};
use proptest::prelude::*;

/// What a step does; the numbers choose among what is there.
#[derive(Debug, Clone)]
enum Step {
    Create,
    Clone(usize),
    Restore(usize),
    Snapshot(usize),
    Group(usize, usize),
    DeleteVolume(usize),
    DeleteSnapshot(usize),
    Expand(usize),
    Rewind(usize),
    Refresh(usize),
    Write(usize),
    Mount(usize),
    Unmount(usize),
    Restart,
    Reboot,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Vol {
    value: Option<String>,
    size: u64,
    mounted: bool,
    origin: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Snap {
    of: String,
    value: Option<String>,
    size: u64,
    grouped: bool,
}

#[derive(Default)]
struct Model {
    volumes: BTreeMap<String, Vol>,
    snapshots: BTreeMap<String, Snap>,
    names: usize,
}

fn pick<V: Clone>(all: &BTreeMap<String, V>, n: usize) -> Option<(String, V)> {
    let at = n.checked_rem(all.len())?;
    all.iter().nth(at).map(|(id, value)| (id.clone(), value.clone()))
}

/// The caller asks until it is answered; where the server dies, it is started again first.
async fn ask<T>(rig: &mut Rig, call: impl AsyncFn(&Rig) -> Result<T>) -> Result<T> {
    let mut last = Error::internal("never asked");
    for _ in 0..6 {
        match call(rig).await {
            Ok(done) if !rig.fake.crashed() => return Ok(done),
            Err(error) if !rig.fake.crashed() && error.kind().is_final() => return Err(error),
            Ok(_) => {}
            Err(error) => last = error,
        }
        if rig.fake.crashed() {
            rig.restart().await;
        }
    }
    Err(last)
}

impl Model {
    fn name(&mut self) -> String {
        self.names += 1;
        format!("name-{}", self.names)
    }

    async fn step(&mut self, rig: &mut Rig, step: &Step) {
        match step {
            Step::Create => {
                let name = self.name();
                let id = ask(rig, async |rig: &Rig| rig.create(blank(&name)).await).await.unwrap();
                self.volumes.insert(id, Vol { value: None, size: SIZE, mounted: false, origin: None });
            }
            Step::Clone(n) => {
                let Some((source, from)) = pick(&self.volumes, *n) else { return };
                if from.mounted && rig.fs == PoolFs::Ext4 {
                    return;
                }
                let name = self.name();
                let request = || offshoot::service::api::CreateVolume {
                    range: Range::default(),
                    ..copy_of(&name, &source)
                };
                let id = ask(rig, async |rig: &Rig| rig.create(request()).await).await.unwrap();
                self.volumes.insert(id, Vol { mounted: false, origin: Some(source), ..from });
            }
            Step::Restore(n) => {
                let Some((snapshot, from)) = pick(&self.snapshots, *n) else { return };
                let name = self.name();
                let request = || offshoot::service::api::CreateVolume {
                    range: Range::default(),
                    ..copy_of(&name, &snapshot)
                };
                let id = ask(rig, async |rig: &Rig| rig.create(request()).await).await.unwrap();
                self.volumes.insert(
                    id,
                    Vol { value: from.value, size: from.size, mounted: false, origin: Some(from.of) },
                );
            }
            Step::Snapshot(n) => {
                let Some((of, from)) = pick(&self.volumes, *n) else { return };
                if from.mounted && rig.fs == PoolFs::Ext4 {
                    return;
                }
                let name = self.name();
                let id = ask(rig, async |rig: &Rig| rig.snapshot(&name, &of).await).await.unwrap();
                self.snapshots.insert(id, Snap { of, value: from.value, size: from.size, grouped: false });
            }
            Step::Group(a, b) => {
                let (Some((a, _)), Some((b, _))) = (pick(&self.volumes, *a), pick(&self.volumes, *b)) else {
                    return;
                };
                let mounted = self.volumes[&a].mounted || self.volumes[&b].mounted;
                if a == b || (mounted && rig.fs == PoolFs::Ext4) {
                    return;
                }
                let (name, ids) = (self.name(), vec![a, b]);
                let call = async |rig: &Rig| rig.service.create_group_snapshot(&name, ids.clone()).await;
                let group = ask(rig, call).await.unwrap();
                for snapshot in group.snapshots {
                    let of = snapshot.volume.to_string();
                    let Vol { value, size, .. } = self.volumes[&of].clone();
                    self.snapshots.insert(snapshot.id.to_string(), Snap { of, value, size, grouped: true });
                }
            }
            Step::DeleteVolume(n) => {
                let Some((id, volume)) = pick(&self.volumes, *n) else { return };
                match ask(rig, async |rig: &Rig| rig.service.delete_volume(&id).await).await {
                    Ok(()) => {
                        assert!(!volume.mounted, "a mounted volume was deleted");
                        self.volumes.remove(&id);
                    }
                    Err(error) => {
                        assert_eq!((error.kind(), volume.mounted), (Kind::Precondition, true), "{error:?}")
                    }
                }
            }
            Step::DeleteSnapshot(n) => {
                let Some((id, snapshot)) = pick(&self.snapshots, *n) else { return };
                match ask(rig, async |rig: &Rig| rig.service.delete_snapshot(&id).await).await {
                    Ok(()) => {
                        assert!(!snapshot.grouped);
                        self.snapshots.remove(&id);
                    }
                    Err(error) => assert!(snapshot.grouped, "{error:?}"),
                }
            }
            Step::Expand(n) => {
                let Some((id, volume)) = pick(&self.volumes, *n) else { return };
                let range = Range { required: volume.size + SIZE, limit: 0 };
                let expanded =
                    ask(rig, async |rig: &Rig| rig.service.expand_volume(&id, range).await).await.unwrap();
                self.volumes.insert(id, Vol { size: expanded.size, ..volume });
            }
            Step::Rewind(n) => {
                let Some((snapshot, to)) = pick(&self.snapshots, *n) else { return };
                let Some(volume) = self.volumes.get(&to.of).cloned() else { return };
                let call = async |rig: &Rig| rig.service.rewind_volume(&to.of, &snapshot).await;
                self.replaced(ask(rig, call).await.map(drop), rig, &to.of, &volume, to.value.clone());
            }
            Step::Refresh(n) => {
                let Some((id, volume)) = pick(&self.volumes, *n) else { return };
                let source = volume.origin.as_ref().and_then(|origin| self.volumes.get(origin)).cloned();
                let Some(source) = source.filter(|source| source.size <= volume.size) else { return };
                if source.mounted && rig.fs == PoolFs::Ext4 {
                    return;
                }
                let call = async |rig: &Rig| rig.service.refresh_volume(&id, RefreshFrom::SourceNow).await;
                self.replaced(ask(rig, call).await.map(drop), rig, &id, &volume, source.value);
            }
            Step::Write(n) => {
                let Some((id, _)) = pick(&self.volumes, *n) else { return };
                let value = self.name();
                let volume = self.volumes.get_mut(&id).unwrap();
                match volume.mounted {
                    true => rig.write(&id, &value),
                    false => rig.fill(&id, &value),
                }
                volume.value = Some(value);
            }
            Step::Mount(n) => {
                let Some((id, _)) = pick(&self.volumes, *n) else { return };
                let volume = self.volumes.get_mut(&id).unwrap();
                if !volume.mounted {
                    rig.mount(&id);
                    rig.restart().await;
                    volume.mounted = true;
                }
            }
            Step::Unmount(n) => {
                let Some((id, _)) = pick(&self.volumes, *n) else { return };
                match rig.fs {
                    PoolFs::Ext4 => rig.let_go(&id),
                    _ => rig.unmount(&id),
                }
                self.volumes.get_mut(&id).unwrap().mounted = false;
            }
            Step::Restart => rig.restart().await,
            Step::Reboot => {
                rig.reboot().await;
                for (id, volume) in &mut self.volumes {
                    volume.mounted = false;
                    rig.unmount(id);
                }
            }
        }
    }

    /// A rewind or refresh keeps what was there, once for each time that it was asked for.
    fn replaced(&mut self, done: Result<()>, rig: &Rig, id: &str, before: &Vol, value: Option<String>) {
        match done {
            Ok(()) => {
                assert!(!before.mounted, "a mounted volume was replaced");
                for snapshot in rig.snapshots().into_iter().filter(|snapshot| snapshot.undo) {
                    let (key, of) = (snapshot.id.to_string(), snapshot.volume.to_string());
                    if self.snapshots.contains_key(&key) {
                        continue;
                    }
                    let kept = rig.read(&key);
                    assert!(of == id && (kept == before.value || kept == value), "{kept:?}");
                    self.snapshots.insert(key, Snap { of, value: kept, size: snapshot.size, grouped: false });
                }
                self.volumes.insert(id.to_owned(), Vol { value, ..before.clone() });
            }
            Err(error) => assert_eq!((error.kind(), before.mounted), (Kind::Precondition, true), "{error:?}"),
        }
    }

    /// What is there is what the model says.
    async fn check(&self, rig: &Rig) {
        let volumes: Vec<String> = self.volumes.keys().cloned().collect();
        assert_eq!(rig.volumes().await, volumes);
        let snapshots: Vec<String> = rig.snapshots().iter().map(|snapshot| snapshot.id.to_string()).collect();
        assert_eq!(snapshots, self.snapshots.keys().cloned().collect::<Vec<_>>());
        for (id, volume) in &self.volumes {
            assert_eq!(rig.read(id), volume.value, "{id}");
            assert_eq!(rig.service.get_volume(id).await.unwrap().volume.size, volume.size, "{id}");
        }
        for (id, snapshot) in &self.snapshots {
            assert_eq!(rig.read(id), snapshot.value, "{id}");
        }
        assert!(rig.audit().frozen.is_empty());
    }
}

fn steps() -> impl Strategy<Value = Vec<(Step, Option<(usize, bool)>)>> {
    let n = || 0..64_usize;
    let step = prop_oneof![
        3 => Just(Step::Create),
        3 => n().prop_map(Step::Clone),
        3 => n().prop_map(Step::Restore),
        4 => n().prop_map(Step::Snapshot),
        2 => (n(), n()).prop_map(|(a, b)| Step::Group(a, b)),
        3 => n().prop_map(Step::DeleteVolume),
        2 => n().prop_map(Step::DeleteSnapshot),
        1 => n().prop_map(Step::Expand),
        3 => n().prop_map(Step::Rewind),
        3 => n().prop_map(Step::Refresh),
        6 => n().prop_map(Step::Write),
        2 => n().prop_map(Step::Mount),
        2 => n().prop_map(Step::Unmount),
        1 => Just(Step::Restart),
        1 => Just(Step::Reboot),
    ];
    proptest::collection::vec((step, proptest::option::of((1..24_usize, any::<bool>()))), 1..30)
}

fn fs() -> impl Strategy<Value = PoolFs> {
    proptest::sample::select(PoolFs::ALL.to_vec())
}

fn config() -> ProptestConfig {
    let default = ProptestConfig { failure_persistence: None, ..ProptestConfig::default() };
    match std::env::var_os("PROPTEST_CASES") {
        Some(_) => default,
        None => ProptestConfig { cases: 60, ..default },
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn any_sequence_with_any_crashes_is_what_the_model_says(fs in fs(), steps in steps()) {
        run(async {
            let mut rig = Rig::new(fs).await;
            let empty = rig.audit();
            let mut model = Model::default();
            for (step, crash) in &steps {
                if let Some((calls, before)) = crash {
                    let moment = if *before { Moment::Before } else { Moment::After };
                    let planned = matches!(step, Step::Write(_) | Step::Mount(_) | Step::Unmount(_) | Step::Restart | Step::Reboot);
                    if !planned {
                        rig.fake.crash(rig.fake.counted() + calls, moment);
                    }
                }
                model.step(&mut rig, step).await;
                rig.fake.heal();
                model.check(&rig).await;
            }
            rig.reap().await;
            rig.delete_everything().await;
            rig.reap().await;
            assert_eq!(rig.audit(), empty);
        });
    }

    #[test]
    fn callers_at_the_same_time_leave_a_whole_pool(
        fs in fs(),
        callers in proptest::collection::vec(proptest::collection::vec((0..6_u8, 0..3_u8), 1..12), 2..5),
    ) {
        run(async {
            let mut rig = Rig::new(fs).await;
            let empty = rig.audit();
            let tasks: Vec<_> = callers.into_iter().map(|calls| {
                let service = rig.service.clone();
                tokio::spawn(async move {
                    for (what, name) in calls {
                        let answer = one_call(&service, what, &format!("n{name}")).await;
                        if let Err(error) = answer {
                            let known = [Kind::NotFound, Kind::Precondition, Kind::Busy, Kind::AlreadyExists];
                            assert!(known.contains(&error.kind()), "{error:?}");
                        }
                    }
                })
            }).collect();
            for task in tasks {
                task.await.unwrap();
            }
            rig.restart().await;
            rig.reap().await;
            for id in rig.volumes().await {
                assert_eq!(rig.service.get_volume(&id).await.unwrap().faults, []);
            }
            rig.delete_everything().await;
            rig.reap().await;
            assert_eq!(rig.audit(), empty);
        });
    }
}

/// One call of one of several callers, who know each other's names.
async fn one_call(service: &offshoot::service::Service, what: u8, name: &str) -> Result<()> {
    let made = service.create_volume(blank(name)).await?.volume.id.to_string();
    let cut = |volume: String| offshoot::service::api::CreateSnapshot {
        name: format!("s-{name}"),
        volume,
        claim: None,
        requisite: Vec::new(),
    };
    match what {
        0 => Ok(()),
        1 => service.delete_volume(&made).await,
        2 => service.create_volume(copy_of(&format!("c-{name}"), &made)).await.map(drop),
        3 => service.create_snapshot(cut(made)).await.map(drop),
        4 => {
            let snapshot = service.create_snapshot(cut(made.clone())).await?.id.to_string();
            service.rewind_volume(&made, &snapshot).await.map(drop)
        }
        _ => {
            let snapshot = service.create_snapshot(cut(made)).await?.id.to_string();
            service.delete_snapshot(&snapshot).await
        }
    }
}
