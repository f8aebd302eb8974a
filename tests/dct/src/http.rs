//! One request: who asks, for what, is it well-formed, what goes wrong on order, and is the answer one that DCT could give.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};

use crate::clock::Clock;
use crate::dct::Dct;
use crate::faults::Fault;
use crate::ops;
use crate::release::Release;
use crate::schema;
use crate::table::{Operation, Route, Table};
use crate::world::Doc;
use crate::{admin, openapi};

/// A request that has been read.
#[derive(Debug, Default)]
pub(crate) struct Request {
    pub(crate) method: String,
    /// Path with query.
    pub(crate) target: String,
    pub(crate) authorization: Option<String>,
    pub(crate) content_type: Option<String>,
    pub(crate) body: Vec<u8>,
}

/// What is written back.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) retry_after: Option<u32>,
    pub(crate) content_type: &'static str,
    pub(crate) body: Vec<u8>,
}

/// A request that has found its operation and is well-formed.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) op: &'static Operation,
    pub(crate) params: Vec<String>,
    query: Vec<(String, String)>,
    /// The fields that are set: null counts as absent.
    pub(crate) body: Doc,
    pub(crate) release: Release,
}

impl Call {
    pub(crate) fn query(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// The n-th path parameter.
    pub(crate) fn param(&self, n: usize) -> &str {
        self.params.get(n).map_or("", String::as_str)
    }

    pub(crate) fn text(&self, field: &str) -> Option<&str> {
        self.body.get(field)?.as_str()
    }

    pub(crate) fn flag(&self, field: &str, default: bool) -> bool {
        self.body.get(field).and_then(Value::as_bool).unwrap_or(default)
    }
}

/// Why a request is not served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) status: u16,
    pub(crate) message: String,
}

impl Refused {
    pub(crate) fn new(status: u16, message: impl Into<String>) -> Refused {
        Refused { status, message: message.into() }
    }

    pub(crate) fn bad(message: impl Into<String>) -> Refused {
        Refused::new(400, message)
    }

    pub(crate) fn gone(what: &str, id: &str) -> Refused {
        Refused::new(404, format!("{what} {id} is not found"))
    }
}

/// A status and a body.
pub(crate) type Reply = Result<(u16, Option<Value>), Refused>;

/// The connection is to be reset instead of an answer.
#[derive(Debug)]
pub(crate) struct Reset;

/// What all connections share.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) dct: Arc<Mutex<Dct>>,
    pub(crate) clock: Clock,
    pub(crate) key: Arc<Mutex<String>>,
}

impl Shared {
    /// The simulator as it is now, with all that was due by now done.
    pub(crate) fn now(&self) -> MutexGuard<'_, Dct> {
        // A panic under the lock is a bug of the simulator; what it left is still the best there is.
        let mut dct = self.dct.lock().unwrap_or_else(PoisonError::into_inner);
        dct.tick(self.clock.now());
        dct
    }

    pub(crate) async fn serve(&self, request: Request) -> Result<Response, Reset> {
        let (path, query) = request.target.split_once('?').unwrap_or((&request.target, ""));
        if path == "/dct/static/api-external.yaml" && request.method == "GET" {
            let release = self.now().config.release;
            let body = openapi::specification(Table::get(), release).into_bytes();
            return Ok(Response {
                status: 200,
                content_type: "application/yaml",
                body,
                ..Response::default()
            });
        }
        let expect = format!("apk {}", self.key.lock().unwrap_or_else(PoisonError::into_inner));
        let accepted = request.authorization.as_deref() == Some(expect.as_str());
        let below = ["/dct/v3/", "/v3/"].iter().find_map(|base| path.strip_prefix(base));
        let route = below.map(|rest| Table::get().route(&request.method, rest));
        let release = self.now().config.release;
        let (op, params) = match route {
            _ if !accepted => return Ok(error(401, "the API key is missing or not accepted")),
            Some(Route::To(op, params)) if release.has_path(&op.path) => (op, params),
            Some(Route::Method) => {
                return Ok(error(405, &format!("{} is not a method of {path}", request.method)));
            }
            _ => return Ok(error(404, &format!("{path} is not found"))),
        };
        let faults = self.now().faults.strike(&op.name);
        for fault in &faults {
            match fault {
                Fault::LoseRequest => return Err(Reset),
                Fault::Unauthorized => return Ok(error(401, "the API key has expired")),
                Fault::Status { code, retry_after } => {
                    let answer = error(*code, &format!("{} fails on order", op.name));
                    return Ok(Response { retry_after: *retry_after, ..answer });
                }
                Fault::Delay { ms } => self.clock.sleep(Duration::from_millis(*ms)).await,
                _ => {}
            }
        }
        let mut dct = self.now();
        let reply = call(op, params, query, &request, release).and_then(|call| ops::serve(&mut dct, &call));
        for fault in &faults {
            if let Fault::RivalAddress { address } = fault {
                admin::rival_address(&mut dct, address);
            }
        }
        // Whatever the operation did not leave to a job happened here and now.
        dct.save();
        let response = match reply {
            Ok((status, body)) => answer(&dct, op, status, body),
            Err(refused) => error(refused.status, &refused.message),
        };
        drop(dct);
        for fault in &faults {
            match fault {
                Fault::LoseAnswer => return Err(Reset),
                Fault::StatusAfter { code } => return Ok(error(*code, "the answer is lost on order")),
                _ => {}
            }
        }
        Ok(response)
    }
}

/// Checks a request against the table.
fn call(
    op: &'static Operation,
    params: Vec<String>,
    query: &str,
    request: &Request,
    release: Release,
) -> Result<Call, Refused> {
    let query = parse_query(query);
    for (name, value) in &query {
        let Some((_, of, _)) = op.query.iter().find(|(n, ..)| n == name) else {
            return Err(Refused::bad(format!("query parameter {name} is not known")));
        };
        if !schema::check_text(of, value) {
            return Err(Refused::bad(format!(
                "query parameter {name} is not a value of its type: {value:?}"
            )));
        }
    }
    if let Some((name, ..)) = op.query.iter().find(|(n, _, must)| *must && !query.iter().any(|(q, _)| q == n))
    {
        return Err(Refused::bad(format!("query parameter {name} is required")));
    }
    let mut body = Doc::new();
    if request.body.is_empty() {
        // Seen by the vendor: a delete without a body is not readable, though no field of it is required.
        if op.body_required || (op.body.is_some() && op.path.ends_with("/delete")) {
            return Err(Refused::new(422, "Input is not readable"));
        }
    } else {
        let json =
            request.content_type.as_deref().is_some_and(|t| t.split(';').next() == Some("application/json"));
        if !json {
            return Err(Refused::new(415, "Content-Type is not application/json"));
        }
        let value: Value =
            serde_json::from_slice(&request.body).map_err(|_| Refused::new(422, "Input is not readable"))?;
        let Some(model) = &op.body else {
            return if value == json!({}) || value.is_null() {
                Ok(Call { op, params, query, body, release })
            } else {
                Err(Refused::bad(format!("{} takes no body", op.name)))
            };
        };
        let wrong = schema::check_model(Table::get(), release, model, &value);
        if !wrong.is_empty() {
            return Err(Refused::bad(format!("{model}: {}", wrong.join("; "))));
        }
        body = crate::world::doc(value);
    }
    Ok(Call { op, params, query, body, release })
}

fn parse_query(query: &str) -> Vec<(String, String)> {
    let decode = |text: &str| {
        let text = text.replace('+', " ");
        percent_encoding::percent_decode_str(&text).decode_utf8_lossy().into_owned()
    };
    let pairs = query.split('&').filter(|p| !p.is_empty());
    pairs.map(|p| p.split_once('=').unwrap_or((p, ""))).map(|(n, v)| (decode(n), decode(v))).collect()
}

/// The answer as this release gives it, or a 500 that says how it is not in the interface table.
fn answer(dct: &Dct, op: &Operation, status: u16, body: Option<Value>) -> Response {
    let mut body = body;
    if let Some(body) = &mut body {
        strip(body, dct.config.release);
    }
    if dct.config.check_answers {
        let wrong = match (&op.answer, &body) {
            (Some(model), Some(body)) => schema::check_model(Table::get(), dct.config.release, model, body),
            (None, None) => Vec::new(),
            (Some(model), None) => vec![format!("there is no body, {model} is expected")],
            (None, Some(_)) => vec!["there is a body, none is expected".to_owned()],
        };
        if !wrong.is_empty() {
            return error(
                500,
                &format!("the simulator drifts from the interface: {}: {}", op.name, wrong.join("; ")),
            );
        }
    }
    match body {
        Some(body) => Response {
            status,
            content_type: "application/json",
            body: body.to_string().into_bytes(),
            retry_after: None,
        },
        None => Response { status, ..Response::default() },
    }
}

/// Takes away what this release does not have yet.
fn strip(value: &mut Value, release: Release) {
    match value {
        Value::Object(fields) => {
            fields.retain(|name, _| release.has(name));
            fields.values_mut().for_each(|v| strip(v, release));
        }
        Value::Array(items) => items.iter_mut().for_each(|v| strip(v, release)),
        _ => {}
    }
}

pub(crate) fn error(status: u16, message: &str) -> Response {
    let body = json!({ "message": message }).to_string().into_bytes();
    Response { status, content_type: "application/json", body, retry_after: None }
}
