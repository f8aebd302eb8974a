//! A machine in memory that behaves like the real one.
//!
//! Crashes, full disks and power cuts cannot be had on order from a real kernel, and not thousands of them in a
//! second. [`Fake`] can be told to die before, during or after any call, and to lose what was not durable. It is only
//! worth what it is true to: `host::contract` runs the same table of tests on it and on the real kernel.
//!
//! ```
//! use offshoot::host::fake::{Fake, Moment};
//! use offshoot::host::Host;
//! use std::path::Path;
//!
//! let run = |fake: &Fake| fake.create_file(Path::new("/pool/a.img"), 1 << 20);
//! let counted = Fake::with_pool("/pool", "xfs", 1 << 30);
//! run(&counted).unwrap();
//! for n in 1..=counted.counted() {
//!     for moment in [Moment::Before, Moment::During, Moment::After] {
//!         let fake = Fake::with_pool("/pool", "xfs", 1 << 30);
//!         fake.crash(n, moment);
//!         run(&fake).unwrap_err();
//!         let fake = fake.restart();
//!         assert!(fake.audit().loops.is_empty());
//!     }
//! }
//! ```

mod app;
mod audit;
mod data;
mod files;
mod filesystems;
mod hosting;
mod loops;
mod mounts;
mod nfs;
mod plan;
mod power;
mod subvolumes;
mod targets;
#[cfg(test)]
mod tests;
mod world;

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use audit::{Audit, LoopAudit, TreeEntry};
pub use plan::{Call, Hook, Moment};

use super::{Cause, HostError, HostResult};
use data::Space;
use plan::{Plan, Verdict};
use world::{Body, Links, Mount, Step, World};

/// A handle to the machine, as one process has it. Clones are the same process.
#[derive(Clone)]
pub struct Fake {
    machine: Arc<Machine>,
    epoch: u64,
}

struct Machine {
    world: Mutex<World>,
    plan: Mutex<Plan>,
}

impl Default for Fake {
    fn default() -> Self {
        Self::new()
    }
}

impl Fake {
    /// A machine with an `overlay` root, `/dev`, and `/var/lib/kubelet`.
    pub fn new() -> Self {
        let mut world = World {
            inodes: HashMap::new(),
            filesystems: BTreeMap::new(),
            mounts: Vec::new(),
            loops: BTreeMap::new(),
            locks: HashMap::new(),
            next_ino: 256,
            next_dev: 40,
            boots: 1,
            serial: 0,
            kernel: (6, 12),
            cap_sys_resource: true,
            kernel_filesystems: ["ext4", "xfs", "btrfs"].map(str::to_owned).to_vec(),
            missing_programs: Vec::new(),
            halfway: false,
            network: nfs::Network::default(),
        };
        world.add_mounted("/", 20, "overlay", 64 << 30);
        for dir in ["/dev", "/var", "/var/lib", "/var/lib/kubelet"] {
            let _only_the_root_exists_yet = world.make_dir(Path::new(dir));
        }
        world.add_mounted("/dev", 6, "devtmpfs", 1 << 20);
        let machine = Machine { world: Mutex::new(world), plan: Mutex::new(Plan::default()) };
        Fake { machine: Arc::new(machine), epoch: 0 }
    }

    /// A new machine with one filesystem of `size` bytes mounted at `path`.
    pub fn with_pool(path: impl AsRef<Path>, fs: &str, size: u64) -> Self {
        let fake = Self::new();
        fake.add_pool(path, fs, size);
        fake
    }

    /// Mounts one more empty filesystem of `size` bytes at `path`, made with its parents if it is missing.
    ///
    /// Only `xfs` and `btrfs` reflink; only `btrfs` has subvolumes; `tmpfs` and `overlay` have no direct I/O.
    pub fn add_pool(&self, path: impl AsRef<Path>, fs: &str, size: u64) {
        let mut world = self.world();
        let mut dirs: Vec<&Path> = path.as_ref().ancestors().collect();
        dirs.reverse();
        for dir in dirs {
            let _there_or_made = world.make_dir(dir);
        }
        world.next_dev += 1;
        let dev = world.next_dev;
        world.add_mounted(&path.as_ref().to_string_lossy(), dev, fs, size);
        if let Some(fs) = world.filesystems.get_mut(&dev) {
            fs.journal = true;
        }
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.machine.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn plan(&self) -> MutexGuard<'_, Plan> {
        self.machine.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // ---- the plan

    /// The process dies at the `n`-th counted call (from 1) of what is still to come since the last restart.
    pub fn crash(&self, n: usize, moment: Moment) {
        self.plan().crash = Some((n, moment));
    }

    /// [`crash`](Self::crash) before the call has any effect.
    pub fn crash_before(&self, n: usize) {
        self.crash(n, Moment::Before);
    }

    /// [`crash`](Self::crash) after the call has had its effect.
    pub fn crash_after(&self, n: usize) {
        self.crash(n, Moment::After);
    }

    /// The `n`-th counted call fails without effect. Several may be planned.
    pub fn fail_at(&self, n: usize, cause: Cause) {
        self.plan().failures.push((n, cause));
    }

    /// Every call of this name fails without effect, until [`heal`](Self::heal) or a restart.
    pub fn fail_always(&self, name: &'static str, cause: Cause) {
        self.plan().failing.push((name, cause));
    }

    /// Takes back all planned failures and crashes.
    pub fn heal(&self) {
        let mut plan = self.plan();
        plan.crash = None;
        plan.failures.clear();
        plan.failing.clear();
    }

    /// Counts reads too, not only calls that change the machine.
    pub fn count_all(&self, on: bool) {
        self.plan().count_all = on;
    }

    /// How many calls were counted since the machine was made or its process restarted.
    pub fn counted(&self) -> usize {
        self.plan().counted
    }

    /// Every call since then, reads included.
    pub fn calls(&self) -> Vec<Call> {
        self.plan().calls.clone()
    }

    /// Runs `hook` before every call takes effect. It may use the handle that it gets, with care for recursion.
    pub fn on_call(&self, hook: impl Fn(&Fake, &Call) + Send + Sync + 'static) {
        self.plan().hook = Some(Arc::new(hook));
    }

    /// Takes the hook away.
    pub fn off_call(&self) {
        self.plan().hook = None;
    }

    /// Whether the process has died.
    pub fn crashed(&self) -> bool {
        let plan = self.plan();
        plan.crashed || plan.epoch != self.epoch
    }

    /// Kills the process now.
    pub fn kill(&self) {
        self.plan().crashed = true;
    }

    /// A new process on the same machine. Its locks are free; loop devices, mounts and freezes have outlived the old
    /// process, whose handles stay dead. The plan, the hook and the log of calls are forgotten.
    #[must_use]
    pub fn restart(&self) -> Fake {
        let mut world = self.world();
        world.locks.clear();
        Fake { machine: self.machine.clone(), epoch: self.plan().restart() }
    }

    /// An orderly reboot: everything is flushed; loop devices and mounts are gone, and numbers come in another order.
    #[must_use]
    pub fn reboot(&self) -> Fake {
        self.world().reboot();
        self.restart()
    }

    /// The power fails and comes back: like a reboot, and what was not durable is lost.
    #[must_use]
    pub fn power_cut(&self) -> Fake {
        self.world().power_cut();
        self.restart()
    }

    // ---- one call

    /// Runs one call of the trait under the plan.
    fn run<T>(
        &self,
        name: &'static str,
        path: &Path,
        mutating: bool,
        step: impl FnOnce(&mut World) -> Step<T>,
    ) -> HostResult<T> {
        let ((verdict, call), hook) = {
            let mut plan = self.plan();
            (plan.enter(self.epoch, name, path, mutating), plan.hook.clone())
        };
        let error = |cause, detail: &str| Err(HostError::new(name, path, cause, detail));
        if let (Some(hook), false) = (hook, verdict == Verdict::Dead) {
            hook(self, &call);
        }
        let mut world = self.world();
        let halfway = match verdict {
            Verdict::Dead | Verdict::Crash(Moment::Before) => {
                return error(Cause::Crashed, "the process is dead");
            }
            Verdict::Fail(cause) => return error(cause, "injected failure"),
            Verdict::Crash(Moment::During) => {
                self.kill();
                true
            }
            // Another thread's call may have been the one at which the process died.
            _ if self.crashed() => return error(Cause::Crashed, "the process is dead"),
            _ => false,
        };
        if halfway && !HALVES.contains(&name) {
            return error(Cause::Crashed, "the process is dead");
        }
        world.halfway = halfway;
        let done = step(&mut world);
        world.halfway = false;
        if verdict == Verdict::Crash(Moment::After) {
            self.kill();
            return error(Cause::Crashed, "the process is dead");
        }
        done.map_err(|fail| HostError::new(name, path, fail.0, fail.1))
    }
}

/// The calls that take several steps, and can therefore be left half done.
const HALVES: &[&str] = &[
    "write_file",
    "write_at",
    "create_file",
    "clone_file",
    "copy_sparse",
    "subvolume_create",
    "subvolume_snapshot",
    "loop_detach",
    "mkfs",
    "make_target",
];

impl World {
    /// Mounts a new empty filesystem.
    fn add_mounted(&mut self, target: &str, dev: u64, kind: &str, size: u64) {
        let root = self.add_fs(dev, kind, Space::new(size), target.to_owned(), None);
        let shown = "/".to_owned();
        self.mounts.push(Mount {
            target: target.to_owned(),
            fs: dev,
            root,
            shown,
            read_only: false,
            opens: 0,
        });
    }

    /// Makes a symbolic link.
    fn make_link(&mut self, at: &Path, to: &Path) -> Step<()> {
        let found = self.walk(at, Links::Inner)?;
        let fs = self.node(found.parent)?.fs;
        let ino = self.new_inode(fs, Body::Link(to.to_owned()));
        self.link(found.parent, &found.name, ino)
    }
}
