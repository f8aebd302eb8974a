//! Promises of the client, over the simulator in this process: every request here is checked against the published interface.

mod capabilities;
mod changes;
mod faults;
mod filters;
mod liar;
mod reading;
mod trust;
mod waiting;

use std::fs;
use std::time::Duration;

use offshoot_dct_sim::{Clock, Config, Seeded, Sim};
use tempfile::TempDir;

use super::*;
use crate::metrics::Metrics;

/// A simulator with one engine, and a client of it that is quick.
struct World {
    sim: Sim,
    seeded: Seeded,
    dir: TempDir,
    settings: DctSettings,
}

impl World {
    async fn new() -> World {
        World::of(Config::default(), Clock::Machine, &[]).await
    }

    /// One whose time stands still until it is moved.
    async fn still(config: Config) -> World {
        World::of(config, Clock::virtual_clock(), &[]).await
    }

    async fn of(config: Config, clock: Clock, names: &[&str]) -> World {
        let dir = tempfile::tempdir().unwrap();
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let builder = Sim::builder(&dir.path().join("data")).config(config).clock(clock).names(&names);
        let sim = builder.engine("engine.example").start().await.unwrap();
        let mut settings = DctSettings::new("prod", &sim.url, dir.path().join("key"));
        settings.ca_file = Some(dir.path().join("ca.pem"));
        settings.timing = quick();
        let world = World { seeded: sim.seeded[0].clone(), sim, dir, settings };
        world.write("key", &world.sim.key());
        world.write("ca.pem", &world.sim.ca_pem);
        world
    }

    /// Exchanges a file as Kubernetes does.
    fn write(&self, name: &str, text: &str) {
        let new = self.dir.path().join("new");
        fs::write(&new, text).unwrap();
        fs::rename(new, self.dir.path().join(name)).unwrap();
    }

    fn dct(&self) -> Dct {
        self.dct_with(|_| {})
    }

    fn dct_with(&self, change: impl FnOnce(&mut DctSettings)) -> Dct {
        let mut settings = self.settings.clone();
        change(&mut settings);
        open(settings)
    }

    fn provision(&self, name: &str) -> Provision {
        let from = ProvisionFrom::Snapshot { id: None, source: Some(self.seeded.dsource.clone()) };
        Provision {
            environment_id: Some(self.seeded.environment.clone()),
            repository_id: Some(self.seeded.repository.clone()),
            target_group_id: Some(self.seeded.group.clone()),
            mount_point: Some(format!("/mnt/{name}")),
            tags: vec![Tag::new("offshoot-name", name)],
            ..Provision::new(name, from)
        }
    }

    /// A VDB that is made and shows.
    async fn vdb(&self, dct: &Dct, name: &str) -> Vdb {
        let started = dct.provision(&self.provision(name)).await.unwrap();
        dct.finish(&started.job.unwrap()).await.unwrap();
        let id = started.object.unwrap();
        dct.until_vdb(&id, "to be there", |vdb| vdb.is_some()).await.unwrap().unwrap()
    }

    fn asked(&self, op: &str) -> u64 {
        self.sim.traffic().requests.get(op).copied().unwrap_or(0)
    }
}

fn open(settings: DctSettings) -> Dct {
    let settings = Settings { dcts: vec![settings], ..Settings::default() };
    Dcts::open(settings).unwrap().only().unwrap().clone()
}

fn quick() -> Timing {
    Timing {
        request_timeout: Duration::from_secs(20),
        retry_for: Duration::from_secs(10),
        retry_first: Duration::from_millis(2),
        poll_first: Duration::from_millis(5),
        poll_max: Duration::from_millis(40),
        lag: Duration::from_secs(60),
        ..Timing::default()
    }
}

/// Lets a simulator's time pass, second by second, until `work` is done.
async fn while_time_passes<T>(sim: &Sim, work: impl Future<Output = T>) -> T {
    let mut work = std::pin::pin!(work);
    loop {
        tokio::select! {
            done = &mut work => return done,
            () = tokio::time::sleep(Duration::from_millis(5)) => sim.advance(Duration::from_secs(1)),
        }
    }
}

#[test]
fn a_dct_is_found_by_its_name_or_as_the_only_one() {
    let settings = |names: &[&str]| {
        let dct = |name: &&str| DctSettings::new(*name, "https://dct.example", "/key");
        Settings { dcts: names.iter().map(dct).collect(), ..Settings::default() }
    };
    let two = Dcts::open(settings(&["a", "b"])).unwrap();
    assert_eq!(two.get("b").unwrap().name(), "b");
    assert_eq!(two.iter().count(), 2);
    assert_eq!(two.get("c").unwrap_err().to_string(), "dct: `c` is not one of `a`, `b`");
    assert_eq!(two.only().unwrap_err().to_string(), "dct: is not given; say which of `a`, `b`");
    assert_eq!(Dcts::open(settings(&["a"])).unwrap().only().unwrap().name(), "a");
    assert!(Dcts::default().only().unwrap_err().to_string().contains("no [[dct]] is configured"));
}

#[test]
fn an_engine_is_mounted_from_its_data_address_where_it_has_one() {
    let engine =
        Engine { id: "7".into(), name: Some("e7".into()), hostname: Some("h7".into()), ..Engine::default() };
    let check = |key: &str, address: Option<&str>, expect: &str| {
        let mut settings = DctSettings::new("d", "https://dct.example", "/key");
        let special = EngineSettings { data_address: address.map(str::to_owned) };
        settings.engines.insert(key.to_owned(), special);
        assert_eq!(open(settings).data_address(&engine), Some(expect), "{key}");
    };
    check("7", Some("10.0.0.1"), "10.0.0.1");
    check("e7", Some("10.0.0.1"), "10.0.0.1");
    check("h7", Some("10.0.0.1"), "10.0.0.1");
    check("8", Some("10.0.0.1"), "h7");
    check("7", None, "h7");
}

#[tokio::test]
async fn requests_are_counted_by_operation_and_never_by_id() {
    let world = World::new().await;
    let metrics = Metrics::new("d", "n");
    let settings = Settings { dcts: vec![world.settings.clone()], ..Settings::default() };
    let dcts = Dcts::open_counted(settings, metrics.dct()).unwrap();
    let dct = dcts.only().unwrap();
    assert_eq!(dct.vdb("no-such-vdb").await.unwrap(), None);
    let vdb = world.vdb(dct, "one").await;
    let text = metrics.scrape().await.unwrap();
    let line = "offshoot_dct_requests_total{dct=\"prod\",op=\"GET /vdbs/{vdbId}\",outcome=\"not_found\"} 1\n";
    assert!(text.contains(line), "{text}");
    assert!(text.contains("offshoot_dct_jobs_waited_for{dct=\"prod\"} 0\n"), "{text}");
    assert!(text.contains("offshoot_dct_polls_total{dct=\"prod\"}"), "{text}");
    assert!(!text.contains(&vdb.id) && !text.contains("no-such-vdb"), "{text}");
}
