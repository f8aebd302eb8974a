//! A server over the fake machine, for the tests of the use cases.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use super::api::{CreateSnapshot, CreateVolume, SourceRef};
use super::{Clock, NoObserver, Service, Settings};
use crate::backend::Backends;
use crate::backend::{Place, PoolSpec};
use crate::host::fake::Fake;
use crate::volume::capacity::Policy;
use crate::volume::params::CreateParams;
use crate::volume::record::Millis;
use crate::volume::size::{MIB, Range};
use crate::volume::{AccessMode, AccessType, Capability, Kind, Result};

/// The directory of the pool.
pub(crate) const POOL: &str = "/pool";
/// The size of most volumes in bytes.
pub(crate) const SIZE: u64 = 64 * MIB;
/// The id of the node.
pub(crate) const NODE: &str = "node-1";

/// A clock that goes on by itself, one millisecond per look.
#[derive(Default)]
pub(super) struct Ticking(AtomicI64);

impl Clock for Ticking {
    fn now(&self) -> Millis {
        self.0.fetch_add(1, Ordering::Relaxed)
    }
}

/// A machine with a server on it.
pub(crate) struct Bench {
    /// The machine, as the server's process has it.
    pub(crate) fake: Fake,
    /// The server.
    pub(crate) service: Service,
    clock: Arc<Ticking>,
}

impl Bench {
    /// A new machine whose pool lies on a filesystem of this kind.
    pub(crate) async fn new(fs: &str) -> Self {
        let (fake, clock) = (Fake::with_pool(POOL, fs, 8 << 30), Arc::<Ticking>::default());
        let bench = Bench { service: server(&fake, &clock), fake, clock };
        bench.service.create_pool(pool()).await.unwrap();
        bench
    }

    /// A new process on the same machine.
    pub(crate) async fn restart(&self) -> Self {
        Self::serve(self.fake.restart(), self.clock.clone()).await
    }

    /// Lets so many milliseconds pass.
    pub(crate) fn pass(&self, millis: Millis) {
        self.clock.0.fetch_add(millis, Ordering::Relaxed);
    }

    /// A server that opens the pool of a machine.
    pub(crate) async fn start(fake: Fake) -> Self {
        Self::serve(fake, Arc::default()).await
    }

    async fn serve(fake: Fake, clock: Arc<Ticking>) -> Self {
        let service = server(&fake, &clock);
        service.open_pools(vec![pool()]).await.unwrap();
        assert_eq!(service.unopened_pools(), []);
        Bench { fake, service, clock }
    }

    /// Makes a volume and gives its id.
    pub(crate) async fn volume(&self, name: &str, capability: Capability) -> String {
        self.create(name, vec![capability], &[], None).await.unwrap()
    }

    /// Makes a volume and gives its id.
    pub(crate) async fn create(
        &self,
        name: &str,
        capabilities: Vec<Capability>,
        parameters: &[(&str, &str)],
        source: Option<(SourceRef, u64)>,
    ) -> Result<String> {
        let (source, required) = source.map_or((None, SIZE), |(source, size)| (Some(source), size));
        let request = CreateVolume {
            name: name.into(),
            range: Range { required, limit: 0 },
            capabilities,
            params: params(parameters),
            source,
            requisite: Vec::new(),
        };
        Ok(self.service.create_volume(request).await?.volume.id.to_string())
    }

    /// Takes a snapshot and gives its id.
    pub(crate) async fn snapshot(&self, name: &str, volume: &str) -> Result<String> {
        let request =
            CreateSnapshot { name: name.into(), volume: volume.into(), claim: None, requisite: Vec::new() };
        Ok(self.service.create_snapshot(request).await?.id.to_string())
    }

    /// Clones a volume and gives the copy's id.
    pub(crate) async fn copy(&self, name: &str, volume: &str) -> String {
        let source = Some((SourceRef::Volume(volume.into()), SIZE));
        self.create(name, vec![mount(&[])], &[], source).await.unwrap()
    }

    /// The mounts that the kernel has, in the order of mounting.
    pub(crate) fn mounts(&self) -> Vec<PathBuf> {
        self.fake.audit().mounts
    }

    /// How many loop devices the kernel has.
    pub(crate) fn loops(&self) -> usize {
        self.fake.audit().loops.len()
    }

    /// Makes a directory as kubelet does.
    pub(crate) fn dir(&self, path: &str) -> PathBuf {
        self.fake.mkdirs(path).unwrap();
        PathBuf::from(path)
    }
}

fn server(fake: &Fake, clock: &Arc<Ticking>) -> Service {
    server_with(fake, clock, Settings { source_patience: Duration::ZERO, ..Settings::default() })
}

/// A server whose pools are not open yet.
pub(super) fn server_with(fake: &Fake, clock: &Arc<Ticking>, settings: Settings) -> Service {
    let settings = Settings { node_id: NODE.into(), ..settings };
    let policy = Policy { reserve_min: 0, ..Policy::default() };
    let opener = Backends::new(fake.host(), Path::new("/var/lib/offshoot"), policy);
    Service::new(settings, fake.host(), Arc::new(opener), clock.clone(), Arc::new(NoObserver))
}

/// The pool of the machine, as it is configured.
pub(super) fn pool() -> PoolSpec {
    PoolSpec { name: "fast".into(), place: Place::Directory(POOL.into()), parameters: BTreeMap::new() }
}

/// Parameters of a StorageClass.
pub(crate) fn params(given: &[(&str, &str)]) -> CreateParams {
    let given = given.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    CreateParams::parse(&given, &BTreeMap::new()).unwrap()
}

/// Filesystem access with these mount flags.
pub(crate) fn mount(flags: &[&str]) -> Capability {
    let flags = flags.iter().map(|flag| (*flag).to_owned()).collect();
    Capability { access: AccessType::Mount { fs: None, flags }, mode: AccessMode::SingleNodeMultiWriter }
}

/// Raw access.
pub(crate) fn raw() -> Capability {
    Capability { access: AccessType::Block, mode: AccessMode::SingleNodeMultiWriter }
}

/// The same in another mode.
pub(crate) fn in_mode(capability: Capability, mode: AccessMode) -> Capability {
    Capability { mode, ..capability }
}

/// The result's kind of error and its words.
#[track_caller]
pub(crate) fn refused<T: std::fmt::Debug>(result: Result<T>, kind: Kind, words: &str) {
    let error = result.unwrap_err();
    assert_eq!(error.kind(), kind, "{error}");
    assert!(error.to_string().contains(words), "{error:?} does not say {words:?}");
}
