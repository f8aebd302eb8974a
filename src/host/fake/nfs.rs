//! NFS servers around the fake machine.
//!
//! An export is a filesystem that is there whether it is mounted or not. A server can be silent: then nothing new is
//! mounted from it, what is mounted does not answer, and a plain unmount does not end well.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use super::Fake;
use super::data::Space;
use super::world::{Dev, Links, Mount, Step, World, fail};
use crate::host::{Cause, MountSpec, NfsMount, NfsSource, NfsVersion};

/// The network that the machine sees.
#[derive(Debug, Clone, Default)]
pub(super) struct Network {
    exports: Vec<Export>,
    silent: Vec<IpAddr>,
    pub(super) addresses: Vec<IpAddr>,
}

#[derive(Debug, Clone)]
struct Export {
    server: IpAddr,
    path: String,
    dev: Dev,
    open: bool,
}

impl Fake {
    /// Adds an empty export, or opens it again; with `open` false the server knows it and does not let this machine in.
    pub fn export(&self, server: IpAddr, path: &str, open: bool) {
        let mut world = self.world();
        let found = world.network.exports.iter_mut().find(|e| e.server == server && e.path == path);
        if let Some(there) = found {
            there.open = open;
            return;
        }
        world.next_dev += 1;
        let dev = world.next_dev;
        world.add_fs(dev, "nfs4", Space::new(1 << 30), format!("//{server}{path}"), None);
        world.network.exports.push(Export { server, path: path.to_owned(), dev, open });
    }

    /// Makes a server silent, or lets it answer again.
    pub fn silence(&self, server: IpAddr, silent: bool) {
        let mut world = self.world();
        world.network.silent.retain(|other| *other != server);
        if silent {
            world.network.silent.push(server);
        }
    }

    /// Gives the machine these addresses.
    pub fn set_addresses(&self, addresses: &[IpAddr]) {
        self.world().network.addresses = addresses.to_vec();
    }
}

impl World {
    pub(super) fn nfs_answers(&self, server: IpAddr) -> Step<()> {
        if self.network.silent.contains(&server) {
            return fail(Cause::Unreachable, format!("no NFS at {server}:2049 over TCP: timed out"));
        }
        if self.network.exports.iter().all(|export| export.server != server) {
            return fail(Cause::Unreachable, format!("no NFS at {server}:2049 over TCP: connection refused"));
        }
        Ok(())
    }

    pub(super) fn mount_nfs(&mut self, source: &NfsSource, target: &Path, spec: &MountSpec) -> Step<()> {
        let (found, under) = self.there(target, Links::Refuse)?;
        self.entries(under)?;
        self.nfs_answers(source.server)?;
        let known =
            |export: &&Export| export.server == source.server && export.path == source.path && export.open;
        let Some(dev) = self.network.exports.iter().find(known).map(|export| export.dev) else {
            return fail(Cause::Denied, "the server has no such export for this node");
        };
        let root = self.fs(dev)?.root;
        self.fs_mut(dev)?.kind = if source.version == NfsVersion::V3 { "nfs" } else { "nfs4" }.to_owned();
        let read_only = spec.read_only;
        self.mounts.push(Mount { target: found.path, fs: dev, root, shown: "/".into(), read_only, opens: 0 });
        Ok(())
    }

    pub(super) fn nfs_mounts(&self) -> Vec<NfsMount> {
        let of = |mount: &Mount| {
            let export = self.network.exports.iter().find(|export| export.dev == mount.fs)?;
            let v3 = self.fs(mount.fs).is_ok_and(|fs| fs.kind == "nfs");
            let version = if v3 { NfsVersion::V3 } else { NfsVersion::V4(Some(2)) };
            let source = Some(NfsSource { server: export.server, path: export.path.clone(), version });
            Some(NfsMount { target: PathBuf::from(&mount.target), source, read_only: mount.read_only })
        };
        self.mounts.iter().filter_map(of).collect()
    }

    /// Whether what is mounted at `path` waits for a server that is silent.
    pub(super) fn waits_for_server(&self, path: &Path) -> bool {
        let at = |mount: &&NfsMount| mount.target == path;
        let mount = self.nfs_mounts().into_iter().rev().find(|mount| at(&mount));
        mount
            .and_then(|mount| mount.source)
            .is_some_and(|source| self.network.silent.contains(&source.server))
    }

    pub(super) fn unmount_dead(&mut self, path: &Path, detach: bool) -> Step<bool> {
        if !detach {
            return self.unmount(path);
        }
        let Some((found, _)) = self.maybe(path, Links::Refuse)? else { return Ok(false) };
        if !found.mounted {
            return Ok(false);
        }
        self.mounts.remove(found.mount);
        Ok(true)
    }
}
