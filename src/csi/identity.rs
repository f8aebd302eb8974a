//! Which driver this is, what it can do, and whether it can do it now.

use tonic::{Request, Response, Status};

use super::rpc::Rpc;
use super::{Edge, answer, capabilities};
use crate::admin::Ready as _;
use crate::proto::csi::identity_server::Identity;
use crate::proto::csi::*;

#[tonic::async_trait]
impl Identity for Edge {
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

    /// Not ready is an answer and no error: an error makes kubelet's probe restart the driver, which mends no pool.
    async fn probe(&self, _: Request<ProbeRequest>) -> Result<Response<ProbeResponse>, Status> {
        let ready = self.ready().await;
        if let Err(reason) = &ready {
            // Kubelet asks every few seconds; the log says it loudly once, when it changes.
            tracing::debug!(reason, "not ready");
        }
        answer(Rpc::Probe, Ok(ProbeResponse { ready: Some(ready.is_ok()) }))
    }
}
