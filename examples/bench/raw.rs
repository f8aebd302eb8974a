//! The same work without a driver, in two columns.
//!
//! `system calls`: what Offshoot promises, durability included, by the fewest calls that do it, from one thread with no
//! locks, no checks, no gRPC. It is the floor. `by hand`: what csi-driver-host-path does for the call (a directory, its
//! state file rewritten, `mount`, `umount`, `tar`, `cp` started as processes), without its gRPC. It stands in where the
//! peer itself cannot be built, and flatters it.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use offshoot::host::linux::Linux;
use offshoot::host::{FileKind, Host, LoopDevice, LoopOptions, MkfsSpec, MountSpec};

use crate::area::{SECTOR, run};
use crate::stats::Table;

/// The column of the floor.
pub(crate) const CALLS: &str = "system calls";
/// The column of the peer's work.
pub(crate) const BY_HAND: &str = "by hand";

/// About as long as a record of Offshoot.
const RECORD: [u8; 420] = [b'r'; 420];

/// The floor, in a directory of the pool's filesystem.
pub(crate) struct Raw<'a> {
    host: &'a Linux,
    dir: PathBuf,
    fs: &'static str,
    size: u64,
    template: PathBuf,
}

impl<'a> Raw<'a> {
    pub(crate) fn new(host: &'a Linux, dir: PathBuf, fs: &'static str, size: u64) -> Result<Self> {
        std::fs::create_dir_all(&dir)?;
        let template = dir.join(format!("template-{fs}.img"));
        host.create_file(&template, size)?;
        let args: &[&str] = match fs {
            "ext4" => &["-b", "4096", "-m", "0", "-E", "lazy_itable_init=1"],
            _ => &["-s", "size=4096"],
        };
        host.mkfs(&template, &MkfsSpec { fs: fs.into(), args: args.iter().map(|a| (*a).into()).collect() })?;
        host.sync_file(&template)?;
        Ok(Raw { host, dir, fs, size, template })
    }

    fn record(&self, name: &str) -> Result<()> {
        let (intent, record) =
            (self.dir.join(format!("{name}.creating")), self.dir.join(format!("{name}.json")));
        self.host.write_file(&intent, &RECORD)?;
        self.host.rename(&intent, &record)?;
        self.host.sync_file(&record)?;
        self.host.sync_dir(&self.dir)?;
        Ok(())
    }

    fn image(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{name}.img"))
    }

    fn copy(&self, from: &Path, name: &str) -> Result<()> {
        self.host.sync_file(from)?;
        self.host.clone_file(from, &self.image(name))?;
        self.host.sync_file(&self.image(name))?;
        self.record(name)
    }

    fn remove(&self, name: &str) -> Result<()> {
        let gone = self.dir.join(format!("{name}.deleting"));
        self.host.rename(&self.dir.join(format!("{name}.json")), &gone)?;
        self.host.remove_file(&self.image(name))?;
        self.host.remove_file(&gone)?;
        self.host.sync_dir(&self.dir)?;
        Ok(())
    }

    fn mount(&self, name: &str, staging: &Path) -> Result<LoopDevice> {
        let options = LoopOptions { direct_io: true, sector: SECTOR, read_only: false };
        let device = self.host.loop_attach(&self.image(name), options)?;
        let options = if self.fs == "xfs" { vec![("nouuid".to_owned(), None)] } else { Vec::new() };
        let spec = MountSpec { fs: self.fs.into(), options, ..MountSpec::default() };
        self.host.mount_device(&device.path, staging, &spec)?;
        Ok(device)
    }

    /// One volume's life.
    pub(crate) fn life(&self, name: &str, data: &[u8], table: &mut Table) -> Result<()> {
        let (staging, target) = (self.dir.join("staging"), self.dir.join("target"));
        std::fs::create_dir_all(&staging)?;
        let volume = self.image(name);
        table.run("CreateVolume", CALLS, || {
            self.host.create_file(&volume, self.size)?;
            self.record(name)
        })?;
        let (mut device, blank) = self.stage(name, &staging, &target, true, table)?;
        table.took("NodeStage + NodePublish, blank", CALLS, blank);
        std::fs::write(target.join("data"), data)?;
        table.run("NodeGetVolumeStats", CALLS, || self.host.usage(&target))?;
        let (snapshot, restored, cloned) =
            (format!("{name}-snapshot"), format!("{name}-restored"), format!("{name}-cloned"));
        let frozen = |to: &str| {
            self.host.freeze(&staging)?;
            let copied = self.copy(&volume, to);
            self.host.thaw(&staging)?;
            copied
        };
        table.run("CreateSnapshot, in use", CALLS, || frozen(&snapshot))?;
        table.run("CreateVolume from a snapshot", CALLS, || self.copy(&self.image(&snapshot), &restored))?;
        table.run("CreateVolume from a volume in use", CALLS, || frozen(&cloned))?;
        for last in [false, true] {
            table.run("NodeUnpublishVolume", CALLS, || {
                self.host.unmount(&target)?;
                self.host.remove_target(&target)
            })?;
            table.run("NodeUnstageVolume", CALLS, || {
                self.host.unmount(&staging)?;
                self.host.loop_detach(&device, &volume)
            })?;
            if !last {
                let (attached, formatted) = self.stage(name, &staging, &target, false, table)?;
                device = attached;
                table.took("NodeStage + NodePublish, formatted", CALLS, formatted);
            }
        }
        table.run("DeleteSnapshot", CALLS, || self.remove(&snapshot))?;
        for copy in [&restored, &cloned] {
            table.run("DeleteVolume, a copy", CALLS, || self.remove(copy))?;
        }
        table.run("DeleteVolume", CALLS, || self.remove(name))
    }

    /// Stages and publishes; how long both took together.
    fn stage(
        &self,
        name: &str,
        staging: &Path,
        target: &Path,
        blank: bool,
        table: &mut Table,
    ) -> Result<(LoopDevice, std::time::Duration)> {
        let kind = if blank { "blank" } else { "formatted" };
        let begun = std::time::Instant::now();
        let device = table.run(&format!("NodeStageVolume, {kind}"), CALLS, || {
            if blank {
                let new = self.dir.join(format!("{name}.new"));
                self.host.clone_file(&self.template, &new)?;
                self.host.sync_file(&new)?;
                self.host.rename(&new, &self.image(name))?;
                self.host.sync_dir(&self.dir)?;
            }
            self.mount(name, staging)
        })?;
        table.run("NodePublishVolume", CALLS, || {
            self.host.make_target(target, FileKind::Directory)?;
            self.host.bind(staging, target, false)
        })?;
        Ok((device, begun.elapsed()))
    }
}

/// The peer's work, in a directory of the same filesystem.
pub(crate) struct ByHand {
    dir: PathBuf,
    state: std::sync::Mutex<Vec<String>>,
}

impl ByHand {
    pub(crate) fn new(dir: PathBuf) -> Result<Self> {
        std::fs::create_dir_all(&dir)?;
        Ok(ByHand { dir, state: std::sync::Mutex::default() })
    }

    fn volume(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// The whole list of volumes goes into one file after each change.
    fn state(&self, change: impl FnOnce(&mut Vec<String>)) -> Result<()> {
        let mut state = self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        change(&mut state);
        let bytes = serde_json::to_vec(&*state)?;
        std::fs::write(self.dir.join("state.json"), bytes).context("write the state")
    }

    pub(crate) fn create(&self, name: &str) -> Result<()> {
        std::fs::create_dir(self.volume(name))?;
        self.state(|state| state.push(format!("{name}: size, path, access type, parent, kind, node, {name}")))
    }

    pub(crate) fn delete(&self, name: &str) -> Result<()> {
        std::fs::remove_dir_all(self.volume(name))?;
        self.state(|state| state.retain(|volume| volume.split(':').next() != Some(name)))
    }

    pub(crate) fn publish(&self, name: &str, target: &Path) -> Result<()> {
        std::fs::create_dir_all(target)?;
        run(Command::new("mount").args(["-o", "bind"]).arg(self.volume(name)).arg(target))
    }

    pub(crate) fn unpublish(&self, target: &Path) -> Result<()> {
        run(Command::new("umount").arg(target))?;
        Ok(std::fs::remove_dir(target)?)
    }

    pub(crate) fn snapshot(&self, name: &str) -> Result<()> {
        let file = self.dir.join(format!("{name}.snap"));
        run(Command::new("tar").arg("czf").arg(file).arg("-C").arg(self.volume(name)).arg("."))?;
        self.state(|_| {})
    }

    pub(crate) fn restore(&self, name: &str, to: &str) -> Result<()> {
        self.create(to)?;
        let file = self.dir.join(format!("{name}.snap"));
        run(Command::new("tar").arg("xzf").arg(file).arg("-C").arg(self.volume(to)))
    }

    pub(crate) fn clone(&self, name: &str, to: &str) -> Result<()> {
        self.create(to)?;
        run(Command::new("cp").arg("-a").arg(self.volume(name).join(".")).arg(self.volume(to)))
    }

    pub(crate) fn delete_snapshot(&self, name: &str) -> Result<()> {
        std::fs::remove_file(self.dir.join(format!("{name}.snap")))?;
        self.state(|_| {})
    }

    /// Writes a file into a volume.
    pub(crate) fn fill(&self, name: &str, data: &[u8]) -> Result<()> {
        Ok(std::fs::write(self.volume(name).join("data"), data)?)
    }

    /// One volume's life.
    pub(crate) fn life(&self, name: &str, data: &[u8], table: &mut Table) -> Result<()> {
        let target = self.dir.join("target");
        let (restored, cloned) = (format!("{name}-restored"), format!("{name}-cloned"));
        table.run("CreateVolume", BY_HAND, || self.create(name))?;
        for formatted in [false, true] {
            let row = if formatted {
                "NodeStage + NodePublish, formatted"
            } else {
                "NodeStage + NodePublish, blank"
            };
            table.run(row, BY_HAND, || self.publish(name, &target))?;
            std::fs::write(target.join("data"), data)?;
            if !formatted {
                table.run("CreateSnapshot, in use", BY_HAND, || self.snapshot(name))?;
                table.run("CreateVolume from a snapshot", BY_HAND, || self.restore(name, &restored))?;
                table.run("CreateVolume from a volume in use", BY_HAND, || self.clone(name, &cloned))?;
            }
            table.run("NodeUnpublishVolume", BY_HAND, || self.unpublish(&target))?;
        }
        table.run("DeleteSnapshot", BY_HAND, || self.delete_snapshot(name))?;
        for copy in [&restored, &cloned] {
            table.run("DeleteVolume, a copy", BY_HAND, || self.delete(copy))?;
        }
        table.run("DeleteVolume", BY_HAND, || self.delete(name))
    }
}
