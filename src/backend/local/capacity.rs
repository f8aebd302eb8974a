//! What the pool can hold: layouts, smallest and largest sizes, and room for what is new.

use super::pool::Pool;
use crate::backend::Capacity;
use crate::host::{FsStat, MkfsSpec};
use crate::volume::capacity::{Facts, Policy};
use crate::volume::size::{GIB, MIB};
use crate::volume::{Error, FsType, Layout, Result, Volume, mkfs_plan};

/// The largest image: no kernel filesystem below a volume needs more, and XFS and btrfs hold files of this size.
const MAX_IMAGE: u64 = 64 * 1024 * GIB;
/// The largest file of ext4, less one block, with its usual blocks of 4 KiB.
const MAX_EXT4_FILE: u64 = 16 * 1024 * GIB - 4096;
/// The first kernel that mounts two btrfs filesystems of one UUID, which copies have.
const BTRFS_COPIES: (u32, u32) = (6, 7);

impl Pool {
    pub(super) fn layout(&self, mount: bool, block: bool, fs: Option<FsType>) -> Result<Layout> {
        // A filesystem that was asked for by name is what the volume gets; a subvolume is what nobody asked for by name
        // but btrfs.
        if self.subvolumes && mount && !block && matches!(fs, None | Some(FsType::Btrfs)) {
            return Ok(Layout::Subvolume);
        }
        if let Some(fs) = fs.filter(|_| mount) {
            self.check_fs(fs)?;
        }
        Ok(Layout::Image)
    }

    /// Refuses a filesystem that this machine could not make or mount.
    fn check_fs(&self, fs: FsType) -> Result<()> {
        let name = fs.as_str();
        let refuse = |why: String| Err(Error::invalid("fsType", why));
        if self.host.program(&format!("mkfs.{name}")).is_none() {
            return refuse(format!("{name} cannot be made here: mkfs.{name} is not installed"));
        }
        if fs == FsType::Btrfs && self.facts.kernel < BTRFS_COPIES {
            let (major, minor) = self.facts.kernel;
            return refuse(format!(
                "Linux {major}.{minor} cannot mount a btrfs volume beside its copies: use Linux 6.7, or ext4 or xfs"
            ));
        }
        Ok(())
    }

    pub(super) fn limits(&self, layout: Layout, fs: FsType, mount: bool) -> (u64, u64) {
        let max = match self.info.filesystem.as_str() {
            "ext4" if layout == Layout::Image => MAX_EXT4_FILE,
            _ => MAX_IMAGE,
        };
        let min = if layout == Layout::Image && mount { mkfs_plan::min_size(fs) } else { MIB };
        (min, max)
    }

    pub(super) fn capacity(&self) -> Result<Capacity> {
        let stat = self.host.fs_stat(&self.names.dir)?;
        Ok(self.capacity_of(&stat))
    }

    pub(super) fn capacity_of(&self, stat: &FsStat) -> Capacity {
        let facts = Facts {
            size: stat.size,
            allocated: stat.size.saturating_sub(stat.available),
            fs_available: stat.available,
            // What was promised is in the records, which are the use cases'; so is the limit on it.
            logical: 0,
        };
        let room = Policy { overcommit_percent: None, ..self.policy }.room(&facts);
        Capacity {
            size: facts.size,
            available: room.available,
            allocated: facts.allocated,
            reserved: room.reserved,
        }
    }

    /// How a volume's image of `size` bytes is formatted.
    pub(super) fn mkfs_spec(&self, volume: &Volume, size: u64) -> Result<MkfsSpec> {
        let target = mkfs_plan::Target { size, kernel: self.facts.kernel, program: None };
        let args = mkfs_plan::args(volume.fs, &target, &volume.mkfs_options)?;
        Ok(MkfsSpec { fs: volume.fs.as_str().into(), args })
    }
}
