//! Which driver this is and what it can do.

use tonic::{Request, Response, Status};

use super::super::capabilities;
use super::{DelphixEdge, Rpc, answer};
use crate::admin::Ready as _;
use crate::proto::csi::identity_server::Identity;
use crate::proto::csi::plugin_capability::service::Type as Service;
use crate::proto::csi::plugin_capability::volume_expansion::Type as Expansion;
use crate::proto::csi::*;

#[tonic::async_trait]
impl Identity for DelphixEdge {
    async fn get_plugin_info(
        &self,
        _: Request<GetPluginInfoRequest>,
    ) -> Result<Response<GetPluginInfoResponse>, Status> {
        answer(Rpc::GetPluginInfo, Ok(capabilities::plugin_info(&self.name)))
    }

    /// No topology: an engine is reached over the network, from every node alike.
    async fn get_plugin_capabilities(
        &self,
        _: Request<GetPluginCapabilitiesRequest>,
    ) -> Result<Response<GetPluginCapabilitiesResponse>, Status> {
        use plugin_capability::{Type, VolumeExpansion};
        let controller =
            Type::Service(plugin_capability::Service { r#type: Service::ControllerService as i32 });
        let expansion = Type::VolumeExpansion(VolumeExpansion { r#type: Expansion::Online as i32 });
        let mut all = vec![expansion];
        if self.driver.is_some() {
            all.insert(0, controller);
        }
        let capabilities = all.into_iter().map(|kind| PluginCapability { r#type: Some(kind) }).collect();
        answer(Rpc::GetPluginCapabilities, Ok(GetPluginCapabilitiesResponse { capabilities }))
    }

    async fn probe(&self, _: Request<ProbeRequest>) -> Result<Response<ProbeResponse>, Status> {
        answer(Rpc::Probe, Ok(ProbeResponse { ready: Some(self.ready().await.is_ok()) }))
    }
}
