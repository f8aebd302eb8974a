//! Which driver this is, what it can do, and whether it can do it now.

use tonic::{Request, Response, Status};

use super::rpc::Rpc;
use super::{Edge, answer};
use crate::admin::Ready as _;
use crate::proto::csi::identity_server::Identity;
use crate::proto::csi::plugin_capability::service::Type as Service;
use crate::proto::csi::plugin_capability::volume_expansion::Type as Expansion;
use crate::proto::csi::plugin_capability::{self, Type};
use crate::proto::csi::*;

/// The services on this socket.
const SERVICES: [Service; 5] = [
    Service::ControllerService,
    Service::VolumeAccessibilityConstraints,
    Service::GroupControllerService,
    Service::SnapshotMetadataService,
    Service::SnapshotAccessibilityConstraints,
];

#[tonic::async_trait]
impl Identity for Edge {
    async fn get_plugin_info(
        &self,
        _: Request<GetPluginInfoRequest>,
    ) -> Result<Response<GetPluginInfoResponse>, Status> {
        let info = GetPluginInfoResponse {
            name: self.driver.to_string(),
            vendor_version: env!("CARGO_PKG_VERSION").to_owned(),
            manifest: Default::default(),
        };
        answer(Rpc::GetPluginInfo, Ok(info))
    }

    async fn get_plugin_capabilities(
        &self,
        _: Request<GetPluginCapabilitiesRequest>,
    ) -> Result<Response<GetPluginCapabilitiesResponse>, Status> {
        let services =
            SERVICES.map(|service| Type::Service(plugin_capability::Service { r#type: service as i32 }));
        // ONLINE says "also while published"; OFFLINE would say "only while not".
        let expansion =
            Type::VolumeExpansion(plugin_capability::VolumeExpansion { r#type: Expansion::Online as i32 });
        let all = services.into_iter().chain([expansion]);
        let capabilities = all.map(|kind| PluginCapability { r#type: Some(kind) }).collect();
        answer(Rpc::GetPluginCapabilities, Ok(GetPluginCapabilitiesResponse { capabilities }))
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
