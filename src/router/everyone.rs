//! Asking all agents at once, and what is made of those that are silent.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::timeout;
use tonic::transport::Channel;
use tonic::{Request, Response, Status};
use tracing::Instrument as _;

use super::Router;
use super::agent::Agent;
use super::failure::{Answer, Failure, Partial};
use super::head::Head;
use crate::csi::rpc::Rpc;
use crate::volume::{Error, Kind};

/// How long agents are waited for that are asked something short.
pub(super) const SHORT: Duration = Duration::from_millis(1500);

/// How long agents are waited for that are asked for a list: they may have to look at every volume.
pub(super) const LONG: Duration = Duration::from_secs(30);

/// What each agent said, by the names of their nodes.
pub(super) type Heard<R> = Vec<(Arc<Agent>, Answer<R>)>;

/// What those said that answered.
pub(super) type Answered<R> = Vec<(Arc<Agent>, R)>;

/// Asks these agents the same at the same time. One that does not answer within `limit` counts as unavailable.
pub(super) async fn ask<T, R, F, C>(
    agents: &[Arc<Agent>],
    head: &Head,
    message: T,
    limit: Duration,
    call: C,
) -> Heard<R>
where
    T: Clone + Send + 'static,
    R: Send + 'static,
    C: Fn(Channel, Request<T>) -> F + Clone + Send + 'static,
    F: Future<Output = Result<Response<R>, Status>> + Send,
{
    let asked = agents.iter().map(|agent| (agent.clone(), message.clone()));
    ask_each(asked, head, limit, call).await
}

/// Asks each agent its own, at the same time.
pub(super) async fn ask_each<T, R, F, C>(
    asked: impl IntoIterator<Item = (Arc<Agent>, T)>,
    head: &Head,
    limit: Duration,
    call: C,
) -> Heard<R>
where
    T: Send + 'static,
    R: Send + 'static,
    C: Fn(Channel, Request<T>) -> F + Clone + Send + 'static,
    F: Future<Output = Result<Response<R>, Status>> + Send,
{
    let mut asking = JoinSet::new();
    for (agent, message) in asked {
        let (head, call) = (head.clone(), call.clone());
        let work = async move {
            let said = timeout(limit, agent.ask(&head, message, call)).await.unwrap_or_else(|_| {
                let text = format!("node {}: its agent does not answer; call again", agent.node());
                Err(Failure::Own(Error::new(Kind::Unavailable, text)))
            });
            (agent, said)
        };
        asking.spawn(work.in_current_span());
    }
    let mut heard = asking.join_all().await;
    heard.sort_by(|(a, _), (b, _)| a.node().cmp(b.node()));
    heard
}

impl Router {
    /// Asks all agents, and answers what those said that can be reached. Fails where one of them failed, or none can be
    /// reached though there are some.
    pub(super) async fn everyone<T, R, F, C>(
        &self,
        rpc: Rpc,
        head: &Head,
        message: T,
        call: C,
    ) -> Answer<Partial<Answered<R>>>
    where
        T: Clone + Send + 'static,
        R: Send + 'static,
        C: Fn(Channel, Request<T>) -> F + Clone + Send + 'static,
        F: Future<Output = Result<Response<R>, Status>> + Send,
    {
        let agents = self.agents.all()?;
        self.reached(rpc, ask(&agents, head, message, LONG, call).await)
    }

    /// Parts what was said from who is silent.
    pub(super) fn reached<R>(&self, rpc: Rpc, heard: Heard<R>) -> Answer<Partial<Answered<R>>> {
        let mut answers = Vec::with_capacity(heard.len());
        let mut unreachable = Vec::new();
        let mut last = None;
        for (agent, said) in heard {
            match said {
                Ok(said) => answers.push((agent, said)),
                Err(failure) if failure.is_unavailable() => {
                    unreachable.push(agent.node().to_owned());
                    last = Some(failure);
                }
                Err(failure) => return Err(failure),
            }
        }
        match last {
            Some(failure) if answers.is_empty() => Err(failure),
            Some(_) => {
                self.metrics.router().partial(rpc.path());
                tracing::warn!(
                    unreachable = unreachable.join(","),
                    "the answer leaves out what is on these nodes"
                );
                Ok(Partial { answer: answers, unreachable })
            }
            None => Ok(Partial { answer: answers, unreachable }),
        }
    }
}

impl<T> Partial<T> {
    /// Another answer with the same gaps.
    pub(super) fn map<U>(self, make: impl FnOnce(T) -> U) -> Partial<U> {
        Partial { answer: make(self.answer), unreachable: self.unreachable }
    }
}
