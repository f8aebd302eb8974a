//! Which blocks a snapshot has, and which two do not have in common, read from where they lie on the disk.
//!
//! Two images that share a block show the same place for it. The reverse holds too: snapshots are never written, so a
//! block whose place differs was written in between. No data is read, whatever the size.

use super::extents::{Failure, stream};
use super::pool::Pool;
use crate::backend::Run;
use crate::volume::{Error, Kind, Layout, Result, Snapshot, extents};

impl Pool {
    pub(super) fn changed(
        &self,
        base: Option<&Snapshot>,
        target: &Snapshot,
        start: u64,
        max: usize,
    ) -> Result<Vec<Run>> {
        if target.layout != Layout::Image || base.is_some_and(|base| base.layout != Layout::Image) {
            let why = format!("snapshot {} is a subvolume, which has no blocks to compare", target.id);
            return Err(Error::new(Kind::Unsupported, why));
        }
        if !self.reflink && base.is_some() {
            let why = format!(
                "pool {} shares no blocks between copies, so they cannot be compared",
                self.info.name
            );
            return Err(Error::new(Kind::Unsupported, why));
        }
        let (host, image) = (&*self.host, self.sealed_image(target)?);
        let failure = Failure::default();
        let pieces = stream(host, &image, start, &failure);
        let runs: Vec<_> = match base {
            None => extents::from(extents::allocated(pieces, target.size), start).take(max).collect(),
            Some(base) => {
                let base_image = self.sealed_image(base)?;
                let of_base = stream(host, &base_image, start, &failure);
                let delta = extents::delta(of_base, base.size, pieces, target.size);
                extents::from(delta, start).take(max).collect()
            }
        };
        failure.check(runs.into_iter().map(|(offset, len)| Run { offset, len }).collect())
    }
}
