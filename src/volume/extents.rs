//! What the extents of image files say: which bytes are there, which differ between two, which are shared.
//!
//! Two reflinked images share a block exactly where both map it to the same place of the disk. That answers "what
//! changed" without reading any data, but an error here is a silently wrong backup, so every doubt counts as changed.
//!
//! Everything works on iterators of extents in the order of the file and holds a few of them at a time: an image of a
//! terabyte may have millions. Runs come out in order, aligned to 4 KiB blocks, and never touch each other.

use std::iter::Peekable;

use super::size::GRANULE;

/// A run of bytes of a file and where it lies on the disk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Piece {
    /// Where it starts in the file, in bytes.
    pub logical: u64,
    /// Where it starts on the disk, in bytes.
    pub physical: u64,
    /// How long it is, in bytes.
    pub len: u64,
    /// Whether it is only set aside, and reads as zeros.
    pub unwritten: bool,
    /// Whether another file has the same blocks too.
    pub shared: bool,
    /// Whether `physical` does not tell what the bytes are: compressed, inline, not yet placed. Never the same as anything.
    pub encoded: bool,
}

impl Piece {
    fn end(&self) -> u64 {
        self.logical.saturating_add(self.len)
    }
}

/// A run of bytes: offset and length.
pub type Run = (u64, u64);

/// The runs that hold data, up to `size`. Holes and what is only set aside read as zeros and are left out.
pub fn allocated(pieces: impl IntoIterator<Item = Piece>, size: u64) -> impl Iterator<Item = Run> {
    let data = pieces.into_iter().filter(|piece| !piece.unwritten);
    merge(data.map(|piece| (piece.logical, piece.end())), size)
}

/// The runs of a target of `target_size` bytes that differ from the base, or may.
///
/// What one of the two has and the other has not is different; so are bytes of which either has no comparable place. All
/// that lies behind the end of a smaller base is different, holes too: the base says nothing about it.
pub fn delta(
    base: impl IntoIterator<Item = Piece>,
    base_size: u64,
    target: impl IntoIterator<Item = Piece>,
    target_size: u64,
) -> impl Iterator<Item = Run> {
    let both = base_size.min(target_size);
    let differences = Delta { base: Cursor::new(base), target: Cursor::new(target), at: 0, end: both };
    let tail = (target_size > both).then_some((both, target_size));
    merge(differences.chain(tail), target_size)
}

/// The part of `runs` from byte `start` on.
pub fn from(runs: impl IntoIterator<Item = Run>, start: u64) -> impl Iterator<Item = Run> {
    runs.into_iter().filter_map(move |(offset, len)| {
        let end = offset.saturating_add(len);
        let offset = offset.max(start);
        (offset < end).then(|| (offset, end - offset))
    })
}

/// The bytes of disk that only this file has, and those that others have too. What is only set aside is taken as well.
pub fn own_and_shared(pieces: impl IntoIterator<Item = Piece>) -> (u64, u64) {
    pieces.into_iter().fold((0, 0), |(own, shared): (u64, u64), piece| match piece.shared {
        true => (own, shared.saturating_add(piece.len)),
        false => (own.saturating_add(piece.len), shared),
    })
}

/// Aligns half-open ranges to blocks, cuts them at `size`, and joins those that overlap or touch. Ranges must be ordered
/// by their start; one that is not is joined to where the others have got to.
fn merge(ranges: impl Iterator<Item = (u64, u64)>, size: u64) -> impl Iterator<Item = Run> {
    let aligned = ranges.filter(|(start, end)| start < end).map(move |(start, end)| {
        let start = start - start % GRANULE;
        (start.min(size), end.checked_next_multiple_of(GRANULE).unwrap_or(u64::MAX).min(size))
    });
    let mut aligned = aligned.filter(|(start, end)| start < end).peekable();
    let mut behind = 0;
    std::iter::from_fn(move || {
        loop {
            let (start, mut end) = aligned.next()?;
            while let Some((_, more)) = aligned.next_if(|(next, _)| *next <= end) {
                end = end.max(more);
            }
            let start = start.max(behind);
            if start < end {
                behind = end;
                return Some((start, end - start));
            }
        }
    })
}

/// What a file has at some place.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Content {
    /// Zeros: a hole, or only set aside.
    Zeros,
    /// Data at this place of the disk.
    At(u64),
    /// Data that cannot be compared.
    Unknown,
}

impl Content {
    fn differs(self, other: Content) -> bool {
        self != other || self == Content::Unknown
    }
}

/// Walks through the pieces of one file.
struct Cursor<I: Iterator<Item = Piece>> {
    pieces: Peekable<I>,
}

impl<I: Iterator<Item = Piece>> Cursor<I> {
    fn new(pieces: impl IntoIterator<Item = Piece, IntoIter = I>) -> Self {
        Cursor { pieces: pieces.into_iter().peekable() }
    }

    /// What the file has at byte `at`, and up to where it goes on like that. `at` never goes back.
    fn look(&mut self, at: u64) -> (Content, u64) {
        while self.pieces.next_if(|piece| piece.end() <= at).is_some() {}
        match self.pieces.peek() {
            None => (Content::Zeros, u64::MAX),
            Some(piece) if piece.logical > at => (Content::Zeros, piece.logical),
            Some(piece) if piece.unwritten => (Content::Zeros, piece.end()),
            Some(piece) if piece.encoded => (Content::Unknown, piece.end()),
            Some(piece) => (Content::At(piece.physical.saturating_add(at - piece.logical)), piece.end()),
        }
    }
}

/// The ranges below `end` where two files differ.
struct Delta<A: Iterator<Item = Piece>, B: Iterator<Item = Piece>> {
    base: Cursor<A>,
    target: Cursor<B>,
    at: u64,
    end: u64,
}

impl<A: Iterator<Item = Piece>, B: Iterator<Item = Piece>> Iterator for Delta<A, B> {
    type Item = (u64, u64);

    fn next(&mut self) -> Option<(u64, u64)> {
        while self.at < self.end {
            let start = self.at;
            let (before, base_end) = self.base.look(start);
            let (now, target_end) = self.target.look(start);
            // Both ends lie behind `start`, so this always gets on.
            self.at = base_end.min(target_end).min(self.end);
            if before.differs(now) {
                return Some((start, self.at));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn data(logical: u64, physical: u64, len: u64) -> Piece {
        Piece { logical, physical, len, ..Piece::default() }
    }

    const K: u64 = 1 << 10;

    #[track_caller]
    fn check(base: &[Piece], base_size: u64, target: &[Piece], size: u64, expect: &[Run]) {
        let found: Vec<Run> = delta(base.to_vec(), base_size, target.to_vec(), size).collect();
        assert_eq!(found, expect);
    }

    #[test]
    fn only_what_lies_elsewhere_has_changed() {
        let size = 64 * K;
        let base = [data(0, 1000 * K, 32 * K)];
        check(&base, size, &base, size, &[]);
        check(&base, size, &[], size, &[(0, 32 * K)]);
        check(&[], size, &base, size, &[(0, 32 * K)]);
        // The same blocks, told in two pieces.
        check(&base, size, &[data(0, 1000 * K, 8 * K), data(8 * K, 1008 * K, 24 * K)], size, &[]);
        let rewritten =
            [data(0, 1000 * K, 8 * K), data(8 * K, 5000 * K, 4 * K), data(12 * K, 1012 * K, 20 * K)];
        check(&base, size, &rewritten, size, &[(8 * K, 4 * K)]);
        // The same place of the disk under another place of the file.
        check(&base, size, &[data(4 * K, 1000 * K, 28 * K)], size, &[(0, 32 * K)]);
    }

    #[test]
    fn zeros_are_zeros_whether_set_aside_or_not() {
        let aside = Piece { unwritten: true, ..data(0, 1000 * K, 16 * K) };
        check(&[aside], 64 * K, &[], 64 * K, &[]);
        check(&[aside], 64 * K, &[Piece { physical: 0, ..aside }], 64 * K, &[]);
        check(&[aside], 64 * K, &[data(0, 1000 * K, 16 * K)], 64 * K, &[(0, 16 * K)]);
    }

    #[test]
    fn what_cannot_be_compared_has_changed() {
        let packed = Piece { encoded: true, ..data(0, 1000 * K, 16 * K) };
        check(&[packed], 64 * K, &[packed], 64 * K, &[(0, 16 * K)]);
    }

    #[test]
    fn a_larger_target_has_changed_behind_the_end_of_its_base_and_a_smaller_one_ends_there() {
        let same = [data(0, 1000 * K, 16 * K)];
        check(&same, 16 * K, &same, 64 * K, &[(16 * K, 48 * K)]);
        check(&same, 16 * K, &[], 8 * K, &[(0, 8 * K)]);
        // An image may be longer than the volume it stands for.
        check(&same, 8 * K, &same, 12 * K, &[(8 * K, 4 * K)]);
    }

    #[test]
    fn runs_are_whole_blocks() {
        check(&[], 64 * K, &[data(5 * K, 0, 1)], 64 * K, &[(4 * K, 4 * K)]);
        check(&[], 7 * K, &[data(5 * K, 0, K)], 7 * K, &[(4 * K, 3 * K)]);
        let pieces = [data(K, 0, K), data(3 * K, 90 * K, K), data(9 * K, 50 * K, K)];
        let runs: Vec<Run> = allocated(pieces, 64 * K).collect();
        assert_eq!(runs, [(0, 4 * K), (8 * K, 4 * K)]);
        assert_eq!(from(runs, 6 * K).collect::<Vec<_>>(), [(8 * K, 4 * K)]);
        assert_eq!(from([(0, 8 * K)], 6 * K).collect::<Vec<_>>(), [(6 * K, 2 * K)]);
    }

    #[test]
    fn own_and_shared_bytes_are_counted_apart() {
        let shared = Piece { shared: true, ..data(8 * K, 0, 4 * K) };
        let aside = Piece { unwritten: true, ..data(16 * K, 0, K) };
        assert_eq!(own_and_shared([data(0, 0, 8 * K), shared, aside]), (9 * K, 4 * K));
    }

    const BLOCKS: u64 = 48;

    /// Pieces in order, with holes between, whole blocks; a small disk, so that places coincide.
    fn pieces() -> impl Strategy<Value = Vec<Piece>> {
        proptest::collection::vec((0u64..4, 1u64..6, 0u64..24, 0u8..8), 0..12).prop_map(|parts| {
            let mut at = 0;
            let place = |(gap, len, physical, kind): (u64, u64, u64, u8)| {
                at += gap;
                let logical = at * GRANULE;
                at += len;
                let (unwritten, encoded) = (kind == 0, kind == 1);
                Piece {
                    logical,
                    physical: physical * GRANULE,
                    len: len * GRANULE,
                    unwritten,
                    encoded,
                    shared: kind > 4,
                }
            };
            parts.into_iter().map(place).collect()
        })
    }

    /// The content of each block: `None` for zeros.
    fn model(pieces: &[Piece]) -> Vec<Option<(u64, bool)>> {
        let mut blocks = vec![None; 200];
        for piece in pieces.iter().filter(|piece| !piece.unwritten) {
            for n in 0..piece.len / GRANULE {
                blocks[(piece.logical / GRANULE + n) as usize] =
                    Some((piece.physical + n * GRANULE, piece.encoded));
            }
        }
        blocks
    }

    fn blocks(runs: &[Run]) -> Vec<u64> {
        runs.iter().flat_map(|(offset, len)| offset / GRANULE..(offset + len) / GRANULE).collect()
    }

    fn well_formed(runs: &[Run]) -> bool {
        runs.iter().all(|run| run.1 > 0) && runs.windows(2).all(|pair| pair[0].0 + pair[0].1 < pair[1].0)
    }

    proptest! {
        #[test]
        fn runs_agree_with_a_model_that_looks_at_every_block(
            base in pieces(), target in pieces(), base_size in 0..BLOCKS, size in 0..BLOCKS,
        ) {
            let runs: Vec<Run> = delta(base.clone(), base_size * GRANULE, target.clone(), size * GRANULE).collect();
            prop_assert!(well_formed(&runs), "{runs:?}");
            let (was, is) = (model(&base), model(&target));
            let unknown = |block: Option<(u64, bool)>| block.is_some_and(|(_, encoded)| encoded);
            let differs = |n: &u64| {
                let (was, is) = (was[*n as usize], is[*n as usize]);
                *n >= base_size || was != is || unknown(was) || unknown(is)
            };
            prop_assert_eq!(blocks(&runs), (0..size).filter(differs).collect::<Vec<_>>());

            let runs: Vec<Run> = allocated(target, size * GRANULE).collect();
            prop_assert!(well_formed(&runs), "{runs:?}");
            prop_assert_eq!(blocks(&runs), (0..size).filter(|n| is[*n as usize].is_some()).collect::<Vec<_>>());
        }

        #[test]
        fn disorder_and_overflow_give_ordered_runs_and_no_panic(
            parts in proptest::collection::vec((any::<u64>(), any::<u64>(), any::<u64>()), 0..8), size in any::<u64>(),
        ) {
            let pieces: Vec<Piece> = parts.into_iter().map(|(logical, physical, len)| data(logical, physical, len)).collect();
            let changed = delta(pieces.clone(), size / 2, pieces.iter().rev().copied(), size);
            for runs in [changed.collect::<Vec<_>>(), allocated(pieces.clone(), size).collect()] {
                prop_assert!(runs.windows(2).all(|pair| pair[0].0 + pair[0].1 <= pair[1].0), "{runs:?}");
                prop_assert!(runs.iter().all(|(offset, len)| offset.checked_add(*len).is_some_and(|end| end <= size)));
            }
        }
    }
}
