//! Giving the bytes of a snapshot to another node, if the router let it.
//!
//! A node's certificate is worth nothing on other nodes but this: reading a snapshot for which the router vouched. Grants
//! are kept in memory, since they are cheap to renew and must not outlive what they are for: each ends after an hour, and
//! all end with the process. A stream that has begun goes on.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use super::transfer::{CHUNK, Chunk, Described};
use super::{Inner, Service};
use crate::backend::Run;
use crate::volume::record::Millis;
use crate::volume::size::kept;
use crate::volume::{Error, Kind, Layout, Result, Snapshot, SnapshotId};

/// How long a node may begin to read a snapshot, in milliseconds.
const GRANTED: Millis = 60 * 60 * 1000;

/// How many runs are asked of the backend at once.
const PAGE: usize = 4096;

/// Who reads a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reader<'a> {
    /// The router, which may read everything.
    Controller,
    /// The agent of the node of that name.
    Node(&'a str),
}

/// Which node may read which snapshot until when.
#[derive(Debug, Default)]
pub(super) struct Grants(Mutex<HashMap<(SnapshotId, String), Millis>>);

impl Grants {
    fn add(&self, snapshot: SnapshotId, node: &str, now: Millis) {
        let mut grants = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        grants.retain(|_, until| *until > now);
        grants.insert((snapshot, node.to_owned()), now.saturating_add(GRANTED));
    }

    fn holds(&self, snapshot: SnapshotId, node: &str, now: Millis) -> bool {
        let grants = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        grants.get(&(snapshot, node.to_owned())).is_some_and(|until| *until > now)
    }
}

/// A snapshot that is being read. Asks for the next bytes only when it is asked for them.
pub struct Sending {
    inner: Arc<Inner>,
    snapshot: Arc<Snapshot>,
    runs: VecDeque<Run>,
    /// Where the runs after those begin; `None` behind the last.
    behind: Option<u64>,
}

impl Service {
    /// Lets a node begin to read a snapshot during the next hour.
    ///
    /// # Errors
    /// [`Kind::NotFound`] if there is no such snapshot.
    pub fn allow_read(&self, snapshot: &str, node: &str) -> Result<()> {
        let snapshot = self.inner.snapshot(snapshot)?;
        self.inner.grants.add(snapshot.id, node, self.inner.now());
        Ok(())
    }

    /// Describes a snapshot and begins to read it from byte `start` on.
    ///
    /// # Errors
    /// [`Kind::Denied`] for a node that was not allowed to, [`Kind::NotFound`], [`Kind::OutOfRange`] for a start beyond
    /// the end. A snapshot that cannot be sent is no error: [`Described::refused`] says why.
    pub async fn send_snapshot(
        &self,
        id: &str,
        start: u64,
        reader: Reader<'_>,
    ) -> Result<(Described, Sending)> {
        if let Reader::Node(node) = reader {
            let parsed = id.parse::<SnapshotId>().ok();
            if !parsed.is_some_and(|id| self.inner.grants.holds(id, node, self.inner.now())) {
                let text = format!("snapshot_id: node {node} is not allowed to read {id:?}, or no longer");
                return Err(Error::new(Kind::Denied, text));
            }
        }
        let snapshot = self.inner.snapshot(id)?;
        if start > kept(snapshot.size) {
            let text = format!("start_offset: {start} is beyond the end, {} bytes", snapshot.size);
            return Err(Error::new(Kind::OutOfRange, text));
        }
        let mut sending =
            Sending { inner: self.inner.clone(), snapshot, runs: VecDeque::new(), behind: Some(start) };
        let described = sending.describe().await?;
        if !described.refused.is_empty() {
            sending.behind = None;
        }
        Ok((described, sending))
    }
}

impl Sending {
    async fn describe(&self) -> Result<Described> {
        let snapshot = &self.snapshot;
        let refused = match snapshot.layout {
            Layout::Image => String::new(),
            _ => format!(
                "snapshot {} is a btrfs subvolume, which cannot be copied to another node: restore it on its own, {}",
                snapshot.id, self.inner.settings.node_id
            ),
        };
        let mut allocated = 0;
        let mut from = refused.is_empty().then_some(0);
        while let Some(start) = from {
            let page = self.page(start).await?;
            allocated += page.iter().map(|run| run.len).sum::<u64>();
            from = behind(&page, start);
        }
        Ok(Described {
            size: snapshot.size,
            allocated,
            volume: snapshot.volume,
            fs: snapshot.fs,
            raw_written: snapshot.raw_written,
            refused,
        })
    }

    async fn page(&self, start: u64) -> Result<Vec<Run>> {
        let pool = self.inner.pool(self.snapshot.id.pool())?;
        let page = pool.backend.changed(None, &self.snapshot, start, PAGE).await;
        page.map_err(|error| self.if_there(error))
    }

    /// A read that fails because the snapshot is being deleted says so.
    fn if_there(&self, error: Error) -> Error {
        self.inner.snapshot(&self.snapshot.id.to_string()).err().unwrap_or(error)
    }

    /// The next bytes; `None` at the end.
    ///
    /// # Errors
    /// [`Kind::NotFound`] when the snapshot has been deleted meanwhile.
    pub async fn next(&mut self) -> Result<Option<Chunk>> {
        while self.runs.is_empty() {
            let Some(start) = self.behind else { return Ok(None) };
            let page = self.page(start).await?;
            self.behind = behind(&page, start);
            self.runs.extend(page);
        }
        let Some(run) = self.runs.front_mut() else { return Ok(None) };
        let (offset, len) = (run.offset, run.len.min(CHUNK as u64));
        run.offset += len;
        run.len -= len;
        if run.len == 0 {
            self.runs.pop_front();
        }
        let snapshot = self.inner.snapshot(&self.snapshot.id.to_string())?;
        let pool = self.inner.pool(snapshot.id.pool())?;
        let len = usize::try_from(len).unwrap_or(CHUNK);
        let read = pool.backend.read(&snapshot, offset, len).await.map_err(|error| self.if_there(error))?;
        if read.len() != len {
            let text =
                format!("snapshot {} ends at {}, within its data", snapshot.id, offset + read.len() as u64);
            return Err(Error::internal(text));
        }
        Ok(Some(Chunk { offset, bytes: read }))
    }
}

/// Where the page after this one begins, if there may be one.
fn behind(page: &[Run], start: u64) -> Option<u64> {
    let end = page.last().map(|run| run.offset.saturating_add(run.len))?;
    (page.len() == PAGE && end > start).then_some(end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::Host;
    use crate::service::api::CreateSnapshot;
    use crate::service::testing::{Bench, mount, raw, refused};

    async fn cut(bench: &Bench, volume: &str) -> String {
        let request = CreateSnapshot {
            name: format!("of-{volume}"),
            volume: volume.into(),
            claim: None,
            requisite: Vec::new(),
        };
        bench.service.create_snapshot(request).await.unwrap().id.to_string()
    }

    async fn read(bench: &Bench, id: &str, reader: Reader<'_>) -> Result<Described> {
        bench.service.send_snapshot(id, 0, reader).await.map(|(described, _)| described)
    }

    #[tokio::test]
    async fn only_the_node_that_was_allowed_reads_and_only_that_snapshot() {
        let bench = Bench::new("xfs").await;
        let volume = bench.volume("a", raw()).await;
        let (one, other) = (cut(&bench, &volume).await, bench.volume("b", raw()).await);
        let other = cut(&bench, &other).await;
        refused(read(&bench, &one, Reader::Node("n2")).await, Kind::Denied, "n2");
        bench.service.allow_read(&one, "n2").unwrap();
        read(&bench, &one, Reader::Node("n2")).await.unwrap();
        refused(read(&bench, &other, Reader::Node("n2")).await, Kind::Denied, "not allowed");
        refused(read(&bench, &one, Reader::Node("n3")).await, Kind::Denied, "not allowed");
        refused(read(&bench, "nonsense", Reader::Node("n2")).await, Kind::Denied, "not allowed");
        read(&bench, &other, Reader::Controller).await.unwrap();
        refused(read(&bench, "nonsense", Reader::Controller).await, Kind::NotFound, "nonsense");
        refused(bench.service.allow_read("nonsense", "n2"), Kind::NotFound, "nonsense");
        let bench = bench.restart().await;
        refused(read(&bench, &one, Reader::Node("n2")).await, Kind::Denied, "no longer");
    }

    #[test]
    fn a_grant_ends_after_an_hour_unless_it_is_renewed() {
        let grants = Grants::default();
        let id = SnapshotId::new(crate::volume::PoolId::random());
        grants.add(id, "n2", 1000);
        assert!(grants.holds(id, "n2", 1000 + GRANTED - 1));
        assert!(!grants.holds(id, "n2", 1000 + GRANTED));
        grants.add(id, "n2", 2000);
        assert!(grants.holds(id, "n2", 1000 + GRANTED));
        grants.add(id, "n3", 2000 + GRANTED);
        assert_eq!(grants.0.lock().unwrap().len(), 1, "what is over is forgotten");
    }

    #[tokio::test]
    async fn a_subvolume_is_refused_in_words() {
        let bench = Bench::new("btrfs").await;
        let volume = bench.volume("a", mount(&[])).await;
        let described = read(&bench, &cut(&bench, &volume).await, Reader::Controller).await.unwrap();
        assert!(described.refused.contains("subvolume"), "{described:?}");
    }

    #[tokio::test]
    async fn a_snapshot_that_is_deleted_while_it_is_read_is_not_found() {
        let bench = Bench::new("xfs").await;
        let volume = bench.volume("a", raw()).await;
        let image = std::path::PathBuf::from(format!("/pool/volumes/{volume}.img"));
        bench.fake.write_at(&image, 8192, &[7; 4096]).unwrap();
        let id = cut(&bench, &volume).await;
        let (described, mut sending) = bench.service.send_snapshot(&id, 0, Reader::Controller).await.unwrap();
        assert_eq!(described.allocated, 4096);
        assert_eq!(sending.next().await.unwrap(), Some(Chunk { offset: 8192, bytes: vec![7; 4096] }));
        assert_eq!(sending.next().await.unwrap(), None);
        let (_, mut sending) =
            bench.service.send_snapshot(&id, 8192 + 2048, Reader::Controller).await.unwrap();
        bench.service.delete_snapshot(&id).await.unwrap();
        refused(sending.next().await, Kind::NotFound, &id);
    }
}
