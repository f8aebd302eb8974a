//! An open pool: its bytes and its records, with blocking calls moved off the async threads.

use std::sync::Arc;

use crate::backend::{Backend, PoolSpec};
use crate::store::{Damaged, Record, Store, Unfinished};
use crate::volume::{Error, Group, ObjectId, PoolId, Result, Snapshot, Volume};

/// A live record, owned, so that it can go to another thread.
#[derive(Clone)]
pub(super) enum Live {
    Volume(Arc<Volume>),
    Snapshot(Arc<Snapshot>),
    Group(Arc<Group>),
}

impl Live {
    fn record(&self) -> Record<'_> {
        match self {
            Live::Volume(volume) => Record::Volume(volume),
            Live::Snapshot(snapshot) => Record::Snapshot(snapshot),
            Live::Group(group) => Record::Group(group),
        }
    }
}

impl From<&Arc<Volume>> for Live {
    fn from(volume: &Arc<Volume>) -> Self {
        Live::Volume(volume.clone())
    }
}

impl From<&Arc<Snapshot>> for Live {
    fn from(snapshot: &Arc<Snapshot>) -> Self {
        Live::Snapshot(snapshot.clone())
    }
}

impl From<&Arc<Group>> for Live {
    fn from(group: &Arc<Group>) -> Self {
        Live::Group(group.clone())
    }
}

/// A pool that is open.
pub(super) struct Pool {
    /// What it was opened by.
    pub(super) spec: PoolSpec,
    /// Its bytes.
    pub(super) backend: Arc<dyn Backend>,
    /// Records that could not be read at start.
    pub(super) damaged: Vec<Damaged>,
    /// Objects of which a power cut left only the name.
    pub(super) unfinished: Vec<Unfinished>,
    store: Arc<Store>,
}

impl Pool {
    pub(super) fn new(
        spec: PoolSpec,
        backend: Arc<dyn Backend>,
        store: Store,
        damaged: Vec<Damaged>,
        unfinished: Vec<Unfinished>,
    ) -> Self {
        Pool { spec, backend, damaged, unfinished, store: Arc::new(store) }
    }

    pub(super) fn id(&self) -> PoolId {
        self.backend.info().id
    }

    /// See [`Store::begin`].
    pub(super) async fn begin(&self, record: impl Into<Live>) -> Result<()> {
        let record = record.into();
        self.store(move |store| store.begin(record.record())).await
    }

    /// See [`Store::commit`].
    pub(super) async fn commit(&self, id: ObjectId) -> Result<()> {
        self.store(move |store| store.commit(id)).await
    }

    /// See [`Store::put`].
    pub(super) async fn put(&self, record: impl Into<Live>) -> Result<()> {
        let record = record.into();
        self.store(move |store| store.put(record.record())).await
    }

    /// See [`Store::amend`].
    pub(super) async fn amend(&self, record: impl Into<Live>) -> Result<()> {
        let record = record.into();
        self.store(move |store| store.amend(record.record())).await
    }

    /// See [`Store::condemn`].
    pub(super) async fn condemn(&self, id: ObjectId) -> Result<bool> {
        self.store(move |store| store.condemn(id)).await
    }

    /// See [`Store::forget`].
    pub(super) async fn forget(&self, id: ObjectId) -> Result<()> {
        self.store(move |store| store.forget(id)).await
    }

    async fn store<T: Send + 'static>(
        &self,
        call: impl FnOnce(&Store) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let store = self.store.clone();
        blocking(move || call(&store)).await
    }
}

/// Runs a call that blocks on a thread made for it.
pub(crate) async fn blocking<T: Send + 'static>(
    call: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    match tokio::task::spawn_blocking(call).await {
        Ok(result) => result,
        Err(gone) => Err(Error::internal(format!(
            "the work ended without an answer ({gone}): look at the server's log"
        ))),
    }
}
