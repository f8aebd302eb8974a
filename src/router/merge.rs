//! One list out of the pages of many.
//!
//! Every agent was asked for what comes behind the same id and gave the beginning of it, in the same order. So
//! everything up to the place where the first of them stopped is known, and nothing behind it is: there the page ends,
//! or earlier, and the token names that place to all of them. What exists during a whole listing is therefore in it
//! once, whichever agents come and go between two pages. A page also ends before it grows too large for its readers.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt::Display;

use crate::volume::page::{self, Page};

/// The most bytes of entries in one answer: the sidecars read 4 MiB, and there is a little around the entries.
pub(super) const MAX_BYTES: usize = 3 << 20;

/// The entries that all agents together are asked for at once.
const MAX_ASKED: usize = 16_000;

/// What one agent gave.
#[derive(Debug)]
pub(super) struct Part<K, T> {
    /// Its entries.
    pub(super) entries: Vec<(K, T)>,
    /// Where it stopped though it has more.
    pub(super) stopped: Option<K>,
}

/// How many entries to ask each of so many agents for, where the answer is to have `max`.
pub(super) fn share(max: i32, agents: usize) -> i32 {
    let share = i32::try_from(MAX_ASKED / agents.max(1)).unwrap_or(i32::MAX).max(1);
    max.min(share)
}

/// Merges the parts into a page of at most `max` entries. What several agents have is put together by `join`; `size` is
/// that of an entry in bytes.
pub(super) fn merge<K: Ord + Clone + Display, T>(
    parts: Vec<Part<K, T>>,
    max: usize,
    join: impl Fn(&mut T, T),
    size: impl Fn(&T) -> usize,
) -> Page<T> {
    let known_to = parts.iter().filter_map(|part| part.stopped.clone()).min();
    let mut all: BTreeMap<K, T> = BTreeMap::new();
    for (key, entry) in parts.into_iter().flat_map(|part| part.entries) {
        if known_to.as_ref().is_some_and(|end| key > *end) {
            continue;
        }
        match all.entry(key) {
            Entry::Vacant(place) => drop(place.insert(entry)),
            Entry::Occupied(mut there) => join(there.get_mut(), entry),
        }
    }
    let mut items = Vec::new();
    let (mut bytes, mut last) = (0, None);
    for (key, entry) in all {
        bytes += size(&entry);
        if items.len() >= max || (bytes > MAX_BYTES && !items.is_empty()) {
            return Page { items, next: last.as_ref().map(page::token) };
        }
        items.push(entry);
        last = Some(key);
    }
    Page { items, next: known_to.as_ref().map(page::token) }
}

/// As many of `entries` as fit into one answer; for lists without pages.
pub(super) fn fitting<T>(entries: Vec<T>, size: impl Fn(&T) -> usize) -> Vec<T> {
    let mut bytes = 0;
    let all = entries.len();
    let fit = |entry: &T| {
        bytes += size(entry);
        bytes <= MAX_BYTES
    };
    let fitting: Vec<T> = entries.into_iter().take_while(fit).collect();
    if fitting.len() < all {
        tracing::warn!(
            left_out = all - fitting.len(),
            "the answer would be too large; the last entries are left out"
        );
    }
    fitting
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::volume::page::Ask;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[track_caller]
    fn check(parts: &[(&[u32], Option<u32>)], max: usize, expect: (&[u32], Option<&str>)) {
        let part = |(entries, stopped): &(&[u32], Option<u32>)| Part {
            entries: entries.iter().map(|&n| (n, n)).collect(),
            stopped: *stopped,
        };
        let page = merge(parts.iter().map(part).collect(), max, |_, _| {}, |_| 4);
        assert_eq!((&page.items[..], page.next.as_deref()), expect);
    }

    #[test]
    fn a_page_ends_where_the_first_agent_stopped_or_when_it_is_full() {
        check(&[], 5, (&[], None));
        check(&[(&[1, 4], None), (&[2, 3], None)], 5, (&[1, 2, 3, 4], None));
        check(&[(&[1, 4], None), (&[2, 3], None)], 4, (&[1, 2, 3, 4], None));
        check(&[(&[1, 4], None), (&[2, 3], None)], 3, (&[1, 2, 3], Some("after-3")));
        check(&[(&[1, 4], Some(4)), (&[2, 9], None)], 5, (&[1, 2, 4], Some("after-4")));
        check(&[(&[1, 4], Some(4)), (&[2, 3], Some(3))], 5, (&[1, 2, 3], Some("after-3")));
        // An agent may stop behind its last entry: it looked further and found nothing to say.
        check(&[(&[1], Some(7)), (&[8], None)], 5, (&[1], Some("after-7")));
        // One object on two agents is one entry.
        check(&[(&[1, 2], None), (&[2, 3], None)], 5, (&[1, 2, 3], None));
    }

    #[test]
    fn an_answer_stays_readable_however_large_its_entries_are() {
        let part = |from: u32| Part { entries: (from..from + 4).map(|n| (n, n)).collect(), stopped: None };
        let page = merge(vec![part(0), part(10)], 100, |_, _| {}, |_| MAX_BYTES / 3);
        assert_eq!((page.items, page.next.as_deref()), (vec![0, 1, 2], Some("after-2")));
        let page = merge(vec![part(0)], 100, |_, _| {}, |_| 2 * MAX_BYTES);
        assert_eq!((page.items, page.next.as_deref()), (vec![0], Some("after-0")));
        assert_eq!(fitting(vec![1, 2, 3], |_| MAX_BYTES / 2), [1, 2]);
        assert_eq!((share(4000, 1), share(4000, 100), share(2, 100), share(9, 100_000)), (4000, 160, 2, 1));
    }

    proptest! {
        #[test]
        fn what_lives_through_a_listing_is_in_it_once_whichever_agents_come_and_go(
            all in proptest::collection::btree_set((0u16..200, 0usize..3), 0..60),
            changes in proptest::collection::vec((any::<bool>(), 0u16..200, 0usize..3), 0..40),
            silent in proptest::collection::vec(proptest::option::of(0usize..3), 0..20),
            max in 1i32..7,
        ) {
            // An object is on one agent.
            let mut now: BTreeMap<u16, usize> = all.into_iter().collect();
            let mut stable: BTreeSet<u16> = now.keys().copied().collect();
            let (mut seen, mut token) = (Vec::new(), String::new());
            let (mut changes, mut silent) = (changes.into_iter(), silent.into_iter());
            loop {
                let away = silent.next().flatten();
                let parts = (0..3).filter(|agent| Some(*agent) != away).map(|agent| {
                    let ask = Ask::<u16>::parse(&token, max).unwrap();
                    let mine = now.iter().filter(|(_, on)| **on == agent).map(|(&n, _)| (n, n));
                    let page = ask.take(mine);
                    let stopped = page.next.map(|next| Ask::parse(&next, 0).unwrap().after.unwrap());
                    Part { entries: page.items.into_iter().map(|n| (n, n)).collect(), stopped }
                });
                let page = merge(parts.collect(), max as usize, |_, _| {}, |_| 1);
                // What is on an agent that is away may be missed; nothing else may.
                stable.retain(|n| now.get(n) != away.as_ref() || away.is_none() || seen.contains(n));
                seen.extend(page.items);
                match page.next {
                    Some(next) => token = next,
                    None => break,
                }
                for (add, n, on) in changes.by_ref().take(3) {
                    match add {
                        true => drop(now.entry(n).or_insert(on)),
                        false => { now.remove(&n); stable.remove(&n); }
                    }
                }
            }
            prop_assert!(seen.is_sorted_by(|a, b| a < b), "{seen:?}");
            for n in stable {
                prop_assert!(seen.contains(&n), "{n} is missing in {seen:?}");
            }
        }
    }
}
