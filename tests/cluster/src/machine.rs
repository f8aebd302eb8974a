//! One machine of the cluster: a set of namespaces with a process 1, and the processes in it.
//!
//! Killing process 1 is pulling the plug: the kernel kills every process of the machine, containers too, and undoes its mounts and
//! its network. What is left is what a real machine's disk would have: the folder that the machine sees as `/var`.
//!
//! Processes are started by a thread that first enters the namespaces. So they are the machine's from their first instruction, and
//! their numbers as the host sees them are known.

use std::fs::{self, File, OpenOptions};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sched::{CloneFlags, setns, unshare};

use crate::process::Recorded;

/// What a machine runs as process 1.
const INIT: &str = include_str!("machine-init.sh");

/// What runs it.
const SHELL: &str = "/bin/bash";

/// A machine that was made, running or not.
#[derive(Debug, Clone)]
pub struct Machine {
    name: String,
    dir: PathBuf,
}

/// A file with a file system that a machine mounts when it starts.
#[derive(Debug, Clone)]
pub struct Disk {
    /// The file.
    pub image: PathBuf,
    /// Where the machine mounts it; below `/var`.
    pub target: PathBuf,
}

impl Machine {
    /// The machine whose folder this is; the folder is made.
    ///
    /// # Errors
    /// If the folder cannot be made.
    pub fn new(name: &str, dir: &Path) -> Result<Self> {
        for below in ["root", "var/lib", "processes", "logs"] {
            let path = dir.join(below);
            fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
        }
        Ok(Self { name: name.to_owned(), dir: dir.to_owned() })
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its folder.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// A path of the machine below `/var`, as the host sees it. Mounts of the machine do not show there.
    #[must_use]
    pub fn var(&self, below: &str) -> PathBuf {
        self.dir.join("var").join(below)
    }

    /// The log of one of its processes.
    #[must_use]
    pub fn log(&self, process: &str) -> PathBuf {
        self.dir.join("logs").join(format!("{process}.log"))
    }

    /// Process 1; `None` if the machine is off.
    ///
    /// # Errors
    /// If the record cannot be read.
    pub fn init(&self) -> Result<Option<Recorded>> {
        Ok(Recorded::load(&self.dir.join("init.json"))?.filter(|init| init.is_running()))
    }

    /// Starts it, if it is off. It has no network yet but loopback.
    ///
    /// # Errors
    /// If a namespace is refused or process 1 ends or is not ready after 20 s; its log says why.
    pub fn power_on(&self, tools: &Path, disks: &[Disk]) -> Result<()> {
        if self.init()?.is_some() {
            return Ok(());
        }
        let script = self.script();
        fs::write(&script, INIT).with_context(|| format!("cannot write {}", script.display()))?;
        let mut command = Command::new(SHELL);
        command.arg(&script).arg(&self.name).arg(self.dir.join("root")).arg(self.dir.join("var")).arg(tools);
        for disk in disks {
            command.arg(&disk.image).arg(&disk.target);
        }
        self.detach(&mut command, "init")?;
        let spaces = CloneFlags::CLONE_NEWNS
            | CloneFlags::CLONE_NEWPID
            | CloneFlags::CLONE_NEWNET
            | CloneFlags::CLONE_NEWUTS
            | CloneFlags::CLONE_NEWIPC;
        let child = in_thread(move || {
            unshare(spaces).context("cannot make namespaces for a machine: is this root?")?;
            command.spawn().context("cannot start process 1 of a machine")
        })?;
        let init = self.record(child, &self.dir.join("init.json"))?;
        let ready = PathBuf::from(format!("/proc/{}/root/run/machine-ready", init.pid));
        let end = Instant::now() + Duration::from_secs(20);
        while !ready.exists() {
            ensure!(
                init.is_running(),
                "machine {} does not start: {}",
                self.name,
                last_lines(&self.log("init"))
            );
            ensure!(
                Instant::now() < end,
                "machine {} is not ready after 20 s: see {}",
                self.name,
                self.log("init").display()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// Pulls the plug, and waits until nothing of the machine runs.
    ///
    /// # Errors
    /// If process 1 has not ended 30 s later: the kernel waits for all others first.
    pub fn power_off(&self) -> Result<()> {
        for init in self.init()?.into_iter().chain(self.unrecorded()?) {
            init.kill().with_context(|| format!("machine {} does not go off", self.name))?;
        }
        for record in ["init.json"].map(|name| self.dir.join(name)).into_iter().chain(self.records()?) {
            remove(&record)?;
        }
        Ok(())
    }

    /// Processes 1 that were started but not written down, because this program was killed in between.
    fn unrecorded(&self) -> Result<Vec<Recorded>> {
        let script = self.script();
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc").context("cannot read /proc")?.flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            let Ok(line) = fs::read(entry.path().join("cmdline")) else { continue };
            let mut words = line.split(|byte| *byte == 0);
            let is_init = words.next() == Some(SHELL.as_bytes())
                && words.next() == Some(script.as_os_str().as_encoded_bytes());
            found.extend(is_init.then(|| Recorded::of(pid)).flatten());
        }
        Ok(found)
    }

    fn script(&self) -> PathBuf {
        self.dir.join("machine-init.sh")
    }

    /// Starts a lasting process of the machine under a name, if none of that name runs. Its output goes to its log.
    ///
    /// # Errors
    /// If the machine is off or the program cannot be started.
    pub fn start(&self, process: &str, mut command: Command) -> Result<Recorded> {
        if let Some(running) = self.process(process)? {
            return Ok(running);
        }
        self.detach(&mut command, process)?;
        let child = self
            .enter(move || command.spawn().context("cannot start the program"))
            .with_context(|| self.about(process))?;
        self.record(child, &self.record_of(process))
    }

    /// A lasting process that runs; `None` if none of that name does.
    ///
    /// # Errors
    /// If the record cannot be read.
    pub fn process(&self, process: &str) -> Result<Option<Recorded>> {
        Ok(Recorded::load(&self.record_of(process))?.filter(|one| one.is_running()))
    }

    /// Kills a lasting process, without a warning; nothing if it does not run.
    ///
    /// # Errors
    /// If it has not ended 30 s later.
    pub fn kill(&self, process: &str) -> Result<()> {
        self.process(process)?.map_or(Ok(()), Recorded::kill).with_context(|| self.about(process))
    }

    /// The lasting processes that run, by name.
    ///
    /// # Errors
    /// If a record cannot be read.
    pub fn processes(&self) -> Result<Vec<(String, Recorded)>> {
        let mut all = Vec::new();
        for file in self.records()? {
            let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            if let Some(one) = self.process(&name)? {
                all.push((name, one));
            }
        }
        all.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(all)
    }

    /// Runs a program in the machine to its end and gives back what it wrote. Its input is a file of the host, or nothing.
    ///
    /// # Errors
    /// If the machine is off, or the program cannot be started or fails; the error has what it wrote to its error output.
    pub fn run(&self, program: &str, args: &[&str], input: Option<&Path>) -> Result<String> {
        let mut command = Command::new(program);
        command.args(args).stdin(match input {
            Some(path) => {
                Stdio::from(File::open(path).with_context(|| format!("cannot open {}", path.display()))?)
            }
            None => Stdio::null(),
        });
        let output = self
            .enter(move || command.output().context("cannot start the program"))
            .with_context(|| self.about(program))?;
        checked(&output).with_context(|| format!("{program} {} on machine {}", args.join(" "), self.name))
    }

    /// Runs something in a thread that has entered the machine: its files, its network, and, for the thread's children, its processes.
    ///
    /// # Errors
    /// If the machine is off, or what is run fails.
    pub fn enter<T: Send>(&self, run: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let init = self.init()?.with_context(|| format!("machine {} is off", self.name))?;
        let open = |space: &str| {
            let path = format!("/proc/{}/ns/{space}", init.pid);
            File::open(&path).with_context(|| format!("cannot open {path}"))
        };
        let spaces = [
            (open("net")?, CloneFlags::CLONE_NEWNET),
            (open("uts")?, CloneFlags::CLONE_NEWUTS),
            (open("ipc")?, CloneFlags::CLONE_NEWIPC),
            (open("pid")?, CloneFlags::CLONE_NEWPID),
            (open("mnt")?, CloneFlags::CLONE_NEWNS),
        ];
        in_thread(move || {
            // Threads share their root and current directory, which the mount namespace changes.
            unshare(CloneFlags::CLONE_FS).context("cannot leave the shared directory")?;
            for (file, kind) in spaces {
                setns(file, kind).context("cannot enter a namespace of the machine")?;
            }
            run()
        })
    }

    /// Prepares a command for a process that outlives this program: no input, output to a log, a session of its own.
    fn detach(&self, command: &mut Command, process: &str) -> Result<()> {
        let path = self.log(process);
        let log = OpenOptions::new().create(true).append(true).open(&path);
        let log = log.with_context(|| format!("cannot write {}", path.display()))?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).process_group(0).current_dir("/");
        Ok(())
    }

    /// Writes down a process, and reaps it should it end while this program runs.
    fn record(&self, mut child: Child, file: &Path) -> Result<Recorded> {
        let recorded = i32::try_from(child.id()).ok().and_then(Recorded::of);
        let Some(recorded) = recorded else {
            let status = child.wait()?;
            bail!(
                "a process of machine {} ended at once with {status}: see {}",
                self.name,
                self.dir.join("logs").display()
            );
        };
        recorded.save(file)?;
        std::thread::spawn(move || child.wait());
        Ok(recorded)
    }

    fn record_of(&self, process: &str) -> PathBuf {
        self.dir.join("processes").join(format!("{process}.json"))
    }

    fn records(&self) -> Result<Vec<PathBuf>> {
        let dir = self.dir.join("processes");
        let entries = fs::read_dir(&dir).with_context(|| format!("cannot read {}", dir.display()))?;
        entries.map(|entry| Ok(entry?.path())).collect()
    }

    fn about(&self, process: &str) -> String {
        format!("{process} on machine {}", self.name)
    }
}

/// Runs a program of the host to its end and gives back what it wrote.
///
/// # Errors
/// If it cannot be started or fails; the error has what it wrote to its error output.
pub(crate) fn host(program: &str, args: &[&str]) -> Result<String> {
    let output = Command::new(program).args(args).stdin(Stdio::null()).output();
    let output = output.with_context(|| format!("cannot start {program}: run scripts/setup.sh e2e"))?;
    checked(&output).with_context(|| format!("{program} {}", args.join(" ")))
}

/// What a program wrote, if it succeeded.
pub(crate) fn checked(output: &Output) -> Result<String> {
    if !output.status.success() {
        bail!("{}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Removes a file that may be gone already.
pub(crate) fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// The end of a log, in one line.
pub(crate) fn last_lines(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(5)..].join("; ")
}

/// Namespaces belong to threads: what changes them has a thread to itself.
fn in_thread<T: Send>(run: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    std::thread::scope(|scope| scope.spawn(run).join())
        .unwrap_or_else(|_| bail!("a thread of the harness has panicked"))
}
