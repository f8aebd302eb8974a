//! Data: what is linked, what is made of it, and the points of its history.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use super::{Tag, tag};

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
