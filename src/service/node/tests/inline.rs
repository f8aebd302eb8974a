//! Inline ephemeral volumes.

use super::super::super::api::Inline;
use super::super::super::testing::{Bench, SIZE, mount, params, raw, refused};
use super::*;
use crate::host::Cause;
use crate::volume::Kind;

const HANDLE: &str = "csi-0123456789abcdef";

impl Bench {
    async fn publish_inline(&self, capability: &Capability, target: &str, read_only: bool) -> Result<()> {
        let node = of(HANDLE, capability, "");
        let inline = Some(Inline { params: params(&[]), size: SIZE });
        self.service.publish_volume(Publish { node, target: target.into(), read_only, inline }).await
    }

    async fn volumes(&self) -> usize {
        self.service.list_volumes("", 0, false).await.unwrap().entries.len()
    }
}

#[tokio::test]
async fn an_inline_volume_lives_from_publish_to_unpublish() {
    for fs in ["xfs", "btrfs"] {
        let bench = Bench::node_on(fs).await;
        let loops = usize::from(fs == "xfs");
        for _ in 0..2 {
            bench.publish_inline(&mount(&[]), TARGET, false).await.unwrap();
            bench.holds(&[TARGET], loops);
            assert_eq!(bench.volumes().await, 1);
        }
        refused(bench.publish_inline(&mount(&[]), TARGET, true).await, Kind::AlreadyExists, "reading only");
        bench.holds(&[TARGET], loops);
        let bench = bench.restart().await;
        bench.publish_inline(&mount(&[]), TARGET, false).await.unwrap();
        bench.holds(&[TARGET], loops);
        for _ in 0..2 {
            bench.unpublish(HANDLE, TARGET).await.unwrap();
            bench.holds(&[], 0);
            assert_eq!(bench.volumes().await, 0);
            assert!(!bench.exists(TARGET));
        }
    }
}

#[tokio::test]
async fn a_failed_inline_volume_leaves_nothing() {
    let bench = Bench::node().await;
    let clean = bench.fake.audit();
    refused(bench.publish_inline(&raw(), TARGET, false).await, Kind::Invalid, "inline");
    refused(bench.publish_inline(&mount(&["suid"]), TARGET, false).await, Kind::Invalid, "suid");
    bench.fake.fail_always("mount_device", Cause::Other);
    bench.publish_inline(&mount(&[]), TARGET, false).await.unwrap_err();
    bench.fake.heal();
    let mut after = bench.fake.audit();
    // A template of the filesystem stays, for the next volume.
    after.files.retain(|file| !file.starts_with("/pool/templates") || file.ends_with("templates"));
    after.used = clean.used.clone();
    assert_eq!(after, clean);
    assert_eq!(bench.volumes().await, 0);
}

#[tokio::test]
async fn a_reboot_ends_inline_volumes() {
    let bench = Bench::node().await;
    bench.publish_inline(&mount(&[]), TARGET, false).await.unwrap();
    let bench = Bench::start(bench.fake.reboot()).await;
    assert_eq!(bench.volumes().await, 0);
    bench.holds(&[], 0);
    bench.unpublish(HANDLE, TARGET).await.unwrap();
    bench.publish_inline(&mount(&[]), TARGET, false).await.unwrap();
    bench.holds(&[TARGET], 1);
}
