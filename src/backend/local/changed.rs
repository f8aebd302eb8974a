//! Which blocks two snapshots do not have in common.

use super::pool::Pool;
use crate::backend::Run;
use crate::volume::{Error, Kind, Result, Snapshot};

impl Pool {
    pub(super) fn changed(
        &self,
        _base: Option<&Snapshot>,
        _target: &Snapshot,
        _start: u64,
        _max: usize,
    ) -> Result<Vec<Run>> {
        Err(Error::new(Kind::Unsupported, "not yet"))
    }
}
