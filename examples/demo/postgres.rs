//! Real PostgreSQL servers on volumes, and the question whether what they hold is consistent.

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};

use anyhow::{Context as _, Result, bail, ensure};
use nix::unistd::User;

/// Ports only name the sockets: no server listens on the network.
static NEXT_PORT: AtomicU16 = AtomicU16::new(5432);

/// The programs of the newest PostgreSQL on this machine, and the user they run as.
pub(crate) struct Programs {
    bin: PathBuf,
    user: User,
}

/// A running server.
#[derive(Clone)]
pub(crate) struct Postgres {
    /// The name of its volume.
    pub(crate) name: String,
    data: PathBuf,
    sockets: PathBuf,
    port: u16,
}

/// pgbench, writing.
pub(crate) struct Writers(Child);

impl Writers {
    /// Ends it; transactions that it had begun are rolled back by the server.
    pub(crate) fn stop(&mut self) -> Result<()> {
        ensure!(self.0.try_wait()?.is_none(), "pgbench ended on its own");
        self.0.kill()?;
        self.0.wait()?;
        Ok(())
    }
}

impl Drop for Writers {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Programs {
    /// Looks for Debian's PostgreSQL.
    pub(crate) fn find() -> Result<Self> {
        let mut versions: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
            .context("no PostgreSQL here: run scripts/setup.sh demo")?
            .filter_map(|entry| Some(entry.ok()?.path().join("bin")))
            .filter(|bin| bin.join("postgres").exists() && bin.join("pgbench").exists())
            .collect();
        versions.sort();
        let bin = versions.pop().context("no PostgreSQL server here: run scripts/setup.sh demo")?;
        let user = User::from_name("postgres")?.context("no user postgres: run scripts/setup.sh demo")?;
        Ok(Programs { bin, user })
    }

    /// A program that runs as PostgreSQL's user.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.bin.join(program));
        command.uid(self.user.uid.as_raw()).gid(self.user.gid.as_raw()).current_dir("/").stdin(Stdio::null());
        command
    }

    fn run(&self, command: &mut Command) -> Result<String> {
        let output = command.output().with_context(|| format!("start {command:?}"))?;
        if !output.status.success() {
            bail!("{:?} failed: {}", command.get_program(), String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// Makes a new, empty database in `data`.
    pub(crate) fn initdb(&self, data: &Path) -> Result<()> {
        std::fs::create_dir(data)?;
        std::os::unix::fs::chown(data, Some(self.user.uid.as_raw()), Some(self.user.gid.as_raw()))?;
        self.run(self.command("initdb").args(["--auth=trust", "--no-instructions", "-D"]).arg(data))?;
        Ok(())
    }

    /// Starts a server on `data` and waits until it answers, recovery included.
    pub(crate) fn start(&self, name: &str, data: &Path, sockets: &Path) -> Result<Postgres> {
        let port = NEXT_PORT.fetch_add(1, Ordering::Relaxed);
        let sockets = sockets.join("sockets");
        if !sockets.exists() {
            std::fs::create_dir(&sockets)?;
            std::os::unix::fs::chown(&sockets, Some(self.user.uid.as_raw()), Some(self.user.gid.as_raw()))?;
        }
        // A copy was taken from under a running server, whose lock file came along.
        let _ = std::fs::remove_file(data.join("postmaster.pid"));
        let options = format!(
            "-p {port} -k {} -c listen_addresses='' -c shared_buffers=64MB -c max_connections=20 -c autovacuum=off",
            sockets.display()
        );
        let log = sockets.join(format!("{name}.log"));
        let mut command = self.command("pg_ctl");
        command.args(["start", "-w", "-s", "-t", "120", "-o", &options, "-l"]).arg(&log).arg("-D").arg(data);
        // The server inherits these; a pipe would keep this process waiting for it.
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let status = command.status().context("start pg_ctl")?;
        if !status.success() {
            let log = std::fs::read_to_string(&log).unwrap_or_default();
            bail!("PostgreSQL on {name} did not start:\n{log}");
        }
        Ok(Postgres { name: name.into(), data: data.to_owned(), sockets, port })
    }

    fn client(&self, program: &str, server: &Postgres) -> Command {
        let mut command = self.command(program);
        command.arg("-h").arg(&server.sockets).args(["-p", &server.port.to_string(), "-U", "postgres"]);
        command
    }

    /// Fills the database with pgbench's data.
    pub(crate) async fn load(&self, server: &Postgres, scale: u32) -> Result<()> {
        let mut command = self.client("pgbench", server);
        command.args(["-i", "-q", "-I", "dtgp", "-s", &scale.to_string(), "postgres"]);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().context("start pgbench")?;
        // Polled, so that Ctrl-C is heard in the meantime.
        let status = loop {
            if let Some(status) = child.try_wait()? {
                break status;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        };
        ensure!(status.success(), "pgbench could not load its data");
        // Half of it would otherwise still be in memory only.
        self.sql(server, "CHECKPOINT")?;
        Ok(())
    }

    /// Starts writers that go on for `seconds`, or until they are stopped.
    pub(crate) fn write_load(&self, server: &Postgres, seconds: u32) -> Result<Writers> {
        let mut command = self.client("pgbench", server);
        command.args(["-n", "-c", "4", "-T", &seconds.to_string(), "postgres"]);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        Ok(Writers(command.spawn().context("start pgbench")?))
    }

    /// Runs SQL and gives back what it printed.
    pub(crate) fn sql(&self, server: &Postgres, sql: &str) -> Result<String> {
        self.run(self.client("psql", server).args([
            "-X",
            "-q",
            "-A",
            "-t",
            "-v",
            "ON_ERROR_STOP=1",
            "-c",
            sql,
            "postgres",
        ]))
    }

    /// Whether the data is of one moment: every transaction of pgbench adds the same amount to an account, a teller
    /// and a branch, and writes it down. Gives the number of transactions, or says what does not add up.
    pub(crate) fn check(&self, server: &Postgres) -> Result<u64> {
        let sums = self.sql(
            server,
            "SELECT (SELECT sum(abalance) FROM pgbench_accounts), (SELECT sum(tbalance) FROM pgbench_tellers), \
             (SELECT sum(bbalance) FROM pgbench_branches), (SELECT coalesce(sum(delta), 0) FROM pgbench_history), \
             (SELECT count(*) FROM pgbench_history)",
        )?;
        let numbers: Vec<&str> = sums.split('|').collect();
        let [accounts, tellers, branches, history, count] = numbers[..] else {
            bail!("unexpected answer {sums:?}")
        };
        ensure!(
            accounts == tellers && tellers == branches && branches == history,
            "{}: accounts {accounts}, tellers {tellers}, branches {branches}, history {history} do not agree",
            server.name
        );
        Ok(count.parse()?)
    }
}

impl Postgres {
    /// Shuts the server down in order.
    pub(crate) fn stop(&self, programs: &Programs) -> Result<()> {
        programs
            .run(programs.command("pg_ctl").args(["stop", "-w", "-s", "-m", "fast", "-D"]).arg(&self.data))?;
        Ok(())
    }

    /// Ends the server at once, if it is still there.
    pub(crate) fn kill(&self) {
        let pid = std::fs::read_to_string(self.data.join("postmaster.pid")).unwrap_or_default();
        let Some(Ok(pid)) = pid.lines().next().map(str::parse) else { return };
        let pid = nix::unistd::Pid::from_raw(pid);
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGQUIT);
        for _ in 0..200 {
            if nix::sys::signal::kill(pid, None).is_err() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(25));
        }
    }
}
