//! Why a call to a Data Control Tower failed.
//!
//! A use case acts on what became of its request: refused, done, or nobody knows. The last one is a kind of its own
//! ([`Fault::Ambiguous`]), because a request that is repeated blindly makes a second VDB. Whoever does not care lets `?`
//! turn a [`Failure`] into the [`Error`] of the domain, which has the same text and a kind by which Kubernetes retries.

use std::fmt;

use crate::volume::{Error, Kind};

/// What became of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// It cannot be expressed, so it was not sent.
    Invalid,
    /// The DCT answered that the object does not exist.
    NotFound,
    /// The DCT refused it; nothing was done.
    Refused {
        /// HTTP status.
        status: u16,
        /// What the DCT said, shortened.
        text: String,
    },
    /// The key is not accepted, or not allowed this.
    Denied,
    /// The DCT was not reached or could not answer; nothing was done.
    Unreachable,
    /// The request may have been done or not: the answer was lost. Look before it is sent again.
    Ambiguous,
    /// The job ended without success.
    JobFailed {
        /// FAILED, CANCELED, TIMEDOUT or ABANDONED. After the last two, the work may be done all the same.
        status: super::JobStatus,
        /// `error_details`, shortened.
        details: String,
    },
    /// The DCT does not know the job (any more): look at the object it worked on.
    JobVanished,
    /// The job did not end within `timing.job-timeout`.
    JobRunning,
    /// The object did not come to the state that was waited for within `timing.lag`.
    Lagging,
    /// The answer is not what a DCT gives.
    Broken,
}

/// A failed call.
#[derive(Clone)]
pub struct Failure {
    fault: Fault,
    kind: Kind,
    message: String,
}

/// The result of every call to a DCT.
pub type Result<T, E = Failure> = std::result::Result<T, E>;

impl Failure {
    /// A failure whose text says what to do next.
    pub fn new(fault: Fault, message: impl Into<String>) -> Failure {
        let kind = match &fault {
            Fault::Invalid => Kind::Invalid,
            Fault::NotFound => Kind::NotFound,
            Fault::Denied => Kind::Denied,
            Fault::Unreachable
            | Fault::Ambiguous
            | Fault::JobVanished
            | Fault::JobRunning
            | Fault::Lagging => Kind::Unavailable,
            Fault::Broken => Kind::Internal,
            Fault::JobFailed { status, .. } => match status {
                super::JobStatus::Failed | super::JobStatus::Canceled => Kind::Internal,
                _ => Kind::Unavailable,
            },
            Fault::Refused { status, .. } => match status {
                400 | 405 | 415 | 422 => Kind::Invalid,
                409 | 423 => Kind::Busy,
                413 => Kind::OutOfRange,
                501 => Kind::Unsupported,
                429 | 500..=599 => Kind::Unavailable,
                _ => Kind::Internal,
            },
        };
        Failure { fault, kind, message: message.into() }
    }

    /// What became of the call.
    pub fn fault(&self) -> &Fault {
        &self.fault
    }

    /// What a caller can do about it.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The same with `context: ` before its text.
    pub fn context(self, context: impl fmt::Display) -> Failure {
        Failure { message: format!("{context}: {}", self.message), ..self }
    }

    /// Whether the DCT answered that the object does not exist.
    pub fn is_not_found(&self) -> bool {
        self.fault == Fault::NotFound
    }

    /// Whether it may have been done all the same.
    pub fn is_ambiguous(&self) -> bool {
        self.fault == Fault::Ambiguous
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.fault, self.message)
    }
}

impl std::error::Error for Failure {}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Error {
        Error::new(failure.kind, failure.message)
    }
}
