//! The calls that this driver answers, as a closed set.
//!
//! Two things must never take a name from the wire: the label of a metric (a stranger could make millions of them) and
//! the row of the code table. Both use this enum. A test holds it to the compiled descriptor, so a call that is added
//! to `proto/` cannot be forgotten here.

use std::fmt;

macro_rules! rpcs {
    ($($service:literal { $($method:ident),+ $(,)? })+) => {
        /// One call of one service.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[allow(missing_docs, reason = "the names are those of proto/, which says what each does")]
        pub enum Rpc { $($($method,)+)+ }

        impl Rpc {
            /// Every call.
            pub const ALL: &'static [Rpc] = &[$($(Rpc::$method,)+)+];

            /// `package.Service/Method`: the path of the HTTP/2 request without its first slash.
            pub fn path(self) -> &'static str {
                match self { $($(Rpc::$method => concat!($service, "/", stringify!($method)),)+)+ }
            }

            /// The call with that path, with or without the first slash.
            pub fn from_path(path: &str) -> Option<Rpc> {
                match path.strip_prefix('/').unwrap_or(path) {
                    $($(concat!($service, "/", stringify!($method)) => Some(Rpc::$method),)+)+
                    _ => None,
                }
            }
        }
    };
}

rpcs! {
    "csi.v1.Identity" { GetPluginInfo, GetPluginCapabilities, Probe }
    "csi.v1.Controller" {
        CreateVolume, DeleteVolume, ControllerPublishVolume, ControllerUnpublishVolume, ValidateVolumeCapabilities,
        ListVolumes, ControllerListVolumeHealth, ControllerGetVolumeHealth, GetCapacity, ControllerGetCapabilities,
        CreateSnapshot, DeleteSnapshot, ListSnapshots, GetSnapshot, ControllerExpandVolume, ControllerGetVolume,
        ControllerModifyVolume,
    }
    "csi.v1.GroupController" {
        GroupControllerGetCapabilities, CreateVolumeGroupSnapshot, DeleteVolumeGroupSnapshot, GetVolumeGroupSnapshot,
    }
    "csi.v1.SnapshotMetadata" { GetMetadataAllocated, GetMetadataDelta }
    "csi.v1.Node" {
        NodeStageVolume, NodeUnstageVolume, NodePublishVolume, NodeUnpublishVolume, NodeGetVolumeStats,
        NodeGetVolumeHealth, NodeGetStorageHealth, NodeExpandVolume, NodeGetCapabilities, NodeGetInfo,
    }
    "offshoot.v1.DataCopies" {
        RewindVolume, RefreshVolume, GetLineage, ListPools, CreatePool, DeletePool, ListOrphans, ReapOrphans,
        WatchProgress, ImportVolume, Diagnose,
    }
    "offshoot.agent.v1.Agent" { FindName, CutGroup, AllowRead, ReadSnapshot, CreateVolumeFrom }
    "offshoot.agent.v1.Enrolment" { Enrol }
    "pluginregistration.Registration" { GetInfo, NotifyRegistrationStatus }
}

impl Rpc {
    /// The calls on the socket that kubelet, sidecars and people use; the others are between our own processes and
    /// kubelet.
    pub fn public() -> impl Iterator<Item = Rpc> + Clone {
        let packages = ["csi.v1.", "offshoot.v1."];
        Rpc::ALL.iter().copied().filter(move |rpc| packages.iter().any(|p| rpc.path().starts_with(p)))
    }

    /// The method's own name.
    pub fn method(self) -> &'static str {
        self.path().split_once('/').map_or("", |(_, method)| method)
    }

    /// The service's full name.
    pub fn service(self) -> &'static str {
        self.path().split_once('/').map_or("", |(service, _)| service)
    }
}

impl fmt::Display for Rpc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.path())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_calls_are_exactly_those_of_the_compiled_protocol() {
        let pool =
            prost_reflect::DescriptorPool::decode(crate::proto::DESCRIPTOR).expect("the descriptor decodes");
        let compiled: BTreeSet<String> = pool
            .services()
            .flat_map(|s| s.methods().map(|m| m.full_name().to_owned()).collect::<Vec<_>>())
            .collect();
        let known: BTreeSet<String> = Rpc::ALL.iter().map(|rpc| rpc.path().replace('/', ".")).collect();
        assert_eq!(known, compiled);
        assert_eq!(known.len(), Rpc::ALL.len());
    }

    #[test]
    fn a_path_names_its_call_and_a_stranger_names_none() {
        for &rpc in Rpc::ALL {
            assert_eq!(Rpc::from_path(&format!("/{}/{}", rpc.service(), rpc.method())), Some(rpc));
        }
        assert_eq!(Rpc::from_path("/csi.v1.Node/Format"), None);
        assert_eq!(Rpc::from_path("/grpc.health.v1.Health/Check"), None);
    }
}
