//! Which driver this is, and whether it answers.

use tonic::{Request, Response, Status};

use super::Router;
use super::failure::answer;
use crate::admin::Ready as _;
use crate::csi::capabilities;
use crate::csi::rpc::Rpc;
use crate::proto::csi::identity_server::Identity;
use crate::proto::csi::*;

#[tonic::async_trait]
impl Identity for Router {
    async fn get_plugin_info(
        &self,
        _: Request<GetPluginInfoRequest>,
    ) -> Result<Response<GetPluginInfoResponse>, Status> {
        answer(Rpc::GetPluginInfo, Ok(capabilities::plugin_info(&self.driver)))
    }

    async fn get_plugin_capabilities(
        &self,
        _: Request<GetPluginCapabilitiesRequest>,
    ) -> Result<Response<GetPluginCapabilitiesResponse>, Status> {
        answer(Rpc::GetPluginCapabilities, Ok(capabilities::plugin()))
    }

    /// Ready once the agents are known, whether or not they can be reached: see [`Router`]'s `Ready`.
    async fn probe(&self, _: Request<ProbeRequest>) -> Result<Response<ProbeResponse>, Status> {
        answer(Rpc::Probe, Ok(ProbeResponse { ready: Some(self.ready().await.is_ok()) }))
    }
}
