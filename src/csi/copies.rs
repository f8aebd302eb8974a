//! Offshoot's own service: back and forth in place, where copies come from, pools and what is left over.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::pin::Pin;

use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::capabilities::entries;
use super::rpc::Rpc;
use super::{Edge, answer, copies_render as show, parse};
use crate::backend::{Place, PoolSpec};
use crate::proto::offshoot::data_copies_server::DataCopies;
use crate::proto::offshoot::*;
use crate::service::Watch;
use crate::service::api::{CopyProgress, RefreshFrom};
use crate::volume::names::check_pool_name;
use crate::volume::{Error, Kind, ObjectId, Result as Outcome};

#[tonic::async_trait]
impl DataCopies for Edge {
    type WatchProgressStream = Pin<Box<dyn Stream<Item = Result<Progress, Status>> + Send>>;

    async fn rewind_volume(
        &self,
        request: Request<RewindVolumeRequest>,
    ) -> Result<Response<RewindVolumeResponse>, Status> {
        let RewindVolumeRequest { volume_id, snapshot_id, secrets: _, timestamp } = request.into_inner();
        let done = async {
            if !timestamp.is_empty() {
                return Err(only_snapshots("timestamp"));
            }
            let volume_id = parse::id("volume_id", volume_id)?;
            let snapshot = parse::id("snapshot_id", snapshot_id)?;
            let replaced = self.service()?.rewind_volume(&volume_id, &snapshot).await?;
            Ok(RewindVolumeResponse { volume_id, undo_snapshot_id: replaced.undo.to_string() })
        };
        answer(Rpc::RewindVolume, done.await)
    }

    async fn refresh_volume(
        &self,
        request: Request<RefreshVolumeRequest>,
    ) -> Result<Response<RefreshVolumeResponse>, Status> {
        let RefreshVolumeRequest { volume_id, from, secrets: _ } = request.into_inner();
        let done = async {
            let volume_id = parse::id("volume_id", volume_id)?;
            let replaced = self.service()?.refresh_volume(&volume_id, refresh_from(from)?).await?;
            Ok(RefreshVolumeResponse {
                volume_id,
                undo_snapshot_id: replaced.undo.to_string(),
                source_snapshot_id: replaced.from.map(|id| id.to_string()).unwrap_or_default(),
            })
        };
        answer(Rpc::RefreshVolume, done.await)
    }

    async fn get_lineage(
        &self,
        request: Request<GetLineageRequest>,
    ) -> Result<Response<GetLineageResponse>, Status> {
        let GetLineageRequest { id, max_entries, starting_token, skip_usage } = request.into_inner();
        let done = async {
            let of = if id.is_empty() { None } else { Some(parse::id("id", id)?) };
            let service = self.service()?;
            let page =
                service.lineage(of.as_deref(), !skip_usage, &starting_token, entries(max_entries)).await?;
            let nodes = page.entries.iter().map(|entry| show::node(service, entry)).collect();
            Ok(GetLineageResponse { nodes, next_token: page.next })
        };
        answer(Rpc::GetLineage, done.await)
    }

    async fn list_pools(&self, _: Request<ListPoolsRequest>) -> Result<Response<ListPoolsResponse>, Status> {
        let done = async {
            let service = self.service()?;
            let mut pools: Vec<_> = service.list_pools().await.iter().map(show::pool).collect();
            pools.extend(service.unopened_pools().into_iter().map(show::unopened));
            pools.sort_by(|a, b| a.name.cmp(&b.name));
            Ok(ListPoolsResponse { pools })
        };
        answer(Rpc::ListPools, done.await)
    }

    async fn create_pool(
        &self,
        request: Request<CreatePoolRequest>,
    ) -> Result<Response<CreatePoolResponse>, Status> {
        let done = async {
            let spec = pool_spec(request.into_inner())?;
            let made = self.service()?.create_pool(spec).await?;
            Ok(CreatePoolResponse { pool: Some(show::pool(&made)) })
        };
        answer(Rpc::CreatePool, done.await)
    }

    async fn delete_pool(
        &self,
        request: Request<DeletePoolRequest>,
    ) -> Result<Response<DeletePoolResponse>, Status> {
        let DeletePoolRequest { name_or_id } = request.into_inner();
        let done = async {
            check_pool_name("name_or_id", &name_or_id)?;
            self.service()?.delete_pool(&name_or_id).await?;
            Ok(DeletePoolResponse {})
        };
        answer(Rpc::DeletePool, done.await)
    }

    async fn list_orphans(
        &self,
        _: Request<ListOrphansRequest>,
    ) -> Result<Response<ListOrphansResponse>, Status> {
        let done = async {
            let found = self.service()?.list_orphans().await?;
            Ok(ListOrphansResponse { orphans: found.iter().map(show::orphan).collect() })
        };
        answer(Rpc::ListOrphans, done.await)
    }

    async fn reap_orphans(
        &self,
        request: Request<ReapOrphansRequest>,
    ) -> Result<Response<ReapOrphansResponse>, Status> {
        let ReapOrphansRequest { ids, dry_run } = request.into_inner();
        let done = async {
            // An empty id among others is a mistake; taken as "none named" it would delete everything.
            if let Some(n) = ids.iter().position(String::is_empty) {
                return Err(Error::invalid(
                    &format!("ids[{n}]"),
                    "is empty; leave ids out to name every orphan",
                ));
            }
            let done = self.service()?.reap_orphans(ids, dry_run).await?;
            let all = |orphans: &[_]| orphans.iter().map(show::orphan).collect();
            Ok(ReapOrphansResponse { reaped: all(&done.reaped), kept: all(&done.kept) })
        };
        answer(Rpc::ReapOrphans, done.await)
    }

    async fn watch_progress(
        &self,
        request: Request<WatchProgressRequest>,
    ) -> Result<Response<Self::WatchProgressStream>, Status> {
        let WatchProgressRequest { volume_id } = request.into_inner();
        let watch = || {
            let only = match volume_id.as_str() {
                "" => None,
                id => Some(object(&parse::id("volume_id", id.to_owned())?)?),
            };
            let (running, news) = self.service()?.watch();
            let (send, receive) = mpsc::channel(1);
            tokio::spawn(follow(running, news, only, send));
            Ok(Box::pin(ReceiverStream::new(receive)) as Self::WatchProgressStream)
        };
        answer(Rpc::WatchProgress, watch())
    }

    async fn import_volume(
        &self,
        _: Request<ImportVolumeRequest>,
    ) -> Result<Response<ImportVolumeResponse>, Status> {
        answer(Rpc::ImportVolume, Err(nothing_to_import()))
    }

    async fn diagnose(&self, _: Request<DiagnoseRequest>) -> Result<Response<DiagnoseResponse>, Status> {
        let done = async {
            let checks = self.service()?.diagnose().await;
            Ok(DiagnoseResponse { checks: checks.into_iter().map(show::check).collect() })
        };
        answer(Rpc::Diagnose, done.await)
    }
}

/// The answer of every driver whose volumes lie in pools.
pub(crate) fn nothing_to_import() -> Error {
    let why = "volumes are imported into the Delphix driver only; name its socket with --socket";
    Error::new(Kind::Unsupported, why)
}

/// What other backends have and the local one has not.
fn only_snapshots(field: &str) -> Error {
    Error::invalid(field, "this backend keeps snapshots only; name one of those")
}

fn refresh_from(given: Option<refresh_volume_request::From>) -> Outcome<RefreshFrom> {
    use refresh_volume_request::From;
    match parse::required("from", given)? {
        From::SnapshotId(id) => parse::id("from.snapshot_id", id).map(RefreshFrom::Snapshot),
        From::SourceNow(true) => Ok(RefreshFrom::SourceNow),
        From::Timestamp(_) => Err(only_snapshots("from.timestamp")),
        From::BackendSnapshotId(_) => Err(only_snapshots("from.backend_snapshot_id")),
        From::BookmarkId(_) => Err(only_snapshots("from.bookmark_id")),
        From::SourceNow(false) => {
            Err(Error::invalid("from.source_now", "is false; leave it out, or give true"))
        }
    }
}

fn pool_spec(given: CreatePoolRequest) -> Outcome<PoolSpec> {
    use create_pool_request::Kind;
    let CreatePoolRequest { name, kind, parameters } = given;
    check_pool_name("name", &name)?;
    parse::map("parameters", &parameters)?;
    let place = match parse::required("kind", kind)? {
        Kind::Path(path) => Place::Directory(parse::path("path", &path)?),
        Kind::File(FilePool { file, size_bytes }) => {
            let file: PathBuf = parse::path("file.file", &file)?;
            match u64::try_from(size_bytes) {
                Ok(size) if size > 0 => Place::File { file, size },
                _ => {
                    return Err(Error::invalid(
                        "file.size_bytes",
                        format!("is {size_bytes}; give a size in bytes"),
                    ));
                }
            }
        }
    };
    Ok(PoolSpec { name, place, parameters })
}

fn object(id: &str) -> Outcome<ObjectId> {
    id.parse().map_err(|_| Error::not_found(format!("volume_id: volume {id:?}")))
}

/// Passes news on at the reader's pace. What the reader has not taken yet is kept as one step per copy, the newest:
/// so it may miss steps between, and never an end.
async fn follow(
    running: Vec<CopyProgress>,
    mut news: Watch,
    only: Option<ObjectId>,
    send: mpsc::Sender<Result<Progress, Status>>,
) {
    let wanted = |step: &CopyProgress| only.is_none_or(|id| id == step.id);
    let mut waiting: BTreeMap<ObjectId, CopyProgress> =
        running.into_iter().filter(wanted).map(|step| (step.id, step)).collect();
    loop {
        tokio::select! {
            heard = news.recv() => match heard {
                Ok(step) if wanted(&step) => {
                    waiting.insert(step.id, step);
                }
                Ok(_) | Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return,
            },
            place = send.reserve(), if !waiting.is_empty() => {
                let (Ok(place), Some((_, step))) = (place, waiting.pop_first()) else { return };
                place.send(Ok(show::progress(&step)));
            }
            () = send.closed() => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::volume::{PoolId, VolumeId};
    use tokio::sync::broadcast;

    fn step(id: ObjectId, done: u64, ended: Option<bool>) -> CopyProgress {
        CopyProgress { id, operation: "clone", done, total: 100, ended }
    }

    #[tokio::test]
    async fn a_reader_that_is_slow_misses_steps_but_never_the_end() {
        let id: ObjectId = VolumeId::new(PoolId::random()).into();
        let (tell, news) = broadcast::channel(8);
        let (send, mut receive) = mpsc::channel(1);
        let following = tokio::spawn(follow(vec![step(id, 0, None)], news, None, send));
        for done in 1..=100 {
            tell.send(step(id, done, None)).unwrap();
            tokio::task::yield_now().await;
        }
        tell.send(step(id, 100, Some(true))).unwrap();
        let mut seen = Vec::new();
        while seen.last() != Some(&(100, progress::State::Done)) {
            let step = receive.recv().await.unwrap().unwrap();
            seen.push((step.done_bytes, step.state()));
        }
        assert!(seen.len() < 100 && seen.is_sorted_by_key(|(done, _)| *done), "{seen:?}");
        drop(receive);
        following.await.unwrap();
    }

    #[tokio::test]
    async fn a_reader_of_one_volume_hears_of_no_other() {
        let [mine, other] = [0, 1].map(|_| ObjectId::from(VolumeId::new(PoolId::random())));
        let (tell, news) = broadcast::channel(8);
        let (send, mut receive) = mpsc::channel(1);
        tokio::spawn(follow(vec![step(other, 1, None), step(mine, 2, None)], news, Some(mine), send));
        assert_eq!(receive.recv().await.unwrap().unwrap().id, mine.to_string());
        tell.send(step(other, 3, Some(false))).unwrap();
        tell.send(step(mine, 3, Some(false))).unwrap();
        let last = receive.recv().await.unwrap().unwrap();
        assert_eq!((last.id.as_str(), last.state()), (mine.to_string().as_str(), progress::State::Failed));
    }

    #[test]
    fn a_refresh_says_from_what() {
        use refresh_volume_request::From;
        let check = |given| refresh_from(given).unwrap_err().to_string();
        assert!(check(None).starts_with("from: "));
        assert!(check(Some(From::SourceNow(false))).starts_with("from.source_now: "));
        assert!(check(Some(From::SnapshotId(String::new()))).starts_with("from.snapshot_id: "));
        assert_eq!(refresh_from(Some(From::SourceNow(true))).unwrap(), RefreshFrom::SourceNow);
    }

    #[test]
    fn a_pool_has_a_name_and_one_place() {
        let check = |name: &str, kind, field: &str| {
            let given = CreatePoolRequest { name: name.to_owned(), kind, parameters: BTreeMap::new() };
            let error = pool_spec(given).unwrap_err();
            assert_eq!(error.kind(), Kind::Invalid);
            assert!(error.to_string().starts_with(&format!("{field}: ")), "{error}");
        };
        use create_pool_request::Kind::{File, Path};
        let file = |file: &str, size_bytes| Some(File(FilePool { file: file.to_owned(), size_bytes }));
        check("fast", None, "kind");
        check("", Some(Path("/srv".to_owned())), "name");
        check("a b", Some(Path("/srv".to_owned())), "name");
        check("fast", Some(Path("srv".to_owned())), "path");
        check("fast", Some(Path("/srv/../etc".to_owned())), "path");
        check("fast", file("x.img", 1), "file.file");
        check("fast", file("/x.img", 0), "file.size_bytes");
        check("fast", file("/x.img", -1), "file.size_bytes");
    }
}
