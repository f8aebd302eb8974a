//! Many nodes behind one socket: serves what the edge serves, by asking the agents of the nodes.
//!
//! The sidecars know one controller, and the volumes lie on the disks of many nodes. Whatever a controller remembers
//! can be wrong after a crash, so this one remembers nothing: an id names its pool, the agents say which pools they
//! have, and everything else is asked for anew. `docs/decisions/0011-a-router-without-state.md` says where each call
//! goes. It refuses to guess: what it cannot ask is UNAVAILABLE or named as missing, and never taken for gone.

pub mod connect;
pub mod discovery;
pub mod secure;

mod agent;
mod agents;
mod choose;
mod clients;
mod controller;
mod copies;
mod create;
mod cut;
mod everyone;
mod failure;
mod group;
mod head;
mod identity;
mod lists;
mod merge;
mod metadata;
mod remote;
mod tell;
mod watch;

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use tonic::service::RoutesBuilder;

use crate::admin::Ready;
use crate::csi::server::MAX_REQUEST;
use crate::metrics::Metrics;
use crate::proto::csi::controller_server::ControllerServer;
use crate::proto::csi::group_controller_server::GroupControllerServer;
use crate::proto::csi::identity_server::IdentityServer;
use crate::proto::csi::snapshot_metadata_server::SnapshotMetadataServer;
use crate::proto::offshoot::data_copies_server::DataCopiesServer;
use crate::volume::{Error, Kind, ObjectId, Result};

pub use connect::{AgentAddress, Connect, Io};
pub use discovery::{Discovery, Known};
pub use remote::SNAPSHOT_PREFIX;
pub use tell::Tell;

use agent::Agent;
use agents::Agents;

/// The header of an answer that leaves something out: the nodes that could not be asked, separated by commas. Whoever
/// would delete something because it is not in an answer must not if this is set.
pub const UNREACHABLE: &str = "offshoot-unreachable";

/// The handlers of all services that agents serve. Cheap to clone.
#[derive(Clone)]
pub struct Router {
    agents: Arc<Agents>,
    driver: Arc<str>,
    metrics: Arc<Metrics>,
    /// Names of volumes that are being made: FindName sees only what an agent has begun.
    making: Arc<Mutex<HashSet<String>>>,
    /// Who tells the owners of claims how their copies go on.
    tell: Option<Arc<dyn Tell>>,
}

impl Router {
    /// A router of `driver` for the agents that `source` knows, reached by `connect`.
    pub fn new(
        source: Arc<dyn Discovery>,
        connect: Arc<dyn Connect>,
        driver: &str,
        metrics: Arc<Metrics>,
    ) -> Self {
        let agents = Agents::new(source, connect, metrics.router().clone());
        Router {
            agents: Arc::new(agents),
            driver: driver.into(),
            metrics,
            making: Arc::default(),
            tell: None,
        }
    }

    /// The router that also tells the owners of claims how copies to other nodes go on.
    #[must_use]
    pub fn telling(self, tell: Arc<dyn Tell>) -> Self {
        Router { tell: Some(tell), ..self }
    }

    /// Adds every service.
    pub fn add_to(&self, services: &mut RoutesBuilder) {
        services
            .add_service(IdentityServer::new(self.clone()).max_decoding_message_size(MAX_REQUEST))
            .add_service(ControllerServer::new(self.clone()).max_decoding_message_size(MAX_REQUEST))
            .add_service(GroupControllerServer::new(self.clone()).max_decoding_message_size(MAX_REQUEST))
            .add_service(SnapshotMetadataServer::new(self.clone()).max_decoding_message_size(MAX_REQUEST))
            .add_service(DataCopiesServer::new(self.clone()).max_decoding_message_size(MAX_REQUEST));
    }

    /// The agent that has the object of that id. What is no id of ours is on no node, and every agent says so in the
    /// same words, after what else is wrong with the request.
    async fn owner(&self, id: &str) -> Result<Arc<Agent>> {
        match id.parse::<ObjectId>() {
            Ok(id) => self.agents.of_pool(id.pool()).await.map_err(|error| error.context(id)),
            Err(_) => self.agents.any().await,
        }
    }

    /// Keeps others from making a volume of that name until the guard goes.
    fn making(&self, name: &str) -> Result<Making> {
        let mut names = self.making.lock().unwrap_or_else(PoisonError::into_inner);
        if !names.insert(name.to_owned()) {
            let text = format!("name: volume {name:?} is being made by another call; call again");
            return Err(Error::new(Kind::Busy, text));
        }
        Ok(Making { names: self.making.clone(), name: name.to_owned() })
    }
}

/// A name under which a volume is being made.
struct Making {
    names: Arc<Mutex<HashSet<String>>>,
    name: String,
}

impl Drop for Making {
    fn drop(&mut self) {
        self.names.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.name);
    }
}

/// Ready as soon as the agents are known, reachable or not: a router that counted as not ready for the sake of one bad
/// node, or of all of them, would be taken out of service for what restarting it cannot mend, and with it the volumes
/// of the nodes that are well.
#[async_trait]
impl Ready for Router {
    async fn ready(&self) -> Result<(), String> {
        self.agents.all().map(drop).map_err(|error| error.to_string())
    }
}
