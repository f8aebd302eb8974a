//! Freshly formatted images, kept so that the next volume of the same kind is cloned and not formatted.
//!
//! mkfs takes tens of milliseconds and writes megabytes; a clone takes one call and writes nothing. A template is named
//! by everything that decides its bytes: filesystem, size, arguments ([`crate::volume::mkfs_plan::template_name`]). Only where blocks can be shared, only for thin
//! volumes (a clone has no space of its own), and not for btrfs, of which the kernel mounts no two with one UUID.
//!
//! It is only a cache. A template that cannot be made or used costs a mkfs and nothing else.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::names::Names;
use crate::host::Host;
use crate::volume::Result;

/// How many are kept. Each takes a few megabytes.
const KEPT: usize = 16;

/// The templates of a pool, the one used longest ago first.
#[derive(Debug, Default)]
pub(super) struct Templates(Mutex<VecDeque<String>>);

impl Templates {
    /// Those that are in the pool.
    pub(super) fn load(host: &dyn Host, names: &Names) -> Result<Templates> {
        let mut found: Vec<String> =
            host.read_dir(&names.templates())?.into_iter().map(|entry| entry.name).collect();
        found.retain(|name| name.ends_with(".img"));
        found.sort();
        Ok(Templates(Mutex::new(found.into())))
    }

    /// Whether there is one of that name; it counts as used now.
    pub(super) fn touch(&self, name: &str) -> bool {
        let mut known = self.known();
        let Some(at) = known.iter().position(|other| other == name) else { return false };
        if let Some(name) = known.remove(at) {
            known.push_back(name);
        }
        true
    }

    /// Adds one, and returns those that have to go for it.
    pub(super) fn add(&self, name: String) -> Vec<String> {
        let mut known = self.known();
        known.retain(|other| *other != name);
        known.push_back(name);
        let over = known.len().saturating_sub(KEPT);
        known.drain(..over).collect()
    }

    /// Forgets one that turned out not to be there.
    pub(super) fn forget(&self, name: &str) {
        self.known().retain(|other| other != name);
    }

    fn known(&self) -> MutexGuard<'_, VecDeque<String>> {
        // At worst a name is missing or too many, and both only cost a mkfs.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_one_used_longest_ago_goes_first() {
        let templates = Templates::default();
        for n in 0..KEPT {
            assert!(templates.add(format!("{n}")).is_empty());
        }
        assert!(templates.touch("0"));
        assert_eq!(templates.add("one more".into()), ["1"]);
        assert!(!templates.touch("1"));
    }
}
