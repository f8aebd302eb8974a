//! What answers are made of, in the form in which JSON shows them.
//!
//! The wire types follow the protocol; scripts that read our JSON must not break when it grows a field or moves one.
//! So each answer is one of these, with its names fixed here: camelCase, sizes in bytes, times in RFC 3339, what is
//! not known `null`.

use std::collections::BTreeMap;
use std::str::FromStr;

use serde::Serialize;

use super::output::{Style, age, human, rfc3339};
use super::session::{bytes, kind_name, millis};
use crate::proto::offshoot::lineage_node::State;
use crate::proto::offshoot::{LineageNode, Pool};
use crate::service::api::PoolStatus;
use crate::volume::record::Millis;

/// A volume, snapshot or group with what it costs.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Object {
    pub(super) id: String,
    pub(super) kind: &'static str,
    pub(super) name: String,
    /// What it came from; also if that is gone.
    pub(super) parent_id: Option<String>,
    pub(super) pool: String,
    pub(super) pool_id: String,
    pub(super) size_bytes: u64,
    /// `null` where the pool cannot say.
    pub(super) own_bytes: Option<u64>,
    pub(super) shared_bytes: Option<u64>,
    pub(super) created_at: Option<String>,
    pub(super) state: &'static str,
    pub(super) in_use: bool,
    pub(super) group_snapshot_id: Option<String>,
    pub(super) attributes: BTreeMap<String, String>,
    #[serde(skip)]
    pub(super) created: Option<Millis>,
}

impl Object {
    /// Reads it off the wire; `pools` has names by ids.
    pub(super) fn new(node: LineageNode, pools: &BTreeMap<String, String>) -> Object {
        let created = millis(node.created.as_ref());
        let told = node.attributes.get("usage").is_none_or(|usage| usage != "unknown");
        Object {
            kind: kind_name(node.kind()),
            state: state_name(node.state()),
            parent_id: some(node.parent_id),
            pool: pools.get(&node.pool).unwrap_or(&node.pool).clone(),
            pool_id: node.pool,
            size_bytes: bytes(node.size_bytes),
            own_bytes: told.then(|| bytes(node.own_bytes)),
            shared_bytes: told.then(|| bytes(node.shared_bytes)),
            created_at: created.map(rfc3339),
            in_use: node.published,
            group_snapshot_id: some(node.group_snapshot_id),
            attributes: node.attributes.into_iter().collect(),
            id: node.id,
            name: node.name,
            created,
        }
    }

    /// The lines that `show` begins with.
    pub(super) fn sheet(&self, now: Millis) -> Vec<(&'static str, String)> {
        let created = match &self.created_at {
            Some(time) => format!("{time} ({} ago)", age(self.created, now)),
            None => String::new(),
        };
        vec![
            ("name", self.name.clone()),
            ("id", self.id.clone()),
            ("pool", self.pool.clone()),
            ("size", human(self.size_bytes)),
            ("own", cost(self.own_bytes)),
            ("shared", cost(self.shared_bytes)),
            ("made from", self.parent_id.clone().unwrap_or_default()),
            ("group", self.group_snapshot_id.clone().unwrap_or_default()),
            ("created", created),
            ("state", self.state.into()),
            ("in use", yes_no(self.in_use).into()),
        ]
    }
}

fn state_name(state: State) -> &'static str {
    match state {
        State::UnknownState => "unknown",
        State::Creating => "creating",
        State::Ready => "ready",
        State::Changing => "changing",
        State::Deleting => "deleting",
        State::Damaged => "damaged",
    }
}

/// A list of objects as a table.
pub(super) fn objects(style: &Style, objects: &[Object], now: Millis) -> String {
    let rows = objects.iter().map(|object| {
        vec![
            object.name.clone(),
            object.id.clone(),
            object.pool.clone(),
            human(object.size_bytes),
            cost(object.own_bytes),
            cost(object.shared_bytes),
            object.state.to_owned(),
            yes_no(object.in_use).to_owned(),
            age(object.created, now),
        ]
    });
    style
        .table(&["NAME", "ID", "POOL", ">SIZE", ">OWN", ">SHARED", "STATE", "IN USE", ">AGE"], rows.collect())
}

/// A pool.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PoolView {
    pub(super) name: String,
    pub(super) id: String,
    pub(super) backend: String,
    pub(super) path: String,
    pub(super) filesystem: String,
    /// Whether copies share their bytes.
    pub(super) reflink: bool,
    pub(super) size_bytes: u64,
    pub(super) available_bytes: u64,
    pub(super) allocated_bytes: u64,
    pub(super) reserved_bytes: u64,
    pub(super) logical_bytes: u64,
    pub(super) volumes: u64,
    pub(super) snapshots: u64,
    pub(super) ready: bool,
    pub(super) reason: String,
    pub(super) warnings: Vec<String>,
    pub(super) attributes: BTreeMap<String, String>,
}

impl From<Pool> for PoolView {
    fn from(pool: Pool) -> Self {
        PoolView {
            name: pool.name,
            id: pool.id,
            backend: pool.backend,
            path: pool.path,
            filesystem: pool.filesystem,
            reflink: pool.reflink,
            size_bytes: bytes(pool.size_bytes),
            available_bytes: bytes(pool.available_bytes),
            allocated_bytes: bytes(pool.allocated_bytes),
            reserved_bytes: bytes(pool.reserved_bytes),
            logical_bytes: bytes(pool.logical_bytes),
            volumes: pool.volumes,
            snapshots: pool.snapshots,
            ready: pool.ready,
            reason: pool.reason,
            warnings: pool.warnings,
            attributes: pool.attributes.into_iter().collect(),
        }
    }
}

impl From<&PoolStatus> for PoolView {
    fn from(pool: &PoolStatus) -> Self {
        PoolView {
            name: pool.info.name.clone(),
            id: pool.info.id.to_string(),
            backend: pool.info.backend.to_owned(),
            path: pool.info.path.clone(),
            filesystem: pool.info.filesystem.clone(),
            reflink: pool.info.shares_copies,
            size_bytes: pool.capacity.size,
            available_bytes: pool.capacity.available,
            allocated_bytes: pool.capacity.allocated,
            reserved_bytes: pool.capacity.reserved,
            logical_bytes: pool.logical,
            volumes: pool.volumes,
            snapshots: pool.snapshots,
            ready: pool.faults.is_empty(),
            reason: pool.faults.iter().map(|fault| fault.message.as_str()).collect::<Vec<_>>().join("; "),
            warnings: pool.info.warnings.clone(),
            attributes: BTreeMap::new(),
        }
    }
}

/// A `KEY=VALUE` on the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct KeyValue {
    key: String,
    value: String,
}

impl FromStr for KeyValue {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some((key, value)) if !key.is_empty() => {
                Ok(KeyValue { key: key.to_owned(), value: value.to_owned() })
            }
            _ => Err("give KEY=VALUE, such as provisioning=thick".into()),
        }
    }
}

/// What the options say, by key.
///
/// Fails on a key that is given twice, as one of the two would be lost.
pub(super) fn by_key(options: Vec<KeyValue>) -> anyhow::Result<BTreeMap<String, String>> {
    let mut map = BTreeMap::new();
    for KeyValue { key, value } in options {
        if let Some(first) = map.insert(key.clone(), value.clone()) {
            anyhow::bail!("--param {key} is given twice, as {first:?} and {value:?}; give it once");
        }
    }
    Ok(map)
}

/// What an object costs, in a table.
pub(super) fn cost(bytes: Option<u64>) -> String {
    bytes.map_or_else(|| "?".to_owned(), human)
}

/// A truth in a table.
pub(super) fn yes_no(truth: bool) -> &'static str {
    if truth { "yes" } else { "no" }
}

/// What an empty string on the wire means.
pub(super) fn some(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::tests_samples::{node, pools};

    fn sample() -> Vec<Object> {
        let nodes = [node("v1", "db", "", 0), node("v2", "a\u{1b}[2J copy", "s1", 3)];
        nodes.map(|node| Object::new(node, &pools())).into()
    }

    #[test]
    fn a_list_of_volumes_is_drawn() {
        insta::assert_snapshot!("objects", objects(&Style::PLAIN, &sample(), 3_600_000));
    }

    #[test]
    fn json_has_stable_names_bytes_and_times() {
        insta::assert_snapshot!("object_json", serde_json::to_string_pretty(&sample()[1]).unwrap());
    }

    #[test]
    fn parameters_are_keys_with_values_each_once() {
        let read = |texts: &[&str]| {
            let options = texts.iter().map(|text| text.parse()).collect::<Result<Vec<KeyValue>, _>>();
            options.map_err(anyhow::Error::msg).and_then(by_key).map_err(|error| error.to_string())
        };
        assert_eq!(read(&["a=b=c", "d="]).unwrap().len(), 2);
        assert!(read(&["ab"]).unwrap_err().contains("KEY=VALUE"));
        assert!(read(&["=b"]).unwrap_err().contains("KEY=VALUE"));
        assert!(read(&["a=1", "a=2"]).unwrap_err().contains("given twice"));
    }
}
