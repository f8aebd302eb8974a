//! `kubectl offshoot support-bundle`: everything that helps, in one file.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::Args;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde::Serialize;

use super::World;
use crate::cli::output::{Output, human};
use crate::cli::session::now;
use crate::cluster::checks::examine;
use crate::cluster::support::{Files, collect};
use crate::volume::record::Millis;

/// Write logs, objects, events and findings into one archive, without secrets
///
/// No Secret is read; the values of environment variables and manifests kept in annotations are taken out. Names of PVCs,
/// namespaces, nodes and images stay. Look through it before you hand it to others.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:\n\
\x20 kubectl offshoot support-bundle\n\
\x20 kubectl offshoot support-bundle --file /tmp/offshoot.tar.gz")]
pub(super) struct SupportBundle {
    /// The file to make, which must not be there yet [default: offshoot-support-TIME.tar.gz]
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, Serialize)]
struct Bundle {
    file: PathBuf,
    contents: Vec<Entry>,
}

#[derive(Debug, Serialize)]
struct Entry {
    name: String,
    bytes: u64,
}

impl SupportBundle {
    pub(super) async fn run(self, world: &World) -> Result<()> {
        let at = now();
        let stamp = jiff::Timestamp::from_millisecond(at).map(|at| at.strftime("%Y%m%d-%H%M%S").to_string());
        let file = self
            .file
            .unwrap_or_else(|| format!("offshoot-support-{}.tar.gz", stamp.unwrap_or_default()).into());
        let mut files = collect(&world.access).await;
        files.insert("version.txt".into(), format!("kubectl-offshoot {}\n", env!("CARGO_PKG_VERSION")));
        let checks = crate::cli::doctor::Checks::of(examine(&world.access, world.driver.as_ref()).await);
        files.insert("doctor.json".into(), serde_json::to_string_pretty(&checks)?);
        for (name, args) in [
            ("tree.json", &["tree"][..]),
            ("pools.json", &["pool", "list"]),
            ("left-overs.json", &["orphans", "list"]),
            ("driver-doctor.json", &["doctor"]),
        ] {
            let text = match world.driver.run(&[args, &["--output", "json"]].concat()).await {
                Ok(ran) => format!("{}{}", ran.stdout, ran.stderr),
                Err(error) => format!("{error:#}\n"),
            };
            files.insert(name.into(), text);
        }
        write(&file, &files, at).with_context(|| format!("cannot write {}", file.display()))?;
        let contents =
            files.iter().map(|(name, text)| Entry { name: name.clone(), bytes: text.len() as u64 });
        let bundle = Bundle { contents: contents.collect(), file };
        let path = bundle.file.display().to_string();
        self.output.print(&bundle, &[&path], |style| {
            let rows = bundle.contents.iter().map(|entry| vec![entry.name.clone(), human(entry.bytes)]);
            style.table(&["FILE", ">SIZE"], rows.collect()) + &format!("wrote {path}\n")
        })
    }
}

/// For its owner alone, and never over another file.
fn write(file: &std::path::Path, files: &Files, at: Millis) -> Result<()> {
    let out = OpenOptions::new().write(true).create_new(true).mode(0o600).open(file)?;
    let mut archive = tar::Builder::new(GzEncoder::new(out, Compression::default()));
    for (name, text) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o644);
        header.set_mtime(u64::try_from(at / 1000).unwrap_or(0));
        header.set_cksum();
        archive.append_data(&mut header, format!("offshoot-support/{name}"), text.as_bytes())?;
    }
    archive.into_inner()?.finish()?.flush()?;
    Ok(())
}
