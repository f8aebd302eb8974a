//! The edge: the only code that knows gRPC. A handler parses a request, calls a use case and renders the answer.
//!
//! Nothing here decides what a call means, touches a file of a pool or keeps state. What the wire allows and the use
//! cases do not want to see (unknown enum values, missing oneofs, credentials) ends in `parse`; what a use case
//! answers turns into a code in `status`, and nowhere else.

pub mod calls;
pub mod capabilities;
pub mod rpc;
pub mod server;
pub mod socket;
pub mod status;

mod parse;
mod remote;
mod render;

pub mod agent;
mod controller;
mod copies;
mod copies_render;
pub mod delphix;

mod group;
mod identity;
mod metadata;
mod node;

use std::sync::Arc;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;
use tonic::service::RoutesBuilder;
use tonic::{Response, Status};

use crate::admin::Ready;
use crate::proto::csi::controller_server::ControllerServer;
use crate::proto::csi::group_controller_server::GroupControllerServer;
use crate::proto::csi::identity_server::IdentityServer;
use crate::proto::csi::node_server::NodeServer;
use crate::proto::csi::snapshot_metadata_server::SnapshotMetadataServer;
use crate::proto::offshoot::data_copies_server::DataCopiesServer;
use crate::service::Service;
use crate::volume::{Error, Kind, Result};
pub(crate) use copies::nothing_to_import;
use rpc::Rpc;
use server::MAX_REQUEST;

/// The handlers of all services. Cheap to clone.
#[derive(Clone)]
pub struct Edge {
    service: Service,
    driver: Arc<str>,
    started: CancellationToken,
}

impl Edge {
    /// Handlers over `service` for the driver of that name. Until [`Edge::started`] is called only those that say who
    /// this is answer; the others are UNAVAILABLE.
    pub fn new(service: Service, driver: &str) -> Self {
        Edge { service, driver: driver.into(), started: CancellationToken::new() }
    }

    /// The pools are open and recovery has ended: calls may come.
    pub fn started(&self) {
        self.started.cancel();
    }

    /// Waits until calls may come.
    pub async fn until_started(&self) {
        self.started.cancelled().await;
    }

    /// Adds every service that kubelet, sidecars and people call.
    pub fn add_to(&self, services: &mut RoutesBuilder) {
        self.add_for_router(services);
        self.add_node(services);
    }

    /// Adds what a node agent shows to kubelet and to people on its node: the volumes' use, and their copies.
    pub fn add_for_kubelet(&self, services: &mut RoutesBuilder) {
        self.add_common(services);
        self.add_node(services);
    }

    /// Adds what a node agent shows to the router: everything about the objects in its pools.
    pub fn add_for_router(&self, services: &mut RoutesBuilder) {
        self.add_common(services);
        services
            .add_service(ControllerServer::new(self.clone()).max_decoding_message_size(MAX_REQUEST))
            .add_service(GroupControllerServer::new(self.clone()).max_decoding_message_size(MAX_REQUEST))
            .add_service(SnapshotMetadataServer::new(self.clone()).max_decoding_message_size(MAX_REQUEST));
    }

    fn add_common(&self, services: &mut RoutesBuilder) {
        services
            .add_service(IdentityServer::new(self.clone()).max_decoding_message_size(MAX_REQUEST))
            .add_service(DataCopiesServer::new(self.clone()).max_decoding_message_size(MAX_REQUEST));
    }

    fn add_node(&self, services: &mut RoutesBuilder) {
        services.add_service(NodeServer::new(self.clone()).max_decoding_message_size(MAX_REQUEST));
    }

    /// The use cases, once they may be called. Before, an unknown volume may only be one that is not yet read, and
    /// "it does not exist" would be a lie that makes callers forget it.
    fn service(&self) -> Result<&Service> {
        if self.started.is_cancelled() {
            return Ok(&self.service);
        }
        Err(Error::new(
            Kind::Unavailable,
            "the driver is starting: it reads its pools and recovers; call again",
        ))
    }
}

#[async_trait]
impl Ready for Edge {
    async fn ready(&self) -> Result<(), String> {
        match self.service() {
            Ok(service) => service.ready().await,
            Err(error) => Err(error.to_string()),
        }
    }
}

/// What every handler ends with.
fn answer<T>(rpc: Rpc, result: Result<T>) -> Result<Response<T>, Status> {
    result.map(Response::new).map_err(|error| status::status(rpc, &error))
}
