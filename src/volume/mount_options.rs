//! The allow-list for mount options.
//!
//! They come from a StorageClass or PV, and a PV may be written by people who should not be able to mount with `suid`
//! or from another source; `x,suid,dev` in one string has done that to another driver. So a flag is one option, each is
//! matched against a list per filesystem, and the result is keys and values that are set one by one, never a string.
//!
//! CSI says that mount flags may be sensitive. So an error names a flag by its place in the list, and by its name only
//! if that name stands in our own tables.

use super::error::{Error, Result};
use super::spec::FsType;

/// Where the flags stand in a request.
const FIELD: &str = "volume_capability.mount.mount_flags";
const MAX_FLAG: usize = 4096;
const MAX_FLAGS: usize = 64;

/// A flag of the mount itself rather than of its filesystem.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GenericFlag {
    /// No programs are started from it.
    NoExec,
    /// Access times are not kept.
    NoAtime,
    /// Access times of directories are not kept.
    NoDirAtime,
    /// Access times are kept loosely.
    RelAtime,
    /// Every access time is kept.
    StrictAtime,
}

/// What a mount needs, in parts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MountPlan {
    /// Options for the filesystem, each to be set by itself: a key, and a value where the option takes one.
    pub options: Vec<(String, Option<String>)>,
    /// Flags of the mount, next to `nosuid` and `nodev`, which are always set.
    pub flags: Vec<GenericFlag>,
    /// Whether `ro` was among them.
    pub read_only: bool,
}

/// What may stand behind an option's name.
#[derive(Clone, Copy)]
enum Value {
    /// Nothing.
    Absent,
    /// A whole number in this range.
    Number(u64, u64),
    /// A number of bytes, perhaps with `k`, `m` or `g`, in this range.
    Size(u64, u64),
    /// One of these words.
    Word(&'static [&'static str]),
    /// Nothing, or one of these words.
    AbsentOr(&'static [&'static str]),
    /// Nothing, or an algorithm with a level up to its number (0: it takes none).
    Compression,
    /// An SELinux label, perhaps in double quotes, as kubelet gives it.
    Label,
}

use Value::{Absent, AbsentOr, Compression, Label, Number, Size, Word};

/// Options that the kernel knows for every filesystem.
const COMMON: &[(&str, Value)] =
    &[("sync", Absent), ("dirsync", Absent), ("lazytime", Absent), ("context", Label)];

const EXT4: &[(&str, Value)] = &[
    ("acl", Absent),
    ("commit", Number(1, 300)),
    ("data", Word(&["ordered", "journal", "writeback"])),
    ("delalloc", Absent),
    ("nodelalloc", Absent),
    ("discard", Absent),
    ("nodiscard", Absent),
    ("errors", Word(&["remount-ro", "continue"])),
    ("init_itable", Number(0, 1000)),
    ("noinit_itable", Absent),
    ("journal_checksum", Absent),
];

const XFS: &[(&str, Value)] = &[
    ("allocsize", Size(4 << 10, 1 << 30)),
    ("discard", Absent),
    ("nodiscard", Absent),
    ("inode64", Absent),
    ("largeio", Absent),
    ("nolargeio", Absent),
    ("logbsize", Size(16 << 10, 256 << 10)),
    ("logbufs", Number(2, 8)),
    ("noquota", Absent),
    ("nouuid", Absent),
    ("swalloc", Absent),
];

const BTRFS: &[(&str, Value)] = &[
    ("acl", Absent),
    ("noacl", Absent),
    ("autodefrag", Absent),
    ("noautodefrag", Absent),
    ("commit", Number(1, 300)),
    ("compress", Compression),
    ("compress-force", Compression),
    ("discard", AbsentOr(&["async", "sync"])),
    ("nodiscard", Absent),
    ("max_inline", Size(0, 4 << 10)),
    ("space_cache", Word(&["v2"])),
    ("ssd", Absent),
    ("nossd", Absent),
];

/// One kind of filesystem: its name in messages, what it may have, and what it is told why it may not.
struct Grammar {
    name: &'static str,
    options: &'static [(&'static str, Value)],
    common: &'static [(&'static str, Value)],
    refused: &'static [(&'static str, &'static str)],
}

/// Options that people do ask for, and why they cannot have them.
const REFUSED: &[(&str, &str)] = &[
    ("suid", "set-uid programs inside a volume would run with rights of the node"),
    ("dev", "device nodes inside a volume would reach the node's devices"),
    ("remount", "an option cannot change what kind of call this is"),
    ("bind", "an option cannot change what kind of call this is"),
    ("rbind", "an option cannot change what kind of call this is"),
    ("move", "an option cannot change what kind of call this is"),
    ("loop", "the driver attaches the device"),
    ("offset", "the driver attaches the device"),
    ("sizelimit", "the driver attaches the device"),
    ("source", "the driver chooses the device"),
    ("device", "the driver chooses the device"),
    ("logdev", "the driver chooses the device"),
    ("rtdev", "the driver chooses the device"),
    ("journal_dev", "the driver chooses the device"),
    ("journal_path", "the driver chooses the device"),
    ("subvol", "the driver chooses the subvolume"),
    ("subvolid", "the driver chooses the subvolume"),
    ("barrier", "a power cut would lose acknowledged writes"),
    ("nobarrier", "a power cut would lose acknowledged writes"),
    ("journal_async_commit", "a power cut could damage the filesystem"),
    ("noload", "the volume would be mounted without its last writes"),
    ("norecovery", "the volume would be mounted without its last writes"),
    ("panic", "a damaged volume must not stop the node"),
    ("fscontext", "only context is taken"),
    ("defcontext", "only context is taken"),
    ("rootcontext", "only context is taken"),
];

/// Checks the flags of a request for a filesystem of kind `fs`. Repeating a flag is harmless, contradicting one is not.
///
/// # Errors
/// [`super::Kind::Invalid`], naming the flag by its place in the list.
pub fn check(fs: FsType, flags: &[String]) -> Result<MountPlan> {
    let options = options_of(fs);
    check_by(&Grammar { name: fs.as_str(), options, common: COMMON, refused: REFUSED }, flags)
}

fn options_of(fs: FsType) -> &'static [(&'static str, Value)] {
    match fs {
        FsType::Ext4 => EXT4,
        FsType::Xfs => XFS,
        FsType::Btrfs => BTRFS,
    }
}

fn check_by(fs: &Grammar, flags: &[String]) -> Result<MountPlan> {
    if flags.len() > MAX_FLAGS {
        return Err(Error::invalid(
            FIELD,
            format!("has {} entries; at most {MAX_FLAGS} are taken", flags.len()),
        ));
    }
    let mut plan = MountPlan::default();
    let mut read_write = false;
    for (n, flag) in flags.iter().enumerate() {
        let bad = |why: String| Error::invalid(&format!("{FIELD}[{n}]"), why);
        let (key, value) = split(flag).map_err(bad)?;
        match (key, value) {
            ("ro", None) => plan.read_only = true,
            ("rw", None) => read_write = true,
            // What every mount has anyway.
            ("nosuid" | "nodev" | "exec" | "async", None) => {}
            _ => match generic(key).filter(|_| value.is_none()) {
                Some(flag) if plan.flags.contains(&flag) => {}
                Some(flag) => plan.flags.push(flag),
                None => add(&mut plan.options, fs, key, value).map_err(bad)?,
            },
        }
    }
    contradictions(&plan, read_write).map_err(|why| Error::invalid(FIELD, why))?;
    Ok(plan)
}

/// One flag as key and value, once nothing can be hidden in it.
fn split(flag: &str) -> Result<(&str, Option<&str>), String> {
    if flag.is_empty() {
        return Err("is empty".into());
    }
    if flag.len() > MAX_FLAG {
        return Err(format!("is {} bytes long; at most {MAX_FLAG} are taken", flag.len()));
    }
    if flag.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Err("holds white space or control characters".into());
    }
    let (key, value) = match flag.split_once('=') {
        Some((key, value)) => (key, Some(value)),
        None => (flag, None),
    };
    // The categories of an SELinux label have commas between them; its own grammar looks after those.
    if key != "context" && flag.contains(',') {
        return Err("holds a comma; give each option as an entry of its own".into());
    }
    Ok((key, value))
}

fn generic(key: &str) -> Option<GenericFlag> {
    Some(match key {
        "noexec" => GenericFlag::NoExec,
        "noatime" => GenericFlag::NoAtime,
        "nodiratime" => GenericFlag::NoDirAtime,
        "relatime" => GenericFlag::RelAtime,
        "strictatime" => GenericFlag::StrictAtime,
        _ => return None,
    })
}

fn add(
    options: &mut Vec<(String, Option<String>)>,
    fs: &Grammar,
    key: &str,
    value: Option<&str>,
) -> Result<(), String> {
    if let Some((key, why)) = fs.refused.iter().find(|(refused, _)| *refused == key) {
        return Err(format!("`{key}` is refused: {why}"));
    }
    if key == "errors" && value == Some("panic") {
        return Err("`errors=panic` is refused: a damaged volume must not stop the node".into());
    }
    let mut known = fs.options.iter().chain(fs.common);
    let Some((key, grammar)) = known.find(|(known, _)| *known == key) else {
        let names: Vec<&str> = fs.options.iter().chain(fs.common).map(|(name, _)| *name).collect();
        let generic = "ro rw noexec noatime nodiratime relatime strictatime";
        return Err(format!(
            "is not an option that {} volumes may have; allowed are {generic} {}",
            fs.name,
            names.join(" ")
        ));
    };
    let value = read(*grammar, value).map_err(|why| format!("`{key}` {why}"))?;
    match options.iter().find(|(there, _)| there == key) {
        None => options.push(((*key).to_owned(), value)),
        Some((_, there)) if *there == value => {}
        Some(_) => return Err(format!("`{key}` is there twice with different values")),
    }
    Ok(())
}

fn read(grammar: Value, value: Option<&str>) -> Result<Option<String>, String> {
    let kept = || Ok(value.map(str::to_owned));
    match (grammar, value) {
        (Absent | AbsentOr(_) | Compression, None) => Ok(None),
        (Absent, Some(_)) => Err("takes no value".into()),
        (Number(low, high), _) => match value.and_then(number) {
            Some(n) if (low..=high).contains(&n) => kept(),
            _ => Err(format!("takes a whole number from {low} to {high}")),
        },
        (Size(low, high), _) => match value.and_then(size) {
            Some(n) if (low..=high).contains(&n) => kept(),
            _ => Err(format!("takes a number of bytes from {low} to {high}, or one with k, m or g")),
        },
        (Word(words) | AbsentOr(words), _) => match value {
            Some(word) if words.contains(&word) => kept(),
            _ => Err(format!("takes one of {}", words.join(", "))),
        },
        (Compression, Some(text)) if compression(text) => kept(),
        (Compression, Some(_)) => {
            Err("takes zstd, zstd:1 to zstd:15, zlib, zlib:1 to zlib:9, lzo or no".into())
        }
        (Label, _) => {
            let text = value.unwrap_or_default();
            let bare = text.strip_prefix('"').and_then(|t| t.strip_suffix('"')).unwrap_or(text);
            match label(bare) {
                true => Ok(Some(bare.to_owned())),
                false => Err("takes an SELinux label user:role:type:level".into()),
            }
        }
    }
}

fn number(text: &str) -> Option<u64> {
    let plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    plain.then(|| text.parse().ok()).flatten()
}

fn size(text: &str) -> Option<u64> {
    let units = [('k', 10), ('m', 20), ('g', 30)];
    let unit = units.into_iter().find_map(|(c, shift)| Some((text.strip_suffix(c)?, shift)));
    let (digits, shift) = unit.unwrap_or((text, 0));
    number(digits)?.checked_mul(1 << shift)
}

fn compression(text: &str) -> bool {
    let (algorithm, level) = match text.split_once(':') {
        Some((algorithm, level)) => (algorithm, Some(level)),
        None => (text, None),
    };
    let most = match algorithm {
        "zstd" => 15,
        "zlib" => 9,
        "lzo" | "no" => 0,
        _ => return false,
    };
    level.is_none_or(|level| number(level).is_some_and(|n| (1..=most).contains(&n)))
}

/// `user:role:type:level`, the level such as `s0`, `s0:c1,c2`, `s0-s0:c0.c1023`.
fn label(text: &str) -> bool {
    let mut parts = text.splitn(4, ':');
    let word = |part: Option<&str>| {
        part.is_some_and(|p| {
            !p.is_empty()
                && p.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-' || b == b'.')
        })
    };
    let names = word(parts.next()) && word(parts.next()) && word(parts.next());
    let level =
        parts.next().is_none_or(|levels| levels.split('-').count() <= 2 && levels.split('-').all(level));
    names && level && text.len() <= 256
}

fn level(text: &str) -> bool {
    let (sensitivity, categories) = match text.split_once(':') {
        Some((sensitivity, categories)) => (sensitivity, Some(categories)),
        None => (text, None),
    };
    let numbered =
        |text: &str, letter: char| text.strip_prefix(letter).and_then(number).is_some_and(|n| n <= 1023);
    let category = |text: &str| text.split('.').count() <= 2 && text.split('.').all(|c| numbered(c, 'c'));
    numbered(sensitivity, 's') && categories.is_none_or(|list| list.split(',').all(category))
}

fn contradictions(plan: &MountPlan, read_write: bool) -> Result<(), String> {
    if plan.read_only && read_write {
        return Err("asks for both ro and rw".into());
    }
    use GenericFlag::{NoAtime, RelAtime, StrictAtime};
    if plan.flags.iter().filter(|flag| matches!(flag, NoAtime | RelAtime | StrictAtime)).count() > 1 {
        return Err("asks for more than one of noatime, relatime and strictatime".into());
    }
    let has = |key: &str| plan.options.iter().any(|(there, _)| there == key);
    for (key, _) in &plan.options {
        if has(&format!("no{key}")) {
            return Err(format!("asks for both {key} and no{key}"));
        }
    }
    if has("compress") && has("compress-force") {
        return Err("asks for both compress and compress-force".into());
    }
    Ok(())
}

mod nfs;

pub use nfs::{NfsPlan, check_nfs};

#[cfg(test)]
#[path = "mount_options_tests.rs"]
mod tests;
