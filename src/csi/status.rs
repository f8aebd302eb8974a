//! The one table from (call, kind of error) to gRPC code.
//!
//! Sidecars and kubelet act on the code alone. To the provisioner ABORTED and UNAVAILABLE mean "may still be running,
//! keep the claim"; any other code means that the call is over and nothing was left behind; RESOURCE_EXHAUSTED makes
//! the scheduler try another node; the resizer gives up on INVALID_ARGUMENT, OUT_OF_RANGE and NOT_FOUND. A wrong
//! cell therefore leaks a volume or wedges a claim. So the cells are in one place, a kind has the same code for
//! (almost) every call, and the calls that CSI treats differently are spelled out below.

use tonic::{Code, Status};

use super::rpc::Rpc;
use crate::volume::{Error, Kind};

/// The code that a caller of `rpc` gets for an error of `kind`.
pub fn code(rpc: Rpc, kind: Kind) -> Code {
    match kind {
        Kind::Invalid => Code::InvalidArgument,
        Kind::OutOfRange => out_of_range(rpc),
        Kind::NotFound => Code::NotFound,
        Kind::AlreadyExists => Code::AlreadyExists,
        Kind::Busy => Code::Aborted,
        Kind::Exhausted => Code::ResourceExhausted,
        Kind::Precondition => Code::FailedPrecondition,
        Kind::Unavailable => Code::Unavailable,
        Kind::Unsupported => unsupported(rpc),
        Kind::BadToken => bad_token(rpc),
        Kind::Denied => Code::PermissionDenied,
        Kind::Internal => Code::Internal,
    }
}

/// Only calls with a size or an offset have OUT_OF_RANGE in their contract; elsewhere a number is just wrong.
fn out_of_range(rpc: Rpc) -> Code {
    use Rpc::*;
    match rpc {
        CreateVolume | CreateVolumeFrom | ControllerExpandVolume | NodeExpandVolume => Code::OutOfRange,
        GetMetadataAllocated | GetMetadataDelta | ReadSnapshot => Code::OutOfRange,
        RewindVolume | RefreshVolume | CreatePool => Code::OutOfRange,
        _ => Code::InvalidArgument,
    }
}

/// A call that this driver serves, for something that this pool or volume cannot do.
///
/// UNIMPLEMENTED makes a caller believe that the *driver* has no such call and stop asking, for every volume. That is
/// right only where it then has another way (a backup without changed blocks reads everything).
fn unsupported(rpc: Rpc) -> Code {
    use Rpc::*;
    match rpc {
        // "Parameters not supported", "source not supported", "exceeds capabilities" in CSI's tables.
        CreateVolume | CreateVolumeFrom => Code::InvalidArgument,
        ValidateVolumeCapabilities | ControllerModifyVolume => Code::InvalidArgument,
        ControllerExpandVolume | NodeExpandVolume => Code::InvalidArgument,
        CreatePool => Code::InvalidArgument,
        // "Exceeds capabilities" of a volume that exists; "these volumes cannot be cut together".
        ControllerPublishVolume | NodeStageVolume | NodePublishVolume => Code::FailedPrecondition,
        CreateSnapshot | CreateVolumeGroupSnapshot | CutGroup => Code::FailedPrecondition,
        // The layout of this very snapshot, and not of all.
        ReadSnapshot => Code::FailedPrecondition,
        RewindVolume | RefreshVolume => Code::FailedPrecondition,
        _ => Code::Unimplemented,
    }
}

/// ABORTED tells a lister to start anew; a call without tokens must not sound as if it were still running.
fn bad_token(rpc: Rpc) -> Code {
    use Rpc::*;
    match rpc {
        ListVolumes | ListSnapshots | ControllerListVolumeHealth | GetLineage => Code::Aborted,
        _ => Code::InvalidArgument,
    }
}

/// The kind of error that a code of another process of ours stands for. A status that the transport made here says only
/// that the other side cannot be heard.
pub fn kind(status: &Status) -> Kind {
    if std::error::Error::source(status).is_some() {
        return Kind::Unavailable;
    }
    match status.code() {
        Code::InvalidArgument => Kind::Invalid,
        Code::OutOfRange => Kind::OutOfRange,
        Code::NotFound => Kind::NotFound,
        Code::AlreadyExists => Kind::AlreadyExists,
        Code::Aborted => Kind::Busy,
        Code::ResourceExhausted => Kind::Exhausted,
        Code::FailedPrecondition => Kind::Precondition,
        Code::PermissionDenied | Code::Unauthenticated => Kind::Denied,
        Code::Unimplemented => Kind::Unsupported,
        Code::Internal | Code::DataLoss => Kind::Internal,
        Code::Ok | Code::Cancelled | Code::Unknown | Code::DeadlineExceeded | Code::Unavailable => {
            Kind::Unavailable
        }
    }
}

/// The answer to a caller of `rpc` whose call failed with `error`.
pub fn status(rpc: Rpc, error: &Error) -> Status {
    Status::new(code(rpc, error.kind()), error.to_string())
}

/// The answer to a caller whose call was answered by another server: what that one said, without the headers that were
/// between it and us.
pub fn passed_on(said: &Status) -> Status {
    Status::with_details(said.code(), said.message(), said.details().to_vec().into())
}

/// Whether the one who gave this answer may still be at it, or will be when the call comes again.
pub fn may_continue(said: &Status) -> bool {
    matches!(said.code(), Code::Cancelled | Code::DeadlineExceeded | Code::Unavailable | Code::Aborted)
}

/// Whether this answer says that there is no room, no place or no source here.
pub fn is_exhausted(said: &Status) -> bool {
    said.code() == Code::ResourceExhausted
}

/// Whether this answer says that the object does not exist.
pub fn is_not_found(said: &Status) -> bool {
    said.code() == Code::NotFound
}

/// Whether this answer says that the server cannot answer now.
pub fn is_unavailable(said: &Status) -> bool {
    said.code() == Code::Unavailable
}

/// The answer to a call during which the server panicked. The text of the panic stays in the log.
pub fn panicked() -> Status {
    Status::internal(
        "the driver met a bug while it handled this call; its log has the details under the request id",
    )
}

/// The answer to a caller that may not have what it asks for, whoever it is.
pub fn denied(why: &str) -> Status {
    Status::permission_denied(why)
}

/// The answer to a caller whose certificate does not let it make this call.
pub fn not_allowed() -> Status {
    denied(
        "the certificate of the caller does not allow this call; the controller may make it, and a node may read snapshots that it was allowed",
    )
}

/// The answer on a stream that ends because the server does.
pub fn shutting_down() -> Status {
    Status::unavailable("the driver is shutting down; call again")
}

/// The name of a code in metrics and logs, as the gRPC specification spells it.
pub fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the provisioner takes for "may still be running".
    fn keeps_the_claim(code: Code) -> bool {
        matches!(code, Code::Cancelled | Code::DeadlineExceeded | Code::Unavailable | Code::Aborted)
    }

    /// The codes of every call that CSI does not treat differently.
    const COMMON: [(Kind, Code); 12] = [
        (Kind::Invalid, Code::InvalidArgument),
        (Kind::OutOfRange, Code::InvalidArgument),
        (Kind::NotFound, Code::NotFound),
        (Kind::AlreadyExists, Code::AlreadyExists),
        (Kind::Busy, Code::Aborted),
        (Kind::Exhausted, Code::ResourceExhausted),
        (Kind::Precondition, Code::FailedPrecondition),
        (Kind::Unavailable, Code::Unavailable),
        (Kind::Unsupported, Code::Unimplemented),
        (Kind::BadToken, Code::InvalidArgument),
        (Kind::Denied, Code::PermissionDenied),
        (Kind::Internal, Code::Internal),
    ];

    /// Every cell that differs from [`COMMON`].
    const DEVIATIONS: [(Rpc, Kind, Code); 30] = [
        (Rpc::CreateVolume, Kind::OutOfRange, Code::OutOfRange),
        (Rpc::ControllerExpandVolume, Kind::OutOfRange, Code::OutOfRange),
        (Rpc::NodeExpandVolume, Kind::OutOfRange, Code::OutOfRange),
        (Rpc::GetMetadataAllocated, Kind::OutOfRange, Code::OutOfRange),
        (Rpc::GetMetadataDelta, Kind::OutOfRange, Code::OutOfRange),
        (Rpc::RewindVolume, Kind::OutOfRange, Code::OutOfRange),
        (Rpc::RefreshVolume, Kind::OutOfRange, Code::OutOfRange),
        (Rpc::CreatePool, Kind::OutOfRange, Code::OutOfRange),
        (Rpc::CreateVolumeFrom, Kind::OutOfRange, Code::OutOfRange),
        (Rpc::ReadSnapshot, Kind::OutOfRange, Code::OutOfRange),
        (Rpc::CreateVolume, Kind::Unsupported, Code::InvalidArgument),
        (Rpc::ValidateVolumeCapabilities, Kind::Unsupported, Code::InvalidArgument),
        (Rpc::ControllerModifyVolume, Kind::Unsupported, Code::InvalidArgument),
        (Rpc::ControllerExpandVolume, Kind::Unsupported, Code::InvalidArgument),
        (Rpc::NodeExpandVolume, Kind::Unsupported, Code::InvalidArgument),
        (Rpc::CreatePool, Kind::Unsupported, Code::InvalidArgument),
        (Rpc::ControllerPublishVolume, Kind::Unsupported, Code::FailedPrecondition),
        (Rpc::NodeStageVolume, Kind::Unsupported, Code::FailedPrecondition),
        (Rpc::NodePublishVolume, Kind::Unsupported, Code::FailedPrecondition),
        (Rpc::CreateSnapshot, Kind::Unsupported, Code::FailedPrecondition),
        (Rpc::CreateVolumeGroupSnapshot, Kind::Unsupported, Code::FailedPrecondition),
        (Rpc::CreateVolumeFrom, Kind::Unsupported, Code::InvalidArgument),
        (Rpc::CutGroup, Kind::Unsupported, Code::FailedPrecondition),
        (Rpc::ReadSnapshot, Kind::Unsupported, Code::FailedPrecondition),
        (Rpc::RewindVolume, Kind::Unsupported, Code::FailedPrecondition),
        (Rpc::RefreshVolume, Kind::Unsupported, Code::FailedPrecondition),
        (Rpc::ListVolumes, Kind::BadToken, Code::Aborted),
        (Rpc::ListSnapshots, Kind::BadToken, Code::Aborted),
        (Rpc::ControllerListVolumeHealth, Kind::BadToken, Code::Aborted),
        (Rpc::GetLineage, Kind::BadToken, Code::Aborted),
    ];

    #[test]
    fn every_call_gives_every_kind_its_common_code_or_a_listed_deviation() {
        for &rpc in Rpc::ALL {
            for kind in Kind::ALL {
                let listed =
                    DEVIATIONS.iter().find(|(r, k, _)| (*r, *k) == (rpc, kind)).map(|(_, _, code)| *code);
                let common = COMMON.iter().find(|(k, _)| *k == kind).map(|(_, code)| *code);
                assert_eq!(Some(code(rpc, kind)), listed.or(common), "{rpc} {kind:?}");
            }
        }
    }

    #[test]
    fn a_common_code_reads_back_as_its_kind_and_a_broken_connection_as_unreachable() {
        for written in Kind::ALL {
            let read = kind(&status(Rpc::FindName, &Error::new(written, "why")));
            let same_code = |read| code(Rpc::FindName, read) == code(Rpc::FindName, written);
            assert!(same_code(read), "{written:?} {read:?}");
            assert_eq!(read.is_final(), written.is_final(), "{written:?} {read:?}");
        }
        let broken = Status::from_error(Box::new(std::io::Error::other("the connection broke")));
        assert_eq!(kind(&broken), Kind::Unavailable);
        for code in [Code::Unknown, Code::Cancelled, Code::DeadlineExceeded] {
            assert_eq!(kind(&Status::new(code, "")), Kind::Unavailable);
        }
    }

    #[test]
    fn only_kinds_that_promise_a_record_let_the_provisioner_keep_the_claim() {
        for &rpc in Rpc::ALL {
            for kind in Kind::ALL {
                let code = code(rpc, kind);
                assert!(!matches!(code, Code::Ok | Code::Unknown), "{rpc} {kind:?}");
                // A lister has no claim to keep.
                if kind != Kind::BadToken {
                    assert_eq!(keeps_the_claim(code), !kind.is_final(), "{rpc} {kind:?} {code:?}");
                }
            }
        }
    }

    #[test]
    fn no_space_stays_no_space_for_every_call_and_through_added_context() {
        let error = Error::new(Kind::Exhausted, "pool fast has 1 GiB left").context("volume db");
        for &rpc in Rpc::ALL {
            let status = status(rpc, &error);
            assert_eq!(status.code(), Code::ResourceExhausted, "{rpc}");
            assert_eq!(status.message(), "volume db: pool fast has 1 GiB left");
        }
    }

    #[test]
    fn a_code_is_named_as_in_the_specification() {
        assert_eq!(code_name(Code::FailedPrecondition), "FAILED_PRECONDITION");
        let names: std::collections::BTreeSet<_> = (0..17).map(|n| code_name(Code::from_i32(n))).collect();
        assert_eq!(names.len(), 17);
    }
}
