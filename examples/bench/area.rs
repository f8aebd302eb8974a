//! The place that the benchmark works in: a directory, pools on it, and taking everything away again.
//!
//! A pool here is an XFS in a sparse file behind a loop device, or on `/dev/zram0` where nobody uses that. Whatever a
//! run leaves (mounts, loop devices, files) lies below the one directory or has a backing file there, so the kernel's
//! tables tell what has to go, also after a run that was cut off.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use offshoot::host::linux::Linux;
use offshoot::host::{Detached, Host, LoopOptions, MountSpec};

/// The sectors that Offshoot gives its loop devices, in bytes.
pub(crate) const SECTOR: u32 = 4096;
const ZRAM: &str = "/dev/zram0";
const ZRAM_SYS: &str = "/sys/block/zram0";

/// The place.
pub(crate) struct Area {
    pub(crate) dir: PathBuf,
    pub(crate) host: Linux,
    zram: bool,
}

impl Area {
    /// Makes the directory, after taking away what an earlier run left there.
    pub(crate) fn new(dir: &Path) -> Result<Self> {
        ensure!(nix::unistd::geteuid().is_root(), "the benchmark mounts volumes: run it as root");
        ensure!(
            dir.is_absolute() && dir.components().count() > 2,
            "{} is no place to work in",
            dir.display()
        );
        let mut area = Area { dir: dir.to_owned(), host: Linux::new(), zram: false };
        area.clean()?;
        std::fs::create_dir_all(dir).with_context(|| format!("make {}", dir.display()))?;
        Ok(area)
    }

    /// A directory of its own.
    pub(crate) fn dir(&self, name: &str) -> Result<PathBuf> {
        let dir = self.dir.join(name);
        std::fs::create_dir_all(&dir).with_context(|| format!("make {}", dir.display()))?;
        Ok(dir)
    }

    /// An XFS of `gib` GiB in a sparse file, mounted; the mount point.
    pub(crate) fn pool(&self, name: &str, gib: u64) -> Result<PathBuf> {
        let file = self.dir.join(format!("{name}.img"));
        self.host.create_file(&file, gib << 30)?;
        mkfs_xfs(&file)?;
        let device = self
            .host
            .loop_attach(&file, LoopOptions { direct_io: true, sector: SECTOR, read_only: false })?;
        self.mount_xfs(&device.path, name)
    }

    /// An XFS on `/dev/zram0`, mounted; `None` where the device is not there or not free.
    pub(crate) fn zram_pool(&mut self, name: &str, gib: u64) -> Result<Option<PathBuf>> {
        let read = |key: &str| std::fs::read_to_string(format!("{ZRAM_SYS}/{key}")).unwrap_or_default();
        if read("disksize").trim() != "0" || read("initstate").trim() != "0" {
            return Ok(None);
        }
        // Refused with EBUSY where somebody else was quicker.
        if std::fs::write(format!("{ZRAM_SYS}/disksize"), (gib << 30).to_string()).is_err() {
            return Ok(None);
        }
        self.zram = true;
        mkfs_xfs(Path::new(ZRAM))?;
        self.mount_xfs(Path::new(ZRAM), name).map(Some)
    }

    fn mount_xfs(&self, device: &Path, name: &str) -> Result<PathBuf> {
        let target = self.dir(name)?;
        self.host.mount_device(device, &target, &MountSpec { fs: "xfs".into(), ..MountSpec::default() })?;
        Ok(target)
    }

    /// Unmounts a pool that [`Area::pool`] or [`Area::zram_pool`] made, and removes its bytes.
    pub(crate) fn drop_pool(&mut self, name: &str) -> Result<()> {
        self.unmount_below(&self.dir.join(name))?;
        let file = self.dir.join(format!("{name}.img"));
        if file.exists() {
            self.detach(&file)?;
            std::fs::remove_file(&file)?;
        } else {
            self.reset_zram()?;
        }
        Ok(())
    }

    fn reset_zram(&mut self) -> Result<()> {
        if std::mem::take(&mut self.zram) {
            std::fs::write(format!("{ZRAM_SYS}/reset"), "1").context("reset zram0")?;
        }
        Ok(())
    }

    fn detach(&self, file: &Path) -> Result<()> {
        for device in self.host.loops_of(file)? {
            if self.host.loop_detach(&device, file)? == Detached::Held {
                bail!("{} is still held", device.path.display());
            }
        }
        Ok(())
    }

    fn unmount_below(&self, dir: &Path) -> Result<()> {
        let mounts = self.host.mounts()?;
        // The last mounted goes first.
        for mount in mounts.iter().rev().filter(|mount| mount.target.starts_with(dir)) {
            self.host.unmount(&mount.target)?;
        }
        Ok(())
    }

    /// Takes everything away. The servers have to be gone.
    pub(crate) fn clean(&mut self) -> Result<()> {
        // A killed server's children, or a program of ours that is just ending, hold things for a moment.
        let mut tries = 0;
        while let Err(error) = self.try_clean() {
            tries += 1;
            if tries == 20 {
                return Err(error);
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    }

    fn try_clean(&mut self) -> Result<()> {
        // Volumes' devices hold pools' files open, so the inner ones go first.
        self.unmount_below(&self.dir)?;
        for _ in 0..2 {
            for device in self.host.loops_below(&self.dir)? {
                let shown = device.file.to_string_lossy();
                let file = PathBuf::from(shown.strip_suffix(" (deleted)").unwrap_or(&shown));
                self.host.loop_detach(&device, &file)?;
            }
        }
        self.reset_zram()?;
        ensure!(self.host.loops_below(&self.dir)?.is_empty(), "a loop device is still held");
        ensure!(
            !self.host.mounts()?.iter().any(|mount| mount.target.starts_with(&self.dir)),
            "something is still mounted below {}",
            self.dir.display()
        );
        match std::fs::remove_dir_all(&self.dir) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("remove {}", self.dir.display()))
            }
            _ => Ok(()),
        }
    }
}

fn mkfs_xfs(place: &Path) -> Result<()> {
    run(Command::new("mkfs.xfs").args(["-q", "-f", "-s", "size=4096", "-m", "crc=1,reflink=1"]).arg(place))
}

/// Runs a program to its end.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("start {:?}", command.get_program()))?;
    if !output.status.success() {
        bail!("{command:?}: {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}
