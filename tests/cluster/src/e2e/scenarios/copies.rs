//! Snapshots, and what is made from them.

use std::rc::Rc;

use anyhow::{Result, ensure};
use serde_json::json;

use crate::objects::{CLAIM, CONTENT, POD, SNAPSHOT, text};
use crate::space::{Claim, Pod, Space};

pub(crate) async fn filesystem(space: Rc<Space>) -> Result<()> {
    for (class, size, larger) in [("e2e", "64Mi", "256Mi"), ("e2e-xfs", "512Mi", "1Gi")] {
        let named = |name: &str| format!("{name}-{class}");
        let (source, writer) = (named("source"), named("writer"));
        space.claim(Claim::new(&source, class, size)).await?;
        space.start(Pod::new(&writer).claim(&source, "/data")).await?;
        space
            .exec(
                &writer,
                "echo old >/data/file; dd if=/dev/urandom of=/data/much bs=1M count=20 2>/dev/null; sync",
            )
            .await?;
        let sum = space.exec(&writer, "md5sum </data/much").await?;
        // Not synced: what was written before the snapshot is in it, wherever it is.
        space.exec(&writer, "echo last >/data/last").await?;
        space.snapshot(&named("one"), &source).await?;
        space.exec(&writer, "echo new >/data/file; rm /data/much; sync").await?;

        let restored = [(named("same"), size), (named("larger"), larger)];
        for (claim, size) in &restored {
            space.claim(Claim::new(claim, class, size).of_snapshot(&named("one"))).await?;
            space.start(Pod::new(claim).claim(claim, "/data")).await?;
        }
        space.claim(Claim::new(&named("clone"), class, size).of_claim(&source)).await?;
        space.start(Pod::new(&named("clone")).claim(&named("clone"), "/data")).await?;
        for (claim, size) in &restored {
            let found = space.exec(claim, "cat /data/file /data/last; md5sum </data/much").await?;
            ensure!(found == format!("old\nlast\n{sum}"), "{claim} holds {found}");
            let mib: u64 = space.exec(claim, "df -m /data | tail -n 1 | awk '{print $2}'").await?.parse()?;
            let wanted = if size.ends_with("Gi") { 1024 } else { size.trim_end_matches("Mi").parse()? };
            ensure!(mib * 10 > wanted * 7, "{claim} has {mib} MiB of {wanted}");
        }
        let found = space.exec(&named("clone"), "cat /data/file; ls /data").await?;
        ensure!(found.starts_with("new") && !found.contains("much"), "the clone holds {found}");
        // Copies stand for themselves.
        space.exec(&named("same"), "echo changed >/data/file; sync").await?;
        for (pod, expect) in [(named("larger"), "old"), (writer.clone(), "new"), (named("clone"), "new")] {
            let found = space.exec(&pod, "cat /data/file").await?;
            ensure!(found == expect, "{pod} holds {found} and not {expect}");
        }
        // Sources go before what was made from them.
        space.remove(POD, &writer).await?;
        space.remove(CLAIM, &source).await?;
        space.remove(SNAPSHOT, &named("one")).await?;
        let found = space.exec(&named("larger"), "md5sum </data/much").await?;
        ensure!(found == sum, "a copy has lost its bytes with its snapshot");
    }
    Ok(())
}

pub(crate) async fn block(space: Rc<Space>) -> Result<()> {
    space.claim(Claim::new("source", "e2e", "64Mi").block()).await?;
    space.start(Pod::new("writer").device("source", "/dev/disk")).await?;
    let sum = space
        .exec(
            "writer",
            "dd if=/dev/urandom of=/dev/disk bs=1M count=30 seek=9 conv=fsync 2>/dev/null; md5sum </dev/disk",
        )
        .await?;
    space.snapshot("one", "source").await?;
    space.exec("writer", "dd if=/dev/zero of=/dev/disk bs=1M count=20 conv=fsync 2>/dev/null").await?;
    space.claim(Claim::new("restored", "e2e", "64Mi").block().of_snapshot("one")).await?;
    space.claim(Claim::new("cloned", "e2e", "64Mi").block().of_claim("source")).await?;
    let read = "md5sum </dev/disk";
    let restored = space.once(Pod::new("restored").script(read).device("restored", "/dev/disk")).await?;
    ensure!(restored.trim() == sum, "the restored device has other bytes than the snapshot");
    let cloned = space.once(Pod::new("cloned").script(read).device("cloned", "/dev/disk")).await?;
    let now = space.exec("writer", read).await?;
    ensure!(cloned.trim() == now, "the clone has other bytes than its source");
    // Bytes that somebody wrote through a device are not mounted: Kubernetes asks for a word of the administrator, and we for one more.
    for (claim, word) in [("mounted", "modifies the mode"), ("allowed", "allowBlockToFilesystem")] {
        space.claim(Claim::new(claim, "e2e", "64Mi").of_snapshot("one")).await?;
        space.make(Pod::new(claim).claim(claim, "/data").object()).await?;
        space.told(claim, &["ProvisioningFailed", word]).await?;
        ensure!(
            text(&space.get(CLAIM, claim).await?, "/status/phase") == "Pending",
            "{claim} was made all the same"
        );
        let content = text(&space.get(SNAPSHOT, "one").await?, "/status/boundVolumeSnapshotContentName");
        let allow = json!({"metadata": {"annotations": {"snapshot.storage.kubernetes.io/allow-volume-mode-change": "true"}}});
        space.env.objects.patch(CONTENT, "", &content, &allow).await?;
        // Else it would be tried again, with the word that is there now.
        space.remove(POD, claim).await?;
        space.remove(CLAIM, claim).await?;
    }
    Ok(())
}
