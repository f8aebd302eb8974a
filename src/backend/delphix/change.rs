//! A Data Control Tower as the use cases see it: what can be done.
//!
//! Each call returns as soon as the DCT has taken it. A failure that [`Failure::is_ambiguous`] may have been done all the
//! same: whoever gets it looks for what it would have made before sending it again. Only what does no more when it is done twice
//! (tags) is repeated here.

use serde_json::{Value, json};

use super::dct::Dct;
use super::fault::{Failure, Result};
use super::model::{Bookmark, Dependency, Tag};
use super::request::{Enable, NewBookmark, Point, Provision, Started};
use super::transport::Ask;

impl Dct {
    /// Makes a VDB. [`Started::object`] is its id, which shows when the job has begun to work.
    pub async fn provision(&self, what: &Provision) -> Result<Started> {
        let (op, body) = what.operation();
        let answer = self.change(op, &[], Some(body)).await?;
        let object = answer.get("vdb_id").and_then(Value::as_str).map(str::to_owned);
        Ok(Started { object, ..started(&answer) })
    }

    /// Exports a VDB, without starting anything on the environment's host.
    pub async fn enable(&self, vdb: &str, how: &Enable) -> Result<Started> {
        self.start("POST /vdbs/{vdbId}/enable", &[vdb], Some(how.body())).await
    }

    /// Ends the export of a VDB, without cleaning up on the environment's host.
    pub async fn disable(&self, vdb: &str, container_mode: Option<bool>) -> Result<Started> {
        let mut body = json!({ "attempt_cleanup": false });
        if let Some(container_mode) = container_mode {
            body["container_mode"] = container_mode.into();
        }
        self.start("POST /vdbs/{vdbId}/disable", &[vdb], Some(body)).await
    }

    /// Deletes a VDB. Its dependencies stay, and make the job fail: [`Dct::vdb_dependencies`].
    pub async fn delete_vdb(&self, vdb: &str) -> Result<Started> {
        let body = json!({ "force": false, "delete_all_dependent_vdbs": false });
        self.start("POST /vdbs/{vdbId}/delete", &[vdb], Some(body)).await
    }

    /// What has to go before a VDB can, that which goes last first.
    pub async fn vdb_dependencies(&self, vdb: &str) -> Result<Vec<Dependency>> {
        self.dependencies("GET /vdbs/{vdbId}/deletion-dependencies", vdb).await
    }

    /// Takes the data of its parent again. The export path changes.
    pub async fn refresh(&self, vdb: &str, to: &Point) -> Result<Started> {
        let (op, body) = to.operation([
            "POST /vdbs/{vdbId}/refresh_by_snapshot",
            "POST /vdbs/{vdbId}/refresh_by_timestamp",
            "POST /vdbs/{vdbId}/refresh_from_bookmark",
        ]);
        self.start(op, &[vdb], Some(body)).await
    }

    /// Takes earlier data of its own. The export path changes.
    pub async fn rollback(&self, vdb: &str, to: &Point) -> Result<Started> {
        let (op, body) = to.operation([
            "POST /vdbs/{vdbId}/rollback_by_snapshot",
            "POST /vdbs/{vdbId}/rollback_by_timestamp",
            "POST /vdbs/{vdbId}/rollback_from_bookmark",
        ]);
        self.start(op, &[vdb], Some(body)).await
    }

    /// Goes back to the timeflow before the last refresh. Releases that have it: [`super::Capabilities::undo_refresh`].
    pub async fn undo_refresh(&self, vdb: &str) -> Result<Started> {
        self.start("POST /vdbs/{vdbId}/undo_refresh", &[vdb], None).await
    }

    /// Goes to another timeflow that the VDB has.
    pub async fn switch_timeflow(&self, vdb: &str, timeflow: &str) -> Result<Started> {
        let body = json!({ "timeflow_id": timeflow });
        self.start("POST /vdbs/{vdbId}/switch_timeflow", &[vdb], Some(body)).await
    }

    /// Takes a snapshot of a VDB. The DCT says neither its id nor its name.
    pub async fn take_snapshot(&self, vdb: &str) -> Result<Started> {
        self.start("POST /vdbs/{vdbId}/snapshots", &[vdb], None).await
    }

    /// Keeps a snapshot from retention.
    pub async fn keep_snapshot(&self, snapshot: &str) -> Result<Started> {
        let body = json!({ "retain_forever": true });
        self.start("PATCH /snapshots/{snapshotId}", &[snapshot], Some(body)).await
    }

    /// Deletes a snapshot. What depends on it stays, and makes the job fail.
    pub async fn delete_snapshot(&self, snapshot: &str) -> Result<Started> {
        let body = json!({ "delete_all_dependencies": false });
        self.start("POST /snapshots/{snapshotId}/delete", &[snapshot], Some(body)).await
    }

    /// What has to go or to be done before a snapshot can go.
    pub async fn snapshot_dependencies(&self, snapshot: &str) -> Result<Vec<Dependency>> {
        self.dependencies("GET /snapshots/{snapshotId}/deletion-dependencies", snapshot).await
    }

    /// Makes a bookmark, which is kept for ever. Its id is known at once.
    pub async fn create_bookmark(&self, what: &NewBookmark) -> Result<(Started, Option<Bookmark>)> {
        let answer = self.change("POST /bookmarks", &[], Some(what.body())).await?;
        let bookmark = answer.get("bookmark").cloned().and_then(super::dct::read::<Bookmark>);
        let object = bookmark.as_ref().map(|bookmark| bookmark.id.clone());
        Ok((Started { object, ..started(&answer) }, bookmark))
    }

    /// Deletes a bookmark.
    pub async fn delete_bookmark(&self, bookmark: &str) -> Result<Started> {
        self.start("DELETE /bookmarks/{bookmarkId}", &[bookmark], None).await
    }

    /// Adds tags to a VDB.
    pub async fn tag_vdb(&self, vdb: &str, tags: &[Tag]) -> Result<()> {
        self.tag("POST /vdbs/{vdbId}/tags", vdb, tags).await
    }

    /// Takes tags off a VDB; those that it does not have are passed over.
    pub async fn untag_vdb(&self, vdb: &str, tags: &[Tag]) -> Result<()> {
        self.tag("POST /vdbs/{vdbId}/tags/delete", vdb, tags).await
    }

    /// Adds tags to a snapshot.
    pub async fn tag_snapshot(&self, snapshot: &str, tags: &[Tag]) -> Result<()> {
        self.tag("POST /snapshots/{snapshotId}/tags", snapshot, tags).await
    }

    /// Replaces the addresses that may mount what is enabled on a host. All of them: other writers' are lost unless they were read
    /// just before, and must be looked for again after.
    pub async fn set_nfs_addresses(
        &self,
        environment: &str,
        host: &str,
        addresses: &[String],
    ) -> Result<Started> {
        let body = json!({ "nfs_addresses": addresses });
        let op = "PATCH /environments/{environmentId}/hosts/{hostId}";
        self.start(op, &[environment, host], Some(body)).await
    }

    async fn change(&self, op: &'static str, ids: &[&str], body: Option<Value>) -> Result<Value> {
        let answer = self.0.transport.send(&Ask::change(op, ids, body)).await?;
        // It was taken: an answer that cannot be read leaves unknown what was started.
        serde_json::from_slice(&answer.body).or_else(|_| {
            if answer.body.is_empty() {
                return Ok(Value::Null);
            }
            let message =
                format!("{op}: it was taken, but the answer cannot be read; look before it is sent again");
            Err(Failure::new(super::fault::Fault::Ambiguous, message))
        })
    }

    async fn start(&self, op: &'static str, ids: &[&str], body: Option<Value>) -> Result<Started> {
        self.change(op, ids, body).await.map(|answer| started(&answer))
    }

    async fn tag(&self, op: &'static str, id: &str, tags: &[Tag]) -> Result<()> {
        if tags.is_empty() {
            return Ok(());
        }
        let body = Some(json!({ "tags": tags }));
        let ids = [id];
        let ask = Ask { repeatable: true, ..Ask::change(op, &ids, body) };
        self.0.transport.send(&ask).await.map(|_| ())
    }

    async fn dependencies(&self, op: &'static str, id: &str) -> Result<Vec<Dependency>> {
        let answer: Value = self.0.transport.json(&Ask::read(op, &[id])).await?;
        let lists = ["items", "object_dependencies", "prerequisite_actions"];
        let all = lists.iter().filter_map(|list| answer.get(list)?.as_array()).flatten();
        Ok(all.filter_map(|item| serde_json::from_value(item.clone()).ok()).collect())
    }
}

fn started(answer: &Value) -> Started {
    let job = answer.get("job").and_then(super::dct::id_of);
    Started { job, object: None }
}
