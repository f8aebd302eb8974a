//! `offshoot certificates`: keys for the controller and the nodes where no Kubernetes makes them.

use std::fs::{DirBuilder, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::ArgAction;
use serde::Serialize;

use super::output::{Output, rfc3339};
use crate::tls::directory::{AUTHORITIES, CERTIFICATE, KEY};
use crate::tls::{Authority, Lifetime, Role, SecretText, now};

/// The authority's directory.
const AUTHORITY: &str = "authority";

/// How much longer an authority lasts than what it signs.
const AUTHORITY_LASTS: u32 = 10;

/// Make certificates for the controller and for nodes, each in a directory of its own for --tls-dir
///
/// The authority is made in DIR/authority, or taken from there to make more. Whoever has its key can command every
/// node: keep it off the nodes. What exists is never overwritten.
#[derive(Debug, clap::Args)]
pub(super) struct Certificates {
    /// Directory that gets DIR/authority, DIR/controller and DIR/NODE
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,

    /// Make a certificate for the agent of this node; give it once per node
    #[arg(long, value_name = "NAME")]
    node: Vec<String>,

    /// Make a certificate for the controller
    #[arg(long, action = ArgAction::SetTrue)]
    controller: bool,

    /// How long certificates last; the authority lasts ten times as long
    #[arg(long, value_name = "TIME", default_value = "30d", value_parser = humantime::parse_duration)]
    lifetime: Duration,

    #[command(flatten)]
    output: Output,
}

/// One certificate that was made.
#[derive(Debug, Serialize)]
struct Made {
    name: String,
    directory: PathBuf,
    not_after: String,
}

impl Certificates {
    pub(super) fn run(self) -> Result<()> {
        if self.node.is_empty() && !self.controller {
            bail!("there is nothing to make; give --controller, --node NAME, or both");
        }
        if self.lifetime < Duration::from_secs(60) {
            bail!("lifetime: less than a minute is no use; give one such as 30d");
        }
        let made = self.make()?;
        let ids: Vec<_> = made.iter().filter_map(|made| made.directory.to_str()).collect();
        self.output.print(&made, &ids, |style| {
            let rows = made.iter().map(|made| {
                vec![made.name.clone(), made.directory.display().to_string(), made.not_after.clone()]
            });
            style.table(&["NAME", "DIRECTORY", "VALID UNTIL"], rows.collect())
        })
    }

    fn make(&self) -> Result<Vec<Made>> {
        // All names before any file.
        let nodes = self.node.iter().map(|node| Role::node(node).map(|role| (node.as_str(), role)));
        let nodes = nodes.collect::<Result<Vec<_>, _>>()?;
        let controller = self.controller.then_some(("controller", Role::Controller));
        let roles: Vec<_> = controller.into_iter().chain(nodes).collect();
        for (n, (name, role)) in roles.iter().enumerate() {
            if *name == AUTHORITY || (*name == "controller" && *role != Role::Controller) {
                bail!(
                    "node: `{name}` is the name of another directory here; give this node a --dir of its own"
                );
            }
            if roles.iter().skip(n + 1).any(|(other, _)| other == name) {
                bail!("node: `{name}` is given twice");
            }
            let dir = self.dir.join(name);
            if dir.symlink_metadata().is_ok() {
                bail!("{} exists; move it away to have its certificate made anew", dir.display());
            }
        }
        make_dir(&self.dir, true)?;
        let authority = self.authority()?;
        let now = now();
        let mut made = Vec::new();
        for (name, role) in roles {
            let lifetime = Lifetime::starting(now, self.lifetime);
            let bundle = authority.issue(&role, lifetime, authority.certificate().to_owned())?;
            let dir = self.dir.join(name);
            make_dir(&dir, false)?;
            write(&dir.join(KEY), bundle.key.expose(), 0o600)?;
            write(&dir.join(AUTHORITIES), &bundle.authorities, 0o644)?;
            write(&dir.join(CERTIFICATE), &bundle.certificate, 0o644)?;
            let until = lifetime.until.min(authority.lifetime().until);
            let millis = i64::try_from(until.as_millis()).unwrap_or(i64::MAX);
            made.push(Made { name: role.name(), directory: dir, not_after: rfc3339(millis) });
        }
        Ok(made)
    }

    /// The authority that is there, or a new one.
    fn authority(&self) -> Result<Authority> {
        let dir = self.dir.join(AUTHORITY);
        let (certificate, key) = (dir.join(CERTIFICATE), dir.join(KEY));
        if dir.symlink_metadata().is_ok() {
            let read = |path: &Path| {
                std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
            };
            return Authority::load(&read(&certificate)?, &SecretText::from(read(&key)?))
                .with_context(|| format!("the authority in {} cannot be used", dir.display()));
        }
        let authority = Authority::make(Lifetime::starting(now(), self.lifetime * AUTHORITY_LASTS))?;
        make_dir(&dir, false)?;
        write(&key, authority.key().expose(), 0o600)?;
        write(&certificate, authority.certificate(), 0o644)?;
        Ok(authority)
    }
}

fn make_dir(dir: &Path, may_exist: bool) -> Result<()> {
    DirBuilder::new()
        .recursive(may_exist)
        .mode(0o700)
        .create(dir)
        .with_context(|| format!("cannot make the directory {}", dir.display()))
}

/// Writes a new file with its mode from the first moment.
fn write(path: &Path, text: &str, mode: u32) -> Result<()> {
    let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()))
        .with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;
    use crate::tls::{Keys, directory};
    use clap::Parser as _;
    use std::os::unix::fs::PermissionsExt as _;

    #[derive(Debug, clap::Parser)]
    struct Line {
        #[command(flatten)]
        certificates: Certificates,
    }

    fn make(dir: &Path, args: &[&str]) -> Result<Vec<Made>> {
        let dir = dir.to_str().unwrap();
        let args = ["certificates", "--dir", dir].into_iter().chain(args.iter().copied());
        Line::try_parse_from(args).unwrap().certificates.make()
    }

    #[test]
    fn directories_are_made_that_both_roles_can_use_and_keys_are_private() {
        let scratch = tempfile::tempdir().unwrap();
        let dir = scratch.path().join("new");
        let made = make(&dir, &["--controller", "--node", "a"]).unwrap();
        assert_eq!(
            made.iter().map(|m| m.name.as_str()).collect::<Vec<_>>(),
            ["controller.offshoot", "a.node.offshoot"]
        );
        // More from the same authority, later.
        make(&dir, &["--node", "b"]).unwrap();
        for (name, role) in [
            ("controller", Role::Controller),
            ("a", Role::node("a").unwrap()),
            ("b", Role::node("b").unwrap()),
        ] {
            let keys = Keys::new(role, Metrics::new("d", "n"));
            directory::load(&dir.join(name), &keys).unwrap();
            let mode = std::fs::metadata(dir.join(name).join(KEY)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        let first = std::fs::read(dir.join("a").join(AUTHORITIES)).unwrap();
        assert_eq!(first, std::fs::read(dir.join("b").join(AUTHORITIES)).unwrap());
    }

    #[test]
    fn nothing_is_overwritten_and_nothing_is_made_of_a_wrong_list() {
        let scratch = tempfile::tempdir().unwrap();
        make(scratch.path(), &["--node", "a"]).unwrap();
        let check = |args: &[&str], expect: &str| {
            let error = format!("{:#}", make(scratch.path(), args).unwrap_err());
            assert!(error.contains(expect), "{error}");
            assert_eq!(std::fs::read_dir(scratch.path()).unwrap().count(), 2);
        };
        check(&["--node", "b", "--node", "a"], "exists");
        check(&["--node", "b", "--node", "b"], "given twice");
        check(&["--node", "b", "--node", "../c"], "cannot be the name of a node");
        check(&["--node", "authority"], "another directory");
        check(&["--node", "controller"], "another directory");
        check(&["--controller", "--node", "controller"], "given twice");
        std::fs::write(scratch.path().join("authority/tls.key"), "damaged").unwrap();
        check(&["--node", "b"], "cannot be used");
    }
}
