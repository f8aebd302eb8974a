//! The wire types, as `build.rs` generates them from `proto/`.
//!
//! They are the edge's business alone: the domain knows nothing of them. A request that carries
//! credentials can be printed with `{:?}`; the values of its secret fields are left out.

/// As the packages nest, which is how generated code names another package's types.
#[allow(clippy::all, clippy::unwrap_used, clippy::expect_used, missing_docs, unreachable_pub)]
mod packages {
    pub mod csi {
        pub mod v1 {
            tonic::include_proto!("csi.v1");
            include!(concat!(env!("OUT_DIR"), "/csi.v1.debug.rs"));
        }
    }
    pub mod offshoot {
        pub mod v1 {
            tonic::include_proto!("offshoot.v1");
            include!(concat!(env!("OUT_DIR"), "/offshoot.v1.debug.rs"));
        }
        pub mod agent {
            pub mod v1 {
                tonic::include_proto!("offshoot.agent.v1");
                include!(concat!(env!("OUT_DIR"), "/offshoot.agent.v1.debug.rs"));
            }
        }
    }
    pub mod pluginregistration {
        tonic::include_proto!("pluginregistration");
    }
}

/// `csi.v1`: the Container Storage Interface.
pub use packages::csi::v1 as csi;
/// `offshoot.agent.v1`: what the router and the node agents say to each other.
pub use packages::offshoot::agent::v1 as agent;
/// `offshoot.v1`: the service that Offshoot adds to it.
pub use packages::offshoot::v1 as offshoot;
/// `pluginregistration`: how a plugin tells kubelet that it is there.
pub use packages::pluginregistration as kubelet;

/// All packages and everything they import, as an encoded `google.protobuf.FileDescriptorSet`:
/// what server reflection answers from.
pub const DESCRIPTOR: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptor.bin"));
