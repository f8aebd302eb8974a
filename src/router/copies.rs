//! Offshoot's own service over all nodes: changes in place go to the agent of the volume, everything else is merged, and
//! says of each pool, left-over and finding on which node it is.

use prost::Message as _;
use tonic::{Request, Response, Status};

use super::controller::to_owner;
use super::failure::{Answer, Partial, answer, answer_partial};
use super::head::Head;
use super::merge::fitting;
use super::metadata::Messages;
use super::{Router, clients};
use crate::csi::nothing_to_import;
use crate::csi::rpc::Rpc;
use crate::proto::offshoot::check::Status as Finding;
use crate::proto::offshoot::data_copies_server::DataCopies;
use crate::proto::offshoot::*;
use crate::volume::Error;

/// Why pools are neither made nor removed here.
fn pools_are_per_node<T>() -> Answer<T> {
    Err(Error::precondition(
        "pools are configured for each node: add it to the settings of that node's agent, or run `offshoot pool` on the node",
    )
    .into())
}

/// Says where each of these left-overs is.
fn on_node(node: &str, orphans: Vec<Orphan>) -> Vec<Orphan> {
    let there = |orphan: Orphan| Orphan { path: format!("{node}:{}", orphan.path), ..orphan };
    orphans.into_iter().map(there).collect()
}

#[tonic::async_trait]
impl DataCopies for Router {
    type WatchProgressStream = Messages<Progress>;

    async fn rewind_volume(
        &self,
        request: Request<RewindVolumeRequest>,
    ) -> Result<Response<RewindVolumeResponse>, Status> {
        to_owner!(self, request, RewindVolume, copies.rewind_volume, volume_id)
    }

    async fn refresh_volume(
        &self,
        request: Request<RefreshVolumeRequest>,
    ) -> Result<Response<RefreshVolumeResponse>, Status> {
        to_owner!(self, request, RefreshVolume, copies.refresh_volume, volume_id)
    }

    async fn get_lineage(
        &self,
        request: Request<GetLineageRequest>,
    ) -> Result<Response<GetLineageResponse>, Status> {
        let (head, message) = Head::split(request);
        answer_partial(Rpc::GetLineage, self.lineage(head, message).await)
    }

    async fn list_pools(
        &self,
        request: Request<ListPoolsRequest>,
    ) -> Result<Response<ListPoolsResponse>, Status> {
        let (head, message) = Head::split(request);
        let call = |channel, request| async { clients::copies(channel).list_pools(request).await };
        let heard = self.everyone(Rpc::ListPools, &head, message, call).await;
        let merged = heard.map(|heard| {
            heard.map(|heard| {
                let mut pools: Vec<(String, Pool)> = Vec::new();
                for (agent, said) in heard {
                    for mut pool in said.pools {
                        pool.attributes.insert("node".to_owned(), agent.node().to_owned());
                        pools.push((agent.node().to_owned(), pool));
                    }
                }
                pools.sort_by(|(on, a), (other, b)| (&a.name, on).cmp(&(&b.name, other)));
                let pools = pools.into_iter().map(|(_, pool)| pool).collect();
                ListPoolsResponse { pools: fitting(pools, Pool::encoded_len) }
            })
        });
        answer_partial(Rpc::ListPools, merged)
    }

    async fn create_pool(
        &self,
        _: Request<CreatePoolRequest>,
    ) -> Result<Response<CreatePoolResponse>, Status> {
        answer(Rpc::CreatePool, pools_are_per_node())
    }

    async fn delete_pool(
        &self,
        _: Request<DeletePoolRequest>,
    ) -> Result<Response<DeletePoolResponse>, Status> {
        answer(Rpc::DeletePool, pools_are_per_node())
    }

    async fn list_orphans(
        &self,
        request: Request<ListOrphansRequest>,
    ) -> Result<Response<ListOrphansResponse>, Status> {
        let (head, message) = Head::split(request);
        let call = |channel, request| async { clients::copies(channel).list_orphans(request).await };
        let heard = self.everyone(Rpc::ListOrphans, &head, message, call).await;
        let merged = heard.map(|heard| {
            heard.map(|heard| {
                let orphans = heard.into_iter().flat_map(|(agent, said)| on_node(agent.node(), said.orphans));
                ListOrphansResponse { orphans: fitting(orphans.collect(), Orphan::encoded_len) }
            })
        });
        answer_partial(Rpc::ListOrphans, merged)
    }

    async fn reap_orphans(
        &self,
        request: Request<ReapOrphansRequest>,
    ) -> Result<Response<ReapOrphansResponse>, Status> {
        let (head, message) = Head::split(request);
        let call = |channel, request| async { clients::copies(channel).reap_orphans(request).await };
        let heard = self.everyone(Rpc::ReapOrphans, &head, message, call).await;
        let merged = heard.map(|heard| {
            heard.map(|heard| {
                let (mut reaped, mut kept) = (Vec::new(), Vec::new());
                for (agent, said) in heard {
                    reaped.extend(on_node(agent.node(), said.reaped));
                    kept.extend(on_node(agent.node(), said.kept));
                }
                let size = |orphan: &Orphan| 2 * orphan.encoded_len();
                ReapOrphansResponse { reaped: fitting(reaped, size), kept: fitting(kept, size) }
            })
        });
        answer_partial(Rpc::ReapOrphans, merged)
    }

    async fn watch_progress(
        &self,
        request: Request<WatchProgressRequest>,
    ) -> Result<Response<Self::WatchProgressStream>, Status> {
        let (head, message) = Head::split(request);
        answer(Rpc::WatchProgress, self.watch(head, message).await)
    }

    async fn import_volume(
        &self,
        _: Request<ImportVolumeRequest>,
    ) -> Result<Response<ImportVolumeResponse>, Status> {
        answer(Rpc::ImportVolume, Err(nothing_to_import().into()))
    }

    async fn diagnose(
        &self,
        request: Request<DiagnoseRequest>,
    ) -> Result<Response<DiagnoseResponse>, Status> {
        let (head, message) = Head::split(request);
        let call = |channel, request| async { clients::copies(channel).diagnose(request).await };
        let done = async {
            let agents = self.agents.all()?;
            let heard = super::everyone::ask(&agents, &head, message, super::everyone::LONG, call).await;
            let (mut checks, mut unreachable) = (Vec::new(), Vec::new());
            for (agent, said) in heard {
                let node = agent.node();
                match said {
                    Ok(said) => checks.extend(
                        said.checks
                            .into_iter()
                            .map(|check| Check { name: format!("{node}: {}", check.name), ..check }),
                    ),
                    // What cannot be asked is a finding, and this call is there to tell them.
                    Err(failure) => {
                        unreachable.push(node.to_owned());
                        checks.push(Check {
                            name: format!("{node}: agent"),
                            status: Finding::Fail as i32,
                            detail: failure.text(),
                            mend: "look at the agent's pod and at the way there; its volumes work on for pods that have them".to_owned(),
                        });
                    }
                }
            }
            let checks = fitting(checks, Check::encoded_len);
            Answer::Ok(Partial { answer: DiagnoseResponse { checks }, unreachable })
        };
        answer_partial(Rpc::Diagnose, done.await)
    }
}
