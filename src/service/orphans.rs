//! Left-overs: what lies in a pool and no record explains.
//!
//! Nothing is removed because it looks unneeded. A left-over is *proven* when its name is one that only interrupted
//! work of this driver uses, and no record speaks of it; only those are ever reaped, and each is looked at again, under
//! the pool's lock and that of its object, right before.

use std::collections::HashSet;

use super::locks::{Key, Mode};
use super::pool::Pool;
use super::{Inner, Service};
use crate::backend::{Known, Leftover};
use crate::volume::{PoolId, Result};

/// A left-over with the pool that it lies in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Orphan {
    /// The pool.
    pub pool: PoolId,
    /// What it is.
    pub leftover: Leftover,
}

/// What a reaping did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reaped {
    /// Removed, or what would be in a dry run.
    pub reaped: Vec<Orphan>,
    /// Kept, because not proven, not asked for or not removable.
    pub kept: Vec<Orphan>,
}

impl Service {
    /// Everything in the pools that no record explains, and records that cannot be read.
    pub async fn list_orphans(&self) -> Result<Vec<Orphan>> {
        let mut all = Vec::new();
        for pool in self.inner.pools() {
            all.extend(self.inner.orphans_of(&pool).await?);
        }
        Ok(all)
    }

    /// Removes proven left-overs: those of `ids`, or all if it is empty. With `dry_run` only says which.
    pub async fn reap_orphans(&self, ids: Vec<String>, dry_run: bool) -> Result<Reaped> {
        let ids: HashSet<String> = ids.into_iter().collect();
        let mut result = Reaped::default();
        for pool in self.inner.pools() {
            let keys = vec![(Key::Pool(pool.id()), Mode::Exclusive)];
            let ids = ids.clone();
            let of_pool =
                self.work(keys, move |inner| async move { inner.reap(&pool, &ids, dry_run).await }).await?;
            result.reaped.extend(of_pool.reaped);
            result.kept.extend(of_pool.kept);
        }
        Ok(result)
    }
}

impl Inner {
    async fn orphans_of(&self, pool: &Pool) -> Result<Vec<Orphan>> {
        let damaged: HashSet<_> = pool.damaged.iter().map(|damaged| damaged.id).collect();
        let volume = |id| self.catalog().volume(id).is_some() || damaged.contains(&id.into());
        let snapshot = |id| self.catalog().snapshot(id).is_some() || damaged.contains(&id.into());
        let known = Known { volumes: &volume, snapshots: &snapshot };
        let found = pool.backend.leftovers(known).await?;
        let records = pool.damaged.iter().map(|damaged| Leftover {
            id: damaged.id.to_string(),
            kind: "damaged record",
            path: damaged.path.clone(),
            size: 0,
            reason: damaged.why.clone(),
            proven: false,
        });
        let orphan = |leftover| Orphan { pool: pool.id(), leftover };
        Ok(found.into_iter().chain(records).map(orphan).collect())
    }

    async fn reap(&self, pool: &Pool, ids: &HashSet<String>, dry_run: bool) -> Result<Reaped> {
        let mut result = Reaped::default();
        for orphan in self.orphans_of(pool).await? {
            let asked = ids.is_empty() || ids.contains(&orphan.leftover.id);
            if !asked || !orphan.leftover.proven {
                result.kept.push(orphan);
                continue;
            }
            if dry_run {
                result.reaped.push(orphan);
                continue;
            }
            match pool.backend.reap(&orphan.leftover).await {
                Ok(()) => result.reaped.push(orphan),
                Err(error) => {
                    tracing::error!(orphan = %orphan.leftover.id, %error, "cannot remove a left-over");
                    result.kept.push(orphan);
                }
            }
        }
        Ok(result)
    }
}
