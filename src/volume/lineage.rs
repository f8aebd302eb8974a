//! Which object came from which, as a forest that a person can read.
//!
//! Records name their parents one by one, and parents may be gone by now, while their copies live on. A volume hangs
//! under what it was made from, a snapshot under its volume. What a rewind or refresh put into a volume later
//! ([`Volume::base`]) is no parent here: it may be the volume's own snapshot, and the picture would turn in a circle.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use uuid::Uuid;

use super::id::ObjectId;
use super::record::{Snapshot, Source, Volume};

/// One object and what it came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    /// The object.
    pub id: ObjectId,
    /// What it came from; `None` for one that started empty.
    pub parent: Option<ObjectId>,
}

impl From<&Volume> for Link {
    fn from(volume: &Volume) -> Self {
        let parent = volume.source.map(|source| match source {
            Source::Snapshot(id) => ObjectId::Snapshot(id),
            Source::Volume(id) => ObjectId::Volume(id),
        });
        Link { id: ObjectId::Volume(volume.id), parent }
    }
}

impl From<&Snapshot> for Link {
    fn from(snapshot: &Snapshot) -> Self {
        Link { id: ObjectId::Snapshot(snapshot.id), parent: Some(ObjectId::Volume(snapshot.volume)) }
    }
}

/// Where an object stands in a listing of the lineage. Tokens name it, and it is the same on every node, so that the
/// lists of several can be merged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The latest making among the object and what it came from.
    pub newest: Uuid,
    /// How far below that one it hangs.
    pub steps: usize,
    /// The object.
    pub id: ObjectId,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.newest.simple(), self.steps, self.id)
    }
}

impl FromStr for Place {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut parts = text.splitn(3, '.');
        let mut part = || parts.next().ok_or(());
        let newest = Uuid::try_parse(part()?).map_err(drop)?;
        Ok(Place { newest, steps: part()?.parse().map_err(drop)?, id: part()?.parse().map_err(drop)? })
    }
}

/// One line of the drawn forest. Lines come in the order in which they are drawn: each object before its children.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// The object.
    pub id: ObjectId,
    /// Whether it has no record any more, and stands here only for its children.
    pub gone: bool,
    /// How many generations it stands below its root.
    pub depth: usize,
    /// Whether it is the last of its siblings.
    pub last: bool,
}

/// The strokes before each line's name, such as `│  └─ `, one after the other as they are needed.
pub fn strokes(lines: &[Line]) -> impl Iterator<Item = String> {
    // For each generation above: whether the branch that leads here was the last one.
    let mut above: Vec<bool> = Vec::new();
    lines.iter().map(move |line| {
        let Some(parents) = line.depth.checked_sub(1) else {
            above.clear();
            return String::new();
        };
        above.truncate(parents);
        let mut strokes: String = above.iter().map(|last| if *last { "   " } else { "│  " }).collect();
        strokes.push_str(if line.last { "└─ " } else { "├─ " });
        above.push(line.last);
        strokes
    })
}

/// Builds the forest. Siblings and roots stand in the order of their ids, which within a pool is that of their making.
/// Every link is drawn exactly once, also those of damaged records that go round in a circle.
pub fn forest(links: impl IntoIterator<Item = Link>) -> Vec<Line> {
    let parents: BTreeMap<ObjectId, Option<ObjectId>> =
        links.into_iter().map(|link| (link.id, link.parent)).collect();
    let mut children: BTreeMap<ObjectId, Vec<ObjectId>> = BTreeMap::new();
    let mut roots: BTreeSet<ObjectId> = BTreeSet::new();
    for (&id, parent) in &parents {
        match parent {
            None => _ = roots.insert(id),
            Some(parent) => {
                children.entry(*parent).or_default().push(id);
                if !parents.contains_key(parent) {
                    roots.insert(*parent);
                }
            }
        }
    }
    let mut lines = Vec::new();
    let mut drawn = BTreeSet::new();
    for root in roots {
        draw(root, &parents, &children, &mut drawn, &mut lines);
    }
    // Whatever no root leads to is part of a circle; it is cut open at its smallest id.
    for &id in parents.keys() {
        if !drawn.contains(&id) {
            draw(id, &parents, &children, &mut drawn, &mut lines);
        }
    }
    lines
}

/// Draws one tree without recursion: chains of copies can be long.
fn draw(
    root: ObjectId,
    parents: &BTreeMap<ObjectId, Option<ObjectId>>,
    children: &BTreeMap<ObjectId, Vec<ObjectId>>,
    drawn: &mut BTreeSet<ObjectId>,
    lines: &mut Vec<Line>,
) {
    let mut waiting = vec![(root, 0, true)];
    while let Some((id, depth, last)) = waiting.pop() {
        if !drawn.insert(id) {
            continue;
        }
        let below = children.get(&id).map(Vec::as_slice).unwrap_or_default();
        // The last child is pushed first, so that the first one is drawn next.
        let undrawn: Vec<ObjectId> =
            below.iter().rev().copied().filter(|child| !drawn.contains(child)).collect();
        waiting.extend(undrawn.into_iter().enumerate().map(|(n, child)| (child, depth + 1, n == 0)));
        lines.push(Line { id, gone: !parents.contains_key(&id), depth, last });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::volume::{FsType, Layout, Phase, PoolId, SnapshotId, VolumeId};
    use proptest::prelude::*;

    /// `v3` is the third volume, `s4` the fourth snapshot; numbers order them.
    fn id(name: &str) -> ObjectId {
        let text = format!("{}-aaaaaaaa-{:032x}", &name[..1], name[1..].parse::<u32>().unwrap());
        text.parse().unwrap()
    }

    /// Links such as `s1<v1`; the picture has the same names, `!` for what is gone.
    #[track_caller]
    fn check(links: &[&str], expect: &[&str]) {
        let read = |link: &&str| match link.split_once('<') {
            Some((child, parent)) => Link { id: id(child), parent: Some(id(parent)) },
            None => Link { id: id(link), parent: None },
        };
        let short = |id: ObjectId| {
            let text = id.to_string();
            format!("{}{}", &text[..1], u32::from_str_radix(&text[34..], 16).unwrap())
        };
        let lines = forest(links.iter().map(read));
        let name = |line: &Line| format!("{}{}", short(line.id), if line.gone { "!" } else { "" });
        let found: Vec<String> =
            strokes(&lines).zip(&lines).map(|(strokes, line)| strokes + &name(line)).collect();
        assert_eq!(found, expect);
    }

    #[test]
    fn copies_stand_under_what_they_came_from() {
        check(&[], &[]);
        check(
            &["v1", "s1<v1", "s2<v1", "v2<s1", "s3<v2", "v3<s1", "v4"],
            &["v1", "├─ s1", "│  ├─ v2", "│  │  └─ s3", "│  └─ v3", "└─ s2", "v4"],
        );
    }

    #[test]
    fn a_parent_that_is_gone_still_holds_its_copies_together() {
        check(&["v2<s1", "v3<s1"], &["s1!", "├─ v2", "└─ v3"]);
        check(&["s1<v9", "v2<v9"], &["v9!", "├─ v2", "└─ s1"]);
    }

    #[test]
    fn damaged_records_that_go_round_are_drawn_once() {
        check(&["v1<v1"], &["v1"]);
        check(&["v1<v2", "v2<v1", "s1<v2"], &["v1", "└─ v2", "   └─ s1"]);
    }

    #[test]
    fn records_become_links() {
        let pool = PoolId::random();
        let snapshot = Snapshot {
            id: SnapshotId::new(pool),
            name: "monday".into(),
            volume: VolumeId::new(pool),
            size: 0,
            layout: Layout::Image,
            fs: FsType::Ext4,
            raw_written: false,
            created: 0,
            group: None,
            undo: false,
            claim: None,
            phase: Phase::Ready,
        };
        let parent = Some(ObjectId::Volume(snapshot.volume));
        assert_eq!(Link::from(&snapshot), Link { id: ObjectId::Snapshot(snapshot.id), parent });
    }

    proptest! {
        #[test]
        fn everything_is_drawn_exactly_once(parents in proptest::collection::vec(proptest::option::of(0u32..30), 0..25)) {
            let name = |n: u32| id(&format!("v{n}"));
            let links = parents.iter().enumerate().map(|(n, parent)| Link { id: name(n as u32), parent: parent.map(name) });
            let lines = forest(links);
            let mut drawn: Vec<ObjectId> = lines.iter().filter(|line| !line.gone).map(|line| line.id).collect();
            drawn.sort();
            prop_assert_eq!(drawn, (0..parents.len() as u32).map(name).collect::<Vec<_>>());
            prop_assert!(lines.iter().enumerate().all(|(n, line)| line.depth <= n));
        }
    }
}
