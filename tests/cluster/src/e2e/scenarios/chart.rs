//! What the chart promises on a cluster where it runs.

use std::collections::BTreeMap;
use std::fs;
use std::rc::Rc;

use anyhow::{Context, Result, ensure};
use offshoot_cluster::images;

use crate::objects::{DAEMON_SET, DEPLOYMENT, name, text};
use crate::setup::OFFSHOOT;
use crate::space::{Claim, Pod, Space};

/// Rights of the controller for changed blocks, which the chart's defaults leave out.
const METADATA: [&str; 2] = [
    "snapshotmetadataservices.cbt.storage.k8s.io [] [] [get list watch]",
    "subjectaccessreviews.authorization.k8s.io [] [] [create]",
];

pub(crate) async fn run(space: Rc<Space>) -> Result<()> {
    twice(&space).await?;
    rights(&space).await?;
    uninstall(&space).await?;
    space.env.helm(&["test", OFFSHOOT, "--namespace", OFFSHOOT, "--timeout=3m"]).await.map(|_| ())
}

/// The same upgrade again starts nothing anew.
async fn twice(space: &Space) -> Result<()> {
    let env = &space.env;
    let generations = async || -> Result<BTreeMap<String, u64>> {
        let mut found = BTreeMap::new();
        for kind in [DEPLOYMENT, DAEMON_SET] {
            for object in env.objects.list(kind, OFFSHOOT).await? {
                found.insert(name(&object), object["metadata"]["generation"].as_u64().unwrap_or_default());
            }
        }
        Ok(found)
    };
    let before = generations().await?;
    env.upgrade(&[]).await?;
    ensure!(
        before.len() >= 2 && before == generations().await?,
        "an upgrade that changes nothing has changed {before:?}"
    );
    Ok(())
}

/// What each account may do is what was looked at and found right.
async fn rights(space: &Space) -> Result<()> {
    let folder = images::repository().join("tests/data/rights");
    for account in ["controller", "node"] {
        for namespace in [OFFSHOOT, "default"] {
            let user = format!("system:serviceaccount:{OFFSHOOT}:{OFFSHOOT}-{account}");
            let groups = ["--as-group=system:serviceaccounts", "--as-group=system:serviceaccounts:offshoot"];
            let said = space
                .env
                .kubectl(
                    &[&["auth", "can-i", "--list", "--namespace", namespace, "--as", &user], &groups[..]]
                        .concat(),
                )
                .await?;
            let lines = |text: &str| -> Vec<String> {
                let mut all: Vec<_> =
                    text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
                all.sort();
                all
            };
            let file = folder.join(format!("{account}-in-{namespace}.txt"));
            let golden =
                fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
            let (said, golden) = (lines(&said), lines(&golden));
            let further = |line: &str| account == "controller" && METADATA.contains(&line);
            let known = |line: &&String| golden.contains(line) || further(line);
            let new: Vec<_> = said.iter().filter(|line| !known(line)).collect();
            ensure!(
                new.is_empty(),
                "{account} may do in {namespace} what {} has not: {new:#?}",
                file.display()
            );
        }
    }
    Ok(())
}

/// Nobody cuts volumes off from their driver by mistake.
async fn uninstall(space: &Space) -> Result<()> {
    space.claim(Claim::new("data", "e2e", "64Mi")).await?;
    space.start(Pod::new("user").claim("data", "/data")).await?;
    let volume = name(&space.bound("data").await?);
    let said = match space.env.helm(&["uninstall", OFFSHOOT, "--namespace", OFFSHOOT, "--timeout=3m"]).await {
        Ok(said) => anyhow::bail!("it was uninstalled under a live volume: {said}"),
        Err(error) => format!("{error:#}"),
    };
    ensure!(
        said.contains(&volume) || said.contains("e2e-chart/data"),
        "the refusal does not name the volume: {said}"
    );
    // Helm upgrades no release that it has once begun to uninstall; the refusal says what takes that back.
    let back = said.split('`').find(|part| part.starts_with("helm rollback "));
    let back = back.with_context(|| format!("it is not said how to go on: {said}"))?;
    let back: Vec<_> = back.split(' ').skip(1).collect();
    space.env.helm(&[&back[..], &["--wait"]].concat()).await?;
    twice(space).await?;
    // Nothing has gone.
    space.env.wait_driver().await?;
    let here = space.env.objects.get(crate::objects::STORAGE_CLASS, "", "e2e").await?;
    ensure!(here.is_some(), "the class is gone");
    let found = space.exec("user", "echo fine >/data/file && cat /data/file").await?;
    ensure!(found == "fine", "the volume holds {found}");
    let pod = space.get(crate::objects::POD, "user").await?;
    ensure!(text(&pod, "/status/phase") == "Running", "its pod does not run");
    Ok(())
}
