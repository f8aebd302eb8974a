//! Offshoot's own service over a DCT: back and forth in place, where copies come from, engines, adopted VDBs.
//!
//! Pools, left-overs and the progress of copies are things of drivers that keep the bytes themselves; here they belong to
//! the engine, and the calls for them say so.

use std::pin::Pin;

use tokio_stream::Stream;
use tonic::{Request, Response, Status};

use super::super::capabilities::entries;
use super::super::copies_render::check;
use super::super::parse;
use super::{DelphixEdge, Rpc, answer, render};
use crate::delphix::api::{RefreshFrom, RewindTo};
use crate::proto::offshoot::data_copies_server::DataCopies;
use crate::proto::offshoot::*;
use crate::volume::{Error, Kind, Result as Outcome};

#[tonic::async_trait]
impl DataCopies for DelphixEdge {
    type WatchProgressStream = Pin<Box<dyn Stream<Item = Result<Progress, Status>> + Send>>;

    async fn rewind_volume(
        &self,
        request: Request<RewindVolumeRequest>,
    ) -> Result<Response<RewindVolumeResponse>, Status> {
        let RewindVolumeRequest { volume_id, snapshot_id, secrets: _, timestamp } = request.into_inner();
        let done = async {
            let volume_id = parse::id("volume_id", volume_id)?;
            let to = rewind_to(snapshot_id, timestamp)?;
            let replaced = self.driver()?.rewind(&volume_id, to).await?;
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
            let replaced = self.driver()?.refresh(&volume_id, refresh_from(from)?).await?;
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
        let GetLineageRequest { id, max_entries, starting_token, skip_usage: _ } = request.into_inner();
        let done = async {
            let of = if id.is_empty() { None } else { Some(parse::id("id", id)?) };
            let page = self.driver()?.lineage(of.as_deref(), &starting_token, entries(max_entries)).await?;
            Ok(GetLineageResponse {
                nodes: page.entries.iter().map(render::node).collect(),
                next_token: page.next,
            })
        };
        answer(Rpc::GetLineage, done.await)
    }

    async fn list_pools(&self, _: Request<ListPoolsRequest>) -> Result<Response<ListPoolsResponse>, Status> {
        let done = async {
            let engines = self.driver()?.engines().await?;
            Ok(ListPoolsResponse { pools: engines.iter().map(render::engine).collect() })
        };
        answer(Rpc::ListPools, done.await)
    }

    async fn create_pool(
        &self,
        _: Request<CreatePoolRequest>,
    ) -> Result<Response<CreatePoolResponse>, Status> {
        answer(Rpc::CreatePool, Err(engines_only()))
    }

    async fn delete_pool(
        &self,
        _: Request<DeletePoolRequest>,
    ) -> Result<Response<DeletePoolResponse>, Status> {
        answer(Rpc::DeletePool, Err(engines_only()))
    }

    async fn list_orphans(
        &self,
        _: Request<ListOrphansRequest>,
    ) -> Result<Response<ListOrphansResponse>, Status> {
        answer(Rpc::ListOrphans, Err(no_leftovers()))
    }

    async fn reap_orphans(
        &self,
        _: Request<ReapOrphansRequest>,
    ) -> Result<Response<ReapOrphansResponse>, Status> {
        answer(Rpc::ReapOrphans, Err(no_leftovers()))
    }

    async fn watch_progress(
        &self,
        _: Request<WatchProgressRequest>,
    ) -> Result<Response<Self::WatchProgressStream>, Status> {
        let why = "an engine copies in no time that depends on the size: there is no progress to watch";
        answer(Rpc::WatchProgress, Err(Error::new(Kind::Unsupported, why)))
    }

    async fn import_volume(
        &self,
        request: Request<ImportVolumeRequest>,
    ) -> Result<Response<ImportVolumeResponse>, Status> {
        let ImportVolumeRequest { connection, object } = request.into_inner();
        let done = async {
            if object.is_empty() {
                return Err(Error::invalid("object", "is missing; give the VDB's name or id"));
            }
            let volume = self.driver()?.import(&connection, &object).await?;
            Ok(ImportVolumeResponse { volume: Some(render::volume(&volume)), name: volume.name })
        };
        answer(Rpc::ImportVolume, done.await)
    }

    async fn diagnose(&self, _: Request<DiagnoseRequest>) -> Result<Response<DiagnoseResponse>, Status> {
        let done = async {
            let checks = self.driver()?.diagnose().await;
            Ok(DiagnoseResponse { checks: checks.into_iter().map(check).collect() })
        };
        answer(Rpc::Diagnose, done.await)
    }
}

fn engines_only() -> Error {
    Error::new(Kind::Unsupported, "this driver has engines instead of pools; they are registered in the DCT")
}

fn no_leftovers() -> Error {
    let why = "what this driver makes is on the engine, and each VDB and bookmark of it has tags that name its owner: look \
               for the tag offshoot-driver in the DCT";
    Error::new(Kind::Unsupported, why)
}

fn rewind_to(snapshot: String, timestamp: String) -> Outcome<RewindTo> {
    match (snapshot.is_empty(), timestamp.is_empty()) {
        (false, true) => parse::id("snapshot_id", snapshot).map(RewindTo::Snapshot),
        (true, false) => Ok(RewindTo::Timestamp(timestamp)),
        (true, true) => Err(Error::invalid("snapshot_id", "is missing; give it, or a timestamp")),
        (false, false) => Err(Error::invalid("timestamp", "is given beside snapshot_id; give one of them")),
    }
}

fn refresh_from(given: Option<refresh_volume_request::From>) -> Outcome<RefreshFrom> {
    use refresh_volume_request::From;
    match parse::required("from", given)? {
        From::SnapshotId(id) => parse::id("from.snapshot_id", id).map(RefreshFrom::Snapshot),
        From::BackendSnapshotId(id) => {
            parse::id("from.backend_snapshot_id", id).map(RefreshFrom::EngineSnapshot)
        }
        From::BookmarkId(id) => parse::id("from.bookmark_id", id).map(RefreshFrom::Bookmark),
        From::Timestamp(at) if at.is_empty() => Err(Error::invalid("from.timestamp", "is empty")),
        From::Timestamp(at) => Ok(RefreshFrom::Timestamp(at)),
        From::SourceNow(true) => Ok(RefreshFrom::Latest),
        From::SourceNow(false) => {
            Err(Error::invalid("from.source_now", "is false; leave it out, or give true"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rewind_goes_to_one_point_and_a_refresh_comes_from_one() {
        fn check(snapshot: &str, timestamp: &str, expect: Result<RewindTo, &str>) {
            match (rewind_to(snapshot.to_owned(), timestamp.to_owned()), expect) {
                (Ok(got), Ok(expect)) => assert_eq!(got, expect),
                (Err(error), Err(field)) => assert!(error.to_string().starts_with(field), "{error}"),
                (got, expect) => panic!("{got:?}, expected {expect:?}"),
            }
        }
        check("main:b1", "", Ok(RewindTo::Snapshot("main:b1".to_owned())));
        check("", "2026-01-01T00:00:00Z", Ok(RewindTo::Timestamp("2026-01-01T00:00:00Z".to_owned())));
        check("", "", Err("snapshot_id: is missing"));
        check("main:b1", "2026-01-01T00:00:00Z", Err("timestamp: "));
        use refresh_volume_request::From;
        assert_eq!(refresh_from(Some(From::SourceNow(true))).unwrap(), RefreshFrom::Latest);
        assert!(refresh_from(Some(From::SourceNow(false))).is_err());
        assert!(refresh_from(None).is_err());
        assert!(refresh_from(Some(From::Timestamp(String::new()))).is_err());
    }
}
