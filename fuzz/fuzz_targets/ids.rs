//! Ids, names, paths and sizes: none panics, and what is accepted has one spelling.
#![no_main]

use libfuzzer_sys::fuzz_target;
use offshoot::volume::{GroupId, ObjectId, PoolId, SnapshotId, VolumeId, names, quantity};

fuzz_target!(|text: &str| {
    if let Ok(id) = text.parse::<PoolId>() {
        assert_eq!(id.to_string(), text);
    }
    if let Ok(id) = text.parse::<VolumeId>() {
        assert_eq!(id.to_string(), text);
    }
    let _ = (text.parse::<SnapshotId>().is_ok(), text.parse::<GroupId>().is_ok());
    let _ = (text.parse::<ObjectId>().is_ok(), quantity::parse(text).is_ok());
    for check in [names::check_name, names::check_id, names::check_node_id, names::check_pool_name] {
        let _ = check("field", text).is_ok();
    }
    if let Ok(path) = names::check_path("field", text) {
        assert!(path.starts_with('/') && !path.contains("/../") && !path.contains("//"), "{path:?}");
    }
});
