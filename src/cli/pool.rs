//! `offshoot pool`: the places that hold volumes.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use clap::{Args, Subcommand};
use serde::Serialize;

use super::output::{Style, clean, human};
use super::pool_local;
use super::session::{Common, Session, block_on, said};
use super::view::{KeyValue, PoolView, by_key, yes_no};
use crate::backend::{Place, PoolSpec};
use crate::config::DEFAULT_STATE_DIR;
use crate::proto::offshoot::create_pool_request::Kind;
use crate::proto::offshoot::{CreatePoolRequest, DeletePoolRequest, FilePool};
use crate::volume::quantity::Bytes;

/// Make, list and take away pools: the places that hold volumes
///
/// A pool is a directory on XFS or btrfs, or an XFS filesystem that Offshoot keeps in a file.
#[derive(Debug, Args)]
pub(super) struct Pool {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    #[command(visible_alias = "ls")]
    List(List),
    Create(Create),
    #[command(visible_alias = "rm")]
    Delete(Delete),
}

impl Pool {
    pub(super) fn run(self) -> Result<()> {
        match self.command {
            Command::List(list) => list.run(),
            Command::Create(create) => create.run(),
            Command::Delete(delete) => delete.run(),
        }
    }
}

/// List pools with their space
///
/// AVAILABLE is what new volumes and snapshots may take, after the reserve; USED counts shared bytes once; LOGICAL is
/// the sum of the sizes that users see. COPIES says whether copies share their bytes.
#[derive(Debug, Args)]
#[command(after_long_help = "Example:\n  offshoot pool list")]
struct List {
    #[command(flatten)]
    common: Common,
}

#[derive(Serialize)]
struct Pools {
    pools: Vec<PoolView>,
    /// Nodes of a cluster whose pools are missing here.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    unreachable: Vec<String>,
}

impl List {
    fn run(self) -> Result<()> {
        let common = self.common.clone();
        common.run(async |session| {
            let pools = session.pools().await?.into_iter().map(PoolView::from).collect();
            let list = Pools { pools, unreachable: session.unreachable() };
            let ids: Vec<_> = list.pools.iter().map(|pool| pool.name.as_str()).collect();
            common.output.print(&list, &ids, |style| draw(style, &list.pools))
        })
    }
}

fn draw(style: &Style, pools: &[PoolView]) -> String {
    let rows = pools.iter().map(|pool| {
        vec![
            pool.name.clone(),
            pool.id.clone(),
            pool.filesystem.clone(),
            pool.path.clone(),
            human(pool.size_bytes),
            human(pool.allocated_bytes),
            human(pool.available_bytes),
            human(pool.logical_bytes),
            pool.volumes.to_string(),
            pool.snapshots.to_string(),
            if pool.reflink { "shared" } else { "full" }.to_owned(),
            yes_no(pool.ready).to_owned(),
        ]
    });
    let headings = [
        "NAME",
        "ID",
        "FILESYSTEM",
        "PATH",
        ">SIZE",
        ">USED",
        ">AVAILABLE",
        ">LOGICAL",
        ">VOLUMES",
        ">SNAPSHOTS",
        "COPIES",
        "READY",
    ];
    let mut text = style.table(&headings, rows.collect());
    for pool in pools {
        let reason = Some(&pool.reason).filter(|reason| !reason.is_empty());
        for word in reason.into_iter().chain(&pool.warnings) {
            text += &format!("pool {}: {}\n", clean(&pool.name), clean(word));
        }
    }
    text
}

/// Make a pool of a directory, or in a file
///
/// The directory has to be there, on XFS (made with reflink, as it is by default) or btrfs; others work with full
/// copies. On a host without such a filesystem, --file makes a sparse file with an XFS filesystem in it; its disk must
/// not fill up below it.
///
/// Works with or without a server running: without one, the pool is made here, and `offshoot serve` opens it when it
/// starts with the same --state-dir.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:\n\
\x20 offshoot pool create fast /srv/fast\n\
\x20 offshoot pool create --file /var/lib/offshoot.img --size 50Gi\n\
\x20 offshoot pool create big --file /data/big.img --size 500Gi")]
#[command(
    override_usage = "offshoot pool create [OPTIONS] NAME DIR\n       offshoot pool create [OPTIONS] [NAME] --file PATH --size SIZE"
)]
#[command(group = clap::ArgGroup::new("place").required(true).args(["dir", "file"]))]
struct Create {
    /// The pool's name, by which StorageClasses choose it
    #[arg(value_name = "NAME", default_value = "default")]
    name: String,
    /// An existing directory
    #[arg(value_name = "DIR")]
    dir: Option<PathBuf>,
    /// A file to make the pool in, which must not be there yet
    #[arg(long, value_name = "PATH", requires = "size")]
    file: Option<PathBuf>,
    /// The size of the filesystem in the file, such as 50Gi
    #[arg(long, value_name = "SIZE", requires = "file")]
    size: Option<Bytes>,
    /// A setting of the pool: subvolumes=false, allowVolatile=true; give it once per setting
    #[arg(long, value_name = "KEY=VALUE")]
    param: Vec<KeyValue>,
    /// Directory of the server's state, used if no server runs
    #[arg(long, env = "OFFSHOOT_STATE_DIR", value_name = "DIR", default_value = DEFAULT_STATE_DIR)]
    state_dir: PathBuf,
    #[command(flatten)]
    common: Common,
}

#[derive(Serialize)]
struct Made {
    #[serde(flatten)]
    pool: PoolView,
}

impl Create {
    fn run(self) -> Result<()> {
        block_on(async {
            let spec = self.spec()?;
            let output = &self.common.output;
            let (pool, how) = if pool_local::nobody_listens(&self.common.client.socket.0) {
                let made = pool_local::create(spec, &self.state_dir).await?;
                (made, "no server runs; the next `offshoot serve` with this --state-dir opens it\n")
            } else {
                let session = Session::open(&self.common.client).await?;
                let answer = session.copies().create_pool(request(spec)).await.map_err(said)?.into_inner();
                (PoolView::from(answer.pool.unwrap_or_default()), "")
            };
            let made = Made { pool };
            output.print(&made, &[&made.pool.name], |_| made.draw(how))
        })
    }

    fn spec(&self) -> Result<PoolSpec> {
        let place = match (&self.dir, &self.file, self.size) {
            (Some(dir), None, _) => Place::Directory(absolute(dir)?),
            (None, Some(file), Some(size)) => Place::File { file: absolute(file)?, size: size.0 },
            _ => bail!("give NAME and DIR, or --file PATH and --size SIZE"),
        };
        Ok(PoolSpec { name: self.name.clone(), place, parameters: by_key(self.param.clone())? })
    }
}

/// A path as the server takes it, which may run in another directory.
fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).with_context(|| format!("{} is not a path", path.display()))
}

fn request(spec: PoolSpec) -> CreatePoolRequest {
    let text = |path: PathBuf| path.to_string_lossy().into_owned();
    let kind = match spec.place {
        Place::Directory(dir) => Kind::Path(text(dir)),
        Place::File { file, size } => {
            Kind::File(FilePool { file: text(file), size_bytes: i64::try_from(size).unwrap_or(i64::MAX) })
        }
    };
    CreatePoolRequest { name: spec.name, kind: Some(kind), parameters: spec.parameters }
}

impl Made {
    fn draw(&self, how: &str) -> String {
        let PoolView { name, id, filesystem, path, available_bytes, reflink, warnings, .. } = &self.pool;
        let copies = if *reflink { "copies share their bytes" } else { "copies take full space and time" };
        let mut text = format!(
            "made pool {} ({id}): {filesystem} on {}, {} available, {copies}\n",
            clean(name),
            clean(path),
            human(*available_bytes)
        );
        for warning in warnings {
            text += &format!("note: {}\n", clean(warning));
        }
        text + how
    }
}

/// Take a pool away from this node
///
/// Refused while it holds a volume or a snapshot. What is in its directory or file stays there; delete that yourself
/// if it is not wanted.
#[derive(Debug, Args)]
#[command(after_long_help = "Example:\n  offshoot pool delete fast")]
struct Delete {
    /// The pool: its name or id
    #[arg(value_name = "POOL")]
    pool: String,
    #[command(flatten)]
    common: Common,
}

#[derive(Serialize)]
struct Gone {
    deleted: String,
}

impl Delete {
    fn run(self) -> Result<()> {
        let common = self.common.clone();
        common.run(async |session| {
            let request = DeletePoolRequest { name_or_id: self.pool.clone() };
            session.copies().delete_pool(request).await.map_err(said)?;
            let gone = Gone { deleted: self.pool };
            common.output.print(&gone, &[], |_| format!("took pool {} away\n", clean(&gone.deleted)))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::offshoot::Pool as WirePool;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        create: Create,
    }

    fn read(words: &str) -> Result<PoolSpec, String> {
        let words = std::iter::once("x").chain(words.split(' ').filter(|word| !word.is_empty()));
        let line = Line::try_parse_from(words).map_err(|error| error.to_string())?;
        line.create.spec().map_err(|error| error.to_string())
    }

    #[test]
    fn a_pool_is_a_directory_or_a_file_with_a_size() {
        let dir = read("fast /srv/fast").unwrap();
        assert_eq!((dir.name.as_str(), dir.place), ("fast", Place::Directory("/srv/fast".into())));
        let file = read("--file /x.img --size 50Gi").unwrap();
        assert_eq!(file.name, "default");
        assert_eq!(file.place, Place::File { file: "/x.img".into(), size: 50 << 30 });
        let named = read("big --file /x.img --size 1Gi --param subvolumes=false").unwrap();
        assert_eq!((named.name.as_str(), named.parameters["subvolumes"].as_str()), ("big", "false"));
    }

    #[test]
    fn half_a_place_or_two_are_refused() {
        fn check(words: &str, expect: &str) {
            let error = read(words).unwrap_err();
            assert!(error.contains(expect), "{words}: {error}");
        }
        check("fast", "DIR");
        check("", "DIR");
        check("--file /x.img", "--size");
        check("--size 1Gi", "--file");
        check("fast /srv/fast --file /x.img --size 1Gi", "cannot be used with");
    }

    #[test]
    fn pools_are_drawn_with_what_is_worth_knowing() {
        let wire = WirePool {
            id: "aaaaaaaa".into(),
            name: "fast".into(),
            filesystem: "ext4".into(),
            path: "/srv/fast".into(),
            size_bytes: 100 << 30,
            available_bytes: 50 << 30,
            allocated_bytes: 48 << 30,
            logical_bytes: 300 << 30,
            volumes: 12,
            snapshots: 3,
            ready: true,
            warnings: vec!["copies take full space".into()],
            ..WirePool::default()
        };
        let pools = [wire.into()];
        insta::assert_snapshot!("pools", draw(&Style::PLAIN, &pools));
        insta::assert_snapshot!("pool_json", serde_json::to_string_pretty(&pools[0]).unwrap());
    }
}
