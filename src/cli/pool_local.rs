//! Making a pool while no server runs: the same use case, in this process.
//!
//! Whoever sets a machine up makes a pool before the first start. The pool's own lock and the list of pools in the
//! state directory are the server's, so this is done only where nobody listens on the socket.

use std::io::ErrorKind;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};

use super::view::PoolView;
use crate::backend::{Backends, PoolSpec};
use crate::host::Host;
use crate::host::linux::Linux;
use crate::service::{NoObserver, Service, Settings, SystemClock};
use crate::store::read_pools;
use crate::volume::capacity::Policy;

/// Whether it is certain that no server listens there. A socket that cannot be reached for other reasons is somebody's.
pub(super) fn nobody_listens(socket: &Path) -> bool {
    let refused =
        |error: std::io::Error| matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused);
    UnixStream::connect(socket).err().is_some_and(refused)
}

/// Makes the pool and has the state directory remember it.
pub(super) async fn create(spec: PoolSpec, state_dir: &Path) -> Result<PoolView> {
    let state_dir = std::path::absolute(state_dir).context("--state-dir is not a path")?;
    let host: Arc<dyn Host> = Arc::new(Linux::new());
    let remembered = read_pools(&*host, &state_dir)?.pools;
    if let Some(other) = remembered.iter().find(|other| other.name == spec.name)
        && *other != spec
    {
        bail!(
            "name: pool {:?} exists and is not this one; choose another name, or see {}",
            spec.name,
            state_dir.join("pools.json").display()
        );
    }
    let opener = Arc::new(Backends::new(host.clone(), &state_dir, Policy::default()));
    let settings = Settings { state_dir: Some(state_dir), ..Settings::default() };
    let service = Service::new(settings, host, opener, Arc::new(SystemClock), Arc::new(NoObserver));
    let made = service.create_pool(spec).await;
    service.drain().await;
    Ok(PoolView::from(&made?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    #[test]
    fn a_socket_that_somebody_listens_on_is_told_from_one_that_was_left() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("people.sock");
        assert!(nobody_listens(&path));
        let listener = UnixListener::bind(&path).unwrap();
        assert!(!nobody_listens(&path));
        drop(listener);
        assert!(nobody_listens(&path));
    }
}
