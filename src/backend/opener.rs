//! The one place that knows every kind of backend, so that the use cases know none.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;

use super::local::{self, Local, PoolConfig};
use super::{Backend, Opener, Place, PoolSpec};
use crate::host::{Cause, Detached, Host};
use crate::volume::capacity::Policy;
use crate::volume::{Error, Result};

/// Opens pools of every kind on this machine.
pub struct Backends {
    host: Arc<dyn Host>,
    state_dir: PathBuf,
    policy: Policy,
}

/// What a pool's parameters say, read.
struct Parameters {
    subvolumes: bool,
    allow_volatile: bool,
}

impl Parameters {
    fn read(spec: &PoolSpec) -> Result<Self> {
        let mut read = Parameters { subvolumes: true, allow_volatile: false };
        for (key, value) in &spec.parameters {
            let target = match key.as_str() {
                "subvolumes" => &mut read.subvolumes,
                "allowVolatile" => &mut read.allow_volatile,
                _ => {
                    let why = format!("{key:?} is not known; known are: allowVolatile, subvolumes");
                    return Err(Error::invalid("parameters", why));
                }
            };
            *target = value.parse().map_err(|_| {
                Error::invalid("parameters", format!("{key} is {value:?}; give true or false"))
            })?;
        }
        Ok(read)
    }
}

impl Backends {
    /// Backends of this machine. Pools in files are mounted below `state_dir`; `policy` says what pools leave free.
    pub fn new(host: Arc<dyn Host>, state_dir: &Path, policy: Policy) -> Self {
        Backends { host, state_dir: state_dir.to_owned(), policy }
    }

    fn mountpoint(&self, spec: &PoolSpec) -> PathBuf {
        self.state_dir.join("pools").join(&spec.name)
    }
}

#[async_trait]
impl Opener for Backends {
    async fn open(&self, spec: &PoolSpec, create: bool) -> Result<Arc<dyn Backend>> {
        let read = Parameters::read(spec)?;
        let mountpoint = self.mountpoint(spec);
        let (host, state_dir, place) = (self.host.clone(), self.state_dir.clone(), spec.place.clone());
        let mut config = PoolConfig {
            name: spec.name.clone(),
            dir: PathBuf::new(),
            create,
            allow_volatile: read.allow_volatile,
            subvolumes: read.subvolumes,
            policy: self.policy,
        };
        let opened = tokio::task::spawn_blocking(move || {
            config.dir = match place {
                Place::Directory(dir) => dir,
                Place::File { file, size } => {
                    for dir in [&state_dir, &state_dir.join("pools"), &mountpoint] {
                        host.make_dir(dir)?;
                    }
                    if create {
                        let made = local::create_in_file(&*host, &file, size, &mountpoint);
                        if made.is_err() {
                            // It goes only if it is empty and nothing is mounted there.
                            let _ = host.remove_dir(&mountpoint);
                        }
                        made?;
                    } else {
                        local::attach_file_pool(&*host, &file, &mountpoint)?;
                    }
                    mountpoint
                }
            };
            Local::open(host, config)
        });
        let local =
            opened.await.map_err(|gone| Error::internal(format!("opening a pool did not end: {gone}")))??;
        Ok(Arc::new(local))
    }

    async fn close(&self, spec: &PoolSpec) -> Result<()> {
        let Place::File { file, .. } = spec.place.clone() else { return Ok(()) };
        let (host, mountpoint) = (self.host.clone(), self.mountpoint(spec));
        let closed = tokio::task::spawn_blocking(move || {
            host.unmount(&mountpoint)?;
            if host.metadata(&file).is_err_and(|error| error.cause == Cause::Invalid) {
                // Nothing can be at such a path, as below a file: the pool was never made.
                host.remove_dir(&mountpoint)?;
                return Ok(());
            }
            for device in host.loops_of(&file)? {
                if host.loop_detach(&device, &file)? == Detached::Held {
                    let text =
                        format!("{} is still held: find who has it open with lsof", device.path.display());
                    return Err(Error::precondition(text));
                }
            }
            host.remove_dir(&mountpoint)?;
            local::remove_unfinished(&*host, &file)
        });
        closed.await.map_err(|gone| Error::internal(format!("closing a pool did not end: {gone}")))?
    }
}
