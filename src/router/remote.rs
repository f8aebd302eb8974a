//! A copy on another node than its source: docs/decisions/0014.
//!
//! The target pulls the bytes, and only it keeps a record of how far it is. The router brings the two together and may
//! be gone at any moment: whoever calls again with the same name finds the same snapshot by its name, and the same
//! target by the volume's. The snapshot that is cut to clone a volume goes when the copy has ended, one way or the
//! other; while it may go on, the snapshot stays.

use std::sync::Arc;

use super::Router;
use super::agent::Agent;
use super::clients;
use super::create::{From, NoRoom};
use super::failure::Answer;
use super::head::Head;
use super::tell::Story;
use crate::proto::agent::{AllowReadRequest, CreateVolumeFromRequest};
use crate::proto::csi::*;
use crate::volume::Error;
use crate::volume::digest::digest;

/// The names of snapshots that are cut for a copy to another node begin so.
pub const SNAPSHOT_PREFIX: &str = "remote-copy-";

/// The name of the snapshot that is cut to clone a volume for the volume of that name elsewhere.
fn snapshot_name(volume: &str) -> String {
    format!("{SNAPSHOT_PREFIX}{:032x}", digest([volume]))
}

impl Router {
    /// Makes the volume at the first of `targets` that has room, from what is at `owner`; `goes_on` if an earlier call has begun it there.
    pub(super) async fn copy_to(
        &self,
        head: &Head,
        request: CreateVolumeRequest,
        from: From,
        owner: &Arc<Agent>,
        targets: Vec<Arc<Agent>>,
        goes_on: bool,
    ) -> Answer<CreateVolumeResponse> {
        let (snapshot_id, cut_here) = match from {
            From::Snapshot(id) => (id, false),
            From::Volume(id) => (cut(owner, head, &id, &request.name).await?, true),
        };
        let source = request.volume_content_source.clone();
        let made = self.pull(head, &request, &snapshot_id, owner, targets, goes_on).await;
        let has_ended = made.as_ref().map_or_else(|failure| !failure.may_continue(), |_| true);
        if cut_here && has_ended {
            remove(owner, head, &snapshot_id).await;
        }
        made.map(|mut made| {
            // The caller asked for a copy of this, by whichever way it came.
            if let Some(volume) = &mut made.volume {
                volume.content_source = source;
            }
            made
        })
    }

    async fn pull(
        &self,
        head: &Head,
        request: &CreateVolumeRequest,
        snapshot_id: &str,
        owner: &Agent,
        targets: Vec<Arc<Agent>>,
        goes_on: bool,
    ) -> Answer<CreateVolumeResponse> {
        let mut no_room = NoRoom::default();
        for target in targets {
            let allow =
                AllowReadRequest { snapshot_id: snapshot_id.to_owned(), node: target.node().to_owned() };
            let call = |channel, request| async { clients::agent(channel).allow_read(request).await };
            owner.ask(head, allow, call).await?;
            let copy = CreateVolumeFromRequest {
                request: Some(request.clone()),
                snapshot_id: snapshot_id.to_owned(),
                address: owner.address.address.clone(),
                node: owner.node().to_owned(),
            };
            let call = |channel, request| async { clients::agent(channel).create_volume_from(request).await };
            let story = Story::of(&self.tell, request, owner.node(), &target, goes_on);
            let story = story.map(|story| story.begin(head));
            let made = target.ask(head, copy, call).await;
            if let (Some(whole), Ok(_)) = (story, &made) {
                // Nobody listens any more where the server is stopping.
                let _ = whole.send(());
            }
            if let Some(done) = no_room.tried(&target, made) {
                return done;
            }
        }
        Err(no_room.failure())
    }
}

async fn cut(owner: &Agent, head: &Head, volume: &str, name: &str) -> Answer<String> {
    let request = CreateSnapshotRequest {
        source_volume_id: volume.to_owned(),
        name: snapshot_name(name),
        ..CreateSnapshotRequest::default()
    };
    let call = |channel, request| async { clients::controller(channel).create_snapshot(request).await };
    let made = owner.ask(head, request, call).await?;
    let snapshot =
        made.snapshot.ok_or_else(|| Error::internal("an agent made a snapshot and did not say which"))?;
    Ok(snapshot.snapshot_id)
}

/// Removes the snapshot that was cut for a copy. Where that fails, it is seen in the lineage by its name.
async fn remove(owner: &Agent, head: &Head, snapshot: &str) {
    let request =
        DeleteSnapshotRequest { snapshot_id: snapshot.to_owned(), ..DeleteSnapshotRequest::default() };
    let call = |channel, request| async { clients::controller(channel).delete_snapshot(request).await };
    if let Err(failure) = owner.ask(head, request, call).await {
        tracing::warn!(
            snapshot,
            node = owner.node(),
            why = failure.text(),
            "the snapshot that was cut for a copy to another node stays: delete it"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::volume::names::check_name;

    #[test]
    fn the_snapshot_for_a_copy_has_a_name_of_its_own_however_long_the_volume_s_is() {
        let long = "x".repeat(128);
        assert_eq!(snapshot_name(&long), snapshot_name(&long));
        assert_ne!(snapshot_name(&long), snapshot_name("y"));
        check_name("name", &snapshot_name(&long)).unwrap();
    }
}
