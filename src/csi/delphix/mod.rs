//! The edge of the Delphix driver: the same calls, parsers, codes and texts as the local driver's, over other use cases.
//!
//! One process can be both roles or one of them. The controller knows the DCT and no node; a node knows kubelet and no
//! DCT. What a role does not have answers as if the driver had no such call, which is what its socket is for.

mod controller;
mod copies;
mod identity;
mod node;
mod render;

use std::sync::Arc;

use async_trait::async_trait;
use tonic::service::RoutesBuilder;

use super::rpc::Rpc;
use super::server::MAX_REQUEST;
use super::{answer, parse};
use crate::admin::Ready;
use crate::delphix::Driver;
use crate::delphix::node::Node;
use crate::proto::csi::controller_server::ControllerServer;
use crate::proto::csi::identity_server::IdentityServer;
use crate::proto::csi::node_server::NodeServer;
use crate::proto::offshoot::data_copies_server::DataCopiesServer;
use crate::volume::{Error, Kind, Result};

/// The handlers of all services. Cheap to clone.
#[derive(Clone)]
pub struct DelphixEdge {
    name: Arc<str>,
    driver: Option<Driver>,
    node: Option<Node>,
}

impl DelphixEdge {
    /// Handlers for the driver of that name: the controller's where there is a `driver`, a node's where there is a `node`.
    pub fn new(name: &str, driver: Option<Driver>, node: Option<Node>) -> Self {
        DelphixEdge { name: name.into(), driver, node }
    }

    /// Adds the services of the roles that this process has.
    pub fn add_to(&self, services: &mut RoutesBuilder) {
        services.add_service(IdentityServer::new(self.clone()).max_decoding_message_size(MAX_REQUEST));
        if self.driver.is_some() {
            services
                .add_service(ControllerServer::new(self.clone()).max_decoding_message_size(MAX_REQUEST))
                .add_service(DataCopiesServer::new(self.clone()).max_decoding_message_size(MAX_REQUEST));
        }
        if self.node.is_some() {
            services.add_service(NodeServer::new(self.clone()).max_decoding_message_size(MAX_REQUEST));
        }
    }

    fn driver(&self) -> Result<&Driver> {
        self.driver.as_ref().ok_or_else(|| no_role("controller"))
    }

    fn node(&self) -> Result<&Node> {
        self.node.as_ref().ok_or_else(|| no_role("node"))
    }
}

fn no_role(role: &str) -> Error {
    Error::new(Kind::Unsupported, format!("this process has not the role of a {role}"))
}

/// A DCT that is away makes a controller no less alive: its calls say so, one by one, and a restart would mend nothing.
#[async_trait]
impl Ready for DelphixEdge {
    async fn ready(&self) -> Result<(), String> {
        match &self.node {
            Some(node) => node.ready().await.map_err(|error| error.to_string()),
            None => Ok(()),
        }
    }
}
