//! Where objects can be reached from, as CSI says it: maps of segments.
//!
//! The router chooses a node by the requirement of a request, and the node checks it once more. Both ask here, so that
//! they cannot disagree.

use std::collections::BTreeMap;

/// Topology segments, such as `topology.offshoot.dev/node` to the node's id.
pub type Segments = BTreeMap<String, String>;

/// The topology key whose value is the id of the node that holds the data.
pub const TOPOLOGY_NODE: &str = "topology.offshoot.dev/node";

/// The segments of a node.
pub fn of_node(node: &str) -> Segments {
    Segments::from([(TOPOLOGY_NODE.to_owned(), node.to_owned())])
}

/// Whether the place `here` is one of those that `asked` describes. Segments that it has besides do not matter.
pub fn is_in(here: &Segments, asked: &Segments) -> bool {
    asked.iter().all(|(key, value)| here.get(key) == Some(value))
}

/// Whether a request that may be served from the places of `requisite` may be served from `here`. None means anywhere.
pub fn may_serve(here: &Segments, requisite: &[Segments]) -> bool {
    requisite.is_empty() || requisite.iter().any(|asked| is_in(here, asked))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_serves_what_asks_for_it_or_for_anywhere() {
        let zone = |node: &str| {
            Segments::from([("zone".to_owned(), "z".to_owned())])
                .into_iter()
                .chain(of_node(node))
                .collect::<Segments>()
        };
        let check =
            |requisite: &[Segments], expect: bool| assert_eq!(may_serve(&of_node("a"), requisite), expect);
        check(&[], true);
        check(&[of_node("a")], true);
        check(&[of_node("b")], false);
        check(&[of_node("b"), of_node("a")], true);
        check(&[Segments::new()], true);
        // A place that knows more of itself than was asked still serves; one that knows less does not.
        check(&[zone("a")], false);
        assert!(may_serve(&zone("a"), &[of_node("a")]));
    }
}
