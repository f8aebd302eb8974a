//! The bytes of a fake file, block by block.
//!
//! A reflink is only interesting if two files can be seen to share blocks, to drift apart on the first write, and to
//! pay for it in space. So a file is a map from block number to a block with an address on the "disk"; a clone copies
//! the map, and a write to a block that others have too takes a fresh address. Content is kept as what it means
//! (bytes, a superblock, a named value), because no test needs a real ext4.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::world::{Step, fail};
use crate::host::{Cause, Extent};

/// Bytes of one block.
pub(super) const BLOCK: u64 = 4096;

/// The block number at which values of a formatted filesystem begin; before it lie superblock and tables.
pub(super) const FIRST_VALUE: u64 = 32;

/// What a superblock says, as far as the driver looks at it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SuperBlock {
    pub(super) fs: String,
    pub(super) uuid: String,
    pub(super) size: u64,
    pub(super) dirty: bool,
    pub(super) damaged: bool,
}

/// What the raw bytes of a superblock begin with.
const SUPER: &[u8] = b"offshoot fake superblock ";
/// What the raw bytes of a value begin with.
const VALUE: &[u8] = b"offshoot fake value ";
/// The raw bytes of what was deleted and not trimmed.
const STALE: &[u8] = &[0xa5; 16];

/// What one block holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Content {
    /// At most one block of bytes; what is missing reads as zeros.
    Bytes(Arc<[u8]>),
    /// The superblock of a formatted filesystem, always in block 0.
    Super(Arc<SuperBlock>),
    /// A file (or, with a slash at the end, a directory) of a formatted filesystem.
    Value(Arc<(String, Vec<u8>)>),
    /// Tables, or a value that was deleted and not trimmed.
    Stale,
}

impl Content {
    pub(super) fn is_zero(&self) -> bool {
        matches!(self, Content::Bytes(bytes) if bytes.iter().all(|b| *b == 0))
    }

    /// The block as the raw bytes a reader of the image would get.
    pub(super) fn render(&self) -> Vec<u8> {
        let mut out = match self {
            Content::Bytes(bytes) => bytes.to_vec(),
            Content::Super(sb) => {
                let SuperBlock { fs, uuid, size, dirty, damaged } = &**sb;
                [SUPER, format!("{fs} {uuid} {size} {dirty} {damaged}\0").as_bytes()].concat()
            }
            Content::Value(value) => {
                let head = format!("{} {}\0", value.0, value.1.len());
                [VALUE, head.as_bytes(), &value.1].concat()
            }
            Content::Stale => STALE.to_vec(),
        };
        out.resize(BLOCK as usize, 0);
        out
    }

    /// The block that these raw bytes are: what was read from one image and written to another means the same there.
    pub(super) fn parse(block: &[u8]) -> Self {
        let plain = || Content::Bytes(block.into());
        let head = |rest: &[u8]| {
            let end = rest.iter().position(|b| *b == 0)?;
            Some((String::from_utf8(rest[..end].to_vec()).ok()?, end + 1))
        };
        if let Some((text, _)) = block.strip_prefix(SUPER).and_then(head) {
            let [fs, uuid, size, dirty, damaged] = text.split(' ').collect::<Vec<_>>()[..] else {
                return plain();
            };
            let sb = SuperBlock {
                fs: fs.to_owned(),
                uuid: uuid.to_owned(),
                size: size.parse().unwrap_or_default(),
                dirty: dirty == "true",
                damaged: damaged == "true",
            };
            return Content::Super(Arc::new(sb));
        }
        if let Some(rest) = block.strip_prefix(VALUE)
            && let Some((text, from)) = head(rest)
            && let Some((name, len)) = text.rsplit_once(' ')
            && let Some(value) = len.parse().ok().and_then(|len: usize| rest.get(from..from + len))
        {
            return Content::Value(Arc::new((name.to_owned(), value.to_vec())));
        }
        match block.strip_prefix(STALE) {
            Some(rest) if rest.iter().all(|b| *b == 0) => Content::Stale,
            _ => plain(),
        }
    }
}

/// A written block.
#[derive(Debug, Clone)]
pub(super) struct Block {
    /// Its address on the disk, in blocks.
    pub(super) phys: u64,
    pub(super) content: Content,
}

/// All bytes of a file. Cheap to clone until written.
#[derive(Debug, Clone, Default)]
pub(super) struct Data {
    pub(super) len: u64,
    pub(super) blocks: Arc<BTreeMap<u64, Block>>,
    /// Blocks that are set aside and read as zeros: first block -> (count, address).
    pub(super) reserved: Arc<BTreeMap<u64, (u64, u64)>>,
}

/// The blocks of a filesystem: who has which address, and how many are left.
#[derive(Debug, Default)]
pub(super) struct Space {
    pub(super) total: u64,
    pub(super) used: u64,
    next: u64,
    refs: std::collections::HashMap<u64, u32>,
}

impl Space {
    pub(super) fn new(bytes: u64) -> Self {
        Space { total: bytes / BLOCK, next: 1024, ..Space::default() }
    }

    /// A fresh run of `count` blocks that nobody has yet.
    fn fresh(&mut self, count: u64) -> Step<u64> {
        if self.used + count > self.total {
            return fail(Cause::NoSpace, "no space left on device");
        }
        let at = self.next;
        self.next += count;
        Ok(at)
    }

    fn hold(&mut self, phys: u64) {
        let refs = self.refs.entry(phys).or_default();
        *refs += 1;
        if *refs == 1 {
            self.used += 1;
        }
    }

    fn drop_one(&mut self, phys: u64) {
        if let Some(refs) = self.refs.get_mut(&phys) {
            *refs -= 1;
            if *refs == 0 {
                self.refs.remove(&phys);
                self.used -= 1;
            }
        }
    }

    pub(super) fn shared(&self, phys: u64) -> bool {
        self.refs.get(&phys).is_some_and(|refs| *refs > 1)
    }

    /// Counts a file's blocks in.
    pub(super) fn hold_all(&mut self, data: &Data) {
        data.blocks.values().for_each(|block| self.hold(block.phys));
        self.used += data.reserved_blocks();
    }

    /// Counts a file's blocks out.
    pub(super) fn drop_all(&mut self, data: &Data) {
        data.blocks.values().for_each(|block| self.drop_one(block.phys));
        self.used -= data.reserved_blocks().min(self.used);
    }

    /// Forgets every count, before counting anew after a power cut.
    pub(super) fn clear(&mut self) {
        self.used = 0;
        self.refs.clear();
    }
}

impl Data {
    pub(super) fn sparse(len: u64) -> Self {
        Data { len, ..Data::default() }
    }

    fn reserved_blocks(&self) -> u64 {
        self.reserved.values().map(|(count, _)| count).sum()
    }

    /// Bytes of disk that the file takes.
    pub(super) fn allocated(&self) -> u64 {
        (self.blocks.len() as u64 + self.reserved_blocks()) * BLOCK
    }

    pub(super) fn content(&self, index: u64) -> Option<&Content> {
        self.blocks.get(&index).map(|block| &block.content)
    }

    /// Writes one block: in place where the address is the file's own, elsewhere where it is shared or `cow` is set.
    pub(super) fn write(&mut self, space: &mut Space, cow: bool, index: u64, content: Content) -> Step<()> {
        let old = self.blocks.get(&index).map(|block| block.phys);
        let phys = match old {
            Some(phys) if !space.shared(phys) && !cow => phys,
            Some(phys) if !space.shared(phys) => {
                // Copy on write gives the old address back, so it needs no space in the end.
                space.drop_one(phys);
                let fresh = space.next;
                space.next += 1;
                space.hold(fresh);
                fresh
            }
            Some(phys) => {
                let fresh = space.fresh(1)?;
                space.drop_one(phys);
                space.hold(fresh);
                fresh
            }
            None => match self.take_reserved(index) {
                Some(phys) => {
                    space.used -= 1;
                    space.hold(phys);
                    phys
                }
                None => {
                    let fresh = space.fresh(1)?;
                    space.hold(fresh);
                    fresh
                }
            },
        };
        Arc::make_mut(&mut self.blocks).insert(index, Block { phys, content });
        Ok(())
    }

    /// Takes one block out of the reserve and splits the rest.
    fn take_reserved(&mut self, index: u64) -> Option<u64> {
        let (start, (count, phys)) = self.reserved.range(..=index).next_back().map(|(s, r)| (*s, *r))?;
        let skip = index - start;
        if skip >= count {
            return None;
        }
        let reserved = Arc::make_mut(&mut self.reserved);
        reserved.remove(&start);
        if skip > 0 {
            reserved.insert(start, (skip, phys));
        }
        if skip + 1 < count {
            reserved.insert(index + 1, (count - skip - 1, phys + skip + 1));
        }
        Some(phys + skip)
    }

    /// Gives one written block back.
    pub(super) fn punch(&mut self, space: &mut Space, index: u64) {
        if let Some(block) = Arc::make_mut(&mut self.blocks).remove(&index) {
            space.drop_one(block.phys);
        }
    }

    /// Gives the whole reserve back; the number of bytes.
    pub(super) fn punch_reserved(&mut self, space: &mut Space) -> u64 {
        let blocks = self.reserved_blocks();
        space.used -= blocks.min(space.used);
        self.reserved = Arc::default();
        blocks * BLOCK
    }

    pub(super) fn set_len(&mut self, space: Option<&mut Space>, len: u64) {
        let end = len.div_ceil(BLOCK);
        let mut gone: Vec<u64> = self.blocks.range(end..).map(|(_, block)| block.phys).collect();
        if !gone.is_empty() {
            Arc::make_mut(&mut self.blocks).split_off(&end);
        }
        let tail = (len % BLOCK) as usize;
        if len < self.len
            && tail > 0
            && let Some(Block { content: Content::Bytes(bytes), .. }) =
                Arc::make_mut(&mut self.blocks).get_mut(&(len / BLOCK))
            && bytes.len() > tail
        {
            *bytes = bytes[..tail].into();
        }
        let mut freed = 0;
        if len < self.len && !self.reserved.is_empty() {
            let reserved = Arc::make_mut(&mut self.reserved);
            freed += reserved.split_off(&end).values().map(|(count, _)| count).sum::<u64>();
            if let Some((start, run)) = reserved.range_mut(..end).next_back()
                && start + run.0 > end
            {
                freed += start + run.0 - end;
                run.0 = end - start;
            }
        }
        if let Some(space) = space {
            gone.drain(..).for_each(|phys| space.drop_one(phys));
            space.used -= freed.min(space.used);
        }
        self.len = len;
    }

    /// Sets blocks aside for every hole.
    pub(super) fn reserve(&mut self, space: &mut Space) -> Step<()> {
        let holes = self.holes();
        let wanted: u64 = holes.iter().map(|(_, count)| count).sum();
        if space.used + wanted > space.total {
            return fail(Cause::NoSpace, "no space left on device");
        }
        for (start, count) in holes {
            let phys = space.fresh(count)?;
            space.used += count;
            Arc::make_mut(&mut self.reserved).insert(start, (count, phys));
        }
        Ok(())
    }

    fn holes(&self) -> Vec<(u64, u64)> {
        let end = self.len.div_ceil(BLOCK);
        let mut taken: Vec<(u64, u64)> = self.blocks.keys().map(|index| (*index, 1)).collect();
        taken.extend(self.reserved.iter().map(|(start, (count, _))| (*start, *count)));
        taken.sort_unstable();
        taken.push((end, 0));
        let mut holes = Vec::new();
        let mut at = 0;
        for (start, count) in taken {
            if start > at {
                holes.push((at, start - at));
            }
            at = at.max(start + count);
        }
        holes
    }

    /// What a reflink of this file holds. Space that is only set aside does not go along, as on XFS.
    pub(super) fn reflink(&self) -> Self {
        Data { len: self.len, blocks: self.blocks.clone(), reserved: Arc::default() }
    }

    /// All bytes, zeros for holes.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut out = vec![0; self.len as usize];
        for (index, block) in self.blocks.iter() {
            let at = (index * BLOCK) as usize;
            for (slot, byte) in out.iter_mut().skip(at).zip(block.content.render()) {
                *slot = byte;
            }
        }
        out
    }

    /// Up to `len` bytes from `offset` on.
    pub(super) fn bytes_at(&self, offset: u64, len: usize) -> Vec<u8> {
        let end = offset.saturating_add(len as u64).min(self.len);
        if end <= offset {
            return Vec::new();
        }
        let mut out = vec![0; (end - offset) as usize];
        for (index, block) in self.blocks.range(offset / BLOCK..end.div_ceil(BLOCK)) {
            for (at, byte) in (index * BLOCK..).zip(block.content.render()) {
                if (offset..end).contains(&at) {
                    out[(at - offset) as usize] = byte;
                }
            }
        }
        out
    }

    /// Allocated runs that end after byte `start`, adjoining ones merged.
    pub(super) fn extents(&self, space: &Space, start: u64, max: usize) -> Vec<Extent> {
        let written = self.blocks.iter().map(|(index, b)| (*index, 1, b.phys, space.shared(b.phys), false));
        let reserved =
            self.reserved.iter().map(|(index, (count, phys))| (*index, *count, *phys, false, true));
        let mut runs: Vec<_> = written.chain(reserved).collect();
        runs.sort_unstable();
        let mut out: Vec<Extent> = Vec::new();
        for (index, count, phys, shared, unwritten) in runs {
            let next = Extent {
                logical: index * BLOCK,
                physical: phys * BLOCK,
                len: count * BLOCK,
                shared,
                unwritten,
                encoded: false,
            };
            match out.last_mut() {
                Some(last)
                    if last.logical + last.len == next.logical
                        && last.physical + last.len == next.physical
                        && (last.shared, last.unwritten) == (shared, unwritten) =>
                {
                    last.len += next.len;
                }
                _ => out.push(next),
            }
        }
        out.retain(|extent| extent.logical + extent.len > start);
        if let Some(first) = out.first_mut().filter(|first| first.logical < start) {
            let skip = start - first.logical;
            *first =
                Extent { logical: start, physical: first.physical + skip, len: first.len - skip, ..*first };
        }
        out.truncate(max);
        out
    }
}
