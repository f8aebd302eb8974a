//! What happens around every call: an id, a span, its metrics, one line if it fails, and a wall against panics.
//!
//! It is one layer below all services, so that no handler can forget any of it, and it works on the HTTP level, so
//! that it also sees the calls that end in a trailer, on a dropped connection or in a panic. It never looks into a
//! request: requests carry credentials. The text of a failure comes from the status, which is written for the caller.

use std::convert::Infallible;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http::{Extensions, HeaderMap, HeaderValue, Request, Response};
use http_body::{Frame, SizeHint};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::body::Body;
use tonic::codegen::Bytes;
use tonic::{Code, Status};
use tower::{Layer, Service};
use tracing::{Instrument as _, Span};
use uuid::Uuid;

use super::rpc::Rpc;
use super::status::{code_name, not_allowed, panicked, shutting_down};
use crate::metrics::{Call, Metrics};

/// A caller may name its call with this header; the answer carries the name that the log has.
pub const REQUEST_ID: &str = "x-request-id";

/// The label of calls that are not in `proto/`: health, reflection and strangers.
const OTHER: &str = "other";

/// Whether a call may be made: what the connection says of its caller, and the call, where it is one of `proto/`.
pub type Admit = fn(&Extensions, Option<Rpc>) -> bool;

/// Puts [`Calls`] around the services of a server.
#[derive(Debug, Clone)]
pub struct CallLayer {
    metrics: Arc<Metrics>,
    stop: CancellationToken,
    admit: Admit,
}

impl CallLayer {
    /// Counts into `metrics`, and ends endless streams on `stop`. Everybody may call everything.
    pub fn new(metrics: Arc<Metrics>, stop: CancellationToken) -> Self {
        CallLayer { metrics, stop, admit: |_, _| true }
    }

    /// Refuses what `admit` does not allow, before anything of the request is read.
    pub fn admitting(self, admit: Admit) -> Self {
        CallLayer { admit, ..self }
    }
}

impl<S> Layer<S> for CallLayer {
    type Service = Calls<S>;

    fn layer(&self, inner: S) -> Calls<S> {
        Calls { inner, layer: self.clone() }
    }
}

/// A service with everything around its calls.
#[derive(Debug, Clone)]
pub struct Calls<S> {
    inner: S,
    layer: CallLayer,
}

impl<S> Service<Request<Body>> for Calls<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let rpc = Rpc::from_path(request.uri().path());
        let endless = is_endless(rpc, request.uri().path());
        let label = rpc.map_or(OTHER, Rpc::path);
        let id = request_id(request.headers());
        // A router passes it on, so that a call has one name in all logs.
        if let Ok(id) = HeaderValue::from_str(&id) {
            request.headers_mut().insert(REQUEST_ID, id);
        }
        let span = tracing::info_span!("call", rpc = label, id = id.as_str());
        let mut outcome = Outcome { call: self.layer.metrics.call(label), span: span.clone(), told: false };
        if !(self.layer.admit)(request.extensions(), rpc) {
            let refused = not_allowed();
            outcome.ended(&refused);
            return Box::pin(async move { Ok(refused.into_http()) });
        }
        let stop = endless.then(|| Box::pin(self.layer.stop.clone().cancelled_owned()));
        // The clone may not be ready; the one that was asked is.
        let ready = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, ready);
        let work = async move {
            let answer = CatchPanic(Box::pin(async move { inner.call(request).await })).await;
            let mut answer = answer.unwrap_or_else(|Panicked| Ok(panicked().into_http()))?;
            if let Ok(id) = HeaderValue::from_str(&id) {
                answer.headers_mut().insert(REQUEST_ID, id);
            }
            match Status::from_header_map(answer.headers()) {
                // No body follows: this is all of the answer.
                Some(status) => {
                    outcome.ended(&status);
                    Ok(answer)
                }
                None => Ok(answer.map(|inner| Body::new(Answer { inner, outcome: Some(outcome), stop }))),
            }
        };
        Box::pin(work.instrument(span))
    }
}

/// A stream without an end of its own, which would keep a server from stopping.
fn is_endless(rpc: Option<Rpc>, path: &str) -> bool {
    rpc == Some(Rpc::WatchProgress)
        || path == "/grpc.health.v1.Health/Watch"
        || path.starts_with("/grpc.reflection.")
}

/// The caller's own id if it is harmless in a log, else a new one.
fn request_id(headers: &HeaderMap) -> String {
    let plain = |id: &&str| {
        (1..=64).contains(&id.len())
            && id.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
    };
    let given = headers.get(REQUEST_ID).and_then(|id| id.to_str().ok()).filter(plain);
    given.map_or_else(|| Uuid::new_v4().simple().to_string(), str::to_owned)
}

/// Tells log and metrics how a call ended, once. Dropped before that, it tells that the caller hung up.
#[derive(Debug)]
struct Outcome {
    call: Call,
    span: Span,
    told: bool,
}

impl Outcome {
    fn ended(&mut self, status: &Status) {
        if std::mem::replace(&mut self.told, true) {
            return;
        }
        let _entered = self.span.enter();
        let code = code_name(status.code());
        self.call.ended(code);
        let took = self.call.elapsed();
        match status.code() {
            Code::Ok => tracing::debug!(?took, "call succeeded"),
            Code::Internal | Code::Unknown | Code::DataLoss => {
                tracing::error!(code, error = status.message(), ?took, "call failed");
            }
            _ => tracing::warn!(code, error = status.message(), ?took, "call failed"),
        }
    }
}

impl Drop for Outcome {
    fn drop(&mut self) {
        if !self.told {
            let _entered = self.span.enter();
            tracing::info!(took = ?self.call.elapsed(), "the caller hung up before the answer; work that has begun goes on");
        }
    }
}

/// The body of an answer, whose trailers say how the call ended.
struct Answer {
    inner: Body,
    outcome: Option<Outcome>,
    stop: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
}

impl Answer {
    /// The last frame of an answer that this layer ends.
    fn end(&mut self, status: &Status) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        self.stop = None;
        self.inner = Body::empty();
        self.tell(status);
        let mut trailers = HeaderMap::new();
        Poll::Ready(Some(status.add_header(&mut trailers).map(|()| Frame::trailers(trailers))))
    }

    fn tell(&mut self, status: &Status) {
        if let Some(mut outcome) = self.outcome.take() {
            outcome.ended(status);
        }
    }
}

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.stop.as_mut().is_some_and(|stop| stop.as_mut().poll(cx).is_ready()) {
            return self.end(&shutting_down());
        }
        let span = self.outcome.as_ref().map_or_else(Span::none, |outcome| outcome.span.clone());
        let inner = &mut self.inner;
        let polled = span.in_scope(|| catch_unwind(AssertUnwindSafe(|| Pin::new(inner).poll_frame(cx))));
        let Ok(polled) = polled else { return self.end(&panicked()) };
        let frame = ready!(polled);
        match &frame {
            Some(Ok(frame)) => {
                if let Some(trailers) = frame.trailers_ref() {
                    let status =
                        Status::from_header_map(trailers).unwrap_or_else(|| Status::new(Code::Ok, ""));
                    self.tell(&status);
                }
            }
            Some(Err(status)) => self.tell(&status.clone()),
            None => self.tell(&Status::new(Code::Ok, "")),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// The work panicked. The panic hook has logged and counted it.
struct Panicked;

/// Turns a panic in a future into an answer.
struct CatchPanic<F>(Pin<Box<F>>);

impl<F: Future> Future for CatchPanic<F> {
    type Output = Result<F::Output, Panicked>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        // The future is not polled again after a panic, so no half-changed state is seen.
        match catch_unwind(AssertUnwindSafe(|| self.0.as_mut().poll(cx))) {
            Ok(polled) => polled.map(Ok),
            Err(_) => Poll::Ready(Err(Panicked)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_from_the_caller_is_used_only_where_it_cannot_forge_a_log() {
        let check = |given: Option<&str>, kept: bool| {
            let mut headers = HeaderMap::new();
            if let Some(given) = given {
                headers.insert(REQUEST_ID, HeaderValue::from_str(given).unwrap());
            }
            let id = request_id(&headers);
            assert_eq!(Some(id.as_str()) == given, kept, "{given:?}");
            assert!(!id.is_empty() && id.len() <= 64);
        };
        check(Some("pvc-7f.retry_2"), true);
        check(Some("a b"), false);
        check(Some("x\" code=OK"), false);
        check(Some(""), false);
        check(Some(&"a".repeat(65)), false);
        check(None, false);
    }

    #[test]
    fn only_streams_without_an_end_are_cut_at_shutdown() {
        assert!(is_endless(Some(Rpc::WatchProgress), Rpc::WatchProgress.path()));
        assert!(is_endless(None, "/grpc.health.v1.Health/Watch"));
        for &rpc in Rpc::ALL {
            assert_eq!(is_endless(Some(rpc), rpc.path()), rpc == Rpc::WatchProgress, "{rpc}");
        }
    }
}
