//! What a request may ask of a volume: access, filesystem, layout and the settings that can change later.

use serde::{Deserialize, Serialize};

/// A filesystem that Offshoot formats and mounts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FsType {
    /// ext4, the default: small, and every kernel has it.
    Ext4,
    /// XFS.
    Xfs,
    /// btrfs, inside an image or (on a btrfs pool) as a subvolume.
    Btrfs,
}

impl FsType {
    /// All of them, in the order in which messages list them.
    pub const ALL: [FsType; 3] = [FsType::Ext4, FsType::Xfs, FsType::Btrfs];

    /// The kernel's name for it.
    pub fn as_str(self) -> &'static str {
        match self {
            FsType::Ext4 => "ext4",
            FsType::Xfs => "xfs",
            FsType::Btrfs => "btrfs",
        }
    }

    /// The filesystem of that name.
    pub fn parse(name: &str) -> Option<Self> {
        FsType::ALL.into_iter().find(|fs| fs.as_str() == name)
    }
}

/// How a workload sees the volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AccessType {
    /// A raw block device.
    Block,
    /// A mounted filesystem.
    Mount {
        /// The filesystem that was asked for; `None` leaves it to the driver.
        fs: Option<FsType>,
        /// Mount options from the StorageClass or PV, not yet checked against the allow-list.
        flags: Vec<String>,
    },
}

/// CSI's access modes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are CSI's own")]
pub enum AccessMode {
    SingleNodeWriter,
    SingleNodeReaderOnly,
    MultiNodeReaderOnly,
    MultiNodeSingleWriter,
    MultiNodeMultiWriter,
    SingleNodeSingleWriter,
    SingleNodeMultiWriter,
}

impl AccessMode {
    /// Whether the mode lets nobody write.
    pub fn is_read_only(self) -> bool {
        matches!(self, AccessMode::SingleNodeReaderOnly | AccessMode::MultiNodeReaderOnly)
    }

    /// Whether the mode needs the volume on more than one node.
    pub fn is_multi_node(self) -> bool {
        use AccessMode::*;
        matches!(self, MultiNodeReaderOnly | MultiNodeSingleWriter | MultiNodeMultiWriter)
    }
}

/// One way in which a volume is to be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capability {
    /// Block or mount.
    pub access: AccessType,
    /// Who may write, and from where.
    pub mode: AccessMode,
}

/// How the bytes of a volume lie in its pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Layout {
    /// One file behind a loop device: serves block and mount.
    Image,
    /// A btrfs subvolume: serves mount only.
    Subvolume,
    /// Something that a remote backend keeps.
    Remote,
}

/// Whether the space of a volume is set aside when it is made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Provisioning {
    /// Space is taken as it is written.
    #[default]
    Thin,
    /// All space is taken at once and stays taken.
    Thick,
}

/// The settings that `ControllerModifyVolume` can change while the volume lives.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Mutable {
    /// Thin or thick.
    #[serde(default)]
    pub provisioning: Provisioning,
    /// Read-ahead of the block device in KiB; `None` keeps the kernel's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_ahead_kib: Option<u32>,
    /// Whether the loop device bypasses the page cache of the pool; `None` means wherever the pool can.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub direct_io: Option<bool>,
}
