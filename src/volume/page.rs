//! Paging of lists.
//!
//! A token that is an offset goes wrong when something is deleted between two pages: the next page skips one. Ours names
//! the last id that was returned, and the next page starts after it, whether or not that object is still there. So a
//! listing shows everything that exists during the whole of it exactly once.

use std::fmt::Display;
use std::str::FromStr;

use super::error::{Error, Kind, Result};

const PREFIX: &str = "after-";

/// What a caller asked for: where to start and how many to give.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ask<K> {
    /// Start behind this id; `None` is the beginning.
    pub after: Option<K>,
    /// At most so many entries; `None` is all.
    pub max: Option<usize>,
}

/// One page, and the token of the next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    /// The entries, in order.
    pub items: Vec<T>,
    /// The token of the next page; `None` if there was nothing more.
    pub next: Option<String>,
}

/// The token of the page that begins behind `key`.
pub fn token(key: &impl Display) -> String {
    format!("{PREFIX}{key}")
}

impl<K: FromStr + Display + Ord> Ask<K> {
    /// Reads `starting_token` and `max_entries`; zero entries means all, as in CSI.
    ///
    /// # Errors
    /// [`Kind::BadToken`] for a token that we did not make, [`Kind::Invalid`] for a negative number.
    pub fn parse(token: &str, max: i32) -> Result<Self> {
        let max = usize::try_from(max).map_err(|_| {
            Error::invalid("max_entries", format!("is {max}; give 0 for all, or a positive number"))
        })?;
        let after = match token {
            "" => None,
            _ => {
                let last = token.strip_prefix(PREFIX).and_then(|id| id.parse().ok());
                let foreign = || {
                    Error::new(Kind::BadToken, "starting_token: is not one of ours; start the listing anew")
                };
                Some(last.ok_or_else(foreign)?)
            }
        };
        Ok(Ask { after, max: (max != 0).then_some(max) })
    }

    /// Cuts the page out of `sorted`. Entries up to [`Ask::after`] are passed over, so `sorted` may, but need not, start
    /// behind it.
    pub fn take<T>(&self, sorted: impl IntoIterator<Item = (K, T)>) -> Page<T> {
        let mut rest =
            sorted.into_iter().skip_while(|(key, _)| self.after.as_ref().is_some_and(|after| key <= after));
        let mut items = Vec::new();
        let mut last = None;
        while self.max.is_none_or(|max| items.len() < max) {
            let Some((key, item)) = rest.next() else { return Page { items, next: None } };
            items.push(item);
            last = Some(key);
        }
        let more = rest.next().is_some();
        Page { items, next: last.filter(|_| more).map(|key| token(&key)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::volume::{PoolId, SnapshotId, VolumeId};
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[track_caller]
    fn check(token: &str, max: i32, kind: Kind) {
        let result = Ask::<VolumeId>::parse(token, max);
        assert_eq!(result.unwrap_err().kind(), kind, "{token:?} {max}");
    }

    #[test]
    fn foreign_tokens_and_negative_numbers_are_refused() {
        let snapshot = SnapshotId::new(PoolId::random());
        for token in [
            "1",
            "after-",
            "after-1",
            " ",
            "\0",
            "after-../..",
            &format!("after-{snapshot}"),
            &"x".repeat(10_000),
        ] {
            check(token, 0, Kind::BadToken);
        }
        check("", -1, Kind::Invalid);
        check("", i32::MIN, Kind::Invalid);
    }

    #[test]
    fn the_last_page_has_no_token_even_when_it_is_full() {
        let all = [1u32, 2, 3, 4].map(|n| (n, n));
        let first = Ask::<u32>::parse("", 2).unwrap().take(all);
        assert_eq!(first, Page { items: vec![1, 2], next: Some("after-2".into()) });
        let second = Ask::<u32>::parse("after-2", 2).unwrap().take(all);
        assert_eq!(second, Page { items: vec![3, 4], next: None });
        assert_eq!(Ask::<u32>::parse("", 0).unwrap().take(all).items.len(), 4);
        assert_eq!(Ask::<u32>::parse("after-9", 0).unwrap().take(all), Page { items: vec![], next: None });
    }

    proptest! {
        #[test]
        fn what_lives_through_a_listing_is_listed_exactly_once(
            all in proptest::collection::btree_set(0u16..200, 0..60),
            changes in proptest::collection::vec((any::<bool>(), 0u16..200), 0..40),
            max in 1i32..7,
        ) {
            let mut now: BTreeSet<u16> = all.clone();
            let mut stable = all.clone();
            let mut seen = Vec::new();
            let mut token = String::new();
            let mut changes = changes.into_iter();
            loop {
                let ask = Ask::<u16>::parse(&token, max).unwrap();
                let page = ask.take(now.iter().map(|&n| (n, n)));
                prop_assert!(page.items.len() <= max as usize);
                seen.extend(page.items);
                match page.next {
                    Some(next) => token = next,
                    None => break,
                }
                for (add, n) in changes.by_ref().take(3) {
                    match add {
                        true => now.insert(n),
                        false => now.remove(&n) | stable.remove(&n),
                    };
                }
            }
            prop_assert!(seen.is_sorted_by(|a, b| a < b), "{seen:?}");
            for n in stable {
                prop_assert!(seen.contains(&n));
            }
        }
    }
}
