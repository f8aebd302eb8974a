//! One caller of the driver: random calls, a model of what was acknowledged, and checks of it through mounts.
//!
//! Every call is repeated until it succeeds, as sidecars and kubelet do; some creations are given up after one attempt.
//! Only a lost connection, UNAVAILABLE and ABORTED are worth a repetition: any other code after a kill is a finding,
//! because a caller may act on it.

#[path = "worker/copies.rs"]
mod copies;
#[path = "worker/shared.rs"]
mod shared;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use offshoot::proto::offshoot::DeletePoolRequest;
use tonic::Code;

use crate::kernel::MIB;
use crate::kernel::calls::{NewVolume, from_snapshot, map};
use crate::kernel::data::{self, Random};
use shared::LIMIT;
pub(crate) use shared::Shared;

pub(crate) fn pool_named(name: &str) -> DeletePoolRequest {
    DeletePoolRequest { name_or_id: name.into() }
}

/// Runs what touches a volume on a thread of its own: a leaked freeze would hold it for ever.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, String> {
    match tokio::time::timeout(LIMIT, tokio::task::spawn_blocking(work)).await {
        Ok(done) => done.map_err(|error| error.to_string()),
        Err(_) => Err(format!("a volume gave no answer for {LIMIT:?}: it is frozen or its device is gone")),
    }
}

/// What is known about the bytes of a volume or snapshot: number to offset (on a device) and length.
#[derive(Clone, Default, Debug)]
struct Content {
    sure: BTreeMap<u64, (u64, usize)>,
    /// Written while a snapshot was being cut: there or not.
    maybe: BTreeSet<u64>,
}

#[derive(Clone, Debug)]
struct Volume {
    id: String,
    name: String,
    kind: &'static str,
    pool: &'static str,
    size: u64,
    content: Content,
    origin: Option<String>,
    mounted: bool,
}

impl Volume {
    fn is_subvolume(&self) -> bool {
        self.pool == "btrfs" && self.kind == "btrfs"
    }
}

#[derive(Clone, Debug)]
struct Snapshot {
    id: String,
    of: Volume,
    group: Option<String>,
}

pub(crate) struct Worker {
    n: usize,
    dir: PathBuf,
    shared: Arc<Shared>,
    random: Random,
    names: u32,
    volumes: Vec<Volume>,
    snapshots: Vec<Snapshot>,
    /// Creations whose caller gave up.
    abandoned: Vec<NewVolume>,
}

type Done = Result<(), String>;

impl Worker {
    pub(crate) fn new(n: usize, dir: &Path, shared: Arc<Shared>, random: Random) -> Worker {
        let dir = dir.join(format!("w{n}"));
        std::fs::create_dir_all(dir.join("pods")).unwrap();
        let (volumes, snapshots, abandoned) = Default::default();
        Worker { n, dir, shared, random, names: 0, volumes, snapshots, abandoned }
    }

    pub(crate) async fn run(mut self) -> Done {
        let done = self.steps().await;
        if done.is_err() {
            self.shared.fail();
        }
        done.map_err(|why| format!("worker {}: {why}", self.n))
    }

    async fn steps(&mut self) -> Done {
        while !self.shared.ends() {
            self.step().await?;
        }
        if self.shared.failed() { Ok(()) } else { self.end().await }
    }

    async fn step(&mut self) -> Done {
        let volumes = self.volumes.len() as u64;
        if volumes == 0 {
            return self.create().await;
        }
        let i = self.random.below(volumes) as usize;
        match self.random.below(100) {
            0..12 if volumes < 6 => self.create().await,
            0..40 => self.write_and_check(i).await,
            40..48 => self.close(i).await,
            48..58 => self.snapshot(i).await,
            58..64 if volumes < 6 => self.clone(i).await,
            58..70 if volumes < 6 => self.restore().await,
            70..74 => self.expand(i).await,
            74..77 => self.modify(i).await,
            77..82 => self.rewind(i).await,
            82..87 => self.refresh(i).await,
            87..90 => self.group(i).await,
            90..92 => self.inline().await,
            92..94 => self.look_at_lists().await,
            94..96 => self.redo().await,
            96..98 => self.drop_snapshot().await,
            _ => self.drop_volume(i).await,
        }
    }

    fn name(&mut self, what: &str) -> String {
        self.names += 1;
        format!("{what}-{}-{}", self.n, self.names)
    }

    fn staging(&self, volume: &Volume) -> PathBuf {
        self.dir.join(format!("stage-{}", volume.name))
    }

    fn target(&self, volume: &Volume) -> PathBuf {
        self.dir.join("pods").join(&volume.name)
    }

    fn born(&self, id: &str) {
        self.shared.alive.lock().unwrap().insert(id.to_owned());
    }

    fn dies(&self, id: &str) {
        self.shared.alive.lock().unwrap().remove(id);
    }

    async fn create(&mut self) -> Done {
        let (pool, kind, size) = match self.random.below(100) {
            0..45 => ("xfs", "ext4", 64),
            45..60 => ("xfs", "block", 16),
            60..70 => ("xfs", "xfs", 320),
            70..90 => ("btrfs", "btrfs", 64),
            _ => ("btrfs", "ext4", 64),
        };
        let mut parameters = map(&[("pool", pool)]);
        if (pool, kind) == ("xfs", "ext4") && self.random.chance(15) {
            parameters.insert("provisioning".into(), "thick".into());
        }
        let name = self.name("v");
        let new = NewVolume { name, kind: kind.into(), size: size * MIB, parameters, source: None };
        let content = Content::default();
        let volume = Volume {
            id: String::new(),
            name: new.name.clone(),
            kind,
            pool,
            size: new.size,
            content,
            origin: None,
            mounted: false,
        };
        self.make(new, volume).await
    }

    /// Creates, or tries to once and gives up.
    async fn make(&mut self, new: NewVolume, mut volume: Volume) -> Done {
        let shared = self.shared.clone();
        if self.random.chance(10) && shared.client.create(&new).await.is_err() {
            self.abandoned.push(new);
            return Ok(());
        }
        let made = shared.retry("create", async || shared.client.create(&new).await).await;
        let made = made.map_err(|why| format!("{new:?}: {why}"))?;
        if made.content_source != new.source {
            return Err(format!("{new:?} was answered with {made:?}"));
        }
        volume.size = made.capacity_bytes.cast_unsigned();
        volume.id = made.volume_id;
        self.born(&volume.id);
        self.volumes.push(volume);
        Ok(())
    }

    /// What a caller gave up is complete when it is asked for again.
    async fn redo(&mut self) -> Done {
        let Some(new) = self.abandoned.pop() else { return Ok(()) };
        let shared = self.shared.clone();
        // The source may have been deleted or have grown since. Then nothing can have been made, or else it was made before;
        // the last look at everything that is there would find it.
        let source = &[Code::NotFound, Code::ResourceExhausted, Code::OutOfRange];
        let but = if new.source.is_some() { &source[..] } else { &[] };
        let made = shared.retry_but("create again", but, async || shared.client.create(&new).await).await?;
        let Ok(made) = made else { return Ok(()) };
        shared.retry("delete", async || shared.client.delete(&made.volume_id).await).await
    }

    async fn open(&mut self, i: usize) -> Done {
        if self.volumes[i].mounted {
            return Ok(());
        }
        let volume = self.volumes[i].clone();
        let (shared, staging, target) = (self.shared.clone(), self.staging(&volume), self.target(&volume));
        let (id, kind) = (&volume.id, volume.kind);
        std::fs::create_dir_all(&staging).unwrap();
        let in_context = |why| format!("{volume:?}: {why}");
        shared
            .retry("stage", async || shared.client.stage(id, kind, &staging).await)
            .await
            .map_err(in_context)?;
        shared
            .retry("publish", async || shared.client.publish(id, kind, &staging, &target).await)
            .await
            .map_err(in_context)?;
        self.volumes[i].mounted = true;
        if kind != "block" && !volume.is_subvolume() {
            let (target, most) = (target.clone(), if kind == "ext4" { 85 } else { 70 });
            let stat = blocking(move || rustix::fs::statvfs(&target)).await?.map_err(|e| e.to_string())?;
            if stat.f_blocks * stat.f_frsize < volume.size / 100 * most {
                return Err(in_context(format!(
                    "its filesystem has only {} bytes",
                    stat.f_blocks * stat.f_frsize
                )));
            }
        }
        Ok(())
    }

    async fn close(&mut self, i: usize) -> Done {
        if !self.volumes[i].mounted {
            return Ok(());
        }
        let volume = self.volumes[i].clone();
        let (shared, staging, target) = (self.shared.clone(), self.staging(&volume), self.target(&volume));
        let id = &volume.id;
        shared.retry("unpublish", async || shared.client.unpublish(id, &target).await).await?;
        if target.exists() {
            return Err(format!("{} is there after its volume was unpublished", target.display()));
        }
        shared.retry("unstage", async || shared.client.unstage(id, &staging).await).await?;
        std::fs::remove_dir(&staging).map_err(|error| format!("{}: {error}", staging.display()))?;
        self.volumes[i].mounted = false;
        Ok(())
    }

    async fn check(&mut self, i: usize) -> Done {
        let (volume, target) = (self.volumes[i].clone(), self.target(&self.volumes[i]));
        let content = volume.content.clone();
        let block = volume.kind == "block";
        let fault = blocking(move || {
            for (&number, &(offset, len)) in &content.sure {
                let fault = if block {
                    data::device_fault(&target, offset, number, len)
                } else {
                    data::file_fault(&target, number, len)
                };
                if fault.is_some() {
                    return fault;
                }
            }
            if block {
                return None;
            }
            let known = |n: &u64| content.sure.contains_key(n) || content.maybe.contains(n);
            match data::files(&target) {
                Ok(there) => {
                    there.into_iter().find(|n| !known(n)).map(|n| format!("f{n} should not be there"))
                }
                Err(error) => Some(error.to_string()),
            }
        });
        match fault.await? {
            None => Ok(()),
            Some(fault) => Err(format!("{volume:?}: {fault}")),
        }
    }

    async fn write_and_check(&mut self, i: usize) -> Done {
        self.open(i).await?;
        for _ in 0..=self.random.below(2) {
            let number = data::fresh();
            let len = 4096 * (1 + self.random.below(24) as usize);
            self.write(i, number, len).await?;
        }
        self.check(i).await?;
        if self.volumes[i].kind != "block" && self.volumes[i].content.sure.len() > 30 {
            let old: Vec<u64> = self.volumes[i].content.sure.keys().take(15).copied().collect();
            let target = self.target(&self.volumes[i]);
            for number in old {
                std::fs::remove_file(target.join(format!("f{number}"))).map_err(|e| e.to_string())?;
                self.volumes[i].content.sure.remove(&number);
            }
        }
        Ok(())
    }

    async fn write(&mut self, i: usize, number: u64, len: usize) -> Done {
        let (volume, target) = (&self.volumes[i], self.target(&self.volumes[i]));
        let slot = self.random.below(24) * 512 * 1024;
        let (id, block) = (volume.id.clone(), volume.kind == "block");
        blocking(move || {
            if block {
                data::write_device(&target, slot, number, len)
            } else {
                data::write_file(&target, number, len)
            }
        })
        .await?
        .map_err(|error| format!("write to {id}: {error}"))?;
        let content = &mut self.volumes[i].content;
        if block {
            content.sure.retain(|_, (offset, _)| *offset != slot);
        }
        content.sure.insert(number, (slot, len));
        Ok(())
    }

    async fn inline(&mut self) -> Done {
        let (handle, shared) = (self.name("inline"), self.shared.clone());
        let target = self.dir.join("pods").join(&handle);
        let context = [("pool", "xfs"), ("size", "32Mi"), ("fsType", "ext4")];
        let publish = async || shared.client.publish_inline(&handle, &target, &context).await;
        let published = if self.random.chance(20) {
            publish().await.is_ok()
        } else {
            shared.retry("publish inline", publish).await?;
            true
        };
        if published {
            let number = data::fresh();
            let at = target.clone();
            blocking(move || data::write_file(&at, number, 8192))
                .await?
                .map_err(|error| error.to_string())?;
            tokio::time::sleep(Duration::from_millis(self.random.below(300))).await;
            let at = target.clone();
            if let Some(fault) = blocking(move || data::file_fault(&at, number, 8192)).await? {
                return Err(format!("inline volume {handle}: {fault}"));
            }
        }
        shared.retry("unpublish", async || shared.client.unpublish(&handle, &target).await).await?;
        if target.exists() { Err(format!("{} is left", target.display())) } else { Ok(()) }
    }

    /// What was acknowledged before the list was asked for, and is still wanted after, is in it.
    async fn look_at_lists(&mut self) -> Done {
        let shared = self.shared.clone();
        let before = shared.alive.lock().unwrap().clone();
        let volumes = shared.retry("list", async || shared.client.volumes().await).await?;
        let snapshots = shared.retry("list", async || shared.client.snapshots().await).await?;
        let listed: BTreeSet<String> = volumes.into_iter().chain(snapshots).collect();
        let after = shared.alive.lock().unwrap().clone();
        match before.intersection(&after).find(|id| !listed.contains(*id)) {
            None => Ok(()),
            Some(id) => Err(format!("{id} was acknowledged and is not listed")),
        }
    }

    async fn drop_volume(&mut self, i: usize) -> Done {
        self.close(i).await?;
        let volume = self.volumes.swap_remove(i);
        self.dies(&volume.id);
        let shared = self.shared.clone();
        shared
            .retry("delete", async || shared.client.delete(&volume.id).await)
            .await
            .map_err(|why| format!("{volume:?}: {why}"))
    }

    /// Checks everything, and takes it away.
    async fn end(&mut self) -> Done {
        self.look_at_lists().await?;
        while !self.abandoned.is_empty() {
            self.redo().await?;
        }
        while !self.volumes.is_empty() {
            let i = self.volumes.len() - 1;
            self.open(i).await?;
            self.check(i).await?;
            self.drop_volume(i).await?;
        }
        // Snapshots outlive their volumes, and hold what they held.
        for snapshot in self.snapshots.clone() {
            let made = self.volumes.len();
            self.copy(snapshot.of, from_snapshot(&snapshot.id)).await?;
            if self.volumes.len() > made {
                self.open(made).await?;
                self.check(made).await?;
                self.drop_volume(made).await?;
            }
        }
        while !self.abandoned.is_empty() {
            self.redo().await?;
        }
        while !self.snapshots.is_empty() {
            self.drop_snapshot().await?;
        }
        Ok(())
    }
}
