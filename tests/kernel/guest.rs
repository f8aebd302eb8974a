//! The guest that a test of the Delphix driver runs in: an NFS server, a simulated DCT and the driver, all as processes of
//! their own.

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// Set inside the user-mode kernel.
const GUEST: &str = "OFFSHOOT_TEST_GUEST";

/// Whether the calling test has to do its work here. Otherwise it has run inside a user-mode kernel, or cannot.
pub fn here(test: &str, memory: &str, limit: &str) -> bool {
    if std::env::var_os(GUEST).is_some() {
        return true;
    }
    if !rustix::process::geteuid().is_root() {
        assert!(std::env::var_os("CI").is_none(), "cannot run here: it needs root");
        println!("skipped: it needs root");
        return false;
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/uml/run.sh");
    let modules = ["nfsd", "nfsv3", "nfsv4"].into_iter().flat_map(|module| ["--module", module]);
    let status = Command::new(script)
        .args(["--mem", memory, "--limit", limit])
        .args(modules)
        .arg("--")
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(GUEST, "1")
        .status()
        .unwrap();
    assert!(status.success(), "in the user-mode kernel: {status}");
    false
}

/// Runs a program to its end; what it printed.
pub fn run(program: impl AsRef<Path>, args: &[&str]) -> String {
    let out = Command::new(program.as_ref()).args(args).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (said, erred) = (text(&out.stdout), text(&out.stderr));
    assert!(out.status.success(), "{} {args:?}: {said}{erred}", program.as_ref().display());
    said
}

/// The address of a machine that is not ours.
pub const OTHERS: &str = "10.9.9.9";

/// Waits until it is so.
#[track_caller]
pub fn until(what: &str, mut so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !so() {
        assert!(begun.elapsed() < Duration::from_secs(60), "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Everything around a test; dropping it ends the processes.
pub struct Guest {
    pub dir: PathBuf,
    pub dct: Value,
    children: Vec<Child>,
}

impl Guest {
    /// Starts all of it. Data is exported from `/srv/exports`.
    pub fn start() -> Guest {
        let dir = PathBuf::from("/tmp/delphix");
        std::fs::create_dir_all(&dir).unwrap();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/uml/nfs-server.sh");
        run(script, &["/srv/exports", "1500M"]);
        let mut guest = Guest { dir, dct: Value::Null, children: Vec::new() };
        guest.start_dct();
        guest.start_driver();
        guest
    }

    fn start_dct(&mut self) {
        let simulator = Path::new(env!("CARGO_BIN_EXE_offshoot")).with_file_name("offshoot-dct-sim");
        assert!(simulator.exists(), "build it first: cargo build -p offshoot-dct-sim");
        let at = |name: &str| self.dir.join(name).display().to_string();
        let out = std::fs::File::create(at("dct.json")).unwrap();
        let child = Command::new(simulator)
            .args(["--data", "/srv/exports", "--seed", "demo", "--export", "exportfs", "--output", "json"])
            .args(["--listen", "127.0.0.1:8443", "--control", "127.0.0.1:8444", "--job", "0.1"])
            .args(["--key-file", &at("key"), "--ca-out", &at("ca.pem")])
            .stdout(out)
            .spawn();
        self.children.push(child.unwrap());
        let read = || {
            let text = std::fs::read_to_string(at("dct.json")).ok()?;
            serde_json::from_str::<Value>(&text).ok()
        };
        until("the simulated DCT", || read().is_some());
        self.dct = read().unwrap();
        let config = format!(
            "cluster = \"guest\"\n[[dct]]\nname = \"sim\"\nurl = \"{}\"\nkey-file = \"{}\"\nca-file = \"{}\"\n",
            self.dct["url"].as_str().unwrap(),
            at("key"),
            at("ca.pem"),
        );
        std::fs::write(at("dct.toml"), config).unwrap();
    }

    fn start_driver(&mut self) {
        let log = std::fs::File::create(self.dir.join("driver.log")).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_offshoot"))
            .args(["delphix", "serve", "--node-id", "guest", "--node-address", "127.0.0.1"])
            .args(["--endpoint", &self.socket().display().to_string(), "--log-level", "info"])
            .args(["--dct-config", &self.dir.join("dct.toml").display().to_string()])
            .stdout(Stdio::from(log.try_clone().unwrap()))
            .stderr(log)
            .spawn();
        self.children.push(child.unwrap());
        let socket = self.socket();
        until("the driver's socket", || socket.exists());
    }

    /// The driver's socket.
    pub fn socket(&self) -> PathBuf {
        self.dir.join("csi.sock")
    }

    /// What the driver has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.join("driver.log")).unwrap_or_default()
    }

    /// An id of what the engine was seeded with.
    pub fn seeded(&self, what: &str) -> String {
        self.dct["seeded"][0][what].as_str().unwrap().to_owned()
    }

    fn curl(&self, args: &[&str]) -> Value {
        let text = run("/usr/bin/curl", &[&["--silent", "--show-error", "--fail-with-body"], args].concat());
        serde_json::from_str(&text).unwrap_or(Value::Null)
    }

    /// Asks the DCT itself, as its other users do.
    pub fn ask(&self, method: &str, path: &str, body: Option<Value>) -> Value {
        let key =
            format!("Authorization: apk {}", std::fs::read_to_string(self.dir.join("key")).unwrap().trim());
        let ca = self.dir.join("ca.pem").display().to_string();
        let url = format!("{}/dct/v3{path}", self.dct["url"].as_str().unwrap());
        let body = body.map(|body| body.to_string());
        let mut args =
            vec!["--cacert", &ca, "-H", &key, "-X", method, "-H", "Content-Type: application/json", &url];
        if let Some(body) = &body {
            args.extend(["-d", body]);
        }
        self.curl(&args)
    }

    /// The doings of others, and faults.
    pub fn admin(&self, doing: Value) {
        self.curl(&["-d", &doing.to_string(), "http://127.0.0.1:8444/admin"]);
    }

    /// The addresses that may mount.
    pub fn nfs_addresses(&self) -> Value {
        let environment = self.ask("GET", &format!("/environments/{}", self.seeded("environment")), None);
        environment["hosts"][0]["nfs_addresses"].clone()
    }

    /// Somebody writes over the list of those that may mount: no node is on it any more, and a machine of his is.
    pub fn overwrite_addresses(&self) {
        self.admin(
            json!({"do": "addresses", "environment": self.seeded("environment"), "addresses": [OTHERS]}),
        );
    }

    /// The directory of the dSource's data.
    pub fn source_dir(&self) -> PathBuf {
        let source = self.ask("GET", &format!("/dsources/{}", self.seeded("dsource")), None);
        Path::new("/srv/exports").join(source["exported_data_directory"].as_str().unwrap())
    }

    /// Takes a snapshot of the dSource as it is now, as the engine does on its schedule.
    pub fn snapshot_source(&self) {
        let path = format!("/dsources/{}/snapshots", self.seeded("dsource"));
        let job = self.ask("POST", &path, Some(json!({})))["job"]["id"].as_str().unwrap().to_owned();
        until("the snapshot of the dSource", || {
            self.ask("GET", &format!("/jobs/{job}"), None)["status"] == "COMPLETED"
        });
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("the driver's last words:\n{}", self.log());
        }
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The user of PostgreSQL, which its package makes.
fn postgres_user() -> u32 {
    let users = std::fs::read_to_string("/etc/passwd").unwrap();
    let line = users.lines().find_map(|line| line.strip_prefix("postgres:x:")).expect("a user postgres");
    line.split(':').next().unwrap().parse().unwrap()
}

/// A PostgreSQL on a directory, until it is dropped.
pub struct Postgres {
    server: Child,
    port: String,
}

fn program(name: &str) -> PathBuf {
    let versions =
        std::fs::read_dir("/usr/lib/postgresql").expect("scripts/setup.sh test installs PostgreSQL");
    let mut found: Vec<PathBuf> =
        versions.map(|entry| entry.unwrap().path().join("bin").join(name)).collect();
    found.sort();
    found.pop().unwrap()
}

fn as_postgres(name: &str) -> Command {
    let mut command = Command::new(program(name));
    command
        .uid(postgres_user())
        .gid(postgres_user())
        .current_dir("/")
        .env_clear()
        .env("LC_ALL", "C")
        .env("PATH", "/usr/bin:/bin");
    command
}

impl Postgres {
    /// Makes an empty cluster in `dir`, which is emptied before.
    pub fn make(dir: &Path) {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => std::fs::remove_dir_all(path).unwrap(),
                false => std::fs::remove_file(path).unwrap(),
            }
        }
        std::os::unix::fs::chown(dir, Some(postgres_user()), Some(postgres_user())).unwrap();
        std::fs::set_permissions(dir, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
        let out = as_postgres("initdb")
            .args([
                "--auth=trust",
                "--no-sync",
                "--no-locale",
                "--encoding=UTF8",
                "--username=postgres",
                "--pgdata",
            ])
            .arg(dir)
            .output()
            .unwrap();
        assert!(out.status.success(), "initdb: {}", String::from_utf8_lossy(&out.stderr));
    }

    /// Starts a server on the cluster in `dir`.
    pub fn start(dir: &Path, port: u16) -> Postgres {
        let log = std::fs::File::create(format!("/tmp/postgres-{port}.log")).unwrap();
        // What is small and does not pause makes it start quickly where system calls are slow.
        let server = as_postgres("postgres")
            .arg("-D")
            .arg(dir)
            .args([
                "-p",
                &port.to_string(),
                "-k",
                "/tmp",
                "-c",
                "listen_addresses=",
                "-c",
                "shared_buffers=8MB",
            ])
            .args(["-c", "max_connections=5", "-c", "autovacuum=off", "-c", "logging_collector=off"])
            .stdout(Stdio::from(log.try_clone().unwrap()))
            .stderr(log)
            .spawn()
            .unwrap();
        let postgres = Postgres { server, port: port.to_string() };
        until("PostgreSQL", || postgres.psql("select 1").output().unwrap().status.success());
        postgres
    }

    /// A client that runs one statement.
    pub fn psql(&self, statement: &str) -> Command {
        let mut command = as_postgres("psql");
        command.args([
            "-h", "/tmp", "-p", &self.port, "-U", "postgres", "-d", "postgres", "-AtqX", "-c", statement,
        ]);
        command
    }

    /// Runs one statement.
    #[track_caller]
    pub fn sql(&self, statement: &str) -> String {
        let out = self.psql(statement).output().unwrap();
        assert!(out.status.success(), "{statement}: {}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8_lossy(&out.stdout).trim().to_owned()
    }

    /// The rows of the table, in one line.
    #[track_caller]
    pub fn rows(&self) -> String {
        self.sql("select coalesce(string_agg(name, ' ' order by n), '') from rows")
    }

    /// Adds a row.
    #[track_caller]
    pub fn add(&self, name: &str) {
        self.sql(&format!("insert into rows(name) values ('{name}')"));
    }

    /// Ends it in good order.
    pub fn stop(mut self) {
        let id = rustix::process::Pid::from_child(&self.server);
        rustix::process::kill_process(id, rustix::process::Signal::INT).unwrap();
        assert!(self.server.wait().unwrap().success());
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if self.server.try_wait().is_ok_and(|ended| ended.is_none()) {
            let _ = self.server.kill();
            let _ = self.server.wait();
        }
    }
}
