//! `kubectl offshoot tree`: which copy came from which, by the names that people gave.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, bail};
use clap::Args;
use serde::Serialize;

use super::World;
use crate::cli::output::{Output, Style, age, clean, human};
use crate::cli::session::{now, short};
use crate::cli::tree::ascii;
use crate::cli::view::cost;
use crate::cluster::claims::{Name, Names, names};
use crate::cluster::driver::{self, Object, Pool};
use crate::volume::ObjectId;
use crate::volume::lineage::{self, Link};
use crate::volume::record::Millis;

/// Draw which PVC and VolumeSnapshot came from which, and what each costs
///
/// OWN is what deleting an object would give back, SHARED what it has in common with others. What no PVC or VolumeSnapshot
/// stands for is shown in parentheses: undo snapshots of a rewind, inline volumes, orphans. Without -A, only what the
/// namespace has is drawn, with what that came from and what came from it.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:\n\
\x20 kubectl offshoot tree\n\
\x20 kubectl offshoot tree -A\n\
\x20 kubectl offshoot tree -n shop db\n\
\x20 kubectl offshoot tree volumesnapshot/monday --output json")]
pub(super) struct Tree {
    /// A PVC or VolumeSnapshot, also as pvc/NAME or volumesnapshot/NAME
    #[arg(value_name = "PVC|VOLUMESNAPSHOT")]
    of: Option<String>,
    /// Those of all namespaces
    #[arg(long, short = 'A', conflicts_with = "of")]
    all_namespaces: bool,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, Serialize)]
struct Nodes {
    nodes: Vec<Node>,
    unreachable: Vec<String>,
}

/// A volume or snapshot with what stands for it.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
struct Node {
    id: String,
    /// `PersistentVolumeClaim`, `VolumeSnapshot`, or the driver's word where nothing stands for it.
    kind: &'static str,
    namespace: Option<String>,
    name: Option<String>,
    /// The PersistentVolume or VolumeSnapshotContent.
    object: Option<String>,
    parent_id: Option<String>,
    node: String,
    pool: String,
    size_bytes: u64,
    own_bytes: Option<u64>,
    shared_bytes: Option<u64>,
    created_at: Option<String>,
    state: String,
    in_use: bool,
    #[serde(skip)]
    created: Option<Millis>,
}

impl Tree {
    pub(super) async fn run(self, world: &World) -> Result<()> {
        let lineage = driver::lineage(world.driver.as_ref()).await?;
        let pools = driver::pools(world.driver.as_ref()).await?;
        let names = names(&world.access).await?;
        let mut nodes = join(lineage.nodes, &names, &pools.pools);
        if let Some(of) = &self.of {
            let start = pick(of, &world.access.namespace, &nodes, &names)?;
            nodes = related(nodes, &start);
        } else if !self.all_namespaces {
            let here = |node: &&Node| node.namespace.as_ref() == Some(&world.access.namespace);
            let start: BTreeSet<String> = nodes.iter().filter(here).map(|node| node.id.clone()).collect();
            nodes = related(nodes, &start);
        }
        let tree = Nodes { nodes, unreachable: lineage.unreachable };
        let ids: Vec<&str> = tree.nodes.iter().map(|node| node.id.as_str()).collect();
        let alone = Some(world.access.namespace.as_str()).filter(|_| !self.all_namespaces);
        self.output.print(&tree, &ids, |style| draw(style, &tree, alone, now()))
    }
}

/// Gives the driver's objects their names.
fn join(objects: Vec<Object>, names: &Names, pools: &[Pool]) -> Vec<Node> {
    let places: BTreeMap<&str, &str> = pools.iter().map(|pool| (pool.id.as_str(), pool.node())).collect();
    let objects = objects.into_iter().filter(|object| object.kind != "group");
    let node = |object: Object| {
        let stand = names.of(&object.id);
        let name = stand.and_then(|stand| stand.name.clone());
        let place = places.get(object.pool_id.as_str()).copied().filter(|place| !place.is_empty());
        let is_volume = object.kind == "volume";
        let created = object.created();
        Node {
            kind: match (&name, is_volume) {
                (Some(_), true) => "PersistentVolumeClaim",
                (Some(_), false) => "VolumeSnapshot",
                (None, _) if object.attributes.contains_key("undo") => "undo snapshot",
                (None, _) if object.attributes.contains_key("ephemeral") => "inline volume",
                (None, true) => "volume",
                (None, false) => "snapshot",
            },
            node: place.or(stand.and_then(|stand| stand.node.as_deref())).unwrap_or_default().to_owned(),
            object: stand.map(|stand| stand.object.clone()),
            namespace: name.as_ref().map(|name| name.namespace.clone()),
            name: name.map(|name| name.name),
            id: object.id,
            parent_id: object.parent_id,
            pool: object.pool,
            size_bytes: object.size_bytes,
            own_bytes: object.own_bytes,
            shared_bytes: object.shared_bytes,
            created_at: object.created_at,
            state: object.state,
            in_use: object.in_use,
            created,
        }
    };
    objects.map(node).collect()
}

/// The ids that a person names.
fn pick(text: &str, namespace: &str, nodes: &[Node], names: &Names) -> Result<BTreeSet<String>> {
    if nodes.iter().any(|node| node.id == text) {
        return Ok(BTreeSet::from([text.to_owned()]));
    }
    let (kind, name) = match text.split_once('/') {
        Some(("pvc" | "persistentvolumeclaim" | "persistentvolumeclaims", name)) => (Some("v-"), name),
        Some(("vs" | "volumesnapshot" | "volumesnapshots", name)) => (Some("s-"), name),
        Some(_) => bail!("{text:?} is no PVC or VolumeSnapshot; give NAME, pvc/NAME or volumesnapshot/NAME"),
        None => (None, text),
    };
    let name = Name { namespace: namespace.to_owned(), name: name.to_owned() };
    let ids = names.ids(&name).filter(|id| kind.is_none_or(|kind| id.starts_with(kind)));
    let found: BTreeSet<String> = ids.map(str::to_owned).collect();
    match found.len() {
        0 => bail!("no PVC or VolumeSnapshot of this driver is named {name}; see `kubectl offshoot tree -A`"),
        1 => Ok(found),
        _ => {
            bail!("a PVC and a VolumeSnapshot are named {name}; say pvc/{0} or volumesnapshot/{0}", name.name)
        }
    }
}

/// The objects named, all that they came from, and all that came from them.
fn related(nodes: Vec<Node>, start: &BTreeSet<String>) -> Vec<Node> {
    let parents: BTreeMap<&str, &str> =
        nodes.iter().filter_map(|node| Some((node.id.as_str(), node.parent_id.as_deref()?))).collect();
    let mut children: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (child, parent) in &parents {
        children.entry(parent).or_default().push(child);
    }
    let mut wanted: BTreeSet<String> = start.clone();
    for id in start {
        // A damaged lineage may go round in a circle: what is wanted already ends the walk.
        let mut above = parents.get(id.as_str());
        while let Some(parent) = above.filter(|parent| wanted.insert((**parent).to_owned())) {
            above = parents.get(parent);
        }
    }
    let mut below: Vec<&str> = start.iter().map(String::as_str).collect();
    let mut seen: BTreeSet<&str> = below.iter().copied().collect();
    while let Some(id) = below.pop() {
        for child in children.get(id).into_iter().flatten() {
            if seen.insert(child) {
                wanted.insert((*child).to_owned());
                below.push(child);
            }
        }
    }
    nodes.into_iter().filter(|node| wanted.contains(&node.id)).collect()
}

/// `alone` is the namespace whose name need not be repeated.
fn draw(style: &Style, tree: &Nodes, alone: Option<&str>, now: Millis) -> String {
    if tree.nodes.is_empty() && tree.unreachable.is_empty() {
        return match alone {
            Some(namespace) => {
                format!("nothing of this driver is in namespace {namespace}; see -A for all\n")
            }
            None => "the driver has no volumes\n".into(),
        };
    }
    let by_id: BTreeMap<ObjectId, &Node> =
        tree.nodes.iter().filter_map(|node| Some((node.id.parse().ok()?, node))).collect();
    let links = by_id.iter().map(|(id, node)| Link {
        id: *id,
        parent: node.parent_id.as_ref().and_then(|parent| parent.parse().ok()),
    });
    let lines = lineage::forest(links);
    let rows = lineage::strokes(&lines).zip(&lines).map(|(strokes, line)| {
        let strokes = if style.utf8 { strokes } else { ascii(&strokes) };
        let Some(node) = by_id.get(&line.id) else {
            let mut cells = vec![format!("{strokes}(deleted)")];
            cells.resize(9, String::new());
            return cells;
        };
        vec![
            format!("{strokes}{}", clean(&title(node, alone))),
            kind(node).to_owned(),
            node.node.clone(),
            human(node.size_bytes),
            cost(node.own_bytes),
            cost(node.shared_bytes),
            node.state.clone(),
            if node.in_use { "in use".to_owned() } else { String::new() },
            age(node.created, now),
        ]
    });
    // Lines of a grid would cut the strokes apart.
    let plain = Style { terminal: false, utf8: style.utf8 };
    let headings = ["NAME", "KIND", "NODE", ">SIZE", ">OWN", ">SHARED", "STATE", "IN USE", ">AGE"];
    let mut text = plain.table(&headings, rows.collect());
    if !tree.unreachable.is_empty() {
        text += &format!("what is on these nodes is missing here: {}\n", clean(&tree.unreachable.join(", ")));
    }
    text
}

fn title(node: &Node, alone: Option<&str>) -> String {
    match (&node.namespace, &node.name) {
        (Some(namespace), Some(name)) if alone == Some(namespace) => name.clone(),
        (Some(namespace), Some(name)) => format!("{namespace}/{name}"),
        _ => format!("({})", short(&node.id)),
    }
}

fn kind(node: &Node) -> &'static str {
    match node.kind {
        "PersistentVolumeClaim" => "pvc",
        "VolumeSnapshot" => "snapshot",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(id: &str, parent: Option<&str>, name: Option<&str>) -> Node {
        let full = |id: &str| format!("{}-aaaaaaaa-{:032x}", &id[..1], id[1..].parse::<u32>().unwrap());
        Node {
            id: full(id),
            kind: match (name, id.starts_with('v')) {
                (None, _) => "undo snapshot",
                (_, true) => "PersistentVolumeClaim",
                _ => "VolumeSnapshot",
            },
            namespace: name.map(|name| name.split_once('/').unwrap().0.to_owned()),
            name: name.map(|name| name.split_once('/').unwrap().1.to_owned()),
            object: None,
            parent_id: parent.map(full),
            node: "node-1".into(),
            pool: "fast".into(),
            size_bytes: 10 << 30,
            own_bytes: Some(3 << 20),
            shared_bytes: None,
            created_at: None,
            state: "ready".into(),
            in_use: id == "v1",
            created: Some(0),
        }
    }

    fn sample() -> Vec<Node> {
        vec![
            node("v1", None, Some("shop/db")),
            node("s2", Some("v1"), Some("shop/monday")),
            node("v3", Some("s2"), Some("dev/anna")),
            node("s4", Some("v3"), None),
            node("v5", Some("s2"), Some("dev/bert")),
            node("v6", None, Some("dev/other")),
            node("v7", Some("s9"), Some("dev/orphan")),
        ]
    }

    #[test]
    fn lineage_is_drawn_by_the_names_of_claims() {
        let tree = Nodes { nodes: sample(), unreachable: vec!["node-2".into()] };
        insta::assert_snapshot!("cluster_tree", draw(&Style::PLAIN, &tree, None, 3_600_000));
    }

    #[test]
    fn one_namespace_is_shown_with_its_ancestors_and_copies_in_others() {
        let check = |start: &[usize], expect: &[usize]| {
            let all = sample();
            let start = start.iter().map(|n| all[*n].id.clone()).collect();
            let expect: Vec<_> = expect.iter().map(|n| all[*n].id.clone()).collect();
            let found: Vec<_> = related(all, &start).into_iter().map(|node| node.id).collect();
            assert_eq!(found, expect);
        };
        check(&[], &[]);
        check(&[0], &[0, 1, 2, 3, 4]);
        check(&[2], &[0, 1, 2, 3]);
        check(&[5, 6], &[5, 6]);
    }

    #[test]
    fn a_lineage_that_goes_round_in_a_circle_ends() {
        let nodes = vec![node("v1", Some("v2"), None), node("v2", Some("v1"), None)];
        let start = BTreeSet::from([nodes[0].id.clone()]);
        assert_eq!(related(nodes, &start).len(), 2);
    }
}
