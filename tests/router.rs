//! The router as its callers see it: gRPC in front, several nodes behind, each with use cases and edge over a machine
//! in memory, on wires that can be cut or stopped.
#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "router/away.rs"]
mod away;
#[path = "router/copies.rs"]
mod copies;
#[path = "router/groups.rs"]
mod groups;
#[path = "router/nodes.rs"]
mod nodes;
#[path = "router/routes.rs"]
mod routes;
#[path = "router/script.rs"]
mod script;

use nodes::{Cluster, GIB};
use offshoot::proto::csi as pb;
use offshoot::router::UNREACHABLE;
use tonic::{Code, Response, Status};

#[track_caller]
fn refused<T: std::fmt::Debug>(said: Result<Response<T>, Status>, code: Code, text: &str) {
    let status = said.unwrap_err();
    assert_eq!(status.code(), code, "{status}");
    assert!(status.message().contains(text), "{status}");
}

fn unreachable<T>(said: &Response<T>) -> &str {
    said.metadata().get(UNREACHABLE).map_or("", |nodes| nodes.to_str().unwrap())
}

fn delete(volume_id: &str) -> pb::DeleteVolumeRequest {
    pb::DeleteVolumeRequest { volume_id: volume_id.to_owned(), ..Default::default() }
}

fn get(volume_id: &str) -> pb::ControllerGetVolumeRequest {
    pb::ControllerGetVolumeRequest { volume_id: volume_id.to_owned() }
}

/// The request for twice the size.
fn larger(request: pb::CreateVolumeRequest) -> pb::CreateVolumeRequest {
    let capacity_range = Some(pb::CapacityRange { required_bytes: 2 * GIB, limit_bytes: 0 });
    pb::CreateVolumeRequest { capacity_range, ..request }
}

/// All volumes of the list, page by page of `max`.
async fn listed(cluster: &Cluster, max: i32) -> Vec<String> {
    let (mut seen, mut token) = (Vec::new(), String::new());
    loop {
        let request = pb::ListVolumesRequest { max_entries: max, starting_token: token };
        let page = cluster.controller().list_volumes(request).await.unwrap().into_inner();
        assert!(max == 0 || page.entries.len() <= max as usize);
        seen.extend(page.entries.into_iter().map(|entry| entry.volume.unwrap().volume_id));
        token = page.next_token;
        if token.is_empty() {
            return seen;
        }
    }
}
