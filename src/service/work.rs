//! Running work: under its locks, as its own task.

use std::future::Future;
use std::sync::Arc;

use tokio_util::task::TaskTracker;
use tracing::Instrument;

use super::locks::{Held, Key, Mode};
use super::{Inner, Service};
use crate::volume::{Error, Kind, ObjectId, Result};

/// An exclusive lock on an object.
pub(super) fn exclusive(id: impl Into<ObjectId>) -> (Key, Mode) {
    (Key::Object(id.into()), Mode::Exclusive)
}

/// A shared lock on an object: it must stay, but is only read from.
pub(super) fn shared(id: impl Into<ObjectId>) -> (Key, Mode) {
    (Key::Object(id.into()), Mode::Shared)
}

/// The answer to a failed step, after its undoing: the step's own error, which may be final, only if that worked.
pub(super) fn undone(what: ObjectId, error: Error, undo: Result<()>) -> Error {
    let Err(undo) = undo else { return error };
    tracing::error!(%what, %error, %undo, "a failed creation could not be undone; the next attempt tries again");
    let text = format!("{error}; what was made could not be removed ({undo}): try again");
    Error::new(Kind::Unavailable, text)
}

impl Service {
    /// Takes the locks, then runs `job` to its end whatever becomes of the caller.
    pub(super) async fn work<T, F>(
        &self,
        keys: Vec<(Key, Mode)>,
        job: impl FnOnce(Arc<Inner>) -> F,
    ) -> Result<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let held = self.inner.locks.take(keys).await?;
        carry(&self.inner.tracker, held, job(self.inner.clone())).await
    }
}

/// Runs `job` to its end whatever becomes of the caller; `held` is given back after it.
pub(crate) async fn carry<T, F>(tracker: &TaskTracker, held: Held, job: F) -> Result<T>
where
    T: Send + 'static,
    F: Future<Output = Result<T>> + Send + 'static,
{
    let task = tracker.spawn(
        async move {
            let result = job.await;
            drop(held);
            result
        }
        .in_current_span(),
    );
    match task.await {
        Ok(result) => result,
        Err(gone) => Err(Error::internal(format!(
            "the work ended without an answer ({gone}): look at the server's log"
        ))),
    }
}
