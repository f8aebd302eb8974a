//! The export lists of hosts: which addresses the engine lets in.
//!
//! A list is replaced as a whole, and what is read of it lags what was written by up to a minute. Two writers that read,
//! add and write lose one of the additions; so do two of ours one after the other if the second reads what was before
//! the first. Against our own there are a lock for each environment, and a memory of what was written lately, which is
//! laid over what is read. Against others there is only looking again afterwards, and writing again.
//!
//! An address that was in a list before us is never taken out. That we put one in is said by a tag on the VDB that needed
//! it, written before the list is.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::Inner;
use super::jobs::ended;
use super::tags::Entered;
use crate::backend::delphix::{Dct, Environment, Fault, Host};
use crate::volume::{Error, Kind, Result};

/// How often a list is written again that another writer has overwritten.
const ROUNDS: usize = 5;

/// What is known of all environments.
#[derive(Default)]
pub(super) struct Hosts(Mutex<HashMap<(String, String), Arc<Known>>>);

/// What is known of one environment.
#[derive(Default)]
pub(super) struct Known {
    /// Shared by those that only rely on an address, exclusive for those that change a list.
    pub(super) lock: tokio::sync::RwLock<()>,
    memory: Mutex<Memory>,
}

#[derive(Default)]
struct Memory {
    /// What was written lately: whether an address of a host is in its list, and since when.
    written: BTreeMap<(String, String), (bool, Instant)>,
    /// Addresses of a host that we put there.
    ours: BTreeSet<(String, String)>,
    /// Addresses that were seen in all lists.
    seen: BTreeSet<String>,
}

impl Hosts {
    pub(super) fn known(&self, dct: &Dct, environment: &str) -> Arc<Known> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.entry((dct.name().to_owned(), environment.to_owned())).or_default().clone()
    }
}

impl Known {
    fn memory(&self) -> std::sync::MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it is likely that no list has to be written for these addresses.
    pub(super) fn expects(&self, addresses: &[String]) -> bool {
        let memory = self.memory();
        addresses.iter().all(|address| memory.seen.contains(address))
    }

    /// The list of a host as it is by what was read and what we wrote since.
    fn list(&self, host: &Host, lag: Duration) -> Result<Vec<String>> {
        let Some(read) = &host.nfs_addresses else {
            let text = format!(
                "the DCT does not say who may mount what is enabled on host {}: set its nfs_addresses once by hand",
                host.hostname.as_deref().unwrap_or(&host.id)
            );
            return Err(Error::precondition(text));
        };
        let mut list = read.clone();
        let mut memory = self.memory();
        memory.written.retain(|_, (_, at)| at.elapsed() < lag);
        for ((of, address), (there, _)) in &memory.written {
            if *of != host.id {
                continue;
            }
            list.retain(|one| one != address);
            if *there {
                list.push(address.clone());
            }
        }
        Ok(list)
    }

    /// Remembers what was written.
    fn wrote(&self, entered: &Entered, there: bool) {
        let key = (entered.host.clone(), entered.address.clone());
        let mut memory = self.memory();
        memory.written.insert(key.clone(), (there, Instant::now()));
        if there {
            memory.ours.insert(key);
        } else {
            memory.ours.remove(&key);
            memory.seen.remove(&entered.address);
        }
    }

    /// Remembers what the tags of a volume say.
    pub(super) fn note(&self, entered: &[Entered]) {
        let mut memory = self.memory();
        memory.ours.extend(entered.iter().map(|one| (one.host.clone(), one.address.clone())));
    }

    /// Remembers addresses that all lists have.
    pub(super) fn saw(&self, addresses: &[String]) {
        self.memory().seen.extend(addresses.iter().cloned());
    }

    fn is_ours(&self, host: &str, address: &str) -> bool {
        self.memory().ours.contains(&(host.to_owned(), address.to_owned()))
    }
}

/// What is needed of the lists of an environment, and what of it is there.
#[derive(Debug, Default)]
pub(super) struct Need {
    /// What has to be written.
    pub(super) missing: Vec<Entered>,
    /// What is there, because we put it there.
    pub(super) ours: Vec<Entered>,
}

impl Inner {
    pub(super) async fn environment(&self, dct: &Dct, id: &str) -> Result<Environment> {
        dct.environment(id).await?.ok_or_else(|| {
            let text = format!("environment {id} is no longer on DCT {}: add it again", dct.name());
            Error::precondition(text)
        })
    }

    /// What the lists of an environment lack of these addresses. With `and_host`, a host whose list is empty so far goes on
    /// it itself: an empty list lets the host in, and one that is not does not.
    pub(super) fn need(
        &self,
        dct: &Dct,
        known: &Known,
        environment: &Environment,
        addresses: &[String],
        and_host: bool,
    ) -> Result<Need> {
        let mut need = Need::default();
        if environment.hosts.is_empty() {
            let text = format!("environment {} has no host: nothing can be exported there", environment.id);
            return Err(Error::precondition(text));
        }
        for host in &environment.hosts {
            let list = known.list(host, dct.settings().timing.lag)?;
            let mut wanted: Vec<&str> = addresses.iter().map(String::as_str).collect();
            let own = host.hostname.as_deref().filter(|name| and_host && !name.is_empty());
            let only_ours = list.iter().all(|one| known.is_ours(&host.id, one));
            wanted.extend(own.filter(|_| only_ours));
            for address in wanted {
                let entered = Entered {
                    environment: environment.id.clone(),
                    host: host.id.clone(),
                    address: address.to_owned(),
                };
                if !list.iter().any(|one| one == address) {
                    need.missing.push(entered);
                } else if known.is_ours(&host.id, address) {
                    need.ours.push(entered);
                }
            }
        }
        if need.missing.is_empty() {
            known.saw(addresses);
        }
        Ok(need)
    }

    /// Writes the lists so that they have, or have not, all of `change`. The caller holds the lock, exclusive.
    pub(super) async fn write(
        &self,
        dct: &Dct,
        known: &Known,
        environment: &Environment,
        change: &[Entered],
        there: bool,
    ) -> Result<()> {
        for host in &environment.hosts {
            let of_host: Vec<&Entered> = change.iter().filter(|one| one.host == host.id).collect();
            let mut list = known.list(host, dct.settings().timing.lag)?;
            let before = list.clone();
            list.retain(|one| !of_host.iter().any(|entered| entered.address == *one));
            if there {
                list.extend(of_host.iter().map(|entered| entered.address.clone()));
            }
            let same = before.len() == list.len() && before.iter().all(|one| list.contains(one));
            if of_host.is_empty() || same {
                continue;
            }
            let started = dct.set_nfs_addresses(&environment.id, &host.id, &list).await?;
            if let Err(failure) = ended(dct, &started).await {
                let shown = host.hostname.as_deref().unwrap_or(&host.id);
                let failure = Error::from(failure).context(format!("the export list of host {shown}"));
                return Err(failure.with_kind(Kind::Unavailable));
            }
            of_host.iter().for_each(|entered| known.wrote(entered, there));
        }
        Ok(())
    }

    /// Waits until the lists show what was written, and writes again what another writer has overwritten.
    pub(super) async fn verify(
        &self,
        dct: &Dct,
        known: &Known,
        environment: &str,
        change: &[Entered],
        there: bool,
    ) -> Result<()> {
        if change.is_empty() {
            return Ok(());
        }
        for _ in 0..ROUNDS {
            let wanted = change.to_vec();
            let shows = move |of: Option<&Environment>| of.is_none_or(|of| shown(of, &wanted, there));
            match dct.until::<Environment>(environment, "to show who may mount", shows).await {
                Ok(_) => {
                    // What is read from now on is newer than what was written, and others may have changed it since.
                    change.iter().for_each(|entered| known.forget(entered));
                    return Ok(());
                }
                Err(failure) if *failure.fault() == Fault::Lagging => {}
                Err(failure) => return Err(failure.into()),
            }
            let _alone = known.lock.write().await;
            let Some(now) = dct.environment(environment).await? else { return Ok(()) };
            if !shown(&now, change, there) {
                tracing::warn!(
                    environment,
                    "another writer has overwritten the list of who may mount; it is written again"
                );
                // What was written is not there: it must not be laid over what is read any more.
                change.iter().for_each(|entered| known.forget(entered));
                self.write(dct, known, &now, change, there).await?;
            }
        }
        let text = format!(
            "the lists of environment {environment} are overwritten again and again: ask again later"
        );
        Err(Error::new(Kind::Unavailable, text))
    }
}

impl Known {
    fn forget(&self, entered: &Entered) {
        self.memory().written.remove(&(entered.host.clone(), entered.address.clone()));
    }
}

/// Whether the lists have, or have not, all of `change`.
fn shown(environment: &Environment, change: &[Entered], there: bool) -> bool {
    change.iter().all(|entered| {
        let Some(host) = environment.hosts.iter().find(|host| host.id == entered.host) else { return true };
        let listed = host.nfs_addresses.iter().flatten().any(|one| *one == entered.address);
        listed == there
    })
}
