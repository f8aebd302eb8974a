//! Snapshots, copies, what is replaced in place, and groups.

use tonic::Code;

use super::{Done, Snapshot, Volume, Worker, blocking};
use crate::kernel::MIB;
use crate::kernel::calls::{NewVolume, from_snapshot, from_volume, map};
use crate::kernel::data;

impl Worker {
    /// A snapshot, while its volume is written to where it is mounted.
    pub(super) async fn snapshot(&mut self, i: usize) -> Done {
        if self.snapshots.len() > 6 {
            return self.drop_snapshot().await;
        }
        let (name, shared) = (self.name("s"), self.shared.clone());
        let mut of = self.volumes[i].clone();
        let cut = shared.retry("snapshot", async || shared.client.snapshot(&name, &of.id).await);
        let made = if of.mounted && of.kind != "block" {
            let (number, target) = (data::fresh(), self.target(&of));
            let write = blocking(move || data::write_file(&target, number, 32 * 1024));
            let (made, written) = tokio::join!(cut, write);
            written?.map_err(|error| format!("write to {} during a snapshot: {error}", of.id))?;
            self.volumes[i].content.sure.insert(number, (0, 32 * 1024));
            (made?, Some(number))
        } else {
            (cut.await?, None)
        };
        let (made, maybe) = made;
        of.content.maybe.extend(maybe);
        if made.size_bytes.cast_unsigned() != of.size {
            return Err(format!("{made:?} of {of:?} has another size"));
        }
        self.keep(made.snapshot_id, of, None);
        Ok(())
    }

    pub(super) fn keep(&mut self, id: String, mut of: Volume, group: Option<String>) {
        self.born(&id);
        of.mounted = false;
        self.snapshots.push(Snapshot { id, of, group });
    }

    pub(super) async fn clone(&mut self, i: usize) -> Done {
        let from = self.volumes[i].clone();
        let source = from_volume(&from.id);
        self.copy(from, source).await
    }

    pub(super) async fn restore(&mut self) -> Done {
        let Some(snapshot) = self.random.pick(&self.snapshots).cloned() else { return Ok(()) };
        self.copy(snapshot.of, from_snapshot(&snapshot.id)).await
    }

    pub(super) async fn copy(
        &mut self,
        from: Volume,
        source: Option<offshoot::proto::csi::VolumeContentSource>,
    ) -> Done {
        let name = self.name("c");
        let more = if self.random.chance(30) { 32 * MIB } else { 0 };
        let new = NewVolume {
            name: name.clone(),
            kind: from.kind.into(),
            size: from.size + more,
            parameters: map(&[("pool", from.pool)]),
            source,
        };
        let origin = Some(from.id.clone());
        self.make(new, Volume { id: String::new(), name, origin, mounted: false, ..from }).await
    }

    pub(super) async fn expand(&mut self, i: usize) -> Done {
        let volume = self.volumes[i].clone();
        if volume.size > 400 * MIB {
            return Ok(());
        }
        let (shared, size, target) = (self.shared.clone(), volume.size + 16 * MIB, self.target(&volume));
        let (id, kind) = (&volume.id, volume.kind);
        shared.retry("expand", async || shared.client.expand(id, kind, size).await).await?;
        self.volumes[i].size = size;
        if volume.mounted {
            // A mounted ext4 grows only where the machine grants CAP_SYS_RESOURCE; else at the next staging.
            let but = if kind == "ext4" { &[Code::FailedPrecondition][..] } else { &[] };
            let grow = async || shared.client.node_expand(id, kind, &target, size).await;
            let _ = shared.retry_but("expand on the node", but, grow).await?;
        }
        Ok(())
    }

    pub(super) async fn modify(&mut self, i: usize) -> Done {
        let (volume, shared) = (&self.volumes[i], self.shared.clone());
        if volume.is_subvolume() || volume.kind == "xfs" {
            return Ok(());
        }
        let choices = [
            ("provisioning", "thick"),
            ("provisioning", "thin"),
            ("readAheadKiB", "64"),
            ("directIO", "false"),
        ];
        let choice = map(&[*self.random.pick(&choices).unwrap()]);
        shared.retry("modify", async || shared.client.modify(&volume.id, choice.clone()).await).await
    }

    pub(super) async fn rewind(&mut self, i: usize) -> Done {
        let id = self.volumes[i].id.clone();
        let own: Vec<Snapshot> = self.snapshots.iter().filter(|s| s.of.id == id).cloned().collect();
        let Some(to) = self.random.pick(&own).cloned() else { return Ok(()) };
        self.close(i).await?;
        let shared = self.shared.clone();
        let undo = shared
            .retry("rewind", async || shared.client.rewind(&id, &to.id).await)
            .await
            .map_err(|why| format!("{:?} to {to:?}: {why}", self.volumes[i]))?;
        self.volumes[i].content = to.of.content;
        self.forget_undo(&undo).await
    }

    pub(super) async fn refresh(&mut self, i: usize) -> Done {
        let volume = self.volumes[i].clone();
        let Some(origin) = volume.origin.clone() else { return Ok(()) };
        let source =
            self.volumes.iter().find(|other| other.id == origin && other.size <= volume.size).cloned();
        let cuts: Vec<Snapshot> = self
            .snapshots
            .iter()
            .filter(|snapshot| snapshot.of.id == origin && snapshot.of.size <= volume.size)
            .cloned()
            .collect();
        let from = self.random.pick(&cuts).cloned();
        let (content, from) = match (source, from) {
            (Some(source), from) if from.is_none() || self.random.chance(50) => (source.content, None),
            (_, Some(from)) => (from.of.content, Some(from.id)),
            _ => return Ok(()),
        };
        self.close(i).await?;
        let shared = self.shared.clone();
        let undo = shared
            .retry("refresh", async || shared.client.refresh(&volume.id, from.as_deref()).await)
            .await
            .map_err(|why| format!("{volume:?} from {from:?}: {why}"))?;
        self.volumes[i].content = content;
        self.forget_undo(&undo).await
    }

    pub(super) async fn forget_undo(&mut self, undo: &str) -> Done {
        let shared = self.shared.clone();
        shared.retry("delete undo snapshot", async || shared.client.delete_snapshot(undo).await).await
    }

    /// All of the worker's volumes but one at one moment.
    pub(super) async fn group(&mut self, i: usize) -> Done {
        if self.snapshots.len() > 4 {
            return self.drop_snapshot().await;
        }
        let mut of = self.volumes.clone();
        of.remove(i);
        of.truncate(3);
        if of.is_empty() {
            return Ok(());
        }
        let (name, shared) = (self.name("g"), self.shared.clone());
        let ids: Vec<String> = of.iter().map(|volume| volume.id.clone()).collect();
        let group = shared.retry("group snapshot", async || shared.client.group(&name, &ids).await).await?;
        if group.snapshots.len() != of.len() {
            return Err(format!("{group:?} has not a member for each of {ids:?}"));
        }
        for member in group.snapshots {
            let of = of.iter().find(|volume| volume.id == member.source_volume_id).cloned();
            let of = of.ok_or_else(|| format!("{member:?} is of no volume that was asked for"))?;
            self.keep(member.snapshot_id, of, Some(group.group_snapshot_id.clone()));
        }
        Ok(())
    }

    pub(super) async fn drop_snapshot(&mut self) -> Done {
        if self.snapshots.is_empty() {
            return Ok(());
        }
        let at = self.random.below(self.snapshots.len() as u64) as usize;
        let shared = self.shared.clone();
        match self.snapshots[at].group.clone() {
            None => {
                let snapshot = self.snapshots.remove(at);
                self.dies(&snapshot.id);
                shared
                    .retry("delete snapshot", async || shared.client.delete_snapshot(&snapshot.id).await)
                    .await
            }
            Some(group) => {
                let of_group = |snapshot: &Snapshot| snapshot.group.as_ref() == Some(&group);
                let (members, others) = std::mem::take(&mut self.snapshots).into_iter().partition(of_group);
                self.snapshots = others;
                let members: Vec<String> =
                    Vec::into_iter(members).map(|snapshot: Snapshot| snapshot.id).collect();
                members.iter().for_each(|id| self.dies(id));
                shared
                    .retry("delete group", async || shared.client.delete_group(&group, &members).await)
                    .await
            }
        }
    }
}
