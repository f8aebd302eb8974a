//! The names of files in a pool, written and read in one place.
//!
//! What does not read back as one of these names is not ours, and is never touched.

use std::path::{Path, PathBuf};

use crate::volume::{ObjectId, SnapshotId, VolumeId};

/// The file that makes a directory a pool.
pub(super) const MARKER: &str = "offshoot-pool.json";
/// The marker while it is being written.
pub(super) const MARKER_NEW: &str = "offshoot-pool.json.new";
/// Where volumes lie.
pub(super) const VOLUMES: &str = "volumes";
/// Where snapshots lie.
pub(super) const SNAPSHOTS: &str = "snapshots";
/// Where freshly formatted images lie.
pub(super) const TEMPLATES: &str = "templates";

/// What a file or subvolume of an object is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// `ID.img`: a whole image.
    Image,
    /// `ID.sub`: a whole subvolume.
    Subvolume,
    /// `ID.new`: about to become the whole one.
    New,
    /// `ID.part`: the image of a volume whose bytes are still coming from another node.
    Partial,
    /// `ID.old`: the subvolume that a replacement put aside.
    Old,
    /// `ID.cut`: a snapshot that is taken but not sealed.
    Cut,
    /// A record, or a rewrite of one: the store's.
    Record,
}

impl Part {
    const ALL: [(Part, &'static str); 10] = [
        (Part::Image, "img"),
        (Part::Subvolume, "sub"),
        (Part::New, "new"),
        (Part::Partial, "part"),
        (Part::Old, "old"),
        (Part::Cut, "cut"),
        (Part::Record, "json"),
        (Part::Record, "creating"),
        (Part::Record, "deleting"),
        (Part::Record, "tmp"),
    ];

    fn suffix(self) -> &'static str {
        Part::ALL.iter().find(|(part, _)| *part == self).map_or("", |(_, suffix)| suffix)
    }
}

/// Reads a name back; `None` if it is none of ours.
pub(super) fn parse(name: &str) -> Option<(ObjectId, Part)> {
    let (stem, suffix) = name.split_once('.')?;
    let (part, _) = Part::ALL.iter().find(|(_, known)| *known == suffix)?;
    Some((stem.parse().ok()?, *part))
}

/// The names of the records that an object can have, without rewrites.
pub(super) fn records(id: ObjectId) -> [String; 3] {
    ["json", "creating", "deleting"].map(|suffix| format!("{id}.{suffix}"))
}

/// The paths of a pool.
#[derive(Debug, Clone)]
pub(super) struct Names {
    /// The pool's directory.
    pub(super) dir: PathBuf,
}

impl Names {
    pub(super) fn marker(&self) -> PathBuf {
        self.dir.join(MARKER)
    }

    pub(super) fn volumes(&self) -> PathBuf {
        self.dir.join(VOLUMES)
    }

    pub(super) fn snapshots(&self) -> PathBuf {
        self.dir.join(SNAPSHOTS)
    }

    pub(super) fn templates(&self) -> PathBuf {
        self.dir.join(TEMPLATES)
    }

    pub(super) fn volume(&self, id: VolumeId, part: Part) -> PathBuf {
        self.volumes().join(format!("{id}.{}", part.suffix()))
    }

    pub(super) fn snapshot(&self, id: SnapshotId, part: Part) -> PathBuf {
        self.snapshots().join(format!("{id}.{}", part.suffix()))
    }
}

/// The temporary name beside `path`, whose suffix it replaces.
pub(super) fn new_beside(path: &Path) -> PathBuf {
    path.with_extension(Part::New.suffix())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::volume::PoolId;

    #[test]
    fn every_name_reads_back_as_what_it_was_written_for() {
        let names = Names { dir: PathBuf::from("/pool") };
        let id = VolumeId::new(PoolId::random());
        for (part, _) in Part::ALL {
            let path = names.volume(id, part);
            let name = path.file_name().and_then(|name| name.to_str()).unwrap();
            assert_eq!(parse(name), Some((ObjectId::Volume(id), part)));
        }
    }

    #[test]
    fn a_name_of_another_form_is_not_ours() {
        for name in
            ["lost+found", "disk.img", "v-abc.img", "v-abcdefgh-00.img", ".img", "core", "v-.json.new"]
        {
            assert_eq!(parse(name), None, "{name}");
        }
    }
}
