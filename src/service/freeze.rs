//! Freezing mounted filesystems for the moment of a copy.
//!
//! A freeze that leaks stops every writer on the node, so three things end it: the end of the copy, a watchdog when
//! the copy takes too long, and the next start of the server. A thaw that fails is tried again until it succeeds. A
//! copy during which the watchdog struck is not a copy of one moment and is thrown away.

use std::future::Future;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::Inner;
use super::pool::blocking;
use crate::host::Cause;
use crate::volume::{Error, Kind, Result, Volume};

/// How often a thaw is tried before the copy's caller gets its answer.
const TRIES: u32 = 3;
/// How long to wait between further tries, which nobody waits for.
const PAUSE: Duration = Duration::from_secs(1);

struct Frozen {
    inner: Arc<Inner>,
    targets: Mutex<Vec<PathBuf>>,
    struck: AtomicBool,
}

impl Frozen {
    /// Thaws all that is frozen. What cannot be thawed now stays on the list; `false` if there is any.
    fn thaw(&self) -> bool {
        let mut targets = self.targets.lock().unwrap_or_else(PoisonError::into_inner);
        targets.retain(|target| {
            for _ in 0..TRIES {
                match self.inner.host.thaw(target) {
                    Ok(_) => return false,
                    // No longer mounted, or no longer us.
                    Err(error) if matches!(error.cause, Cause::NotFound | Cause::Invalid | Cause::Crashed) => return false,
                    Err(error) => {
                        tracing::error!(target = %target.display(), %error, "a filesystem could not be thawed; run fsfreeze -u");
                    }
                }
            }
            true
        });
        targets.is_empty()
    }

    /// Goes on thawing until everything is thawed, or is no longer mounted.
    async fn thaw_all(self: Arc<Self>) {
        loop {
            let frozen = self.clone();
            match blocking(move || Ok(frozen.thaw())).await {
                Ok(false) => tokio::time::sleep(PAUSE).await,
                _ => return,
            }
        }
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        self.thaw();
    }
}

impl Inner {
    /// Runs `copy` while every mounted one of `volumes` is frozen. Thaws all of them whatever happens.
    pub(super) async fn frozen<T>(
        self: &Arc<Self>,
        volumes: &[Arc<Volume>],
        copy: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let mut targets = Vec::new();
        for volume in volumes {
            let pool = self.pool(volume.id.pool())?;
            if !self.uses.any(volume.id) || !pool.backend.needs_freeze(volume).await? {
                continue;
            }
            targets.extend(self.shown_filesystem(volume).await?);
        }
        if targets.is_empty() {
            return copy.await;
        }
        let start = Instant::now();
        let frozen = Arc::new(Frozen {
            inner: self.clone(),
            targets: Mutex::default(),
            struck: AtomicBool::new(false),
        });
        let freezing = frozen.clone();
        let watchdog = {
            let frozen = frozen.clone();
            let limit = self.settings.freeze_limit;
            tokio::spawn(async move {
                tokio::time::sleep(limit).await;
                frozen.struck.store(true, Ordering::SeqCst);
                frozen.thaw_all().await;
            })
        };
        let froze = blocking(move || {
            for target in targets {
                // One that somebody else froze is theirs to thaw.
                if freezing.inner.host.freeze(&target)? {
                    freezing.targets.lock().unwrap_or_else(PoisonError::into_inner).push(target);
                }
            }
            Ok(())
        });
        let result = match froze.await {
            Ok(()) => copy.await,
            Err(error) => Err(error.context("freeze before the copy")),
        };
        watchdog.abort();
        let thawing = frozen.clone();
        if !blocking(move || Ok(thawing.thaw())).await? {
            tokio::spawn(frozen.clone().thaw_all());
        }
        self.observer.froze(start.elapsed());
        if result.is_ok() && frozen.struck.load(Ordering::SeqCst) {
            return Err(Error::new(
                Kind::Exhausted,
                format!(
                    "the copy took longer than the {} ms that a filesystem may be frozen: the pool is too slow now, try again later",
                    self.settings.freeze_limit.as_millis()
                ),
            ));
        }
        result
    }
}
