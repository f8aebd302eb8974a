//! The rig of the tests that run the built server on this machine's kernel: a scratch directory, pools on loop devices,
//! the server as a process of its own, and the audit that nothing of it is left.
//!
//! The problem: such a test leaks loop devices and mounts into the machine whenever it fails half-way. So everything is
//! made below one directory of the test, whatever is attached to a file or mounted at a path below it is the test's
//! own, and dropping the rig takes all of it away, also while a panic unwinds. Processes are ended by id only.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "what a failed test shows a person")]
#![allow(dead_code, unreachable_pub, reason = "two test binaries share this, and neither uses all of it")]

pub mod calls;
pub mod data;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use offshoot::host::linux::Linux;
use offshoot::host::{FileKind, Host, LoopOptions, MkfsSpec, MountSpec};

use calls::Client;

pub const KIB: u64 = 1 << 10;
pub const MIB: u64 = 1 << 20;
pub const GIB: u64 = 1 << 30;

/// How long a server may take to answer that it is ready.
const START_LIMIT: Duration = Duration::from_secs(60);

/// The node that every server is on.
pub const NODE: &str = "kernel-test";

/// Set inside the user-mode kernel.
const GUEST: &str = "OFFSHOOT_TEST_GUEST";

/// Whether these tests can run here. Prints why not; in CI that is a failure.
pub fn can_run() -> bool {
    let why = if !rustix::process::geteuid().is_root() {
        "it mounts, so it needs root"
    } else if !Path::new("/dev/loop-control").exists() {
        "it needs loop devices"
    } else {
        return true;
    };
    assert!(std::env::var_os("CI").is_none(), "cannot run here: {why}");
    println!("skipped: {why}");
    false
}

/// Runs the calling test in a user-mode kernel where this machine withholds CAP_SYS_RESOURCE, which growing a mounted
/// ext4 needs. `true` if it ran there, so that nothing is left to do here.
pub fn ran_in_guest(test: &str) -> bool {
    if std::env::var_os(GUEST).is_some() || Linux::new().facts().unwrap().cap_sys_resource {
        return false;
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/uml/run.sh");
    let me = std::env::current_exe().unwrap();
    let status = Command::new(script)
        .args(["--mem", "1G", "--limit", "240", "--"])
        .arg(me)
        .args(["--exact", test, "--nocapture"])
        .env(GUEST, "1")
        .status()
        .unwrap();
    assert!(status.success(), "in the user-mode kernel: {status}");
    true
}

/// A scratch directory with what is mounted and attached below it.
pub struct Rig {
    pub host: Linux,
    pub dir: PathBuf,
    server: Option<Server>,
    /// Options of `serve` besides those that the rig gives.
    pub options: Vec<OsString>,
    /// `human` or `json`.
    pub log_format: &'static str,
}

struct Server {
    child: Child,
    started: Instant,
}

impl Rig {
    /// A rig with a name of its own, or `None` where it cannot be had.
    pub fn new(name: &str) -> Option<Rig> {
        if !can_run() {
            return None;
        }
        // In the guest, /tmp is the one place on a filesystem that loop devices work on.
        let base = if std::env::var_os(GUEST).is_some() { "/tmp" } else { "/var/tmp" };
        let dir = PathBuf::from(format!("{base}/offshoot-kernel-{}-{name}", std::process::id()));
        std::fs::create_dir(&dir).unwrap();
        let (dir, options) = (dir.canonicalize().unwrap(), Vec::new());
        Some(Rig { host: Linux::new(), dir, server: None, options, log_format: "human" })
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    pub fn socket(&self) -> PathBuf {
        self.path("csi.sock")
    }

    pub fn log(&self) -> PathBuf {
        self.path("server.log")
    }

    /// A filesystem in a file, mounted to be the place of a pool.
    pub fn filesystem(&self, name: &str, fs: &str, size: u64) -> PathBuf {
        let image = self.path(&format!("{name}.disk"));
        self.host.create_file(&image, size).unwrap();
        let args: &[&str] = match fs {
            "ext4" => &["-q", "-F"],
            "xfs" => &["-q", "-m", "reflink=1"],
            _ => &["-q"],
        };
        let args = args.iter().map(|arg| (*arg).to_owned()).collect();
        self.host.mkfs(&image, &MkfsSpec { fs: fs.to_owned(), args }).unwrap();
        self.mount_disk(name, fs, name)
    }

    /// Mounts the file of [`Rig::filesystem`] (again) at `at`.
    pub fn mount_disk(&self, name: &str, fs: &str, at: &str) -> PathBuf {
        let (image, target) = (self.path(&format!("{name}.disk")), self.path(at));
        let device =
            self.host.loop_attach(&image, LoopOptions { direct_io: true, ..LoopOptions::default() }).unwrap();
        self.host.make_target(&target, FileKind::Directory).unwrap();
        let spec = MountSpec { fs: fs.to_owned(), ..MountSpec::default() };
        self.host.mount_device(&device.path, &target, &spec).unwrap();
        target
    }

    /// Unmounts and detaches what [`Rig::filesystem`] made.
    pub fn unmount_disk(&self, name: &str, at: &str) {
        self.host.unmount(&self.path(at)).unwrap();
        let image = self.path(&format!("{name}.disk"));
        for device in self.host.loops_of(&image).unwrap() {
            self.host.loop_detach(&device, &image).unwrap();
        }
    }

    /// Starts the server and does not wait for it.
    pub fn spawn(&mut self) {
        assert!(self.server.is_none(), "the server runs already");
        let log = std::fs::File::options().create(true).append(true).open(self.log()).unwrap();
        // The test's own group, so that a test runner that ends the group ends the server too.
        let child = Command::new(env!("CARGO_BIN_EXE_offshoot"))
            .arg("serve")
            .arg("--endpoint")
            .arg(self.socket())
            .arg("--state-dir")
            .arg(self.path("state"))
            .args(["--node-id", NODE, "--log-format", self.log_format])
            .args(&self.options)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        self.server = Some(Server { child, started: Instant::now() });
    }

    /// Starts the server and waits until it is ready.
    pub async fn start(&mut self) -> Client {
        self.spawn();
        let client = self.client();
        self.ready(&client).await;
        client
    }

    /// A connection that is made at the first call, and again after every restart.
    pub fn client(&self) -> Client {
        Client::new(&self.socket())
    }

    /// Waits until the server is ready; how long that took since it was started.
    pub async fn ready(&mut self, client: &Client) -> Duration {
        let started = self.server.as_ref().expect("no server was started").started;
        let mut last = String::new();
        while started.elapsed() < START_LIMIT {
            match client.ready().await {
                Ok(true) => return started.elapsed(),
                Ok(false) => last = "not ready".to_owned(),
                Err(status) => last = status.to_string(),
            }
            if let Some(ended) = self.server.as_mut().and_then(|server| server.child.try_wait().unwrap()) {
                panic!("the server ended by itself ({ended}); the end of its log:\n{}", self.log_end(30));
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        panic!("the server is not ready ({last}); the end of its log:\n{}", self.log_end(30));
    }

    /// The server's process.
    pub fn pid(&self) -> u32 {
        self.server.as_ref().expect("no server was started").child.id()
    }

    /// Ends the server at once, as a power cut of the process. `false` if it had ended by itself before.
    pub fn kill(&mut self) -> bool {
        let mut server = self.server.take().expect("no server was started");
        let ended = server.child.try_wait().unwrap();
        if let Some(status) = ended {
            eprintln!("the server has ended by itself: {status}");
        }
        let _ = server.child.kill();
        server.child.wait().unwrap();
        ended.is_none()
    }

    /// Ends the server in good order. The test's connections must be able to hear of it meanwhile.
    pub async fn stop(&mut self) {
        let mut server = self.server.take().expect("no server was started");
        let pid = rustix::process::Pid::from_child(&server.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        let status = loop {
            match server.child.try_wait().unwrap() {
                Some(status) => break status,
                None => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        };
        assert!(status.success(), "the server stopped with {status}; its log:\n{}", self.log_end(30));
    }

    /// The last lines of the server's log.
    pub fn log_end(&self, lines: usize) -> String {
        let text = std::fs::read(self.log()).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let all: Vec<&str> = text.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }

    /// Loop devices of files below the rig's directory, and mounts below it, by name.
    pub fn held(&self) -> (Vec<String>, Vec<String>) {
        let loops = self.host.loops_below(&self.dir).unwrap();
        let mut loops: Vec<_> = loops.iter().map(|device| device.file.display().to_string()).collect();
        let mounts = self.host.mounts().unwrap();
        let mut mounts: Vec<_> = mounts
            .iter()
            .filter(|mount| mount.target.starts_with(&self.dir))
            .map(|mount| mount.target.display().to_string())
            .collect();
        loops.sort();
        mounts.sort();
        (loops, mounts)
    }

    /// The files in a pool that belong to volumes, snapshots and groups, or to nothing; templates are not among them.
    pub fn pool_files(&self, pool: &Path) -> Vec<String> {
        let mut all = Vec::new();
        for part in ["volumes", "snapshots", "groups"] {
            let names = std::fs::read_dir(pool.join(part)).unwrap();
            all.extend(names.map(|entry| format!("{part}/{}", entry.unwrap().file_name().to_string_lossy())));
        }
        for entry in std::fs::read_dir(pool.join("templates")).unwrap() {
            let name = entry.unwrap().file_name().to_string_lossy().into_owned();
            if !name.ends_with(".img") {
                all.push(format!("templates/{name}"));
            }
        }
        all.sort();
        all
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        if self.server.is_some() {
            self.kill();
        }
        if std::thread::panicking() {
            eprintln!("the end of the server's log:\n{}", self.log_end(60));
        }
        let Ok(mut mounts) = self.host.mounts() else { return };
        mounts.retain(|mount| mount.target.starts_with(&self.dir));
        // More than once: a pool is busy until the devices of the images in it are gone.
        for _ in 0..4 {
            for mount in mounts.iter().rev() {
                let _ = self.host.thaw(&mount.target);
                let _ = self.host.unmount(&mount.target);
            }
            for device in self.host.loops_below(&self.dir).unwrap_or_default() {
                let file = device.file.display().to_string();
                let file = file.trim_end_matches(" (deleted)").to_owned();
                let _ = self.host.loop_detach(&device, Path::new(&file));
            }
        }
        let left = self.host.mounts().unwrap_or_default();
        if left.iter().any(|mount| mount.target.starts_with(&self.dir)) {
            eprintln!("something is still mounted below {}", self.dir.display());
        } else if std::env::var_os("OFFSHOOT_KEEP").is_none() {
            let _ = std::fs::remove_dir_all(&self.dir);
        }
    }
}
