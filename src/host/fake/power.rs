//! What a name, a length and a byte are worth when the power goes.
//!
//! The rule is that of a journalling filesystem, taken at its least generous: operations on names and lengths of one
//! filesystem become durable in the order in which they were made, up to the last sync of any file or directory on
//! it; the content of a file becomes durable only when that file is synced. A file whose name is durable and whose
//! content is not reads as zero length. So each pool keeps a log of how to undo what is not durable yet.

use super::data::Data;
use super::world::{Body, Dev, Ino, Inode, Step, World};

/// How to take one operation back.
#[derive(Debug, Clone)]
pub(super) enum Undo {
    /// A name was added.
    Added { dir: Ino, name: String },
    /// A name was taken away.
    Removed { dir: Ino, name: String, ino: Ino },
    /// A length was changed.
    Durable { ino: Ino, before: Option<Data> },
}

impl World {
    fn log(&mut self, fs: Dev, undo: Undo) -> Step<()> {
        let fs = self.fs_mut(fs)?;
        if fs.journal {
            fs.undo.push(undo);
        }
        Ok(())
    }

    /// Gives an inode a name.
    pub(super) fn link(&mut self, dir: Ino, name: &str, ino: Ino) -> Step<()> {
        let node = self.node_mut(dir)?;
        let fs = node.fs;
        if let Body::Dir { entries, .. } = &mut node.body {
            entries.insert(name.to_owned(), ino);
        }
        let node = self.node_mut(ino)?;
        node.parent = dir;
        name.clone_into(&mut node.name);
        node.linked = true;
        self.log(fs, Undo::Added { dir, name: name.to_owned() })
    }

    /// Takes a name away. Its inode lives on while a rename, a loop device or the undo log needs it.
    pub(super) fn unlink(&mut self, dir: Ino, name: &str) -> Step<Option<Ino>> {
        let node = self.node_mut(dir)?;
        let fs = node.fs;
        let Body::Dir { entries, .. } = &mut node.body else { return Ok(None) };
        let Some(ino) = entries.remove(name) else { return Ok(None) };
        self.node_mut(ino)?.linked = false;
        self.log(fs, Undo::Removed { dir, name: name.to_owned(), ino })?;
        Ok(Some(ino))
    }

    /// Gives the space of an inode back if nothing can reach it any more.
    pub(super) fn release(&mut self, ino: Ino) -> Step<()> {
        if self.node(ino)?.linked || self.backs_loop(ino) {
            return Ok(());
        }
        let World { inodes, filesystems, .. } = self;
        let Some(node) = inodes.get(&ino) else { return Ok(()) };
        if let Some(fs) = filesystems.get_mut(&node.fs) {
            if let Body::File(data) = &node.body {
                fs.space.drop_all(data);
            }
            fs.dead.push(ino);
            if !fs.journal {
                inodes.remove(&ino);
            }
        }
        Ok(())
    }

    /// Changes a file's length as an operation of the journal.
    pub(super) fn resize_file(&mut self, ino: Ino, len: u64) -> Step<()> {
        let fs = self.node(ino)?.fs;
        let (data, filesystem, durable) = self.file_mut(ino)?;
        let before = durable.clone();
        data.set_len(Some(&mut filesystem.space), len);
        if let Some(durable) = durable {
            durable.set_len(None, len);
        }
        self.log(fs, Undo::Durable { ino, before })
    }

    /// Everything that was done to the names of a filesystem so far is durable.
    pub(super) fn commit(&mut self, fs: Dev) -> Step<()> {
        let fs = self.fs_mut(fs)?;
        fs.undo.clear();
        let dead = std::mem::take(&mut fs.dead);
        for ino in dead {
            if self.inodes.get(&ino).is_some_and(|node| !node.linked) && !self.backs_loop(ino) {
                self.inodes.remove(&ino);
            }
        }
        Ok(())
    }

    /// Makes a file's content, and with it the filesystem's journal, durable.
    pub(super) fn harden(&mut self, ino: Ino) -> Step<()> {
        let fs = self.node(ino)?.fs;
        let (data, _, durable) = self.file_mut(ino)?;
        *durable = Some(data.clone());
        self.commit(fs)
    }

    /// An orderly shutdown and a start: everything is flushed; loop devices and mounts of images are gone.
    pub(super) fn reboot(&mut self) {
        let inside: Vec<Dev> = self.inside();
        for dev in inside {
            if let Some(inside) = self.filesystems.get_mut(&dev).and_then(|fs| fs.inside.as_mut()) {
                inside.frozen = false;
            }
            let _lost_if_the_pool_is_full = self.close_inside(dev);
        }
        self.start_anew();
        let files: Vec<Ino> = self.inodes.keys().copied().collect();
        for ino in files {
            if let Some(Inode { body: Body::File(data), durable, .. }) = self.inodes.get_mut(&ino) {
                *durable = Some(data.clone());
            }
        }
        let pools: Vec<Dev> = self.filesystems.keys().copied().collect();
        pools.into_iter().for_each(|dev| drop(self.commit(dev)));
        self.recount();
    }

    /// The power goes, and comes back.
    pub(super) fn power_cut(&mut self) {
        for dev in self.inside() {
            self.forget_fs(dev);
        }
        self.start_anew();
        let pools: Vec<Dev> =
            self.filesystems.iter().filter(|(_, fs)| fs.journal).map(|(dev, _)| *dev).collect();
        for dev in pools {
            let undo =
                self.filesystems.get_mut(&dev).map(|fs| std::mem::take(&mut fs.undo)).unwrap_or_default();
            for step in undo.into_iter().rev() {
                self.take_back(step);
            }
            for node in self.inodes.values_mut().filter(|node| node.fs == dev) {
                if let Body::File(data) = &mut node.body {
                    *data = node.durable.clone().unwrap_or_default();
                    node.durable = Some(data.clone());
                }
            }
        }
        self.recount();
    }

    fn take_back(&mut self, undo: Undo) {
        match undo {
            Undo::Added { dir, name } => {
                if let Some(Inode { body: Body::Dir { entries, .. }, .. }) = self.inodes.get_mut(&dir)
                    && let Some(ino) = entries.remove(&name)
                    && let Some(node) = self.inodes.get_mut(&ino)
                {
                    node.linked = false;
                }
            }
            Undo::Removed { dir, name, ino } => {
                if let Some(Inode { body: Body::Dir { entries, .. }, .. }) = self.inodes.get_mut(&dir) {
                    entries.insert(name.clone(), ino);
                }
                if let Some(node) = self.inodes.get_mut(&ino) {
                    node.parent = dir;
                    node.name = name;
                    node.linked = true;
                }
            }
            Undo::Durable { ino, before } => {
                if let Some(node) = self.inodes.get_mut(&ino) {
                    node.durable = before;
                }
            }
        }
    }

    /// What every boot begins with: no loop devices, no mounts but the first ones, another boot id.
    fn start_anew(&mut self) {
        self.loops.clear();
        self.locks.clear();
        let roots: Vec<(Dev, Ino)> = self.filesystems.iter().map(|(dev, fs)| (*dev, fs.root)).collect();
        self.mounts.retain(|mount| {
            roots.contains(&(mount.fs, mount.root))
                && self.filesystems.get(&mount.fs).is_some_and(|fs| fs.home == mount.target)
        });
        self.mounts.iter_mut().for_each(|mount| mount.opens = 0);
        self.boots += 1;
    }

    /// Drops inodes that no directory names, and counts the space of every filesystem anew.
    fn recount(&mut self) {
        let mut todo: Vec<Ino> = self.filesystems.values().map(|fs| fs.root).collect();
        let mut reached = std::collections::HashSet::new();
        while let Some(ino) = todo.pop() {
            if reached.insert(ino)
                && let Ok(entries) = self.entries(ino)
            {
                todo.extend(entries.values());
            }
        }
        let World { inodes, filesystems, .. } = self;
        inodes.retain(|ino, _| reached.contains(ino));
        for fs in filesystems.values_mut() {
            fs.space.clear();
            fs.dead.clear();
        }
        for node in inodes.values_mut() {
            node.linked = true;
            if let (Body::File(data), Some(fs)) = (&node.body, filesystems.get_mut(&node.fs)) {
                fs.space.hold_all(data);
            }
        }
    }
}
