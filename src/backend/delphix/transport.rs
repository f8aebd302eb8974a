//! One request to a Data Control Tower: the key, the limits, and what is tried again.
//!
//! * A request that changes nothing, or nothing more when it is repeated, is tried again for a while when the DCT is not reached or is
//!   overloaded. One that starts something is repeated only where it surely was not taken: no connection, 429, or a key that
//!   has just been exchanged. Otherwise its end is unknown and the failure says so.
//! * Every request has a limit of time and of size, and there are never more at once than the settings say.
//! * Nothing that the key is in, and no body, gets into a log or an error. Of an error's body its message is shown, shortened.

use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, DATE, HeaderMap, RETRY_AFTER};
use reqwest::{Client, Method, Response, StatusCode, Url};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::connect::{self, Place};
use super::diagnose::{Broken, diagnose};
use super::fault::{Failure, Fault, Result};
use super::key::Key;
use super::settings::DctSettings;
use super::text::shorten;
use super::watched::Watched;
use crate::metrics::DctFigures;

/// Largest answer that is read, bytes.
const LARGEST: usize = 64 << 20;
/// Longest wait before a repetition.
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// Most characters of what the DCT says about an error.
const SAYING: usize = 300;

/// A request.
pub(super) struct Ask<'a> {
    /// Method and path as the interface names them, such as `POST /vdbs/{vdbId}/enable`.
    pub(super) op: &'static str,
    /// What stands for the `{…}` in the path, in order.
    pub(super) ids: &'a [&'a str],
    /// Query parameters.
    pub(super) query: Vec<(&'static str, String)>,
    /// The body.
    pub(super) body: Option<Value>,
    /// Whether it does no more when it is done twice.
    pub(super) repeatable: bool,
}

impl<'a> Ask<'a> {
    /// A request that only reads.
    pub(super) fn read(op: &'static str, ids: &'a [&'a str]) -> Ask<'a> {
        Ask { op, ids, query: Vec::new(), body: None, repeatable: true }
    }

    /// A request that starts or changes something.
    pub(super) fn change(op: &'static str, ids: &'a [&'a str], body: Option<Value>) -> Ask<'a> {
        Ask { op, ids, query: Vec::new(), body, repeatable: false }
    }
}

/// A successful answer.
pub(super) struct Answer {
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
}

impl Answer {
    /// What the DCT takes for the time.
    pub(super) fn date(&self) -> Option<jiff::Timestamp> {
        let text = self.headers.get(DATE)?.to_str().ok()?;
        Some(jiff::fmt::rfc2822::parse(text).ok()?.timestamp())
    }
}

/// The way to one DCT.
pub(super) struct Transport {
    pub(super) settings: DctSettings,
    pub(super) figures: DctFigures,
    place: Place,
    key: Watched<Key>,
    trusted: Option<Watched<Client>>,
    client: Option<Client>,
    gate: Arc<Semaphore>,
}

impl Transport {
    pub(super) fn new(settings: DctSettings, figures: DctFigures) -> crate::volume::Result<Transport> {
        let place = Place::new(&settings)?;
        let client = match &settings.ca_file {
            Some(_) => None,
            None => Some(
                connect::client(&place, &settings, None)
                    .map_err(|why| crate::volume::Error::invalid("ca-file", why))?,
            ),
        };
        Ok(Transport {
            trusted: settings.ca_file.as_deref().map(|path| Watched::new("ca-file", path)),
            key: Watched::new("key-file", &settings.key_file),
            gate: Arc::new(Semaphore::new(settings.timing.max_connections)),
            client,
            place,
            figures,
            settings,
        })
    }

    fn client(&self) -> Result<Client> {
        match (&self.trusted, &self.client) {
            (Some(trusted), _) => {
                trusted.get(false, |pem| connect::client(&self.place, &self.settings, Some(pem)))
            }
            (None, Some(client)) => Ok(client.clone()),
            (None, None) => Err(Failure::new(Fault::Broken, "there is no client")),
        }
    }

    fn key(&self, again: bool) -> Result<Key> {
        self.key.get(again, Key::parse)
    }

    /// The DCT for people: its name and address.
    pub(super) fn shown(&self) -> String {
        format!("DCT `{}` ({})", self.settings.name, self.place.shown)
    }

    /// Sends a request and reads a successful answer, which is an object of JSON.
    pub(super) async fn json<T: DeserializeOwned>(&self, ask: &Ask<'_>) -> Result<T> {
        let answer = self.send(ask).await?;
        // Asked for first, as a list would be taken for the fields of an object in their order.
        let value: Value =
            serde_json::from_slice(&answer.body).map_err(|error| self.broken(ask.op, &error.to_string()))?;
        if !value.is_object() {
            return Err(self.broken(ask.op, "it is no object"));
        }
        serde_json::from_value(value).map_err(|error| self.broken(ask.op, &error.to_string()))
    }

    /// The answer to `op` is not what it should be.
    pub(super) fn broken(&self, op: &'static str, why: &str) -> Failure {
        let message = format!(
            "{}: {op} was answered with something else than a DCT gives: {why}; check url",
            self.shown()
        );
        Failure::new(Fault::Broken, message)
    }

    /// Sends a request, again where that may be done, and reads a successful answer.
    pub(super) async fn send(&self, ask: &Ask<'_>) -> Result<Answer> {
        let url = self.url(ask)?;
        let until = Instant::now() + self.settings.timing.retry_for;
        let mut backoff = self.settings.timing.retry_first;
        let mut key = self.key(false)?;
        let mut rekeyed = false;
        loop {
            let (failure, wait) = match self.attempt(ask, &url, &key).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(refusal)) if refusal.status == StatusCode::UNAUTHORIZED && !rekeyed => {
                    // The key may have been exchanged a moment ago. A refused request was not done, so it may go out once more.
                    rekeyed = true;
                    key = self.key(true)?;
                    continue;
                }
                Ok(Err(refusal)) => (self.refused(ask, &refusal), self.may_repeat(ask, &refusal, backoff)),
                Err(broken) => {
                    let again = broken.passing && (ask.repeatable || broken.unsent);
                    (self.unanswered(ask, &broken), again.then(|| jitter(backoff)))
                }
            };
            let Some(wait) = wait.filter(|wait| Instant::now() + *wait < until) else {
                return Err(failure);
            };
            tracing::debug!(dct = self.settings.name, op = ask.op, ?wait, "tries again: {failure}");
            tokio::time::sleep(wait).await;
            backoff = (backoff * 2).min(LONGEST_WAIT);
        }
    }

    fn url(&self, ask: &Ask<'_>) -> Result<Url> {
        let template = ask.op.split_once(' ').map_or(ask.op, |(_, path)| path);
        let mut url = self.place.base.clone();
        let mut ids = ask.ids.iter();
        if let Ok(mut path) = url.path_segments_mut() {
            if template.starts_with("/dct/") {
                path.clear();
            }
            for segment in template.split('/').skip(1) {
                if segment.starts_with('{') {
                    path.push(check_id(ids.next().copied().unwrap_or_default())?);
                } else {
                    path.push(segment);
                }
            }
        }
        if !ask.query.is_empty() {
            url.query_pairs_mut().extend_pairs(&ask.query);
        }
        Ok(url)
    }

    /// One attempt: an answer, a refusal, or nothing.
    async fn attempt(&self, ask: &Ask<'_>, url: &Url, key: &Key) -> Result<Result<Answer, Refusal>, Broken> {
        let _permit = self.permit().await;
        let begun = Instant::now();
        let got = match self.request(ask, url, key) {
            Ok(request) => self.exchange(request).await,
            Err(failure) => Err(Broken {
                unsent: true,
                passing: false,
                outcome: "unprepared",
                message: failure.to_string(),
            }),
        };
        let outcome = match &got {
            Ok((status, ..)) => outcome(*status),
            Err(broken) => broken.outcome,
        };
        self.figures.request(&self.settings.name, ask.op, outcome, begun.elapsed());
        tracing::debug!(dct = self.settings.name, op = ask.op, outcome, took = ?begun.elapsed(), "asked the DCT");
        let (status, headers, body) = got?;
        if status.is_success() {
            return Ok(Ok(Answer { headers, body }));
        }
        let text =
            |name| headers.get(name).and_then(|value: &reqwest::header::HeaderValue| value.to_str().ok());
        Ok(Err(Refusal {
            status,
            retry_after: text(RETRY_AFTER).and_then(|text| text.parse().ok()).map(Duration::from_secs),
            page: text(CONTENT_TYPE).is_some_and(|kind| kind.starts_with("text/html")),
            said: shorten(&key.redact(&said(&body)), SAYING),
        }))
    }

    /// Leave to have a request under way. It is given back a moment after the request, so that its connection is free again and
    /// the next one does not open another.
    async fn permit(&self) -> Option<Leave> {
        let gate = self.gate.clone();
        let permit = gate.acquire_owned().await.ok()?;
        Some(Leave { permit: Some(permit), gate: self.gate.clone() })
    }

    fn request(&self, ask: &Ask<'_>, url: &Url, key: &Key) -> Result<reqwest::RequestBuilder> {
        let method = match ask.op.split_once(' ').map_or("GET", |(method, _)| method) {
            "POST" => Method::POST,
            "PATCH" => Method::PATCH,
            "DELETE" => Method::DELETE,
            _ => Method::GET,
        };
        let mut request = self.client()?.request(method, url.clone()).header(AUTHORIZATION, key.header());
        if let Some(body) = &ask.body {
            request = request.header(CONTENT_TYPE, "application/json").body(body.to_string());
        }
        Ok(request)
    }

    async fn exchange(
        &self,
        request: reqwest::RequestBuilder,
    ) -> Result<(StatusCode, HeaderMap, Vec<u8>), Broken> {
        let whole = async {
            let mut response =
                request.send().await.map_err(|error| diagnose(&error, &self.settings, &self.shown()))?;
            let body = self.body(&mut response).await?;
            Ok((response.status(), std::mem::take(response.headers_mut()), body))
        };
        // Around everything, as the limits of the client count each step for itself.
        tokio::time::timeout(self.settings.timing.request_timeout, whole).await.unwrap_or_else(|_| {
            let limit = self.settings.timing.request_timeout;
            let message = format!("{} does not answer within {limit:?}", self.shown());
            Err(Broken { unsent: false, passing: true, outcome: "timeout", message })
        })
    }

    async fn body(&self, response: &mut Response) -> Result<Vec<u8>, Broken> {
        let mut body = Vec::new();
        while let Some(piece) =
            response.chunk().await.map_err(|error| diagnose(&error, &self.settings, &self.shown()))?
        {
            if body.len() + piece.len() > LARGEST {
                let message = format!("{} answers with more than {LARGEST} bytes", self.shown());
                return Err(Broken { unsent: false, passing: false, outcome: "too_large", message });
            }
            body.extend_from_slice(&piece);
        }
        Ok(body)
    }

    /// Begins to read an answer that is too large to be kept; the pieces come by [`Response::chunk`].
    pub(super) async fn open(&self, op: &'static str) -> Result<(Option<Leave>, Response)> {
        let ask = Ask::read(op, &[]);
        let (url, key) = (self.url(&ask)?, self.key(false)?);
        let leave = self.permit().await;
        let begun = Instant::now();
        let got = self.request(&ask, &url, &key)?.send().await;
        let outcome = got.as_ref().map_or("lost", |response| outcome(response.status()));
        self.figures.request(&self.settings.name, op, outcome, begun.elapsed());
        let response =
            got.map_err(|error| self.unanswered(&ask, &diagnose(&error, &self.settings, &self.shown())))?;
        if !response.status().is_success() {
            let refusal =
                Refusal { status: response.status(), retry_after: None, page: false, said: String::new() };
            return Err(self.refused(&ask, &refusal));
        }
        Ok((leave, response))
    }

    /// How long to wait before the request may be repeated, if it may.
    fn may_repeat(&self, ask: &Ask<'_>, refusal: &Refusal, backoff: Duration) -> Option<Duration> {
        let again = match refusal.status.as_u16() {
            429 => true,
            502..=504 => ask.repeatable,
            _ => false,
        };
        again.then(|| refusal.retry_after.unwrap_or_default().max(jitter(backoff)))
    }

    fn unanswered(&self, ask: &Ask<'_>, broken: &Broken) -> Failure {
        if ask.repeatable || broken.unsent {
            let fault = if broken.outcome == "too_large" { Fault::Broken } else { Fault::Unreachable };
            return Failure::new(fault, format!("{}: {}", ask.op, broken.message));
        }
        self.ambiguous(ask, &broken.message)
    }

    fn ambiguous(&self, ask: &Ask<'_>, why: &str) -> Failure {
        let message =
            format!("{}: {why}; whether it was done is not known, so look before it is sent again", ask.op);
        Failure::new(Fault::Ambiguous, message)
    }

    fn refused(&self, ask: &Ask<'_>, refusal: &Refusal) -> Failure {
        let (op, dct, status) = (ask.op, self.shown(), refusal.status.as_u16());
        let said = match refusal.said.as_str() {
            "" => String::new(),
            said => format!(": {said}"),
        };
        if refusal.page && status < 500 {
            return self.broken(op, &format!("a page of the web with status {status}"));
        }
        match status {
            401 => {
                let file = self.settings.key_file.display();
                Failure::new(Fault::Denied, format!("{dct} does not accept the key in key-file {file}{said}"))
            }
            403 => {
                let message =
                    format!("{dct} does not allow {op} to the account of the key in key-file{said}");
                Failure::new(Fault::Denied, message)
            }
            404 => {
                let what = ask.ids.first().map_or_else(String::new, |id| format!(" {}", shorten(id, 80)));
                Failure::new(Fault::NotFound, format!("{dct} does not know{what} ({op}){said}"))
            }
            429 => {
                let text = format!("{op}: {dct} has too many requests (429){said}; it is asked again later");
                Failure::new(Fault::Unreachable, text)
            }
            300..=399 => {
                let text = format!("{op}: {dct} sends us elsewhere ({status}); give that address in url");
                Failure::new(Fault::Refused { status, text: text.clone() }, text)
            }
            500..=599 if ask.repeatable => {
                Failure::new(Fault::Unreachable, format!("{op}: {dct} cannot answer ({status}){said}"))
            }
            500..=599 => self.ambiguous(ask, &format!("{dct} answered {status}{said}")),
            _ => {
                let text = refusal.said.clone();
                Failure::new(
                    Fault::Refused { status, text },
                    format!("{op}: {dct} refuses it ({status}){said}"),
                )
            }
        }
    }
}

/// Leave to have a request under way.
pub(super) struct Leave {
    permit: Option<OwnedSemaphorePermit>,
    gate: Arc<Semaphore>,
}

impl Drop for Leave {
    fn drop(&mut self) {
        let Some(permit) = self.permit.take() else { return };
        // Where others wait, the connection is given the moment that it takes to become idle.
        if self.gate.available_permits() == 0
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn(async move {
                tokio::time::sleep(Duration::from_millis(1)).await;
                drop(permit);
            });
        }
    }
}

/// An answer that is not a success.
struct Refusal {
    status: StatusCode,
    retry_after: Option<Duration>,
    /// Whether it is a page for people, as a proxy in between gives.
    page: bool,
    said: String,
}

/// An id that is one segment of a path.
fn check_id(id: &str) -> Result<&str> {
    let good = (1..=512).contains(&id.len())
        && !matches!(id, "." | "..")
        && !id.chars().any(|c| c.is_control() || c == '/');
    if good {
        return Ok(id);
    }
    let message =
        format!("`{}` is not the id of an object of a DCT", shorten(&id.escape_debug().to_string(), 80));
    Err(Failure::new(Fault::Invalid, message))
}

/// What the body of an error says: no form is published, so the likely fields, else all of it.
fn said(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let Ok(Value::Object(fields)) = serde_json::from_slice(body) else {
        // A page of the web says nothing worth showing.
        return if text.trim_start().starts_with('<') { String::new() } else { text.into_owned() };
    };
    let field = |names: &[&str]| names.iter().find_map(|name| fields.get(*name)?.as_str().map(str::to_owned));
    let said = field(&["message", "error_description", "detail", "details", "title", "error"]);
    said.unwrap_or_else(|| text.into_owned())
}

fn outcome(status: StatusCode) -> &'static str {
    match status.as_u16() {
        200..=299 => "ok",
        401 | 403 => "denied",
        404 => "not_found",
        429 => "throttled",
        500..=599 => "failed",
        _ => "refused",
    }
}

/// From half of a wait to all of it, so that many that wait do not come back together.
fn jitter(wait: Duration) -> Duration {
    let share = u32::from(uuid::Uuid::new_v4().as_bytes()[0]) + 256;
    wait * share / 512
}
