//! `kubectl offshoot` on a cluster: what people see and do with it.

use std::rc::Rc;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::objects::{CLAIM, POD, SNAPSHOT, text};
use crate::setup::{Env, OFFSHOOT};
use crate::space::{Claim, Pod, Space};

pub(crate) async fn run(space: Rc<Space>) -> Result<()> {
    space.claim(Claim::new("db", "e2e", "64Mi")).await?;
    space.start(Pod::new("writer").claim("db", "/data")).await?;
    space.exec("writer", "echo monday >/data/day; sync").await?;
    space.snapshot("monday", "db").await?;
    space.exec("writer", "echo tuesday >/data/day; sync").await?;
    space.claim(Claim::new("copy", "e2e", "64Mi").of_snapshot("monday")).await?;
    space.start(Pod::new("reader").claim("copy", "/data")).await?;
    tree(&space).await?;
    pools(&space).await?;
    space.env.plugin(&["doctor"]).await?;
    rewind(&space).await
}

/// What the plugin answers, as JSON.
async fn answer(space: &Space, args: &[&str]) -> Result<Value> {
    let said = space.env.plugin(&[args, &["--namespace", &space.name, "--output", "json"]].concat()).await?;
    serde_json::from_str(&said).with_context(|| format!("this is no JSON: {said}"))
}

/// The claim, its snapshot and the claim that was restored from that, each the child of the one before.
async fn tree(space: &Space) -> Result<()> {
    let tree = answer(space, &["tree"]).await?;
    let nodes = tree["nodes"].as_array().cloned().unwrap_or_default();
    ensure!(nodes.len() == 3 && tree["unreachable"] == Value::Array(Vec::new()), "the tree is {tree:#}");
    let mut parent = Value::Null;
    let node = space.node_of("writer").await?;
    for (kind, name) in
        [("PersistentVolumeClaim", "db"), ("VolumeSnapshot", "monday"), ("PersistentVolumeClaim", "copy")]
    {
        let found = nodes.iter().find(|one| one["kind"] == kind && one["name"] == name);
        let found = found.with_context(|| format!("no {kind} {name} in {tree:#}"))?;
        ensure!(
            found["parentId"] == parent && found["node"] == node && found["namespace"] == space.name,
            "it is not a child of {parent} on {node}: {found:#}"
        );
        parent = found["id"].clone();
    }
    let drawn = space.env.plugin(&["tree", "--namespace", &space.name]).await?;
    ensure!(["db", "monday", "copy"].iter().all(|name| drawn.contains(name)), "the drawing is {drawn}");
    Ok(())
}

/// Both pools of both nodes.
async fn pools(space: &Space) -> Result<()> {
    let answer = answer(space, &["pools"]).await?;
    let pools = answer["pools"].as_array().cloned().unwrap_or_default();
    let mut ready: Vec<_> = pools
        .iter()
        .filter(|pool| {
            pool["ready"] == true && pool["availableBytes"].as_u64().is_some_and(|bytes| bytes > 0)
        })
        .map(|pool| format!("{}/{}", text(pool, "/node"), text(pool, "/name")))
        .collect();
    ready.sort();
    let expected: Vec<_> =
        Env::nodes().iter().flat_map(|node| [format!("{node}/fast"), format!("{node}/small")]).collect();
    ensure!(ready == expected, "these pools are ready: {ready:?}, of {answer:#}");
    Ok(())
}

/// A claim goes back to its snapshot, and to what it was before that; not under a pod.
async fn rewind(space: &Space) -> Result<()> {
    let rewind = ["rewind", "db", "--to"];
    let refused = match answer(space, &[&rewind[..], &["monday"]].concat()).await {
        Ok(said) => anyhow::bail!("it was rewound under its pod: {said:#}"),
        Err(error) => format!("{error:#}"),
    };
    ensure!(refused.contains("writer"), "the refusal does not name the pod: {refused}");
    space.remove(POD, "writer").await?;
    let mut undone = Vec::new();
    let mut to = "monday".to_owned();
    for expected in ["monday", "tuesday"] {
        let done = answer(space, &[&rewind[..], &[&to]].concat()).await?;
        to = text(&done, "/undoSnapshotId");
        undone.push(to.clone());
        let pod = Pod::new(expected).script("cat /data/day").claim("db", "/data");
        let found = space.once(pod).await?;
        ensure!(found.trim() == expected, "after the rewind the claim holds {found}, not {expected}");
    }
    // Nobody but the person who made them deletes these.
    let pod = space.env.pods_of("controller").await?.first().map(crate::objects::name).unwrap_or_default();
    let exec = [
        "exec",
        "--namespace",
        OFFSHOOT,
        &pod,
        "--container=offshoot",
        "--",
        "offshoot",
        "snapshot",
        "delete",
    ];
    let undone: Vec<_> = undone.iter().map(String::as_str).collect();
    space.env.kubectl(&[&exec[..], &undone].concat()).await?;
    for (kind, name) in [(POD, "reader"), (CLAIM, "copy"), (SNAPSHOT, "monday"), (CLAIM, "db")] {
        space.remove(kind, name).await?;
    }
    Ok(())
}
