//! Bytes that leave for another node, and bytes that come from one.
//!
//! A copy from another node takes minutes to hours and outlives crashes, so its unfinished image has a name of its own,
//! `ID.part`: the record of the volume explains it, and it is left over only without one. It has the volume's full length
//! from the start, and nothing is ever written beyond that: what comes is another machine's word.

use super::image::{not_here, wrong_length};
use super::names::Part;
use super::pool::Pool;
use crate::backend::Received;
use crate::volume::{Error, Kind, Layout, Provisioning, Result, Snapshot, Volume};

impl Pool {
    pub(super) fn read(&self, snapshot: &Snapshot, offset: u64, len: usize) -> Result<Vec<u8>> {
        if snapshot.layout != Layout::Image {
            let why =
                format!("snapshot {} is a subvolume, which has no bytes of its own to read", snapshot.id);
            return Err(Error::new(Kind::Unsupported, why));
        }
        Ok(self.host.read_at(&self.sealed_image(snapshot)?, offset, len)?)
    }

    pub(super) fn receive_begin(&self, volume: &Volume, begun: bool) -> Result<Received> {
        if volume.layout != Layout::Image {
            return Err(not_here(volume));
        }
        let image = self.names.volume(volume.id, Part::Image);
        match self.host.metadata(&image)? {
            Some(meta) if meta.len == volume.size => return Ok(Received::Whole),
            Some(meta) => return Err(wrong_length(&image, meta.len, volume.size)),
            None => {}
        }
        let partial = self.names.volume(volume.id, Part::Partial);
        match self.host.metadata(&partial)? {
            None if begun => return Ok(Received::Nothing),
            // What a power cut leaves of bytes that were never forced to the disk.
            Some(meta) if begun && meta.len == 0 => return Ok(Received::Nothing),
            None => self.host.create_file(&partial, volume.size)?,
            Some(meta) if meta.len == volume.size => {}
            // Made, but not yet given its length: what a crash inside the call can leave.
            Some(meta) if meta.len == 0 => self.host.set_len(&partial, volume.size)?,
            Some(meta) => return Err(wrong_length(&partial, meta.len, volume.size)),
        }
        Ok(Received::Begun)
    }

    pub(super) fn receive(&self, volume: &Volume, offset: u64, bytes: &[u8]) -> Result<()> {
        Ok(self.host.write_at(&self.names.volume(volume.id, Part::Partial), offset, bytes)?)
    }

    pub(super) fn receive_flush(&self, volume: &Volume) -> Result<()> {
        Ok(self.host.sync_file(&self.names.volume(volume.id, Part::Partial))?)
    }

    pub(super) fn receive_end(&self, volume: &Volume) -> Result<()> {
        let partial = self.names.volume(volume.id, Part::Partial);
        if volume.mutable.provisioning == Provisioning::Thick {
            self.host.allocate(&partial)?;
        }
        // Its bytes come before its name: a whole name means whole bytes, also after a power cut.
        self.host.sync_file(&partial)?;
        Ok(self.host.rename(&partial, &self.names.volume(volume.id, Part::Image))?)
    }
}
