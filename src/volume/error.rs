//! The one error that use cases and backends return.
//!
//! A caller acts on the *kind*: retry, wait, reschedule, give up. The kind is therefore chosen by what the caller
//! should do next, and `csi/status.rs` turns it into a gRPC code in one table. The text is for a person: it names the
//! field or object and what to do about it, and never holds a secret.

use std::fmt;

/// What the caller can do about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The request itself is wrong; sending it again cannot help.
    Invalid,
    /// The size can never be had, here or on another node.
    OutOfRange,
    /// The named volume, snapshot, group, node or path does not exist.
    NotFound,
    /// The name is taken by an object made from another request.
    AlreadyExists,
    /// Work on this object is running, or its lock is held: ask again later.
    Busy,
    /// Not here and not now: no space, no source on this node, or the attach limit is reached.
    Exhausted,
    /// The object is in a state that forbids the call (staged, published, would destroy data).
    Precondition,
    /// The backend cannot be reached; a record exists and a retry continues the work.
    Unavailable,
    /// This backend cannot do it at all.
    Unsupported,
    /// A list token that is not ours, or no longer valid: start the listing anew.
    BadToken,
    /// The caller is not allowed this.
    Denied,
    /// A bug or damaged data.
    Internal,
}

impl Kind {
    /// Every kind, for tests that walk the whole table.
    pub const ALL: [Kind; 12] = [
        Kind::Invalid,
        Kind::OutOfRange,
        Kind::NotFound,
        Kind::AlreadyExists,
        Kind::Busy,
        Kind::Exhausted,
        Kind::Precondition,
        Kind::Unavailable,
        Kind::Unsupported,
        Kind::BadToken,
        Kind::Denied,
        Kind::Internal,
    ];

    /// Whether a caller that got this kind may believe that nothing is left behind.
    ///
    /// A kind that is not final promises that a record exists and that a retry continues it.
    pub fn is_final(self) -> bool {
        !matches!(self, Kind::Busy | Kind::Unavailable)
    }
}

/// An error with the kind that a caller acts on and the text that a person reads.
#[derive(Clone)]
pub struct Error {
    kind: Kind,
    message: String,
}

/// The result of every use case and backend call.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error of `kind` with a text that names the field or object and the mend.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Error { kind, message: message.into() }
    }

    /// The request is wrong: `field` says where, `why` what is expected.
    pub fn invalid(field: &str, why: impl fmt::Display) -> Self {
        Error::new(Kind::Invalid, format!("{field}: {why}"))
    }

    /// `what` (such as `volume v-…`) does not exist.
    pub fn not_found(what: impl fmt::Display) -> Self {
        Error::new(Kind::NotFound, format!("{what} does not exist"))
    }

    /// The state of an object forbids the call.
    pub fn precondition(message: impl Into<String>) -> Self {
        Error::new(Kind::Precondition, message)
    }

    /// A bug or damaged data.
    pub fn internal(message: impl Into<String>) -> Self {
        Error::new(Kind::Internal, message)
    }

    /// What the caller can do about it.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The same error with `context: ` before its text.
    pub fn context(self, context: impl fmt::Display) -> Self {
        Error { kind: self.kind, message: format!("{context}: {}", self.message) }
    }

    /// The same text under another kind, for a caller that knows more about what to do.
    pub fn with_kind(self, kind: Kind) -> Self {
        Error { kind, message: self.message }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.kind, self.message)
    }
}

impl std::error::Error for Error {}
