//! The parameters of a StorageClass of the Delphix driver.
//!
//! They are free text that ends up in requests to somebody else's machine, and one that is misspelt and ignored is found
//! out when the wrong data was copied. So unknown keys are refused with the nearest known one, and every value is
//! checked here as far as that can be done without asking the DCT. Kubernetes' own keys (`csi.storage.k8s.io/…`) are
//! accepted; those that say whom a volume is for are read.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::Value;

pub use super::param_docs::{ANNOTATIONS, DOCS};
use crate::backend::delphix::Hook;
use crate::volume::names::{check_path, check_pool_name};
use crate::volume::param_docs::Place;
use crate::volume::record::Claim;
use crate::volume::{Error, Result};

const MAX_KEYS: usize = 64;
const MAX_VALUE: usize = 4096;
/// Hooks are scripts.
const MAX_HOOKS: usize = 64 * 1024;
const SYSTEM: &str = "csi.storage.k8s.io/";
const PROVISIONER: &str = "storage.kubernetes.io/csiProvisionerIdentity";

/// Where hooks may stand, as the DCT names it.
const HOOKS: [&str; 13] = [
    "configure_clone",
    "pre_refresh",
    "post_refresh",
    "pre_self_refresh",
    "post_self_refresh",
    "pre_rollback",
    "post_rollback",
    "pre_snapshot",
    "post_snapshot",
    "pre_start",
    "post_start",
    "pre_stop",
    "post_stop",
];
const HOOK_FIELDS: [&str; 4] = ["name", "command", "shell", "hook_template_id"];
const SHELLS: [&str; 5] = ["bash", "shell", "expect", "ps", "psd"];

/// The point of the source that is copied.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Point {
    /// The newest snapshot.
    #[default]
    Latest,
    /// This snapshot, by id.
    Snapshot(String),
    /// This time.
    Timestamp(Timestamp),
    /// This bookmark, by id or name.
    Bookmark(String),
}

/// Whether VDBs are made for containers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Container {
    /// Where the DCT knows it.
    #[default]
    Auto,
    /// Yes, and a DCT that does not know it is an error.
    On,
    /// No.
    Off,
}

/// A version of the NFS protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs, reason = "the names say it")]
pub enum NfsVersion {
    V3,
    V4,
    V4_1,
    V4_2,
}

impl NfsVersion {
    /// All of them, in the order in which messages list them.
    pub const ALL: [NfsVersion; 4] = [NfsVersion::V3, NfsVersion::V4, NfsVersion::V4_1, NfsVersion::V4_2];

    /// As parameters and the publish context write it.
    pub fn as_str(self) -> &'static str {
        match self {
            NfsVersion::V3 => "3",
            NfsVersion::V4 => "4",
            NfsVersion::V4_1 => "4.1",
            NfsVersion::V4_2 => "4.2",
        }
    }

    /// The version of that text.
    pub fn parse(text: &str) -> Option<Self> {
        NfsVersion::ALL.into_iter().find(|version| version.as_str() == text)
    }
}

/// What a StorageClass says about a new volume.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Params {
    /// The connection; `None` means the only one.
    pub dct: Option<String>,
    /// Id or name of a dSource or VDB.
    pub source: Option<String>,
    /// The point of it.
    pub point: Point,
    /// Id or name of an engine.
    pub engine: Option<String>,
    /// Id or name of an environment.
    pub environment: Option<String>,
    /// Id or name of a repository.
    pub repository: Option<String>,
    /// Id or name of a group.
    pub group: Option<String>,
    /// The absolute path below which the environment's host mounts new VDBs.
    pub mount_base: Option<String>,
    /// `UID:GID`.
    pub ownership: Option<String>,
    /// Whether VDBs are made for containers.
    pub container: Container,
    /// Id of a retention policy.
    pub retention_policy: Option<String>,
    /// Id of a snapshot policy.
    pub snapshot_policy: Option<String>,
    /// Whether the VDB is marked as masked.
    pub masked: Option<bool>,
    /// Hooks, by their moment.
    pub hooks: BTreeMap<String, Vec<Hook>>,
    /// More tags.
    pub tags: BTreeMap<String, String>,
    /// What nodes mount with; `None` leaves it to the engine.
    pub nfs_version: Option<NfsVersion>,
    /// Whom the volume is for.
    pub claim: Option<Claim>,
    /// Each parameter as it was written, for the comparison of repeated requests.
    written: BTreeMap<String, String>,
}

impl Params {
    /// Reads `parameters` of CreateVolume or GetCapacity.
    ///
    /// # Errors
    /// [`crate::volume::Kind::Invalid`], naming the key and the mend.
    pub fn parse(params: &BTreeMap<String, String>) -> Result<Params> {
        let raw = Raw::new(Place::StorageClass, params)?;
        let point = raw.point()?;
        let params = Params {
            dct: raw
                .read("dct", |text| check_pool_name("it", text).map(|()| text.to_owned()).map_err(say))?,
            source: raw.word("source")?,
            point,
            engine: raw.word("engine")?,
            environment: raw.word("environment")?,
            repository: raw.word("repository")?,
            group: raw.word("group")?,
            mount_base: raw.read("mountBase", |text| check_path("it", text).map_err(say))?,
            ownership: raw.read("ownership", ownership)?,
            container: raw.read("containerMode", container)?.unwrap_or_default(),
            retention_policy: raw.word("retentionPolicy")?,
            snapshot_policy: raw.word("snapshotPolicy")?,
            masked: raw.read("masked", boolean)?,
            hooks: raw.read("hooks", hooks)?.unwrap_or_default(),
            tags: raw.read("tags", tags)?.unwrap_or_default(),
            nfs_version: raw.read("nfsVersion", |text| {
                NfsVersion::parse(text).ok_or_else(|| "give 3, 4, 4.1 or 4.2".to_owned())
            })?,
            claim: raw.claim("pvc/name", "pvc/namespace"),
            written: raw.ours().map(|(key, value)| (key.clone(), value.clone())).collect(),
        };
        if matches!(params.point, Point::Timestamp(_)) && params.source.is_none() {
            return Err(raw.bad("sourceTimestamp", "a time is a time of something: give source as well"));
        }
        Ok(params)
    }

    /// The same with the vendor's annotations of the claim in place of what they override. Other annotations are none of
    /// ours.
    ///
    /// # Errors
    /// [`crate::volume::Kind::Invalid`], naming the annotation and the mend.
    pub fn overridden(&self, annotations: &BTreeMap<String, String>) -> Result<Params> {
        let mut written = self.written.clone();
        let mut last = None;
        for (annotation, key) in ANNOTATIONS {
            if let Some(value) = annotations.get(annotation) {
                written.insert(key.to_owned(), value.clone());
                last = Some(annotation);
            }
        }
        let Some(last) = last else { return Ok(self.clone()) };
        let read = Params::parse(&written)
            .map_err(|error| error.context(format!("an annotation of the claim, such as {last}")))?;
        Ok(Params { claim: self.claim.clone(), ..read })
    }

    /// Each parameter as it was written.
    pub fn written(&self) -> &BTreeMap<String, String> {
        &self.written
    }
}

/// What a VolumeSnapshotClass says about a new snapshot.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SnapshotParams {
    /// More tags for the bookmark.
    pub tags: BTreeMap<String, String>,
    /// The VolumeSnapshot it is for.
    pub claim: Option<Claim>,
}

impl SnapshotParams {
    /// Reads `parameters` of CreateSnapshot.
    ///
    /// # Errors
    /// [`crate::volume::Kind::Invalid`], naming the key and the mend.
    pub fn parse(params: &BTreeMap<String, String>) -> Result<SnapshotParams> {
        let raw = Raw::new(Place::SnapshotClass, params)?;
        Ok(SnapshotParams {
            tags: raw.read("tags", tags)?.unwrap_or_default(),
            claim: raw.claim("volumesnapshot/name", "volumesnapshot/namespace"),
        })
    }
}

/// Parameters with known keys and values of bearable length.
struct Raw<'a> {
    params: &'a BTreeMap<String, String>,
}

impl<'a> Raw<'a> {
    fn new(place: Place, params: &'a BTreeMap<String, String>) -> Result<Raw<'a>> {
        if params.len() > MAX_KEYS {
            let why = format!("has {} keys; at most {MAX_KEYS} are taken", params.len());
            return Err(Error::invalid("parameters", why));
        }
        let raw = Raw { params };
        let known: Vec<&str> =
            DOCS.iter().filter(|doc| doc.places.contains(&place)).map(|doc| doc.key).collect();
        for (key, value) in raw.ours() {
            if !known.contains(&key.as_str()) {
                return Err(raw.bad(&key.escape_debug().to_string(), unknown(key, &known)));
            }
            let most = if key == "hooks" { MAX_HOOKS } else { MAX_VALUE };
            if value.len() > most {
                return Err(raw.bad(key, format!("is {} bytes long; at most {most} are taken", value.len())));
            }
        }
        // What external-provisioner makes of a class that asks for a filesystem.
        if let Some(fs) = params.get("csi.storage.k8s.io/fstype").filter(|fs| !fs.is_empty()) {
            let why =
                format!("is {fs:?}, but a Delphix volume comes over NFS and is not formatted: leave it out");
            return Err(raw.bad("csi.storage.k8s.io/fstype", why));
        }
        Ok(raw)
    }

    fn ours(&self) -> impl Iterator<Item = (&'a String, &'a String)> {
        self.params.iter().filter(|(key, _)| !key.starts_with(SYSTEM) && *key != PROVISIONER)
    }

    fn bad(&self, key: &str, why: impl std::fmt::Display) -> Error {
        Error::invalid(&format!("parameters.{key}"), why)
    }

    fn read<T>(&self, key: &str, read: impl FnOnce(&str) -> Result<T, String>) -> Result<Option<T>> {
        let value = self.params.get(key);
        value.map(|text| read(text).map_err(|why| self.bad(key, why))).transpose()
    }

    /// An id or name, which has to be writable in a filter of the DCT.
    fn word(&self, key: &str) -> Result<Option<String>> {
        self.read(key, |text| match text {
            "" => Err("is empty: give an id or a name, or leave it out".to_owned()),
            _ if text.chars().any(char::is_control) => Err("holds control characters".to_owned()),
            _ if text.contains('\\') || (text.contains('\'') && text.contains('"')) => {
                Err("holds a backslash or both kinds of quotes, which cannot be searched for: give the id"
                    .to_owned())
            }
            _ => Ok(text.to_owned()),
        })
    }

    fn point(&self) -> Result<Point> {
        let named: Vec<&str> = ["sourceSnapshot", "sourceTimestamp", "sourceBookmark"]
            .into_iter()
            .filter(|key| self.params.contains_key(*key))
            .collect();
        if let [first, second, ..] = named[..] {
            return Err(self.bad(second, format!("excludes {first}: leave one out")));
        }
        if let Some(id) = self.word("sourceSnapshot")? {
            return Ok(Point::Snapshot(id));
        }
        if let Some(id) = self.word("sourceBookmark")? {
            return Ok(Point::Bookmark(id));
        }
        let at = self.read("sourceTimestamp", timestamp)?;
        Ok(at.map_or(Point::Latest, Point::Timestamp))
    }

    /// Names are only ever shown, so one that is too strange to show is left out instead of failing the request.
    fn claim(&self, name: &str, namespace: &str) -> Option<Claim> {
        let shown = |key: &str| {
            let value = self.params.get(&format!("{SYSTEM}{key}"))?;
            (value.len() <= 256 && !value.chars().any(char::is_control)).then(|| value.clone())
        };
        Some(Claim { name: shown(name)?, namespace: shown(namespace)? })
    }
}

/// A time, RFC 3339.
pub(super) fn timestamp(text: &str) -> Result<Timestamp, String> {
    text.parse().map_err(|_| "is not a time such as 2026-01-31T08:00:00Z".to_owned())
}

fn say(error: Error) -> String {
    error.to_string().trim_start_matches("it: ").to_owned()
}

fn unknown(key: &str, known: &[&str]) -> String {
    let plain = key.to_ascii_lowercase();
    let nearest = known.iter().map(|k| (distance(&plain, &k.to_ascii_lowercase()), *k)).min();
    match nearest {
        Some((steps, meant)) if steps <= 2 + plain.chars().count() / 4 => {
            format!("is not known; did you mean {meant}")
        }
        _ => format!("is not known; known are {}, and {SYSTEM}…", known.join(", ")),
    }
}

/// How many letters have to be put in, taken out or changed to make one word of the other.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (n, x) in a.chars().take(MAX_KEYS).enumerate() {
        let mut before = n;
        let mut left = n + 1;
        let mut next = vec![left];
        for (y, &above) in b.iter().zip(row.iter().skip(1)) {
            left = (before + usize::from(x != *y)).min(above + 1).min(left + 1);
            before = above;
            next.push(left);
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}

fn boolean(text: &str) -> Result<bool, String> {
    match text {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err("give true or false".to_owned()),
    }
}

fn container(text: &str) -> Result<Container, String> {
    match text {
        "auto" => Ok(Container::Auto),
        "true" => Ok(Container::On),
        "false" => Ok(Container::Off),
        _ => Err("give auto, true or false".to_owned()),
    }
}

fn ownership(text: &str) -> Result<String, String> {
    let read = || {
        let (uid, gid) = text.split_once(':')?;
        let number = |s: &str| s.bytes().all(|b| b.is_ascii_digit()).then(|| s.parse::<u32>().ok()).flatten();
        Some((number(uid)?, number(gid)?))
    };
    let (uid, gid) = read().ok_or("give UID:GID in numbers, such as 999:999")?;
    Ok(format!("{uid}:{gid}"))
}

fn hooks(text: &str) -> Result<BTreeMap<String, Vec<Hook>>, String> {
    let read: Value = serde_json::from_str(text).map_err(|error| format!("is not JSON: {error}"))?;
    let all = read.as_object().ok_or("give a JSON object of lists of hooks")?;
    let mut hooks = BTreeMap::new();
    for (at, list) in all {
        if !HOOKS.contains(&at.as_str()) {
            return Err(format!("{at:?} is no place for hooks; known are {}", HOOKS.join(", ")));
        }
        let list = list.as_array().ok_or_else(|| format!("{at} is not a list of hooks"))?;
        let list: Result<Vec<Hook>, String> = list.iter().map(|one| hook(at, one)).collect();
        hooks.insert(at.clone(), list?);
    }
    Ok(hooks)
}

fn hook(at: &str, value: &Value) -> Result<Hook, String> {
    let fields = value.as_object().ok_or_else(|| format!("{at} holds something that is not an object"))?;
    let wrong = fields.iter().find(|(key, value)| {
        !HOOK_FIELDS.contains(&key.as_str())
            || !value.is_string()
            || (*key == "shell" && !value.as_str().is_some_and(|shell| SHELLS.contains(&shell)))
    });
    if let Some((key, _)) = wrong {
        return Err(format!(
            "{at}: {key:?} is wrong; a hook has the texts {}, and shell is one of {}",
            HOOK_FIELDS.join(", "),
            SHELLS.join(", ")
        ));
    }
    let text = |key: &str| fields.get(key).and_then(Value::as_str).map(str::to_owned);
    Ok(Hook {
        name: text("name"),
        command: text("command"),
        shell: text("shell"),
        hook_template_id: text("hook_template_id"),
    })
}

fn tags(text: &str) -> Result<BTreeMap<String, String>, String> {
    let mut tags = BTreeMap::new();
    for pair in text.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
        let (key, value) =
            pair.split_once('=').ok_or_else(|| format!("{pair:?} has no `=`: give key=value,key=value"))?;
        let (key, value) = (key.trim(), value.trim());
        if key.is_empty() || value.is_empty() {
            return Err(format!("{pair:?} has an empty key or value"));
        }
        if key.starts_with(super::tags::PREFIX) {
            return Err(format!("{key:?} begins with {}, which are this driver's own", super::tags::PREFIX));
        }
        if tags.insert(key.to_owned(), value.to_owned()).is_some() {
            return Err(format!("{key:?} is given twice"));
        }
    }
    Ok(tags)
}

#[cfg(test)]
#[path = "params_tests.rs"]
mod tests;
