//! Certificates are exchanged under load, and nobody notices.
//!
//! They are good for a minute and a half here, so they are exchanged all the time while other scenarios run. This one watches that it happens,
//! and that no call fails meanwhile.

use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::objects::{CLAIM, text};
use crate::setup::metrics;
use crate::space::{Claim, Space, until};

const EXCHANGES: u32 = 2;

pub(crate) async fn run(space: Rc<Space>) -> Result<()> {
    let limit = Duration::from_secs(400);
    let mut last = expiry(&space).await?;
    let mut made = 0;
    for _ in 0..EXCHANGES {
        let from = last.clone();
        last = until("both agents have new certificates", limit, async || {
            // The way to the agents is used all the time.
            let claim = "probe";
            space.claim(Claim::new(claim, "e2e-now", "16Mi")).await?;
            space.bound(claim).await?;
            space.remove(CLAIM, claim).await?;
            let now = expiry(&space).await?;
            Ok(now.iter().zip(&from).all(|(now, from)| now > from).then_some(now))
        })
        .await?;
        made += 1;
    }
    ensure!(made == EXCHANGES, "{made} exchanges");
    let events = space
        .env
        .kubectl(&["get", "events", "--namespace", &space.name, "-o=name", "--field-selector=type=Warning"])
        .await?;
    ensure!(events.is_empty(), "warnings: {events}");
    Ok(())
}

/// When each agent's certificate ends, in seconds.
async fn expiry(space: &Space) -> Result<Vec<f64>> {
    let mut all = Vec::new();
    for pod in space.env.pods_of("node").await? {
        let page = metrics(&text(&pod, "/status/podIP")).await?;
        let line = page.lines().find(|line| {
            line.starts_with("offshoot_certificate_expiry_timestamp_seconds{") && line.contains("node")
        });
        let line = line.with_context(|| format!("no metric of a certificate's end in:\n{page}"))?;
        all.push(line.rsplit(' ').next().unwrap_or_default().parse()?);
    }
    ensure!(all.len() == 2, "there are {} agents", all.len());
    Ok(all)
}
