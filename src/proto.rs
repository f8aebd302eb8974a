//! The wire types, as `build.rs` generates them from `proto/`.
//!
//! They are the edge's business alone: the domain knows nothing of them. A request that carries
//! credentials can be printed with `{:?}`; the values of its secret fields are left out.

/// `csi.v1`: the Container Storage Interface.
#[allow(clippy::all, clippy::unwrap_used, clippy::expect_used, missing_docs, unreachable_pub)]
pub mod csi {
    tonic::include_proto!("csi.v1");
    include!(concat!(env!("OUT_DIR"), "/csi.v1.debug.rs"));
}

/// `offshoot.v1`: the service that Offshoot adds to it.
#[allow(clippy::all, clippy::unwrap_used, clippy::expect_used, missing_docs, unreachable_pub)]
pub mod offshoot {
    tonic::include_proto!("offshoot.v1");
    include!(concat!(env!("OUT_DIR"), "/offshoot.v1.debug.rs"));
}

/// Both packages and everything they import, as an encoded `google.protobuf.FileDescriptorSet`:
/// what server reflection answers from.
pub const DESCRIPTOR: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptor.bin"));
