//! Changed blocks: the agent's stream, passed through at the reader's pace.

use std::pin::Pin;
use std::sync::Arc;

use tokio_stream::{Stream, StreamExt as _};
use tonic::{Request, Response, Status, Streaming};

use super::Router;
use super::agent::{Agent, Link};
use super::clients;
use super::failure::{Answer, answer};
use super::head::Head;
use crate::csi::rpc::Rpc;
use crate::proto::csi::snapshot_metadata_server::SnapshotMetadata;
use crate::proto::csi::*;

pub(super) type Messages<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// The agent's stream as the caller's. Nothing is kept here: HTTP/2 holds the agent back while the caller is slow.
pub(super) fn through<T: Send + 'static>(
    rpc: Rpc,
    agent: Arc<Agent>,
    link: Link,
    said: Streaming<T>,
) -> Messages<T> {
    Box::pin(said.map(move |item| item.map_err(|status| agent.failure(&link, status).status(rpc))))
}

#[tonic::async_trait]
impl SnapshotMetadata for Router {
    type GetMetadataAllocatedStream = Messages<GetMetadataAllocatedResponse>;
    type GetMetadataDeltaStream = Messages<GetMetadataDeltaResponse>;

    async fn get_metadata_allocated(
        &self,
        request: Request<GetMetadataAllocatedRequest>,
    ) -> Result<Response<Self::GetMetadataAllocatedStream>, Status> {
        let (head, message) = Head::split(request);
        let done = async {
            let agent = self.owner(&message.snapshot_id).await?;
            let link = agent.link().await?;
            let mut client = clients::metadata(link.channel.clone());
            let said = client.get_metadata_allocated(head.request(message)).await;
            let said = said.map_err(|status| agent.failure(&link, status))?.into_inner();
            Answer::Ok(through(Rpc::GetMetadataAllocated, agent, link, said))
        };
        answer(Rpc::GetMetadataAllocated, done.await)
    }

    async fn get_metadata_delta(
        &self,
        request: Request<GetMetadataDeltaRequest>,
    ) -> Result<Response<Self::GetMetadataDeltaStream>, Status> {
        let (head, message) = Head::split(request);
        let done = async {
            let agent = self.owner(&message.target_snapshot_id).await?;
            let link = agent.link().await?;
            let mut client = clients::metadata(link.channel.clone());
            let said = client.get_metadata_delta(head.request(message)).await;
            let said = said.map_err(|status| agent.failure(&link, status))?.into_inner();
            Answer::Ok(through(Rpc::GetMetadataDelta, agent, link, said))
        };
        answer(Rpc::GetMetadataDelta, done.await)
    }
}
