//! What a Data Control Tower answers with.
//!
//! Releases differ, and a real one may differ from what was published. So a field that is not known is passed over, and one
//! that is absent, null or of another type counts as absent: no answer as a whole is lost for a field that nobody needs.
//! Whoever needs a field asks for it and can say that it is missing.

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
            $($($(#[$id_doc])* #[serde(deserialize_with = "super::id")] pub $id: String,)*)?
            $($($(#[$list_doc])* #[serde(deserialize_with = "super::lenient_list")] pub $list: Vec<$item>,)*)?
            $($(#[$field_doc])* #[serde(deserialize_with = "super::lenient")] pub $field: $of,)*
        }
    )*};
}

mod dataset;
mod job;
mod place;

pub use dataset::{Bookmark, BookmarkPoint, Containerization, DSource, Dependency, Snapshot, Timeflow, Vdb};
pub use job::{Job, JobStatus, JobTask};
pub use place::{Engine, Environment, EnvironmentUser, Group, Host, Repository, Toolkit};

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

fn tag<'a>(tags: &'a [Tag], key: &str) -> Option<&'a str> {
    tags.iter().find(|tag| tag.key == key).map(|tag| tag.value.as_str())
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
