//! Changed blocks through the real sidecar: a device built from what it says equals the snapshot, byte for byte.
//!
//! The sidecar's own API (`snapshotmetadata.SnapshotMetadata`) has two calls; their messages are written down here.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::rc::Rc;

use anyhow::{Context, Result, ensure};
use http::uri::PathAndQuery;
use prost::Message;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic_prost::ProstCodec;

use crate::objects::{CONTENT, text};
use crate::setup::{DRIVER, inside, metadata_host};
use crate::space::{Claim, Pod, Space};

const SIZE: usize = 64 << 20;

#[derive(Clone, PartialEq, Message)]
struct AllocatedRequest {
    #[prost(string, tag = "1")]
    security_token: String,
    #[prost(string, tag = "2")]
    namespace: String,
    #[prost(string, tag = "3")]
    snapshot_name: String,
    #[prost(int64, tag = "4")]
    starting_offset: i64,
    #[prost(int32, tag = "5")]
    max_results: i32,
}

#[derive(Clone, PartialEq, Message)]
struct DeltaRequest {
    #[prost(string, tag = "1")]
    security_token: String,
    #[prost(string, tag = "2")]
    namespace: String,
    #[prost(string, tag = "3")]
    base_snapshot_id: String,
    #[prost(string, tag = "4")]
    target_snapshot_name: String,
    #[prost(int64, tag = "5")]
    starting_offset: i64,
    #[prost(int32, tag = "6")]
    max_results: i32,
}

#[derive(Clone, PartialEq, Message)]
struct Answer {
    #[prost(int32, tag = "1")]
    kind: i32,
    #[prost(int64, tag = "2")]
    volume_capacity_bytes: i64,
    #[prost(message, repeated, tag = "3")]
    blocks: Vec<Block>,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct Block {
    #[prost(int64, tag = "1")]
    byte_offset: i64,
    #[prost(int64, tag = "2")]
    size_bytes: i64,
}

pub(crate) async fn run(space: Rc<Space>) -> Result<()> {
    space.claim(Claim::new("source", "e2e", "64Mi").block()).await?;
    space.start(Pod::new("writer").device("source", "/dev/disk")).await?;
    let write = |from: &str, seek: u32, count: u32| {
        format!("dd if={from} of=/dev/disk bs=64k seek={seek} count={count} conv=fsync 2>/dev/null")
    };
    // Neither at the beginning nor in order, with holes, and over each other.
    for (seek, count) in [(700, 40), (3, 5), (100, 1), (1023, 1)] {
        space.exec("writer", &write("/dev/urandom", seek, count)).await?;
    }
    let one = space.snapshot("one", "source").await?;
    for (from, seek, count) in
        [("/dev/urandom", 720, 60), ("/dev/zero", 4, 2), ("/dev/urandom", 0, 1), ("/dev/urandom", 512, 3)]
    {
        space.exec("writer", &write(from, seek, count)).await?;
    }
    space.snapshot("two", "source").await?;

    let client = Client::of(&space).await?;
    let allocated = client.allocated("one").await?;
    ensure!(total(&allocated) < SIZE / 4, "{} bytes of {SIZE} are said to be allocated", total(&allocated));
    let content = text(&one, "/status/boundVolumeSnapshotContentName");
    let content =
        space.env.objects.get(CONTENT, "", &content).await?.context("the snapshot has no content")?;
    let delta = client.delta(&text(&content, "/status/snapshotHandle"), "two").await?;
    ensure!((1..SIZE / 8).contains(&total(&delta)), "{} bytes are said to have changed", total(&delta));

    let mut built = vec![0; SIZE];
    for (snapshot, ranges) in [("one", &allocated), ("two", &delta)] {
        space.claim(Claim::new(snapshot, "e2e", "64Mi").block().of_snapshot(snapshot)).await?;
        space.start(Pod::new(snapshot).device(snapshot, "/dev/disk")).await?;
        let pid = space.env.cluster.borrow().container_pid(&space.name, snapshot, "main")?;
        let mut device = File::open(inside(pid, "/dev/disk")).context("cannot open the restored device")?;
        for (&offset, &length) in ranges {
            device.seek(SeekFrom::Start(u64::try_from(offset)?))?;
            device.read_exact(built.get_mut(offset..offset + length).context("a range beyond the end")?)?;
        }
        let mut whole = Vec::new();
        device.rewind()?;
        device.read_to_end(&mut whole)?;
        let differs = whole.iter().zip(&built).position(|(a, b)| a != b);
        ensure!(
            whole.len() == SIZE && differs.is_none(),
            "what was built differs from snapshot {snapshot} at {differs:?}"
        );
    }
    Ok(())
}

fn total(ranges: &BTreeMap<usize, usize>) -> usize {
    ranges.values().sum()
}

struct Client {
    channel: Channel,
    token: String,
    namespace: String,
}

impl Client {
    /// As a backup program in a pod of the namespace would.
    async fn of(space: &Space) -> Result<Self> {
        let env = &space.env;
        let may = "--resource=volumesnapshots.snapshot.storage.k8s.io";
        space.kubectl(&["create", "role", "backup", "--verb=get", may]).await?;
        let account = format!("--serviceaccount={}:default", space.name);
        space.kubectl(&["create", "rolebinding", "backup", "--role=backup", &account]).await?;
        let token = space.kubectl(&["create", "token", "default", &format!("--audience={DRIVER}")]).await?;
        let controller = env.pods_of("controller").await?;
        let address = text(controller.first().context("there is no controller")?, "/status/podIP");
        let authority = std::fs::read(env.file("metadata/ca.crt"))?;
        let tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(authority))
            .domain_name(metadata_host());
        let endpoint = Endpoint::from_shared(format!("https://{address}:50051"))?.tls_config(tls)?;
        let channel = endpoint.connect().await.context("cannot reach the metadata sidecar")?;
        Ok(Self { channel, token: token.trim().to_owned(), namespace: space.name.clone() })
    }

    async fn allocated(&self, snapshot: &str) -> Result<BTreeMap<usize, usize>> {
        let request = AllocatedRequest {
            security_token: self.token.clone(),
            namespace: self.namespace.clone(),
            snapshot_name: snapshot.to_owned(),
            starting_offset: 0,
            max_results: 3,
        };
        self.ask("/snapshotmetadata.SnapshotMetadata/GetMetadataAllocated", request).await
    }

    async fn delta(&self, base: &str, target: &str) -> Result<BTreeMap<usize, usize>> {
        let request = DeltaRequest {
            security_token: self.token.clone(),
            namespace: self.namespace.clone(),
            base_snapshot_id: base.to_owned(),
            target_snapshot_name: target.to_owned(),
            starting_offset: 0,
            max_results: 3,
        };
        self.ask("/snapshotmetadata.SnapshotMetadata/GetMetadataDelta", request).await
    }

    /// All ranges of an answer, by where they begin.
    async fn ask<R: Message + 'static>(
        &self,
        path: &'static str,
        request: R,
    ) -> Result<BTreeMap<usize, usize>> {
        let mut client = tonic::client::Grpc::new(self.channel.clone());
        client.ready().await?;
        let codec = ProstCodec::<R, Answer>::default();
        let stream = client
            .server_streaming(tonic::Request::new(request), PathAndQuery::from_static(path), codec)
            .await;
        let mut stream = stream.with_context(|| path.to_owned())?.into_inner();
        let mut found = BTreeMap::new();
        while let Some(answer) = stream.message().await.with_context(|| path.to_owned())? {
            ensure!(
                usize::try_from(answer.volume_capacity_bytes)? == SIZE,
                "the volume is said to have another size: {answer:?}"
            );
            ensure!(answer.blocks.len() <= 3, "more in a message than was asked for");
            for block in answer.blocks {
                found.insert(usize::try_from(block.byte_offset)?, usize::try_from(block.size_bytes)?);
            }
        }
        Ok(found)
    }
}
