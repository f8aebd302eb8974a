//! A writer that never pauses, snapshotted all the time: what a database is to the driver.
//!
//! Record `n` goes to slot `n % SLOTS` and is on the disk before record `n + 1` is written. So a snapshot holds a newest
//! record and every one before it that was not overwritten, or it is not of one moment.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::kernel::MIB;
use crate::kernel::calls::{NewVolume, from_snapshot, map};
use crate::kernel::data;
use crate::worker::{Shared, blocking};

const SLOTS: u64 = 1024;
const RECORD: usize = 4096;
/// A writer that waits longer is wedged. Far over the watchdog's 10 s and a restart.
const LONGEST_STALL: Duration = Duration::from_secs(30);

/// What the writer has done.
#[derive(Default)]
struct Progress {
    /// The newest record that is on the disk; zero is none.
    written: AtomicU64,
    stop: AtomicBool,
    longest_ms: AtomicU64,
}

fn write(file: &Path, progress: &Progress) -> std::io::Result<()> {
    let file = File::options().write(true).create(true).truncate(false).open(file)?;
    for number in 1_u64.. {
        if progress.stop.load(Ordering::Relaxed) {
            break;
        }
        let begun = Instant::now();
        let mut record = number.to_le_bytes().to_vec();
        record.extend(data::bytes(number, RECORD - 8));
        file.write_all_at(&record, (number % SLOTS) * RECORD as u64)?;
        file.sync_data()?;
        progress.written.store(number, Ordering::SeqCst);
        progress.longest_ms.fetch_max(begun.elapsed().as_millis() as u64, Ordering::Relaxed);
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// What is wrong with a copy that was begun when `written` was the newest record.
fn check(file: &Path, written: u64) -> Result<(), String> {
    let bytes = std::fs::read(file).map_err(|error| format!("{}: {error}", file.display()))?;
    let number = |slot: &[u8]| u64::from_le_bytes(slot[..8].try_into().unwrap());
    let newest = bytes.chunks_exact(RECORD).map(number).max().unwrap_or(0);
    if newest < written {
        return Err(format!(
            "the newest record is {newest}, but {written} was on the disk before the snapshot"
        ));
    }
    for wanted in newest.saturating_sub(SLOTS - 1).max(1)..=newest {
        let at = ((wanted % SLOTS) as usize) * RECORD;
        let slot =
            bytes.get(at..at + RECORD).ok_or_else(|| format!("record {wanted} of {newest} is cut off"))?;
        if number(slot) != wanted || slot[8..] != data::bytes(wanted, RECORD - 8) {
            return Err(format!("record {wanted} is missing or torn, though {newest} is there"));
        }
    }
    Ok(())
}

/// Runs until the end is asked for; the error says what was wrong.
pub(crate) async fn run(dir: PathBuf, shared: Arc<Shared>) -> Result<(), String> {
    let done = drive(&dir, &shared).await.map_err(|error| format!("database: {error}"));
    if done.is_err() {
        shared.fail();
    }
    done
}

async fn drive(dir: &Path, shared: &Arc<Shared>) -> Result<(), String> {
    std::fs::create_dir_all(dir.join("stage")).unwrap();
    std::fs::create_dir_all(dir.join("stage-copy")).unwrap();
    let (staging, target) = (dir.join("stage"), dir.join("pod"));
    let (copy_staging, copy_target) = (dir.join("stage-copy"), dir.join("copy"));
    let parameters = map(&[("pool", "xfs")]);
    let new = NewVolume {
        name: "database".into(),
        kind: "ext4".into(),
        size: 64 * MIB,
        parameters: parameters.clone(),
        source: None,
    };
    let client = &shared.client;
    let id = shared.retry("create", async || client.create(&new).await).await?.volume_id;
    shared.retry("stage", async || client.stage(&id, "ext4", &staging).await).await?;
    shared.retry("publish", async || client.publish(&id, "ext4", &staging, &target).await).await?;
    // All slots are there from the beginning, so that the writer changes data and never the file's shape.
    let file = target.join("records");
    File::create(&file).and_then(|mut file| file.write_all(&vec![0; SLOTS as usize * RECORD])).unwrap();

    let progress = Arc::new(Progress::default());
    let writer = {
        let (progress, file) = (progress.clone(), file.clone());
        std::thread::spawn(move || write(&file, &progress))
    };
    let mut checked = 0_u64;
    let result = loop {
        if shared.ends() && checked > 0 {
            break Ok(());
        }
        let before = progress.written.load(Ordering::SeqCst);
        let name = format!("database-{checked}");
        let round = async {
            let snapshot =
                shared.retry("snapshot", async || client.snapshot(&name, &id).await).await?.snapshot_id;
            let copy = NewVolume {
                name: format!("copy-{checked}"),
                kind: "ext4".into(),
                size: 64 * MIB,
                parameters: parameters.clone(),
                source: from_snapshot(&snapshot),
            };
            let copy = shared.retry("restore", async || client.create(&copy).await).await?.volume_id;
            shared.retry("stage", async || client.stage(&copy, "ext4", &copy_staging).await).await?;
            shared
                .retry("publish", async || client.publish(&copy, "ext4", &copy_staging, &copy_target).await)
                .await?;
            let records = copy_target.join("records");
            let fault = blocking(move || check(&records, before)).await?;
            fault.map_err(|why| format!("copy {copy} of snapshot {snapshot}: {why}"))?;
            shared.retry("unpublish", async || client.unpublish(&copy, &copy_target).await).await?;
            shared.retry("unstage", async || client.unstage(&copy, &copy_staging).await).await?;
            shared.retry("delete", async || client.delete(&copy).await).await?;
            shared.retry("delete snapshot", async || client.delete_snapshot(&snapshot).await).await
        };
        if let Err(why) = round.await {
            break Err(why);
        }
        checked += 1;
        let now = progress.written.load(Ordering::SeqCst);
        if now == before && !wait_for_progress(&progress, before).await {
            break Err(format!("the writer stands still at record {now}"));
        }
    };
    progress.stop.store(true, Ordering::Relaxed);
    result?;
    blocking(move || writer.join().unwrap())
        .await?
        .map_err(|error| format!("the writer got an error: {error}"))?;
    let longest = progress.longest_ms.load(Ordering::Relaxed);
    shared.note(format!(
        "{} database records written (longest wait {longest} ms), {checked} copies of it checked",
        progress.written.load(Ordering::Relaxed)
    ));
    if longest > LONGEST_STALL.as_millis() as u64 {
        return Err(format!("the writer had to wait {longest} ms"));
    }
    shared.retry("unpublish", async || client.unpublish(&id, &target).await).await?;
    shared.retry("unstage", async || client.unstage(&id, &staging).await).await?;
    shared.retry("delete", async || client.delete(&id).await).await
}

async fn wait_for_progress(progress: &Progress, from: u64) -> bool {
    let begun = Instant::now();
    while begun.elapsed() < LONGEST_STALL {
        if progress.written.load(Ordering::SeqCst) > from {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    false
}
