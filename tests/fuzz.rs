//! Broken bytes in every request and every parser, for a few seconds or as long as asked.
//!
//! No field of a request is tried here on purpose (`hostile.rs` does that): this is for what nobody thought of.
//! Good inputs are broken at random: bits, bytes, cuts, repetitions, splices, numbers at their limits. It needs
//! neither a nightly compiler nor libFuzzer. `OFFSHOOT_FUZZ_SECONDS` says how long (10), `OFFSHOOT_FUZZ_SEED` repeats
//! a run; a failure prints the seed and the input.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test")]

#[path = "hostile/requests.rs"]
mod requests;
#[path = "hostile/world.rs"]
mod world;

use std::time::{Duration, Instant};

use offshoot::csi::rpc::Rpc;
use offshoot::store::Store;
use offshoot::volume::mkfs_options;
use offshoot::volume::params::{CreateParams, InlineParams, MutableParams, SnapshotParams};
use offshoot::volume::quantity;
use offshoot::volume::{FsType, GroupId, ObjectId, PoolId, SnapshotId, VolumeId, mount_options, names};
use tonic::Code;
use world::World;

/// A small generator (xorshift64*): the same seed gives the same run on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `most`, which is not zero.
    fn below(&mut self, most: usize) -> usize {
        usize::try_from(self.next() >> 33).unwrap() % most
    }

    /// One of `all`.
    fn pick<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }
}

/// Pieces that parsers care about.
const PIECES: [&[u8]; 20] = [
    b"\0",
    b"\n",
    b"..",
    b"/",
    b"%2e",
    b"-",
    b",",
    b"=",
    b"\"",
    b"{",
    b"\\",
    b"\xff",
    b"\xc0\xaf",
    b"-1",
    b"18446744073709551616",
    b"Ei",
    b"\xff\xff\xff\xff\xff\xff\xff\xff\x7f",
    b"\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01",
    "а".as_bytes(),
    "\u{202e}".as_bytes(),
];

/// `input` with one to eight things wrong with it.
fn broken(random: &mut Random, input: &[u8], other: &[u8]) -> Vec<u8> {
    let mut bytes = input.to_vec();
    for _ in 0..=random.below(8) {
        let at = random.below(bytes.len() + 1);
        match random.below(8) {
            0 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
            1 if at < bytes.len() => bytes[at] = random.next().to_le_bytes()[0],
            2 => bytes.truncate(at),
            3 => drop(bytes.splice(at..at, random.pick(&PIECES).iter().copied())),
            4 if at < bytes.len() => drop(bytes.remove(at)),
            5 => {
                let from = random.below(bytes.len() + 1).min(at);
                let piece = bytes[from..at].to_vec();
                bytes.splice(at..at, piece);
            }
            6 => {
                let from = random.below(other.len() + 1);
                bytes.splice(at.., other[from..].iter().copied());
            }
            _ => {
                let word = random.next().to_le_bytes();
                bytes.splice(at..at, word[..random.below(8)].iter().copied());
            }
        }
        bytes.truncate(8192);
    }
    bytes
}

/// How long this run takes, and its seed.
fn plan() -> (Instant, u64) {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let seconds = number("OFFSHOOT_FUZZ_SECONDS").unwrap_or(10);
    let clock = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let seed = number("OFFSHOOT_FUZZ_SEED").unwrap_or_else(|| u64::from(clock.subsec_nanos())) | 1;
    println!("OFFSHOOT_FUZZ_SEED={seed}");
    (Instant::now() + Duration::from_secs(seconds), seed)
}

/// Every parser of text, on one text. None may panic; what it says is bounded.
fn parsers(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let _ = (text.parse::<VolumeId>().is_ok(), text.parse::<SnapshotId>().is_ok());
    let _ = (text.parse::<GroupId>().is_ok(), text.parse::<ObjectId>().is_ok());
    if let Ok(id) = text.parse::<PoolId>() {
        assert_eq!(id.to_string(), text);
    }
    if let Ok(id) = text.parse::<VolumeId>() {
        assert_eq!(id.to_string(), text, "an id has one spelling");
    }
    let _ = quantity::parse(&text).is_ok();
    for check in [names::check_name, names::check_id, names::check_node_id, names::check_pool_name] {
        bounded(check("field", &text));
    }
    if let Ok(path) = names::check_path("field", &text) {
        assert!(path.starts_with('/') && !path.contains("/../") && !path.contains("//"), "{path:?}");
    }
    let words = mkfs_options::split(&text);
    let flags: Vec<String> = text.split(' ').map(str::to_owned).collect();
    for fs in FsType::ALL {
        bounded(mkfs_options::check(fs, &words));
        bounded(mount_options::check(fs, &flags));
    }
    let map =
        text.split('\n').filter_map(|line| line.split_once('=')).map(|(k, v)| (k.to_owned(), v.to_owned()));
    let map = map.collect();
    bounded(CreateParams::parse(&map, &Default::default()));
    bounded(MutableParams::parse(&map));
    bounded(SnapshotParams::parse(&map));
    bounded(InlineParams::parse(&map));
    let mut read = |offset: u64, into: &mut [u8]| {
        for (n, byte) in into.iter_mut().enumerate() {
            let at = usize::try_from(offset).unwrap_or(usize::MAX).saturating_add(n);
            *byte = bytes.get(at).copied().unwrap_or_default();
        }
        Ok::<(), ()>(())
    };
    let _ = offshoot::volume::superblock::identify(bytes.len() as u64, &mut read).is_ok();
}

fn bounded<T>(answer: offshoot::volume::Result<T>) {
    if let Err(error) = answer {
        let text = error.to_string();
        assert!(text.len() < 1500, "{} bytes: {text}", text.len());
    }
}

#[test]
fn no_broken_text_panics_a_parser() {
    let (end, seed) = plan();
    let mut random = Random(seed);
    let seeds: [&[u8]; 8] = [
        b"v-abcd2345-0123456789abcdef0123456789abcdef",
        b"10Gi",
        b"/var/lib/kubelet/pods/0/mount",
        b"-m 1 -O ^metadata_csum -E lazy_itable_init=1",
        b"noatime discard ro data=ordered commit=5",
        b"pool=fast\nfsType=xfs\nprovisioning=thick\nreadAheadKiB=128\nsize=1Gi",
        b"csi.storage.k8s.io/ephemeral=true\nsize=1e3",
        b"XFSB\0\0\x10\0\0\0\0\0\0\x04\0\0",
    ];
    let mut tried = 0_u64;
    while Instant::now() < end {
        for _ in 0..200 {
            let (input, other) = (*random.pick(&seeds), *random.pick(&seeds));
            let bytes = broken(&mut random, input, other);
            let outcome = std::panic::catch_unwind(|| parsers(&bytes));
            assert!(outcome.is_ok(), "OFFSHOOT_FUZZ_SEED={seed}: {:?}", bytes.escape_ascii().to_string());
            tried += 1;
        }
    }
    println!("{tried} texts");
    assert!(tried > 0);
}

#[test]
fn no_broken_request_breaks_the_server() {
    let (end, seed) = plan();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut random = Random(seed);
        let mut tried = 0_u64;
        while Instant::now() < end {
            // A new one now and then: what is accepted adds up.
            let world = World::furnished().await;
            let rpcs: Vec<Rpc> = Rpc::public().collect();
            let good: Vec<_> = rpcs.iter().map(|&rpc| requests::good(rpc, &world.ids)).collect();
            for _ in 0..300 {
                let n = random.below(good.len());
                let bytes = broken(&mut random, &good[n], &good[(n + 7) % good.len()]);
                let answer = world.call(rpcs[n].path(), &bytes).await;
                let say =
                    || format!("OFFSHOOT_FUZZ_SEED={seed}: {} {}: {answer:?}", rpcs[n], bytes.escape_ascii());
                assert_eq!(world::panics(), 0, "{}", say());
                // What cannot be decoded is INTERNAL by gRPC's own table; the library answers that before any code of ours.
                let undecodable = answer.message.contains("failed to decode");
                let bug =
                    matches!(answer.code, Code::Internal | Code::Unknown | Code::DataLoss) && !undecodable;
                assert!(!bug, "{}", say());
                tried += 1;
            }
        }
        println!("{tried} requests");
        assert!(tried > 0);
    });
}

#[test]
fn no_broken_record_keeps_a_pool_from_opening() {
    let (end, seed) = plan();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut random = Random(seed);
        let world = World::furnished().await;
        let host = world.fake.host();
        let record = |root: &str| format!("{root}/volumes/{}.json", world.ids.volume);
        let good = host.read_file(record(world::POOL).as_ref()).unwrap().unwrap();
        // Beside the open pool, which nobody else may open.
        let root = std::path::Path::new("/third");
        drop(Store::open(host.clone(), root).unwrap());
        let path = record("/third");
        let mut tried = 0_u64;
        while Instant::now() < end {
            let bytes = broken(&mut random, &good, &good);
            world.fake.plant(&path, &bytes).unwrap();
            let opened = Store::open(host.clone(), root);
            assert!(opened.is_ok(), "OFFSHOOT_FUZZ_SEED={seed}: {}", bytes.escape_ascii());
            tried += 1;
        }
        println!("{tried} records");
        assert!(tried > 0 && world::panics() == 0);
    });
}
