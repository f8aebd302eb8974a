//! Locks by key, held by the work and not by the request.
//!
//! Two calls about different objects never wait for each other. A call that finds its object locked waits a short
//! while, since most work takes milliseconds, and then answers busy.

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};

use crate::volume::{Error, Kind, ObjectId, PoolId, Result};

/// What can be locked.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Key {
    /// A caller's name for a volume that is being made.
    VolumeName(Arc<str>),
    /// A caller's name for a snapshot or group.
    SnapshotName(Arc<str>),
    /// The configuration of pools.
    Pools,
    /// A pool's left-overs.
    Pool(PoolId),
    /// An object.
    Object(ObjectId),
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Key::VolumeName(name) => write!(f, "a volume named {name:?}"),
            Key::SnapshotName(name) => write!(f, "a snapshot named {name:?}"),
            Key::Pools => f.write_str("the pools"),
            Key::Pool(id) => write!(f, "pool {id}"),
            Key::Object(id) => write!(f, "{id}"),
        }
    }
}

/// Whether others may hold the same key at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Mode {
    /// Others may share it: the object is only read from.
    Shared,
    /// Nobody else has it.
    Exclusive,
}

enum Guard {
    Shared(#[allow(dead_code, reason = "held for its Drop")] OwnedRwLockReadGuard<()>),
    Exclusive(#[allow(dead_code, reason = "held for its Drop")] OwnedRwLockWriteGuard<()>),
}

/// Held locks; dropping them gives them back.
pub(crate) struct Held(#[allow(dead_code, reason = "held for its Drop")] Vec<Guard>);

/// All locks of a server, by whatever its use cases lock.
pub(crate) struct Locks<K> {
    table: Mutex<HashMap<K, Weak<RwLock<()>>>>,
    wait: Duration,
}

impl<K: Clone + Eq + Ord + Hash + fmt::Display> Locks<K> {
    /// Locks that a call waits for at most `wait`.
    pub(crate) fn new(wait: Duration) -> Self {
        Locks { table: Mutex::new(HashMap::new()), wait }
    }

    fn lock_of(&self, key: &K) -> Arc<RwLock<()>> {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lock) = table.get(key).and_then(Weak::upgrade) {
            return lock;
        }
        // Locks that nobody holds are dropped when the table would grow over them.
        if table.len() == table.capacity() {
            table.retain(|_, lock| lock.strong_count() > 0);
        }
        let lock = Arc::new(RwLock::new(()));
        table.insert(key.clone(), Arc::downgrade(&lock));
        lock
    }

    /// Takes all `keys`, in one order for all callers so that no two wait for each other.
    pub(crate) async fn take(&self, mut keys: Vec<(K, Mode)>) -> Result<Held> {
        // The strongest wish for a key comes first and the weaker ones are dropped.
        keys.sort_unstable_by(|(a, x), (b, y)| a.cmp(b).then(y.cmp(x)));
        keys.dedup_by(|(later, _), (first, _)| later == first);
        let deadline = tokio::time::Instant::now() + self.wait;
        let mut held = Vec::with_capacity(keys.len());
        for (key, mode) in keys {
            let lock = self.lock_of(&key);
            let guard = tokio::time::timeout_at(deadline, async {
                match mode {
                    Mode::Shared => Guard::Shared(lock.read_owned().await),
                    Mode::Exclusive => Guard::Exclusive(lock.write_owned().await),
                }
            });
            let busy = |_| Error::new(Kind::Busy, format!("other work on {key} is running: ask again later"));
            held.push(guard.await.map_err(busy)?);
        }
        Ok(Held(held))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(name: &str, mode: Mode) -> Vec<(Key, Mode)> {
        vec![(Key::VolumeName(name.into()), mode)]
    }

    #[tokio::test(start_paused = true)]
    async fn a_locked_key_answers_busy_and_is_free_after_the_work() {
        let locks = Locks::new(Duration::from_secs(1));
        let held = locks.take(name("a", Mode::Exclusive)).await.unwrap();
        let refused = locks.take(name("a", Mode::Shared)).await.err().unwrap();
        assert_eq!(refused.kind(), Kind::Busy);
        assert!(refused.to_string().contains("\"a\""));
        locks.take(name("b", Mode::Exclusive)).await.unwrap();
        drop(held);
        locks.take(name("a", Mode::Exclusive)).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn readers_share_and_a_doubled_key_does_not_wait_for_itself() {
        let locks = Locks::new(Duration::from_secs(1));
        let one = locks.take(name("a", Mode::Shared)).await.unwrap();
        let two = locks.take(name("a", Mode::Shared)).await.unwrap();
        drop((one, two));
        let twice = [name("a", Mode::Shared), name("a", Mode::Exclusive)].concat();
        let held = locks.take(twice).await.unwrap();
        assert!(locks.take(name("a", Mode::Shared)).await.is_err());
        drop(held);
    }

    #[tokio::test]
    async fn locks_that_nobody_holds_are_forgotten() {
        let locks = Locks::new(Duration::from_secs(1));
        for n in 0..10_000 {
            locks.take(name(&n.to_string(), Mode::Exclusive)).await.unwrap();
        }
        assert!(locks.table.lock().unwrap().len() < 100);
    }
}
