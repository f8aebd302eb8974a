//! Request paths of the fake machine: what is there, making it and taking it away, and no link followed.

use std::path::Path;

use super::data::Data;
use super::world::{Body, Links, Step, World, fail};
use crate::host::{Cause, FileKind};

impl World {
    pub(super) fn target_kind(&self, path: &Path) -> Step<Option<FileKind>> {
        match self.maybe(path, Links::Refuse)? {
            Some((_, ino)) => self.kind(ino).map(Some),
            None => Ok(None),
        }
    }

    pub(super) fn make_target(&mut self, path: &Path, kind: FileKind) -> Step<bool> {
        if !matches!(kind, FileKind::File | FileKind::Directory) {
            return fail(Cause::Invalid, "a target is a directory or a file");
        }
        if let Some(there) = self.target_kind(path)? {
            // A bound device node covers the file that was made for it.
            let same = there == kind || (kind == FileKind::File && there == FileKind::BlockDevice);
            return if same { Ok(false) } else { fail(Cause::Exists, "the path is taken by another kind") };
        }
        let above: Vec<&Path> = path.ancestors().skip(1).collect();
        for dir in above.into_iter().rev() {
            let found = self.walk(dir, Links::Refuse)?;
            if found.ino.is_none() {
                self.writable(&found, found.parent)?;
                self.place_dir(&found, None)?;
            }
        }
        self.die_halfway()?;
        let found = self.walk(path, Links::Refuse)?;
        self.writable(&found, found.parent)?;
        match kind {
            FileKind::File => self.place_file(&found, Data::default(), Some(Data::default()))?,
            _ => self.place_dir(&found, None)?,
        };
        Ok(true)
    }

    pub(super) fn remove_target(&mut self, path: &Path) -> Step<bool> {
        let Some((found, ino)) = self.maybe(path, Links::Refuse)? else { return Ok(false) };
        if found.mounted {
            return fail(Cause::Busy, "a filesystem is mounted there");
        }
        match &self.node(ino)?.body {
            Body::Dir { entries, .. } if entries.is_empty() => {}
            Body::File(data) if data.len == 0 => {}
            Body::Dir { .. } | Body::File(_) => return fail(Cause::NotEmpty, "the target is not empty"),
            _ => return fail(Cause::Invalid, "the target is neither a directory nor a file"),
        }
        self.remove_entry(&found)
    }
}
