//! Bytes that can be recognised, random numbers that can be repeated, and writing and checking both files and devices.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

/// Random numbers of a seed (splitmix64).
#[derive(Clone)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    /// The seed of `OFFSHOOT_SEED`, or another one in each run. Print it.
    pub fn seed() -> u64 {
        match std::env::var("OFFSHOOT_SEED") {
            Ok(seed) => seed.parse().expect("OFFSHOOT_SEED is not a number"),
            Err(_) => std::time::SystemTime::now()
                .duration_since(std::time::UNIX_EPOCH)
                .unwrap()
                .as_nanos()
                .try_into()
                .unwrap_or(1),
        }
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `n`.
    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n.max(1)
    }

    /// True in `percent` of 100 cases.
    pub fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// One of these.
    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> Option<&'a T> {
        if of.is_empty() { None } else { of.get(self.below(of.len() as u64) as usize) }
    }
}

static NEXT: AtomicU64 = AtomicU64::new(1);

/// A number that no other piece of data of this process has.
pub fn fresh() -> u64 {
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// The bytes that belong to a number.
pub fn bytes(number: u64, len: usize) -> Vec<u8> {
    let mut random = Random::new(number.wrapping_mul(0x2545_f491_4f6c_dd1d));
    let mut out = Vec::with_capacity(len + 8);
    while out.len() < len {
        out.extend_from_slice(&random.next().to_le_bytes());
    }
    out.truncate(len);
    out
}

/// Writes the bytes of a number as a file of a mounted volume; they are on the disk when this returns.
pub fn write_file(dir: &Path, number: u64, len: usize) -> std::io::Result<()> {
    let mut file = File::create(dir.join(format!("f{number}")))?;
    file.write_all(&bytes(number, len))?;
    file.sync_all()?;
    File::open(dir)?.sync_all()
}

/// What is wrong with a file that [`write_file`] wrote; `None` if nothing is.
pub fn file_fault(dir: &Path, number: u64, len: usize) -> Option<String> {
    match std::fs::read(dir.join(format!("f{number}"))) {
        Ok(found) if found == bytes(number, len) => None,
        Ok(found) => Some(format!("f{number} has {} other bytes, should have {len}", found.len())),
        Err(error) => Some(format!("f{number}: {error}")),
    }
}

/// The numbers of the files in a mounted volume.
pub fn files(dir: &Path) -> std::io::Result<Vec<u64>> {
    let names = std::fs::read_dir(dir)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
    let names: Vec<String> = names.collect::<std::io::Result<_>>()?;
    Ok(names.iter().filter_map(|name| name.strip_prefix('f')?.parse().ok()).collect())
}

/// Writes the bytes of a number to a device, and has it write them to its disk.
pub fn write_device(device: &Path, offset: u64, number: u64, len: usize) -> std::io::Result<()> {
    let mut file = File::options().write(true).open(device)?;
    file.seek(SeekFrom::Start(offset))?;
    file.write_all(&bytes(number, len))?;
    file.sync_all()
}

/// What is wrong with bytes that [`write_device`] wrote; `None` if nothing is.
pub fn device_fault(device: &Path, offset: u64, number: u64, len: usize) -> Option<String> {
    let read = || {
        let mut file = File::open(device)?;
        file.seek(SeekFrom::Start(offset))?;
        let mut found = vec![0; len];
        file.read_exact(&mut found)?;
        std::io::Result::Ok(found)
    };
    match read() {
        Ok(found) if found == bytes(number, len) => None,
        Ok(_) => Some(format!("at {offset} are other bytes than those of {number}")),
        Err(error) => Some(format!("at {offset}: {error}")),
    }
}
