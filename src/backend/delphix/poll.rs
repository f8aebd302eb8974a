//! Waiting for jobs and objects: one loop for all that wait on a Data Control Tower.
//!
//! A job takes seconds to minutes, and the object that it changed lags it by up to one more. Two hundred calls that each ask
//! every few seconds would be a load that grows with the cluster; so whoever waits leaves an id here, and the loop asks for all ids of
//! a kind by one search (`id IN […]`, a hundred in each). An id is looked at soon at first and then ever less often. The loop
//! begins with the first that waits and ends with the last: nobody waiting means no task and no request.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use super::dct::{Dct, id_of, read};
use super::fault::{Failure, Fault, Result};
use super::filter::{Filter, MOST_VALUES, Sort, quote};
use super::kinds::{Kind, Object};
use super::model::{Job, JobStatus, Vdb};
use super::text::shorten;
use super::transport::Ask;

/// Most characters of the ids in one search: DCTs before 2025 take 2,000 for a whole filter.
const MOST_CHARACTERS: usize = 1_900;

/// Who waits for what.
#[derive(Default)]
pub(super) struct Poll {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    serial: u64,
    running: bool,
    waiting: BTreeMap<Kind, BTreeMap<String, Entry>>,
}

/// An id that is waited for.
struct Entry {
    interval: Duration,
    due: Instant,
    waiters: Vec<Waiter>,
}

struct Waiter {
    serial: u64,
    until: Instant,
    tell: Tell,
}

/// Gets what was seen; says whether its waiter has all it waits for.
type Tell = Box<dyn FnMut(Seen<'_>) -> bool + Send>;

/// What was seen of an id.
enum Seen<'a> {
    /// The object as it came.
    There(&'a Value),
    /// There is none of that id.
    Absent,
    /// The DCT could not be asked.
    Failed(&'a Failure),
    /// The time is over.
    Late,
}

impl Poll {
    fn state(&self) -> MutexGuard<'_, State> {
        // A panic under the lock comes from a caller's condition; what it left is whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn jobs(&self) -> usize {
        self.waiting.get(&Job::KIND).map_or(0, BTreeMap::len)
    }
}

/// Ids of objects of one kind, to be looked at by one search.
type Batch = (Kind, Vec<String>);

impl Dct {
    /// Waits for the end of a job. Returns it when it is COMPLETED; what it changed may still not show.
    ///
    /// [`Fault::JobFailed`] says how else it ended, [`Fault::JobVanished`] that the DCT does not know it,
    /// [`Fault::JobRunning`] that it did not end within `timing.job-timeout`.
    pub async fn finish(&self, job: &str) -> Result<Job> {
        let (name, shown) = (job.to_owned(), self.0.transport.shown());
        let limit = self.timing().job_timeout;
        let mut last = None;
        let judge = move |seen: Seen<'_>| match seen {
            Seen::There(value) => {
                let job: Job = read(value.clone())?;
                tracing::trace!(job = job.id, status = job.status.as_str(), "a job that is waited for");
                last = Some(job.status);
                job.status.is_end().then(|| ended(job, &shown))
            }
            Seen::Absent => {
                let text = format!("{shown} does not know job {name}; look at what it worked on");
                Some(Err(Failure::new(Fault::JobVanished, text)))
            }
            Seen::Failed(failure) => Some(Err(failure.clone())),
            Seen::Late => {
                let state = last.map_or("not seen", JobStatus::as_str);
                let text =
                    format!("job {name} of {shown} is still {state} after {limit:?}; it is waited for again");
                Some(Err(Failure::new(Fault::JobRunning, text)))
            }
        };
        self.wait(Job::KIND, job, self.timing().poll_first, limit, judge).await
    }

    /// Waits until a VDB shows what it should, and returns it as it is then; `None` where there is none and `ok` likes that.
    ///
    /// `what` says for people what is waited for, such as `to be enabled`. [`Fault::Lagging`] if that does not come within
    /// `timing.lag`.
    pub async fn until_vdb(
        &self,
        id: &str,
        what: &'static str,
        ok: impl Fn(Option<&Vdb>) -> bool + Send + 'static,
    ) -> Result<Option<Vdb>> {
        self.until(id, what, ok).await
    }

    /// The same for an object of any kind.
    pub async fn until<T: Object>(
        &self,
        id: &str,
        what: &'static str,
        ok: impl Fn(Option<&T>) -> bool + Send + 'static,
    ) -> Result<Option<T>> {
        let (kind, lag) = (T::KIND.name, self.timing().lag);
        let (name, shown) = (id.to_owned(), self.0.transport.shown());
        let judge = move |seen: Seen<'_>| match seen {
            Seen::There(value) => {
                let object = read::<T>(value.clone())?;
                ok(Some(&object)).then_some(Ok(Some(object)))
            }
            Seen::Absent => ok(None).then_some(Ok(None)),
            Seen::Failed(failure) => Some(Err(failure.clone())),
            Seen::Late => {
                let text = format!(
                    "{kind} {name} of {shown} was waited for {what}, but does not show it within {lag:?}"
                );
                Some(Err(Failure::new(Fault::Lagging, text)))
            }
        };
        self.wait(T::KIND, id, Duration::ZERO, lag, judge).await
    }

    async fn wait<R: Send + 'static>(
        &self,
        kind: Kind,
        id: &str,
        first: Duration,
        limit: Duration,
        mut judge: impl FnMut(Seen<'_>) -> Option<Result<R>> + Send + 'static,
    ) -> Result<R> {
        quote("id", id)?;
        let (sender, receiver) = oneshot::channel();
        let mut sender = Some(sender);
        let tell = Box::new(move |seen: Seen<'_>| {
            let Some(end) = judge(seen) else { return false };
            if let Some(sender) = sender.take() {
                // Whoever does not listen any more is taken out below.
                let _ = sender.send(end);
            }
            true
        });
        let _waiting = self.register(kind, id, first, limit, tell);
        receiver.await.unwrap_or_else(|_| {
            Err(Failure::new(Fault::Broken, format!("the wait for {} {id} was given up", kind.name)))
        })
    }

    fn register(&self, kind: Kind, id: &str, first: Duration, limit: Duration, tell: Tell) -> Waiting {
        let now = Instant::now();
        let mut state = self.0.poll.state();
        state.serial += 1;
        let serial = state.serial;
        let entries = state.waiting.entry(kind).or_default();
        let entry = entries.entry(id.to_owned()).or_insert_with(|| Entry {
            interval: Duration::ZERO,
            due: now + first,
            waiters: Vec::new(),
        });
        entry.due = entry.due.min(now + first);
        entry.interval = self.timing().poll_first;
        entry.waiters.push(Waiter { serial, until: now + limit, tell });
        self.0.transport.figures.jobs(self.name(), state.jobs());
        if !std::mem::replace(&mut state.running, true) {
            tokio::spawn(run(self.clone()));
        }
        drop(state);
        self.0.poll.changed.notify_one();
        Waiting { dct: self.clone(), kind, id: id.to_owned(), serial }
    }

    /// Takes out what is due, and says when the next is. `None` if nobody waits: the loop has ended then.
    fn due(&self, loops: &mut Loop) -> Option<(Vec<Batch>, Instant)> {
        let now = Instant::now();
        let mut state = self.0.poll.state();
        let all = || state.waiting.values().flat_map(BTreeMap::values);
        let next =
            |entry: &Entry| entry.waiters.iter().map(|waiter| waiter.until).fold(entry.due, Instant::min);
        let Some(first) = all().map(next).min() else {
            state.running = false;
            loops.running = false;
            return None;
        };
        if first > now {
            return Some((Vec::new(), first));
        }
        // One that is due soon goes along: it costs nothing, and they keep step from then on.
        let soon = |entry: &Entry| next(entry) <= now + entry.interval / 2;
        let batches = state.waiting.iter().map(|(kind, entries)| {
            let ids = entries.iter().filter(|(_, entry)| soon(entry)).map(|(id, _)| id.clone());
            (*kind, ids.collect::<Vec<_>>())
        });
        Some((batches.filter(|(_, ids)| !ids.is_empty()).collect(), first))
    }

    /// Looks at some objects of a kind.
    async fn look(&self, kind: Kind, ids: &[String]) -> Result<HashMap<String, Option<Value>>> {
        self.0.transport.figures.polled(self.name());
        let found = self.search(kind, &Filter::is_in("id", ids), Sort::Any, None).await?;
        let mut seen: HashMap<String, Option<Value>> =
            found.into_iter().filter_map(|value| Some((id_of(&value)?, Some(value)))).collect();
        for id in ids {
            if seen.contains_key(id) {
                continue;
            }
            // A search may know a job later than its own answer did. What decides is whether there is one.
            let there = if kind == Job::KIND {
                match self.0.transport.json::<Value>(&Ask::read(kind.get, &[id])).await {
                    Ok(value) => Some(value),
                    Err(failure) if failure.is_not_found() => None,
                    Err(failure) => return Err(failure),
                }
            } else {
                None
            };
            seen.insert(id.clone(), there);
        }
        Ok(seen)
    }

    /// Tells those who wait for `ids` what was seen.
    fn deliver(&self, kind: Kind, ids: &[String], seen: &Result<HashMap<String, Option<Value>>>) {
        let now = Instant::now();
        let longest = self.timing().poll_max;
        let mut state = self.0.poll.state();
        let Some(entries) = state.waiting.get_mut(&kind) else { return };
        for id in ids {
            let Some(entry) = entries.get_mut(id) else { continue };
            entry.waiters.retain_mut(|waiter| {
                let seen = match seen {
                    Err(failure) => Seen::Failed(failure),
                    Ok(seen) => match seen.get(id) {
                        Some(Some(value)) => Seen::There(value),
                        _ => Seen::Absent,
                    },
                };
                !((waiter.tell)(seen) || (waiter.until <= now && (waiter.tell)(Seen::Late)))
            });
            entry.due = now + entry.interval;
            entry.interval = (entry.interval * 3 / 2).min(longest);
        }
        entries.retain(|_, entry| !entry.waiters.is_empty());
        state.waiting.retain(|_, entries| !entries.is_empty());
        self.0.transport.figures.jobs(self.name(), state.jobs());
    }
}

/// A call that waits. Whoever stops waiting takes its id along.
struct Waiting {
    dct: Dct,
    kind: Kind,
    id: String,
    serial: u64,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut state = self.dct.0.poll.state();
        if let Some(entries) = state.waiting.get_mut(&self.kind)
            && let Some(entry) = entries.get_mut(&self.id)
        {
            entry.waiters.retain(|waiter| waiter.serial != self.serial);
            if entry.waiters.is_empty() {
                entries.remove(&self.id);
            }
        }
        state.waiting.retain(|_, entries| !entries.is_empty());
        self.dct.0.transport.figures.jobs(self.dct.name(), state.jobs());
        drop(state);
        self.dct.0.poll.changed.notify_one();
    }
}

/// The loop while it runs. Should it end by a panic, those who wait are told, and the next one starts another.
struct Loop {
    dct: Dct,
    running: bool,
}

impl Drop for Loop {
    fn drop(&mut self) {
        if self.running {
            let mut state = self.dct.0.poll.state();
            state.running = false;
            state.waiting.clear();
        }
    }
}

async fn run(dct: Dct) {
    let mut this = Loop { dct: dct.clone(), running: true };
    while let Some((batches, next)) = dct.due(&mut this) {
        if batches.is_empty() {
            tokio::select! {
                () = tokio::time::sleep_until(next) => {}
                () = dct.0.poll.changed.notified() => {}
            }
            continue;
        }
        for (kind, ids) in batches {
            for ids in chunks(&ids) {
                let seen = dct.look(kind, ids).await;
                dct.deliver(kind, ids, &seen);
            }
        }
    }
}

/// The ids in parts that fit into one search.
fn chunks(mut ids: &[String]) -> Vec<&[String]> {
    let mut all = Vec::new();
    while !ids.is_empty() {
        let mut characters = 0;
        let fits = ids.iter().take(MOST_VALUES).take_while(|id| {
            characters += id.chars().count() + 4;
            characters <= MOST_CHARACTERS
        });
        let (chunk, rest) = ids.split_at(fits.count().max(1));
        all.push(chunk);
        ids = rest;
    }
    all
}

fn ended(job: Job, shown: &str) -> Result<Job> {
    if job.status == JobStatus::Completed {
        return Ok(job);
    }
    let details = shorten(job.error_details.as_deref().unwrap_or("no reason is given"), 500);
    let what = job.r#type.as_deref().unwrap_or("job");
    let on = job.target_name.as_deref().map(|name| format!(" of {name}")).unwrap_or_default();
    let text = format!("{what}{on} ended {} (job {} of {shown}): {details}", job.status.as_str(), job.id);
    Err(Failure::new(Fault::JobFailed { status: job.status, details }, text))
}

#[cfg(test)]
impl Dct {
    /// Whether the loop does not run.
    pub(super) fn idle(&self) -> bool {
        !self.0.poll.state().running
    }

    /// The same, once it has had the chance to end.
    pub(super) async fn idle_soon(&self) -> bool {
        for _ in 0..2000 {
            if self.idle() {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_go_into_searches_of_at_most_a_hundred_and_of_a_length_that_old_releases_take() {
        fn check(count: usize, length: usize, expect: &[usize]) {
            let ids: Vec<_> = (0..count).map(|n| format!("{n:0>length$}")).collect();
            let parts = chunks(&ids);
            assert_eq!(parts.iter().map(|part| part.len()).collect::<Vec<_>>(), expect);
            assert_eq!(parts.concat(), ids);
            for part in parts {
                let filter = Filter::is_in("id", part);
                assert!(part.len() == 1 || filter.expression().unwrap().unwrap().len() <= 2_000);
            }
        }
        check(0, 32, &[]);
        check(1, 32, &[1]);
        check(105, 32, &[52, 52, 1]);
        check(201, 8, &[100, 100, 1]);
        check(2, 3000, &[1, 1]);
    }
}
