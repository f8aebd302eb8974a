//! Objects that the tests of several commands draw.

use std::collections::BTreeMap;

use crate::proto::offshoot::LineageNode;
use crate::proto::offshoot::lineage_node::{Kind, State};

/// An object of a pool of ten bytes' naming; `number` becomes the end of its id and its minute of birth.
pub(super) fn node(id: &str, name: &str, parent: &str, own_mib: i64) -> LineageNode {
    let kind = if id.starts_with('v') { Kind::Volume } else { Kind::Snapshot };
    LineageNode {
        id: full(id),
        kind: kind.into(),
        name: name.into(),
        parent_id: if parent.is_empty() { String::new() } else { full(parent) },
        pool: "aaaaaaaa".into(),
        size_bytes: 10 << 30,
        own_bytes: own_mib << 20,
        shared_bytes: 1 << 30,
        created: Some(prost_types::Timestamp { seconds: 60 * number(id), nanos: 0 }),
        state: State::Ready.into(),
        ..LineageNode::default()
    }
}

fn number(id: &str) -> i64 {
    id[1..].parse().unwrap()
}

/// `v3` in full.
pub(super) fn full(id: &str) -> String {
    format!("{}-aaaaaaaa-{:032x}", &id[..1], number(id))
}

pub(super) fn pools() -> BTreeMap<String, String> {
    BTreeMap::from([("aaaaaaaa".to_owned(), "fast".to_owned())])
}
