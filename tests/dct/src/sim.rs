//! A running simulator, for tests in the same process and for the binary.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::admin::{self, Admin};
use crate::clock::Clock;
use crate::config::{Config, OnRestart};
use crate::data::Store;
use crate::dct::Dct;
use crate::export::{Export, Exported, NoExport};
use crate::faults::{Faults, Rule};
use crate::http::Shared;
use crate::seed::{self, Seeded};
use crate::server::{self, Connections};
use crate::state;
use crate::tls::Identity;
use crate::world::Kind;

/// How a simulator is made. Only the data directory is needed.
pub struct Builder {
    config: Config,
    clock: Clock,
    data: PathBuf,
    state: Option<PathBuf>,
    key: String,
    listen: SocketAddr,
    names: Vec<String>,
    exports: Box<dyn Export>,
    seed: Vec<String>,
}

/// A simulator that runs until it is dropped.
pub struct Sim {
    /// `https://127.0.0.1:PORT`, without base path.
    pub url: String,
    /// The authority that a client must trust, PEM.
    pub ca_pem: String,
    /// What each engine was seeded with, in order. Empty if the state was there before.
    pub seeded: Vec<Seeded>,
    shared: Shared,
    counts: Arc<Connections>,
    cut: watch::Sender<u64>,
    tasks: JoinSet<()>,
}

/// What has been asked of a simulator.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Traffic {
    /// Requests by operation.
    pub requests: BTreeMap<String, u64>,
    /// The same in order.
    pub log: Vec<String>,
    /// Connections open now.
    pub open: usize,
    /// The most that were open at once.
    pub most: usize,
    /// All there ever were.
    pub ever: u64,
}

impl Sim {
    /// A simulator with its data below a directory.
    pub fn builder(data: &Path) -> Builder {
        Builder {
            config: Config::default(),
            clock: Clock::Machine,
            data: data.to_owned(),
            state: None,
            key: "1.simulated".to_owned(),
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            names: ["localhost", "127.0.0.1", "::1"].map(str::to_owned).to_vec(),
            exports: Box::<NoExport>::default(),
            seed: Vec::new(),
        }
    }

    /// The key that is accepted now, without the word `apk`.
    pub fn key(&self) -> String {
        self.shared.key.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Accepts another key from now on; the one before has expired.
    pub fn set_key(&self, key: &str) {
        key.clone_into(&mut self.shared.key.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Lets a virtual clock pass and does what is due by then.
    pub fn advance(&self, by: Duration) {
        self.shared.clock.advance(by);
        drop(self.shared.now());
    }

    /// Something will go wrong.
    pub fn fault(&self, rule: Rule) {
        self.shared.now().faults.add(rule);
    }

    /// The rules that have not been used up.
    pub fn faults(&self) -> Vec<Rule> {
        self.shared.now().faults.rules().to_vec()
    }

    /// Nothing will go wrong any more, unless a job's fate is sealed.
    pub fn clear_faults(&self) {
        self.shared.now().faults.clear();
    }

    /// Somebody else does something.
    ///
    /// # Errors
    /// Why it cannot be done.
    pub fn admin(&self, what: Admin) -> Result<(), String> {
        admin::apply(&mut self.shared.now(), what)
    }

    /// What has been asked since it was last cleared.
    pub fn traffic(&self) -> Traffic {
        let dct = self.shared.now();
        Traffic {
            requests: dct.faults.counts.clone(),
            log: dct.faults.log.clone(),
            open: self.counts.open.load(Ordering::SeqCst),
            most: self.counts.most.load(Ordering::SeqCst),
            ever: self.counts.ever.load(Ordering::SeqCst),
        }
    }

    /// Forgets what has been asked.
    pub fn clear_traffic(&self) {
        let mut dct = self.shared.now();
        dct.faults.counts.clear();
        dct.faults.log.clear();
    }

    /// All objects of a kind as the engine has them, lagging nothing.
    pub fn objects(&self, kind: Kind) -> Vec<Value> {
        self.shared.now().world.all_true(kind).into_iter().map(|d| Value::Object(d.clone())).collect()
    }

    /// An object as the engine has it, lagging nothing.
    pub fn object(&self, kind: Kind, id: &str) -> Option<Value> {
        self.shared.now().world.truth(kind, id).map(|d| Value::Object(d.clone()))
    }

    /// What is exported now, and to whom.
    pub fn exports(&self) -> Vec<Exported> {
        self.shared.now().exports.list()
    }

    /// The directory with the data that a VDB has now.
    pub fn data(&self, vdb: &str) -> Option<PathBuf> {
        let dct = self.shared.now();
        let engine = dct.world.text(Kind::Vdb, vdb, "engine_id")?;
        Some(dct.store.live(&engine, &dct.vdb_path(vdb)?))
    }

    /// Adds an engine with an environment, groups and a dSource.
    ///
    /// # Errors
    /// The data directory cannot be written.
    pub fn add_engine(&self, hostname: &str) -> Result<Seeded, String> {
        let mut dct = self.shared.now();
        let seeded = seed::engine(&mut dct, hostname);
        dct.save();
        seeded
    }

    /// Another behaviour from now on.
    pub fn configure(&self, change: impl FnOnce(&mut Config)) {
        change(&mut self.shared.now().config);
    }

    /// Ends as by `kill -9` and starts again: connections are reset, and what was in memory only is gone. Without a state file
    /// the world is written and read in memory.
    ///
    /// # Errors
    /// The state cannot be read back.
    pub fn restart(&self) -> io::Result<()> {
        let mut dct = self.shared.now();
        dct.world = match &dct.state {
            Some(path) => state::load(path)?.unwrap_or_default(),
            None => serde_json::from_value(serde_json::to_value(&dct.world)?)?,
        };
        dct.saved = dct.world.changes;
        resume(&mut dct);
        self.cut.send_modify(|n| *n += 1);
        Ok(())
    }

    /// Returns when the simulator has ended, which it does not do by itself.
    pub async fn wait(&mut self) {
        while self.tasks.join_next().await.is_some() {}
    }
}

impl Builder {
    /// Behaves like this.
    pub fn config(mut self, config: Config) -> Builder {
        self.config = config;
        self
    }

    /// Takes the time from here.
    pub fn clock(mut self, clock: Clock) -> Builder {
        self.clock = clock;
        self
    }

    /// Keeps its state in a file, and its certificate beside it; goes on from there if it is there.
    pub fn state(mut self, path: &Path) -> Builder {
        self.state = Some(path.to_owned());
        self
    }

    /// Accepts this key, without the word `apk`.
    pub fn key(mut self, key: &str) -> Builder {
        key.clone_into(&mut self.key);
        self
    }

    /// Listens here; port 0 for any.
    pub fn listen(mut self, at: SocketAddr) -> Builder {
        self.listen = at;
        self
    }

    /// Has these names in its certificate besides the local ones.
    pub fn names(mut self, names: &[String]) -> Builder {
        self.names.extend_from_slice(names);
        self
    }

    /// Exports in this way.
    pub fn exports(mut self, exports: Box<dyn Export>) -> Builder {
        self.exports = exports;
        self
    }

    /// Begins with one more engine that clients reach at this name, unless a state is there already.
    pub fn engine(mut self, hostname: &str) -> Builder {
        self.seed.push(hostname.to_owned());
        self
    }

    /// Starts it.
    ///
    /// # Errors
    /// The directory, the state file or the address cannot be used.
    pub async fn start(self) -> io::Result<Sim> {
        let world = self.state.as_deref().map(state::load).transpose()?.flatten();
        let fresh = world.is_none();
        let identity = match &self.state {
            Some(path) => Identity::kept(&path.with_extension("tls"), &self.names)?,
            None => Identity::new(&self.names)?,
        };
        let mut dct = Dct {
            world: world.unwrap_or_default(),
            config: self.config,
            store: Store::new(&self.data)?,
            exports: self.exports,
            faults: Faults::default(),
            state: self.state,
            saved: 0,
        };
        let mut seeded = Vec::new();
        if fresh {
            dct.world.now = self.clock.now();
            for hostname in &self.seed {
                seeded.push(seed::engine(&mut dct, hostname).map_err(io::Error::other)?);
            }
        } else {
            resume(&mut dct);
        }
        dct.save();
        let listener = TcpListener::bind(self.listen).await?;
        let at = listener.local_addr()?;
        let shared =
            Shared { dct: Arc::new(Mutex::new(dct)), clock: self.clock, key: Arc::new(Mutex::new(self.key)) };
        let (counts, cut) = (Arc::new(Connections::default()), watch::Sender::new(0));
        let mut tasks = JoinSet::new();
        tasks.spawn(server::listen(
            listener,
            identity.acceptor()?,
            shared.clone(),
            counts.clone(),
            cut.clone(),
        ));
        if matches!(shared.clock, Clock::Machine) {
            tasks.spawn(pass(shared.clone()));
        }
        Ok(Sim { url: format!("https://{at}"), ca_pem: identity.ca, seeded, shared, counts, cut, tasks })
    }
}

/// Does what is due though nobody asks, so that an export changes when its time has come.
async fn pass(shared: Shared) {
    loop {
        tokio::time::sleep(Duration::from_millis(50)).await;
        drop(shared.now());
    }
}

/// Takes up what a restart left.
fn resume(dct: &mut Dct) {
    if dct.config.on_restart == OnRestart::Abandon {
        dct.abandon_all();
    }
    if let Err(e) = dct.export_all(None) {
        tracing::error!("not all is exported again: {e}");
    }
    dct.save();
}

impl Drop for Sim {
    fn drop(&mut self) {
        // Connections are not among the tasks; they end by this.
        self.cut.send_modify(|n| *n += 1);
    }
}
