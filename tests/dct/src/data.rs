//! The data of datasets: directory trees below one directory.
//!
//! A timeflow is the tree at its export path, a snapshot a copy of it aside. Copies are made by `cp --reflink=auto`, which
//! shares blocks where the filesystem can. A copy is made beside its place and renamed, so that a simulator that is killed
//! leaves either no tree or a whole one; making it again starts over.

use std::fs;
use std::io;
use std::os::unix::fs::lchown;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where the trees are.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    root: PathBuf,
}

impl Store {
    pub(crate) fn new(root: &Path) -> io::Result<Store> {
        fs::create_dir_all(root.join(".snapshots"))?;
        Ok(Store { root: fs::canonicalize(root)? })
    }

    /// The directory that clients of an engine see as `/`. The first engine has the whole of it, so that with `--data /` the
    /// export paths are those of a real engine.
    pub(crate) fn engine(&self, engine: &str) -> PathBuf {
        if engine == "1" { self.root.clone() } else { self.root.join(format!("engine-{engine}")) }
    }

    /// The tree at an export path (without leading slash) of an engine.
    pub(crate) fn live(&self, engine: &str, path: &str) -> PathBuf {
        self.engine(engine).join(path)
    }

    pub(crate) fn snapshot(&self, id: &str) -> PathBuf {
        self.root.join(".snapshots").join(id)
    }

    /// Makes `to` a copy of `from`; both are directories. What was at `to` is gone.
    pub(crate) fn copy(&self, from: &Path, to: &Path) -> Result<(), String> {
        let half = to.with_extension("half");
        self.remove(&half)?;
        self.make(&half)?;
        let out = Command::new("cp")
            .args(["-a", "--reflink=auto", "--"])
            .arg(from.join("."))
            .arg(&half)
            .output()
            .map_err(|e| format!("cp cannot be run: {e}"))?;
        if !out.status.success() {
            return Err(format!("cp fails: {}", String::from_utf8_lossy(&out.stderr).trim()));
        }
        self.remove(to)?;
        fs::rename(&half, to).map_err(|e| format!("{} cannot be renamed: {e}", half.display()))
    }

    /// Makes an empty tree.
    pub(crate) fn make(&self, at: &Path) -> Result<(), String> {
        fs::create_dir_all(at).map_err(|e| format!("{} cannot be made: {e}", at.display()))
    }

    /// Removes a tree; one that is not there is removed already.
    pub(crate) fn remove(&self, at: &Path) -> Result<(), String> {
        match fs::remove_dir_all(at) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                Err(format!("{} cannot be removed: {e}", at.display()))
            }
            _ => Ok(()),
        }
    }

    /// Gives a tree to `uid:gid`. Where the simulator may not do that, the wish is recorded elsewhere and the tree stays.
    pub(crate) fn give(&self, at: &Path, uid: u32, gid: u32) -> Result<(), String> {
        match lchown(at, Some(uid), Some(gid)) {
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied => return Ok(()),
            Err(e) => return Err(format!("{} cannot be given to {uid}:{gid}: {e}", at.display())),
            Ok(()) => {}
        }
        if at.symlink_metadata().is_ok_and(|m| m.is_dir()) {
            for entry in fs::read_dir(at).map_err(|e| format!("{} cannot be read: {e}", at.display()))? {
                let entry = entry.map_err(|e| format!("{} cannot be read: {e}", at.display()))?;
                self.give(&entry.path(), uid, gid)?;
            }
        }
        Ok(())
    }
}
