//! What several nodes do together, as far as one node does it: its part of a group, and a copy whose source is on
//! another node.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;

use offshoot::host::Host;
use offshoot::service::api::{CreateVolume, SourceRef};
use offshoot::service::transfer::{Chunk, Chunks, Described, RemoteSnapshot};
use offshoot::service::{Gate, GroupPart, Reader};
use offshoot::volume::size::Range;
use offshoot::volume::{GroupId, Kind, PoolId, Result, SnapshotId};

use super::cases::{Sum, members};
use super::sweep::{Flow, How, Keep, Machine, sweep};
use super::{POOL, PoolFs, Rig, SIZE, as_thick, blank};

/// Cuts this node's part of the group `group` as the router asks for it: under an id of its own, which it chooses anew
/// for each attempt. It says `cut`, or goes away instead.
async fn cut_part(rig: &Rig, members: &[String], goes_on: bool) -> Result<usize> {
    let (gate, reached, opens) = Gate::new();
    let part = GroupPart { id: GroupId::new(PoolId::random()), created: None, gate };
    let router = async {
        if reached.await.is_ok() && goes_on {
            let _ = opens.send(());
        }
    };
    let cutting = rig.service.cut_group_part("group", members.to_vec(), part);
    let (made, ()) = tokio::join!(cutting, router);
    Ok(made?.snapshots.len())
}

/// A part of a group over several nodes.
pub async fn parts(how: How, fs: PoolFs) -> Sum {
    let mut sum = Sum::default();
    let cut = Flow::new(
        "cut a part of a group",
        Machine::Same,
        async |rig: &mut Rig| members(rig).await,
        async |rig: &Rig, ids: &Vec<String>| cut_part(rig, ids, true).await.map(drop),
        async |rig: &Rig, ids: &Vec<String>| {
            assert_eq!(cut_part(rig, ids, true).await.unwrap(), 3);
            let mut values: Vec<_> =
                rig.snapshots().iter().map(|s| rig.read(&s.id.to_string()).unwrap()).collect();
            values.sort_unstable();
            assert_eq!(values, ["a", "b", "c"]);
        },
    );
    sum.add(sweep(how, fs, &cut).await);

    let left = Flow::new(
        "cut a part of a group for a router that goes away",
        Machine::Same,
        async |rig: &mut Rig| members(rig).await,
        async |rig: &Rig, ids: &Vec<String>| match cut_part(rig, ids, false).await {
            Err(error) if error.to_string().starts_with("nothing was cut") => Ok(()),
            other => other.map(drop),
        },
        async |rig: &Rig, _: &Vec<String>| assert!(rig.snapshots().is_empty()),
    );
    sum.add(sweep(how, fs, &left).await);

    let delete = Flow::new(
        "delete a part of a group",
        Machine::Same,
        async |rig: &mut Rig| {
            let (ids, kept) = members(rig).await;
            cut_part(rig, &ids, true).await.unwrap();
            let group = rig.snapshots()[0].group.unwrap().to_string();
            (group, kept)
        },
        async |rig: &Rig, id: &String| rig.service.delete_group_snapshot(id, &[]).await,
        async |rig: &Rig, id: &String| {
            assert!(rig.snapshots().is_empty());
            assert_eq!(rig.service.get_group_snapshot(id, &[]).unwrap_err().kind(), Kind::NotFound);
        },
    );
    sum.add(sweep(how, fs, &delete).await);
    sum
}

/// A snapshot of another node, read into memory once.
struct Source {
    id: SnapshotId,
    described: Described,
    chunks: Vec<Chunk>,
}

/// One call's view of it.
struct Reading {
    source: Arc<Source>,
    /// Where it was opened.
    opened: Mutex<Vec<u64>>,
}

struct Stream(VecDeque<Chunk>);

#[async_trait]
impl RemoteSnapshot for Reading {
    async fn open(&self, start: u64) -> Result<(Described, Box<dyn Chunks>)> {
        self.opened.lock().unwrap().push(start);
        let rest = self.source.chunks.iter().filter(|chunk| chunk.offset >= start).cloned().collect();
        Ok((self.source.described.clone(), Box::new(Stream(rest))))
    }
}

#[async_trait]
impl Chunks for Stream {
    async fn next(&mut self) -> Result<Option<Chunk>> {
        Ok(self.0.pop_front())
    }
}

/// The image of a volume whose file `data` says `then`, in pieces so small that several flushes lie between them.
async fn source() -> Arc<Source> {
    let there = Rig::new(PoolFs::Xfs).await;
    let volume = there.image("source", "then").await;
    let id = there.cut("snapshot", &volume).await.unwrap().id;
    let opened = there.service.send_snapshot(&id.to_string(), 0, Reader::Controller).await;
    let (described, mut sending) = opened.unwrap();
    let mut chunks = Vec::new();
    while let Some(chunk) = sending.next().await.unwrap() {
        for (offset, bytes) in (chunk.offset..).step_by(4096).zip(chunk.bytes.chunks(4096)) {
            chunks.push(Chunk { offset, bytes: bytes.to_vec() });
        }
    }
    Arc::new(Source { id, described, chunks })
}

/// How far the unfinished copy has come, by its record.
fn received(rig: &Rig) -> Option<u64> {
    let dir = Path::new(POOL).join("volumes");
    let entries = rig.fake.read_dir(&dir).ok()?;
    let intent = entries.iter().find(|entry| entry.name.ends_with(".creating"))?;
    let record = rig.fake.read_file(&dir.join(&intent.name)).ok()??;
    let record: serde_json::Value = serde_json::from_slice(&record).ok()?;
    record["receiving"]["received"].as_u64()
}

async fn copy(rig: &Rig, source: &Arc<Source>, request: CreateVolume) -> Result<String> {
    let recorded = received(rig);
    let remote = Arc::new(Reading { source: source.clone(), opened: Mutex::default() });
    let made = rig.service.create_volume_from(request, source.id, remote.clone()).await;
    let opened = remote.opened.lock().unwrap().clone();
    if let (Some(recorded), Some(first)) = (recorded, opened.first()) {
        assert_eq!(*first, recorded, "what has come is not read again");
    }
    Ok(made?.volume.id.to_string())
}

/// CreateVolume from another node.
pub async fn copies(how: How, fs: PoolFs) -> Sum {
    let source = source().await;
    assert!(source.chunks.len() > 6);
    let mut sum = Sum::default();
    for (name, thick, size) in
        [("copy from another node", false, SIZE), ("copy thick and larger from another node", true, 2 * SIZE)]
    {
        let request = {
            let from = SourceRef::Snapshot(source.id.to_string());
            move || {
                let plain = CreateVolume {
                    source: Some(from.clone()),
                    range: Range { required: size, limit: 0 },
                    ..blank("new")
                };
                if thick { as_thick(plain) } else { plain }
            }
        };
        let (asked, again) = (request.clone(), request);
        let (here, there) = (source.clone(), source.clone());
        let flow = Flow::new(
            name,
            Machine::Same,
            async |_: &mut Rig| ((), Keep::new()),
            async move |rig: &Rig, _: &()| copy(rig, &here, asked()).await.map(drop),
            async move |rig: &Rig, _: &()| {
                let id = copy(rig, &there, again()).await.unwrap();
                assert_eq!(rig.read(&id).as_deref(), Some("then"));
                assert_eq!(rig.volumes().await, std::slice::from_ref(&id));
                let volume = rig.service.get_volume(&id).await.unwrap();
                assert_eq!((volume.volume.size, volume.faults), (size, vec![]));
                for chunk in &there.chunks {
                    let bytes = rig.fake.read_at(&rig.bytes(&id), chunk.offset, chunk.bytes.len());
                    assert_eq!(bytes.unwrap(), chunk.bytes);
                }
            },
        );
        sum.add(sweep(how, fs, &flow).await);
    }
    sum
}
