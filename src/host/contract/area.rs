//! The two directories that a check works in, and how they are cleared.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Broken, Ctx};
use crate::host::{FileKind, Host, HostResult, LoopDevice, LoopOptions, MkfsSpec, MountSpec};

/// A size on which every filesystem can be made.
pub(super) const IMAGE: u64 = 320 << 20;

/// A check's own place. Dropping it unmounts, detaches and removes everything in it.
pub(super) struct Area {
    host: Arc<dyn Host>,
    /// In the pool.
    pub(super) dir: PathBuf,
    /// Below it, request paths.
    pub(super) targets: PathBuf,
}

impl Area {
    pub(super) fn new(ctx: &Ctx, name: &str) -> Result<Self, Broken> {
        let area = Area {
            host: ctx.host.clone(),
            dir: ctx.pool.join(format!("check-{name}")),
            targets: ctx.scratch.join(format!("check-{name}")),
        };
        if !area.host.make_dir(&area.dir)? || !area.host.make_target(&area.targets, FileKind::Directory)? {
            return Err(Broken(format!("{} is left over from an earlier run", area.dir.display())));
        }
        Ok(area)
    }

    /// A path in the pool.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// A request path; nothing is made there.
    pub(super) fn target(&self, name: &str) -> PathBuf {
        self.targets.join(name)
    }

    /// A directory at a request path.
    pub(super) fn target_dir(&self, name: &str) -> HostResult<PathBuf> {
        let target = self.target(name);
        self.host.make_target(&target, FileKind::Directory)?;
        Ok(target)
    }

    /// A formatted image.
    pub(super) fn image(&self, name: &str, fs: &str) -> HostResult<PathBuf> {
        let image = self.path(name);
        self.host.create_file(&image, IMAGE)?;
        self.host.mkfs(&image, &format(fs))?;
        Ok(image)
    }

    /// A loop device for an image.
    pub(super) fn attach(&self, image: &Path) -> HostResult<LoopDevice> {
        self.host.loop_attach(image, LoopOptions::default())
    }

    /// An image attached, and mounted at a new target.
    pub(super) fn mount(&self, image: &Path, target: &str, fs: &str) -> HostResult<(LoopDevice, PathBuf)> {
        let device = self.attach(image)?;
        let target = self.target_dir(target)?;
        self.host.mount_device(&device.path, &target, &spec(fs))?;
        Ok((device, target))
    }

    fn clear(&self) {
        let mut mounts = self.host.mounts().unwrap_or_default();
        mounts.reverse();
        for mount in mounts.iter().filter(|mount| mount.target.starts_with(&self.targets)) {
            // What cannot be cleared shows as a left-over of the check; there is nobody to tell here.
            let _ = self.host.thaw(&mount.target);
            let _ = self.host.unmount(&mount.target);
        }
        for device in self.host.loops_below(&self.dir).unwrap_or_default() {
            let shown = device.file.to_string_lossy();
            let file = PathBuf::from(shown.strip_suffix(" (deleted)").unwrap_or(&shown));
            let _ = self.host.loop_detach(&device, &file);
        }
        self.remove(&self.dir, 0);
        self.remove(&self.targets, 0);
    }

    /// Removes a directory of the check. It goes no deeper than checks do, and a mount point in it stops it.
    fn remove(&self, dir: &Path, depth: u32) {
        for entry in self.host.read_dir(dir).unwrap_or_default() {
            let path = dir.join(&entry.name);
            if entry.kind != FileKind::Directory {
                let _ = self.host.remove_file(&path);
            } else if self.host.subvolume_delete(&path).is_err() && depth < 4 {
                self.remove(&path, depth + 1);
            }
        }
        let _ = self.host.remove_dir(dir);
    }
}

impl Drop for Area {
    fn drop(&mut self) {
        self.clear();
    }
}

/// How the checks format.
pub(super) fn format(fs: &str) -> MkfsSpec {
    let args: &[&str] = if fs == "ext4" { &["-q", "-F"] } else { &["-q", "-f"] };
    MkfsSpec { fs: fs.to_owned(), args: args.iter().map(|arg| (*arg).to_owned()).collect() }
}

/// How the checks mount.
pub(super) fn spec(fs: &str) -> MountSpec {
    let options = if fs == "xfs" { vec![("nouuid".to_owned(), None)] } else { Vec::new() };
    MountSpec { fs: fs.to_owned(), options, ..MountSpec::default() }
}

/// The filesystems that this machine can make and mount.
pub(super) fn usable(ctx: &Ctx) -> HostResult<Vec<&'static str>> {
    let known = ctx.host.facts()?.filesystems;
    let all = [("ext4", "mkfs.ext4"), ("xfs", "mkfs.xfs"), ("btrfs", "mkfs.btrfs")];
    let can = |fs: &str, program: &str| known.iter().any(|k| k == fs) && ctx.host.program(program).is_some();
    Ok(all.into_iter().filter(|(fs, program)| can(fs, program)).map(|(fs, _)| fs).collect())
}
