//! What a copy from another node promises, whatever that node and the wire do.

use std::collections::VecDeque;

use async_trait::async_trait;

use super::*;
use crate::host::Host;
use crate::service::Named;
use crate::service::api::CreateSnapshot;
use crate::service::testing::{Bench, SIZE, mount, params, raw, refused};
use crate::service::{Reader, Sending};
use crate::volume::size::Range;
use crate::volume::{Capability, FsType, PoolId, VolumeId};

const DAY: Millis = 24 * 60 * 60 * 1000;

/// What goes wrong when a source is opened.
enum Fault {
    /// It cannot be, for this reason.
    Closed(Kind),
    /// The stream breaks after so many chunks.
    After(usize),
}

/// A source in memory.
struct Source {
    id: SnapshotId,
    described: Mutex<Described>,
    chunks: Vec<Chunk>,
    faults: Mutex<VecDeque<Fault>>,
    /// The offsets at which it was opened.
    opened: Mutex<Vec<u64>>,
}

impl Source {
    /// `blocks` of 4 KiB, each filled with its own number, every second one missing.
    fn new(blocks: u8) -> Arc<Source> {
        let chunks: Vec<_> =
            (0..blocks).map(|n| Chunk { offset: u64::from(n) * 8192, bytes: vec![n + 1; 4096] }).collect();
        Source::of(chunks)
    }

    fn of(chunks: Vec<Chunk>) -> Arc<Source> {
        let pool = PoolId::random();
        let described = Described {
            size: SIZE,
            allocated: chunks.iter().map(|chunk| chunk.bytes.len() as u64).sum(),
            volume: VolumeId::new(pool),
            fs: FsType::Ext4,
            raw_written: false,
            refused: String::new(),
        };
        Arc::new(Source {
            id: SnapshotId::new(pool),
            described: Mutex::new(described),
            chunks,
            faults: Mutex::default(),
            opened: Mutex::default(),
        })
    }

    fn fails(&self, faults: impl IntoIterator<Item = Fault>) {
        self.faults.lock().unwrap().extend(faults);
    }

    fn opened(&self) -> Vec<u64> {
        std::mem::take(&mut self.opened.lock().unwrap())
    }

    fn request(&self, name: &str, capability: Capability) -> CreateVolume {
        CreateVolume {
            name: name.into(),
            range: Range { required: 2 * SIZE, limit: 0 },
            capabilities: vec![capability],
            params: params(&[("allowRemoteCopy", "true")]),
            source: Some(SourceRef::Snapshot(self.id.to_string())),
            requisite: Vec::new(),
        }
    }
}

struct Stream {
    chunks: VecDeque<Chunk>,
    left: Option<usize>,
}

fn broken(kind: Kind) -> Error {
    Error::new(kind, "the source of the test fails")
}

#[async_trait]
impl RemoteSnapshot for Source {
    async fn open(&self, start: u64) -> Result<(Described, Box<dyn Chunks>)> {
        self.opened.lock().unwrap().push(start);
        let left = match self.faults.lock().unwrap().pop_front() {
            Some(Fault::Closed(kind)) => return Err(broken(kind)),
            Some(Fault::After(n)) => Some(n),
            None => None,
        };
        let chunks = self.chunks.iter().filter(|chunk| start == 0 || chunk.offset >= start).cloned();
        Ok((self.described.lock().unwrap().clone(), Box::new(Stream { chunks: chunks.collect(), left })))
    }
}

#[async_trait]
impl Chunks for Stream {
    async fn next(&mut self) -> Result<Option<Chunk>> {
        if let Some(left) = &mut self.left {
            *left = left.checked_sub(1).ok_or_else(|| broken(Kind::Unavailable))?;
        }
        Ok(self.chunks.pop_front())
    }
}

/// A snapshot of another bench, read as its agent would.
struct Other {
    service: Service,
    id: String,
}

struct Read(Sending);

#[async_trait]
impl RemoteSnapshot for Other {
    async fn open(&self, start: u64) -> Result<(Described, Box<dyn Chunks>)> {
        let (described, sending) = self.service.send_snapshot(&self.id, start, Reader::Controller).await?;
        Ok((described, Box::new(Read(sending))))
    }
}

#[async_trait]
impl Chunks for Read {
    async fn next(&mut self) -> Result<Option<Chunk>> {
        self.0.next().await
    }
}

async fn copy(bench: &Bench, source: &Arc<Source>) -> Result<VolumeStatus> {
    bench.service.create_volume_from(source.request("copy", raw()), source.id, source.clone()).await
}

/// The bytes are those of the source.
fn right(bench: &Bench, made: &VolumeStatus, source: &Source) {
    let image = std::path::PathBuf::from(format!("/pool/volumes/{}.img", made.volume.id));
    let meta = bench.fake.metadata(&image).unwrap().unwrap();
    assert_eq!((meta.len, meta.allocated), (2 * SIZE, source.described.lock().unwrap().allocated));
    for chunk in &source.chunks {
        assert_eq!(bench.fake.read_at(&image, chunk.offset, chunk.bytes.len()).unwrap(), chunk.bytes);
    }
}

/// Nothing of any volume is there.
fn nothing(bench: &Bench) {
    let left = bench.fake.read_dir(std::path::Path::new("/pool/volumes")).unwrap();
    assert_eq!(left, [], "left behind");
    assert_eq!(bench.service.find_name(Named::Volume, "copy"), None);
}

#[tokio::test]
async fn a_copy_has_the_files_the_size_and_the_lineage_of_a_restore() {
    let there = Bench::new("xfs").await;
    let volume = there.volume("db", mount(&[])).await;
    let image = format!("/pool/volumes/{volume}.img");
    let spec = crate::host::MkfsSpec { fs: "ext4".into(), args: Vec::new() };
    there.fake.mkfs(std::path::Path::new(&image), &spec).unwrap();
    let request =
        CreateSnapshot { name: "s".into(), volume: volume.clone(), claim: None, requisite: Vec::new() };
    let snapshot = there.service.create_snapshot(request).await.unwrap();
    let remote = Arc::new(Other { service: there.service.clone(), id: snapshot.id.to_string() });

    for fs in ["xfs", "btrfs", "ext4"] {
        let here = Bench::new(fs).await;
        let (_, mut news) = here.service.watch();
        let source = Source::new(0);
        let mut request = source.request("copy", mount(&[]));
        request.source = Some(SourceRef::Snapshot(snapshot.id.to_string()));
        let made =
            here.service.create_volume_from(request.clone(), snapshot.id, remote.clone()).await.unwrap();
        let again =
            here.service.create_volume_from(request.clone(), snapshot.id, remote.clone()).await.unwrap();
        assert_eq!(again.volume, made.volume);
        assert_eq!(made.volume.size, 2 * SIZE);
        assert_eq!(made.volume.source, Some(crate::volume::Source::Snapshot(snapshot.id)));
        assert_eq!((made.volume.origin, made.volume.base), (Some(snapshot.volume), Some(snapshot.id)));
        let copied = format!("/pool/volumes/{}.img", made.volume.id);
        let probed = |bench: &Bench, path: &str| bench.fake.probe(std::path::Path::new(path)).unwrap();
        assert_eq!(probed(&here, &copied), probed(&there, &image));
        let heard: Vec<_> = std::iter::from_fn(|| news.try_recv().ok()).collect();
        assert_eq!(heard.last().map(|last| (last.operation, last.ended)), Some(("remote copy", Some(true))));
        // A record that was committed as the intent was is that of a whole volume.
        let here = here.restart().await;
        assert_eq!(here.service.get_volume(&made.volume.id.to_string()).await.unwrap().volume, made.volume);
        request.source = Some(SourceRef::Volume(volume.clone()));
        let other = here.service.create_volume_from(request.clone(), snapshot.id, remote.clone()).await;
        refused(other, Kind::AlreadyExists, "volume_content_source");
        request.name = "clone".into();
        let cloned = here.service.create_volume_from(request, snapshot.id, remote.clone()).await.unwrap();
        assert_eq!(cloned.volume.source, Some(crate::volume::Source::Volume(snapshot.volume)));
        assert_eq!(cloned.volume.base, None);
    }
}

#[tokio::test]
async fn a_broken_stream_is_opened_again_where_it_broke() {
    let bench = Bench::new("xfs").await;
    let source = Source::new(10);
    source.fails([Fault::After(3), Fault::Closed(Kind::Unavailable), Fault::After(0), Fault::After(4)]);
    let made = copy(&bench, &source).await.unwrap();
    right(&bench, &made, &source);
    let after = |chunks: u64| (chunks - 1) * 8192 + 4096;
    assert_eq!(source.opened(), [0, after(3), after(3), after(3), after(7)]);
}

#[tokio::test]
async fn what_has_come_is_kept_when_the_source_stays_away_and_the_next_call_goes_on() {
    let bench = Bench::new("xfs").await;
    let source = Source::new(10);
    source.fails([Fault::After(6)]);
    source.fails((0..6).map(|_| Fault::Closed(Kind::Unavailable)));
    refused(copy(&bench, &source).await, Kind::Unavailable, "goes on from there");
    let found = bench.service.find_name(Named::Volume, "copy").unwrap();
    assert!(bench.service.list_volumes("", 0, false).await.unwrap().entries.is_empty());
    bench.service.delete_volume(&found.to_string()).await.unwrap();
    assert_eq!(bench.service.find_name(Named::Volume, "copy"), Some(found));
    source.opened();

    let bench = bench.restart().await;
    assert_eq!(bench.service.list_orphans().await.unwrap(), []);
    source.fails([Fault::Closed(Kind::Denied)]);
    refused(copy(&bench, &source).await, Kind::Unavailable, "goes on from there");
    let made = copy(&bench, &source).await.unwrap();
    assert_eq!(made.volume.id.to_string(), found.to_string());
    right(&bench, &made, &source);
    assert_eq!(source.opened(), [5 * 8192 + 4096; 2]);
}

#[tokio::test]
async fn an_unfinished_copy_is_removed_when_nobody_has_asked_for_it_for_a_day() {
    let bench = Bench::new("xfs").await;
    let source = Source::new(10);
    let breaks = || {
        source.fails([Fault::After(2)]);
        source.fails((0..6).map(|_| Fault::Closed(Kind::Unavailable)));
    };
    breaks();
    copy(&bench, &source).await.unwrap_err();
    bench.pass(DAY - 10_000);
    bench.service.recover_again().await.unwrap();
    breaks();
    copy(&bench, &source).await.unwrap_err();
    bench.pass(DAY - 10_000);
    let bench = bench.restart().await;
    assert!(bench.service.find_name(Named::Volume, "copy").is_some());
    bench.pass(20_000);
    bench.service.recover_again().await.unwrap();
    nothing(&bench);

    breaks();
    copy(&bench, &source).await.unwrap_err();
    bench.pass(DAY + 10_000);
    nothing(&bench.restart().await);
}

#[tokio::test]
async fn a_source_that_lies_ends_the_copy_and_leaves_nothing() {
    async fn check(chunks: &[(u64, usize)], change: fn(&mut Described), words: &str) {
        let bench = Bench::new("xfs").await;
        let chunks = chunks.iter().map(|&(offset, len)| Chunk { offset, bytes: vec![7; len] }).collect();
        let source = Source::of(chunks);
        change(&mut source.described.lock().unwrap());
        refused(copy(&bench, &source).await, Kind::Internal, words);
        nothing(&bench);
    }
    let as_it_is = |_: &mut Described| {};
    check(&[(SIZE, 4096)], as_it_is, "were to come").await;
    check(&[(SIZE - 4096, 8192)], as_it_is, "were to come").await;
    check(&[(u64::MAX - 10, 4096)], as_it_is, "were to come").await;
    check(&[(8192, 4096), (8192, 4096)], as_it_is, "were to come").await;
    check(&[(8192, 4096), (10_000, 4096)], as_it_is, "were to come").await;
    check(&[(8192, 4096), (0, 4096)], as_it_is, "were to come").await;
    check(&[(0, 0)], as_it_is, "were to come").await;
    check(&[(0, 4096)], |described| described.allocated = 8192, "announced 8192").await;
    check(&[(0, 4096)], |described| described.allocated = 0, "announced 0").await;
}

#[tokio::test]
async fn a_source_that_changes_between_two_streams_ends_the_copy() {
    let bench = Bench::new("xfs").await;
    let source = Source::new(10);
    source.fails([Fault::After(2), Fault::Closed(Kind::Unavailable)]);
    source.fails((0..5).map(|_| Fault::Closed(Kind::Unavailable)));
    copy(&bench, &source).await.unwrap_err();
    source.described.lock().unwrap().raw_written = true;
    refused(copy(&bench, &source).await, Kind::Internal, "not what it was");
    nothing(&bench);
}

#[tokio::test]
async fn what_cannot_be_copied_is_refused_before_anything_is_made() {
    let bench = Bench::new("xfs").await;
    async fn check(bench: &Bench, source: &Arc<Source>, request: CreateVolume, kind: Kind, words: &str) {
        let made = bench.service.create_volume_from(request, source.id, source.clone()).await;
        refused(made, kind, words);
        nothing(bench);
    }
    let source = Source::new(3);
    let request = || source.request("copy", mount(&[]));
    for (kind, seen) in [
        (Kind::Unavailable, Kind::Exhausted),
        (Kind::Denied, Kind::Exhausted),
        (Kind::NotFound, Kind::NotFound),
    ] {
        source.fails([Fault::Closed(kind)]);
        check(&bench, &source, request(), seen, "the test fails").await;
    }
    let mut small = request();
    small.range = Range { required: SIZE / 2, limit: SIZE / 2 };
    check(&bench, &source, small, Kind::OutOfRange, "smaller than the source").await;
    let mut elsewhere = request();
    elsewhere.requisite = vec![[("topology.offshoot.dev/node".to_owned(), "n9".to_owned())].into()];
    check(&bench, &source, elsewhere, Kind::Exhausted, "none of the requisite").await;
    let mut other = request();
    other.source = Some(SourceRef::Volume("v-abcdefgh-00000000000000000000000000000000".into()));
    check(&bench, &source, other, Kind::Invalid, "volume_content_source").await;
    let mut fs = request();
    fs.params = params(&[("fsType", "xfs")]);
    check(&bench, &source, fs, Kind::Invalid, "fsType").await;

    let change = |change: fn(&mut Described)| {
        let source = Source::new(3);
        change(&mut source.described.lock().unwrap());
        source
    };
    let source = change(|described| described.refused = "it is a subvolume".into());
    check(&bench, &source, source.request("copy", raw()), Kind::Exhausted, "it is a subvolume").await;
    let source = change(|described| described.raw_written = true);
    let request = source.request("copy", mount(&[]));
    check(&bench, &source, request, Kind::Invalid, "allowBlockToFilesystem").await;
    let source = change(|described| described.allocated = 1 << 40);
    check(&bench, &source, source.request("copy", raw()), Kind::Exhausted, "").await;
}

#[tokio::test]
async fn a_source_that_is_deleted_on_the_way_undoes_the_copy() {
    let bench = Bench::new("xfs").await;
    let source = Source::new(10);
    source.fails([Fault::After(5), Fault::Closed(Kind::NotFound)]);
    refused(copy(&bench, &source).await, Kind::NotFound, "the test fails");
    nothing(&bench);
}

#[tokio::test]
async fn a_call_for_something_else_of_that_name_begins_anew() {
    let bench = Bench::new("xfs").await;
    let (source, other) = (Source::new(10), Source::new(4));
    source.fails([Fault::After(5)]);
    source.fails((0..6).map(|_| Fault::Closed(Kind::Unavailable)));
    copy(&bench, &source).await.unwrap_err();
    let before = bench.service.find_name(Named::Volume, "copy").unwrap();
    let made = copy(&bench, &other).await.unwrap();
    assert_ne!(made.volume.id.to_string(), before.to_string());
    right(&bench, &made, &other);
    assert_eq!(other.opened(), [0]);
}
