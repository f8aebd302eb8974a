//! The domain: what a volume, a snapshot and a pool *are*, and every decision that needs no input or output.
//!
//! Nothing here knows gRPC, Kubernetes, processes, files or the clock; times and facts come in as arguments. That is
//! what lets tables and property tests cover the decisions without a kernel.

pub mod error;
pub mod id;

pub mod size;

pub mod record;
pub mod spec;

pub mod capacity;
pub mod digest;
pub mod extents;
pub mod lineage;
pub mod mkfs_options;
pub mod mkfs_plan;
pub mod mount_options;
pub mod names;
pub mod nfs;
pub mod page;
pub mod param_docs;
pub mod params;
pub mod quantity;
pub mod superblock;
pub mod topology;

pub use error::{Error, Kind, Result};
pub use id::{GroupId, ObjectId, PoolId, SnapshotId, VolumeId};
pub use record::{Group, Phase, Published, Snapshot, Source, Volume};
pub use spec::{AccessMode, AccessType, Capability, FsType, Layout, Mutable, Provisioning};
