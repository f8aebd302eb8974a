//! NFS under the `Host` trait, with the real client and server of a kernel of its own.
//!
//! Neither the machine that builds nor a container has an NFS server in its kernel, so the one test here runs itself again
//! inside tests/uml, where it has all of it: exports, both versions, both families of addresses, and a server that dies.
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs, reason = "tests")]

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use offshoot::host::linux::Linux;
use offshoot::host::{Cause, FileKind, Host, MountSpec, NfsSource, NfsVersion};

/// Set inside the user-mode kernel.
const GUEST: &str = "OFFSHOOT_TEST_GUEST";

/// Whether the calling test has to do its work here. Otherwise it has run inside a user-mode kernel, or cannot.
fn here(test: &str) -> bool {
    if std::env::var_os(GUEST).is_some() {
        return true;
    }
    if !rustix::process::geteuid().is_root() {
        assert!(std::env::var_os("CI").is_none(), "cannot run here: it needs root");
        println!("skipped: it needs root");
        return false;
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/uml/run.sh");
    let status = Command::new(script)
        .args([
            "--mem", "1G", "--limit", "180", "--module", "nfsd", "--module", "nfsv3", "--module", "nfsv4",
            "--",
        ])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(GUEST, "1")
        .status()
        .unwrap();
    assert!(status.success(), "in the user-mode kernel: {status}");
    false
}

fn run(program: &str, args: &[&str]) {
    let out = Command::new(program).args(args).output().unwrap();
    assert!(out.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&out.stderr));
}

fn source(server: &str, path: &str, version: &str) -> NfsSource {
    NfsSource {
        server: server.parse().unwrap(),
        path: path.to_owned(),
        version: NfsVersion::parse(version).unwrap(),
    }
}

struct Guest {
    host: Linux,
    targets: PathBuf,
}

impl Guest {
    fn target(&self, name: &str) -> PathBuf {
        let target = self.targets.join(name);
        self.host.make_target(&target, FileKind::Directory).unwrap();
        target
    }

    fn mount(&self, source: &NfsSource, name: &str) -> PathBuf {
        let target = self.target(name);
        self.host.mount_nfs(source, &target, &MountSpec::default()).unwrap();
        target
    }
}

#[test]
fn exports_are_mounted_without_a_helper_and_let_go_of_when_their_server_is_dead() {
    if !here("exports_are_mounted_without_a_helper_and_let_go_of_when_their_server_is_dead") {
        return;
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/uml/nfs-server.sh");
    run(script.to_str().unwrap(), &["/srv/exports", "256M"]);
    for path in ["domain0/one", "domain0/two words", "domain0/closed"] {
        let dir = Path::new("/srv/exports").join(path);
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join("row"), path).unwrap();
    }
    for client in ["127.0.0.1", "[::1]"] {
        for (path, id) in [("/domain0/one", 11), ("/domain0/two words", 12)] {
            let options = format!("rw,sync,no_subtree_check,no_root_squash,fsid={id}");
            run("exportfs", &["-o", &options, &format!("{client}:{path}")]);
        }
    }
    let guest = Guest { host: Linux::new(), targets: PathBuf::from("/run/targets") };
    mounts_of_every_kind(&guest);
    refusals(&guest);
    death_of_the_server(&guest);
}

fn mounts_of_every_kind(guest: &Guest) {
    fn check(guest: &Guest, server: &str, path: &str, asked: &str, got: &str) {
        let wanted = source(server, path, asked);
        let at = guest.mount(&wanted, "plain");
        let mount = guest.host.nfs_mounts().unwrap().pop().unwrap();
        let seen = mount.source.unwrap();
        assert_eq!((&mount.target, &seen.path, seen.server), (&at, &wanted.path, wanted.server));
        assert_eq!(seen.version.to_string(), got, "{server} {path} {asked}");
        assert!(std::fs::read_to_string(at.join("row")).unwrap().starts_with("domain0"));
        std::fs::write(at.join("mine"), asked).unwrap();
        let usage = guest.host.usage(&at).unwrap();
        assert!(usage.bytes > 0 && usage.bytes_available > 0);

        let shown = guest.target("shown");
        guest.host.bind(&at, &shown, true).unwrap();
        assert!(std::fs::write(shown.join("mine"), "not").is_err());
        assert!(guest.host.nfs_mounts().unwrap().pop().unwrap().read_only);
        assert!(guest.host.unmount(&shown).unwrap());
        assert!(guest.host.unmount(&at).unwrap());
        assert!(guest.host.nfs_mounts().unwrap().is_empty());
    }
    check(guest, "127.0.0.1", "/domain0/one", "4", "4.2");
    check(guest, "127.0.0.1", "/domain0/one", "4.1", "4.1");
    check(guest, "127.0.0.1", "/domain0/one", "4.0", "4.0");
    check(guest, "127.0.0.1", "/domain0/one", "3", "3");
    check(guest, "127.0.0.1", "/domain0/two words", "4", "4.2");
    check(guest, "::1", "/domain0/one", "4.2", "4.2");
    check(guest, "::1", "/domain0/one", "3", "3");
}

fn refusals(guest: &Guest) {
    let at = guest.target("refused");
    for version in ["4", "3"] {
        let error = guest
            .host
            .mount_nfs(&source("127.0.0.1", "/domain0/closed", version), &at, &MountSpec::default())
            .unwrap_err();
        assert_eq!(error.cause, Cause::Denied, "{error}");
        assert!(error.detail.contains("nfs_addresses"), "{error}");
    }
    let nobody: IpAddr = "127.0.0.9".parse().unwrap();
    guest.host.nfs_answers(nobody, NfsVersion::V4(None)).unwrap();
    assert!(guest.host.nfs_mounts().unwrap().is_empty());
}

fn death_of_the_server(guest: &Guest) {
    let wanted = source("127.0.0.1", "/domain0/one", "4");
    let (busy, idle) = (guest.mount(&wanted, "busy"), guest.mount(&wanted, "idle"));
    let held = std::fs::File::open(busy.join("row")).unwrap();
    run("rpc.nfsd", &["0"]);

    let begun = Instant::now();
    let error = guest.host.mount_nfs(&wanted, &guest.target("new"), &MountSpec::default()).unwrap_err();
    assert_eq!(error.cause, Cause::Unreachable, "{error}");
    assert!(error.detail.contains("127.0.0.1:2049"), "{error}");
    assert_eq!(guest.host.nfs_mounts().unwrap().len(), 2);
    assert!(guest.host.unmount_dead(&idle, false).unwrap());
    assert_eq!(guest.host.unmount_dead(&busy, false).unwrap_err().cause, Cause::Busy);
    assert!(guest.host.unmount_dead(&busy, true).unwrap());
    assert!(!guest.host.unmount_dead(&busy, true).unwrap());
    assert!(guest.host.nfs_mounts().unwrap().is_empty());
    assert!(guest.host.remove_target(&busy).unwrap());
    assert!(begun.elapsed() < Duration::from_secs(60), "a dead server held the node up");
    // Closing a file waits for its server, whatever became of the mount.
    run("rpc.nfsd", &["4"]);
    drop(held);
}
