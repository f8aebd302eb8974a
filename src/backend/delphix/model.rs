//! What a Data Control Tower answers with.
//!
//! Releases differ, and a real one may differ from what was published. So a field that is not known is passed over, and one
//! that is absent, null or of another type counts as absent: no answer as a whole is lost for a field that nobody needs.
//! Whoever needs a field asks for it and can say that it is missing.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

/// Any value; what does not fit counts as absent.
fn lenient<'de, D: Deserializer<'de>, T: DeserializeOwned + Default>(from: D) -> Result<T, D::Error> {
    Ok(serde_json::from_value(Value::deserialize(from)?).unwrap_or_default())
}

/// A list of which what does not fit is left out.
fn lenient_list<'de, D: Deserializer<'de>, T: DeserializeOwned>(from: D) -> Result<Vec<T>, D::Error> {
    let Value::Array(items) = Value::deserialize(from)? else { return Ok(Vec::new()) };
    Ok(items.into_iter().filter_map(|item| serde_json::from_value(item).ok()).collect())
}

/// An id, which a release may write as a number.
fn id<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    Ok(match Value::deserialize(from)? {
        Value::String(text) => text,
        Value::Number(number) => number.to_string(),
        _ => String::new(),
    })
}

macro_rules! models {
    ($(
        $(#[$doc:meta])*
        $name:ident {
            $( @ids { $($(#[$id_doc:meta])* $id:ident),* $(,)? } )?
            $( @lists { $($(#[$list_doc:meta])* $list:ident: $item:ty),* $(,)? } )?
            $($(#[$field_doc:meta])* $field:ident: $of:ty),* $(,)?
        }
    )*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Default, PartialEq, Deserialize)]
        #[serde(default)]
        pub struct $name {
            $($($(#[$id_doc])* #[serde(deserialize_with = "id")] pub $id: String,)*)?
            $($($(#[$list_doc])* #[serde(deserialize_with = "lenient_list")] pub $list: Vec<$item>,)*)?
            $($(#[$field_doc])* #[serde(deserialize_with = "lenient")] pub $field: $of,)*
        }
    )*};
}

models! {
    /// A virtual database, or virtual files.
    Vdb {
        @ids {
            /// Its id.
            id,
        }
        @lists {
            /// Its tags. A key may be there several times.
            tags: Tag,
        }
        /// Its name.
        name: Option<String>,
        /// The engine that has it.
        engine_id: Option<String>,
        /// That engine's name.
        engine_name: Option<String>,
        /// The environment that it is provisioned to.
        environment_id: Option<String>,
        /// That environment's name.
        environment_name: Option<String>,
        /// The repository that it is provisioned to.
        repository_id: Option<String>,
        /// The name of its group.
        group_name: Option<String>,
        /// What kind of data it holds.
        database_type: Option<String>,
        /// Whether it is files or a plugin's.
        is_appdata: Option<bool>,
        /// The plugin.
        toolkit_id: Option<String>,
        /// Whether it is exported and mounted. May lag by a minute.
        enabled: Option<bool>,
        /// `RUNNING` and others; not a closed set.
        status: Option<String>,
        /// How it stands with containers; releases from 2025.1.
        containerization_state: Option<Containerization>,
        /// What to mount, without leading slash; releases from 21. Changes with the timeflow.
        exported_data_directory: Option<String>,
        /// Where the environment's host mounts it.
        mount_point: Option<String>,
        /// What the plugin says about its source config.
        appdata_config_params: Option<BTreeMap<String, Value>>,
        /// The NFS version that the engine last used; releases from 2025.6.
        nfs_version: Option<u64>,
        /// Whether the engine encrypts NFS.
        nfs_encryption_enabled: Option<bool>,
        /// What it was made from.
        parent_id: Option<String>,
        /// That object's name.
        parent_name: Option<String>,
        /// The dSource that it was made from, if it was one.
        parent_dsource_id: Option<String>,
        /// The dSource at the beginning of the line.
        root_parent_id: Option<String>,
        /// The timeflow that it shows.
        current_timeflow_id: Option<String>,
        /// The one before that.
        previous_timeflow_id: Option<String>,
        /// The point of its parent that it shows.
        parent_timeflow_timestamp: Option<Timestamp>,
        /// When it was last refreshed.
        last_refreshed_date: Option<Timestamp>,
        /// When it was made.
        creation_date: Option<Timestamp>,
        /// Size of its data in bytes.
        size: Option<u64>,
        /// What it takes on the engine in bytes.
        storage_size: Option<u64>,
        /// What it would take without sharing, in bytes.
        unvirtualized_space: Option<u64>,
        /// Whether it is a replica, which cannot be changed.
        is_replica: Option<bool>,
        /// Whether somebody locked it.
        is_locked: Option<bool>,
        /// Who did.
        locked_by_name: Option<String>,
        /// Whether its data is masked.
        masked: Option<bool>,
        /// Whether it lies in the recycle bin; releases from 2026.3.
        recycle_bin: Option<bool>,
    }

    /// A linked source: the data that VDBs are made from.
    DSource {
        @ids {
            /// Its id.
            id,
        }
        @lists {
            /// Its tags.
            tags: Tag,
        }
        /// Its name.
        name: Option<String>,
        /// The engine that has it.
        engine_id: Option<String>,
        /// That engine's name.
        engine_name: Option<String>,
        /// The name of its group.
        group_name: Option<String>,
        /// What kind of data it holds.
        database_type: Option<String>,
        /// Whether it is files or a plugin's.
        is_appdata: Option<bool>,
        /// Whether it is enabled.
        enabled: Option<bool>,
        /// `RUNNING` and others; not a closed set.
        status: Option<String>,
        /// The plugin.
        toolkit_id: Option<String>,
        /// Its current timeflow.
        current_timeflow_id: Option<String>,
        /// When it was made.
        creation_date: Option<Timestamp>,
        /// What it takes on the engine in bytes.
        storage_size: Option<u64>,
        /// Whether it is a replica.
        is_replica: Option<bool>,
        /// Its data on the engine.
        exported_data_directory: Option<String>,
    }

    /// Hosts that VDBs are provisioned to.
    Environment {
        @ids {
            /// Its id.
            id,
        }
        @lists {
            /// Its hosts.
            hosts: Host,
            /// What can be provisioned there.
            repositories: Repository,
            /// Its users.
            env_users: EnvironmentUser,
            /// Its tags.
            tags: Tag,
        }
        /// Its name.
        name: Option<String>,
        /// The engine that it belongs to.
        engine_id: Option<String>,
        /// That engine's name.
        engine_name: Option<String>,
        /// Whether it is enabled.
        enabled: Option<bool>,
        /// Whether it has several hosts.
        is_cluster: Option<bool>,
    }

    /// A host of an environment.
    Host {
        @ids {
            /// Its id.
            id,
        }
        /// Its name.
        hostname: Option<String>,
        /// Who may mount what is enabled here. Absent where the DCT does not say: then nothing may be written over it.
        nfs_addresses: Option<Vec<String>>,
        /// Whether the engine reaches it.
        available: Option<bool>,
        /// Why it does not.
        not_available_reason: Option<String>,
    }

    /// A kind of data that an environment can hold.
    Repository {
        @ids {
            /// Its id.
            id,
        }
        /// Its name.
        name: Option<String>,
        /// What kind of data it holds.
        database_type: Option<String>,
        /// Whether VDBs may be made there.
        allow_provisioning: Option<bool>,
        /// The plugin.
        toolkit_id: Option<String>,
    }

    /// A user of an environment.
    EnvironmentUser {
        @ids {
            /// Its id.
            user_ref,
        }
        /// Its name.
        username: Option<String>,
        /// Whether it is the one that is used if none is named.
        primary_user: Option<bool>,
    }

    /// An engine.
    Engine {
        @ids {
            /// Its id.
            id,
        }
        @lists {
            /// Its tags.
            tags: Tag,
        }
        /// Its own id.
        uuid: Option<String>,
        /// Its name.
        name: Option<String>,
        /// The name or address by which the DCT reaches it.
        hostname: Option<String>,
        /// Its release.
        version: Option<String>,
        /// `VIRTUALIZATION`, `MASKING`, `BOTH`, `UNSET`.
        r#type: Option<String>,
        /// `ONLINE`, `CONNECTION_ERROR`, `MISSING_CREDENTIALS`, `BAD_CREDENTIALS`.
        engine_connection_status: Option<String>,
        /// More about that.
        engine_connection_status_details: Option<String>,
        /// `ONLINE` or `OFFLINE`; older releases.
        connection_status: Option<String>,
        /// Size of its storage in bytes.
        data_storage_capacity: Option<u64>,
        /// What of it is taken, in bytes.
        data_storage_used: Option<u64>,
    }

    /// A point of a dataset.
    Snapshot {
        @ids {
            /// Its id.
            id,
        }
        @lists {
            /// Its tags.
            tags: Tag,
        }
        /// Its name, which the engine gave.
        name: Option<String>,
        /// The VDB or dSource.
        dataset_id: Option<String>,
        /// That object's name.
        dataset_name: Option<String>,
        /// The engine that has it.
        engine_id: Option<String>,
        /// When it was taken.
        creation_time: Option<Timestamp>,
        /// The time that its data shows.
        timestamp: Option<Timestamp>,
        /// The timeflow that it lies on.
        timeflow_id: Option<String>,
        /// Whether retention lets it be, as was asked for.
        retain_forever: Option<bool>,
        /// The day after which retention may delete it, as was asked for.
        expiration: Option<String>,
        /// Whether retention lets it be, bookmarks considered.
        effective_retain_forever: Option<bool>,
        /// The day after which retention may delete it, bookmarks considered.
        effective_expiration: Option<String>,
        /// Whether it goes by itself.
        temporary: Option<bool>,
    }

    /// A named point of one or several datasets.
    Bookmark {
        @ids {
            /// Its id.
            id,
        }
        @lists {
            /// The VDBs that it names.
            vdb_ids: String,
            /// Where it lies on each of them.
            vdbs: BookmarkPoint,
            /// The engines that have it.
            engine_ids: String,
            /// Its tags.
            tags: Tag,
        }
        /// Its name. Several may have one.
        name: Option<String>,
        /// `ACTIVE`, `INACTIVE`, `CREATING`, `DELETING`.
        bookmark_status: Option<String>,
        /// The time that its data shows.
        data_timestamp: Option<Timestamp>,
        /// When it was made.
        creation_date: Option<Timestamp>,
        /// The day after which it goes; for ever without.
        expiration: Option<String>,
        /// Whether it is a replica.
        is_replica: Option<bool>,
    }

    /// Where a bookmark lies on a VDB.
    BookmarkPoint {
        /// The VDB.
        vdb_id: Option<String>,
        /// Its snapshot.
        snapshot_id: Option<String>,
        /// Its timeflow.
        timeflow_id: Option<String>,
        /// The time that its data shows.
        data_timestamp: Option<Timestamp>,
    }

    /// A group of datasets on an engine.
    Group {
        @ids {
            /// Its id.
            id,
        }
        /// Its name.
        name: Option<String>,
        /// The engine that has it.
        engine_id: Option<String>,
    }

    /// A line of history of a dataset.
    Timeflow {
        @ids {
            /// Its id.
            id,
        }
        /// Its name.
        name: Option<String>,
        /// The VDB or dSource.
        dataset_id: Option<String>,
        /// The engine that has it.
        engine_id: Option<String>,
        /// `INITIAL`, `REFRESH`, `ROLLBACK` and others.
        creation_type: Option<String>,
        /// The snapshot that it starts from.
        parent_snapshot_id: Option<String>,
        /// The timeflow that it starts from.
        parent_point_timeflow_id: Option<String>,
        /// The time that it starts from.
        parent_point_timestamp: Option<Timestamp>,
        /// Whether its dataset shows it.
        is_active: Option<bool>,
        /// When it was made.
        creation_timestamp: Option<Timestamp>,
    }

    /// A plugin.
    Toolkit {
        @ids {
            /// Its id.
            id,
        }
        /// Its name.
        name: Option<String>,
        /// Its name for people.
        pretty_name: Option<String>,
        /// Its own id.
        identifier: Option<String>,
        /// The engine that has it.
        engine_id: Option<String>,
        /// Its release.
        version: Option<String>,
        /// What its VDBs can be told, and the schema of that.
        virtual_source_definition: Option<BTreeMap<String, Value>>,
    }

    /// Work of a DCT that goes on after its answer.
    Job {
        @ids {
            /// Its id.
            id,
        }
        @lists {
            /// The engines that work on it.
            engine_ids: String,
            /// Its steps.
            tasks: JobTask,
        }
        /// How it stands.
        status: JobStatus,
        /// Its work is done and cannot fail any more, but objects do not show it yet. Only while STARTED.
        is_waiting_for_telemetry: Option<bool>,
        /// What it does; not a closed set.
        r#type: Option<String>,
        /// Why it failed.
        error_details: Option<String>,
        /// What it warns of.
        warning_message: Option<String>,
        /// The object it works on.
        target_id: Option<String>,
        /// That object's name.
        target_name: Option<String>,
        /// When it began.
        start_time: Option<Timestamp>,
        /// When it last changed.
        update_time: Option<Timestamp>,
        /// How far it is.
        percent_complete: Option<u64>,
    }

    /// A step of a job.
    JobTask {
        /// What it does.
        title: Option<String>,
        /// How it stands.
        status: JobStatus,
        /// How far it is.
        percent_complete: Option<u64>,
    }

    /// What has to go before an object can.
    Dependency {
        /// The id of what is in the way.
        #[serde(alias = "object_id")]
        dataset_id: Option<String>,
        /// Its name.
        #[serde(alias = "object_name")]
        dataset_name: Option<String>,
        /// What it is.
        #[serde(alias = "object_type")]
        dataset_type: Option<String>,
        /// For a snapshot, what has to be done first: `REMOVE_KEEP_FOR`, `TAKE_SNAPSHOT`, `REFRESH`.
        action: Option<String>,
    }
}

/// A pair of words on an object.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
pub struct Tag {
    /// The first.
    pub key: String,
    /// The second.
    pub value: String,
}

impl Tag {
    /// A tag of these words.
    pub fn new(key: impl Into<String>, value: impl Into<String>) -> Tag {
        Tag { key: key.into(), value: value.into() }
    }
}

/// How a VDB stands with containers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Containerization {
    /// It is not made for them.
    NotContainerized,
    /// It can be enabled for one.
    ReadyForContainer,
    /// It is enabled for one.
    RunningInContainer,
    /// Something newer.
    #[serde(other)]
    Unknown,
}

/// How a job stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum JobStatus {
    /// Not begun.
    Pending,
    /// Begun.
    Started,
    /// The same, of an engine.
    Running,
    /// Waits for another.
    Waiting,
    /// Held by somebody.
    Suspended,
    /// Ended well.
    Completed,
    /// Ended with an error.
    Failed,
    /// Ended by somebody.
    Canceled,
    /// Took too long; its work may be done all the same.
    Timedout,
    /// Not followed any more; its work may be done all the same.
    Abandoned,
    /// Absent or something newer; not an end.
    #[default]
    #[serde(other)]
    Unknown,
}

impl JobStatus {
    /// The word of the DCT.
    pub fn as_str(self) -> &'static str {
        match self {
            JobStatus::Pending => "PENDING",
            JobStatus::Started => "STARTED",
            JobStatus::Running => "RUNNING",
            JobStatus::Waiting => "WAITING",
            JobStatus::Suspended => "SUSPENDED",
            JobStatus::Completed => "COMPLETED",
            JobStatus::Failed => "FAILED",
            JobStatus::Canceled => "CANCELED",
            JobStatus::Timedout => "TIMEDOUT",
            JobStatus::Abandoned => "ABANDONED",
            JobStatus::Unknown => "in an unknown state",
        }
    }

    /// Whether nothing more comes.
    pub fn is_end(self) -> bool {
        matches!(
            self,
            JobStatus::Completed
                | JobStatus::Failed
                | JobStatus::Canceled
                | JobStatus::Timedout
                | JobStatus::Abandoned
        )
    }
}

impl Vdb {
    /// The value of its first tag of that key.
    pub fn tag(&self, key: &str) -> Option<&str> {
        tag(&self.tags, key)
    }
}

impl Bookmark {
    /// The value of its first tag of that key.
    pub fn tag(&self, key: &str) -> Option<&str> {
        tag(&self.tags, key)
    }
}

fn tag<'a>(tags: &'a [Tag], key: &str) -> Option<&'a str> {
    tags.iter().find(|tag| tag.key == key).map(|tag| tag.value.as_str())
}

impl Engine {
    /// Whether the DCT reaches it; absent where the DCT does not say.
    pub fn online(&self) -> Option<bool> {
        let status = self.engine_connection_status.as_deref().or(self.connection_status.as_deref())?;
        Some(status == "ONLINE")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_answer_is_read_whatever_its_fields_are_like() {
        let vdb: Vdb = serde_json::from_value(json!({
            "id": 7, "name": null, "enabled": "yes", "size": -1, "brand_new": {"x": [1]}, "nfs_version": 4,
            "containerization_state": "IN_ORBIT", "creation_date": "2026-01-01T00:00:00.000Z",
            "last_refreshed_date": "yesterday", "tags": [{"key": "a", "value": "b"}, {"key": "c"}, 3, null],
        }))
        .unwrap();
        let expect = Vdb {
            id: "7".to_owned(),
            nfs_version: Some(4),
            containerization_state: Some(Containerization::Unknown),
            creation_date: Some("2026-01-01T00:00:00Z".parse().unwrap()),
            tags: vec![Tag::new("a", "b")],
            ..Vdb::default()
        };
        assert_eq!(vdb, expect);
        assert_eq!(vdb.tag("a"), Some("b"));
    }

    #[test]
    fn a_state_of_a_job_that_is_not_known_is_not_an_end() {
        fn check(status: Value, expect: JobStatus, end: bool) {
            let job: Job = serde_json::from_value(json!({ "id": "j", "status": status })).unwrap();
            assert_eq!((job.status, job.status.is_end()), (expect, end), "{status}");
            if let Value::String(text) = status
                && expect != JobStatus::Unknown
            {
                assert_eq!(expect.as_str(), text);
            }
        }
        check(json!("PENDING"), JobStatus::Pending, false);
        check(json!("STARTED"), JobStatus::Started, false);
        check(json!("RUNNING"), JobStatus::Running, false);
        check(json!("WAITING"), JobStatus::Waiting, false);
        check(json!("SUSPENDED"), JobStatus::Suspended, false);
        check(json!("COMPLETED"), JobStatus::Completed, true);
        check(json!("FAILED"), JobStatus::Failed, true);
        check(json!("CANCELED"), JobStatus::Canceled, true);
        check(json!("TIMEDOUT"), JobStatus::Timedout, true);
        check(json!("ABANDONED"), JobStatus::Abandoned, true);
        check(json!("DREAMING"), JobStatus::Unknown, false);
        check(Value::Null, JobStatus::Unknown, false);
    }
}
