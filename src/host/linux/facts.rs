//! What this machine is and can do, which does not change while it runs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::errno::At;
use crate::host::{Cause, HostError, HostFacts, HostResult};

/// The filesystems of volumes.
const FILESYSTEMS: [&str; 3] = ["ext4", "xfs", "btrfs"];

/// The bit of CAP_SYS_RESOURCE in a set of capabilities.
const CAP_SYS_RESOURCE: u32 = 24;

/// See [`Host::facts`](crate::host::Host::facts).
///
/// Of the filesystems of volumes, those are listed that the kernel can mount *and* that can be formatted.
pub(super) fn facts(programs: &BTreeMap<&'static str, PathBuf>) -> HostResult<HostFacts> {
    let uname = rustix::system::uname();
    let release = uname.release().to_string_lossy();
    let known = read(Path::new("/proc/filesystems"))?;
    let modules = std::fs::read_to_string(format!("/lib/modules/{release}/modules.dep")).unwrap_or_default();
    let mut filesystems: Vec<String> = known_filesystems(&known).map(str::to_owned).collect();
    for fs in FILESYSTEMS {
        let listed = filesystems.iter().any(|known| known == fs);
        match programs.contains_key(format!("mkfs.{fs}").as_str()) {
            // The kernel loads a module by itself when it is first mounted.
            true if !listed && has_module(&modules, fs) => filesystems.push(fs.to_owned()),
            false if listed => filesystems.retain(|known| known != fs),
            _ => {}
        }
    }
    Ok(HostFacts {
        boot_id: read(Path::new("/proc/sys/kernel/random/boot_id"))?.trim().to_owned(),
        kernel: kernel_version(&release).ok_or_else(|| {
            let detail = format!("unreadable kernel release {release:?}");
            HostError::new("uname", Path::new("/proc/sys/kernel/osrelease"), Cause::Other, detail)
        })?,
        cap_sys_resource: has_capability(&read(Path::new("/proc/self/status"))?, CAP_SYS_RESOURCE),
        filesystems,
    })
}

fn read(path: &Path) -> HostResult<String> {
    std::fs::read_to_string(path).at("read", path)
}

/// The names in `/proc/filesystems`: a mark, a tab, a name.
fn known_filesystems(table: &str) -> impl Iterator<Item = &str> {
    table.lines().filter_map(|line| line.split('\t').next_back()).filter(|name| !name.is_empty())
}

/// Whether a filesystem is among the modules that can be loaded.
fn has_module(modules: &str, fs: &str) -> bool {
    modules.lines().filter_map(|line| line.split(':').next()).any(|file| {
        let name = file.rsplit('/').next().unwrap_or(file);
        name.strip_prefix(fs).is_some_and(|rest| rest.starts_with(".ko"))
    })
}

/// Major and minor of a release such as `6.1.0-18-amd64`.
fn kernel_version(release: &str) -> Option<(u32, u32)> {
    let mut parts = release.split(|letter: char| !letter.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// Whether a capability is in the effective set of `/proc/self/status`.
fn has_capability(status: &str, bit: u32) -> bool {
    let set = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    set.and_then(|set| u64::from_str_radix(set.trim(), 16).ok()).is_some_and(|set| set & (1 << bit) != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_releases_of_all_shapes_are_read() {
        fn check(release: &str, expect: Option<(u32, u32)>) {
            assert_eq!(kernel_version(release), expect, "{release:?}");
        }
        check("6.1.0-18-amd64", Some((6, 1)));
        check("5.15.167.4-microsoft-standard-WSL2", Some((5, 15)));
        check("6.18-rc1", Some((6, 18)));
        check("linux", None);
        check("", None);
    }

    #[test]
    fn capabilities_are_read_from_the_effective_set_only() {
        fn check(status: &str, expect: bool) {
            assert_eq!(has_capability(status, CAP_SYS_RESOURCE), expect, "{status:?}");
        }
        check("CapPrm:\t000001ffffffffff\nCapEff:\t000001fffeffffff\n", false);
        check("CapPrm:\t0000000000000000\nCapEff:\t000001ffffffffff\n", true);
        check("Name:\tx\n", false);
    }

    #[test]
    fn filesystems_are_found_built_in_and_as_modules() {
        assert_eq!(
            known_filesystems("nodev\tsysfs\n\text4\n\txfs\n").collect::<Vec<_>>(),
            ["sysfs", "ext4", "xfs"]
        );
        let modules = "kernel/fs/xfs/xfs.ko.xz: kernel/lib/libcrc32c.ko.xz\nkernel/fs/btrfs/btrfs.ko:\n";
        assert!(has_module(modules, "xfs") && has_module(modules, "btrfs") && !has_module(modules, "ext4"));
    }
}
