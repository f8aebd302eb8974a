//! `offshoot tree`: which copy came from which, drawn.
//!
//! The server knows each object's parent; the forest is built by the domain (`volume::lineage`), and here it gets its
//! columns. Where a parent was deleted while its copies live on, its place is kept and marked.

use std::collections::BTreeMap;

use anyhow::Result;
use clap::Args;
use serde::Serialize;

use super::output::{Style, age, clean, human};
use super::session::{Common, now, short};
use super::view::{Object, cost};
use crate::proto::offshoot::lineage_node::Kind;
use crate::volume::ObjectId;
use crate::volume::lineage::{self, Line, Link};
use crate::volume::record::Millis;

/// Draw which volume and snapshot came from which, and what each costs
///
/// OWN is what deleting an object would give back, SHARED what it has in common with others: ten copies of a large
/// volume share nearly all of it. With an ID or name, only that object is drawn, with what it came from and what came
/// from it. The last eight characters of an id, as shown here, name the object in every command.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:\n  offshoot tree\n  offshoot tree db\n  offshoot tree --output json")]
pub(super) struct Tree {
    /// A volume or snapshot: its name or id
    #[arg(value_name = "ID")]
    of: Option<String>,
    #[command(flatten)]
    common: Common,
}

#[derive(Serialize)]
struct Nodes {
    nodes: Vec<Object>,
    /// Nodes of a cluster whose objects are missing here.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    unreachable: Vec<String>,
}

impl Tree {
    pub(super) fn run(self) -> Result<()> {
        let common = self.common.clone();
        common.run(async |session| {
            let mut objects = match &self.of {
                Some(of) => {
                    let id = session.resolve(&[Kind::Volume, Kind::Snapshot], of).await?;
                    session.objects_of(&id, false).await?
                }
                None => session.objects_all().await?,
            };
            // Its members name it.
            objects.retain(|object| object.kind != "group");
            let tree = Nodes { nodes: objects, unreachable: session.unreachable() };
            let ids: Vec<_> = tree.nodes.iter().map(|object| object.id.as_str()).collect();
            common.output.print(&tree, &ids, |style| draw(style, &tree.nodes, now()))
        })
    }
}

fn draw(style: &Style, objects: &[Object], now: Millis) -> String {
    let by_id: BTreeMap<ObjectId, &Object> =
        objects.iter().filter_map(|object| Some((object.id.parse().ok()?, object))).collect();
    let links = by_id.iter().map(|(id, object)| Link {
        id: *id,
        parent: object.parent_id.as_ref().and_then(|parent| parent.parse().ok()),
    });
    let lines = lineage::forest(links);
    let rows = lineage::strokes(&lines)
        .zip(&lines)
        .map(|(strokes, line)| row(style, strokes, line, by_id.get(&line.id).copied(), now));
    // Lines of a grid would cut the strokes apart.
    let plain = Style { terminal: false, utf8: style.utf8 };
    plain
        .table(&["NAME", "ID", "KIND", ">SIZE", ">OWN", ">SHARED", "STATE", "IN USE", ">AGE"], rows.collect())
}

fn row(style: &Style, strokes: String, line: &Line, object: Option<&Object>, now: Millis) -> Vec<String> {
    let strokes = if style.utf8 { strokes } else { ascii(&strokes) };
    let id = line.id.to_string();
    let Some(object) = object else {
        let mut cells = vec![format!("{strokes}(deleted)"), short(&id).to_owned()];
        cells.push(if matches!(line.id, ObjectId::Volume(_)) { "volume" } else { "snapshot" }.to_owned());
        cells.resize(9, String::new());
        return cells;
    };
    vec![
        format!("{strokes}{}", clean(&object.name)),
        short(&id).to_owned(),
        if object.attributes.contains_key("undo") { "undo".to_owned() } else { object.kind.to_owned() },
        human(object.size_bytes),
        cost(object.own_bytes),
        cost(object.shared_bytes),
        object.state.to_owned(),
        if object.in_use { "in use".to_owned() } else { String::new() },
        age(object.created, now),
    ]
}

/// The same strokes for a terminal, or a file, without box characters.
pub(super) fn ascii(strokes: &str) -> String {
    strokes.replace(['│', '├'], "|").replace('└', "`").replace('─', "-")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::tests_samples::{node, pools};

    fn sample() -> Vec<Object> {
        let mut nodes = vec![
            node("v1", "db", "", 20),
            node("s1", "monday", "v1", 0),
            node("v2", "db-anna", "s1", 3),
            node("v3", "db-bert", "s1", 0),
            node("s2", "tuesday", "v1", 1),
            node("v4", "orphaned copy", "s9", 2),
        ];
        nodes[2].published = true;
        nodes.into_iter().map(|node| Object::new(node, &pools())).collect()
    }

    #[test]
    fn a_tree_is_drawn_with_boxes_or_with_ascii() {
        let now = 3_600_000;
        insta::assert_snapshot!("tree_utf8", draw(&Style { terminal: true, utf8: true }, &sample(), now));
        insta::assert_snapshot!("tree_ascii", draw(&Style::PLAIN, &sample(), now));
    }
}
