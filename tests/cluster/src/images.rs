//! The images that a cluster without a registry is given, made by scripts of this repository.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

/// The repository that this was built from.
fn repository() -> PathBuf {
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
