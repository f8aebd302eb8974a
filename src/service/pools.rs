//! Opening, making, listing and closing pools.

use std::sync::{Arc, PoisonError};

use super::api::PoolStatus;
use super::locks::{Key, Mode};
use super::pool::{Pool, blocking};
use super::{Inner, Service};
use crate::backend::{Place, PoolSpec, Severity};
use crate::host::FileKind;
use crate::store::{self, Registry, Store};
use crate::volume::{Error, Kind, Result};

/// A pool that is configured and could not be opened.
#[derive(Debug, Clone)]
pub(super) struct Unopened {
    pub(super) spec: PoolSpec,
    pub(super) why: String,
}

impl Service {
    /// Opens the configured pools and those that the state directory remembers. One that cannot be opened does not
    /// keep the others from serving; [`Service::ready`] says why it is missing.
    pub async fn open_pools(&self, configured: Vec<PoolSpec>) -> Result<()> {
        let mut specs = configured;
        let registry = self.inner.remembered().await?;
        for unfinished in registry.making {
            // Nobody was told of it. Its place stays, and making it again goes on from what is there.
            self.inner.opener.close(&unfinished).await?;
            self.inner.remember(|registry| registry.making.retain(|spec| *spec != unfinished)).await?;
        }
        for remembered in registry.pools {
            if specs.iter().all(|spec| spec.name != remembered.name) {
                specs.push(remembered);
            }
        }
        self.inner.open_all(specs).await;
        Ok(())
    }

    /// Tries again to open the configured pools that could not be opened, such as when their disk came late.
    pub async fn open_missing_pools(&self) -> Result<()> {
        if self.unopened_pools().is_empty() {
            return Ok(());
        }
        let keys = vec![(Key::Pools, Mode::Exclusive)];
        self.work(keys, |inner| async move {
            let unopened = inner.unopened.read().unwrap_or_else(PoisonError::into_inner).clone();
            inner.open_all(unopened.into_iter().map(|unopened| unopened.spec).collect()).await;
            Ok(())
        })
        .await
    }

    /// Opens a pool, making it first if it is not there, and remembers it for the next start. Repeatable.
    pub async fn create_pool(&self, spec: PoolSpec) -> Result<PoolStatus> {
        let keys = vec![(Key::Pools, Mode::Exclusive)];
        self.work(keys, |inner| async move { inner.create_pool(spec).await }).await
    }

    /// Takes a pool off this node. Refused while it holds volumes or snapshots; the pool's place is left as it is.
    pub async fn delete_pool(&self, name_or_id: &str) -> Result<()> {
        let name = name_or_id.to_owned();
        let keys = vec![(Key::Pools, Mode::Exclusive)];
        self.work(keys, |inner| async move { inner.delete_pool(&name).await }).await
    }

    /// All open pools with their numbers, by id.
    pub async fn list_pools(&self) -> Vec<PoolStatus> {
        let mut all = Vec::new();
        for pool in self.inner.pools() {
            all.push(self.inner.pool_status(&pool).await);
        }
        all
    }

    /// `Ok` when every configured pool is open and can be worked with; else why not.
    pub async fn ready(&self) -> Result<(), String> {
        let unopened = self.inner.unopened.read().unwrap_or_else(PoisonError::into_inner).first().cloned();
        if let Some(unopened) = unopened {
            return Err(format!("pool {} is not open: {}", unopened.spec.name, unopened.why));
        }
        for pool in self.inner.pools() {
            let faults = pool.backend.faults().await;
            if let Some(fault) = faults.into_iter().find(|fault| fault.severity >= Severity::Inaccessible) {
                return Err(format!("pool {}: {}", pool.backend.info().name, fault.message));
            }
        }
        Ok(())
    }

    /// Names and reasons of the pools that are configured and not open.
    pub fn unopened_pools(&self) -> Vec<(String, String)> {
        let unopened = self.inner.unopened.read().unwrap_or_else(PoisonError::into_inner);
        unopened.iter().map(|unopened| (unopened.spec.name.clone(), unopened.why.clone())).collect()
    }
}

impl Inner {
    /// The open pool of that name.
    pub(super) fn pool_named(&self, name: &str) -> Result<Arc<Pool>> {
        let pools = self.pools();
        let found = pools.iter().find(|pool| pool.backend.info().name == name).cloned();
        found.ok_or_else(|| {
            let names: Vec<_> = pools.iter().map(|pool| pool.backend.info().name.as_str()).collect();
            let why = format!(
                "no pool {name:?} is open on node {}; open are: {}",
                self.settings.node_id,
                names.join(", ")
            );
            // Another node may have a pool of that name, so the scheduler should look there.
            Error::new(Kind::Exhausted, format!("parameters.pool: {why}"))
        })
    }

    async fn remembered(&self) -> Result<Registry> {
        let Some(dir) = self.settings.state_dir.clone() else { return Ok(Registry::default()) };
        let host = self.host.clone();
        blocking(move || store::read_pools(&*host, &dir)).await
    }

    async fn remember(&self, change: impl FnOnce(&mut Registry)) -> Result<()> {
        let Some(dir) = self.settings.state_dir.clone() else { return Ok(()) };
        let before = self.remembered().await?;
        let mut registry = before.clone();
        change(&mut registry);
        if registry == before {
            return Ok(());
        }
        let host = self.host.clone();
        blocking(move || store::write_pools(&*host, &dir, &registry)).await
    }

    /// Opens configured pools. What was interrupted is recovered when all are open: a group in one pool has members in others.
    async fn open_all(self: &Arc<Self>, specs: Vec<PoolSpec>) {
        let mut open = Vec::new();
        for spec in specs {
            match self.open_configured(&spec).await {
                Ok(pool) => open.push(pool),
                Err(error) => self.stays_unopened(spec, &error),
            }
        }
        for pool in open {
            match self.recover_opened(&pool).await {
                Ok(()) => self.is_opened(&pool.spec.name),
                Err(error) => self.stays_unopened(pool.spec.clone(), &error),
            }
        }
    }

    /// Until a pool is open and recovered it is among these, so that nothing of it is taken for gone.
    fn stays_unopened(&self, spec: PoolSpec, error: &Error) {
        let mut unopened = self.unopened.write().unwrap_or_else(PoisonError::into_inner);
        let why = error.to_string();
        match unopened.iter_mut().find(|unopened| unopened.spec.name == spec.name) {
            Some(known) => *known = Unopened { spec, why },
            None => {
                tracing::error!(pool = spec.name, %error, "cannot open a pool");
                unopened.push(Unopened { spec, why });
            }
        }
    }

    fn is_opened(&self, name: &str) {
        let mut unopened = self.unopened.write().unwrap_or_else(PoisonError::into_inner);
        unopened.retain(|unopened| unopened.spec.name != name);
    }

    /// Opens a pool that is configured; recovering it is the next step.
    ///
    /// Where the settings say so, an empty directory becomes one: in a cluster nobody logs in on a node to make it. A
    /// directory that is not there stays a fault, since the disk that it is to be on may not be mounted.
    async fn open_configured(self: &Arc<Self>, spec: &PoolSpec) -> Result<Arc<Pool>> {
        let create = match &spec.place {
            Place::Directory(dir) if self.settings.make_pools => {
                let (host, dir) = (self.host.clone(), dir.clone());
                // Making a pool may have been broken off.
                blocking(move || {
                    let there = host.metadata(&dir)?.is_some_and(|meta| meta.kind == FileKind::Directory);
                    Ok(there && host.read_dir(&dir)?.iter().all(|entry| entry.name.ends_with(".json.new")))
                })
                .await?
            }
            _ => false,
        };
        self.open_unrecovered(spec, create).await
    }

    async fn open_pool(self: &Arc<Self>, spec: &PoolSpec, create: bool) -> Result<Arc<Pool>> {
        let pool = self.open_unrecovered(spec, create).await?;
        self.recover_opened(&pool).await?;
        Ok(pool)
    }

    async fn recover_opened(self: &Arc<Self>, pool: &Arc<Pool>) -> Result<()> {
        if let Err(error) = self.recover(pool).await {
            self.pools.write().unwrap_or_else(PoisonError::into_inner).remove(&pool.id());
            self.catalog_mut().remove_pool(pool.id());
            return Err(error.context(format!("recover pool {}", pool.spec.name)));
        }
        Ok(())
    }

    async fn open_unrecovered(self: &Arc<Self>, spec: &PoolSpec, create: bool) -> Result<Arc<Pool>> {
        if self.pools().iter().any(|pool| pool.backend.info().name == spec.name) {
            return Err(Error::new(
                Kind::AlreadyExists,
                format!("name: pool {:?} is open already", spec.name),
            ));
        }
        self.refuse_nested(spec)?;
        let backend = self.opener.open(spec, create).await?;
        let (id, root) = (backend.info().id, backend.records().to_owned());
        if self.pool(id).is_ok() {
            let text = format!("pool {id} at {} is open already under another name", root.display());
            return Err(Error::new(Kind::AlreadyExists, text));
        }
        let host = self.host.clone();
        let (store, mut loaded) = blocking(move || Store::open(host, &root)).await?;
        let damaged = std::mem::take(&mut loaded.damaged);
        for record in &damaged {
            tracing::error!(id = %record.id, path = %record.path.display(), why = record.why, "a record cannot be read; it and its bytes are left alone");
        }
        let unfinished = std::mem::take(&mut loaded.unfinished);
        self.adopt(loaded);
        let pool = Arc::new(Pool::new(spec.clone(), backend, store, damaged, unfinished));
        self.pools.write().unwrap_or_else(PoisonError::into_inner).insert(id, pool.clone());
        Ok(pool)
    }

    /// What lies in a pool is the pool's own; another pool there would be taken for left-overs.
    fn refuse_nested(&self, spec: &PoolSpec) -> Result<()> {
        let (field, at) = match &spec.place {
            Place::Directory(dir) => ("path", dir),
            Place::File { file, .. } => ("file.file", file),
        };
        for pool in self.pools() {
            let root = pool.backend.records();
            if at.starts_with(root) && at != root {
                let why = format!(
                    "{} lies in pool {}; give a place outside",
                    at.display(),
                    pool.backend.info().name
                );
                return Err(Error::invalid(field, why));
            }
        }
        Ok(())
    }

    async fn create_pool(self: &Arc<Self>, spec: PoolSpec) -> Result<PoolStatus> {
        let open = self.pools().into_iter().find(|pool| pool.backend.info().name == spec.name);
        if let Some(pool) = open {
            if self.remembered().await?.pools.contains(&spec) {
                return Ok(self.pool_status(&pool).await);
            }
            let text =
                format!("name: pool {:?} is open already, from another place: use another name", spec.name);
            return Err(Error::new(Kind::AlreadyExists, text));
        }
        // The intent comes first, so that a crash leaves no attached pool of which nobody knows.
        let intent = spec.clone();
        self.remember(move |registry| {
            registry.making.retain(|other| *other != intent);
            registry.making.push(intent);
        })
        .await?;
        let made = self.open_pool(&spec, true).await;
        if made.is_err() {
            self.opener.close(&spec).await.map_err(|error| error.with_kind(Kind::Unavailable))?;
        }
        let (kept, done) = (made.is_ok(), spec.clone());
        let told = self.remember(move |registry| {
            registry.making.retain(|other| *other != done);
            if kept {
                registry.pools.retain(|other| other.name != done.name);
                registry.pools.push(done);
            }
        });
        if let Err(error) = told.await {
            if let Ok(pool) = &made {
                // The next start would take it off, so nothing may be put into it.
                self.pools.write().unwrap_or_else(PoisonError::into_inner).remove(&pool.id());
                self.catalog_mut().remove_pool(pool.id());
            }
            return Err(error.with_kind(Kind::Unavailable));
        }
        let pool = made?;
        self.is_opened(&spec.name);
        Ok(self.pool_status(&pool).await)
    }

    async fn delete_pool(self: &Arc<Self>, name_or_id: &str) -> Result<()> {
        let found = self.pools().into_iter().find(|pool| {
            let info = pool.backend.info();
            info.name == name_or_id || info.id.as_str() == name_or_id
        });
        let name = match &found {
            Some(pool) => pool.backend.info().name.clone(),
            None => name_or_id.to_owned(),
        };
        let mut taken = None;
        if let Some(pool) = found {
            let status = self.pool_status(&pool).await;
            if status.volumes + status.snapshots > 0 || !pool.damaged.is_empty() {
                let text = format!(
                    "pool {name} holds {} volumes and {} snapshots: delete them first",
                    status.volumes, status.snapshots
                );
                return Err(Error::precondition(text));
            }
            self.pools.write().unwrap_or_else(PoisonError::into_inner).remove(&pool.id());
            taken = Some(pool.spec.clone());
        }
        self.is_opened(&name);
        let spec = match taken {
            Some(spec) => Some(spec),
            None => self.remembered().await?.pools.into_iter().find(|spec| spec.name == name),
        };
        let Some(spec) = spec else { return Ok(()) };
        let forgotten = async {
            self.opener.close(&spec).await?;
            self.remember(|registry| registry.pools.retain(|other| other.name != name)).await
        };
        if let Err(error) = forgotten.await {
            // It goes on being what it was, so that a retry finds it by its id too.
            if let Err(also) = self.open_pool(&spec, false).await {
                self.stays_unopened(spec, &also);
            }
            return Err(error);
        }
        Ok(())
    }

    async fn pool_status(&self, pool: &Pool) -> PoolStatus {
        let mut faults = pool.backend.faults().await;
        let capacity = match pool.backend.capacity().await {
            Ok(capacity) => capacity,
            Err(error) => {
                let message = error.to_string();
                faults.push(crate::backend::Fault {
                    severity: Severity::Inaccessible,
                    reason: "PoolUnreadable",
                    message,
                });
                crate::backend::Capacity::default()
            }
        };
        let buffered = pool.backend.buffered_devices().await.ok();
        let catalog = self.catalog();
        let id = pool.id();
        let volumes = catalog.volumes().values().filter(|volume| volume.id.pool() == id);
        let (count, logical) = volumes.fold((0, 0), |(count, sum), volume| (count + 1, sum + volume.size));
        let snapshots = catalog.snapshots().keys().filter(|snapshot| snapshot.pool() == id).count() as u64;
        PoolStatus {
            info: pool.backend.info().clone(),
            capacity,
            logical,
            volumes: count,
            snapshots,
            buffered,
            faults,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::Settings;
    use super::super::testing::{POOL, pool, server_with};
    use crate::host::fake::Fake;

    #[tokio::test]
    async fn an_empty_directory_becomes_a_pool_where_nobody_can_make_it_one() {
        async fn check(make_pools: bool, prepare: fn(&Fake), expect: Result<(), &str>) {
            let fake = Fake::with_pool(POOL, "xfs", 8 << 30);
            prepare(&fake);
            let service = server_with(&fake, &Arc::default(), Settings { make_pools, ..Settings::default() });
            service.open_pools(vec![pool()]).await.unwrap();
            let unopened = service.unopened_pools();
            match expect {
                Ok(()) => assert_eq!(unopened, []),
                Err(why) => assert!(unopened[0].1.contains(why), "{unopened:?}"),
            }
        }
        check(true, |_| (), Ok(())).await;
        check(false, |_| (), Err("is no pool yet")).await;
        check(true, |fake| fake.mkdirs(format!("{POOL}/somebody-s")).unwrap(), Err("is no pool yet")).await;
    }
}
