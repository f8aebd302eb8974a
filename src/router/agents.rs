//! The agents that are known, and which of them has which pool.
//!
//! An id names its pool and nothing names its node, so the agents are asked (ListPools) and the answer is kept with the
//! connection that it came over: an agent that was started anew, perhaps on another disk, is asked anew. A pool that
//! nobody has is asked for once more and is then out of reach, never gone. A pool that two nodes have is a copied disk:
//! whichever of the two were chosen, the other's volumes would be lost sight of, so neither is.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use super::agent::Agent;
use super::connect::Connect;
use super::discovery::{Discovery, Known};
use crate::metrics::RouterFigures;
use crate::volume::{Error, Kind, PoolId, Result};

/// How long agents are waited for that are asked which pools they have.
const ASK_POOLS: Duration = Duration::from_millis(1500);

/// All agents.
pub(super) struct Agents {
    known: watch::Receiver<Known>,
    connect: Arc<dyn Connect>,
    metrics: RouterFigures,
    agents: Mutex<Option<BTreeMap<String, Arc<Agent>>>>,
    /// When all agents were last asked for their pools, and who did not say. Held while they are asked: who comes
    /// meanwhile waits for the answer.
    asked: tokio::sync::Mutex<Option<(Instant, BTreeSet<String>)>>,
    /// Set when an agent is new: it may have a pool that another is thought to have.
    grown: AtomicBool,
    /// The node on which a pool was last seen, for the text of errors alone.
    seen: Mutex<HashMap<PoolId, String>>,
    /// Lives as long as the router, so that the source of agents does.
    _source: Arc<dyn Discovery>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Agents {
    pub(super) fn new(source: Arc<dyn Discovery>, connect: Arc<dyn Connect>, metrics: RouterFigures) -> Self {
        Agents {
            known: source.agents(),
            connect,
            metrics,
            agents: Mutex::default(),
            asked: tokio::sync::Mutex::default(),
            grown: AtomicBool::new(false),
            seen: Mutex::default(),
            _source: source,
        }
    }

    /// The agents, by the names of their nodes.
    ///
    /// # Errors
    /// [`Kind::Unavailable`] until the source of agents has been read once.
    pub(super) fn all(&self) -> Result<Vec<Arc<Agent>>> {
        let mut agents = locked(&self.agents);
        let known = self.known.borrow().clone();
        let Some(known) = known else {
            return Err(Error::new(
                Kind::Unavailable,
                "the router is starting: it does not know the agents yet; call again",
            ));
        };
        let agents = agents.get_or_insert_default();
        // Compared each time: the set is small, and a change must not depend on who saw it first.
        agents.retain(|node, agent| {
            let stays = known.contains(&agent.address);
            if !stays && !known.iter().any(|other| other.node == *node) {
                self.metrics.forget(node);
            }
            stays
        });
        for address in known.iter() {
            if !agents.contains_key(&address.node) {
                let agent = Agent::new(address.clone(), self.connect.clone(), self.metrics.clone());
                agents.insert(address.node.clone(), Arc::new(agent));
                self.grown.store(true, Ordering::Release);
            }
        }
        Ok(agents.values().cloned().collect())
    }

    /// Hears when agents come and go.
    pub(super) fn changes(&self) -> watch::Receiver<Known> {
        self.known.clone()
    }

    /// The agent that has a pool.
    ///
    /// # Errors
    /// [`Kind::Unavailable`] where none that can be reached has it, or more than one.
    pub(super) async fn of_pool(&self, pool: PoolId) -> Result<Arc<Agent>> {
        let agents = self.all()?;
        if !self.grown.swap(false, Ordering::AcqRel)
            && let Some(found) = self.find(&agents, pool)?
        {
            return Ok(found);
        }
        let silent = self.ask_pools().await?;
        self.find(&self.all()?, pool)?.ok_or_else(|| self.nowhere(pool, &silent))
    }

    /// The agent whose connection has that pool.
    fn find(&self, agents: &[Arc<Agent>], pool: PoolId) -> Result<Option<Arc<Agent>>> {
        let having: Vec<&Arc<Agent>> = agents.iter().filter(|agent| agent.has(pool)).collect();
        match having[..] {
            [] => Ok(None),
            [only] => {
                locked(&self.seen).insert(pool, only.node().to_owned());
                Ok(Some(only.clone()))
            }
            [one, other, ..] => Err(Error::new(
                Kind::Unavailable,
                format!(
                    "pool {pool} is on node {} and on node {}: a disk was copied; take the pool away from one of them",
                    one.node(),
                    other.node()
                ),
            )),
        }
    }

    /// Asks every agent for its pools, and answers which nodes did not say. Callers that come together ask once.
    async fn ask_pools(&self) -> Result<BTreeSet<String>> {
        let came = Instant::now();
        let mut asked = self.asked.lock().await;
        if let Some((at, silent)) = &*asked
            && *at >= came
        {
            return Ok(silent.clone());
        }
        let begun = Instant::now();
        let mut asking = JoinSet::new();
        for agent in self.all()? {
            asking.spawn(async move {
                let said = timeout(ASK_POOLS, agent.ask_pools()).await;
                (!matches!(said, Ok(Ok(_)))).then(|| agent.node().to_owned())
            });
        }
        let silent: BTreeSet<String> = asking.join_all().await.into_iter().flatten().collect();
        *asked = Some((begun, silent.clone()));
        Ok(silent)
    }

    fn nowhere(&self, pool: PoolId, silent: &BTreeSet<String>) -> Error {
        let seen = locked(&self.seen).get(&pool).cloned();
        let why = match &seen {
            Some(node) if silent.contains(node) => {
                let what = "whose agent cannot be reached";
                format!("pool {pool} is on node {node}, {what}; {}", forget(node))
            }
            _ if silent.is_empty() => format!(
                "no agent has pool {pool} open: look at `offshoot pool list`, and if its node is gone for good at `kubectl offshoot forget-node`"
            ),
            _ => {
                let silent = silent.iter().take(5).cloned().collect::<Vec<_>>().join(", ");
                format!(
                    "no agent that can be reached has pool {pool}, and these cannot be: {silent}; {}",
                    forget("NODE")
                )
            }
        };
        Error::new(Kind::Unavailable, why)
    }

    /// Some agent that can be reached: for what every agent answers alike.
    pub(super) async fn any(&self) -> Result<Arc<Agent>> {
        let agents = self.all()?;
        if let Some(connected) = agents.iter().find(|agent| agent.is_connected()) {
            return Ok(connected.clone());
        }
        let mut connecting = JoinSet::new();
        for agent in agents {
            connecting.spawn(async move { agent.link().await.map(|_| agent) });
        }
        let mut last = None;
        while let Some(done) = connecting.join_next().await {
            match done {
                Ok(Ok(agent)) => return Ok(agent),
                Ok(Err(error)) => last = Some(error),
                Err(_) => {}
            }
        }
        Err(last.unwrap_or_else(|| {
            Error::new(Kind::Unavailable, "no agent is known: start `offshoot node` on a node that has pools")
        }))
    }
}

fn forget(node: &str) -> String {
    format!(
        "call again when it is back, or, if it is gone for good, run `kubectl offshoot forget-node {node}`"
    )
}
