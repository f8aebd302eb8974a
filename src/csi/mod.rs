//! The edge: the only code that knows gRPC. A handler parses a request, calls a use case and renders the answer.
//!
//! Nothing here decides what a call means, touches a file of a pool or keeps state. What the wire allows and the use
//! cases do not want to see (unknown enum values, missing oneofs, credentials) ends in `parse`; what a use case
//! answers turns into a code in `status`, and nowhere else.

pub mod calls;
pub mod rpc;
pub mod server;
pub mod socket;
pub mod status;
