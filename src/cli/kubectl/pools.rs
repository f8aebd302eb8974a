//! `kubectl offshoot pools`: how much room there is on which node.

use anyhow::Result;
use clap::Args;
use serde::Serialize;

use super::World;
use crate::cli::output::{Output, Style, clean, human};
use crate::cli::view::yes_no;
use crate::cluster::driver::{self, Pool};

/// List the pools of all nodes with their space
///
/// AVAILABLE is what new volumes and snapshots may take, after the reserve; ALLOCATED counts shared bytes once.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:\n  kubectl offshoot pools\n  kubectl offshoot pools --output json")]
pub(super) struct Pools {
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, Serialize)]
struct List {
    pools: Vec<View>,
    unreachable: Vec<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct View {
    node: String,
    name: String,
    id: String,
    size_bytes: u64,
    available_bytes: u64,
    allocated_bytes: u64,
    volumes: u64,
    snapshots: u64,
    ready: bool,
    reason: String,
    warnings: Vec<String>,
}

impl From<Pool> for View {
    fn from(pool: Pool) -> View {
        View {
            node: pool.node().to_owned(),
            name: pool.name,
            id: pool.id,
            size_bytes: pool.size_bytes,
            available_bytes: pool.available_bytes,
            allocated_bytes: pool.allocated_bytes,
            volumes: pool.volumes,
            snapshots: pool.snapshots,
            ready: pool.ready,
            reason: pool.reason,
            warnings: pool.warnings,
        }
    }
}

impl Pools {
    pub(super) async fn run(self, world: &World) -> Result<()> {
        let answer = driver::pools(world.driver.as_ref()).await?;
        let mut pools: Vec<View> = answer.pools.into_iter().map(View::from).collect();
        pools.sort_by(|a, b| (&a.node, &a.name).cmp(&(&b.node, &b.name)));
        let list = List { pools, unreachable: answer.unreachable };
        let ids: Vec<&str> = list.pools.iter().map(|pool| pool.id.as_str()).collect();
        self.output.print(&list, &ids, |style| draw(style, &list))
    }
}

fn draw(style: &Style, list: &List) -> String {
    let rows = list.pools.iter().map(|pool| {
        vec![
            pool.node.clone(),
            pool.name.clone(),
            human(pool.size_bytes),
            human(pool.available_bytes),
            human(pool.allocated_bytes),
            pool.volumes.to_string(),
            pool.snapshots.to_string(),
            yes_no(pool.ready).to_owned(),
        ]
    });
    let headings = ["NODE", "POOL", ">SIZE", ">AVAILABLE", ">ALLOCATED", ">VOLUMES", ">SNAPSHOTS", "READY"];
    let mut text = style.table(&headings, rows.collect());
    for pool in &list.pools {
        let reason = Some(&pool.reason).filter(|reason| !reason.is_empty());
        for word in reason.into_iter().chain(&pool.warnings) {
            text += &format!("{}/{}: {}\n", clean(&pool.node), clean(&pool.name), clean(word));
        }
    }
    for node in &list.unreachable {
        text += &format!("{}: the agent does not answer; see `kubectl offshoot doctor`\n", clean(node));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pools_stand_by_their_nodes_with_what_is_wrong_below() {
        let view = |node: &str, ready, reason: &str| View {
            node: node.into(),
            name: "fast".into(),
            id: "aaaaaaaa".into(),
            size_bytes: 100 << 30,
            available_bytes: 40 << 30,
            allocated_bytes: 58 << 30,
            volumes: 12,
            snapshots: 3,
            ready,
            reason: reason.into(),
            warnings: vec![],
        };
        let list = List {
            pools: vec![view("node-1", true, ""), view("node-2", false, "the directory is not mounted")],
            unreachable: vec!["node-3".into()],
        };
        insta::assert_snapshot!("cluster_pools", draw(&Style::PLAIN, &list));
    }
}
