//! What the owner of a claim is told of its copy to another node, which may take hours: that it begins, now and then how
//! far it is, and that it is whole. Why a copy failed is not told here: the provisioner tells whatever a call answers.
//!
//! Telling is a courtesy. It runs beside the copy, which never waits for it, and ends with the call: a call that is made
//! again, while the copy goes on or to go on with it, tells how far it is.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};
use tracing::Instrument as _;

use super::agent::Agent;
use super::clients;
use super::failure::Answer;
use super::head::Head;
use crate::proto::agent::FindNameRequest;
use crate::proto::agent::find_name_request::Kind as NameKind;
use crate::proto::csi::CreateVolumeRequest;
use crate::proto::offshoot::{Progress, WatchProgressRequest};
use crate::volume::params::CreateParams;
use crate::volume::record::Claim;

/// How long a copy runs before it is first said how far it is, and how often that is said from then on.
const FIRST: Duration = Duration::from_secs(5);
const EVERY: Duration = Duration::from_secs(30);

/// How long a node may take to say how far it is.
const PATIENCE: Duration = Duration::from_secs(2);

/// Tells the owner of a claim something.
#[async_trait]
pub trait Tell: Send + Sync {
    /// That something about the claim goes on.
    async fn claim(&self, namespace: &str, claim: &str, reason: &str, message: &str);
}

/// A copy that somebody is told of.
pub(super) struct Story {
    tell: Arc<dyn Tell>,
    claim: Claim,
    volume: String,
    source: String,
    target: Arc<Agent>,
    /// Whether an earlier call has begun it.
    goes_on: bool,
}

impl Story {
    /// The copy that a request asks for, from the node `source` to `target`; `None` where nobody is named who could be told.
    pub(super) fn of(
        tell: &Option<Arc<dyn Tell>>,
        request: &CreateVolumeRequest,
        source: &str,
        target: &Arc<Agent>,
        goes_on: bool,
    ) -> Option<Story> {
        let parameters = CreateParams::parse(&request.parameters, &request.mutable_parameters).ok()?;
        Some(Story {
            tell: tell.clone()?,
            claim: parameters.claim?,
            volume: request.name.clone(),
            source: source.to_owned(),
            target: target.clone(),
            goes_on,
        })
    }

    /// Tells from now on, one thing at least, until the copy is said to be whole or the sender is dropped.
    pub(super) fn begin(self, head: &Head) -> oneshot::Sender<()> {
        let (whole, ended) = oneshot::channel();
        let head = head.clone();
        tokio::spawn(async move { self.go_on(&head, ended).await }.in_current_span());
        whole
    }

    async fn go_on(self, head: &Head, mut ended: oneshot::Receiver<()>) {
        let way = format!("from node {} to node {}", self.source, self.target.node());
        // The provisioner gives up waiting and calls again: for hours, such calls are all that the router hears of the copy.
        if !self.goes_on || !self.say_how_far(head, &way).await {
            self.say("RemoteCopyStarted", &format!("the data is being copied {way}")).await;
        }
        let mut pause = FIRST;
        loop {
            tokio::select! {
                whole = &mut ended => {
                    if whole.is_ok() {
                        self.say("RemoteCopyDone", &format!("the data has been copied {way}")).await;
                    }
                    return;
                }
                () = sleep(pause) => {}
            }
            self.say_how_far(head, &way).await;
            pause = EVERY;
        }
    }

    /// Whether it could be said.
    async fn say_how_far(&self, head: &Head, way: &str) -> bool {
        let Ok(Ok(Some(now))) = timeout(PATIENCE, self.how_far(head)).await else { return false };
        self.say("RemoteCopyProgress", &progress(&now, way)).await;
        true
    }

    async fn say(&self, reason: &str, message: &str) {
        self.tell.claim(&self.claim.namespace, &self.claim.name, reason, message).await;
    }

    /// What the target says of its unfinished volume.
    async fn how_far(&self, head: &Head) -> Answer<Option<Progress>> {
        let request = FindNameRequest { kind: NameKind::Volume as i32, name: self.volume.clone() };
        let call = |channel, request| async { clients::agent(channel).find_name(request).await };
        let volume_id = self.target.ask(head, request, call).await?.id;
        if volume_id.is_empty() {
            return Ok(None);
        }
        let link = self.target.link().await?;
        let request = head.request(WatchProgressRequest { volume_id });
        let said = clients::copies(link.channel.clone()).watch_progress(request).await;
        let mut said = said.map_err(|status| self.target.failure(&link, status))?.into_inner();
        said.message().await.map_err(|status| self.target.failure(&link, status))
    }
}

fn progress(now: &Progress, way: &str) -> String {
    let mib = |bytes: i64| bytes >> 20;
    let (done, total) = (now.done_bytes, now.total_bytes);
    let percent = i128::from(done) * 100 / i128::from(total.max(1));
    format!("{} of {} MiB ({percent} %) have been copied {way}", mib(done), mib(total))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_told_in_numbers_that_people_read() {
        fn check(done: i64, total: i64, expect: &str) {
            let now = Progress { done_bytes: done, total_bytes: total, ..Progress::default() };
            assert_eq!(progress(&now, "from node a to node b"), expect);
        }
        check(0, 0, "0 of 0 MiB (0 %) have been copied from node a to node b");
        check(5 << 30, 20 << 30, "5120 of 20480 MiB (25 %) have been copied from node a to node b");
        check(
            i64::MAX,
            i64::MAX,
            "8796093022207 of 8796093022207 MiB (100 %) have been copied from node a to node b",
        );
    }
}
