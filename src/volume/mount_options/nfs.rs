//! The allow-list for NFS.
//!
//! A PV that could say `addr=` or `port=` would mount another server than the one that the controller let this node in
//! at; one that could say `soft` would lose writes of its workload when the network hiccups. Those are refused with the
//! reason. What is left tunes caches, sizes and times, and chooses the protocol's version.

use super::super::error::{Error, Result};
use super::Value::{Absent, Number, Word};
use super::{FIELD, Grammar, MountPlan, Value, check_by};
use crate::volume::nfs::NfsVersion;

/// What an NFS mount needs, in parts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NfsPlan {
    /// Options and flags, without the version.
    pub plan: MountPlan,
    /// The version that was asked for; `None` leaves it to what the server of the volume speaks.
    pub version: Option<NfsVersion>,
}

const VERSIONS: &[&str] = &["3", "4", "4.0", "4.1", "4.2"];

const NFS: &[(&str, Value)] = &[
    ("hard", Absent),
    ("soft", Absent),
    ("softerr", Absent),
    ("vers", Word(VERSIONS)),
    ("nfsvers", Word(VERSIONS)),
    ("proto", Word(&["tcp", "tcp6"])),
    ("tcp", Absent),
    ("rsize", Number(1024, 1 << 20)),
    ("wsize", Number(1024, 1 << 20)),
    ("timeo", Number(1, 6000)),
    ("retrans", Number(1, 100)),
    ("nconnect", Number(1, 16)),
    ("nolock", Absent),
    ("local_lock", Word(&["all", "flock", "posix"])),
    ("ac", Absent),
    ("noac", Absent),
    ("actimeo", Number(0, 86_400)),
    ("acregmin", Number(0, 86_400)),
    ("acregmax", Number(0, 86_400)),
    ("acdirmin", Number(0, 86_400)),
    ("acdirmax", Number(0, 86_400)),
    ("lookupcache", Word(&["all", "none", "pos", "positive"])),
    ("cto", Absent),
    ("nocto", Absent),
    ("acl", Absent),
    ("noacl", Absent),
    ("rdirplus", Absent),
    ("nordirplus", Absent),
    ("sharecache", Absent),
    ("nosharecache", Absent),
    ("resvport", Absent),
    ("noresvport", Absent),
    ("sec", Word(&["sys"])),
];

/// What the kernel knows for every filesystem, as far as it makes sense over a network.
const COMMON: &[(&str, Value)] = &[("sync", Absent), ("context", Value::Label)];

const SERVER: &str = "the controller says which server and port";

const REFUSED: &[(&str, &str)] = &[
    ("suid", "set-uid programs inside a volume would run with rights of the node"),
    ("dev", "device nodes inside a volume would reach the node's devices"),
    ("remount", "an option cannot change what kind of call this is"),
    ("bind", "an option cannot change what kind of call this is"),
    ("rbind", "an option cannot change what kind of call this is"),
    ("move", "an option cannot change what kind of call this is"),
    ("source", SERVER),
    ("addr", SERVER),
    ("clientaddr", SERVER),
    ("port", SERVER),
    ("mountaddr", SERVER),
    ("mounthost", SERVER),
    ("mountport", SERVER),
    ("mountvers", SERVER),
    ("mountproto", SERVER),
    ("minorversion", "give vers=4.1 or vers=4.2"),
    ("lock", "locks are kept on the node: a volume is for one workload, and NFSv3's lock manager is not run"),
    ("udp", "only TCP is used"),
    ("rdma", "only TCP is used"),
    ("bg", "a mount is done when the call answers"),
    ("fg", "it is always so"),
    ("retry", "kubelet tries again"),
    ("intr", "the kernel has none since 2.6.25"),
    ("nointr", "the kernel has none since 2.6.25"),
    ("fsc", "a cache on the node's disk would outlive a rewind"),
    ("_netdev", "it is for /etc/fstab only"),
    ("defaults", "leave it out"),
    ("fscontext", "only context is taken"),
    ("defcontext", "only context is taken"),
    ("rootcontext", "only context is taken"),
];

/// Checks the flags of a request for a volume that is mounted over NFS.
///
/// # Errors
/// [`super::super::Kind::Invalid`], naming the flag by its place in the list.
pub fn check_nfs(flags: &[String]) -> Result<NfsPlan> {
    let grammar = Grammar { name: "NFS", options: NFS, common: COMMON, refused: REFUSED };
    let mut plan = check_by(&grammar, flags)?;
    let refuse = |why: &str| Err(Error::invalid(FIELD, why));
    let has = |plan: &MountPlan, key: &str| plan.options.iter().any(|(there, _)| there == key);
    let softly = has(&plan, "soft") || has(&plan, "softerr");
    if softly && has(&plan, "hard") {
        return refuse("asks for both hard and soft");
    }
    if softly && !plan.read_only {
        return refuse(
            "asks for soft without ro: a server that is away for a moment would cost the workload its writes",
        );
    }
    let mut versions: Vec<NfsVersion> = Vec::new();
    for (key, value) in &plan.options {
        if key == "vers" || key == "nfsvers" {
            versions.extend(value.as_deref().and_then(NfsVersion::parse));
        }
    }
    versions.dedup();
    if versions.len() > 1 {
        return refuse("asks for two versions of NFS");
    }
    // What the driver sets itself, because it follows from the server's address and from the version.
    plan.options
        .retain(|(key, _)| !["vers", "nfsvers", "proto", "tcp", "nolock", "hard"].contains(&key.as_str()));
    Ok(NfsPlan { plan, version: versions.pop() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(flags: &str) -> Result<NfsPlan> {
        check_nfs(&flags.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn what_tunes_a_mount_is_taken_and_what_the_driver_sets_itself_is_dropped() {
        fn check(flags: &str, version: Option<NfsVersion>, keys: &str) {
            let plan = asked(flags).unwrap();
            let left: Vec<String> = plan
                .plan
                .options
                .iter()
                .map(|(key, value)| value.as_ref().map_or(key.clone(), |value| format!("{key}={value}")))
                .collect();
            assert_eq!((plan.version, left.join(" ").as_str()), (version, keys), "{flags}");
        }
        check("", None, "");
        check("hard nolock proto=tcp nosuid nodev noatime", None, "");
        check("nfsvers=3 local_lock=all", Some(NfsVersion::V3), "local_lock=all");
        check("vers=4.1 vers=4.1", Some(NfsVersion::V4(Some(1))), "");
        check("vers=4 nfsvers=4 proto=tcp6", Some(NfsVersion::V4(None)), "");
        check(
            "rsize=65536 wsize=65536 nconnect=4 timeo=600 retrans=2 sec=sys",
            None,
            "rsize=65536 wsize=65536 nconnect=4 timeo=600 retrans=2 sec=sys",
        );
        check("ro soft actimeo=0 lookupcache=none", None, "soft actimeo=0 lookupcache=none");
        assert!(asked("ro").unwrap().plan.read_only);
    }

    #[test]
    fn what_reaches_another_server_or_loses_writes_is_refused_with_the_reason() {
        fn check(flags: &str, says: &str) {
            let error = asked(flags).unwrap_err().to_string();
            assert!(error.starts_with(FIELD) && error.contains(says), "{flags}: {error}");
        }
        check("addr=10.0.0.9", "which server");
        check("port=111", "which server");
        check("clientaddr=1.2.3.4", "which server");
        check("soft", "without ro");
        check("soft hard ro", "both hard and soft");
        check("vers=3 nfsvers=4", "two versions");
        check("vers=2", "takes one of 3, 4, 4.0, 4.1, 4.2");
        check("minorversion=1", "vers=4.1");
        check("proto=udp", "takes one of tcp, tcp6");
        check("sec=krb5", "takes one of sys");
        check("lock", "kept on the node");
        check("local_lock=none", "takes one of all, flock, posix");
        check("nconnect=17", "from 1 to 16");
        check("ac noac", "both ac and noac");
        check("suid", "rights of the node");
        check("nouuid", "not an option that NFS volumes may have");
        check("vers=3,port=1", "comma");
    }
}
