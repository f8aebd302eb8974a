//! A simulated DCT, drivers that talk to it, and the audit of what there is in the end.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use offshoot::backend::delphix::{DctSettings, Dcts, Settings as DctsSettings, Timing};
use offshoot::delphix::api::{CreateVolume, PublishContext, SnapshotInfo, SourceRef, VolumeInfo};
use offshoot::delphix::id::NodeId;
use offshoot::delphix::params::{Params, SnapshotParams};
use offshoot::delphix::{Driver, Settings};
use offshoot::volume::size::Range;
use offshoot::volume::{AccessMode, AccessType, Capability, Error, Kind, Result};
use offshoot_dct_sim::{Config, Kind as Of, Seeded, Sim};
use serde_json::Value;
use tempfile::TempDir;

pub const GIB: u64 = 1 << 30;

/// A simulator with one engine, and where its key and authority lie.
pub struct World {
    pub sim: Sim,
    pub seeded: Seeded,
    dir: TempDir,
    empty: Audit,
}

/// All that a use case may leave behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Audit {
    pub vdbs: Vec<String>,
    pub bookmarks: Vec<String>,
    pub snapshots: Vec<String>,
    pub addresses: Vec<String>,
    pub tags: Vec<String>,
}

pub fn lagging() -> Config {
    Config { lag: Duration::from_millis(12), telemetry: Duration::from_millis(3), ..Config::default() }
}

impl World {
    pub async fn new(config: Config) -> World {
        let dir = tempfile::tempdir().unwrap();
        let sim = Sim::builder(&dir.path().join("data")).config(config).engine("engine.example");
        let sim = sim.start().await.unwrap();
        std::fs::write(dir.path().join("key"), sim.key()).unwrap();
        std::fs::write(dir.path().join("ca.pem"), &sim.ca_pem).unwrap();
        let empty = audit(&sim);
        World { seeded: sim.seeded[0].clone(), sim, dir, empty }
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    pub fn settings(&self) -> DctsSettings {
        let mut dct = DctSettings::new("sim", &self.sim.url, self.path().join("key"));
        dct.ca_file = Some(self.path().join("ca.pem"));
        dct.timing = Timing {
            request_timeout: Duration::from_secs(10),
            retry_for: Duration::from_millis(400),
            retry_first: Duration::from_millis(5),
            poll_first: Duration::from_millis(4),
            poll_max: Duration::from_millis(20),
            lag: Duration::from_millis(800),
            job_timeout: Duration::from_secs(20),
            ..Timing::default()
        };
        DctsSettings { cluster: "test".into(), dcts: vec![dct] }
    }

    /// A driver as it is after its process has started.
    pub fn driver(&self) -> Driver {
        self.driver_of("delphix.test", "test", Settings::default())
    }

    pub fn driver_of(&self, name: &str, cluster: &str, settings: Settings) -> Driver {
        let settings = Settings { remains_for: Duration::from_millis(60), ..settings };
        Driver::new(name, cluster, Dcts::open(self.settings()).unwrap(), settings)
    }

    pub fn audit(&self) -> Audit {
        audit(&self.sim)
    }

    /// Nothing is left of all that was made.
    #[track_caller]
    pub fn is_empty(&self) {
        assert_eq!(self.audit(), self.empty);
    }

    /// The addresses on the only host's list.
    pub fn addresses(&self) -> Vec<String> {
        self.audit().addresses
    }

    pub fn vdb(&self, id: &str) -> Value {
        let id = id.split_once(':').map_or(id, |(_, id)| id);
        self.sim.object(Of::Vdb, id).unwrap_or_default()
    }

    /// The values of the tags of a VDB whose keys begin so.
    pub fn tags(&self, id: &str, key: &str) -> Vec<String> {
        let vdb = self.vdb(id);
        let all = vdb["tags"].as_array().cloned().unwrap_or_default();
        let text = |tag: &Value, of: &str| tag[of].as_str().unwrap_or_default().to_owned();
        all.iter().filter(|tag| text(tag, "key").starts_with(key)).map(|tag| text(tag, "value")).collect()
    }

    /// The calls since they were last asked for.
    pub fn calls(&self) -> Vec<String> {
        let log = self.sim.traffic().log;
        self.sim.clear_traffic();
        log
    }

    /// Takes everything away as Kubernetes would.
    pub async fn delete_everything(&self, driver: &Driver) {
        let volumes = tried!(driver.list_volumes("", 0)).unwrap().entries;
        for volume in &volumes {
            tried!(driver.unpublish(&volume.volume.id.to_string(), None)).unwrap();
        }
        // Copies before what they were made from.
        let mut left: Vec<String> = volumes.iter().map(|status| status.volume.id.to_string()).collect();
        for _ in 0..=volumes.len() {
            let all = offshoot::delphix::api::SnapshotFilter::default();
            let snapshots = tried!(driver.list_snapshots(&all, "", 0)).unwrap().entries;
            for snapshot in snapshots.iter().filter(|snapshot| !snapshot.undo) {
                let _ = tried!(driver.delete_snapshot(&snapshot.id.to_string()));
            }
            let mut stay = Vec::new();
            for id in left {
                if tried!(driver.delete_volume(&id)).is_err() {
                    stay.push(id);
                }
            }
            left = stay;
        }
        assert_eq!(left, Vec::<String>::new());
    }
}

fn audit(sim: &Sim) -> Audit {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let all = |of: Of, field: &str| sim.objects(of).iter().map(|doc| text(&doc[field])).collect::<Vec<_>>();
    let environments = sim.objects(Of::Environment);
    let hosts = environments.iter().flat_map(|of| of["hosts"].as_array().cloned().unwrap_or_default());
    let addresses = hosts.flat_map(|host| host["nfs_addresses"].as_array().cloned().unwrap_or_default());
    let snapshots = sim.objects(Of::Snapshot);
    let tags = snapshots.iter().flat_map(|of| of["tags"].as_array().cloned().unwrap_or_default());
    Audit {
        vdbs: all(Of::Vdb, "name"),
        bookmarks: all(Of::Bookmark, "name"),
        snapshots: all(Of::Snapshot, "id"),
        addresses: addresses.map(|address| text(&address)).collect(),
        tags: tags.map(|tag| tag.to_string()).collect(),
    }
}

/// The answer of what may have to be asked for again.
macro_rules! tried {
    ($call:expr) => {{
        let mut again = 0;
        loop {
            match $call.await {
                Err(error) if !error.kind().is_final() && again < 8 => again += 1,
                answer => break answer,
            }
        }
    }};
}
pub(crate) use tried;

pub fn params(pairs: &[(&str, &str)]) -> Params {
    let map: BTreeMap<String, String> =
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    Params::parse(&map).unwrap()
}

pub fn files(mode: AccessMode) -> Capability {
    Capability { access: AccessType::Mount { fs: None, flags: Vec::new() }, mode }
}

pub fn single() -> Capability {
    files(AccessMode::SingleNodeWriter)
}

pub fn node(text: &str) -> NodeId {
    text.parse().unwrap()
}

pub fn wish(name: &str, pairs: &[(&str, &str)], source: Option<SourceRef>) -> CreateVolume {
    CreateVolume {
        name: name.into(),
        range: Range { required: GIB, limit: 0 },
        capabilities: vec![single()],
        params: params(pairs),
        source,
    }
}

/// A copy of the demo dSource.
pub async fn demo(driver: &Driver, name: &str) -> Result<VolumeInfo> {
    driver.create_volume(wish(name, &[("source", "demo")], None)).await
}

pub async fn published(driver: &Driver, volume: &str, at: &str) -> Result<PublishContext> {
    driver.publish(volume, &node(at), &single(), false).await
}

pub async fn cut(driver: &Driver, name: &str, volume: &str) -> Result<SnapshotInfo> {
    driver.create_snapshot(name, volume, SnapshotParams::default()).await
}

#[track_caller]
pub fn refused<T: std::fmt::Debug>(result: Result<T>, kind: Kind, words: &[&str]) -> Error {
    let error = result.unwrap_err();
    assert_eq!(error.kind(), kind, "{error}");
    let text = error.to_string();
    assert!(words.iter().all(|word| text.contains(word)), "{text}");
    error
}
