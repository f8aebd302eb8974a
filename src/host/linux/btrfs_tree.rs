//! Questions to the metadata of btrfs: a subvolume's id, the ones inside it, its quota group.
//!
//! `BTRFS_IOC_TREE_SEARCH` gives raw items, little-endian as on the disk. Everything read from them is length-checked.

use std::collections::VecDeque;
use std::os::fd::AsFd;

use rustix::io::{Errno, Result};
use rustix::ioctl::{Opcode, opcode};

use super::ioctl::{self, Argument};
use crate::host::SubvolumeUsage;

const MAGIC: u8 = 0x94;

const ROOT_TREE: u64 = 1;
const QUOTA_TREE: u64 = 8;
const ROOT_REF: u32 = 156;
const GROUP_INFO: u32 = 242;
const GROUP_LIMIT: u32 = 244;
const LIMIT_REFERENCED: u64 = 1;
/// The inode of every subvolume's own root directory.
const ROOT_INODE: u64 = 256;

/// The head of an item in the answer.
const ITEM_HEAD: usize = 32;

/// `struct btrfs_ioctl_search_args`.
#[repr(C)]
struct Search {
    tree: u64,
    min_object: u64,
    max_object: u64,
    min_offset: u64,
    max_offset: u64,
    min_transaction: u64,
    max_transaction: u64,
    min_kind: u32,
    max_kind: u32,
    items: u32,
    unused: u32,
    more_unused: [u64; 4],
    answer: [u8; 3992],
}

/// `struct btrfs_ioctl_ino_lookup_args`.
#[repr(C)]
struct InodeLookup {
    tree: u64,
    object: u64,
    name: [u8; 4080],
}

/// `struct btrfs_ioctl_qgroup_create_args`.
#[repr(C)]
struct GroupCreate {
    create: u64,
    group: u64,
}

const TREE_SEARCH: Opcode = opcode::read_write::<Search>(MAGIC, 17);
const INO_LOOKUP: Opcode = opcode::read_write::<InodeLookup>(MAGIC, 18);
const QGROUP_CREATE: Opcode = opcode::write::<GroupCreate>(MAGIC, 42);

// SAFETY: integers only, laid out and sized as in linux/btrfs.h; a test holds the numbers, which have the sizes.
unsafe impl Argument<TREE_SEARCH> for Search {}
// SAFETY: as above.
unsafe impl Argument<INO_LOOKUP> for InodeLookup {}
// SAFETY: as above.
unsafe impl Argument<QGROUP_CREATE> for GroupCreate {}

/// An item of a tree.
struct Item {
    kind: u32,
    offset: u64,
    data: Vec<u8>,
}

/// The id of the subvolume that a descriptor lies in.
pub(super) fn id_of(fd: impl AsFd) -> Result<u64> {
    let mut lookup = Box::new(InodeLookup { tree: 0, object: ROOT_INODE, name: [0; 4080] });
    ioctl::update::<INO_LOOKUP, _>(fd, &mut *lookup)?;
    Ok(lookup.tree)
}

/// The items of one object in a tree, with kinds and offsets in the given bounds.
fn search(
    fd: impl AsFd,
    tree: u64,
    object: u64,
    kinds: (u32, u32),
    offsets: (u64, u64),
) -> Result<Vec<Item>> {
    let mut found = Vec::new();
    let mut from = (kinds.0, offsets.0);
    loop {
        let mut args = Box::new(Search {
            tree,
            min_object: object,
            max_object: object,
            min_offset: from.1,
            max_offset: offsets.1,
            min_transaction: 0,
            max_transaction: u64::MAX,
            min_kind: from.0,
            max_kind: kinds.1,
            items: u32::MAX,
            unused: 0,
            more_unused: [0; 4],
            answer: [0; 3992],
        });
        ioctl::update::<TREE_SEARCH, _>(&fd, &mut *args)?;
        let items = parse(&args.answer, args.items).ok_or(Errno::IO)?;
        let Some(last) = items.last() else { return Ok(found) };
        // The next key after the last one, in the order of the tree.
        from = match last.offset.checked_add(1) {
            Some(offset) => (last.kind, offset),
            None => (last.kind + 1, 0),
        };
        found.extend(items.into_iter().filter(|item| (offsets.0..=offsets.1).contains(&item.offset)));
        if from > (kinds.1, offsets.1) {
            return Ok(found);
        }
    }
}

/// Reads the items of an answer. `None` if one does not fit, which the kernel never does.
fn parse(mut bytes: &[u8], count: u32) -> Option<Vec<Item>> {
    let mut items = Vec::new();
    for _ in 0..count {
        let head = bytes.get(..ITEM_HEAD)?;
        let len = usize::try_from(native32(head.get(28..32)?)?).ok()?;
        items.push(Item {
            offset: native64(head.get(16..24)?)?,
            kind: native32(head.get(24..28)?)?,
            data: bytes.get(ITEM_HEAD..ITEM_HEAD + len)?.to_vec(),
        });
        bytes = &bytes[ITEM_HEAD + len..];
    }
    Some(items)
}

fn native64(bytes: &[u8]) -> Option<u64> {
    Some(u64::from_ne_bytes(bytes.try_into().ok()?))
}

fn native32(bytes: &[u8]) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.try_into().ok()?))
}

/// The `index`th 64-bit number of an item on the disk.
fn field(data: &[u8], index: usize) -> Option<u64> {
    Some(u64::from_le_bytes(data.get(index * 8..index * 8 + 8)?.try_into().ok()?))
}

/// The ids of all subvolumes inside one, at any depth, each after the one that it lies in.
pub(super) fn nested(fd: impl AsFd, id: u64) -> Result<Vec<u64>> {
    let mut found = Vec::new();
    let mut open = VecDeque::from([id]);
    while let Some(outer) = open.pop_front() {
        for item in search(&fd, ROOT_TREE, outer, (ROOT_REF, ROOT_REF), (0, u64::MAX))? {
            found.push(item.offset);
            open.push_back(item.offset);
        }
    }
    Ok(found)
}

/// The figures of a subvolume's quota group, as of the filesystem's last commit.
pub(super) fn group(fd: impl AsFd, id: u64) -> Result<Option<SubvolumeUsage>> {
    let mut usage = None;
    let mut limit = None;
    for item in search(fd, QUOTA_TREE, 0, (GROUP_INFO, GROUP_LIMIT), (id, id))? {
        let data = &item.data;
        match item.kind {
            GROUP_INFO => usage = field(data, 1).zip(field(data, 3)),
            GROUP_LIMIT if field(data, 0).is_some_and(|flags| flags & LIMIT_REFERENCED != 0) => {
                limit = field(data, 1)
            }
            _ => {}
        }
    }
    Ok(usage.map(|(referenced, exclusive)| SubvolumeUsage { referenced, exclusive, limit }))
}

/// Removes the quota group of a subvolume that is gone, as far as the kernel lets go of it yet: a group that is left
/// over costs a few bytes of metadata and limits nobody.
pub(super) fn drop_group(fd: impl AsFd, id: u64) {
    let mut args = GroupCreate { create: 0, group: id };
    let _ = ioctl::update::<QGROUP_CREATE, _>(fd, &mut args);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ioctl_numbers_are_those_of_the_kernels_headers() {
        assert_eq!((TREE_SEARCH, INO_LOOKUP, QGROUP_CREATE), (0xd000_9411, 0xd000_9412, 0x4010_942a));
    }

    #[test]
    fn an_answer_is_read_item_by_item_and_a_cut_one_is_refused() {
        fn item(kind: u32, offset: u64, data: &[u8]) -> Vec<u8> {
            let len = u32::try_from(data.len()).unwrap();
            [&[0; 16][..], &offset.to_ne_bytes(), &kind.to_ne_bytes(), &len.to_ne_bytes(), data].concat()
        }
        let answer = [item(242, 257, &[1; 40]), item(244, 257, &[2; 8])].concat();
        let items = parse(&answer, 2).unwrap();
        let seen: Vec<_> = items.iter().map(|item| (item.kind, item.offset, item.data.len())).collect();
        assert_eq!(seen, [(242, 257, 40), (244, 257, 8)]);
        assert!(parse(&answer[..answer.len() - 1], 2).is_none());
        assert!(parse(&answer, 3).is_none());
    }
}
