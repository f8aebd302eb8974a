//! Calls that may wait for a server that never answers.
//!
//! A thread that waits for a dead NFS server cannot be ended from here. So such a call gets a thread of its own and the
//! caller a limit; when the limit has passed, the thread stays behind, and while it does no second one is started for the
//! same thing: at most one thread waits for each volume and kind of call, however often kubelet asks. These are no
//! threads of the runtime: a stopping server would wait for those.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::host::Host;
use crate::volume::{Error, Kind, Result};

type Key = (String, &'static str);

/// Starts such calls.
pub(super) struct Slow {
    host: Arc<dyn Host>,
    waiting: Arc<Mutex<HashMap<Key, Instant>>>,
}

impl Slow {
    pub(super) fn new(host: Arc<dyn Host>) -> Slow {
        Slow { host, waiting: Arc::default() }
    }

    /// Runs `work` for at most `limit`. [`Kind::Unavailable`] when the limit has passed, and at once while an earlier
    /// `what` of the same `volume` still waits.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        volume: &str,
        what: &'static str,
        limit: Duration,
        work: impl FnOnce(&dyn Host) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let key = (volume.to_owned(), what);
        let waits = |since: Duration| {
            let text = format!(
                "{what} of volume {volume} waits for its NFS server since {} s: look at the server and at the network to it",
                since.as_secs()
            );
            Err(Error::new(Kind::Unavailable, text))
        };
        {
            let mut waiting = self.lock();
            if let Some(since) = waiting.get(&key) {
                return waits(since.elapsed());
            }
            waiting.insert(key.clone(), Instant::now());
        }
        let (send, done) = oneshot::channel();
        let (host, ended) = (self.host.clone(), End { waiting: self.waiting.clone(), key });
        let thread = std::thread::Builder::new().name("offshoot-nfs".to_owned()).spawn(move || {
            let result = work(host.as_ref());
            drop(ended);
            let _nobody_waits_any_more = send.send(result);
        });
        if let Err(error) = thread {
            return Err(Error::new(
                Kind::Unavailable,
                format!("cannot start a thread for the {what}: {error}"),
            ));
        }
        match tokio::time::timeout(limit, done).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(Error::internal(format!("the {what} met a bug; the log has the details"))),
            Err(_) => waits(limit),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Key, Instant>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Notes that a call has ended, also where it panicked or never started.
struct End {
    waiting: Arc<Mutex<HashMap<Key, Instant>>>,
    key: Key,
}

impl Drop for End {
    fn drop(&mut self) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}
