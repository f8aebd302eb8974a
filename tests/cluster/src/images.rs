//! The images that a cluster without a registry is given, made by scripts of this repository.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

/// The repository that this was built from.
#[must_use]
pub fn repository() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here).to_owned()
}

/// Runs a script of the repository that prints a path. What it says meanwhile goes to the error output.
///
/// # Errors
/// If it fails, or prints no path.
pub fn script(name: &str, args: &[&str]) -> Result<PathBuf> {
    let path = repository().join("scripts").join(name);
    let output = Command::new(&path).args(args).stdin(Stdio::null()).stderr(Stdio::inherit()).output();
    let output = output.with_context(|| format!("cannot start {}", path.display()))?;
    ensure!(output.status.success(), "{} failed, see above: {}", path.display(), output.status);
    let text = String::from_utf8_lossy(&output.stdout);
    let found = PathBuf::from(text.lines().next_back().unwrap_or_default().trim());
    ensure!(found.exists(), "{} has printed no path", path.display());
    Ok(found)
}

/// The archives of the test images: the pause image, busybox, the sidecars.
///
/// # Errors
/// If one cannot be made.
pub fn test_images() -> Result<Vec<PathBuf>> {
    let folder = script("cluster-images.sh", &[])?;
    let mut found = Vec::new();
    for entry in fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let path = entry?.path();
        if path.extension().is_some_and(|end| end == "tar") {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// Offshoot's own image as a release, made when something of it has changed. Its name is `localhost/offshoot:dev`.
///
/// # Errors
/// If it cannot be made, or is larger than it may be.
pub fn offshoot_image() -> Result<PathBuf> {
    script("image.sh", &[])
}

/// The image of PostgreSQL for tests, `localhost/offshoot-test/postgres:1`.
///
/// # Errors
/// If it cannot be made: PostgreSQL is not installed.
pub fn postgres_image() -> Result<PathBuf> {
    script("cluster-images.sh", &["postgres"])
}

/// What has to be said to helm so that the chart uses the images that a cluster has: `--set KEY=VALUE` and so on.
#[must_use]
pub fn chart_values() -> Vec<String> {
    let mut args = vec!["image.repository=localhost/offshoot".to_owned(), "image.tag=dev".to_owned()];
    let sidecars = [
        ("provisioner", "csi-provisioner"),
        ("snapshotter", "csi-snapshotter"),
        ("resizer", "csi-resizer"),
        ("snapshotMetadata", "csi-snapshot-metadata"),
    ];
    args.extend(sidecars.map(|(key, name)| format!("sidecars.{key}.image=localhost/offshoot-test/{name}:1")));
    args.into_iter().flat_map(|value| ["--set".to_owned(), value]).collect()
}
