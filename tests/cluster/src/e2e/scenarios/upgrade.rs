//! An upgrade while volumes are in use and made: mounted volumes do not notice.

use std::rc::Rc;

use anyhow::{Result, ensure};

use crate::objects::{CLAIM, text};
use crate::setup::Env;
use crate::space::{Claim, Pod, Space};

/// Each line is durable before the next; the longest wait in seconds is written down.
const WRITER: &str = "longest=0; last=$(date +%s)
while [ ! -e /data/stop ]; do
    echo line >>/data/log; sync -d /data/log 2>/dev/null || sync
    now=$(date +%s); if [ $((now - last)) -gt $longest ]; then longest=$((now - last)); fi; last=$now
    sleep 0.1
done
echo $longest";

pub(crate) async fn run(space: Rc<Space>) -> Result<()> {
    let env = &space.env;
    for node in Env::nodes() {
        space.claim(Claim::new(node, "e2e", "64Mi")).await?;
        space.make(Pod::new(node).script(WRITER).claim(node, "/data").on(node).object()).await?;
        space.running(node).await?;
    }
    let next = if *env.tag.borrow() == "dev" { "next" } else { "dev" };
    env.tag.replace(next.into());
    for node in Env::nodes() {
        env.retag(node)?;
    }
    let busy = async {
        for number in 0..12 {
            let name = format!("amid-{number}");
            space.claim(Claim::new(&name, "e2e-now", "16Mi")).await?;
            space.bound(&name).await?;
            space.remove(CLAIM, &name).await?;
        }
        anyhow::Ok(())
    };
    let (upgraded, made) = tokio::join!(env.upgrade(&[]), busy);
    upgraded?;
    made?;
    env.wait_driver().await?;
    for component in ["node", "controller"] {
        for pod in env.pods_of(component).await? {
            let images: Vec<_> = pod["spec"]["containers"]
                .as_array()
                .into_iter()
                .flatten()
                .map(|one| text(one, "/image"))
                .collect();
            ensure!(
                images.contains(&format!("localhost/offshoot:{next}")),
                "the {component} still has {images:?}"
            );
        }
    }
    for node in Env::nodes() {
        space.exec(node, "touch /data/stop").await?;
        let longest: u64 = space.finished(node).await?.trim().parse()?;
        ensure!(longest <= 5, "a write on {node} has waited for {longest} s");
    }
    // The new version serves the old one's volumes.
    for node in Env::nodes() {
        space.snapshot(node, node).await?;
        space
            .once(Pod::new(&format!("{node}-again")).script("test -s /data/log").claim(node, "/data"))
            .await?;
    }
    Ok(())
}
