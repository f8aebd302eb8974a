//! The arguments for mkfs.
//!
//! Two things go wrong with the programs' own defaults. They follow the newest kernel: an xfsprogs newer than the
//! kernel makes volumes that cannot be mounted. And they take a twentieth of a small ext4 for journal, inodes and root's
//! reserve, so people get less than they asked for. So every feature is named here, the ones that the *running* kernel
//! lacks are off, and ext4's tables are scaled so that `df` shows at least 97 % of the size (from 48 MiB on: below that,
//! the smallest journal that the kernel takes is more than the rest).
//!
//! Nothing is ever discarded (a thick volume would become sparse) and nothing forced: where a program refuses by
//! itself to overwrite a filesystem (xfs and btrfs do, ext4 asks only at a terminal), that stands behind our own checks.

use super::error::{Error, Kind, Result};
use super::mkfs_options::{self, MkfsOption};
use super::size::{GIB, KIB, MIB};
use super::spec::FsType;

/// What the filesystem is made for, and with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    /// Bytes of the device or image, all of which are zero: their owner has proved it. The plan relies on it and leaves
    /// out writing zeros again.
    pub size: u64,
    /// The running kernel: major, minor.
    pub kernel: (u32, u32),
    /// The version of the mkfs program: major, minor. `None` assumes those that Offshoot's own image brings.
    pub program: Option<(u32, u32)>,
}

/// The smallest volume in bytes that mkfs and the kernel take, with a little room for data.
pub fn min_size(fs: FsType) -> u64 {
    match fs {
        FsType::Ext4 => 16 * MIB,
        FsType::Xfs => 300 * MIB,
        FsType::Btrfs => 128 * MIB,
    }
}

/// All arguments but the device. `user_options` are the words of the parameter `mkfsOptions`; they win over ours.
///
/// # Errors
/// [`Kind::Invalid`] for an option that is not on the allow-list, or a feature that the kernel cannot mount;
/// [`Kind::OutOfRange`] for a size below [`min_size`].
pub fn args(fs: FsType, target: &Target, user_options: &[String]) -> Result<Vec<String>> {
    let user = mkfs_options::check(fs, user_options)?;
    if target.size < min_size(fs) {
        let (name, min) = (fs.as_str(), min_size(fs));
        return Err(Error::new(Kind::OutOfRange, format!("size: {name} needs at least {min} bytes")));
    }
    if let Some((feature, (major, minor))) = mkfs_options::too_new(fs, &user, target.kernel) {
        let why = format!(
            "`{feature}` needs Linux {major}.{minor} or newer, but this node runs {}.{}",
            target.kernel.0, target.kernel.1
        );
        return Err(Error::invalid("mkfsOptions", why));
    }
    let mut plan = match fs {
        FsType::Ext4 => ext4(target, &user),
        FsType::Xfs => xfs(target),
        FsType::Btrfs => btrfs(target),
    };
    for option in user {
        for (key, value) in option.items {
            plan.set(option.flag, &key, value.as_deref());
        }
    }
    Ok(plan.words())
}

/// A name for the template image of such a filesystem: two plans with the same name make the same filesystem.
pub fn template_name(fs: FsType, size: u64, args: &[String]) -> String {
    // FNV-1a: it needs to be the same in every release, not to withstand anybody.
    let bytes = args.iter().flat_map(|arg| arg.bytes().chain([0]));
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{}-{size}-{hash:016x}", fs.as_str())
}

/// The version in what `mkfs.xfs -V`, `mke2fs -V` or `mkfs.btrfs -V` print: the first two numbers.
pub fn program_version(printed: &str) -> Option<(u32, u32)> {
    printed.split_ascii_whitespace().find_map(|word| {
        let mut numbers = word.trim_start_matches('v').split(['.', '-']);
        let major = numbers.next()?.parse().ok()?;
        Some((major, numbers.next()?.parse().ok()?))
    })
}

/// Arguments in the making: flags, each with items that end up in one comma list.
#[derive(Default)]
struct Plan {
    flags: Vec<&'static str>,
    lists: Vec<MkfsOption>,
}

impl Plan {
    /// Sets one item; a later one replaces an earlier one of the same key, or all that a plain value stood for.
    fn set(&mut self, flag: &'static str, key: &str, value: Option<&str>) {
        let item = (key.to_owned(), value.map(str::to_owned));
        let Some(option) = self.lists.iter_mut().find(|option| option.flag == flag) else {
            self.lists.push(MkfsOption { flag, items: vec![item] });
            return;
        };
        let plain = |key: &str| key.trim_start_matches('^').to_owned();
        let list = value.is_some() || flag == "-O";
        option.items.retain(|(there, _)| list && plain(there) != plain(key));
        option.items.push(item);
    }

    fn words(self) -> Vec<String> {
        let mut words: Vec<String> = self.flags.iter().map(|flag| (*flag).to_owned()).collect();
        for MkfsOption { flag, items } in self.lists {
            let show = |(key, value): (String, Option<String>)| match value {
                Some(value) => format!("{key}={value}"),
                None => key,
            };
            words.push(flag.to_owned());
            words.push(items.into_iter().map(show).collect::<Vec<_>>().join(","));
        }
        words
    }
}

/// What every kernel that Offshoot runs on can mount. `none` forgets what `/etc/mke2fs.conf` says.
const EXT4_FEATURES: &str = "none has_journal ext_attr resize_inode dir_index filetype extent 64bit flex_bg sparse_super \
                             large_file huge_file dir_nlink extra_isize metadata_csum";

fn ext4(target: &Target, user: &[MkfsOption]) -> Plan {
    let chosen = |flag: &str| {
        let option = user.iter().find(|option| option.flag == flag);
        option.and_then(|option| option.items.first()?.0.parse::<u64>().ok())
    };
    let size = target.size;
    // The kernel takes no journal under 1024 blocks, so small volumes get small blocks.
    let block = chosen("-b").unwrap_or(match size {
        _ if size < 128 * MIB => KIB,
        _ if size < 256 * MIB => 2 * KIB,
        _ => 4 * KIB,
    });
    let journal = (size / 128).clamp(1024 * block, GIB).div_ceil(MIB);
    let inode_ratio = match size {
        _ if size < 64 * MIB => 64 * KIB,
        _ if size < 512 * MIB => 32 * KIB,
        _ if size < 4 << 40 => 16 * KIB,
        // Inode numbers have 32 bits.
        _ => (size >> 31).next_power_of_two().clamp(32 * KIB, 64 * MIB),
    };
    let mut plan = Plan { flags: vec!["-q"], ..Plan::default() };
    plan.set("-t", "ext4", None);
    plan.set("-b", &block.to_string(), None);
    plan.set("-I", "256", None);
    plan.set("-i", &inode_ratio.to_string(), None);
    plan.set("-m", "0", None);
    plan.set("-J", "size", Some(&journal.to_string()));
    plan.set("-E", "nodiscard", None);
    match target.program {
        // Neither mkfs nor the kernel's background thread then writes zeros over zeros, which would fill a thin image.
        None => plan.set("-E", "assume_storage_prezeroed", Some("1")),
        Some(version) if version >= (1, 47) => plan.set("-E", "assume_storage_prezeroed", Some("1")),
        Some(_) => {
            plan.set("-E", "lazy_itable_init", Some("1"));
            plan.set("-E", "lazy_journal_init", Some("1"));
        }
    }
    if size < 256 * MIB {
        // Room to grow is kept in every copy of the group table; the usual 1024 times would cost a small volume too much.
        plan.set("-E", "resize", Some(&(size / block * 64).to_string()));
    }
    for feature in EXT4_FEATURES.split_ascii_whitespace() {
        plan.set("-O", feature, None);
    }
    plan
}

fn xfs(target: &Target) -> Plan {
    let program = target.program.unwrap_or((6, 1));
    let on = |since: (u32, u32)| Some(if target.kernel >= since { "1" } else { "0" });
    let mut plan = Plan { flags: vec!["-q", "-K"], ..Plan::default() };
    // A loop device with direct I/O has the sectors of the pool's disk. Made in a file, the filesystem would count on 512
    // bytes, and the kernel would not mount it where the disk has 4096; the other way round works everywhere.
    plan.set("-s", "size", Some("4096"));
    plan.set("-m", "crc", Some("1"));
    plan.set("-m", "finobt", Some("1"));
    plan.set("-m", "rmapbt", Some("0"));
    plan.set("-m", "reflink", on((4, 9)));
    if program >= (5, 10) {
        plan.set("-m", "bigtime", on((5, 10)));
        plan.set("-m", "inobtcount", on((5, 10)));
    }
    // Newer features that a volume gains nothing by, and that an older kernel could not mount.
    if program >= (5, 19) {
        plan.set("-i", "nrext64", Some("0"));
    }
    if program >= (6, 10) {
        plan.set("-i", "exchange", Some("0"));
        plan.set("-n", "parent", Some("0"));
    }
    plan
}

fn btrfs(target: &Target) -> Plan {
    let mut plan = Plan { flags: vec!["-q", "-K"], ..Plan::default() };
    // On by default in the newest programs.
    if target.program.unwrap_or((6, 2)) >= (6, 1) && target.kernel < (6, 1) {
        plan.set("-O", "^block-group-tree", None);
    }
    plan
}

#[cfg(test)]
#[path = "mkfs_plan_tests.rs"]
mod tests;
