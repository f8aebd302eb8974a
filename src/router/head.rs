//! What of a call's headers goes on to the agents.
//!
//! The name of the call, so that it is one in all logs; the time that its caller gives it, so that an agent does not
//! wait for nobody; and the trace that it belongs to. Everything else is between the caller and the router: a header
//! that proves who the caller is must not be handed on.

use tonic::Request;
use tonic::metadata::MetadataMap;

use crate::csi::calls::REQUEST_ID;

const PASSED_ON: [&str; 4] = [REQUEST_ID, "grpc-timeout", "traceparent", "tracestate"];

/// The headers of a call that go on.
#[derive(Debug, Clone, Default)]
pub(super) struct Head(MetadataMap);

impl Head {
    /// The headers of a request that go on, and its message.
    pub(super) fn split<T>(request: Request<T>) -> (Head, T) {
        let (given, _, message) = request.into_parts();
        let mut headers = MetadataMap::new();
        for name in PASSED_ON {
            if let Some(value) = given.get(name) {
                headers.insert(name, value.clone());
            }
        }
        (Head(headers), message)
    }

    /// A request with these headers.
    pub(super) fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        *request.metadata_mut() = self.0.clone();
        request
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_keeps_its_name_and_its_time_and_nothing_that_proves_who_calls() {
        let mut request = Request::new(7);
        for (name, value) in [(REQUEST_ID, "mine"), ("grpc-timeout", "5S")] {
            request.metadata_mut().insert(name, value.parse().unwrap());
        }
        request.metadata_mut().insert("authorization", "Bearer x".parse().unwrap());
        let (head, message) = Head::split(request);
        let on = head.request(message);
        assert_eq!((on.metadata().len(), *on.get_ref()), (2, 7));
        assert_eq!(on.metadata().get(REQUEST_ID).unwrap(), "mine");
    }
}
