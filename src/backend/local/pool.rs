//! Opening a pool: what makes a directory one, and where a pool cannot be.
//!
//! A directory is a pool because its marker says so. It is never made one by accident: not when it holds other files,
//! not on a container's own overlay (which is gone with the container, and where sharing blocks may even seem to
//! work), not in memory unless that is asked for. Whether blocks can be shared is tried, not looked up in a table:
//! the answer depends on how the filesystem was made.
//!
//! A pool that comes from another machine needs nothing but opening: ids, records and bytes are all in it.

use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::claims::Claims;
use super::names::{self, Names};
use super::templates::Templates;
use crate::backend::PoolInfo;
use crate::host::{Cause, FileKind, FsStat, Host, HostFacts};
use crate::volume::capacity::Policy;
use crate::volume::{Error, Kind, PoolId, Result};

/// The sectors of every loop device, in bytes, but for a filesystem with smaller blocks. Always the same: left to the
/// kernel, a device would change from 512 to 4096 once the image's blocks are shared, under a workload that has written
/// a partition table, or a filesystem, for the other.
pub(super) const SECTOR: u32 = 4096;

/// The newest format of a pool that this version can read and write.
const FORMAT: u32 = 1;

/// What the configuration says about a pool.
#[derive(Debug, Clone)]
pub struct PoolConfig {
    /// The name by which a StorageClass chooses it.
    pub name: String,
    /// Its directory, absolute.
    pub dir: PathBuf,
    /// Make a pool of the directory if it is missing or empty.
    pub create: bool,
    /// Accept a filesystem in memory, whose volumes are gone with the next boot. For trying things out.
    pub allow_volatile: bool,
    /// Keep mounted volumes as subvolumes where the filesystem is btrfs. Turns its quota groups on.
    pub subvolumes: bool,
    /// What new volumes and snapshots leave free, so that those who write already can go on.
    pub policy: Policy,
}

/// An open pool.
pub(super) struct Pool {
    pub(super) host: Arc<dyn Host>,
    pub(super) info: PoolInfo,
    pub(super) names: Names,
    /// The filesystem's device number: another one means that something else is mounted here by now.
    pub(super) dev: u64,
    pub(super) facts: HostFacts,
    /// Whether files can share blocks.
    pub(super) reflink: bool,
    /// Whether new volumes may be subvolumes.
    pub(super) subvolumes: bool,
    pub(super) policy: Policy,
    pub(super) claims: Claims,
    pub(super) templates: Templates,
}

/// The marker as it stands on the disk.
#[derive(Debug, Serialize, Deserialize)]
struct Marker {
    format: u32,
    id: String,
    /// The name that it had when it was made, for a person who finds the disk.
    name: String,
    /// The version of Offshoot that made it.
    made_by: String,
}

impl Pool {
    /// See [`super::Local::open`].
    pub(super) fn open(host: Arc<dyn Host>, config: PoolConfig) -> Result<Pool> {
        let names = Names { dir: config.dir.clone() };
        let shown = config.dir.display().to_string();
        let refuse = |why: &str| Error::precondition(format!("pool {} at {shown}: {why}", config.name));
        if !config.dir.is_absolute() {
            return Err(refuse("the directory must be an absolute path"));
        }
        match host.metadata(&config.dir)? {
            Some(meta) if meta.kind == FileKind::Directory => {}
            Some(_) => return Err(refuse("is not a directory")),
            // Asked first, so that a refusal leaves no directory behind.
            None if config.create => {
                let parent = config.dir.parent().unwrap_or(&config.dir);
                match host.metadata(parent)? {
                    Some(meta) if meta.kind == FileKind::Directory => {}
                    _ => return Err(refuse("lies in no directory that exists: make it first")),
                }
                check_place(&host.fs_stat(parent)?, config.allow_volatile).map_err(|why| refuse(&why))?;
                host.make_dir(&config.dir)?;
            }
            None => return Err(refuse("does not exist: make it, or mount the disk that holds it")),
        }
        let stat = host.fs_stat(&config.dir)?;
        check_place(&stat, config.allow_volatile).map_err(|why| refuse(&why))?;

        let id = match read_marker(&*host, &names)? {
            Some(id) => id,
            None if config.create => make_marker(&*host, &names, &config.name)?,
            None => return Err(refuse("is no pool yet: create it first (offshoot pool create)")),
        };
        let mut made = false;
        for dir in [names.volumes(), names.snapshots(), names.templates()] {
            made |= host.make_dir(&dir)?;
        }
        if made {
            host.sync_dir(&names.dir)?;
        }

        let dev = host.metadata(&names.marker())?.map_or(stat.dev, |meta| meta.dev);
        let reflink = try_reflink(&*host, &names)?;
        let mut warnings = Vec::new();
        if !reflink {
            warnings.push(format!(
                "{} cannot share blocks between files: copies take the time and space of their data, and a \
                 volume in use cannot be copied",
                stat.fs
            ));
        }
        if is_volatile(&stat.fs) {
            warnings.push("lies in memory: everything is gone with the next boot".into());
        }
        let subvolumes = config.subvolumes && stat.fs == "btrfs" && {
            let enabled = host.quota_enable(&config.dir);
            if let Err(error) = &enabled {
                warnings.push(format!(
                    "volumes are images and not subvolumes, since quotas cannot be had: {error}"
                ));
            }
            enabled.is_ok()
        };
        let templates = Templates::load(&*host, &names)?;
        let info = PoolInfo {
            id,
            name: config.name,
            backend: "local",
            path: shown,
            filesystem: stat.fs,
            node_local: true,
            shares_copies: reflink,
            tracks_changes: reflink,
            warnings,
        };
        let facts = host.facts()?;
        let (policy, claims) = (config.policy, Claims::default());
        Ok(Pool { host, info, names, dev, facts, reflink, subvolumes, policy, claims, templates })
    }
}

fn is_volatile(fs: &str) -> bool {
    matches!(fs, "tmpfs" | "ramfs")
}

/// Why a pool cannot be on such a filesystem.
pub(super) fn check_place(stat: &FsStat, allow_volatile: bool) -> Result<(), String> {
    if stat.fs.starts_with("overlay") {
        return Err(
            "lies on an overlay filesystem, most likely the container's own, which is gone with the \
                    container: mount a directory of the machine there"
                .into(),
        );
    }
    if is_volatile(&stat.fs) && !allow_volatile {
        let fs = &stat.fs;
        return Err(format!(
            "lies in memory ({fs}) and would be gone with the next boot: use a disk, or allow it"
        ));
    }
    if stat.read_only {
        return Err("the filesystem is read-only".into());
    }
    Ok(())
}

/// The pool's id, or `None` where there is no marker.
fn read_marker(host: &dyn Host, names: &Names) -> Result<Option<PoolId>> {
    let path = names.marker();
    let Some(bytes) = host.read_file(&path)? else { return Ok(None) };
    let broken = |why: &dyn std::fmt::Display| {
        Error::precondition(format!("{}: the pool's marker cannot be read: {why}", path.display()))
    };
    // The version first: a newer marker may well have another shape.
    let value: serde_json::Value = serde_json::from_slice(&bytes).map_err(|e| broken(&e))?;
    let format = value.get("format").and_then(serde_json::Value::as_u64);
    match format {
        Some(format) if format == u64::from(FORMAT) => {}
        Some(format) => {
            return Err(Error::precondition(format!(
                "{}: the pool has format {format}, and this version of offshoot knows only {FORMAT}: use the \
                 version that made it, or a newer one",
                path.display()
            )));
        }
        None => return Err(broken(&"it names no format")),
    }
    let marker: Marker = serde_json::from_value(value).map_err(|e| broken(&e))?;
    marker.id.parse().map(Some).map_err(|e| broken(&e))
}

/// Makes an empty directory a pool.
fn make_marker(host: &dyn Host, names: &Names, name: &str) -> Result<PoolId> {
    let new = names.dir.join(names::MARKER_NEW);
    for entry in host.read_dir(&names.dir)? {
        // `lost+found` is what mkfs.ext4 leaves, and the half-written marker is our own.
        if entry.name != "lost+found" && entry.name != names::MARKER_NEW {
            return Err(Error::precondition(format!(
                "{} holds {:?} and is no pool: give an empty directory",
                names.dir.display(),
                entry.name
            )));
        }
    }
    let id = PoolId::random();
    let made_by = format!("offshoot {}", env!("CARGO_PKG_VERSION"));
    let marker = Marker { format: FORMAT, id: id.to_string(), name: name.into(), made_by };
    let bytes = serde_json::to_vec_pretty(&marker)
        .map_err(|e| Error::internal(format!("the marker of pool {name}: {e}")))?;
    host.remove_file(&new)?;
    host.write_file(&new, &bytes)?;
    host.sync_file(&new)?;
    host.rename(&new, &names.marker())?;
    host.sync_dir(&names.dir)?;
    Ok(id)
}

/// Whether files of this directory can share blocks, by doing it.
fn try_reflink(host: &dyn Host, names: &Names) -> Result<bool> {
    let from = names.templates().join("probe-from.new");
    let to = names.templates().join("probe-to.new");
    for path in [&from, &to] {
        host.remove_file(path)?;
    }
    host.write_file(&from, &[b'o'; 4096])?;
    let cloned = host.clone_file(&from, &to);
    for path in [&from, &to] {
        host.remove_file(path)?;
    }
    match cloned {
        Ok(()) => Ok(true),
        Err(error) if error.cause == Cause::Unsupported => Ok(false),
        Err(error) => Err(Error::from(error).with_kind(Kind::Internal).context("trying to share blocks")),
    }
}
