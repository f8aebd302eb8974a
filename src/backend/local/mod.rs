//! Volumes as files on the node's own disks.
//!
//! A pool is a directory on a filesystem that can share blocks between files (XFS, btrfs). A volume is a sparse image
//! file behind a loop device, or a subvolume on btrfs; a snapshot is another such file that shares its blocks. Without
//! block sharing everything still works by copying, and every surface says so.
//!
//! Each call is repeatable because of one rule about names: **an `ID.img` or `ID.sub` is always whole.** Whatever is
//! made in more than one step is made at `ID.new` (or `ID.cut`) and renamed. So a crash leaves either the old bytes or
//! the new ones, and a temporary name that nobody in this process works on is proven left-over.
//!
//! Calls of the host block. Each method of the trait is one plain function of [`pool::Pool`] that runs on a blocking
//! thread from its first host call to its last.

mod attach;
mod capacity;
mod changed;
mod claims;
mod extents;
mod file_pool;
mod format;
mod health;
mod image;
mod leftovers;
mod mounted;
mod names;
mod pool;
mod receive;
mod snapshot;
mod subvolume;
mod templates;
mod usage;

#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;

use super::{
    Attachment, Backend, Capacity, Fault, Known, Leftover, Origin, PoolInfo, Progress, Received, Run, Usage,
    Use,
};
use crate::host::{Host, MountEntry};
use crate::volume::{Error, FsType, Layout, Mutable, Result, Snapshot, Volume, VolumeId, size};

pub use file_pool::{attach_file_pool, create_in_file, remove_unfinished};
pub use pool::PoolConfig;

use pool::Pool;

/// A pool in a directory of this machine.
pub struct Local {
    pool: Arc<Pool>,
}

impl Local {
    /// Opens the pool of `config`, or makes it where that is asked for and its directory is empty.
    ///
    /// Fails with [`crate::volume::Kind::Precondition`] for a place where a pool cannot be: a container's own overlay,
    /// memory, a read-only filesystem, a directory with other files, a pool of a newer version. Blocks.
    pub fn open(host: Arc<dyn Host>, config: PoolConfig) -> Result<Local> {
        Ok(Local { pool: Arc::new(Pool::open(host, config)?) })
    }

    /// Runs `work` from beginning to end on a blocking thread.
    async fn hop<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Pool) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let pool = Arc::clone(&self.pool);
        match tokio::task::spawn_blocking(move || work(&pool)).await {
            Ok(result) => result,
            Err(error) => Err(Error::internal(format!("the work on the pool did not end: {error}"))),
        }
    }
}

/// The volume as this backend keeps it: in whole granules, whatever size its caller was told.
fn own(volume: &Volume) -> Volume {
    Volume { size: size::kept(volume.size), ..volume.clone() }
}

/// As [`own`], for a snapshot.
fn own_snapshot(snapshot: &Snapshot) -> Snapshot {
    Snapshot { size: size::kept(snapshot.size), ..snapshot.clone() }
}

/// [`Origin`] by value, to be sent to a blocking thread.
enum OwnedOrigin {
    Snapshot(Snapshot),
    Volume(Volume),
}

impl OwnedOrigin {
    fn of(origin: Origin<'_>) -> Self {
        match origin {
            Origin::Snapshot(snapshot) => OwnedOrigin::Snapshot(own_snapshot(snapshot)),
            Origin::Volume(volume) => OwnedOrigin::Volume(own(volume)),
        }
    }

    fn borrow(&self) -> Origin<'_> {
        match self {
            OwnedOrigin::Snapshot(snapshot) => Origin::Snapshot(snapshot),
            OwnedOrigin::Volume(volume) => Origin::Volume(volume),
        }
    }
}

#[async_trait]
impl Backend for Local {
    fn info(&self) -> &PoolInfo {
        &self.pool.info
    }

    fn records(&self) -> &Path {
        &self.pool.names.dir
    }

    fn layout(&self, mount: bool, block: bool, fs: Option<FsType>) -> Result<Layout> {
        self.pool.layout(mount, block, fs)
    }

    fn limits(&self, layout: Layout, fs: FsType, mount: bool) -> (u64, u64) {
        self.pool.limits(layout, fs, mount)
    }

    async fn capacity(&self) -> Result<Capacity> {
        self.hop(|pool| pool.capacity()).await
    }

    async fn faults(&self) -> Vec<Fault> {
        self.hop(|pool| Ok(pool.faults())).await.unwrap_or_else(|error| vec![health::unknown(&error)])
    }

    async fn buffered_devices(&self) -> Result<u64> {
        self.hop(|pool| {
            let devices = pool.host.loops_below(&pool.names.volumes())?;
            Ok(devices.iter().filter(|device| !device.direct_io).count() as u64)
        })
        .await
    }

    async fn needs_freeze(&self, volume: &Volume) -> Result<bool> {
        let volume = own(volume);
        self.hop(move |pool| pool.needs_freeze(&volume)).await
    }

    async fn create(&self, volume: &Volume, origin: Option<Origin<'_>>, progress: Progress) -> Result<()> {
        let (volume, origin) = (own(volume), origin.map(OwnedOrigin::of));
        self.hop(move |pool| pool.create(&volume, origin.as_ref().map(OwnedOrigin::borrow), &progress)).await
    }

    async fn settle(&self, volume: &Volume, from_copy: bool) -> Result<()> {
        // Not worth a thread where there is nothing to do, as for every blank volume.
        if !self.pool.has_to_settle(volume, from_copy) {
            return Ok(());
        }
        let volume = own(volume);
        self.hop(move |pool| pool.settle(&volume, from_copy)).await
    }

    async fn delete(&self, volume: &Volume) -> Result<()> {
        let volume = own(volume);
        self.hop(move |pool| pool.delete(&volume)).await
    }

    async fn cut(&self, volume: &Volume, snapshot: &Snapshot, progress: Progress) -> Result<()> {
        let (volume, snapshot) = (own(volume), own_snapshot(snapshot));
        self.hop(move |pool| pool.cut(&volume, &snapshot, &progress)).await
    }

    async fn seal(&self, snapshot: &Snapshot) -> Result<()> {
        let snapshot = own_snapshot(snapshot);
        self.hop(move |pool| pool.seal(&snapshot)).await
    }

    async fn delete_snapshot(&self, snapshot: &Snapshot) -> Result<()> {
        let snapshot = own_snapshot(snapshot);
        self.hop(move |pool| pool.delete_snapshot(&snapshot)).await
    }

    async fn replace(&self, volume: &Volume, from: &Snapshot, progress: Progress) -> Result<()> {
        let (volume, from) = (own(volume), own_snapshot(from));
        self.hop(move |pool| pool.replace(&volume, &from, &progress)).await
    }

    async fn grow(&self, volume: &Volume, to: u64) -> Result<bool> {
        let volume = own(volume);
        self.hop(move |pool| pool.grow(&volume, size::kept(to))).await
    }

    async fn modify(&self, volume: &Volume, to: &Mutable) -> Result<()> {
        let (volume, to) = (own(volume), to.clone());
        self.hop(move |pool| pool.modify(&volume, &to)).await
    }

    async fn attach(&self, volume: &Volume, how: Use) -> Result<Attachment> {
        let volume = own(volume);
        self.hop(move |pool| pool.attach(&volume, how)).await
    }

    async fn attached(&self, volume: &Volume) -> Result<Vec<Attachment>> {
        let volume = own(volume);
        self.hop(move |pool| pool.attached(&volume)).await
    }

    async fn mounted(&self) -> Result<Vec<(VolumeId, MountEntry)>> {
        self.hop(|pool| pool.mounted()).await
    }

    async fn detach(&self, volume: &Volume) -> Result<()> {
        let volume = own(volume);
        self.hop(move |pool| pool.detach(&volume)).await
    }

    async fn grow_mounted(&self, volume: &Volume, target: &Path) -> Result<()> {
        let (volume, target) = (own(volume), target.to_owned());
        self.hop(move |pool| pool.grow_mounted(&volume, &target)).await
    }

    async fn volume_faults(&self, volume: &Volume) -> Vec<Fault> {
        let volume = own(volume);
        let faults = self.hop(move |pool| Ok(pool.volume_faults(&volume))).await;
        faults.unwrap_or_else(|error| vec![health::unknown(&error)])
    }

    async fn volume_usage(&self, volume: &Volume) -> Result<Usage> {
        let volume = own(volume);
        self.hop(move |pool| pool.volume_usage(&volume)).await
    }

    async fn snapshot_usage(&self, snapshot: &Snapshot) -> Result<Usage> {
        let snapshot = own_snapshot(snapshot);
        self.hop(move |pool| pool.snapshot_usage(&snapshot)).await
    }

    async fn changed(
        &self,
        base: Option<&Snapshot>,
        target: &Snapshot,
        start: u64,
        max: usize,
    ) -> Result<Vec<Run>> {
        let (base, target) = (base.map(own_snapshot), own_snapshot(target));
        self.hop(move |pool| pool.changed(base.as_ref(), &target, start, max)).await
    }

    async fn read(&self, snapshot: &Snapshot, offset: u64, len: usize) -> Result<Vec<u8>> {
        let snapshot = own_snapshot(snapshot);
        self.hop(move |pool| pool.read(&snapshot, offset, len)).await
    }

    async fn receive_begin(&self, volume: &Volume, begun: bool) -> Result<Received> {
        let volume = own(volume);
        self.hop(move |pool| pool.receive_begin(&volume, begun)).await
    }

    async fn receive(&self, volume: &Volume, offset: u64, bytes: Vec<u8>) -> Result<()> {
        let volume = own(volume);
        self.hop(move |pool| pool.receive(&volume, offset, &bytes)).await
    }

    async fn receive_flush(&self, volume: &Volume) -> Result<()> {
        let volume = own(volume);
        self.hop(move |pool| pool.receive_flush(&volume)).await
    }

    async fn receive_end(&self, volume: &Volume) -> Result<()> {
        let volume = own(volume);
        self.hop(move |pool| pool.receive_end(&volume)).await
    }

    async fn leftovers(&self, known: Known<'_>) -> Result<Vec<Leftover>> {
        // The pool is read first and the records are asked after: an object that is made in between has its record
        // before its bytes, so it is known by the time it is asked for.
        let found = self.hop(|pool| pool.unexplained()).await?;
        Ok(found.into_iter().filter_map(|found| found.judge(&known)).collect())
    }

    async fn reap(&self, leftover: &Leftover) -> Result<()> {
        let leftover = leftover.clone();
        self.hop(move |pool| pool.reap(&leftover)).await
    }
}
