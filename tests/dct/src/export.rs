//! Who may mount what.
//!
//! An engine exports a VDB that is enabled to exactly the `nfs_addresses` of its environment's host. The simulator either only
//! keeps the list ([`NoExport`], for tests of the control plane) or tells a real NFS server ([`Exportfs`], for a guest kernel
//! of the test's own: it changes the exports of the machine it runs on).

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

/// One tree and who may mount it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exported {
    /// The path as clients mount it, `/domain0/…/datafile`.
    pub path: String,
    /// The directory.
    pub dir: PathBuf,
    /// Addresses or names that may mount it.
    pub clients: Vec<String>,
    /// 3 or 4.
    pub nfs_version: u8,
}

/// Something that lets clients mount trees.
pub trait Export: Send {
    /// Lets exactly these clients mount a tree. Called again when the list changes.
    ///
    /// # Errors
    /// Why the server refuses; becomes the error of the job.
    fn export(&mut self, what: &Exported) -> Result<(), String>;

    /// Lets nobody mount a tree any more.
    ///
    /// # Errors
    /// Why the server refuses.
    fn unexport(&mut self, path: &str) -> Result<(), String>;

    /// What is exported now.
    fn list(&self) -> Vec<Exported>;
}

/// Keeps the list and exports nothing.
#[derive(Debug, Default)]
pub struct NoExport {
    exported: BTreeMap<String, Exported>,
}

impl Export for NoExport {
    fn export(&mut self, what: &Exported) -> Result<(), String> {
        self.exported.insert(what.path.clone(), what.clone());
        Ok(())
    }

    fn unexport(&mut self, path: &str) -> Result<(), String> {
        self.exported.remove(path);
        Ok(())
    }

    fn list(&self) -> Vec<Exported> {
        self.exported.values().cloned().collect()
    }
}

/// Runs `exportfs` for each client. Needs root, a running NFS server and an `/etc/exports`, which may be empty.
///
/// The paths given to it are those that clients mount. So either the data directory is `/`, or the server's `nfs.conf` says
/// `rootdir=` with the data directory in its section `[exports]`; an NFSv4 server further needs that directory to be on a
/// filesystem that can be exported, such as ext4 or xfs.
#[derive(Debug, Default)]
pub struct Exportfs {
    exported: BTreeMap<String, Exported>,
}

impl Export for Exportfs {
    fn export(&mut self, what: &Exported) -> Result<(), String> {
        let had = self.exported.get(&what.path).map(|e| e.clients.clone()).unwrap_or_default();
        for client in had.iter().filter(|c| !what.clients.contains(c)) {
            run(&["-u".to_owned(), spec(client, what)])?;
        }
        for client in what.clients.iter().filter(|c| !had.contains(c)) {
            run(&["-o".to_owned(), options(what), spec(client, what)])?;
        }
        self.exported.insert(what.path.clone(), what.clone());
        Ok(())
    }

    fn unexport(&mut self, path: &str) -> Result<(), String> {
        let Some(what) = self.exported.remove(path) else { return Ok(()) };
        what.clients.iter().try_for_each(|client| run(&["-u".to_owned(), spec(client, &what)]))
    }

    fn list(&self) -> Vec<Exported> {
        self.exported.values().cloned().collect()
    }
}

fn spec(client: &str, what: &Exported) -> String {
    // exportfs takes an IPv6 address in brackets.
    let client = if client.contains(':') { format!("[{client}]") } else { client.to_owned() };
    format!("{client}:{}", what.path)
}

/// Options as an engine's: root stays root, as container daemons need it; each tree is a file system of its own to a client.
/// Version 4 clients may come from any port, version 3 ones come from a reserved port as an engine wants it.
fn options(what: &Exported) -> String {
    let port = if what.nfs_version == 3 { "secure" } else { "insecure" };
    format!("rw,sync,no_subtree_check,no_root_squash,{port},fsid={}", file_system_id(&what.path))
}

/// A number for the tree that stays over restarts, so that handles clients hold stay good: FNV-1a of the path, never 0, which
/// would make the tree the root of all exports.
fn file_system_id(path: &str) -> u32 {
    let hash =
        path.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    (hash >> 1).max(1)
}

fn run(args: &[String]) -> Result<(), String> {
    let out =
        Command::new("exportfs").args(args).output().map_err(|e| format!("exportfs cannot be run: {e}"))?;
    if out.status.success() {
        return Ok(());
    }
    Err(format!("exportfs {}: {}", args.join(" "), String::from_utf8_lossy(&out.stderr).trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_is_exported_to_a_client_by_its_address() {
        fn check(client: &str, version: u8, expect: &str) {
            let what = Exported {
                path: "/domain0/group-1/x".to_owned(),
                dir: PathBuf::from("/d"),
                clients: vec![client.to_owned()],
                nfs_version: version,
            };
            assert_eq!(format!("{} {}", options(&what), spec(client, &what)), expect);
        }
        check(
            "10.0.0.1",
            4,
            "rw,sync,no_subtree_check,no_root_squash,insecure,fsid=2053421629 10.0.0.1:/domain0/group-1/x",
        );
        check(
            "fd00::1",
            3,
            "rw,sync,no_subtree_check,no_root_squash,secure,fsid=2053421629 [fd00::1]:/domain0/group-1/x",
        );
    }
}
