//! What a call to the machine can fail with: which call, on what, and why.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::volume::{Error, Kind};

/// Why a call failed, in the terms a caller decides by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// The path or device is not there.
    NotFound,
    /// Something is there already.
    Exists,
    /// Mounted, held or locked by another.
    Busy,
    /// The filesystem is full, or out of inodes or quota.
    NoSpace,
    /// The kernel, the filesystem or the machine cannot do this.
    Unsupported,
    /// The path is not acceptable: a symbolic link, not absolute, of the wrong kind.
    Invalid,
    /// The kernel forbids it to this process.
    Denied,
    /// The directory is not empty.
    NotEmpty,
    /// A server on the network does not answer, or not as it should.
    Unreachable,
    /// A program ended badly or ran into its time limit.
    Program,
    /// The caller's `progress` said stop.
    Stopped,
    /// The fake host "crashed": nothing more happens until it is restarted.
    Crashed,
    /// Anything else: the answer is unknown.
    Other,
}

/// A failed call to the machine.
#[derive(Clone)]
pub struct HostError {
    /// The call, such as `mount` or `mkfs.ext4`.
    pub call: &'static str,
    /// What it was about.
    pub path: PathBuf,
    /// Why, for decisions.
    pub cause: Cause,
    /// Why, for people: the kernel's words, or a program's exit and bounded output.
    pub detail: String,
}

/// The result of a call to the machine.
pub type HostResult<T> = Result<T, HostError>;

impl HostError {
    /// A failed `call` on `path`.
    pub fn new(call: &'static str, path: &Path, cause: Cause, detail: impl Into<String>) -> Self {
        HostError { call, path: path.to_owned(), cause, detail: detail.into() }
    }

    /// The domain error whose kind fits the cause.
    pub fn into_error(self) -> Error {
        let kind = match self.cause {
            Cause::NoSpace => Kind::Exhausted,
            Cause::Busy | Cause::NotEmpty => Kind::Precondition,
            Cause::Invalid => Kind::Invalid,
            Cause::Unreachable => Kind::Unavailable,
            _ => Kind::Internal,
        };
        Error::new(kind, self.to_string())
    }
}

impl From<HostError> for Error {
    fn from(error: HostError) -> Self {
        error.into_error()
    }
}

impl fmt::Display for HostError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.call, self.path.display(), self.detail)
    }
}

impl fmt::Debug for HostError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self} ({:?})", self.cause)
    }
}

impl std::error::Error for HostError {}
