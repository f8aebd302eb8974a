//! Progress of copies on all nodes, as one stream without an end.
//!
//! Agents come, go and restart while somebody watches. Each has a task that follows it and begins again a second after
//! its stream broke; a new agent gets one when it appears. All of them end with the watcher.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use tracing::Instrument as _;

use super::agent::Agent;
use super::failure::Answer;
use super::head::Head;
use super::metadata::{Messages, through};
use super::{Router, clients};
use crate::csi::rpc::Rpc;
use crate::proto::offshoot::{Progress, WatchProgressRequest};

/// How long to wait before an agent whose stream broke is followed again.
const AGAIN: Duration = Duration::from_secs(1);

type Send = mpsc::Sender<Result<Progress, Status>>;

impl Router {
    pub(super) async fn watch(
        &self,
        head: Head,
        request: WatchProgressRequest,
    ) -> Answer<Messages<Progress>> {
        if !request.volume_id.is_empty() {
            let agent = self.owner(&request.volume_id).await?;
            let link = agent.link().await?;
            let said = clients::copies(link.channel.clone()).watch_progress(head.request(request)).await;
            let said = said.map_err(|status| agent.failure(&link, status))?.into_inner();
            return Ok(through(Rpc::WatchProgress, agent, link, said));
        }
        self.agents.all()?;
        let (send, receive) = mpsc::channel(16);
        let router = self.clone();
        tokio::spawn(async move { router.follow_all(head, send).await }.in_current_span());
        Ok(Box::pin(ReceiverStream::new(receive)))
    }

    async fn follow_all(&self, head: Head, send: Send) {
        let mut changes = self.agents.changes();
        let mut following: BTreeMap<String, (Arc<Agent>, JoinHandle<()>)> = BTreeMap::new();
        loop {
            let agents = self.agents.all().unwrap_or_default();
            following.retain(|_, (agent, task)| {
                let stays = agents.iter().any(|now| Arc::ptr_eq(now, agent));
                if !stays {
                    task.abort();
                }
                stays
            });
            for agent in agents {
                let (head, send) = (head.clone(), send.clone());
                following.entry(agent.node().to_owned()).or_insert_with(|| {
                    let follow = follow(agent.clone(), head, send);
                    (agent, tokio::spawn(follow.in_current_span()))
                });
            }
            tokio::select! {
                changed = changes.changed() => if changed.is_err() {
                    // The source has ended; the agents that are known stay.
                    return send.closed().await;
                },
                () = send.closed() => break,
            }
        }
        for (_, (_, task)) in following {
            task.abort();
        }
    }
}

/// Passes on what one agent says until the watcher is gone.
async fn follow(agent: Arc<Agent>, head: Head, send: Send) {
    loop {
        tokio::select! {
            _ = listen(&agent, &head, &send) => {}
            () = send.closed() => return,
        }
        tokio::select! {
            () = tokio::time::sleep(AGAIN) => {}
            () = send.closed() => return,
        }
    }
}

async fn listen(agent: &Agent, head: &Head, send: &Send) -> Answer<()> {
    let link = agent.link().await?;
    let request = head.request(WatchProgressRequest::default());
    let said = clients::copies(link.channel.clone()).watch_progress(request).await;
    let mut said = said.map_err(|status| agent.failure(&link, status))?.into_inner();
    while let Some(step) = said.message().await.map_err(|status| agent.failure(&link, status))? {
        if send.send(Ok(step)).await.is_err() {
            return Ok(());
        }
    }
    Ok(())
}
