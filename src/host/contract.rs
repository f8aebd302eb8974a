//! What every machine behind [`Host`] promises, as a table of checks.
//!
//! The crash tests of the whole driver run on the fake. They prove something about the real machine only if the fake
//! answers as it does, so both run this table. Where the two could differ, the kernel decides, and the fake follows.
//!
//! A check works in two directories of its own, one in the pool and one for request paths, and takes away what it
//! made, also when it fails half way.

mod area;
mod files;
mod filesystems;
mod loops;
mod mounts;
mod sharing;
mod subvolumes;

use std::fmt::{self, Debug};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Cause, Host, HostError, HostResult};

/// Makes a symbolic link at the first path to the second: the one thing that a check needs and [`Host`] cannot do.
pub type PlantLink = Box<dyn Fn(&Path, &Path) -> Result<(), String> + Send + Sync>;

/// The machine that the checks run on.
pub struct Ctx {
    /// The machine.
    pub host: Arc<dyn Host>,
    /// A directory on a filesystem with reflink, and at least 2 GiB of free space.
    pub pool: PathBuf,
    /// A directory for request paths, without a link in its path.
    pub scratch: PathBuf,
    /// The filesystem of the pool: `xfs` or `btrfs`.
    pub fs: String,
    /// How to make a symbolic link.
    pub plant_link: PlantLink,
}

/// One promise and how to check it.
pub struct Check {
    /// The promise.
    pub name: &'static str,
    /// Checks it.
    pub run: fn(&Ctx) -> Done,
}

/// How a machine breaks a promise.
#[derive(Clone, PartialEq, Eq)]
pub struct Broken(pub String);

/// What a check ends with.
pub type Done = Result<(), Broken>;

impl From<HostError> for Broken {
    fn from(error: HostError) -> Self {
        Broken(format!("{error:?}"))
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Debug for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Every check. Those that need btrfs or a program that is not there pass without a word.
pub fn checks() -> Vec<Check> {
    [files::CHECKS, sharing::CHECKS, loops::CHECKS, filesystems::CHECKS, mounts::CHECKS, subvolumes::CHECKS]
        .concat()
        .into_iter()
        .map(|(name, run)| Check { name, run })
        .collect()
}

/// A row of a table of checks.
type Row = (&'static str, fn(&Ctx) -> Done);

/// Two values are the same.
fn same<T: PartialEq + Debug>(what: &str, got: T, want: T) -> Done {
    match got == want {
        true => Ok(()),
        false => Err(Broken(format!("{what}: got {got:?}, want {want:?}"))),
    }
}

/// Something is so.
fn holds(what: &str, so: bool) -> Done {
    if so { Ok(()) } else { Err(Broken(format!("it does not hold that {what}"))) }
}

/// A call failed for this cause.
fn caused<T>(what: &str, result: HostResult<T>, want: Cause) -> Done {
    match result {
        Ok(_) => Err(Broken(format!("{what}: it worked, want {want:?}"))),
        Err(error) if error.cause == want => Ok(()),
        Err(error) => Err(Broken(format!("{what}: got {error:?}, want {want:?}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fake::Fake;

    fn check(fs: &str) {
        let mut broken = Vec::new();
        for check in checks() {
            let fake = Fake::with_pool("/pool", fs, 8 << 30);
            let links = fake.clone();
            let ctx = Ctx {
                host: fake.host(),
                pool: "/pool".into(),
                scratch: "/var/lib/kubelet".into(),
                fs: fs.into(),
                plant_link: Box::new(move |at, to| links.symlink(at, to).map_err(|e| e.to_string())),
            };
            let before = fake.audit();
            if let Err(why) = (check.run)(&ctx) {
                broken.push(format!("{}: {why}", check.name));
            } else if fake.audit() != before {
                broken.push(format!("{}: leaves {:?} after {before:?}", check.name, fake.audit()));
            }
        }
        assert!(broken.is_empty(), "on {fs}:\n{}", broken.join("\n"));
    }

    #[test]
    fn the_fake_keeps_every_promise_on_xfs() {
        check("xfs");
    }

    #[test]
    fn the_fake_keeps_every_promise_on_btrfs() {
        check("btrfs");
    }

    #[test]
    fn every_promise_is_named_once() {
        let mut names: Vec<&str> = checks().iter().map(|check| check.name).collect();
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!((names.len(), all >= 40), (all, true));
    }
}
