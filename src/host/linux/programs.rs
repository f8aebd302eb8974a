//! Starting the few programs that no system call replaces: `mkfs.*`, `e2fsck`, `resize2fs`.
//!
//! A program is found once, in fixed directories, never through the caller's `PATH`. It gets no shell, no environment
//! but a locale and a path, no input, no descriptor of ours, a process group of its own and a time limit; its output is
//! read up to a bound. It dies with us: a formatter that outlived a killed driver would write into a file that the
//! next start has cleaned up and given to somebody else.

use std::collections::BTreeMap;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, getpid, getppid, pidfd_open, pidfd_send_signal};

use super::errno::At;
use crate::host::{Cause, HostError, HostResult};

/// Where programs are looked for.
const DIRECTORIES: [&str; 4] = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"];

/// What is looked for.
pub(super) const NAMES: [&str; 5] = ["mkfs.ext4", "mkfs.xfs", "mkfs.btrfs", "e2fsck", "resize2fs"];

/// More output than this is read but not kept.
const OUTPUT: usize = 16 * 1024;

/// What a program's end looked like.
#[derive(Debug)]
pub(super) struct Ended {
    /// Its exit status; `None` if a signal ended it.
    pub(super) status: Option<i32>,
    /// What it wrote, to either output, in one line and cut to a bound.
    pub(super) output: String,
}

/// The programs that are installed.
pub(super) fn find() -> BTreeMap<&'static str, PathBuf> {
    NAMES
        .iter()
        .filter_map(|name| {
            let mut places = DIRECTORIES.iter().map(|dir| Path::new(dir).join(name));
            Some((*name, places.find(|path| is_program(path))?))
        })
        .collect()
}

fn is_program(path: &Path) -> bool {
    path.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// Runs a program to its end, or kills it at the time limit. `about` is the path that errors name.
pub(super) fn run(
    name: &'static str,
    program: &Path,
    args: &[&std::ffi::OsStr],
    about: &Path,
    limit: Duration,
) -> HostResult<Ended> {
    let (mut output, input) = std::io::pipe().at(name, about)?;
    let mut command = Command::new(program);
    command
        .args(args)
        .env_clear()
        .env("LC_ALL", "C")
        .env("PATH", DIRECTORIES.join(":"))
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(input.try_clone().at(name, about)?)
        .stderr(input)
        .process_group(0);
    let parent = getpid();
    // SAFETY: between fork and exec only two system calls are made, which is safe in a process with threads.
    unsafe { command.pre_exec(move || die_with(parent)) };
    let mut child = command.spawn().at(name, about)?;
    // The command holds our ends of the pipe; while they are open, reading does not end.
    drop(command);

    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let pidfd = pid.map(|pid| pidfd_open(pid, PidfdFlags::empty())).transpose().at(name, about)?;
    let (ended, watch) = channel::<()>();
    let watchdog = std::thread::spawn(move || {
        let late = watch.recv_timeout(limit) == Err(RecvTimeoutError::Timeout);
        if late && let Some(pidfd) = pidfd {
            // It may have ended just now; then there is nothing to kill.
            let _ = pidfd_send_signal(pidfd, Signal::KILL);
        }
        late
    });
    let kept = read_bounded(&mut output);
    let status = child.wait();
    drop(ended);
    let late = watchdog.join().unwrap_or(false);
    let status = status.at(name, about)?;
    if late && status.signal().is_some() {
        let detail = format!("{name} did not end within {} s and was killed", limit.as_secs());
        return Err(HostError::new(name, about, Cause::Program, detail));
    }
    let output = one_line(&kept);
    tracing::debug!(program = name, status = ?status.code(), %output, "program ended");
    Ok(Ended { status: status.code(), output })
}

/// Has the kernel kill this (child) process when its parent dies.
fn die_with(parent: Pid) -> std::io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    // It may have died before the line above.
    if getppid() != Some(parent) {
        return Err(rustix::io::Errno::SRCH.into());
    }
    Ok(())
}

/// Reads to the end, keeping the first bytes.
fn read_bounded(from: &mut impl Read) -> Vec<u8> {
    let mut kept = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return kept,
            Ok(len) => kept.extend_from_slice(&buffer[..len.min(OUTPUT - kept.len())]),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) => return kept,
        }
    }
}

/// A program's words as one line of at most 500 characters, without what drives a terminal.
fn one_line(output: &[u8]) -> String {
    let text = String::from_utf8_lossy(output);
    let lines: Vec<_> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    lines.join("; ").chars().filter(|letter| !letter.is_control()).take(500).collect()
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use super::*;

    /// Runs text as a shell script. The shell is a program like any other here.
    fn run_script(text: &str, args: &[&str], limit: Duration) -> HostResult<Ended> {
        let args: Vec<_> = [&["-c", text, "script"], args].concat().into_iter().map(OsStr::new).collect();
        run("mkfs.ext4", Path::new("/bin/sh"), &args, Path::new("/image"), limit)
    }

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn a_program_gets_its_arguments_as_they_are_and_nothing_of_ours() {
        let script = "echo \"$1|$2\"; tr '\\0' '\\n' < /proc/$$/environ; cat; echo end";
        let ended = run_script(script, &["a b", "$(id)"], LONG).unwrap();
        assert_eq!(ended.status, Some(0));
        assert_eq!(ended.output, "a b|$(id); LC_ALL=C; PATH=/usr/sbin:/sbin:/usr/bin:/bin; end");
    }

    #[test]
    fn its_exit_status_and_both_outputs_are_given_back() {
        let ended = run_script("echo out; echo err >&2; exit 3", &[], LONG).unwrap();
        assert_eq!((ended.status, ended.output.as_str()), (Some(3), "out; err"));
        assert_eq!(run_script("kill -9 $$", &[], LONG).unwrap().status, None);
    }

    #[test]
    fn a_program_that_does_not_end_is_killed_at_its_limit() {
        let error = run_script("exec sleep 1000", &[], Duration::from_millis(50)).unwrap_err();
        assert_eq!(error.cause, Cause::Program);
        assert!(error.detail.contains("was killed"), "{error}");
    }

    #[test]
    fn endless_output_is_bounded() {
        let ended = run_script("head -c 10000000 /dev/zero | tr '\\0' x", &[], LONG).unwrap();
        assert_eq!(ended.status, Some(0));
        assert_eq!(ended.output.len(), 500);
    }

    #[test]
    fn output_is_one_line_without_control_characters() {
        assert_eq!(one_line(b"  first \r\n\n\x1b[31msecond\n"), "first; [31msecond");
    }
}
