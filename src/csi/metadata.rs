//! Which blocks a snapshot holds, and which changed between two.
//!
//! A large image has millions of extents, so they are asked for and sent in chunks, and the next chunk is asked for
//! only when the caller has taken the last: a caller that is slow or gone costs one chunk. The first chunk is asked
//! for before the stream begins, so that a wrong request fails as a call and not in the middle.

use std::pin::Pin;

use tokio::sync::mpsc;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};
use tracing::Instrument as _;

use super::rpc::Rpc;
use super::status::status;
use super::{Edge, parse, render};
use crate::backend::Run;
use crate::proto::csi::snapshot_metadata_server::SnapshotMetadata;
use crate::proto::csi::*;
use crate::service::Service;
use crate::volume::size::kept;
use crate::volume::{Error, Result as Outcome};

/// Ranges in a message where the caller does not say.
const DEFAULT_RANGES: usize = 512;
/// The most ranges in a message, whatever the caller says: a message stays well under 4 MiB.
const MAX_RANGES: usize = 65_536;

type Messages<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// What both calls ask.
#[derive(Debug, Clone)]
struct Ask {
    base: Option<String>,
    target: String,
    start: u64,
    ranges: usize,
}

/// One message of either stream.
struct Chunk {
    capacity: u64,
    runs: Vec<Run>,
}

fn ranges(max_results: i32) -> Outcome<usize> {
    match usize::try_from(max_results) {
        Ok(0) => Ok(DEFAULT_RANGES),
        Ok(n) => Ok(n.min(MAX_RANGES)),
        Err(_) => {
            Err(Error::invalid("max_results", format!("is {max_results}; give 0 or a positive number")))
        }
    }
}

impl Ask {
    async fn chunk(&self, service: &Service) -> Outcome<Chunk> {
        let (snapshot, runs) =
            service.changed_blocks(self.base.as_deref(), &self.target, self.start, self.ranges).await?;
        // The whole of what is kept: a filesystem uses the last block too.
        Ok(Chunk { capacity: kept(snapshot.size), runs })
    }

    /// Where the next chunk begins, if there is one behind this.
    fn behind(&self, chunk: &Chunk) -> Option<u64> {
        let end = chunk.runs.last().map(|run| run.offset.saturating_add(run.len))?;
        (chunk.runs.len() >= self.ranges && end < chunk.capacity && end > self.start).then_some(end)
    }
}

/// Sends chunk after chunk until the end or until the caller is gone.
async fn stream<T: Send + 'static>(
    rpc: Rpc,
    service: &Service,
    mut ask: Ask,
    message: fn(Chunk) -> T,
) -> Outcome<Messages<T>> {
    let first = ask.chunk(service).await?;
    let (send, receive) = mpsc::channel(1);
    let service = service.clone();
    let sending = async move {
        let mut chunk = first;
        loop {
            let next = ask.behind(&chunk);
            if send.send(Ok(message(chunk))).await.is_err() {
                return;
            }
            let Some(start) = next else { return };
            ask.start = start;
            chunk = tokio::select! {
                chunk = ask.chunk(&service) => match chunk {
                    Ok(chunk) => chunk,
                    Err(error) => {
                        // A caller that is gone needs no error.
                        let _ = send.send(Err(status(rpc, &error))).await;
                        return;
                    }
                },
                () = send.closed() => return,
            };
        }
    };
    tokio::spawn(sending.in_current_span());
    Ok(Box::pin(ReceiverStream::new(receive)))
}

fn blocks(runs: Vec<Run>) -> Vec<BlockMetadata> {
    let block = |run: Run| BlockMetadata {
        byte_offset: render::number(run.offset),
        size_bytes: render::number(run.len),
    };
    runs.into_iter().map(block).collect()
}

fn allocated(chunk: Chunk) -> GetMetadataAllocatedResponse {
    GetMetadataAllocatedResponse {
        block_metadata_type: BlockMetadataType::VariableLength as i32,
        volume_capacity_bytes: render::number(chunk.capacity),
        block_metadata: blocks(chunk.runs),
    }
}

fn delta(chunk: Chunk) -> GetMetadataDeltaResponse {
    GetMetadataDeltaResponse {
        block_metadata_type: BlockMetadataType::VariableLength as i32,
        volume_capacity_bytes: render::number(chunk.capacity),
        block_metadata: blocks(chunk.runs),
    }
}

#[tonic::async_trait]
impl SnapshotMetadata for Edge {
    type GetMetadataAllocatedStream = Messages<GetMetadataAllocatedResponse>;
    type GetMetadataDeltaStream = Messages<GetMetadataDeltaResponse>;

    async fn get_metadata_allocated(
        &self,
        request: Request<GetMetadataAllocatedRequest>,
    ) -> Result<Response<Self::GetMetadataAllocatedStream>, Status> {
        let GetMetadataAllocatedRequest { snapshot_id, starting_offset, max_results, secrets: _ } =
            request.into_inner();
        let done = async {
            let ask = Ask {
                base: None,
                target: parse::id("snapshot_id", snapshot_id)?,
                start: parse::offset("starting_offset", starting_offset)?,
                ranges: ranges(max_results)?,
            };
            stream(Rpc::GetMetadataAllocated, self.service()?, ask, allocated).await
        };
        super::answer(Rpc::GetMetadataAllocated, done.await)
    }

    async fn get_metadata_delta(
        &self,
        request: Request<GetMetadataDeltaRequest>,
    ) -> Result<Response<Self::GetMetadataDeltaStream>, Status> {
        let GetMetadataDeltaRequest {
            base_snapshot_id,
            target_snapshot_id,
            starting_offset,
            max_results,
            secrets: _,
        } = request.into_inner();
        let done = async {
            let ask = Ask {
                base: Some(parse::id("base_snapshot_id", base_snapshot_id)?),
                target: parse::id("target_snapshot_id", target_snapshot_id)?,
                start: parse::offset("starting_offset", starting_offset)?,
                ranges: ranges(max_results)?,
            };
            stream(Rpc::GetMetadataDelta, self.service()?, ask, delta).await
        };
        super::answer(Rpc::GetMetadataDelta, done.await)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::volume::Kind;

    #[test]
    fn a_caller_may_choose_how_much_a_message_holds_within_reason() {
        assert_eq!(ranges(0).unwrap(), DEFAULT_RANGES);
        assert_eq!(ranges(3).unwrap(), 3);
        assert_eq!(ranges(i32::MAX).unwrap(), MAX_RANGES);
        assert_eq!(ranges(-1).unwrap_err().kind(), Kind::Invalid);
    }

    #[test]
    fn the_next_chunk_begins_where_a_full_one_ended_and_a_short_one_is_the_last() {
        let ask = Ask { base: None, target: String::new(), start: 100, ranges: 2 };
        let chunk = |runs: &[(u64, u64)]| Chunk {
            capacity: 1000,
            runs: runs.iter().map(|&(offset, len)| Run { offset, len }).collect(),
        };
        assert_eq!(ask.behind(&chunk(&[(100, 10), (200, 10)])), Some(210));
        assert_eq!(ask.behind(&chunk(&[(100, 10)])), None);
        assert_eq!(ask.behind(&chunk(&[(100, 10), (900, 100)])), None);
        assert_eq!(ask.behind(&chunk(&[])), None);
        // A backend that goes backwards must not make an endless stream.
        assert_eq!(ask.behind(&chunk(&[(0, 10), (20, 10)])), None);
    }
}
