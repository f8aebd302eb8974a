//! Which driver this is and what it can do, said once for everyone who answers for it.
//!
//! A router that said more than its agents would get calls that they refuse; one that said less would hide what they
//! can. So both answer from these lists.

use crate::proto::csi::controller_service_capability::rpc::Type as Can;
use crate::proto::csi::plugin_capability::service::Type as Service;
use crate::proto::csi::plugin_capability::volume_expansion::Type as Expansion;
use crate::proto::csi::*;

/// The services on the socket of a controller.
const SERVICES: [Service; 5] = [
    Service::ControllerService,
    Service::VolumeAccessibilityConstraints,
    Service::GroupControllerService,
    Service::SnapshotMetadataService,
    Service::SnapshotAccessibilityConstraints,
];

/// Everything that the controller service can do.
const CAN: [Can; 17] = [
    Can::CreateDeleteVolume,
    Can::PublishUnpublishVolume,
    Can::ListVolumes,
    Can::GetCapacity,
    Can::CreateDeleteSnapshot,
    Can::ListSnapshots,
    Can::CloneVolume,
    Can::PublishReadonly,
    Can::ExpandVolume,
    Can::ListVolumesPublishedNodes,
    Can::VolumeCondition,
    Can::GetVolume,
    Can::SingleNodeMultiWriter,
    Can::ModifyVolume,
    Can::GetSnapshot,
    Can::GetVolumeHealth,
    Can::ListVolumeHealth,
];

/// The most entries of one answer, also where the caller sets no limit: the sidecars read at most 4 MiB, and an entry
/// with topology and condition can take some hundred bytes.
const MAX_ENTRIES: i32 = 4000;

/// How many entries to ask for. A negative number goes on to where it is refused.
pub fn entries(max: i32) -> i32 {
    if max == 0 { MAX_ENTRIES } else { max.min(MAX_ENTRIES) }
}

/// The driver of that name, in this version.
pub fn plugin_info(driver: &str) -> GetPluginInfoResponse {
    GetPluginInfoResponse {
        name: driver.to_owned(),
        vendor_version: env!("CARGO_PKG_VERSION").to_owned(),
        manifest: Default::default(),
    }
}

/// The services and what holds for all of them.
pub fn plugin() -> GetPluginCapabilitiesResponse {
    use plugin_capability::Type;
    let services =
        SERVICES.map(|service| Type::Service(plugin_capability::Service { r#type: service as i32 }));
    // ONLINE says "also while published"; OFFLINE would say "only while not".
    let expansion =
        Type::VolumeExpansion(plugin_capability::VolumeExpansion { r#type: Expansion::Online as i32 });
    let all = services.into_iter().chain([expansion]);
    let capabilities = all.map(|kind| PluginCapability { r#type: Some(kind) }).collect();
    GetPluginCapabilitiesResponse { capabilities }
}

/// What the controller service can do.
pub fn controller() -> ControllerGetCapabilitiesResponse {
    use controller_service_capability::{Rpc, Type};
    let one = |can: Can| ControllerServiceCapability { r#type: Some(Type::Rpc(Rpc { r#type: can as i32 })) };
    ControllerGetCapabilitiesResponse { capabilities: CAN.map(one).into() }
}

/// What the group controller service can do.
pub fn group_controller() -> GroupControllerGetCapabilitiesResponse {
    use group_controller_service_capability::{Rpc, Type, rpc};
    let can = Rpc { r#type: rpc::Type::CreateDeleteGetVolumeGroupSnapshot as i32 };
    let capabilities = vec![GroupControllerServiceCapability { r#type: Some(Type::Rpc(can)) }];
    GroupControllerGetCapabilitiesResponse { capabilities }
}
