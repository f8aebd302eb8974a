//! What two nodes say to each other when one copies a snapshot of the other, whatever the wire.
//!
//! The use cases of both sides meet in these types: `send` gives them out, `receive` takes them, and neither knows gRPC.
//! The side that takes them believes none of it.

use async_trait::async_trait;

use crate::volume::{FsType, Result, VolumeId};

/// The most bytes in a [`Chunk`].
pub const CHUNK: usize = 1 << 20;

/// A snapshot, as the node that has it describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Described {
    /// Bytes that its user sees.
    pub size: u64,
    /// Bytes that are sent in all, from the beginning.
    pub allocated: u64,
    /// The volume that it was cut from.
    pub volume: VolumeId,
    /// The filesystem of the volume.
    pub fs: FsType,
    /// Whether a workload ever had the volume as a raw device.
    pub raw_written: bool,
    /// Why it cannot be sent; empty where it can.
    pub refused: String,
}

/// Some bytes of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// Where they begin.
    pub offset: u64,
    /// At least one and at most [`CHUNK`].
    pub bytes: Vec<u8>,
}

/// A snapshot on another node.
#[async_trait]
pub trait RemoteSnapshot: Send + Sync + 'static {
    /// Describes the snapshot and begins to read its allocated bytes from byte `start` on.
    ///
    /// # Errors
    /// [`crate::volume::Kind::NotFound`] if it is gone, [`crate::volume::Kind::Denied`] if this node may not read it
    /// (any more), [`crate::volume::Kind::Unavailable`] if its node cannot be reached.
    async fn open(&self, start: u64) -> Result<(Described, Box<dyn Chunks>)>;
}

/// The bytes of a snapshot, in ascending order.
#[async_trait]
pub trait Chunks: Send {
    /// The next chunk; `None` only when the other side has said that this is all.
    ///
    /// # Errors
    /// As of [`RemoteSnapshot::open`]. There is nothing behind an error.
    async fn next(&mut self) -> Result<Option<Chunk>>;
}
