//! What a node holds: loop devices, mounts, files, memory. Tests compare two inventories to find what has leaked.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::stat::{major, minor};
use serde::{Deserialize, Serialize};

use crate::control;
use crate::layout::Layout;
use crate::machine::host;
use crate::node::Node;

/// What a node holds that pods and drivers may leave behind. Lines can be compared and shown.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inventory {
    /// Loop devices on files of the node's pools: the file's path in the pool, as far as the kernel knows it.
    pub loops: BTreeSet<String>,
    /// Mount points of the node, without those of containerd's own (images and containers' roots).
    pub mounts: BTreeSet<String>,
    /// Files and folders in the pools, with the pool's name before them.
    pub files: BTreeSet<String>,
    /// Folders of pods and of CSI volumes that kubelet keeps.
    pub kubelet: BTreeSet<String>,
}

impl Inventory {
    /// What a node holds now.
    ///
    /// # Errors
    /// If the node is off.
    pub fn of(node: &Node) -> Result<Self> {
        let mut found = Self::default();
        for disk in node.disks() {
            found.loops.extend(loops_on(&disk.image)?.into_iter().map(|device| device.file));
            let target = disk.target.to_string_lossy();
            let name = disk.target.file_name().unwrap_or_default().to_string_lossy().into_owned();
            walk(&node.seen(&target)?, &name, usize::MAX, &mut found.files)?;
        }
        let text =
            fs::read_to_string(node.seen("/proc/1/mountinfo")?).context("cannot read the node's mounts")?;
        let points = text.lines().filter_map(|line| line.split(' ').nth(4));
        found.mounts.extend(points.filter(|point| !point.starts_with("/run/containerd/")).map(str::to_owned));
        walk(&node.seen("/var/lib/kubelet/pods")?, "pods", 1, &mut found.kubelet)?;
        walk(&node.seen("/var/lib/kubelet/plugins/kubernetes.io/csi")?, "csi", 2, &mut found.kubelet)?;
        Ok(found)
    }

    /// What is here and was not in an earlier inventory, one thing a line; empty if nothing has leaked.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Vec<String> {
        let new = |what: &str, now: &BTreeSet<String>, then: &BTreeSet<String>| -> Vec<String> {
            now.difference(then).map(|one| format!("{what} {one}")).collect()
        };
        let mut all = new("loop device on", &self.loops, &earlier.loops);
        all.extend(new("mount", &self.mounts, &earlier.mounts));
        all.extend(new("file", &self.files, &earlier.files));
        all.extend(new("folder of kubelet", &self.kubelet, &earlier.kubelet));
        all
    }
}

/// A loop device.
#[derive(Debug, Clone, Deserialize)]
struct Device {
    name: String,
    #[serde(rename = "back-file", default)]
    file: String,
    #[serde(rename = "back-maj:min", default)]
    on: String,
    #[serde(rename = "back-ino", default)]
    inode: u64,
}

impl Device {
    /// The device number, as `7:3`.
    fn number(&self) -> Option<String> {
        let file = Path::new("/sys/block").join(self.name.trim_start_matches("/dev/")).join("dev");
        Some(fs::read_to_string(file).ok()?.trim().to_owned())
    }

    /// Whether this one lies on a file of a filesystem that another carries, or on the other itself: kubelet puts one on each raw device, so
    /// that it cannot go away under a pod.
    fn lies_on(&self, other: &Device) -> bool {
        let on = self.on.trim();
        let node = || {
            let own = fs::metadata(&other.name).ok()?;
            let device = format!("{}:{}", major(own.dev()), minor(own.dev()));
            Some(device == on && own.ino() == self.inode)
        };
        other.number().is_some_and(|number| number == on) || node().unwrap_or(false)
    }
}

/// Detaches what lies on a loop device, the uppermost first.
fn clear(carrier: &Device, all: &[Device], depth: u8) {
    // A loop device over a file of a pool in a file of a pool: deeper there is nothing.
    if depth == 0 {
        return;
    }
    for upper in all.iter().filter(|device| device.name != carrier.name && device.lies_on(carrier)) {
        clear(upper, all, depth - 1);
        // It may go by itself in this moment.
        let _ = host("losetup", &["--detach", &upper.name]);
    }
}

/// Detaches the loop devices on files of a folder of a machine that is off, such as pools in files, and what lies on them.
///
/// # Errors
/// If the folder is there and cannot be read.
pub fn detach_files(folder: &Path) -> Result<()> {
    let mut files = BTreeSet::new();
    walk(folder, ".", 2, &mut files)?;
    let inodes: BTreeSet<_> = files
        .iter()
        .filter_map(|file| fs::symlink_metadata(folder.join(file)).ok())
        .filter(fs::Metadata::is_file)
        .map(|meta| (format!("{}:{}", major(meta.dev()), minor(meta.dev())), meta.ino()))
        .collect();
    let all = loops()?;
    for device in all.iter().filter(|device| inodes.contains(&(device.on.trim().to_owned(), device.inode))) {
        clear(device, &all, 5);
        let _ = host("losetup", &["--detach", &device.name]);
    }
    Ok(())
}

/// All loop devices of this kernel.
fn loops() -> Result<Vec<Device>> {
    #[derive(Deserialize)]
    struct List {
        loopdevices: Vec<Device>,
    }
    let text = host("losetup", &["--list", "--json", "--output", "NAME,BACK-FILE,BACK-MAJ:MIN,BACK-INO"])?;
    // Without any device it writes nothing at all.
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    Ok(serde_json::from_str::<List>(&text).context("losetup has written something new")?.loopdevices)
}

/// The loop device that carries a pool, as `/dev/loopN`.
fn carrier(image: &Path) -> Result<Option<String>> {
    if !image.exists() {
        return Ok(None);
    }
    let text =
        host("losetup", &["--noheadings", "--output", "NAME", "--associated", &image.to_string_lossy()])?;
    Ok(text.lines().next().map(|line| line.trim().to_owned()))
}

/// The loop devices on files inside a pool. They are found by the device that the file is on: paths differ between mount namespaces.
fn loops_on(image: &Path) -> Result<Vec<Device>> {
    let Some(carrier) = carrier(image)? else { return Ok(Vec::new()) };
    let number =
        fs::read_to_string(Path::new("/sys/block").join(carrier.trim_start_matches("/dev/")).join("dev"))?;
    Ok(loops()?.into_iter().filter(|device| device.on.trim() == number.trim()).collect())
}

/// Detaches the loop devices on files inside a pool, and waits until the pool's own is gone.
///
/// # Errors
/// If a device stays for 10 s: somebody holds it.
pub fn detach_loops(image: &Path) -> Result<()> {
    let end = Instant::now() + Duration::from_secs(10);
    while let Some(carrier) = carrier(image)? {
        let all = loops()?;
        all.iter().filter(|device| device.name == carrier).for_each(|device| clear(device, &all, 5));
        ensure!(
            Instant::now() < end,
            "{carrier} still carries {}: something outside the cluster has it mounted",
            image.display()
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// Adds the paths below a folder, which need not be there, with a name in its place.
fn walk(folder: &Path, name: &str, depth: usize, into: &mut BTreeSet<String>) -> Result<()> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", folder.display())),
    };
    for entry in entries {
        let Ok(entry) = entry else { continue };
        let path = format!("{name}/{}", entry.file_name().to_string_lossy());
        if depth > 1 && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            walk(&entry.path(), &path, depth - 1, into)?;
        }
        into.insert(path);
    }
    Ok(())
}

/// The processes of a container, as the host numbers them, its first one first. `id` is the container's without `containerd://`.
///
/// # Errors
/// If `/proc` cannot be read.
pub fn container_pids(id: &str) -> Result<Vec<i32>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").context("cannot read /proc")? {
        let Ok(entry) = entry else { continue };
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        let Ok(groups) = fs::read_to_string(entry.path().join("cgroup")) else { continue };
        if groups.contains(id) {
            found.push((inner_pid(pid).unwrap_or(i32::MAX), pid));
        }
    }
    found.sort_unstable();
    Ok(found.into_iter().map(|(_, pid)| pid).collect())
}

/// The number of a process in its innermost namespace.
fn inner_pid(pid: i32) -> Option<i32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("NSpid:"))?;
    line.split_ascii_whitespace().next_back()?.parse().ok()
}

/// The resident memory of a process in bytes.
///
/// # Errors
/// If the process is not there.
pub fn resident(pid: i32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))
        .with_context(|| format!("there is no process {pid}"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or("0 kB");
    let kib = line
        .trim()
        .trim_end_matches("kB")
        .trim()
        .parse::<u64>()
        .context("the kernel has written something new")?;
    Ok(kib * 1024)
}

/// How many requests the API server was sent by each user, for each verb and resource, since the cluster was made (or since its log of
/// them was last rotated, after 200 MB). Two of these make a difference.
///
/// # Errors
/// If there is no log.
pub fn requests(layout: &Layout) -> Result<BTreeMap<(String, String), u64>> {
    #[derive(Deserialize)]
    struct Event {
        verb: String,
        user: User,
        #[serde(rename = "objectRef")]
        object: Option<Object>,
    }
    #[derive(Deserialize)]
    struct User {
        username: String,
    }
    #[derive(Deserialize)]
    struct Object {
        resource: Option<String>,
    }
    let path = control::audit_log(layout)?;
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut counts = BTreeMap::new();
    // The last line may be half written.
    for event in text.lines().filter_map(|line| serde_json::from_str::<Event>(line).ok()) {
        let resource = event.object.and_then(|object| object.resource).unwrap_or_default();
        *counts.entry((event.user.username, format!("{} {resource}", event.verb))).or_default() += 1;
    }
    Ok(counts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_new_has_leaked() {
        let set = |items: &[&str]| items.iter().map(ToString::to_string).collect::<BTreeSet<_>>();
        let then = Inventory { mounts: set(&["/a", "/b"]), ..Inventory::default() };
        let now = Inventory { mounts: set(&["/b", "/c"]), files: set(&["pool/x"]), ..Inventory::default() };
        assert_eq!(now.since(&then), ["mount /c", "file pool/x"]);
        assert!(then.since(&then).is_empty());
    }

    #[test]
    fn the_memory_of_this_process_is_more_than_none() {
        assert!(resident(i32::try_from(std::process::id()).unwrap()).unwrap() > 100_000);
    }
}
