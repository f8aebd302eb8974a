//! What `offshoot doctor` looks at: the machine, and what the server knows to be wrong.
//!
//! Most of what goes wrong with storage on a machine is a package, a module or a capability that is missing, and shows
//! as a failed call days later. So every check ends in the command that mends it. Looking changes nothing, and what
//! cannot be told is a warning, never "all well".

use std::path::Path;

use super::api::{Check, CheckStatus, PoolStatus};
use super::orphans::Orphan;
use super::pool::blocking;
use super::{Inner, Service};
use crate::backend::{Fault, Severity};
use crate::host::{Cause, Host, HostError, HostFacts};

/// The oldest kernel that has all the calls: mounts by descriptor are of 5.12.
const KERNEL: (u32, u32) = (5, 12);
/// Bits of capabilities in `/proc/self/status`.
const CAP_SYS_ADMIN: u32 = 21;
const CAP_SYS_RESOURCE: u32 = 24;

/// The filesystems of volumes, each with its programs and the Debian package that has them.
const FILESYSTEMS: [(&str, &[&str], &str); 3] = [
    ("ext4", &["mkfs.ext4", "e2fsck", "resize2fs"], "e2fsprogs"),
    ("xfs", &["mkfs.xfs"], "xfsprogs"),
    ("btrfs", &["mkfs.btrfs"], "btrfs-progs"),
];

fn check(name: &str, status: CheckStatus, detail: impl Into<String>, mend: impl Into<String>) -> Check {
    Check { name: name.to_owned(), status, detail: detail.into(), mend: mend.into() }
}

fn fine(name: &str, detail: impl Into<String>) -> Check {
    check(name, CheckStatus::Ok, detail, "")
}

fn unknown(name: &str, error: &HostError) -> Check {
    check(name, CheckStatus::Warn, format!("cannot be told: {error}"), "")
}

/// Looks at the machine that this process runs on. Blocks.
pub fn host_checks(host: &dyn Host) -> Vec<Check> {
    let mut checks = Vec::new();
    let facts = host.facts();
    match &facts {
        Ok(facts) => {
            checks.push(kernel(facts));
            checks.push(mount_calls(host));
            for (fs, programs, package) in FILESYSTEMS {
                checks.push(filesystem(host, facts, fs, programs, package));
            }
        }
        Err(error) => checks.push(unknown("kernel", error)),
    }
    checks.push(loop_devices(host));
    checks.extend(capabilities(host));
    checks
}

fn kernel(facts: &HostFacts) -> Check {
    let (major, minor) = facts.kernel;
    let version = format!("{major}.{minor}");
    if facts.kernel >= KERNEL {
        return fine("kernel", version);
    }
    let mend = format!("boot Linux {}.{} or newer", KERNEL.0, KERNEL.1);
    check("kernel", CheckStatus::Fail, format!("{version} has no mounts by descriptor"), mend)
}

/// The kernel may know the calls and a filter of the container's runtime refuse them; only calling tells.
fn mount_calls(host: &dyn Host) -> Check {
    let name = "mount calls";
    let asked = host.target_kind(Path::new("/proc")).and_then(|_| host.mounts());
    match asked {
        Ok(mounts) => fine(name, format!("openat2 and the mount table work; {} mounts", mounts.len())),
        Err(error) if matches!(error.cause, Cause::Unsupported | Cause::Denied) => {
            let mend = "run as root; in a container, privileged or with a seccomp profile that allows openat2 and mount calls";
            check(name, CheckStatus::Fail, error.to_string(), mend)
        }
        Err(error) => unknown(name, &error),
    }
}

fn filesystem(host: &dyn Host, facts: &HostFacts, fs: &str, programs: &[&str], package: &str) -> Check {
    let name = format!("filesystem {fs}");
    // ext4 is what volumes have if nothing is said; without the others, only volumes of that kind cannot be had.
    let (status, without) = match fs {
        "ext4" => {
            (CheckStatus::Fail, "volumes cannot be made unless they name another filesystem".to_owned())
        }
        _ => (CheckStatus::Warn, format!("volumes with {fs} cannot be made or mounted")),
    };
    let missing: Vec<_> =
        programs.iter().copied().filter(|program| host.program(program).is_none()).collect();
    if !missing.is_empty() {
        let detail = format!("{} not installed: {without}", missing.join(", "));
        return check(&name, status, detail, format!("apt-get install {package}"));
    }
    if !facts.filesystems.iter().any(|known| known == fs) {
        let detail = format!("this kernel has it neither built in nor as a module: {without}");
        return check(&name, status, detail, format!("modprobe {fs}, or a kernel that has it"));
    }
    fine(&name, format!("kernel and {}", programs.join(", ")))
}

fn loop_devices(host: &dyn Host) -> Check {
    let name = "loop devices";
    let looked = || {
        if host.metadata(Path::new("/dev/loop-control"))?.is_none() {
            let mend = "modprobe loop; in a container, mount the host's /dev";
            return Ok(check(name, CheckStatus::Fail, "/dev/loop-control is missing", mend));
        }
        let (mut there, mut free, mut hidden) = (0u32, 0u32, 0u32);
        for entry in host.read_dir(Path::new("/sys/block"))? {
            let Some(number) = entry.name.strip_prefix("loop") else { continue };
            if number.is_empty() || !number.bytes().all(|b| b.is_ascii_digit()) {
                continue;
            }
            there += 1;
            let attached = format!("/sys/block/{}/loop/backing_file", entry.name);
            if host.metadata(Path::new(&attached))?.is_none() {
                free += 1;
                hidden += u32::from(host.metadata(&Path::new("/dev").join(&entry.name))?.is_none());
            }
        }
        let detail = format!("{there} there, {free} free; the kernel makes more when they are needed");
        if hidden > 0 {
            let detail = format!("{hidden} free ones have no node in /dev, so they cannot be attached");
            let mend = "mount the host's /dev into the container, or make the nodes with mknod";
            return Ok(check(name, CheckStatus::Warn, detail, mend));
        }
        Ok(fine(name, detail))
    };
    looked().unwrap_or_else(|error| unknown(name, &error))
}

fn capabilities(host: &dyn Host) -> Vec<Check> {
    let set = match host.read_file(Path::new("/proc/self/status")) {
        Ok(status) => status.and_then(|status| effective(&String::from_utf8_lossy(&status))),
        Err(error) => return vec![unknown("capabilities", &error)],
    };
    let Some(set) = set else {
        return vec![check(
            "capabilities",
            CheckStatus::Warn,
            "cannot be told: /proc/self/status does not say",
            "mount /proc",
        )];
    };
    let has = |bit: u32| set & (1 << bit) != 0;
    let admin = if has(CAP_SYS_ADMIN) {
        fine("CAP_SYS_ADMIN", "may mount and attach loop devices")
    } else {
        let mend = "run as root; in a container, privileged";
        check("CAP_SYS_ADMIN", CheckStatus::Fail, "may not mount or attach loop devices", mend)
    };
    let resource = if has(CAP_SYS_RESOURCE) {
        fine("CAP_SYS_RESOURCE", "may grow a mounted ext4")
    } else {
        let mend = "give the process CAP_SYS_RESOURCE, or use xfs for volumes that grow";
        check(
            "CAP_SYS_RESOURCE",
            CheckStatus::Warn,
            "a mounted ext4 cannot grow until it is mounted anew",
            mend,
        )
    };
    vec![admin, resource]
}

/// The effective set in `/proc/self/status`.
fn effective(status: &str) -> Option<u64> {
    let set = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(set.trim(), 16).ok()
}

/// Whether the server can keep its state in `dir`. Blocks.
pub fn state_dir_check(host: &dyn Host, dir: &Path) -> Check {
    let name = "state directory";
    let shown = dir.display();
    let looked = || {
        if host.metadata(dir)?.is_none() {
            return Ok(fine(name, format!("{shown} is not there yet; the server makes it")));
        }
        let stat = host.fs_stat(dir)?;
        if stat.read_only {
            let mend = "mount it read-write, or name another with --state-dir";
            return Ok(check(name, CheckStatus::Fail, format!("{shown} is on a read-only filesystem"), mend));
        }
        if matches!(stat.fs.as_str(), "tmpfs" | "overlay") {
            let detail = format!("{shown} is on {}: what pools were made is forgotten with it", stat.fs);
            let mend = "put it on a disk, or name another with --state-dir";
            return Ok(check(name, CheckStatus::Warn, detail, mend));
        }
        Ok(fine(name, format!("{shown} on {}", stat.fs)))
    };
    looked().unwrap_or_else(|error| unknown(name, &error))
}

impl Service {
    /// Looks at the machine, the pools, their records and what is left over. Changes nothing.
    pub async fn diagnose(&self) -> Vec<Check> {
        let (host, state_dir) = (self.inner.host.clone(), self.inner.settings.state_dir.clone());
        let looked = blocking(move || {
            let mut checks = host_checks(&*host);
            checks.extend(state_dir.map(|dir| state_dir_check(&*host, &dir)));
            Ok(checks)
        });
        let mut checks = match looked.await {
            Ok(checks) => checks,
            Err(error) => vec![check("host", CheckStatus::Fail, error.to_string(), "")],
        };
        for (name, why) in self.unopened_pools() {
            let mend = "mend what it says, or take it away with `offshoot pool delete`; it is tried again when the server starts";
            checks.push(check(
                &format!("pool {name}"),
                CheckStatus::Fail,
                format!("is not open: {why}"),
                mend,
            ));
        }
        let pools = self.list_pools().await;
        if checks.iter().all(|check| !check.name.starts_with("pool ")) && pools.is_empty() {
            let mend =
                "make one: offshoot pool create NAME DIR, or offshoot pool create --file PATH --size SIZE";
            checks.push(check("pools", CheckStatus::Fail, "there is none, so no volume can be made", mend));
        }
        for pool in &pools {
            checks.extend(pool_checks(pool));
        }
        checks.extend(self.inner.record_checks());
        checks.extend(match self.list_orphans().await {
            Ok(orphans) => orphan_checks(&orphans),
            Err(error) => {
                vec![check("left-overs", CheckStatus::Warn, format!("cannot be told: {error}"), "")]
            }
        });
        checks
    }
}

impl Inner {
    /// Records that could not be read, and objects of which a power cut left only the name.
    fn record_checks(&self) -> Vec<Check> {
        let mut checks = Vec::new();
        for pool in self.pools() {
            let name = format!("records of {}", pool.backend.info().name);
            for damaged in &pool.damaged {
                let detail = format!("{} cannot be read: {}", damaged.path.display(), damaged.why);
                let mend =
                    "mend or restore the file, then restart the server; its bytes are left alone meanwhile";
                checks.push(check(&name, CheckStatus::Fail, detail, mend));
            }
            for unfinished in pool.unfinished.iter().filter(|unfinished| !unfinished.certain) {
                let detail = format!("{} has lost its record in a power cut", unfinished.id);
                let mend = "look at its bytes, then move them out of the pool";
                checks.push(check(&name, CheckStatus::Warn, detail, mend));
            }
            if pool.damaged.is_empty() && pool.unfinished.iter().all(|unfinished| unfinished.certain) {
                checks.push(fine(&name, "all can be read"));
            }
        }
        checks
    }
}

fn pool_checks(pool: &PoolStatus) -> Vec<Check> {
    let name = format!("pool {}", pool.info.name);
    let mut checks: Vec<Check> = pool.faults.iter().map(|fault| fault_check(&name, fault)).collect();
    if checks.is_empty() {
        let detail = format!(
            "{} on {}: {} volumes, {} snapshots",
            pool.info.filesystem, pool.info.path, pool.volumes, pool.snapshots
        );
        checks.push(fine(&name, detail));
    }
    if !pool.info.shares_copies {
        let detail = "copies take full space and time: its filesystem cannot share bytes";
        let mend =
            "use XFS or btrfs, or make a pool in a file: offshoot pool create NAME --file PATH --size SIZE";
        checks.push(check(&name, CheckStatus::Warn, detail, mend));
    }
    checks.extend(pool.info.warnings.iter().map(|warning| check(&name, CheckStatus::Warn, warning, "")));
    checks
}

fn fault_check(name: &str, fault: &Fault) -> Check {
    let status = if fault.severity >= Severity::Inaccessible { CheckStatus::Fail } else { CheckStatus::Warn };
    // A fault's message says itself what to do.
    check(name, status, format!("{}: {}", fault.reason, fault.message), "")
}

fn orphan_checks(orphans: &[Orphan]) -> Vec<Check> {
    if orphans.is_empty() {
        return vec![fine("left-overs", "none")];
    }
    let proven = orphans.iter().filter(|orphan| orphan.leftover.proven).count();
    let mut checks = Vec::new();
    if proven > 0 {
        let size: u64 = orphans.iter().filter(|o| o.leftover.proven).map(|o| o.leftover.size).sum();
        let detail = format!("{proven} of interrupted work, {size} bytes");
        checks.push(check("left-overs", CheckStatus::Warn, detail, "offshoot orphans reap"));
    }
    if orphans.len() > proven {
        let detail = format!("{} that may be somebody else's", orphans.len() - proven);
        checks.push(check(
            "left-overs",
            CheckStatus::Warn,
            detail,
            "look at them with: offshoot orphans list",
        ));
    }
    checks
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fake::Fake;

    /// A machine with all that is looked at.
    fn machine() -> Fake {
        let host = Fake::new();
        for dir in ["/dev", "/proc/self", "/sys/block/loop0/loop", "/sys/block/loop1", "/sys/block/sda"] {
            host.mkdirs(dir).unwrap();
        }
        for file in ["/dev/loop-control", "/dev/loop0", "/dev/loop1", "/sys/block/loop0/loop/backing_file"] {
            host.plant(file, "").unwrap();
        }
        host.plant("/proc/self/status", "Name:\tx\nCapEff:\t000001ffffffffff\n").unwrap();
        host
    }

    #[track_caller]
    fn expect(host: &Fake, name: &str, status: CheckStatus, mend: &str) {
        let checks = host_checks(host);
        let found = checks.iter().find(|check| check.name == name).unwrap();
        assert_eq!(found.status, status, "{found:?}");
        assert!(found.mend.contains(mend), "{found:?}");
    }

    #[test]
    fn a_machine_with_everything_is_well() {
        let bad: Vec<_> =
            host_checks(&machine()).into_iter().filter(|check| check.status != CheckStatus::Ok).collect();
        assert!(bad.is_empty(), "{bad:?}");
    }

    #[test]
    fn what_is_missing_is_said_with_the_command_that_mends_it() {
        let host = machine();
        host.without_program("mkfs.xfs");
        host.without_program("resize2fs");
        host.set_kernel((5, 4));
        expect(&host, "filesystem xfs", CheckStatus::Warn, "apt-get install xfsprogs");
        expect(&host, "filesystem ext4", CheckStatus::Fail, "apt-get install e2fsprogs");
        expect(&host, "kernel", CheckStatus::Fail, "5.12");
        let host = machine();
        host.set_kernel_filesystems(&["ext4", "xfs"]);
        expect(&host, "filesystem btrfs", CheckStatus::Warn, "modprobe btrfs");
    }

    #[test]
    fn loop_devices_without_nodes_are_seen() {
        let host = machine();
        host.mkdirs("/sys/block/loop7").unwrap();
        expect(&host, "loop devices", CheckStatus::Warn, "/dev");
    }

    #[test]
    fn what_cannot_be_told_is_not_well() {
        let checks = host_checks(&Fake::new());
        let well =
            |name: &str| checks.iter().any(|check| check.name == name && check.status == CheckStatus::Ok);
        assert!(!well("loop devices") && !well("CAP_SYS_ADMIN"), "{checks:?}");
    }

    #[test]
    fn capabilities_are_read_from_the_effective_set() {
        assert_eq!(effective("CapPrm:\tff\nCapEff:\t0000000000000003\n"), Some(3));
        assert_eq!(effective("CapPrm:\tff\n"), None);
    }

    #[test]
    fn a_state_directory_that_cannot_be_written_is_a_failure() {
        let host = Fake::with_pool("/srv/pool", "xfs", 1 << 30);
        assert_eq!(state_dir_check(&host, Path::new("/srv/pool")).status, CheckStatus::Ok);
        host.set_read_only("/srv/pool", true).unwrap();
        assert_eq!(state_dir_check(&host, Path::new("/srv/pool")).status, CheckStatus::Fail);
    }
}
