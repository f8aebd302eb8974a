//! The control groups that a node's pods are in.
//!
//! Kubelet makes and removes those of its pods below one group of its own, which has to be there before it starts: two kubelets with the
//! same one would remove each other's. Control groups are the kernel's and not a machine's, so nothing removes them but this.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

/// Makes a group, named by its path, in all hierarchies.
pub(crate) fn make(group: &str) -> Result<()> {
    for hierarchy in hierarchies()? {
        let path = hierarchy.join(group);
        fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
    }
    Ok(())
}

/// Removes a group and those below it from all hierarchies, and the group it is in if that is empty then.
pub(crate) fn remove(group: &str) -> Result<()> {
    for hierarchy in hierarchies()? {
        remove_groups(&hierarchy.join(group))?;
        if let Some(above) = Path::new(group).parent().filter(|above| above.components().next().is_some()) {
            // The last node's end is the cluster's.
            let _ = fs::remove_dir(hierarchy.join(above));
        }
    }
    Ok(())
}

/// The roots of the control groups: one directory for each hierarchy, or the one of version 2.
fn hierarchies() -> Result<Vec<PathBuf>> {
    let root = Path::new("/sys/fs/cgroup");
    if root.join("cgroup.procs").exists() {
        return Ok(vec![root.to_owned()]);
    }
    let mut found = Vec::new();
    for entry in fs::read_dir(root).context("cannot read /sys/fs/cgroup")? {
        let entry = entry?;
        // Links are second names of a hierarchy.
        if entry.file_type()?.is_dir() && entry.path().join("cgroup.procs").exists() {
            found.push(entry.path());
        }
    }
    Ok(found)
}

/// Removes a control group and those below it. Its processes have ended, but the kernel may need a moment to say so.
fn remove_groups(path: &Path) -> Result<()> {
    let Ok(entries) = fs::read_dir(path) else { return Ok(()) };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_groups(&entry.path())?;
        }
    }
    let mut tries = 0;
    while let Err(error) = fs::remove_dir(path) {
        if error.kind() == std::io::ErrorKind::NotFound {
            break;
        }
        tries += 1;
        anyhow::ensure!(tries < 400, "cannot remove control group {}: {error}", path.display());
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}
