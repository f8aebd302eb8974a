//! The parameters of classes, the attributes of inline volumes, and options of mkfs and mount: none panics, and what a
//! refusal says is bounded.
#![no_main]

use std::collections::BTreeMap;

use libfuzzer_sys::fuzz_target;
use offshoot::volume::params::{CreateParams, InlineParams, MutableParams, SnapshotParams};
use offshoot::volume::{FsType, Result, mkfs_options, mount_options};

fn bounded<T>(answer: Result<T>) {
    if let Err(error) = answer {
        let text = error.to_string();
        assert!(text.len() < 1500, "{} bytes: {text}", text.len());
    }
}

fuzz_target!(|text: &str| {
    let words = mkfs_options::split(text);
    let flags: Vec<String> = text.split(' ').map(str::to_owned).collect();
    for fs in FsType::ALL {
        bounded(mkfs_options::check(fs, &words));
        bounded(mount_options::check(fs, &flags));
    }
    let lines = text.split('\n').filter_map(|line| line.split_once('='));
    let map: BTreeMap<String, String> =
        lines.map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    bounded(CreateParams::parse(&map, &BTreeMap::new()));
    bounded(MutableParams::parse(&map));
    bounded(SnapshotParams::parse(&map));
    bounded(InlineParams::parse(&map));
});
