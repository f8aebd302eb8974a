//! The kinds of objects of a Data Control Tower, and by which operations each is got and searched for.

use serde::de::DeserializeOwned;

use super::model::{Bookmark, DSource, Engine, Environment, Group, Job, Snapshot, Timeflow, Toolkit, Vdb};

/// What is known of a kind.
#[derive(Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Clone, Copy)]
pub(super) struct Kind {
    /// What people call it.
    pub(super) name: &'static str,
    /// Gets one by its id.
    pub(super) get: &'static str,
    /// Searches for some.
    pub(super) search: &'static str,
}

/// An object of a DCT that has an id.
pub trait Object: DeserializeOwned + Send + 'static {
    /// Its id.
    fn id(&self) -> &str;

    #[doc(hidden)]
    #[allow(private_interfaces, reason = "sealed: the kinds are those of this client")]
    const KIND: Kind;
}

macro_rules! objects {
    ($($of:ident $name:literal $get:literal $search:literal;)*) => {$(
        impl Object for $of {
            fn id(&self) -> &str {
                &self.id
            }

            #[allow(private_interfaces, reason = "sealed: the kinds are those of this client")]
            const KIND: Kind = Kind { name: $name, get: $get, search: $search };
        }
    )*};
}

objects! {
    Vdb "VDB" "GET /vdbs/{vdbId}" "POST /vdbs/search";
    DSource "dSource" "GET /dsources/{dsourceId}" "POST /dsources/search";
    Environment "environment" "GET /environments/{environmentId}" "POST /environments/search";
    Engine "engine" "GET /management/engines/{engineId}" "POST /management/engines/search";
    Snapshot "snapshot" "GET /snapshots/{snapshotId}" "POST /snapshots/search";
    Bookmark "bookmark" "GET /bookmarks/{bookmarkId}" "POST /bookmarks/search";
    Group "group" "GET /groups/{groupId}" "POST /groups/search";
    Timeflow "timeflow" "GET /timeflows/{timeflowId}" "POST /timeflows/search";
    Toolkit "toolkit" "GET /toolkits/{toolkitId}" "POST /toolkits/search";
    Job "job" "GET /jobs/{jobId}" "POST /jobs/search";
}
