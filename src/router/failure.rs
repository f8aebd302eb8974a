//! Why a call through the router failed, and how that becomes its answer.
//!
//! What an agent said is passed on with its code and text: it knows what a retry would do. What the router finds itself
//! goes through the one table of codes, as everything else in this program.

use tonic::metadata::MetadataValue;
use tonic::{Response, Status};

use super::UNREACHABLE;
use crate::csi::rpc::Rpc;
use crate::csi::status;
use crate::volume::{Error, Kind};

/// Why a call failed.
#[derive(Debug)]
pub(super) enum Failure {
    /// An agent answered this.
    Said(Status),
    /// The router found this.
    Own(Error),
}

/// What comes of asking.
pub(super) type Answer<T> = Result<T, Failure>;

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::Own(error)
    }
}

impl Failure {
    /// The answer to the caller.
    pub(super) fn status(&self, rpc: Rpc) -> Status {
        match self {
            Failure::Said(said) => status::passed_on(said),
            Failure::Own(error) => status::status(rpc, error),
        }
    }

    /// Whether the agent cannot be asked now.
    pub(super) fn is_unavailable(&self) -> bool {
        match self {
            Failure::Said(said) => status::is_unavailable(said),
            Failure::Own(error) => error.kind() == Kind::Unavailable,
        }
    }

    /// Whether there is no room or no place at this agent, and there may be at another.
    pub(super) fn is_exhausted(&self) -> bool {
        match self {
            Failure::Said(said) => status::is_exhausted(said),
            Failure::Own(error) => error.kind() == Kind::Exhausted,
        }
    }

    /// Whether the object is not at this agent.
    pub(super) fn is_not_found(&self) -> bool {
        match self {
            Failure::Said(said) => status::is_not_found(said),
            Failure::Own(error) => error.kind() == Kind::NotFound,
        }
    }

    /// Whether the work may go on, or will with a retry.
    pub(super) fn may_continue(&self) -> bool {
        match self {
            Failure::Said(said) => status::may_continue(said),
            Failure::Own(error) => !error.kind().is_final(),
        }
    }

    /// What a person reads.
    pub(super) fn text(&self) -> String {
        match self {
            Failure::Said(said) => said.message().to_owned(),
            Failure::Own(error) => error.to_string(),
        }
    }
}

/// What every handler ends with.
pub(super) fn answer<T>(rpc: Rpc, result: Answer<T>) -> Result<Response<T>, Status> {
    result.map(Response::new).map_err(|failure| failure.status(rpc))
}

/// An answer that may leave something out, and the nodes on which that is.
#[derive(Debug)]
pub(super) struct Partial<T> {
    pub(super) answer: T,
    pub(super) unreachable: Vec<String>,
}

/// What handlers end with whose answers may leave something out.
pub(super) fn answer_partial<T>(rpc: Rpc, result: Answer<Partial<T>>) -> Result<Response<T>, Status> {
    let Partial { answer, unreachable } = result.map_err(|failure| failure.status(rpc))?;
    let mut response = Response::new(answer);
    if !unreachable.is_empty()
        && let Ok(nodes) = MetadataValue::try_from(unreachable.join(","))
    {
        response.metadata_mut().insert(UNREACHABLE, nodes);
    }
    Ok(response)
}
