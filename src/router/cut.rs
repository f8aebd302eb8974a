//! One group of snapshots on several nodes at one moment: docs/decisions/0013.
//!
//! A stream to each agent: all freeze and say so, then all are told to cut. What breaks before that leaves nothing,
//! since an agent whose stream ends thaws. What breaks after it is deleted again; where not even that can be done, the
//! answer says that a retry goes on, and the retry finds what is left: an agent says, instead of freezing, that it has
//! a group of this name. Parts of one attempt on all agents are the group. Parts on some of them are of another moment
//! than those that are still to be cut, and go; but only if their id says that they were cut for this very request: a
//! finished group that somebody else has under this name is not ours to delete.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tracing::Instrument as _;

use super::agent::{Agent, Link};
use super::clients;
use super::everyone::{LONG, ask_each};
use super::failure::{Answer, Failure};
use super::group::whole;
use super::head::Head;
use crate::proto::agent::cut_group_request::{self as asked, Begin};
use crate::proto::agent::cut_group_response::Step;
use crate::proto::agent::{CutGroupRequest, CutGroupResponse};
use crate::proto::csi::{
    CreateVolumeGroupSnapshotRequest, DeleteVolumeGroupSnapshotRequest, Snapshot, VolumeGroupSnapshot,
};
use crate::volume::{Error, GroupId, Kind, Result, VolumeId};

/// How long all agents together may take to freeze: below the time after which the first of them would thaw.
const FREEZE: Duration = Duration::from_secs(8);

/// How long an agent may take to cut what is frozen.
const CUT: Duration = Duration::from_secs(60);

/// How often a request is begun anew after parts of an earlier attempt were removed.
const ATTEMPTS: usize = 3;

/// A request, and who has its members.
pub(super) struct Cut {
    head: Head,
    name: String,
    parameters: std::collections::BTreeMap<String, String>,
    members: Vec<String>,
    first: VolumeId,
    shares: Vec<(Arc<Agent>, Vec<String>)>,
}

/// An agent that has frozen, or that has the group already.
struct Part {
    agent: Arc<Agent>,
    link: Link,
    tell: mpsc::Sender<CutGroupRequest>,
    hear: Streaming<CutGroupResponse>,
    existing: Option<String>,
}

/// What the agents hold when all have answered `begin`.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    /// All are frozen.
    Nothing,
    /// All have this group.
    Whole,
    /// Some have parts of earlier attempts.
    Parts,
}

impl Cut {
    pub(super) fn new(
        head: Head,
        request: &CreateVolumeGroupSnapshotRequest,
        shares: Vec<(Arc<Agent>, Vec<String>)>,
    ) -> Result<Cut> {
        let CreateVolumeGroupSnapshotRequest { name, source_volume_ids, secrets: _, parameters } = request;
        let first = source_volume_ids.first().and_then(|id| id.parse::<VolumeId>().ok());
        let first = first.ok_or_else(|| Error::invalid("source_volume_ids", "is missing"))?;
        Ok(Cut {
            head,
            name: name.clone(),
            parameters: parameters.clone(),
            members: source_volume_ids.clone(),
            first,
            shares,
        })
    }

    /// Cuts the group, or finds it. Goes on where the caller does not wait for it.
    pub(super) async fn run(self) -> Answer<VolumeGroupSnapshot> {
        let work = async move {
            for _ in 0..ATTEMPTS {
                if let Some(group) = self.attempt().await? {
                    return Ok(group);
                }
            }
            let text = format!(
                "name: parts of group snapshot {:?} come back as they are removed; call again",
                self.name
            );
            Err(Error::new(Kind::Busy, text).into())
        };
        let done = tokio::spawn(work.in_current_span()).await;
        done.unwrap_or_else(|_| Err(Error::internal("the cutting of the group broke off").into()))
    }

    /// One attempt; `None` where parts of an earlier one were in the way and are removed.
    async fn attempt(&self) -> Answer<Option<VolumeGroupSnapshot>> {
        let id = GroupId::of(self.first.pool(), &self.members);
        let parts = self.freeze(id).await?;
        let existing: Vec<Option<&str>> = parts.iter().map(|part| part.existing.as_deref()).collect();
        match found(&existing, &self.members, &self.name)? {
            Found::Nothing => self.cut(id, parts).await.map(Some),
            Found::Whole => {
                let (made, failure) = told(parts).await;
                match failure {
                    None => self.whole(made).map(Some),
                    Some(failure) => Err(failure),
                }
            }
            Found::Parts => {
                let ids: Vec<_> = parts
                    .iter()
                    .filter_map(|part| Some((part.agent.clone(), part.existing.clone()?)))
                    .collect();
                // The streams end first: what is frozen thaws.
                drop(parts);
                tracing::warn!(
                    name = self.name,
                    "removing parts of a group snapshot that an earlier call left"
                );
                self.remove(ids).await?;
                Ok(None)
            }
        }
    }

    /// Begins on all agents, and waits until each has frozen.
    async fn freeze(&self, id: GroupId) -> Answer<Vec<Part>> {
        let created = Some(prost_types::Timestamp::from(SystemTime::now()));
        let mut freezing = JoinSet::new();
        for (n, (agent, volumes)) in self.shares.iter().enumerate() {
            let begin = Begin {
                name: self.name.clone(),
                group_snapshot_id: id.to_string(),
                source_volume_ids: volumes.clone(),
                parameters: self.parameters.clone(),
                created,
            };
            let (agent, head) = (agent.clone(), self.head.clone());
            freezing.spawn(
                async move { begun(agent, &head, begin).await.map(|part| (n, part)) }.in_current_span(),
            );
        }
        let all = async {
            let mut parts = Vec::new();
            while let Some(part) = freezing.join_next().await {
                parts.push(part.map_err(|_| Error::internal("the freezing of a group broke off"))??);
            }
            parts.sort_by_key(|(n, _)| *n);
            Answer::Ok(parts.into_iter().map(|(_, part)| part).collect())
        };
        // Leaving drops all streams, and the agents thaw.
        timeout(FREEZE, all).await.unwrap_or_else(|_| {
            let text = format!(
                "not all members can be frozen within {} s; nothing was cut, call again",
                FREEZE.as_secs()
            );
            Err(Error::new(Kind::Busy, text).into())
        })
    }

    /// Tells all to cut. Where one fails, what the others cut is removed.
    async fn cut(&self, id: GroupId, parts: Vec<Part>) -> Answer<VolumeGroupSnapshot> {
        let (made, failure) = told(parts).await;
        let Some(failure) = failure else { return self.whole(made) };
        let all = self.shares.iter().map(|(agent, _)| (agent.clone(), id.to_string()));
        match self.remove(all.collect()).await {
            Ok(()) => Err(failure),
            Err(left) => {
                let text = format!(
                    "{}; what was cut on other nodes could not be removed ({}); call again, and it is",
                    failure.text(),
                    left.text()
                );
                Err(Error::new(Kind::Unavailable, text).into())
            }
        }
    }

    fn whole(&self, made: Vec<VolumeGroupSnapshot>) -> Answer<VolumeGroupSnapshot> {
        let place = |member: &Snapshot| self.members.iter().position(|id| *id == member.source_volume_id);
        Ok(whole(made.into_iter(), place)?)
    }

    /// Removes each agent's part of a group.
    async fn remove(&self, parts: Vec<(Arc<Agent>, String)>) -> Answer<()> {
        let request = |group_snapshot_id| DeleteVolumeGroupSnapshotRequest {
            group_snapshot_id,
            ..DeleteVolumeGroupSnapshotRequest::default()
        };
        let asked = parts.into_iter().map(|(agent, id)| (agent, request(id)));
        let call =
            |channel, request| async { clients::group(channel).delete_volume_group_snapshot(request).await };
        for (_, said) in ask_each(asked, &self.head, LONG, call).await {
            said?;
        }
        Ok(())
    }
}

/// What is to be made of the groups that agents have under this name already.
fn found(existing: &[Option<&str>], members: &[String], name: &str) -> Result<Found> {
    for id in existing.iter().flatten() {
        if !id.parse::<GroupId>().is_ok_and(|id| id.is_of(members)) {
            let text = format!("name: group snapshot {name:?} exists with other source_volume_ids, as {id}");
            return Err(Error::new(Kind::AlreadyExists, text));
        }
    }
    Ok(match existing {
        [Some(first), rest @ ..] if rest.iter().all(|other| other == &Some(*first)) => Found::Whole,
        _ if existing.iter().all(Option::is_none) => Found::Nothing,
        _ => Found::Parts,
    })
}

/// Begins on one agent, and waits until it has frozen.
async fn begun(agent: Arc<Agent>, head: &Head, begin: Begin) -> Answer<Part> {
    let link = agent.link().await?;
    let (tell, told) = mpsc::channel(2);
    let begin = CutGroupRequest { step: Some(asked::Step::Begin(begin)) };
    tell.send(begin).await.map_err(|_| Error::internal("a stream ended before it began"))?;
    let mut client = clients::agent(link.channel.clone());
    let said = client.cut_group(head.request(ReceiverStream::new(told))).await;
    let mut hear = said.map_err(|status| agent.failure(&link, status))?.into_inner();
    match next(&agent, &link, &mut hear).await? {
        Step::Frozen(frozen) => {
            let existing = Some(frozen.existing_group_snapshot_id).filter(|id| !id.is_empty());
            Ok(Part { agent, link, tell, hear, existing })
        }
        Step::Group(_) => Err(strange(&agent)),
    }
}

/// Tells all to cut, and waits for all: those that did, and why the first of the others did not.
async fn told(parts: Vec<Part>) -> (Vec<VolumeGroupSnapshot>, Option<Failure>) {
    let mut cutting = JoinSet::new();
    for (n, mut part) in parts.into_iter().enumerate() {
        let work = async move {
            let cut = CutGroupRequest { step: Some(asked::Step::Cut(asked::Cut {})) };
            // Where the stream is gone, it says why below.
            let _ = part.tell.send(cut).await;
            match next(&part.agent, &part.link, &mut part.hear).await? {
                Step::Group(group) => Ok((n, group)),
                Step::Frozen(_) => Err(strange(&part.agent)),
            }
        };
        let limited = async {
            let late =
                |_| Err(Error::new(Kind::Unavailable, "an agent does not end its cut; call again").into());
            timeout(CUT, work).await.unwrap_or_else(late)
        };
        cutting.spawn(limited.in_current_span());
    }
    let (mut made, mut failure) = (Vec::new(), None);
    while let Some(done) = cutting.join_next().await {
        match done {
            Ok(Ok(part)) => made.push(part),
            Ok(Err(why)) => failure = failure.or(Some(why)),
            Err(_) => failure = failure.or(Some(Error::internal("a cut broke off").into())),
        }
    }
    made.sort_by_key(|(n, _)| *n);
    (made.into_iter().map(|(_, group)| group).collect(), failure)
}

async fn next(agent: &Agent, link: &Link, hear: &mut Streaming<CutGroupResponse>) -> Answer<Step> {
    let said = hear.message().await.map_err(|status| agent.failure(link, status))?;
    said.and_then(|said| said.step).ok_or_else(|| strange(agent))
}

fn strange(agent: &Agent) -> Failure {
    let text = format!("node {}: its agent did not follow the protocol of groups", agent.node());
    Error::internal(format!("{text}; bring the controller and its agents to one version")).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::volume::PoolId;

    #[test]
    fn only_what_was_cut_for_this_request_counts_and_only_on_all_agents_is_it_whole() {
        let pool = PoolId::random();
        let ids = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect::<Vec<_>>();
        let members = ids(&["v-a", "v-b"]);
        let [one, two] = [0, 1].map(|_| GroupId::of(pool, &members).to_string());
        let other = GroupId::of(pool, &ids(&["v-a"])).to_string();
        let alone = GroupId::new(pool).to_string();
        let check = |existing: &[Option<&str>], expect: Option<Found>| {
            let found = found(existing, &members, "night");
            match (found, expect) {
                (Ok(found), Some(expect)) => assert_eq!(found, expect, "{existing:?}"),
                (Err(error), None) => assert_eq!(error.kind(), Kind::AlreadyExists),
                (found, _) => panic!("{existing:?}: {found:?}"),
            }
        };
        check(&[None, None], Some(Found::Nothing));
        check(&[Some(&one), Some(&one)], Some(Found::Whole));
        check(&[Some(&one), None], Some(Found::Parts));
        check(&[None, Some(&one)], Some(Found::Parts));
        check(&[Some(&one), Some(&two)], Some(Found::Parts));
        // Groups of other requests under the same name, whole or not, are never taken for parts of this one.
        check(&[Some(&other), None], None);
        check(&[Some(&alone), Some(&one)], None);
        check(&[Some(&alone), Some(&alone)], None);
    }
}
