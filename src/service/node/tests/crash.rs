//! The process dies before, in and after every call to the host; the next process and kubelet's retry get there.

use super::super::super::api::Inline;
use super::super::super::testing::{Bench, SIZE, mount, params, raw};
use super::*;
use crate::host::fake::Moment;

const HANDLE: &str = "csi-0123456789abcdef";
const MOMENTS: [Moment; 3] = [Moment::Before, Moment::During, Moment::After];

/// One pod's life, as far as it gets.
async fn live(bench: &Bench, id: &str, capability: &Capability) -> Result<()> {
    bench.stage(id, capability).await?;
    bench.publish(id, capability, TARGET).await?;
    bench.unpublish(id, TARGET).await?;
    bench.unstage(id).await
}

async fn sweep(fs: &str, capability: Capability) {
    let mut n = 1;
    loop {
        let mut reached = false;
        for moment in MOMENTS {
            let bench = Bench::node_on(fs).await;
            let id = bench.volume("a", capability.clone()).await;
            bench.fake.crash(bench.fake.counted() + n, moment);
            let done = live(&bench, &id, &capability).await;
            reached |= bench.fake.crashed();
            assert_eq!(done.is_err(), bench.fake.crashed(), "{moment:?} {n}: {done:?}");
            // Kubelet asks again for what it was about to do, and in the end takes everything away.
            let bench = bench.restart().await;
            let again = bench.unpublish(&id, TARGET).await;
            assert!(again.is_ok(), "{moment:?} {n}: {again:?}");
            let again = live(&bench, &id, &capability).await;
            assert!(again.is_ok(), "{moment:?} {n}: {again:?}");
            bench.holds(&[], 0);
            assert!(!bench.exists(TARGET));
            bench.service.delete_volume(&id).await.unwrap();
            assert!(bench.fake.audit().files.iter().all(|file| !file.to_string_lossy().contains(&id)));
        }
        if !reached {
            assert!(n > 3, "the sweep saw no calls");
            return;
        }
        n += 1;
    }
}

#[tokio::test]
async fn a_filesystem_volume_survives_a_crash_anywhere() {
    sweep("xfs", mount(&[])).await;
}

#[tokio::test]
async fn a_raw_volume_survives_a_crash_anywhere() {
    sweep("xfs", raw()).await;
}

#[tokio::test]
async fn a_subvolume_survives_a_crash_anywhere() {
    sweep("btrfs", mount(&[])).await;
}

#[tokio::test]
async fn an_inline_volume_leaves_nothing_after_a_crash_anywhere() {
    async fn publish(bench: &Bench) -> Result<()> {
        let inline = Some(Inline { params: params(&[]), size: SIZE });
        let node = of(HANDLE, &mount(&[]), "");
        bench.service.publish_volume(Publish { node, target: TARGET.into(), read_only: false, inline }).await
    }
    let mut n = 1;
    loop {
        let mut reached = false;
        for (moment, retry) in MOMENTS.into_iter().flat_map(|moment| [(moment, false), (moment, true)]) {
            let bench = Bench::node().await;
            bench.fake.crash(bench.fake.counted() + n, moment);
            let done = match publish(&bench).await {
                Ok(()) => bench.unpublish(HANDLE, TARGET).await,
                Err(error) => Err(error),
            };
            reached |= bench.fake.crashed();
            assert_eq!(done.is_err(), bench.fake.crashed(), "{moment:?} {n}: {done:?}");
            let bench = bench.restart().await;
            if retry {
                publish(&bench).await.unwrap();
                bench.holds(&[TARGET], 1);
            }
            bench.unpublish(HANDLE, TARGET).await.unwrap();
            bench.holds(&[], 0);
            let left: Vec<_> =
                bench.fake.audit().files.into_iter().filter(|f| f.starts_with("/pool/volumes/")).collect();
            assert!(left.is_empty() || left == [PathBuf::from("/pool/volumes")], "{moment:?} {n}: {left:?}");
        }
        if !reached {
            assert!(n > 3, "the sweep saw no calls");
            return;
        }
        n += 1;
    }
}
