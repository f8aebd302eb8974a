//! Places: engines that hold data, and hosts that it is provisioned to.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::Tag;

models! {
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
}

impl Engine {
    /// Whether the DCT reaches it; absent where the DCT does not say.
    pub fn online(&self) -> Option<bool> {
        let status = self.engine_connection_status.as_deref().or(self.connection_status.as_deref())?;
        Some(status == "ONLINE")
    }
}
