//! Files and directories of the fake machine.

use std::path::Path;

use super::data::{BLOCK, Content, Data};
use super::world::{Body, Fail, Found, Ino, Links, Step, World, fail};
use crate::host::{Cause, DirEntry, Extent, FileKind, FileMeta, FsStat};

/// The largest file that `read_file` reads.
const READ_MAX: u64 = 1 << 20;

impl World {
    pub(super) fn read_dir(&self, dir: &Path) -> Step<Vec<DirEntry>> {
        let (_, ino) = self.there(dir, Links::All)?;
        self.entries(ino)?
            .iter()
            .map(|(name, ino)| Ok(DirEntry { name: name.clone(), kind: self.kind(*ino)? }))
            .collect()
    }

    pub(super) fn metadata(&self, path: &Path) -> Step<Option<FileMeta>> {
        let Some((_, ino)) = self.maybe(path, Links::Inner)? else { return Ok(None) };
        self.meta_of(ino).map(Some)
    }

    pub(super) fn meta_of(&self, ino: Ino) -> Step<FileMeta> {
        let node = self.node(ino)?;
        let (len, allocated) = match &node.body {
            Body::File(data) => (data.len, data.allocated()),
            Body::Link(to) => (to.as_os_str().len() as u64, 0),
            _ => (0, 0),
        };
        let rdev = if let Body::Node(rdev) = node.body { rdev } else { 0 };
        let dev = match self.subvolume_of(ino) {
            Some((_, subvolume)) => subvolume.dev,
            None => node.fs,
        };
        Ok(FileMeta { kind: self.kind(ino)?, len, allocated, dev, ino, rdev })
    }

    pub(super) fn read_file(&self, path: &Path) -> Step<Option<Vec<u8>>> {
        let Some((_, ino)) = self.maybe(path, Links::Inner)? else { return Ok(None) };
        let data = self.file(ino)?;
        if data.len > READ_MAX {
            return fail(Cause::Invalid, "the file is larger than 1 MiB");
        }
        Ok(Some(data.bytes()))
    }

    /// The place of a new name: free, and on something that takes writes.
    pub(super) fn free_place(&self, path: &Path) -> Step<Found> {
        let found = self.walk(path, Links::Inner)?;
        if found.ino.is_some() {
            return fail(Cause::Exists, "file exists");
        }
        self.writable(&found, found.parent)?;
        Ok(found)
    }

    /// Puts a new file at a free place.
    pub(super) fn place_file(&mut self, found: &Found, data: Data, durable: Option<Data>) -> Step<Ino> {
        let fs = self.node(found.parent)?.fs;
        let ino = self.new_inode(fs, Body::File(data));
        self.node_mut(ino)?.durable = durable;
        self.link(found.parent, &found.name, ino)?;
        Ok(ino)
    }

    pub(super) fn write_file(&mut self, path: &Path, bytes: &[u8]) -> Step<()> {
        let found = self.free_place(path)?;
        let ino = self.place_file(&found, Data::default(), None)?;
        let bytes = if self.halfway { &bytes[..bytes.len() / 2] } else { bytes };
        let done = self.overwrite(ino, bytes);
        if done.is_err() {
            self.unlink(found.parent, &found.name)?;
            self.release(ino)?;
        }
        done?;
        self.die_halfway()
    }

    /// Replaces all bytes of a file.
    pub(super) fn overwrite(&mut self, ino: Ino, bytes: &[u8]) -> Step<()> {
        let blocks = (bytes.len() as u64).div_ceil(BLOCK) * BLOCK;
        let have = self.file(ino)?.allocated();
        self.within_limit(ino, blocks.saturating_sub(have))?;
        let cow = self.fs(self.node(ino)?.fs)?.kind == "btrfs";
        let (data, fs, _) = self.file_mut(ino)?;
        data.set_len(Some(&mut fs.space), bytes.len() as u64);
        for (index, chunk) in bytes.chunks(BLOCK as usize).enumerate() {
            data.write(&mut fs.space, cow, index as u64, Content::Bytes(chunk.into()))?;
        }
        Ok(())
    }

    pub(super) fn read_at(&self, path: &Path, offset: u64, len: usize) -> Step<Vec<u8>> {
        let (_, ino) = self.there(path, Links::Inner)?;
        Ok(self.file(ino)?.bytes_at(offset, len))
    }

    pub(super) fn write_at(&mut self, path: &Path, offset: u64, bytes: &[u8]) -> Step<()> {
        let ino = self.file_to_change(path)?;
        let len = self.file(ino)?.len;
        if offset.checked_add(bytes.len() as u64).is_none_or(|end| end > len) {
            return fail(Cause::Invalid, "the bytes reach beyond the end of the file");
        }
        let bytes = if self.halfway { &bytes[..bytes.len() / 2] } else { bytes };
        let cow = self.fs(self.node(ino)?.fs)?.kind == "btrfs";
        let (data, fs, _) = self.file_mut(ino)?;
        let mut at = offset;
        let end = offset + bytes.len() as u64;
        while at < end {
            let (index, inside) = (at / BLOCK, (at % BLOCK) as usize);
            let upto = end.min((index + 1) * BLOCK);
            let mut block = data.content(index).map_or_else(|| vec![0; BLOCK as usize], Content::render);
            let new = &bytes[(at - offset) as usize..(upto - offset) as usize];
            block[inside..inside + new.len()].copy_from_slice(new);
            data.write(&mut fs.space, cow, index, Content::parse(&block))?;
            at = upto;
        }
        self.die_halfway()
    }

    pub(super) fn create_file(&mut self, path: &Path, len: u64) -> Step<()> {
        let found = self.free_place(path)?;
        let len = if self.halfway { 0 } else { len };
        self.place_file(&found, Data::sparse(len), Some(Data::sparse(len)))?;
        self.die_halfway()
    }

    /// A file that is to be changed.
    pub(super) fn file_to_change(&self, path: &Path) -> Step<Ino> {
        let (found, ino) = self.there(path, Links::Inner)?;
        self.file(ino)?;
        self.writable(&found, ino)?;
        Ok(ino)
    }

    pub(super) fn set_len(&mut self, path: &Path, len: u64) -> Step<()> {
        let ino = self.file_to_change(path)?;
        self.resize_file(ino, len)
    }

    pub(super) fn allocate(&mut self, path: &Path) -> Step<()> {
        let ino = self.file_to_change(path)?;
        let (data, fs, _) = self.file_mut(ino)?;
        data.reserve(&mut fs.space)
    }

    pub(super) fn deallocate_zeros(&mut self, path: &Path) -> Step<()> {
        let ino = self.file_to_change(path)?;
        let (data, fs, _) = self.file_mut(ino)?;
        let zeros: Vec<u64> =
            data.blocks.iter().filter(|(_, b)| b.content.is_zero()).map(|(index, _)| *index).collect();
        zeros.into_iter().for_each(|index| data.punch(&mut fs.space, index));
        data.punch_reserved(&mut fs.space);
        Ok(())
    }

    pub(super) fn clone_file(&mut self, from: &Path, to: &Path) -> Step<()> {
        let (_, source) = self.there(from, Links::Inner)?;
        let data = self.file(source)?.reflink();
        let found = self.free_place(to)?;
        let fs = self.node(found.parent)?.fs;
        if fs != self.node(source)?.fs {
            return fail(Cause::Unsupported, "the two files lie on different filesystems");
        }
        if !matches!(self.fs(fs)?.kind.as_str(), "xfs" | "btrfs") {
            return fail(Cause::Unsupported, "the filesystem has no reflink");
        }
        if self.halfway {
            self.place_file(&found, Data::default(), None)?;
            return self.die_halfway();
        }
        self.fs_mut(fs)?.space.hold_all(&data);
        self.place_file(&found, data, None)?;
        Ok(())
    }

    /// Bytes that a sparse copy of `from` to `to` has to write, if it may begin.
    pub(super) fn copy_begin(&self, from: &Path, to: &Path) -> Step<u64> {
        let (_, source) = self.there(from, Links::Inner)?;
        let total = self.file(source)?.blocks.len() as u64 * BLOCK;
        self.free_place(to)?;
        Ok(total)
    }

    pub(super) fn copy_end(&mut self, from: &Path, to: &Path) -> Step<()> {
        let (_, source) = self.there(from, Links::Inner)?;
        let data = self.file(source)?.clone();
        let found = self.free_place(to)?;
        let ino = self.place_file(&found, Data::sparse(data.len), None)?;
        let until = if self.halfway { data.blocks.len() / 2 } else { data.blocks.len() };
        let (copy, fs, _) = self.file_mut(ino)?;
        let done =
            data.blocks.iter().take(until).try_for_each(|(index, block)| {
                copy.write(&mut fs.space, false, *index, block.content.clone())
            });
        if done.is_err() {
            self.unlink(found.parent, &found.name)?;
            self.release(ino)?;
        }
        done?;
        self.die_halfway()
    }

    pub(super) fn sync_file(&mut self, path: &Path) -> Step<()> {
        let (_, ino) = self.there(path, Links::Inner)?;
        // Flushing a loop device flushes the file behind it.
        let ino = match self.node(ino)?.body {
            Body::Node(_) => self.loop_at(path)?.1.image,
            _ => ino,
        };
        self.file(ino)?;
        self.harden(ino)?;
        self.sync_around(ino)
    }

    pub(super) fn sync_dir(&mut self, dir: &Path) -> Step<()> {
        let (_, ino) = self.there(dir, Links::All)?;
        self.entries(ino)?;
        self.commit(self.node(ino)?.fs)?;
        self.sync_around(ino)
    }

    /// A sync inside a mounted image reaches the image, and through it the disk.
    fn sync_around(&mut self, ino: Ino) -> Step<()> {
        let fs = self.node(ino)?.fs;
        if self.fs(fs)?.inside.is_some() { self.flush_inside(fs, true) } else { Ok(()) }
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> Step<()> {
        let (old, ino) = self.there(from, Links::Inner)?;
        let new = self.walk(to, Links::Inner)?;
        if old.mounted || new.mounted {
            return fail(Cause::Busy, "a filesystem is mounted there");
        }
        self.writable(&old, old.parent)?;
        self.writable(&new, new.parent)?;
        if self.node(old.parent)?.fs != self.node(new.parent)?.fs {
            return fail(Cause::Unsupported, "the two names lie on different filesystems");
        }
        if new.ino == Some(ino) {
            return Ok(());
        }
        if let Some(victim) = new.ino {
            match (self.kind(ino)?, self.kind(victim)?) {
                (FileKind::Directory, FileKind::Directory) if self.entries(victim)?.is_empty() => {}
                (FileKind::Directory, FileKind::Directory) => {
                    return fail(Cause::NotEmpty, "directory not empty");
                }
                (FileKind::Directory, _) | (_, FileKind::Directory) => {
                    return fail(Cause::Invalid, "a file and a directory do not replace each other");
                }
                _ => {}
            }
            self.unlink(new.parent, &new.name)?;
        }
        self.unlink(old.parent, &old.name)?;
        self.link(new.parent, &new.name, ino)?;
        match new.ino {
            Some(victim) => self.release(victim),
            None => Ok(()),
        }
    }

    pub(super) fn remove_file(&mut self, path: &Path) -> Step<bool> {
        let Some((found, ino)) = self.maybe(path, Links::Inner)? else { return Ok(false) };
        if self.kind(ino)? == FileKind::Directory {
            return fail(Cause::Invalid, "it is a directory");
        }
        self.remove_entry(&found)
    }

    /// Takes one name away, unless something is mounted on it.
    pub(super) fn remove_entry(&mut self, found: &Found) -> Step<bool> {
        if found.mounted {
            return fail(Cause::Busy, "a filesystem is mounted there");
        }
        self.writable(found, found.parent)?;
        if let Some(ino) = self.unlink(found.parent, &found.name)? {
            self.release(ino)?;
        }
        Ok(true)
    }

    pub(super) fn make_dir(&mut self, path: &Path) -> Step<bool> {
        let found = self.walk(path, Links::Inner)?;
        match found.ino {
            Some(ino) if self.kind(ino)? == FileKind::Directory => return Ok(false),
            Some(_) => return fail(Cause::Exists, "something that is no directory is there"),
            None => self.writable(&found, found.parent)?,
        }
        self.place_dir(&found, None)?;
        Ok(true)
    }

    /// Puts a new directory, or subvolume, at a free place.
    pub(super) fn place_dir(
        &mut self,
        found: &Found,
        subvolume: Option<super::world::Subvolume>,
    ) -> Step<Ino> {
        let fs = self.node(found.parent)?.fs;
        let ino = self.new_inode(fs, Body::Dir { entries: Default::default(), subvolume });
        self.link(found.parent, &found.name, ino)?;
        Ok(ino)
    }

    pub(super) fn remove_dir(&mut self, path: &Path) -> Step<bool> {
        let Some((found, ino)) = self.maybe(path, Links::Inner)? else { return Ok(false) };
        match self.entries(ino) {
            Ok(entries) if !entries.is_empty() && !found.mounted => {
                return fail(Cause::NotEmpty, "directory not empty");
            }
            Ok(_) => {}
            Err(error) => return Err(error),
        }
        self.remove_entry(&found)
    }

    pub(super) fn extents(&self, path: &Path, start: u64, max: usize) -> Step<Vec<Extent>> {
        let (_, ino) = self.there(path, Links::Inner)?;
        let fs = self.fs(self.node(ino)?.fs)?;
        Ok(self.file(ino)?.extents(&fs.space, start, max))
    }

    pub(super) fn fs_stat(&self, path: &Path) -> Step<FsStat> {
        let (found, ino) = self.there(path, Links::All)?;
        let dev = self.node(ino)?.fs;
        let fs = self.fs(dev)?;
        Ok(FsStat {
            fs: fs.kind.clone(),
            size: fs.space.total * BLOCK,
            available: fs.space.total.saturating_sub(fs.space.used) * BLOCK,
            read_only: fs.read_only || self.mounts[found.mount].read_only,
            dev: self.meta_of(ino)?.dev,
        })
    }

    /// The second half of a call that dies in the middle does not happen.
    pub(super) fn die_halfway(&self) -> Step<()> {
        if self.halfway {
            Err(Fail(Cause::Crashed, "the process dies in the middle of the call".into()))
        } else {
            Ok(())
        }
    }
}
