//! The use cases that make and take off pools, for the same sweeps.
//!
//! A pool in a file is a loop device and a mount that outlive the server, so a crash may leave them where no record
//! speaks of them. The file itself and a pool's directory are the person's who named them: they may stay.

use std::path::Path;

use offshoot::backend::{Place, PoolSpec};
use offshoot::host::{FileKind, Host};
use offshoot::volume::size::GIB;

use super::cases::Sum;
use super::sweep::{Flow, How, Keep, Machine, sweep};
use super::{PoolFs, Rig, STATE};

/// Where the pools of these cases lie.
const FILE: &str = "/disk/pool.img";
const DIR: &str = "/disk/pool";
const NAME: &str = "second";

fn in_file() -> PoolSpec {
    let place = Place::File { file: FILE.into(), size: GIB };
    PoolSpec { name: NAME.into(), place, parameters: Default::default() }
}

fn in_directory() -> PoolSpec {
    PoolSpec { name: NAME.into(), place: Place::Directory(DIR.into()), parameters: Default::default() }
}

/// CreatePool and DeletePool.
pub async fn pools(how: How, fs: PoolFs) -> Sum {
    let mut sum = Sum::default();
    let create = |name, spec: fn() -> PoolSpec, machine: (usize, usize)| {
        Flow::new(
            name,
            Machine::Checked,
            async |rig: &mut Rig| {
                rig.fake.mkdirs(DIR).unwrap();
                // Somebody else's directory is as durable as it is old.
                rig.fake.sync_dir(Path::new("/disk")).unwrap();
                ((), Keep::new())
            },
            async move |rig: &Rig, _: &()| rig.service.create_pool(spec()).await.map(drop),
            async move |rig: &Rig, _: &()| {
                assert_eq!(open(rig).await, 1);
                assert_eq!(remembered(rig), (1, 0));
                assert_eq!(attached(rig), machine);
            },
        )
    };
    sum.add(sweep(how, fs, &create("create a pool in a directory", in_directory, (0, 0))).await);
    sum.add(sweep(how, fs, &create("create a pool in a file", in_file, (1, 1))).await);

    let delete = |name, spec: fn() -> PoolSpec| {
        Flow::new(
            name,
            Machine::Checked,
            async move |rig: &mut Rig| {
                rig.fake.mkdirs(DIR).unwrap();
                rig.fake.sync_dir(Path::new("/disk")).unwrap();
                rig.service.create_pool(spec()).await.unwrap();
                ((), Keep::new())
            },
            async |rig: &Rig, _: &()| rig.service.delete_pool(NAME).await,
            async |rig: &Rig, _: &()| {
                assert_eq!(open(rig).await, 0);
                assert_eq!(remembered(rig), (0, 0));
                assert_eq!(attached(rig), (0, 0));
            },
        )
    };
    sum.add(sweep(how, fs, &delete("delete a pool in a directory", in_directory)).await);
    sum.add(sweep(how, fs, &delete("delete a pool in a file", in_file)).await);
    let by_id = Flow::new(
        "delete a pool in a file by its id",
        Machine::Checked,
        async |rig: &mut Rig| {
            rig.fake.mkdirs(DIR).unwrap();
            rig.fake.sync_dir(Path::new("/disk")).unwrap();
            let made = rig.service.create_pool(in_file()).await.unwrap();
            (made.info.id.to_string(), Keep::new())
        },
        async |rig: &Rig, id: &String| rig.service.delete_pool(id).await,
        async |rig: &Rig, _: &String| {
            assert_eq!((open(rig).await, remembered(rig)), (0, (0, 0)));
            assert_eq!(attached(rig), (0, 0));
        },
    );
    sum.add(sweep(how, fs, &by_id).await);
    sum
}

/// What a person does who gives up on these pools: takes them off, and removes what was theirs from the start.
pub async fn give_up(rig: &Rig) {
    rig.service.delete_pool(NAME).await.unwrap();
    assert_eq!(attached(rig), (0, 0));
    assert_eq!((open(rig).await, remembered(rig)), (0, (0, 0)));
    let _ = rig.fake.remove_file(Path::new(FILE));
    remove_tree(rig, Path::new(DIR));
}

async fn open(rig: &Rig) -> usize {
    rig.service
        .list_pools()
        .await
        .iter()
        .filter(|pool| pool.info.name == NAME && pool.faults.is_empty())
        .count()
}

/// How often the registry has the pool, and how often its intent.
fn remembered(rig: &Rig) -> (usize, usize) {
    let Some(bytes) = rig.fake.read_file(&Path::new(STATE).join("pools.json")).unwrap() else {
        return (0, 0);
    };
    let registry: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
    let count = |list: &str| {
        let named = |pool: &&serde_json::Value| pool["name"] == NAME;
        registry[list].as_array().map_or(0, |pools| pools.iter().filter(named).count())
    };
    (count("pools"), count("making"))
}

/// Loop devices and mounts of the pool's file.
fn attached(rig: &Rig) -> (usize, usize) {
    let audit = rig.audit();
    let loops = audit.loops.iter().filter(|device| device.backing.starts_with("/disk"));
    (loops.count(), audit.mounts.iter().filter(|mount| mount.starts_with(STATE)).count())
}

fn remove_tree(rig: &Rig, dir: &Path) {
    if !matches!(rig.fake.metadata(dir), Ok(Some(_))) {
        return;
    }
    for entry in rig.fake.read_dir(dir).unwrap() {
        let path = dir.join(&entry.name);
        match rig.fake.metadata(&path).unwrap().unwrap().kind {
            FileKind::Directory => remove_tree(rig, &path),
            _ => drop(rig.fake.remove_file(&path).unwrap()),
        }
    }
    rig.fake.remove_dir(dir).unwrap();
}
