//! A snapshot's bytes on the wire between two agents: sent by one, read by the other.
//!
//! The stream may last for hours. Back-pressure is HTTP/2's: the next bytes are read from the disk when the last have
//! been taken, so a slow reader costs the sender a few chunks of memory. A reader finds a dead sender by keepalive, and
//! takes the end of a stream for the end of the data only where the sender said so.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use hyper_util::rt::TokioIo;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Status, Streaming};
use tracing::Instrument as _;

use super::agent::Messages;
use super::rpc::Rpc;
use super::server::MAX_REQUEST;
use super::status::{kind, status};
use super::{parse, render};
use crate::proto::agent::agent_client::AgentClient;
use crate::proto::agent::read_snapshot_response::Described as Told;
use crate::proto::agent::{ReadSnapshotRequest, ReadSnapshotResponse};
use crate::router::{AgentAddress, Connect};
use crate::service::Sending;
use crate::service::transfer::{CHUNK, Chunk, Chunks, Described, RemoteSnapshot};
use crate::volume::{Error, FsType, Kind, Result, SnapshotId};

/// How long a connection to another agent may take.
const CONNECT: Duration = Duration::from_secs(5);
/// How long the other agent may be silent before it is asked whether it lives, and how long it may take to say so.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(10));
/// Bytes that may be on their way.
const WINDOW: u32 = 4 << 20;

/// A snapshot that another agent has.
pub(super) struct AgentSnapshot {
    pub(super) connect: Arc<dyn Connect>,
    pub(super) agent: AgentAddress,
    pub(super) snapshot: SnapshotId,
}

impl AgentSnapshot {
    async fn dial(&self) -> Result<Channel> {
        let unreachable = |why: &str| {
            Error::new(Kind::Unavailable, format!("agent {} cannot be reached: {why}", self.agent))
        };
        let connecting = tokio::time::timeout(CONNECT, self.connect.connect(&self.agent)).await;
        let stream = connecting
            .map_err(|_| unreachable("it does not answer"))?
            .map_err(|error| unreachable(&error.to_string()))?;
        let mut stream = Some(TokioIo::new(stream));
        // The address is the connector's business; HTTP/2 only wants to see one. One stream, one connection: when it
        // breaks, the caller decides whether there is another.
        let once = tower::service_fn(move |_: Uri| {
            let stream = stream.take().ok_or_else(|| std::io::Error::other("the connection broke"));
            async move { stream }
        });
        Endpoint::from_static("http://agent")
            .http2_keep_alive_interval(KEEPALIVE.0)
            .keep_alive_timeout(KEEPALIVE.1)
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(WINDOW)
            .connect_with_connector(once)
            .await
            .map_err(|error| unreachable(&error.to_string()))
    }

    /// What the other agent said, as an error of ours.
    fn told(&self, status: &Status) -> Error {
        Error::new(kind(status), format!("agent {}: {}", self.agent, status.message()))
    }
}

#[async_trait]
impl RemoteSnapshot for AgentSnapshot {
    async fn open(&self, start: u64) -> Result<(Described, Box<dyn Chunks>)> {
        let mut client = AgentClient::new(self.dial().await?).max_decoding_message_size(MAX_REQUEST);
        let request = ReadSnapshotRequest {
            snapshot_id: self.snapshot.to_string(),
            start_offset: render::number(start),
        };
        let stream = client.read_snapshot(request).await.map_err(|status| self.told(&status))?.into_inner();
        let mut reading = Reading { agent: self.agent.clone(), stream };
        let first = reading.message().await?;
        let described = first.described.ok_or_else(|| reading.nonsense("does not describe the snapshot"))?;
        let described = described_of(described).map_err(|error| error.with_kind(Kind::Internal))?;
        Ok((described, Box::new(reading)))
    }
}

struct Reading {
    agent: AgentAddress,
    stream: Streaming<ReadSnapshotResponse>,
}

impl Reading {
    async fn message(&mut self) -> Result<ReadSnapshotResponse> {
        let broke = || {
            let text = format!("agent {} ended its stream before the end of the data", self.agent);
            Error::new(Kind::Unavailable, text)
        };
        let told =
            |status: Status| Error::new(kind(&status), format!("agent {}: {}", self.agent, status.message()));
        self.stream.message().await.map_err(told)?.ok_or_else(broke)
    }

    fn nonsense(&self, why: &str) -> Error {
        Error::internal(format!("agent {} {why}", self.agent))
    }
}

#[async_trait]
impl Chunks for Reading {
    async fn next(&mut self) -> Result<Option<Chunk>> {
        let ReadSnapshotResponse { described: _, offset, data, last } = self.message().await?;
        if last {
            return Ok(None);
        }
        if data.is_empty() || data.len() > CHUNK {
            return Err(self.nonsense(&format!("sent a message of {} bytes", data.len())));
        }
        Ok(Some(Chunk { offset: parse::offset("offset", offset)?, bytes: data }))
    }
}

fn described_of(told: Told) -> Result<Described> {
    let Told { size_bytes, allocated_bytes, source_volume_id, filesystem, raw_written, refused } = told;
    let fs = FsType::parse(&filesystem);
    Ok(Described {
        size: parse::offset("size_bytes", size_bytes)?,
        allocated: parse::offset("allocated_bytes", allocated_bytes)?,
        volume: source_volume_id
            .parse()
            .map_err(|_| Error::invalid("source_volume_id", "is no volume id"))?,
        fs: fs.ok_or_else(|| Error::invalid("filesystem", "is none of this driver"))?,
        raw_written,
        refused: refused.chars().filter(|c| !c.is_control()).take(1000).collect(),
    })
}

/// Sends a snapshot until its end, or until the reader is gone.
pub(super) fn send(described: Described, mut sending: Sending) -> Messages<ReadSnapshotResponse> {
    let (send, receive) = mpsc::channel(2);
    let Described { size, allocated, volume, fs, raw_written, refused } = described;
    let told = Told {
        size_bytes: render::number(size),
        allocated_bytes: render::number(allocated),
        source_volume_id: volume.to_string(),
        filesystem: fs.as_str().to_owned(),
        raw_written,
        refused,
    };
    let first = ReadSnapshotResponse { described: Some(told), ..Default::default() };
    let work = async move {
        let mut message = Ok(first);
        loop {
            let end = message.as_ref().map_or(true, |message: &ReadSnapshotResponse| message.last);
            // A reader that is gone needs nothing more.
            if send.send(message).await.is_err() || end {
                return;
            }
            message = match sending.next().await {
                Ok(Some(Chunk { offset, bytes })) => Ok(ReadSnapshotResponse {
                    offset: render::number(offset),
                    data: bytes,
                    ..Default::default()
                }),
                Ok(None) => Ok(ReadSnapshotResponse { last: true, ..Default::default() }),
                Err(error) => Err(status(Rpc::ReadSnapshot, &error)),
            };
        }
    };
    tokio::spawn(work.in_current_span());
    Box::pin(ReceiverStream::new(receive))
}
