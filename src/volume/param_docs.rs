//! The table of all parameters: what parsing asks, and what `docs/parameters.md` is made from.
//!
//! One table for both, so that a key cannot be documented and unknown, or known and undocumented.

/// Where a parameter may be given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// `parameters` of a StorageClass.
    StorageClass,
    /// `parameters` of a VolumeAttributesClass: these can change while the volume lives.
    AttributesClass,
    /// `volumeAttributes` of an inline ephemeral volume in a pod.
    Inline,
    /// `parameters` of a VolumeSnapshotClass or VolumeGroupSnapshotClass.
    SnapshotClass,
}

impl Place {
    /// The request's field, for messages.
    pub(super) fn field(self) -> &'static str {
        match self {
            Place::StorageClass | Place::SnapshotClass => "parameters",
            Place::AttributesClass => "mutable_parameters",
            Place::Inline => "volume_context",
        }
    }
}

/// What a person should know about one parameter.
#[derive(Debug, Clone, Copy)]
pub struct ParamDoc {
    /// The key.
    pub key: &'static str,
    /// Where it may be given.
    pub places: &'static [Place],
    /// What it may be.
    pub values: &'static str,
    /// What it is when it is not given.
    pub default: &'static str,
    /// What it does.
    pub meaning: &'static str,
}

const CREATE: &[Place] = &[Place::StorageClass, Place::Inline];
const CREATE_OR_MODIFY: &[Place] = &[Place::StorageClass, Place::AttributesClass, Place::Inline];

/// Every parameter of our own.
pub const DOCS: &[ParamDoc] = &[
    ParamDoc {
        key: "pool",
        places: CREATE,
        values: "the name of a pool",
        default: "any pool with room",
        meaning: "The pool that the volume is made in.",
    },
    ParamDoc {
        key: "fsType",
        places: CREATE,
        values: "`ext4`, `xfs`, `btrfs`",
        default: "that of the claim's capability, else `ext4`",
        meaning: "The filesystem of a new volume. The same as `csi.storage.k8s.io/fstype`.",
    },
    ParamDoc {
        key: "mkfsOptions",
        places: CREATE,
        values: "words with spaces between, such as `-i 8192`",
        default: "none",
        meaning: "Further options for mkfs, from an allow-list per filesystem.",
    },
    ParamDoc {
        key: "provisioning",
        places: CREATE_OR_MODIFY,
        values: "`thin`, `thick`",
        default: "`thin`",
        meaning: "Whether space is taken as it is written, or all at once when the volume is made.",
    },
    ParamDoc {
        key: "discard",
        places: CREATE,
        values: "`true`, `false`",
        default: "`true`; `false` for thick volumes",
        meaning: "Whether deleted bytes go back to the pool. A thick volume keeps them, so `true` is refused for it.",
    },
    ParamDoc {
        key: "layout",
        places: CREATE,
        values: "`auto`, `image`, `subvolume`",
        default: "`auto`",
        meaning: "How the bytes lie in the pool: a file behind a loop device, or (btrfs pools, filesystem volumes only) a subvolume.",
    },
    ParamDoc {
        key: "readAheadKiB",
        places: CREATE_OR_MODIFY,
        values: "`0` to `1048576`, `auto`",
        default: "`auto`: the kernel's own",
        meaning: "Read-ahead of the volume's block device; without effect on a subvolume, which has none.",
    },
    ParamDoc {
        key: "directIO",
        places: CREATE_OR_MODIFY,
        values: "`true`, `false`, `auto`",
        default: "`auto`: wherever the pool can",
        meaning: "Whether the loop device bypasses the page cache of the pool.",
    },
    ParamDoc {
        key: "allowBlockToFilesystem",
        places: &[Place::StorageClass],
        values: "`true`, `false`",
        default: "`false`",
        meaning: "Whether bytes that a workload wrote through a raw device may be mounted as a filesystem. The kernel trusts what it mounts, so only for writers that are trusted.",
    },
    ParamDoc {
        key: "allowRemoteCopy",
        places: &[Place::StorageClass],
        values: "`true`, `false`",
        default: "`false`",
        meaning: "Whether a restore or clone that cannot be on the node of its source is made on another one, by sending every allocated byte over the network. Without it the answer is that there is no room.",
    },
    ParamDoc {
        key: "size",
        places: &[Place::Inline],
        values: "a size such as `5Gi`",
        default: "`1Gi`",
        meaning: "The size of an inline ephemeral volume.",
    },
];
