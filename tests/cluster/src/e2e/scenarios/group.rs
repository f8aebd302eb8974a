//! A group snapshot over two nodes holds no effect without its cause.
//!
//! A writer counts: the number goes to the first volume, then to the second, then to the third, each made durable before the next. Whatever
//! moment the snapshots show, the first has the highest number, the last the lowest, and they differ by one at most.

use std::fs::File;
use std::io::{Seek, Write};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use anyhow::{Context, Result, anyhow, ensure};

use crate::objects::{SNAPSHOT, name, text};
use crate::setup::{Env, inside};
use crate::space::{Claim, LIMIT, Pod, Space, until};

const MEMBERS: [&str; 3] = ["a", "b", "c"];
const ROUNDS: usize = 3;

pub(crate) async fn run(space: Rc<Space>) -> Result<()> {
    let [here, there] = Env::nodes();
    let mut files = Vec::new();
    for (member, node) in MEMBERS.into_iter().zip([here, there, here]) {
        space.claim(Claim::new(member, "e2e", "64Mi").in_group("ledger")).await?;
        space.start(Pod::new(member).claim(member, "/data").on(node)).await?;
        space.exec(member, "printf '%020d' 0 >/data/count; sync").await?;
        let cluster = space.env.cluster.borrow().clone();
        files.push(inside(cluster.container_pid(&space.name, member, "main")?, "/data/count"));
    }
    let writer = Writer::start(files)?;
    let consistent = rounds(&space, &writer).await;
    // Whatever came of it: an open file would keep its volume mounted.
    let written = writer.stop();
    consistent?;
    let written = written?;
    ensure!(written > 20, "only {written} numbers were written");
    Ok(())
}

async fn rounds(space: &Space, writer: &Writer) -> Result<()> {
    for round in 0..ROUNDS {
        let from = writer.count();
        until("the writer has got on", LIMIT, async || Ok((writer.count() > from + 3).then_some(()))).await?;
        let group = format!("group-{round}");
        space.group_snapshot(&group, "ledger").await?;
        let seen = counts(space, &group, round).await?;
        let [a, b, c] = seen;
        ensure!(a >= b && b >= c && a - c <= 1, "the group holds {seen:?}");
        ensure!(a > from, "the group holds {seen:?}, which was written before {from}");
    }
    Ok(())
}

/// What the members of a group hold, each restored into a volume of its own.
async fn counts(space: &Space, group: &str, round: usize) -> Result<[u64; 3]> {
    // The snapshot controller calls the group ready a moment before it writes that into the last member.
    let snapshots = until(&format!("{group} has all its members"), LIMIT, async || {
        let mut found = space.env.objects.list(SNAPSHOT, &space.name).await?;
        found.retain(|one| text(one, "/status/volumeGroupSnapshotName") == group);
        ensure!(found.len() <= MEMBERS.len(), "{group} has {} members", found.len());
        Ok((found.len() == MEMBERS.len()).then_some(found))
    })
    .await?;
    let mut seen = [0; 3];
    let mut pods = Vec::new();
    for (at, member) in MEMBERS.into_iter().enumerate() {
        let of = |one: &&serde_json::Value| text(one, "/spec/source/persistentVolumeClaimName") == member;
        let snapshot = match snapshots.iter().find(of) {
            Some(found) => name(found),
            // Newer snapshotters say only whose content it is.
            None => by_content(space, &snapshots, member).await?,
        };
        let claim = format!("{member}-{round}");
        space.claim(Claim::new(&claim, "e2e", "64Mi").of_snapshot(&snapshot)).await?;
        space.make(Pod::new(&claim).script("cat /data/count").claim(&claim, "/data").object()).await?;
        pods.push((at, claim));
    }
    for (at, pod) in pods {
        seen[at] = space.finished(&pod).await?.trim().parse().context("not a number")?;
    }
    Ok(seen)
}

/// The snapshot of a claim, by the volume that its content says.
async fn by_content(space: &Space, snapshots: &[serde_json::Value], claim: &str) -> Result<String> {
    let handle = text(&space.bound(claim).await?, "/spec/csi/volumeHandle");
    for snapshot in snapshots {
        let content = text(snapshot, "/status/boundVolumeSnapshotContentName");
        let content = space.env.objects.get(crate::objects::CONTENT, "", &content).await?.unwrap_or_default();
        if content.to_string().contains(&handle) {
            return Ok(name(snapshot));
        }
    }
    Err(anyhow!("no member of the group is the snapshot of {claim}"))
}

/// Counts on a thread of its own: while a filesystem is frozen, a write to it waits.
struct Writer {
    stop: Arc<AtomicBool>,
    count: Arc<AtomicU64>,
    thread: std::thread::JoinHandle<Result<()>>,
}

impl Writer {
    fn start(paths: Vec<PathBuf>) -> Result<Self> {
        let open = |path: &PathBuf| {
            File::options().write(true).open(path).with_context(|| format!("cannot open {}", path.display()))
        };
        let mut files = paths.iter().map(open).collect::<Result<Vec<_>>>()?;
        let (stop, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stopped, counted) = (stop.clone(), count.clone());
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                let number = counted.load(Ordering::Relaxed) + 1;
                for file in &mut files {
                    file.rewind()?;
                    write!(file, "{number:020}")?;
                    file.sync_data()?;
                }
                counted.store(number, Ordering::Relaxed);
            }
            Ok(())
        });
        Ok(Self { stop, count, thread })
    }

    fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    fn stop(self) -> Result<u64> {
        self.stop.store(true, Ordering::Relaxed);
        let ended = self.thread.join().unwrap_or_else(|_| Err(anyhow!("the writer has panicked")));
        ended.context("the writer has failed")?;
        Ok(self.count.load(Ordering::Relaxed))
    }
}
