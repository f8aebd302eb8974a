//! What all workers have in common: the client, what was acknowledged, and repeating calls as callers do.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tonic::{Code, Status};

use crate::kernel::calls::{Answer, Client};

/// A call that does not succeed for so long, restarts and all, is wedged.
pub(super) const LIMIT: Duration = Duration::from_secs(90);

/// What all workers have in common.
pub(crate) struct Shared {
    pub(crate) client: Client,
    end: AtomicBool,
    failed: AtomicBool,
    /// What was acknowledged and not begun to be deleted.
    pub(super) alive: Mutex<BTreeSet<String>>,
    done: Mutex<BTreeMap<&'static str, u32>>,
    retries: Mutex<BTreeMap<String, u32>>,
    notes: Mutex<Vec<String>>,
}

impl Shared {
    pub(crate) fn new(client: Client) -> Shared {
        Shared {
            client,
            end: AtomicBool::default(),
            failed: AtomicBool::default(),
            alive: Mutex::default(),
            done: Mutex::default(),
            retries: Mutex::default(),
            notes: Mutex::default(),
        }
    }

    pub(crate) fn finish(&self) {
        self.end.store(true, Ordering::Relaxed);
    }

    pub(crate) fn ends(&self) -> bool {
        self.end.load(Ordering::Relaxed) || self.failed()
    }

    pub(crate) fn fail(&self) {
        self.failed.store(true, Ordering::Relaxed);
    }

    pub(crate) fn failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }

    pub(crate) fn note(&self, note: String) {
        self.notes.lock().unwrap().push(note);
    }

    pub(crate) fn summary(&self) -> String {
        format!(
            "calls {:?}; repeated {:?}; {}",
            self.done.lock().unwrap(),
            self.retries.lock().unwrap(),
            self.notes.lock().unwrap().join("; ")
        )
    }

    fn count(&self, what: &'static str) {
        *self.done.lock().unwrap().entry(what).or_default() += 1;
    }

    /// Repeats a call until it succeeds; the error is one that a caller would not repeat the call after.
    pub(crate) async fn retry<T>(
        &self,
        what: &'static str,
        call: impl AsyncFn() -> Answer<T>,
    ) -> Result<T, String> {
        self.retry_but(what, &[], call).await?.map_err(|status| format!("{what}: {status}"))
    }

    /// As [`Shared::retry`]; the codes of `but` are an answer too.
    pub(super) async fn retry_but<T>(
        &self,
        what: &'static str,
        but: &[Code],
        call: impl AsyncFn() -> Answer<T>,
    ) -> Result<Answer<T>, String> {
        let begun = Instant::now();
        loop {
            let status = match tokio::time::timeout(LIMIT, call()).await {
                Ok(Ok(answer)) => {
                    self.count(what);
                    return Ok(Ok(answer));
                }
                Ok(Err(status)) if but.contains(&status.code()) => return Ok(Err(status)),
                Ok(Err(status)) => status,
                Err(_) => return Err(format!("{what}: no answer for {LIMIT:?}")),
            };
            let why = if is_lost(&status) { "connection".to_owned() } else { format!("{:?}", status.code()) };
            let again = is_lost(&status) || matches!(status.code(), Code::Unavailable | Code::Aborted);
            if !again || begun.elapsed() > LIMIT {
                return Err(format!("{what}: {:?}: {}", status.code(), status.message()));
            }
            *self.retries.lock().unwrap().entry(why).or_default() += 1;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// Whether the connection broke, as opposed to an answer of the server.
fn is_lost(status: &Status) -> bool {
    std::error::Error::source(status).is_some()
}
