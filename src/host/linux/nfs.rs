//! Mounting exports, and letting go of those whose server is gone.
//!
//! `mount.nfs` is not used: it takes one string of options, looks names up, starts daemons, and retries for minutes. The
//! kernel takes the same options key by key since 5.6 (`fs/nfs/fs_context.c`), of which these are needed: `source`,
//! `addr`, `vers`, `proto`, for version 3 `mountproto` and `nolock`, for version 4 `clientaddr`. Names are looked up
//! before.
//!
//! Nothing here looks *into* a mount: a `stat` of a dead server's root waits for ever. Where mounts are and of what is read
//! from the kernel's table, which asks nobody.

use std::net::IpAddr;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, UnmountFlags, fsconfig_set_string, fsmount, unmount};

use super::errno::{At as _, fail};
use super::mounts::{attach, attributes, finish, open_context, with_log};
use super::{beneath, mountinfo, rpc, statmount};
use crate::host::{Cause, HostError, HostResult, MountSpec, NfsMount, NfsSource, NfsVersion};

/// See [`Host::mount_nfs`](crate::host::Host::mount_nfs).
pub(super) fn mount(source: &NfsSource, target: &Path, spec: &MountSpec) -> HostResult<()> {
    const CALL: &str = "mount";
    let onto = beneath::open(CALL, target, OFlags::PATH | OFlags::DIRECTORY)?;
    let local = rpc::answers(source.server, source.version)?;
    let device = PathBuf::from(source.device());
    let versions: &[NfsVersion] = match source.version {
        NfsVersion::V4(None) => &[NfsVersion::V4(Some(2)), NfsVersion::V4(Some(1)), NfsVersion::V4(Some(0))],
        _ => std::slice::from_ref(&source.version),
    };
    for (n, version) in versions.iter().enumerate() {
        let context = open_context(CALL, "nfs", &device)?;
        let said = |error| with_log(fail(CALL, &device, error), &context);
        fsconfig_set_string(&context, "source", &device).map_err(said)?;
        let full = MountSpec { options: options(source.server, local, *version, spec), ..spec.clone() };
        match finish(CALL, &device, &context, &full) {
            Ok(()) => {}
            // What the kernel says of a minor version that the server does not have.
            Err(error) if n + 1 < versions.len() && error.cause == Cause::Unsupported => continue,
            Err(error) => return Err(explain(error)),
        }
        let made = fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes(spec)).map_err(said)?;
        return attach(made.as_fd(), onto.as_fd()).at(CALL, target);
    }
    Err(HostError::new(
        CALL,
        &device,
        Cause::Unsupported,
        "the server speaks no version of NFS that is asked for",
    ))
}

/// Everything that the kernel has to be told, what was asked for last.
fn options(
    server: IpAddr,
    local: IpAddr,
    version: NfsVersion,
    spec: &MountSpec,
) -> Vec<(String, Option<String>)> {
    let set = |key: &str, value: String| (key.to_owned(), Some(value));
    let flag = |key: &str| (key.to_owned(), None);
    let proto = if server.is_ipv6() { "tcp6" } else { "tcp" };
    let asked = |key: &str| spec.options.iter().any(|(there, _)| there == key);
    let mut all = vec![
        set("vers", version.to_string()),
        set("addr", server.to_string()),
        set("proto", proto.to_owned()),
    ];
    match version {
        NfsVersion::V3 => {
            all.push(set("mountproto", proto.to_owned()));
            // No lock manager runs here: locks are kept on this node, as if the volume were a disk.
            all.push(flag("nolock"));
        }
        NfsVersion::V4(_) => all.push(set("clientaddr", local.to_string())),
    }
    if !asked("soft") && !asked("softerr") {
        all.push(flag("hard"));
    }
    all.extend(spec.options.iter().cloned());
    all
}

/// What a refusal of the server means for whoever set it up.
fn explain(mut error: HostError) -> HostError {
    let why = match error.cause {
        Cause::Denied => "the server does not let this node in",
        // A server shows nothing of what the client may not have.
        Cause::NotFound => "the server has no such export for this node",
        _ => return error,
    };
    error.cause = Cause::Denied;
    error.detail = format!(
        "{why}: the node's address must be among the nfs_addresses of the environment's host ({})",
        error.detail
    );
    error
}

/// See [`Host::nfs_mounts`](crate::host::Host::nfs_mounts).
pub(super) fn mounts() -> HostResult<Vec<NfsMount>> {
    let lines = statmount::table("nfs_mounts")?;
    Ok(lines.into_iter().filter(|line| line.fs == "nfs" || line.fs == "nfs4").map(of_line).collect())
}

fn of_line(line: mountinfo::Line) -> NfsMount {
    let option = |wanted: &str| {
        line.super_options
            .split(',')
            .filter_map(|option| option.split_once('='))
            .find(|(key, _)| *key == wanted)
    };
    let source = || {
        let server: IpAddr = option("addr")?.1.parse().ok()?;
        let version = NfsVersion::parse(option("vers")?.1)?;
        let shown = line.source.to_str()?;
        // `server:/path`; a server of version 6 stands in brackets.
        let after = if shown.starts_with('[') { shown.find(']')? } else { 0 };
        let path = shown.get(after..)?.split_once(':')?.1.to_owned();
        Some(NfsSource { server, path, version })
    };
    NfsMount { source: source(), read_only: line.read_only, target: line.target.clone() }
}

/// See [`Host::unmount_dead`](crate::host::Host::unmount_dead).
pub(super) fn unmount_dead(path: &Path, detach: bool) -> HostResult<bool> {
    const CALL: &str = "unmount";
    // The parent's descriptor and a name, as for any unmount; the name itself is not opened.
    let Some((parent, name)) = beneath::find_parent(CALL, path)? else { return Ok(false) };
    let held = PathBuf::from(format!("/proc/self/fd/{}", parent.as_raw_fd())).join(name);
    let how = if detach { UnmountFlags::DETACH } else { UnmountFlags::FORCE };
    match unmount(&held, how | UnmountFlags::NOFOLLOW) {
        Ok(()) => Ok(true),
        Err(Errno::INVAL | Errno::NOENT) => Ok(false),
        Err(error) => Err(fail(CALL, path, error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> NfsMount {
        of_line(mountinfo::parse(line.as_bytes()).unwrap().remove(0))
    }

    #[test]
    fn a_line_of_the_table_says_what_is_mounted_without_asking_the_server() {
        fn check(line: &str, expect: Option<(&str, NfsVersion)>) {
            let mount = read(line);
            let got = mount.source.map(|source| (source.device(), source.version));
            assert_eq!(got, expect.map(|(device, version)| (device.to_owned(), version)), "{line}");
        }
        check(
            "36 28 0:42 / /stage rw,nosuid,nodev shared:1 - nfs4 10.1.2.3:/domain0/a\\040b rw,vers=4.2,rsize=262144,addr=10.1.2.3",
            Some(("10.1.2.3:/domain0/a b", NfsVersion::V4(Some(2)))),
        );
        check(
            "36 28 0:42 / /stage ro - nfs 10.1.2.3:/x rw,vers=3,mountaddr=10.1.2.3,local_lock=all,addr=10.1.2.3",
            Some(("10.1.2.3:/x", NfsVersion::V3)),
        );
        check(
            "36 28 0:42 / /stage rw - nfs4 [fd00::5]:/x rw,vers=4.1,addr=fd00::5",
            Some(("[fd00::5]:/x", NfsVersion::V4(Some(1)))),
        );
        check("36 28 0:42 / /stage rw - nfs host:/x rw,vers=2,addr=10.1.2.3", None);
        check("36 28 0:42 / /stage rw - nfs host:/x rw,vers=3", None);
        assert!(read("36 28 0:42 / /s ro - nfs4 10.1.2.3:/x rw,vers=4.2,addr=10.1.2.3").read_only);
    }

    #[test]
    fn the_kernel_is_told_what_a_mount_helper_would_work_out() {
        fn check(server: &str, version: NfsVersion, asked: &[&str], expect: &str) {
            let options_asked = asked.iter().map(|key| ((*key).to_owned(), None)).collect();
            let spec = MountSpec { options: options_asked, ..MountSpec::default() };
            let all: Vec<String> =
                options(server.parse().unwrap(), "10.9.9.9".parse().unwrap(), version, &spec)
                    .into_iter()
                    .map(|(key, value)| value.map_or(key.clone(), |value| format!("{key}={value}")))
                    .collect();
            assert_eq!(all.join(","), expect);
        }
        let four = NfsVersion::V4(Some(2));
        check("10.0.0.1", four, &[], "vers=4.2,addr=10.0.0.1,proto=tcp,clientaddr=10.9.9.9,hard");
        check("fd00::1", four, &["soft"], "vers=4.2,addr=fd00::1,proto=tcp6,clientaddr=10.9.9.9,soft");
        check("10.0.0.1", NfsVersion::V3, &[], "vers=3,addr=10.0.0.1,proto=tcp,mountproto=tcp,nolock,hard");
    }

    #[test]
    fn a_refusal_names_what_has_to_be_set_up() {
        let error = explain(HostError::new("mount", Path::new("s:/x"), Cause::NotFound, "no such file"));
        assert_eq!(error.cause, Cause::Denied);
        assert!(error.detail.contains("nfs_addresses"), "{error}");
    }
}
