//! Keys in a directory: `tls.crt`, `tls.key` and `ca.crt`, as Kubernetes mounts a Secret and cert-manager fills one.
//!
//! Whoever exchanges them does so file by file, so a reader can see the new certificate with the old key. The files are
//! read every few seconds and compared whole (a change within one tick of the clock, or through a link that was
//! switched, has no newer time); what does not fit together is left alone until it does, and said once.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tokio_util::sync::CancellationToken;

use super::keys::{Bundle, Keys, SecretText};

/// The certificate of the role.
pub const CERTIFICATE: &str = "tls.crt";
/// Its key.
pub const KEY: &str = "tls.key";
/// The authorities that are trusted.
pub const AUTHORITIES: &str = "ca.crt";

/// How often a directory is looked at.
const EVERY: Duration = Duration::from_secs(5);

/// The largest file that is read, in bytes.
const MAX_FILE: u64 = 1 << 20;

/// Reads the three files.
pub fn read(dir: &Path) -> Result<Bundle> {
    let file = |name: &str| {
        let path = dir.join(name);
        let size = std::fs::metadata(&path).with_context(|| format!("cannot read {}", path.display()))?.len();
        if size > MAX_FILE {
            bail!("{} has over {MAX_FILE} bytes; it is no certificate", path.display());
        }
        std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
    };
    Ok(Bundle {
        certificate: file(CERTIFICATE)?,
        key: SecretText::from(file(KEY)?),
        authorities: file(AUTHORITIES)?,
    })
}

/// Takes what is in the directory into `keys`.
pub fn load(dir: &Path, keys: &Keys) -> Result<Bundle> {
    let bundle = read(dir)
        .context("--tls-dir has to hold tls.crt, tls.key and ca.crt; `offshoot certificates` makes them")?;
    keys.replace(&bundle).with_context(|| format!("the keys in {} cannot be used", dir.display()))?;
    Ok(bundle)
}

/// Takes every change of the directory into `keys`, until `stop`. `last` is what was loaded.
pub async fn watch(dir: &Path, keys: Arc<Keys>, mut last: Bundle, stop: CancellationToken) {
    let mut told = String::new();
    while stop.run_until_cancelled(tokio::time::sleep(EVERY)).await.is_some() {
        let found = match read(dir) {
            Ok(found) if found == last => continue,
            Ok(found) => found,
            Err(error) => {
                tell(&mut told, dir, format!("{error:#}"));
                continue;
            }
        };
        match keys.replace(&found) {
            Ok(()) => {
                tracing::info!(dir = %dir.display(), "keys were exchanged; new connections use them");
                told.clear();
                last = found;
            }
            Err(error) => tell(&mut told, dir, error.to_string()),
        }
    }
}

/// Warns once of each reason.
fn tell(told: &mut String, dir: &Path, error: String) {
    if *told != error {
        tracing::warn!(dir = %dir.display(), error, "the keys in the directory changed and cannot be used; those from before are");
        *told = error;
    }
}
