//! `make demo`: what Offshoot is for, on a real PostgreSQL.
//!
//! A pool, a server on a private socket, a database under load, a snapshot of it while it writes, ten writable copies
//! with a PostgreSQL on each, a rewind, a refresh, and the bill in bytes. Every step is a real CSI call. Whatever
//! happens, the end takes everything away again, unless `DEMO_KEEP=1`.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "it talks to a person")]

mod driver;
mod postgres;
mod report;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};

use driver::{Driver, GIB, Volume};
use postgres::{Postgres, Programs};
use report::{Report, bytes};

/// Copies to make.
const COPIES: usize = 10;
/// Size of the volume.
const VOLUME: i64 = 4 * GIB;
/// pgbench's scale: about 15 MB of data each.
const SCALE: u32 = 70;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> std::process::ExitCode {
    let dir = PathBuf::from(std::env::var_os("DEMO_DIR").unwrap_or_else(|| "/var/tmp/offshoot-demo".into()));
    let keep = std::env::var("DEMO_KEEP").is_ok_and(|keep| keep == "1");
    let mut demo = match Demo::prepare(&dir) {
        Ok(demo) => demo,
        Err(error) => {
            eprintln!("error: {error:#}");
            return std::process::ExitCode::FAILURE;
        }
    };
    let result = tokio::select! {
        result = demo.run() => result,
        _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted")),
    };
    if let Err(error) = &result {
        eprintln!("error: {error:#}");
        demo.show_log();
    }
    if keep && result.is_ok() {
        demo.leave_running();
        return std::process::ExitCode::SUCCESS;
    }
    let cleaned = demo.clean_up().await;
    if let Err(error) = &cleaned {
        eprintln!("error: clean up: {error:#}");
    }
    if result.is_ok() && cleaned.is_ok() {
        std::process::ExitCode::SUCCESS
    } else {
        std::process::ExitCode::FAILURE
    }
}

struct Demo {
    dir: PathBuf,
    programs: Programs,
    driver: Option<Driver>,
    servers: Vec<Postgres>,
    volumes: Vec<Volume>,
    report: Report,
}

impl Demo {
    fn prepare(dir: &Path) -> Result<Self> {
        ensure!(rustix_is_root(), "the demo mounts volumes: run it as root");
        ensure!(!dir.exists(), "{} is left from an earlier demo: run scripts/demo.sh --clean", dir.display());
        let programs = Programs::find()?;
        std::fs::create_dir_all(dir.join("mnt")).with_context(|| format!("make {}", dir.display()))?;
        // PostgreSQL's own user has to reach its data directory.
        for path in [dir.to_path_buf(), dir.join("mnt")] {
            std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
        }
        Ok(Demo {
            dir: dir.to_owned(),
            programs,
            driver: None,
            servers: Vec::new(),
            volumes: Vec::new(),
            report: Report::default(),
        })
    }

    fn driver(&mut self) -> Result<&mut Driver> {
        self.driver.as_mut().context("the server is not running")
    }

    async fn mount(&mut self, mut volume: Volume) -> Result<Volume> {
        let target = self.dir.join("mnt").join(&volume.name);
        self.driver()?.mount(&mut volume, &target).await?;
        self.volumes.retain(|other| other.id != volume.id);
        self.volumes.push(volume.clone());
        Ok(volume)
    }

    fn start(&mut self, volume: &Volume) -> Result<Postgres> {
        let target = volume.target.as_deref().context("the volume is not mounted")?;
        let server = self.programs.start(&volume.name, &target.join("data"), &self.dir)?;
        self.servers.push(server.clone());
        Ok(server)
    }

    fn stop(&mut self, server: &Postgres) -> Result<()> {
        server.stop(&self.programs)?;
        self.servers.retain(|other| other.name != server.name);
        Ok(())
    }

    async fn run(&mut self) -> Result<()> {
        println!("Offshoot demo: a database under load, copied ten times\n");
        let driver = self.report.step("start the server and make a 20 GiB pool in a file", async {
            let mut driver = Driver::start(&self.dir).await?;
            driver.create_pool(&self.dir.join("pool.img"), 20 * GIB).await?;
            Ok(driver)
        });
        self.driver = Some(driver.await?);

        let empty = self.driver()?.allocated().await?;
        let shop = timed(self, "create a 4 GiB volume, format and mount it", async |demo| {
            let volume = demo.driver()?.create("shop", VOLUME, None).await?;
            demo.mount(volume).await
        });
        let shop = shop.await?;
        let source = timed(self, "initdb and start PostgreSQL on it", async |demo| {
            demo.programs.initdb(&shop.target.clone().unwrap_or_default().join("data"))?;
            demo.start(&shop)
        });
        let source = source.await?;
        timed(self, &format!("load pgbench data (scale {SCALE}, about 1 GB)"), async |demo| {
            demo.programs.load(&source, SCALE).await
        })
        .await?;
        let full = self.driver()?.allocated().await? - empty;

        println!("  … pgbench now writes to it, all the time");
        let mut writers = self.programs.write_load(&source, 600)?;
        tokio::time::sleep(std::time::Duration::from_secs(3)).await;
        let first = timed(self, "snapshot it while pgbench writes", async |demo| {
            demo.driver()?.snapshot("monday", &shop.id).await
        });
        let first = first.await?;
        let mut copies = Vec::new();
        timed(self, &format!("make {COPIES} writable copies"), async |demo| {
            for n in 1..=COPIES {
                let volume = demo.driver()?.create(&format!("copy-{n}"), VOLUME, Some(&first)).await?;
                demo.volumes.push(volume.clone());
                copies.push(volume);
            }
            Ok(())
        })
        .await?;
        let cost = self.driver()?.allocated_of(&copies).await?;
        timed(self, &format!("mount the {COPIES} copies"), async |demo| {
            for volume in &mut copies {
                *volume = demo.mount(volume.clone()).await?;
            }
            Ok(())
        })
        .await?;
        writers.stop()?;
        let mut servers = Vec::new();
        timed(self, &format!("start a PostgreSQL on each of the {COPIES}; each recovers"), async |demo| {
            for volume in &copies {
                servers.push(demo.start(volume)?);
            }
            Ok(())
        })
        .await?;
        let mut rows = Vec::new();
        timed(self, "check that every copy holds the same consistent moment", async |demo| {
            for server in &servers {
                rows.push(demo.programs.check(server)?);
            }
            ensure!(rows.windows(2).all(|pair| pair[0] == pair[1]), "the copies differ: {rows:?}");
            Ok(())
        })
        .await?;
        let at_snapshot = rows.first().copied().unwrap_or_default();

        self.rewind(&mut copies[0], &servers[0], at_snapshot).await?;
        self.refresh(&mut copies[1], &servers[1], &shop, &source, at_snapshot).await?;

        let after = self.driver()?.allocated().await? - empty;
        self.report.print();
        println!("\nThe bill: the source holds {}.", bytes(full));
        println!("  {COPIES} full copies would take  {}", bytes(full * COPIES as u64));
        println!("  the {COPIES} copies took         {} when they were made", bytes(cost));
        println!(
            "  everything together now    {} (source, snapshots, copies in use by {COPIES} servers)\n",
            bytes(after)
        );
        self.driver()?.tree()?;
        Ok(())
    }

    /// Changes a copy and takes it back.
    async fn rewind(&mut self, copy: &mut Volume, server: &Postgres, rows: u64) -> Result<()> {
        let before = self.driver()?.snapshot("copy-1-before", &copy.id).await?;
        self.programs.sql(
            server,
            "DELETE FROM pgbench_history; UPDATE pgbench_accounts SET abalance = 0 WHERE aid < 1000",
        )?;
        ensure!(self.programs.check(server).is_err(), "the change was not noticed");
        self.stop(server)?;
        let back = timed(self, "copy-1: unmount, rewind to before the change, mount", async |demo| {
            demo.driver()?.unmount(copy).await?;
            demo.driver()?.rewind(&copy.id, &before).await?;
            demo.mount(copy.clone()).await
        });
        *copy = back.await?;
        let server = self.start(copy)?;
        let now = self.programs.check(&server)?;
        ensure!(now == rows, "the rewind brought {now} rows back, not {rows}");
        Ok(())
    }

    /// Brings a copy up to what its source is now.
    async fn refresh(
        &mut self,
        copy: &mut Volume,
        server: &Postgres,
        shop: &Volume,
        source: &Postgres,
        rows: u64,
    ) -> Result<()> {
        let newer = timed(self, "snapshot the source again", async |demo| {
            demo.driver()?.snapshot("tuesday", &shop.id).await
        });
        let newer = newer.await?;
        self.stop(server)?;
        let fresh = timed(self, "copy-2: unmount, refresh from the newer snapshot, mount", async |demo| {
            demo.driver()?.unmount(copy).await?;
            demo.driver()?.refresh(&copy.id, &newer).await?;
            demo.mount(copy.clone()).await
        });
        *copy = fresh.await?;
        let server = self.start(copy)?;
        let now = self.programs.check(&server)?;
        let want = self.programs.check(source)?;
        ensure!(now == want, "the refresh brought {now} rows, and the source has {want}");
        ensure!(now > rows, "the newer snapshot has {now} rows, no more than the {rows} of the first");
        Ok(())
    }

    fn show_log(&self) {
        if let Ok(log) = std::fs::read_to_string(self.dir.join("server.log")) {
            let lines: Vec<_> = log.lines().rev().take(20).collect();
            eprintln!("the server's last words:");
            lines.iter().rev().for_each(|line| eprintln!("  {line}"));
        }
    }

    fn leave_running(mut self) {
        let socket = self.dir.join("csi.sock");
        println!("\nDEMO_KEEP=1: everything is left running. Play on:");
        println!("  export OFFSHOOT_SOCKET={}", socket.display());
        println!("  offshoot tree");
        println!(
            "  sudo -u postgres psql -h {}/sockets -p 5432 postgres   # the source; the copies have the next ports",
            self.dir.display()
        );
        println!("  offshoot rewind --help");
        println!("To end it: scripts/demo.sh --clean");
        if let Some(driver) = self.driver.take() {
            driver.leave();
        }
    }

    async fn clean_up(mut self) -> Result<()> {
        for server in std::mem::take(&mut self.servers) {
            server.kill();
        }
        let Some(mut driver) = self.driver.take() else {
            return std::fs::remove_dir_all(&self.dir).context("remove the demo's directory");
        };
        let cleaned = driver.remove_everything(&self.volumes).await;
        driver.stop();
        cleaned?;
        // Not across a mount: the driver has just said that nothing is mounted here any more.
        if std::fs::read_to_string("/proc/self/mountinfo")?.contains(&self.dir.display().to_string()) {
            bail!("something is still mounted below {}", self.dir.display());
        }
        std::fs::remove_dir_all(&self.dir).context("remove the demo's directory")
    }
}

/// Runs one step of the demo, with its time in the report.
async fn timed<T>(demo: &mut Demo, what: &str, step: impl AsyncFnOnce(&mut Demo) -> Result<T>) -> Result<T> {
    let start = std::time::Instant::now();
    let result = step(demo).await.with_context(|| what.to_owned())?;
    demo.report.add(what, start.elapsed());
    Ok(result)
}

fn rustix_is_root() -> bool {
    nix::unistd::geteuid().is_root()
}
