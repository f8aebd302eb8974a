//! The unix socket that the server answers on.
//!
//! Whoever can connect can delete every volume, so the socket is 0600 from the first moment that it has its name: it
//! is made under another name, restricted, and then renamed. A socket that a crash left behind must not keep the
//! next start from working, and a server that still runs must not lose its socket to a second one: so an old socket
//! goes only if nobody answers on it, and nothing that is not a socket ever goes.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use rustix::fs::RenameFlags;

/// A socket that is bound and listens. Dropping it removes the socket's name, if it is still this socket's.
#[derive(Debug)]
pub struct Socket {
    listener: UnixListener,
    name: Name,
}

/// The name in the filesystem, removed when dropped.
#[derive(Debug)]
pub struct Name {
    path: PathBuf,
    /// Device and inode: another server may have taken the name since.
    identity: (u64, u64),
}

impl Socket {
    /// Binds `path`.
    ///
    /// Makes the directory (0700) where only that is missing. Refuses a directory that anybody may write to, a path
    /// that is no socket, and a socket on which a server answers; removes one on which nobody does.
    pub fn bind(path: &Path) -> Result<Socket> {
        let directory = path.parent().filter(|_| path.is_absolute());
        let (Some(directory), Some(file)) = (directory, path.file_name()) else {
            bail!(
                "the socket {} is not an absolute path of a file; give one such as /run/offshoot/csi.sock",
                path.display()
            );
        };
        prepare_directory(directory)?;
        clear_the_way(path)?;

        let mut temporary = std::ffi::OsString::from(".");
        temporary.push(file);
        temporary.push(format!(".{}", std::process::id()));
        let temporary = directory.join(temporary);
        remove_if_there(&temporary)?;
        let listener = UnixListener::bind(&temporary)
            .with_context(|| format!("cannot bind the socket {}", path.display()))?;
        let named = restrict_and_rename(&listener, &temporary, path);
        if named.is_err() {
            remove_if_there(&temporary)?;
        }
        let identity =
            named.with_context(|| format!("cannot give the socket its name {}", path.display()))?;
        Ok(Socket { listener, name: Name { path: path.to_owned(), identity } })
    }

    /// The listener, and the name that must be kept as long as it listens.
    pub fn into_parts(self) -> (UnixListener, Name) {
        (self.listener, self.name)
    }
}

fn restrict_and_rename(listener: &UnixListener, temporary: &Path, path: &Path) -> io::Result<(u64, u64)> {
    fs::set_permissions(temporary, fs::Permissions::from_mode(0o600))?;
    let made = fs::symlink_metadata(temporary)?;
    listener.set_nonblocking(true)?;
    // Two servers may start at once: the second must not take the name from the first.
    rustix::fs::renameat_with(rustix::fs::CWD, temporary, rustix::fs::CWD, path, RenameFlags::NOREPLACE)?;
    Ok((made.dev(), made.ino()))
}

fn prepare_directory(directory: &Path) -> Result<()> {
    if let Err(error) = fs::create_dir(directory) {
        if error.kind() != io::ErrorKind::AlreadyExists {
            return Err(error).with_context(|| {
                format!(
                    "cannot make the directory {} of the socket; make it, or choose another with --endpoint",
                    directory.display()
                )
            });
        }
    } else {
        fs::set_permissions(directory, fs::Permissions::from_mode(0o700))
            .with_context(|| format!("cannot restrict the directory {}", directory.display()))?;
    }
    let found = fs::metadata(directory).with_context(|| format!("cannot look at {}", directory.display()))?;
    if !found.is_dir() {
        bail!("{} is not a directory; choose another socket with --endpoint", directory.display());
    }
    let (sticky, writable) = (found.mode() & 0o1000 != 0, found.mode() & 0o002 != 0);
    if writable && !sticky {
        bail!(
            "anybody may replace the socket in {}; take the right to write from others (chmod o-w), or choose another directory",
            directory.display()
        );
    }
    Ok(())
}

/// Leaves nothing at `path`, or fails.
fn clear_the_way(path: &Path) -> Result<()> {
    let found = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        found => found.with_context(|| format!("cannot look at {}", path.display()))?,
    };
    if !found.file_type().is_socket() {
        bail!(
            "{} exists and is not a socket; move it away, or choose another with --endpoint",
            path.display()
        );
    }
    match UnixStream::connect(path) {
        Ok(_) => bail!(
            "a server answers on {} already; stop it, or choose another socket with --endpoint",
            path.display()
        ),
        // The one answer that proves that nobody listens.
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            tracing::info!(path = %path.display(), "removing the socket of a server that is gone");
            remove_if_there(path)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error).with_context(|| {
            format!(
                "cannot tell whether a server answers on {}; remove the socket if none does",
                path.display()
            )
        }),
    }
}

fn remove_if_there(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

impl Drop for Name {
    fn drop(&mut self) {
        let ours =
            fs::symlink_metadata(&self.path).is_ok_and(|found| (found.dev(), found.ino()) == self.identity);
        if ours && let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "the socket could not be removed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_is_private_answers_and_goes_with_its_server() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run/csi.sock");
        let socket = Socket::bind(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(path.parent().unwrap()).unwrap().mode() & 0o777, 0o700);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
        UnixStream::connect(&path).unwrap();
        drop(socket);
        assert!(!path.exists());
    }

    #[test]
    fn a_second_server_is_refused_and_the_first_keeps_its_socket() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("csi.sock");
        let _first = Socket::bind(&path).unwrap();
        let error = format!("{:#}", Socket::bind(&path).unwrap_err());
        assert!(error.contains("a server answers"), "{error}");
        UnixStream::connect(&path).unwrap();
    }

    #[test]
    fn the_socket_of_a_dead_server_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("csi.sock");
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let _socket = Socket::bind(&path).unwrap();
        UnixStream::connect(&path).unwrap();
    }

    #[test]
    fn what_is_not_a_socket_is_never_removed() {
        let dir = tempfile::tempdir().unwrap();
        let check = |path: &Path, expect: &str| {
            let error = format!("{:#}", Socket::bind(path).unwrap_err());
            assert!(error.contains(expect), "{error}");
        };
        let file = dir.path().join("file");
        fs::write(&file, "precious").unwrap();
        check(&file, "is not a socket");
        assert_eq!(fs::read(&file).unwrap(), b"precious");
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&file, &link).unwrap();
        check(&link, "is not a socket");
        check(&file.join("csi.sock"), "is not a directory");
        check(&dir.path().join("a/b/csi.sock"), "cannot make the directory");
        check(Path::new("csi.sock"), "not an absolute path");
    }

    #[test]
    fn a_directory_that_anybody_may_write_to_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let open = dir.path().join("open");
        fs::create_dir(&open).unwrap();
        fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).unwrap();
        let error = format!("{:#}", Socket::bind(&open.join("csi.sock")).unwrap_err());
        assert!(error.contains("chmod o-w"), "{error}");
    }

    #[test]
    fn a_name_that_another_server_took_is_left_to_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("csi.sock");
        let first = Socket::bind(&path).unwrap();
        fs::rename(&path, dir.path().join("moved")).unwrap();
        let _second = Socket::bind(&path).unwrap();
        drop(first);
        assert!(path.exists());
    }
}
