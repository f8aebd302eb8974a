//! From the kernel's error numbers to [`Cause`], in one place.
//!
//! Callers decide by cause, people read the detail. A number that is not in this table is [`Cause::Other`]: the answer
//! is unknown, and nothing is formatted, detached or deleted on it.

use std::io;
use std::path::Path;

use nix::libc;

use crate::host::{Cause, HostError, HostResult};

/// The cause that an error number stands for.
pub(super) fn cause(errno: i32) -> Cause {
    match errno {
        libc::ENOENT | libc::ENXIO | libc::ENODEV => Cause::NotFound,
        libc::EEXIST => Cause::Exists,
        // EAGAIN is what a non-blocking flock says of a lock that another holds.
        libc::EBUSY | libc::EAGAIN | libc::ETXTBSY => Cause::Busy,
        libc::ENOSPC | libc::EDQUOT => Cause::NoSpace,
        libc::EOPNOTSUPP | libc::EPROTONOSUPPORT | libc::ENOSYS | libc::ENOTTY | libc::EXDEV => {
            Cause::Unsupported
        }
        // ELOOP is openat2's answer to a symbolic link on a request path.
        libc::ELOOP | libc::ENOTDIR | libc::EISDIR | libc::ENAMETOOLONG | libc::EINVAL | libc::EFBIG => {
            Cause::Invalid
        }
        libc::EPERM | libc::EACCES | libc::EROFS => Cause::Denied,
        libc::ENOTEMPTY => Cause::NotEmpty,
        libc::ETIMEDOUT | libc::ECONNREFUSED | libc::ECONNRESET | libc::EHOSTUNREACH | libc::ENETUNREACH => {
            Cause::Unreachable
        }
        _ => Cause::Other,
    }
}

/// Makes a failed call of the kernel a [`HostError`].
pub(super) fn fail(call: &'static str, path: &Path, error: impl Into<io::Error>) -> HostError {
    let error = error.into();
    let cause = match error.raw_os_error() {
        Some(errno) => cause(errno),
        // The standard library's own refusals, such as a NUL byte in a path.
        None if error.kind() == io::ErrorKind::InvalidInput => Cause::Invalid,
        None => Cause::Other,
    };
    let detail = match cause {
        Cause::Invalid if error.raw_os_error() == Some(libc::ELOOP) => {
            "a component of the path is a symbolic link; use the real path".to_owned()
        }
        _ => error.to_string(),
    };
    HostError::new(call, path, cause, detail)
}

/// Adds the call and the path to a kernel's answer.
pub(super) trait At<T> {
    /// The answer, or a [`HostError`] that names `call` and `path`.
    fn at(self, call: &'static str, path: &Path) -> HostResult<T>;
}

impl<T, E: Into<io::Error>> At<T> for Result<T, E> {
    fn at(self, call: &'static str, path: &Path) -> HostResult<T> {
        self.map_err(|error| fail(call, path, error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_numbers_become_the_cause_that_callers_decide_by() {
        fn check(errno: i32, expect: Cause) {
            assert_eq!(
                fail("open", Path::new("/x"), io::Error::from_raw_os_error(errno)).cause,
                expect,
                "errno {errno}"
            );
        }
        check(libc::ENOENT, Cause::NotFound);
        check(libc::EEXIST, Cause::Exists);
        check(libc::EBUSY, Cause::Busy);
        check(libc::EAGAIN, Cause::Busy);
        check(libc::ENOSPC, Cause::NoSpace);
        check(libc::EDQUOT, Cause::NoSpace);
        check(libc::EXDEV, Cause::Unsupported);
        check(libc::ENOTTY, Cause::Unsupported);
        check(libc::ELOOP, Cause::Invalid);
        check(libc::EPERM, Cause::Denied);
        check(libc::ENOTEMPTY, Cause::NotEmpty);
        check(libc::ETIMEDOUT, Cause::Unreachable);
        check(libc::EHOSTUNREACH, Cause::Unreachable);
        check(libc::EIO, Cause::Other);
        check(libc::EUCLEAN, Cause::Other);
    }
}
