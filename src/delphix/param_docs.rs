//! The table of all parameters of a StorageClass of the Delphix driver: what parsing asks, and what its page is made from.
//!
//! One table for both, so that a key cannot be documented and unknown, or known and undocumented.

use crate::volume::param_docs::{ParamDoc, Place};

const CLASS: &[Place] = &[Place::StorageClass];
const BOTH: &[Place] = &[Place::StorageClass, Place::SnapshotClass];

const fn doc(
    key: &'static str,
    values: &'static str,
    default: &'static str,
    meaning: &'static str,
) -> ParamDoc {
    ParamDoc { key, places: CLASS, values, default, meaning }
}

/// Every parameter of our own.
pub const DOCS: &[ParamDoc] = &[
    doc("dct", "the name of a configured DCT", "the only one", "The Data Control Tower to ask."),
    doc(
        "source",
        "id or name of a dSource or VDB",
        "an empty volume",
        "What new volumes are a copy of. A name that several have is refused with their ids.",
    ),
    doc(
        "sourceSnapshot",
        "id of a snapshot",
        "the newest one",
        "The snapshot of the source to copy. Excludes sourceTimestamp and sourceBookmark.",
    ),
    doc(
        "sourceTimestamp",
        "a time such as `2026-01-31T08:00:00Z`",
        "the newest snapshot",
        "The point in time of the source to copy.",
    ),
    doc(
        "sourceBookmark",
        "id or name of a bookmark with one VDB",
        "the newest snapshot",
        "The bookmark to copy. The source may be left out.",
    ),
    doc(
        "engine",
        "id or name of an engine",
        "that of the source",
        "Where to look for the source, the environment and the group.",
    ),
    doc(
        "environment",
        "id or name of an environment",
        "the only one that fits",
        "The host on which the engine provisions, and whose export list lets nodes in.",
    ),
    doc(
        "repository",
        "id or name of a repository",
        "the only one that fits",
        "The repository of the environment.",
    ),
    doc("group", "id or name of a group", "as the DCT chooses", "The dataset group of new VDBs."),
    doc(
        "mountBase",
        "an absolute path",
        "as the DCT chooses",
        "Where the environment's host mounts a new VDB while it is made: below this, by its name.",
    ),
    doc(
        "ownership",
        "`UID:GID`",
        "as the environment's user",
        "Whom the files belong to when a node has the volume. Needs DCT 2025.2 or later.",
    ),
    doc(
        "containerMode",
        "`auto`, `true`, `false`",
        "`auto`",
        "Whether the engine makes and enables VDBs for containers, so that its host mounts nothing. `auto` asks for it \
         where the DCT knows it.",
    ),
    doc("retentionPolicy", "id of a policy", "the engine's", "The retention policy of new VDBs."),
    doc("snapshotPolicy", "id of a policy", "the engine's", "The snapshot policy of new VDBs."),
    doc("masked", "`true`, `false`", "`false`", "Whether new VDBs are marked as masked."),
    doc(
        "hooks",
        "a JSON object such as `{\"post_refresh\":[{\"name\":\"a\",\"command\":\"/opt/a\"}]}`",
        "none",
        "What the environment's host runs around the engine's operations.",
    ),
    ParamDoc {
        key: "tags",
        places: BOTH,
        values: "`key=value,key=value`",
        default: "none",
        meaning: "More tags for new VDBs (or, in a VolumeSnapshotClass, bookmarks). Keys that begin with `offshoot-` are ours.",
    },
    doc(
        "nfsVersion",
        "`3`, `4`, `4.1`, `4.2`",
        "as the engine says, else `4.1`",
        "The protocol that nodes mount with.",
    ),
];

/// The five annotations of the vendor's driver 1.0, and what they override here.
pub const ANNOTATIONS: [(&str, &str); 5] = [
    ("sourceDBName", "source"),
    ("envName", "environment"),
    ("vdbGroupName", "group"),
    ("vdbRepositoryName", "repository"),
    ("vdbStageMountpath", "mountBase"),
];
