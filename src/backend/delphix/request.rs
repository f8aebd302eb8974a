//! What a Data Control Tower is asked to do.
//!
//! A field that is not set is not sent: a release refuses fields that it does not know. The defaults of the DCT that were
//! seen to fail (`attempt_start`, `attempt_cleanup`, a delete without a body) are never taken.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::model::Tag;

/// What a VDB is made from.
#[derive(Debug, Clone, PartialEq)]
pub enum ProvisionFrom {
    /// A snapshot of a dSource or VDB.
    Snapshot {
        /// The snapshot; the latest of `source` if none is named.
        id: Option<String>,
        /// The dSource or VDB; that of the snapshot if none is named.
        source: Option<String>,
    },
    /// A time of a dSource or VDB.
    Timestamp {
        /// The dSource or VDB.
        source: String,
        /// The time.
        at: Timestamp,
    },
    /// A bookmark of exactly one VDB.
    Bookmark(String),
    /// Nothing. Releases that have it: [`super::Capabilities::empty_vdb`].
    Empty,
}

/// A VDB to be made.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Provision {
    /// What it is made from.
    #[serde(skip)]
    pub from: ProvisionFrom,
    /// Its name.
    pub name: String,
    /// The engine. Not sent with a bookmark, which knows its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub engine_id: Option<String>,
    /// The environment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub environment_id: Option<String>,
    /// The repository.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repository_id: Option<String>,
    /// Whether the DCT chooses the repository.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auto_select_repository: Option<bool>,
    /// The group; any of the engine if none is named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_group_id: Option<String>,
    /// Where the environment's host mounts it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mount_point: Option<String>,
    /// Whether it is for containers. Releases that have it: [`super::Capabilities::container_mode`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container_mode: Option<bool>,
    /// Whether its data is to be masked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub masked: Option<bool>,
    /// Which of its snapshots the engine deletes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retention_policy_id: Option<String>,
    /// When the engine takes snapshots of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snapshot_policy_id: Option<String>,
    /// What the plugin is told about the VDB.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub appdata_source_params: Map<String, Value>,
    /// Its tags, there from its first moment.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<Tag>,
    /// Its hooks, by their moment: `pre_refresh`, `post_rollback` and others.
    #[serde(flatten)]
    pub hooks: BTreeMap<String, Vec<Hook>>,
}

impl Provision {
    /// A VDB of which only the needful is said.
    pub fn new(name: impl Into<String>, from: ProvisionFrom) -> Provision {
        Provision {
            from,
            name: name.into(),
            engine_id: None,
            environment_id: None,
            repository_id: None,
            auto_select_repository: None,
            target_group_id: None,
            mount_point: None,
            container_mode: None,
            masked: None,
            retention_policy_id: None,
            snapshot_policy_id: None,
            appdata_source_params: Map::new(),
            tags: Vec::new(),
            hooks: BTreeMap::new(),
        }
    }

    /// The operation and its body.
    pub(super) fn operation(&self) -> (&'static str, Value) {
        let mut body = serde_json::to_value(self).unwrap_or_default();
        let mut set = |field: &str, value: Value| {
            if let (Value::Object(body), false) = (&mut body, value.is_null()) {
                body.insert(field.to_owned(), value);
            }
        };
        let operation = match &self.from {
            ProvisionFrom::Snapshot { id, source } => {
                set("snapshot_id", json!(id));
                set("source_data_id", json!(source));
                "POST /vdbs/provision_by_snapshot"
            }
            ProvisionFrom::Timestamp { source, at } => {
                set("source_data_id", json!(source));
                set("timestamp", json!(at));
                "POST /vdbs/provision_by_timestamp"
            }
            ProvisionFrom::Bookmark(bookmark) => {
                set("bookmark_id", json!(bookmark));
                if let Value::Object(body) = &mut body {
                    body.remove("engine_id");
                }
                "POST /vdbs/provision_from_bookmark"
            }
            ProvisionFrom::Empty => "POST /vdbs/empty_vdb",
        };
        (operation, body)
    }
}

/// A script that the engine runs on the environment's host.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Hook {
    /// Its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What is run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// `bash`, `shell`, `expect`, `ps`, `psd`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shell: Option<String>,
    /// A template of the DCT in place of a command.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hook_template_id: Option<String>,
}

/// How a VDB is enabled.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Enable {
    /// Whether for a container. Releases that have it: [`super::Capabilities::container_mode`].
    pub container_mode: Option<bool>,
    /// `UID:GID` that owns its files. Releases that have it: [`super::Capabilities::ownership_spec`].
    pub ownership_spec: Option<String>,
}

impl Enable {
    pub(super) fn body(&self) -> Value {
        let mut body = json!({ "attempt_start": false });
        if let Some(container_mode) = self.container_mode {
            body["container_mode"] = container_mode.into();
        }
        if let Some(ownership_spec) = &self.ownership_spec {
            body["ownership_spec"] = ownership_spec.as_str().into();
        }
        body
    }
}

/// Where a VDB is refreshed or rewound to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Point {
    /// The latest snapshot: of the parent for a refresh, its own for a rewind.
    Latest,
    /// A snapshot.
    Snapshot(String),
    /// A time.
    Timestamp(Timestamp),
    /// A bookmark.
    Bookmark(String),
}

impl Point {
    /// Which of the operations by snapshot, by timestamp and from a bookmark it takes, and the body of that.
    pub(super) fn operation(&self, operations: [&'static str; 3]) -> (&'static str, Value) {
        let [by_snapshot, by_timestamp, from_bookmark] = operations;
        match self {
            Point::Latest => (by_snapshot, json!({})),
            Point::Snapshot(id) => (by_snapshot, json!({ "snapshot_id": id })),
            Point::Timestamp(at) => (by_timestamp, json!({ "timestamp": at })),
            Point::Bookmark(id) => (from_bookmark, json!({ "bookmark_id": id })),
        }
    }
}

/// A bookmark to be made. It is kept for ever.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewBookmark {
    /// Its name.
    pub name: String,
    /// What it marks.
    pub of: BookmarkOf,
    /// Its tags, there from its first moment.
    pub tags: Vec<Tag>,
}

/// What a bookmark marks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BookmarkOf {
    /// A VDB as it is now, by a fresh snapshot.
    Vdb(String),
    /// A snapshot that is there.
    Snapshot(String),
}

impl NewBookmark {
    pub(super) fn body(&self) -> Value {
        let mut body = json!({ "name": self.name, "retain_forever": true });
        match &self.of {
            BookmarkOf::Vdb(id) => body["vdb_ids"] = json!([id]),
            BookmarkOf::Snapshot(id) => body["snapshot_ids"] = json!([id]),
        }
        if !self.tags.is_empty() {
            body["tags"] = json!(self.tags);
        }
        body
    }
}

/// What a DCT answers when it has taken a request that takes time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Started {
    /// The job. Absent where the request was done at once.
    pub job: Option<String>,
    /// The id of what is being made, where the DCT says it.
    pub object: Option<String>,
}
