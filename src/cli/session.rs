//! One command's conversation with the server: the clients, whole lists, and names in place of ids.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use anyhow::{Result, anyhow, bail};
use tonic::transport::Channel;
use tonic::{Code, Response, Status};

use super::client::{Client, MAX_ANSWER};
use super::output::Output;
use crate::proto::csi::controller_client::ControllerClient;
use crate::proto::csi::group_controller_client::GroupControllerClient;
use crate::proto::csi::node_client::NodeClient;
use crate::proto::csi::snapshot_metadata_client::SnapshotMetadataClient;
use crate::proto::offshoot::data_copies_client::DataCopiesClient;
use crate::proto::offshoot::lineage_node::Kind;
use crate::proto::offshoot::{GetLineageRequest, LineageNode, ListPoolsRequest, Pool};
use crate::service::{Clock as _, SystemClock};
use crate::volume::ObjectId;
use crate::volume::record::Millis;

/// Entries that one answer may hold; more come in further pages.
pub(super) const PAGE: i32 = 1000;

/// The header of an answer that lacks what some nodes have; it names them, with commas between.
const UNREACHABLE: &str = "offshoot-unreachable";

/// So many last characters of an id name it too, where nothing else ends in them.
const SHORT: usize = 8;

/// What every command that asks the server takes.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Common {
    #[command(flatten)]
    pub(super) client: Client,
    #[command(flatten)]
    pub(super) output: Output,
}

impl Common {
    /// Connects and runs `command` to its end.
    pub(super) fn run<F: Future<Output = Result<()>>>(
        &self,
        command: impl FnOnce(Session) -> F,
    ) -> Result<()> {
        block_on(async { command(Session::open(&self.client).await?).await })
    }
}

/// Runs a command that waits.
pub(super) fn block_on(command: impl Future<Output = Result<()>>) -> Result<()> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(command)
}

/// A connection to the server.
pub(super) struct Session {
    channel: Channel,
    unreachable: Mutex<BTreeSet<String>>,
}

impl Session {
    /// Connects.
    pub(super) async fn open(client: &Client) -> Result<Session> {
        // The transport's chain says one thing several times; its root says why.
        let channel = client.connect().await.map_err(|error| anyhow!("{error}: {}", error.root_cause()))?;
        Ok(Session { channel, unreachable: Mutex::default() })
    }

    pub(super) fn channel(&self) -> Channel {
        self.channel.clone()
    }

    pub(super) fn controller(&self) -> ControllerClient<Channel> {
        ControllerClient::new(self.channel.clone()).max_decoding_message_size(MAX_ANSWER)
    }

    pub(super) fn groups(&self) -> GroupControllerClient<Channel> {
        GroupControllerClient::new(self.channel.clone()).max_decoding_message_size(MAX_ANSWER)
    }

    pub(super) fn node(&self) -> NodeClient<Channel> {
        NodeClient::new(self.channel.clone())
    }

    pub(super) fn metadata(&self) -> SnapshotMetadataClient<Channel> {
        SnapshotMetadataClient::new(self.channel.clone()).max_decoding_message_size(MAX_ANSWER)
    }

    pub(super) fn copies(&self) -> DataCopiesClient<Channel> {
        DataCopiesClient::new(self.channel.clone()).max_decoding_message_size(MAX_ANSWER)
    }

    /// Every volume, snapshot and group; with `id`, what that came from and what came from it. Asking what each takes
    /// is slow where there are thousands, so `skip_usage` where nobody looks at it.
    pub(super) async fn lineage(&self, id: &str, skip_usage: bool) -> Result<Vec<LineageNode>> {
        let mut all = Vec::new();
        let mut token = String::new();
        loop {
            let request =
                GetLineageRequest { id: id.to_owned(), max_entries: PAGE, starting_token: token, skip_usage };
            let page = self.whole(self.copies().get_lineage(request).await)?;
            all.extend(page.nodes);
            token = page.next_token;
            if token.is_empty() {
                return Ok(all);
            }
        }
    }

    /// Every pool.
    pub(super) async fn pools(&self) -> Result<Vec<Pool>> {
        Ok(self.whole(self.copies().list_pools(ListPoolsRequest {}).await)?.pools)
    }

    /// The answer, after noting what it lacks.
    pub(super) fn whole<T>(&self, answer: Result<Response<T>, Status>) -> Result<T> {
        let answer = answer.map_err(said)?;
        for names in answer.metadata().get_all(UNREACHABLE).iter().filter_map(|names| names.to_str().ok()) {
            let names = names.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned);
            self.unreachable.lock().unwrap_or_else(PoisonError::into_inner).extend(names);
        }
        Ok(answer.into_inner())
    }

    /// The nodes whose objects are missing in what was answered so far.
    pub(super) fn unreachable(&self) -> Vec<String> {
        self.unreachable.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    /// The names of the pools by their ids.
    pub(super) async fn pool_names(&self) -> Result<BTreeMap<String, String>> {
        Ok(self.pools().await?.into_iter().map(|pool| (pool.id, pool.name)).collect())
    }

    /// The id of the volume that a person names.
    pub(super) async fn volume(&self, name_or_id: &str) -> Result<String> {
        self.resolve(&[Kind::Volume], name_or_id).await
    }

    /// The id of the snapshot that a person names.
    pub(super) async fn snapshot(&self, name_or_id: &str) -> Result<String> {
        self.resolve(&[Kind::Snapshot], name_or_id).await
    }

    /// The id of the object of one of these kinds that a person names.
    pub(super) async fn resolve(&self, kinds: &[Kind], name_or_id: &str) -> Result<String> {
        // An id needs no list, and the server knows best what it thinks of one of another kind.
        if name_or_id.parse::<ObjectId>().is_ok() {
            return Ok(name_or_id.to_owned());
        }
        pick(kinds, name_or_id, &self.lineage("", true).await?)
    }
}

/// Finds the one object that has this name, or whose id ends so.
fn pick(kinds: &[Kind], text: &str, nodes: &[LineageNode]) -> Result<String> {
    let what = kinds.iter().map(|kind| kind_name(*kind)).collect::<Vec<_>>().join(" or ");
    let of_kind = || nodes.iter().filter(|node| kinds.contains(&node.kind()));
    let mut found: Vec<_> = of_kind().filter(|node| node.name == text).collect();
    if found.is_empty() && text.len() >= SHORT {
        found = of_kind().filter(|node| node.id.ends_with(text)).collect();
    }
    match found.as_slice() {
        [one] => Ok(one.id.clone()),
        [] => {
            let list = match kinds {
                [Kind::Volume] => "offshoot volume list",
                [Kind::Snapshot] => "offshoot snapshot list",
                [Kind::Group] => "offshoot group list",
                _ => "offshoot tree",
            };
            bail!("no {what} has the name or id {text:?}; see what there is with `{list}`")
        }
        several => {
            let ids: Vec<_> = several.iter().map(|node| node.id.as_str()).collect();
            bail!("{} {what}s have the name {text:?}; give one of their ids: {}", ids.len(), ids.join(", "))
        }
    }
}

/// The last characters of an id: enough for a person to tell objects apart, and to name them.
pub(super) fn short(id: &str) -> &str {
    id.len().checked_sub(SHORT).and_then(|start| id.get(start..)).unwrap_or(id)
}

/// A kind in words.
pub(super) fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::UnknownKind => "object",
        Kind::Volume => "volume",
        Kind::Snapshot => "snapshot",
        Kind::Group => "group",
    }
}

/// What the server said, as it said it.
pub(super) fn said(status: Status) -> anyhow::Error {
    let message = status.message();
    match status.code() {
        Code::Unimplemented if message.is_empty() => {
            anyhow!("this server cannot do that; it may be older than this program")
        }
        code if message.is_empty() => anyhow!("{code}"),
        // Not the server's word but the connection's: there was no answer.
        _ if message == "transport error" => {
            anyhow!("the server went away before it answered; look at its log, then repeat the command")
        }
        _ => anyhow!("{message}"),
    }
}

/// A moment of the wire, in milliseconds.
pub(super) fn millis(time: Option<&prost_types::Timestamp>) -> Option<Millis> {
    time.map(|time| time.seconds.saturating_mul(1000).saturating_add(i64::from(time.nanos) / 1_000_000))
}

/// The moment that ages are counted from.
pub(super) fn now() -> Millis {
    SystemClock.now()
}

/// A size of the wire.
pub(super) fn bytes(wire: i64) -> u64 {
    u64::try_from(wire).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(kind: Kind, name: &str, id: &str) -> LineageNode {
        LineageNode { id: id.into(), kind: kind.into(), name: name.into(), ..LineageNode::default() }
    }

    #[track_caller]
    fn check(kind: Kind, text: &str, expect: Result<&str, &str>) {
        let nodes = [
            node(Kind::Volume, "db", "v-aaaaaaaa-00000001"),
            node(Kind::Volume, "twin", "v-aaaaaaaa-00000002"),
            node(Kind::Volume, "twin", "v-aaaaaaaa-00000003"),
            node(Kind::Snapshot, "db", "s-aaaaaaaa-00000001"),
        ];
        let found = pick(&[kind], text, &nodes).map_err(|error| error.to_string());
        assert_eq!(found.as_deref().map_err(|error| error.as_str()), expect);
    }

    #[test]
    fn a_name_stands_for_the_one_object_of_that_kind() {
        check(Kind::Volume, "db", Ok("v-aaaaaaaa-00000001"));
        check(Kind::Snapshot, "db", Ok("s-aaaaaaaa-00000001"));
        check(Kind::Volume, "00000003", Ok("v-aaaaaaaa-00000003"));
    }

    #[test]
    fn a_name_that_fits_none_or_several_says_what_to_give() {
        check(
            Kind::Volume,
            "twin",
            Err(
                "2 volumes have the name \"twin\"; give one of their ids: v-aaaaaaaa-00000002, v-aaaaaaaa-00000003",
            ),
        );
        check(
            Kind::Snapshot,
            "monday",
            Err("no snapshot has the name or id \"monday\"; see what there is with `offshoot snapshot list`"),
        );
        // Too short to be the end of an id.
        check(
            Kind::Volume,
            "3",
            Err("no volume has the name or id \"3\"; see what there is with `offshoot volume list`"),
        );
    }

    #[test]
    fn the_servers_words_are_passed_on_as_they_are() {
        assert_eq!(said(Status::not_found("volume \"x\" is gone")).to_string(), "volume \"x\" is gone");
        assert!(said(Status::unimplemented("")).to_string().contains("older"));
    }
}
