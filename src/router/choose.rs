//! Which nodes a new volume may lie on, and in which order they are tried.

use crate::volume::topology::{self, Segments};

/// Nodes to try, by their places in the list that was given.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Order {
    /// Those that the caller prefers, best first.
    pub(super) preferred: Vec<usize>,
    /// The others that the requirement allows; whoever has most room is tried first.
    pub(super) others: Vec<usize>,
}

/// Orders `nodes` by a requirement. A node is in the order once.
pub(super) fn order(nodes: &[&str], preferred: &[Segments], requisite: &[Segments]) -> Order {
    let here: Vec<Segments> = nodes.iter().map(|node| topology::of_node(node)).collect();
    let mut order = Order { preferred: Vec::new(), others: Vec::new() };
    // CSI has every preferred topology among the requisite ones, where there are any.
    let allowed = |n: &usize| here.get(*n).is_some_and(|here| topology::may_serve(here, requisite));
    for wish in preferred {
        for n in (0..nodes.len()).filter(allowed) {
            if here.get(n).is_some_and(|here| topology::is_in(here, wish)) && !order.preferred.contains(&n) {
                order.preferred.push(n);
            }
        }
    }
    order.others = (0..nodes.len()).filter(allowed).filter(|n| !order.preferred.contains(n)).collect();
    order
}

/// Sorts the nodes that are not preferred by the room that each has, most first. Those whose largest volume is smaller
/// than `size` come last: they are asked still, for theirs is the reason why it cannot be had.
pub(super) fn by_room(others: &mut [(usize, Room)], size: i64) {
    others.sort_by_key(|(n, room)| (room.largest < size, std::cmp::Reverse(room.available), *n));
}

/// What a node has room for, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Room {
    pub(super) available: i64,
    pub(super) largest: i64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(node: &str) -> Segments {
        match node {
            "any" => Segments::new(),
            _ => topology::of_node(node),
        }
    }

    #[track_caller]
    fn check(preferred: &[&str], requisite: &[&str], expect: (&[usize], &[usize])) {
        let places = |nodes: &[&str]| nodes.iter().map(|node| place(node)).collect::<Vec<_>>();
        let found = order(&["a", "b", "c"], &places(preferred), &places(requisite));
        assert_eq!((&found.preferred[..], &found.others[..]), expect);
    }

    #[test]
    fn preferred_nodes_come_first_in_their_order_and_only_allowed_ones_come_at_all() {
        check(&[], &[], (&[], &[0, 1, 2]));
        check(&["c", "a"], &["a", "b", "c"], (&[2, 0], &[1]));
        check(&["c"], &["c"], (&[2], &[]));
        check(&[], &["b"], (&[], &[1]));
        check(&["b"], &[], (&[1], &[0, 2]));
        check(&["b", "b"], &["a", "b"], (&[1], &[0]));
        check(&["z"], &["z"], (&[], &[]));
        check(&["a"], &["b"], (&[], &[1]));
        check(&["any"], &["any"], (&[0, 1, 2], &[]));
    }

    #[test]
    fn the_rest_come_by_room_and_the_too_small_ones_last() {
        let room = |available, largest| Room { available, largest };
        let check = |rooms: &[Room], size: i64, expect: &[usize]| {
            let mut others: Vec<_> = rooms.iter().copied().enumerate().collect();
            by_room(&mut others, size);
            assert_eq!(others.iter().map(|(n, _)| *n).collect::<Vec<_>>(), expect);
        };
        check(&[room(1, 1), room(3, 3), room(2, 2)], 0, &[1, 2, 0]);
        check(&[room(9, 1), room(3, 3), room(2, 2)], 2, &[1, 2, 0]);
        check(&[room(1, 1), room(1, 1)], 5, &[0, 1]);
        check(&[room(9, 4), room(5, 4)], 5, &[0, 1]);
    }
}
