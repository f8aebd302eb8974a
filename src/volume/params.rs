//! The parameters of a StorageClass, VolumeAttributesClass, VolumeSnapshotClass or inline volume.
//!
//! They are free text, and a misspelt key that is silently ignored is found out months later, when the data is on the
//! wrong pool. So unknown keys are refused and the known ones are listed. One table, [`DOCS`], says which key is known
//! where; parsing asks it, and `docs/parameters.md` is made from it, so the page cannot be wrong. Kubernetes' own keys
//! (`csi.storage.k8s.io/…`) are accepted wherever they turn up; those that mean something are read.

use std::collections::BTreeMap;

use super::error::{Error, Result};
pub use super::param_docs::{DOCS, ParamDoc, Place};
use super::record::Claim;
use super::size::DEFAULT_SIZE;
use super::spec::{FsType, Layout, Mutable, Provisioning};
use super::{mkfs_options, quantity};

const MAX_KEYS: usize = 64;
const MAX_KEY: usize = 256;
const MAX_VALUE: usize = 4096;
/// Kubernetes' own values may be long: service account tokens are.
const MAX_SYSTEM_VALUE: usize = 64 * 1024;
const MAX_READ_AHEAD_KIB: u32 = 1 << 20;

const SYSTEM: &str = "csi.storage.k8s.io/";
const PROVISIONER: &str = "storage.kubernetes.io/csiProvisionerIdentity";

/// What a StorageClass (or an inline volume) says about a new volume.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CreateParams {
    /// The name of the pool, or any.
    pub pool: Option<String>,
    /// The filesystem, if the parameters name one. Use [`CreateParams::fs_for`].
    pub fs: Option<FsType>,
    /// Words for mkfs; checked by [`CreateParams::fs_for`], once the filesystem is known.
    pub mkfs_options: Vec<String>,
    /// The settings that may change later, those of the VolumeAttributesClass included.
    pub mutable: Mutable,
    /// Whether deleted bytes go back to the pool.
    pub discard: bool,
    /// The layout, or whatever suits.
    pub layout: Option<Layout>,
    /// Whether bytes written through a raw device may be mounted.
    pub trust_raw: bool,
    /// Whether a copy may be made on another node than its source's, by sending the bytes.
    pub remote_copy: bool,
    /// Whom the volume is for: the PVC, or the pod of an inline volume.
    pub claim: Option<Claim>,
}

impl CreateParams {
    /// Reads `parameters` and `mutable_parameters` of CreateVolume. The latter win, as CSI says.
    ///
    /// # Errors
    /// [`super::Kind::Invalid`], naming the key and the mend.
    pub fn parse(
        params: &BTreeMap<String, String>,
        mutable_params: &BTreeMap<String, String>,
    ) -> Result<Self> {
        let patch = MutablePatch::read(&Raw::new(Place::AttributesClass, mutable_params)?)?;
        let raw = Raw::new(Place::StorageClass, params)?;
        let claim = raw.claim("pvc/name", "pvc/namespace");
        Self::read(&raw, &patch, claim)
    }

    fn read(raw: &Raw<'_>, patch: &MutablePatch, claim: Option<Claim>) -> Result<Self> {
        let mutable = patch.apply(&MutablePatch::read(raw)?.apply(&Mutable::default()));
        let thick = mutable.provisioning == Provisioning::Thick;
        let discard = raw.read("discard", boolean)?;
        if thick && discard == Some(true) {
            return Err(raw.bad(
                "discard",
                "a thick volume keeps its space; leave discard out or choose provisioning thin",
            ));
        }
        let layout = raw.read("layout", |text| match text {
            "auto" => Ok(None),
            "image" => Ok(Some(Layout::Image)),
            "subvolume" => Ok(Some(Layout::Subvolume)),
            _ => Err("give auto, image or subvolume".into()),
        })?;
        let params = CreateParams {
            pool: raw.get("pool").map(str::to_owned),
            fs: raw.fs()?,
            mkfs_options: raw.get("mkfsOptions").map(mkfs_options::split).unwrap_or_default(),
            mutable,
            discard: discard.unwrap_or(!thick),
            layout: layout.flatten(),
            trust_raw: raw.read("allowBlockToFilesystem", boolean)?.unwrap_or(false),
            remote_copy: raw.read("allowRemoteCopy", boolean)?.unwrap_or(false),
            claim,
        };
        if params.layout == Some(Layout::Subvolume) {
            if let Some(fs) = params.fs.filter(|&fs| fs != FsType::Btrfs) {
                return Err(raw.bad("layout", format!("a subvolume is btrfs, but fsType is {}", fs.as_str())));
            }
            if !params.mkfs_options.is_empty() {
                return Err(raw.bad(
                    "mkfsOptions",
                    "a subvolume is not formatted; leave them out or choose layout image",
                ));
            }
        }
        if let Some(fs) = params.fs {
            mkfs_options::check(fs, &params.mkfs_options).map_err(|e| e.context(raw.place.field()))?;
        }
        Ok(params)
    }

    /// The filesystem of the volume: that of the parameters or of the capability (`asked`), which must agree, else
    /// `default`. Also checks `mkfsOptions` against it.
    ///
    /// # Errors
    /// [`super::Kind::Invalid`] if the two differ or an option is not one of that filesystem's.
    pub fn fs_for(&self, asked: Option<FsType>, default: FsType) -> Result<FsType> {
        let fs = match (self.fs, asked) {
            (Some(ours), Some(asked)) if ours != asked => {
                let why = format!(
                    "is {}, but volume_capabilities asks for {}; leave one out",
                    ours.as_str(),
                    asked.as_str()
                );
                return Err(Error::invalid("parameters.fsType", why));
            }
            (ours, asked) => ours.or(asked).unwrap_or(default),
        };
        mkfs_options::check(fs, &self.mkfs_options).map_err(|e| e.context("parameters"))?;
        Ok(fs)
    }
}

/// What a VolumeAttributesClass changes. `None` leaves a setting as it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MutablePatch {
    /// Thin or thick.
    pub provisioning: Option<Provisioning>,
    /// Read-ahead in KiB; `Some(None)` goes back to the kernel's own.
    pub read_ahead_kib: Option<Option<u32>>,
    /// Direct I/O; `Some(None)` goes back to "wherever the pool can".
    pub direct_io: Option<Option<bool>>,
}

/// The parameters of a VolumeAttributesClass.
pub struct MutableParams;

impl MutableParams {
    /// Reads `mutable_parameters` of ControllerModifyVolume.
    ///
    /// # Errors
    /// [`super::Kind::Invalid`], naming the key: one that is unknown, or cannot change while the volume lives.
    pub fn parse(params: &BTreeMap<String, String>) -> Result<MutablePatch> {
        MutablePatch::read(&Raw::new(Place::AttributesClass, params)?)
    }
}

impl MutablePatch {
    /// `to` with the changes made.
    pub fn apply(&self, to: &Mutable) -> Mutable {
        Mutable {
            provisioning: self.provisioning.unwrap_or(to.provisioning),
            read_ahead_kib: self.read_ahead_kib.unwrap_or(to.read_ahead_kib),
            direct_io: self.direct_io.unwrap_or(to.direct_io),
        }
    }

    fn read(raw: &Raw<'_>) -> Result<Self> {
        Ok(MutablePatch {
            provisioning: raw.read("provisioning", |text| match text {
                "thin" => Ok(Provisioning::Thin),
                "thick" => Ok(Provisioning::Thick),
                _ => Err("give thin or thick".into()),
            })?,
            read_ahead_kib: raw.read("readAheadKiB", |text| {
                let number = || text.parse().ok().filter(|&n| n <= MAX_READ_AHEAD_KIB);
                match text {
                    "auto" => Ok(None),
                    _ if text.bytes().all(|b| b.is_ascii_digit()) => number()
                        .map(Some)
                        .ok_or_else(|| format!("is over the most, {MAX_READ_AHEAD_KIB} KiB")),
                    _ => Err(format!("give a whole number of KiB from 0 to {MAX_READ_AHEAD_KIB}, or auto")),
                }
            })?,
            direct_io: raw.read("directIO", |text| match text {
                "auto" => Ok(None),
                _ => boolean(text).map(Some).map_err(|_| "give true, false or auto".into()),
            })?,
        })
    }
}

/// The parameters of a VolumeSnapshotClass or VolumeGroupSnapshotClass: so far none of our own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SnapshotParams {
    /// The VolumeSnapshot (or VolumeGroupSnapshot) that asked.
    pub claim: Option<Claim>,
}

impl SnapshotParams {
    /// Reads `parameters` of CreateSnapshot and CreateVolumeGroupSnapshot.
    ///
    /// # Errors
    /// [`super::Kind::Invalid`], naming the unknown key.
    pub fn parse(params: &BTreeMap<String, String>) -> Result<Self> {
        let raw = Raw::new(Place::SnapshotClass, params)?;
        let single = raw.claim("volumesnapshot/name", "volumesnapshot/namespace");
        let group = || raw.claim("volumegroupsnapshot/name", "volumegroupsnapshot/namespace");
        Ok(SnapshotParams { claim: single.or_else(group) })
    }
}

/// The attributes of an inline ephemeral volume.
pub struct InlineParams;

impl InlineParams {
    /// Reads `volume_context` of NodePublishVolume for an inline volume: the parameters, and the size in bytes (not yet
    /// rounded or held against the pool's limits).
    ///
    /// # Errors
    /// [`super::Kind::Invalid`], naming the key and the mend. Kubernetes' own values are never quoted: some are tokens.
    pub fn parse(context: &BTreeMap<String, String>) -> Result<(CreateParams, u64)> {
        let raw = Raw::new(Place::Inline, context)?;
        let size = raw.read("size", |text| match quantity::parse(text) {
            Ok(0) => Err("is zero; give a size such as 1Gi".into()),
            read => read.map_err(|e| e.to_string()),
        })?;
        let claim = raw.claim("pod.name", "pod.namespace");
        let params = CreateParams::read(&raw, &MutablePatch::default(), claim)?;
        Ok((params, size.unwrap_or(DEFAULT_SIZE)))
    }

    /// Whether kubelet says in `volume_context` that the volume is inline and lives as long as its pod.
    ///
    /// # Errors
    /// [`super::Kind::Invalid`] for a value that is neither true nor false.
    pub fn is_inline(context: &BTreeMap<String, String>) -> Result<bool> {
        match context.get("csi.storage.k8s.io/ephemeral").map(String::as_str) {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(_) => {
                Err(Error::invalid("volume_context.csi.storage.k8s.io/ephemeral", "give true or false"))
            }
        }
    }
}

/// The raw map, once every key is known to be allowed in its place.
struct Raw<'a> {
    place: Place,
    map: &'a BTreeMap<String, String>,
}

impl<'a> Raw<'a> {
    fn new(place: Place, map: &'a BTreeMap<String, String>) -> Result<Self> {
        let field = place.field();
        if map.len() > MAX_KEYS {
            return Err(Error::invalid(
                field,
                format!("has {} keys; at most {MAX_KEYS} are taken", map.len()),
            ));
        }
        // In order, so that the same request always gets the same answer.
        let mut keys: Vec<&String> = map.keys().collect();
        keys.sort_unstable();
        for key in keys {
            if key.len() > MAX_KEY || key.chars().any(char::is_control) {
                let why = format!("a key is over {MAX_KEY} bytes or holds control characters");
                return Err(Error::invalid(field, why));
            }
            let value = &map[key];
            let system = key.starts_with(SYSTEM) || key == PROVISIONER;
            let most = if system { MAX_SYSTEM_VALUE } else { MAX_VALUE };
            let at = format!("{field}.{key}");
            if !system && !DOCS.iter().any(|doc| doc.key == key && doc.places.contains(&place)) {
                return Err(Error::invalid(&at, unknown(place, key)));
            }
            if value.len() > most {
                return Err(Error::invalid(
                    &at,
                    format!("is {} bytes long; at most {most} are taken", value.len()),
                ));
            }
            if !system && value.trim().is_empty() {
                return Err(Error::invalid(&at, "is empty; give a value or leave the key out"));
            }
            if !system && value.chars().any(char::is_control) {
                return Err(Error::invalid(&at, "holds control characters"));
            }
        }
        Ok(Raw { place, map })
    }

    fn get(&self, key: &str) -> Option<&'a str> {
        self.map.get(key).map(String::as_str)
    }

    fn system(&self, key: &str) -> Option<&'a str> {
        self.map.get(&format!("{SYSTEM}{key}")).map(String::as_str).filter(|value| !value.is_empty())
    }

    fn read<T>(&self, key: &str, read: impl FnOnce(&str) -> Result<T, String>) -> Result<Option<T>> {
        let Some(text) = self.get(key) else { return Ok(None) };
        read(text).map(Some).map_err(|why| self.bad(key, why))
    }

    fn bad(&self, key: &str, why: impl std::fmt::Display) -> Error {
        Error::invalid(&format!("{}.{key}", self.place.field()), why)
    }

    fn fs(&self) -> Result<Option<FsType>> {
        let read = |key: &str, text: &str| {
            FsType::parse(text)
                .ok_or_else(|| self.bad(key, "is not a filesystem of this driver; give ext4, xfs or btrfs"))
        };
        let ours = self.get("fsType").map(|text| read("fsType", text)).transpose()?;
        let theirs = self.system("fstype").map(|text| read("csi.storage.k8s.io/fstype", text)).transpose()?;
        match (ours, theirs) {
            (Some(ours), Some(theirs)) if ours != theirs => {
                let (ours, theirs) = (ours.as_str(), theirs.as_str());
                Err(self.bad(
                    "fsType",
                    format!("is {ours}, but csi.storage.k8s.io/fstype is {theirs}; leave one out"),
                ))
            }
            (ours, theirs) => Ok(ours.or(theirs)),
        }
    }

    /// Names are only ever shown, so one that is too strange to show is left out instead of failing the request.
    fn claim(&self, name: &str, namespace: &str) -> Option<Claim> {
        let shown = |key| self.system(key).filter(|v| v.len() <= 256 && !v.chars().any(char::is_control));
        Some(Claim { name: shown(name)?.to_owned(), namespace: shown(namespace)?.to_owned() })
    }
}

fn unknown(place: Place, key: &str) -> String {
    let known: Vec<&str> = DOCS.iter().filter(|doc| doc.places.contains(&place)).map(|doc| doc.key).collect();
    if let Some(meant) = known.iter().find(|known| known.eq_ignore_ascii_case(key)) {
        return format!("is not known; did you mean {meant}");
    }
    let elsewhere = DOCS.iter().any(|doc| doc.key == key);
    let why = match place {
        Place::AttributesClass if elsewhere => "cannot change while the volume lives",
        _ if elsewhere => "does not belong here",
        _ => "is not known",
    };
    if known.is_empty() {
        return format!("{why}; no parameters are known here but {SYSTEM}…");
    }
    format!("{why}; known are {}, and {SYSTEM}…", known.join(", "))
}

fn boolean(text: &str) -> Result<bool, String> {
    match text {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err("give true or false".into()),
    }
}

#[cfg(test)]
#[path = "params_tests.rs"]
mod tests;
