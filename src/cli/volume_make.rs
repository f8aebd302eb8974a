//! `offshoot volume create`, `clone` and `restore`: three ways to a new volume, one call of CSI.

use std::time::Instant;

use anyhow::Result;
use clap::Args;
use serde::Serialize;

use super::output::{clean, human};
use super::progress::watched;
use super::session::{Common, Session, bytes};
use super::view::{KeyValue, by_key};
use crate::proto::csi::volume_capability::access_mode::Mode;
use crate::proto::csi::volume_capability::{AccessMode, AccessType, BlockVolume, MountVolume};
use crate::proto::csi::volume_content_source::{SnapshotSource, Type, VolumeSource};
use crate::proto::csi::{CapacityRange, CreateVolumeRequest, VolumeCapability, VolumeContentSource};
use crate::volume::FsType;
use crate::volume::quantity::Bytes;

/// What all new volumes can be told.
#[derive(Debug, Clone, Args)]
struct Wishes {
    /// Its size, such as 10Gi [default: 1Gi, or that of the source]
    #[arg(long, value_name = "SIZE")]
    size: Option<Bytes>,

    /// A raw block device instead of a filesystem
    #[arg(long)]
    block: bool,

    /// Pool to make it in [default: one with room, or that of the source]
    #[arg(long, value_name = "NAME")]
    pool: Option<String>,

    /// A StorageClass parameter; give it once per parameter
    #[arg(long, value_name = "KEY=VALUE")]
    param: Vec<KeyValue>,

    #[command(flatten)]
    common: Common,
}

/// Make an empty volume
///
/// Making one of a name that is there already, with the same options, changes nothing and prints the one that is
/// there. The parameters are those of a StorageClass; see docs/reference/parameters.md.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:\n\
\x20 offshoot volume create db --size 10Gi\n\
\x20 offshoot volume create db --size 10Gi --fs xfs --pool fast --param provisioning=thick\n\
\x20 offshoot volume create disk --size 1Gi --block")]
pub(super) struct Create {
    /// Its name
    #[arg(value_name = "NAME")]
    name: String,

    /// Its filesystem: ext4, xfs or btrfs [default: ext4]
    #[arg(long, value_name = "FS", value_parser = filesystem, conflicts_with = "block")]
    fs: Option<FsType>,

    #[command(flatten)]
    wishes: Wishes,
}

/// Make a writable copy of a volume as it is now
///
/// The copy shares its bytes with the source and costs what it changes, where the pool can; it takes as long for a
/// terabyte as for a megabyte. A volume in use is frozen for a moment, so that the copy is one that a crash at that
/// moment would have left.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:\n\
\x20 offshoot volume clone db db-anna\n\
\x20 offshoot volume clone db db-large --size 50Gi")]
pub(super) struct Clone {
    /// The volume to copy: its name or id
    #[arg(value_name = "VOLUME")]
    source: String,

    /// The copy's name
    #[arg(value_name = "NAME")]
    name: String,

    #[command(flatten)]
    wishes: Wishes,
}

/// Make a writable volume of a snapshot
///
/// As `volume clone`, of the moment of the snapshot. The volume that the snapshot was taken of is not touched; to
/// take that one back, use `offshoot rewind`.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:\n\
\x20 offshoot volume restore monday db-monday\n\
\x20 offshoot volume restore monday db-monday --size 20Gi")]
pub(super) struct Restore {
    /// The snapshot: its name or id
    #[arg(value_name = "SNAPSHOT")]
    source: String,

    /// The new volume's name
    #[arg(value_name = "NAME")]
    name: String,

    #[command(flatten)]
    wishes: Wishes,
}

fn filesystem(text: &str) -> Result<FsType, String> {
    FsType::parse(text).ok_or_else(|| "give ext4, xfs or btrfs".into())
}

impl Create {
    pub(super) fn run(self) -> Result<()> {
        let common = self.wishes.common.clone();
        common.run(async |session| self.wishes.make(&session, self.name, self.fs, None).await)
    }
}

impl Clone {
    pub(super) fn run(self) -> Result<()> {
        let common = self.wishes.common.clone();
        common.run(async |session| {
            let volume_id = session.volume(&self.source).await?;
            let source = Type::Volume(VolumeSource { volume_id });
            self.wishes.make(&session, self.name, None, Some(source)).await
        })
    }
}

impl Restore {
    pub(super) fn run(self) -> Result<()> {
        let common = self.wishes.common.clone();
        common.run(async |session| {
            let snapshot_id = session.snapshot(&self.source).await?;
            let source = Type::Snapshot(SnapshotSource { snapshot_id });
            self.wishes.make(&session, self.name, None, Some(source)).await
        })
    }
}

/// A volume that was made.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Made {
    id: String,
    name: String,
    size_bytes: u64,
    source_id: Option<String>,
}

impl Wishes {
    async fn make(
        self,
        session: &Session,
        name: String,
        fs: Option<FsType>,
        source: Option<Type>,
    ) -> Result<()> {
        let output = self.common.output.clone();
        let source_id = source.as_ref().map(|source| match source {
            Type::Snapshot(snapshot) => snapshot.snapshot_id.clone(),
            Type::Volume(volume) => volume.volume_id.clone(),
        });
        let request = self.request(name.clone(), fs, source)?;
        let start = Instant::now();
        let mut controller = session.controller();
        let quiet = !output.is_for_people();
        let answer = watched(session, quiet, None, controller.create_volume(request)).await?;
        let volume = answer.volume.unwrap_or_default();
        let made = Made { id: volume.volume_id, name, size_bytes: bytes(volume.capacity_bytes), source_id };
        output.print(&made, &[&made.id], |_| {
            let from = made.source_id.as_ref().map(|id| format!(" from {id}")).unwrap_or_default();
            let (name, id, size) = (clean(&made.name), &made.id, human(made.size_bytes));
            format!("made volume {name} ({id}, {size}){from} in {}\n", took(start))
        })
    }

    fn request(self, name: String, fs: Option<FsType>, source: Option<Type>) -> Result<CreateVolumeRequest> {
        let mut options = self.param;
        if let Some(pool) = self.pool {
            options.push(format!("pool={pool}").parse().map_err(anyhow::Error::msg)?);
        }
        let capacity_range = self.size.map(|size| CapacityRange {
            required_bytes: i64::try_from(size.0).unwrap_or(i64::MAX),
            limit_bytes: 0,
        });
        Ok(CreateVolumeRequest {
            name,
            capacity_range,
            volume_capabilities: vec![capability(self.block, fs, &[], Mode::SingleNodeWriter)],
            parameters: by_key(options)?,
            volume_content_source: source.map(|source| VolumeContentSource { r#type: Some(source) }),
            ..CreateVolumeRequest::default()
        })
    }
}

/// How a volume is to be used.
pub(super) fn capability(block: bool, fs: Option<FsType>, flags: &[String], mode: Mode) -> VolumeCapability {
    let access = if block {
        AccessType::Block(BlockVolume {})
    } else {
        AccessType::Mount(MountVolume {
            fs_type: fs.map(FsType::as_str).unwrap_or_default().to_owned(),
            mount_flags: flags.to_vec(),
            volume_mount_group: String::new(),
        })
    };
    VolumeCapability { access_mode: Some(AccessMode { mode: mode.into() }), access_type: Some(access) }
}

/// How long it took, for a person.
pub(super) fn took(start: Instant) -> String {
    let elapsed = start.elapsed();
    if elapsed.as_secs() < 10 {
        format!("{:.3} s", elapsed.as_secs_f64())
    } else {
        humantime::format_duration(std::time::Duration::from_secs(elapsed.as_secs())).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        create: Create,
    }

    fn read(words: &str) -> Result<CreateVolumeRequest, String> {
        let line = Line::try_parse_from(std::iter::once("x").chain(words.split(' ')));
        let create = line.map_err(|error| error.to_string())?.create;
        create.wishes.request(create.name, create.fs, None).map_err(|error| error.to_string())
    }

    #[test]
    fn options_become_the_request_that_kubernetes_would_send() {
        let request = read("db --size 1.5Gi --fs xfs --pool fast --param provisioning=thick").unwrap();
        assert_eq!(request.name, "db");
        assert_eq!(request.capacity_range.unwrap().required_bytes, 3 << 29);
        assert_eq!(request.parameters["pool"], "fast");
        assert_eq!(request.parameters["provisioning"], "thick");
        let [capability] = request.volume_capabilities.try_into().unwrap();
        let Some(AccessType::Mount(mount)) = capability.access_type else { panic!("not a mount") };
        assert_eq!(mount.fs_type, "xfs");

        let block = read("db --block").unwrap();
        assert_eq!(block.capacity_range, None);
        assert!(matches!(block.volume_capabilities[0].access_type, Some(AccessType::Block(_))));
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        fn check(words: &str, expect: &str) {
            let error = read(words).unwrap_err();
            assert!(error.contains(expect), "{error}");
        }
        check("db --block --fs xfs", "cannot be used with");
        check("db --fs ntfs", "give ext4, xfs or btrfs");
        check("db --size 10GiB", "--size");
        check("db --pool a --param pool=b", "given twice");
    }
}
