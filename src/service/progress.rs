//! How far long copies are, for whoever watches.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::broadcast;

use super::api::CopyProgress;
use super::{Inner, Service};
use crate::backend::Progress;
use crate::volume::ObjectId;

/// A stream of progress. It lags rather than holds anybody up.
pub type Watch = broadcast::Receiver<CopyProgress>;

/// All copies that are running.
pub(super) struct Board {
    running: Mutex<HashMap<ObjectId, CopyProgress>>,
    news: broadcast::Sender<CopyProgress>,
}

impl Default for Board {
    fn default() -> Self {
        Board { running: Mutex::default(), news: broadcast::Sender::new(64) }
    }
}

/// Takes the copy off the board when it ends, however it ends.
pub(super) struct Running {
    inner: Arc<Inner>,
    id: ObjectId,
    operation: &'static str,
    /// Whether the copy is whole.
    pub(super) whole: bool,
}

impl Running {
    /// Puts a copy on the board.
    pub(super) fn new(inner: &Arc<Inner>, id: impl Into<ObjectId>, operation: &'static str) -> Self {
        Running { inner: inner.clone(), id: id.into(), operation, whole: false }
    }

    /// What the backend calls while it copies.
    pub(super) fn progress(&self) -> Progress {
        let (inner, id, operation) = (self.inner.clone(), self.id, self.operation);
        Arc::new(move |done, total| {
            let now = CopyProgress { id, operation, done, total, ended: None };
            inner.progress.running.lock().unwrap_or_else(PoisonError::into_inner).insert(id, now.clone());
            // Nobody watching is no error.
            let _ = inner.progress.news.send(now);
        })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let running =
            self.inner.progress.running.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
        if let Some(mut last) = running {
            last.ended = Some(self.whole);
            if self.whole {
                last.done = last.total;
            }
            let _ = self.inner.progress.news.send(last);
        }
    }
}

impl Service {
    /// The copies that are running now, and all news of them from here on.
    pub fn watch(&self) -> (Vec<CopyProgress>, Watch) {
        let board = &self.inner.progress;
        let news = board.news.subscribe();
        (board.running.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect(), news)
    }
}

#[cfg(test)]
mod tests {
    use crate::service::api::{CreateSnapshot, RefreshFrom, SourceRef};
    use crate::service::testing::{Bench, SIZE, raw};

    #[tokio::test]
    async fn progress_says_what_each_copy_is_for() {
        // On a pool that copies by copying.
        let bench = Bench::new("ext4").await;
        let (_, mut news) = bench.service.watch();
        let mut heard = || {
            let mut operations: Vec<_> = std::iter::from_fn(|| news.try_recv().ok())
                .filter(|step| step.ended == Some(true))
                .map(|step| step.operation)
                .collect();
            operations.dedup();
            operations
        };
        let db = bench.volume("db", raw()).await;
        assert_eq!(heard(), [""; 0]);
        let request =
            CreateSnapshot { name: "monday".into(), volume: db.clone(), claim: None, requisite: Vec::new() };
        let monday = bench.service.create_snapshot(request).await.unwrap().id.to_string();
        assert_eq!(heard(), ["snapshot"]);
        let restored = Some((SourceRef::Snapshot(monday.clone()), SIZE));
        let copy = bench.create("restored", vec![raw()], &[], restored).await.unwrap();
        assert_eq!(heard(), ["restore"]);
        bench.create("cloned", vec![raw()], &[], Some((SourceRef::Volume(db.clone()), SIZE))).await.unwrap();
        assert_eq!(heard(), ["clone"]);
        bench.service.rewind_volume(&db, &monday).await.unwrap();
        assert_eq!(heard(), ["snapshot", "rewind"]);
        bench.service.refresh_volume(&copy, RefreshFrom::Snapshot(monday)).await.unwrap();
        assert_eq!(heard(), ["snapshot", "refresh"]);
    }
}
