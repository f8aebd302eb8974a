//! The control interface: faults, time and the doings of others, for tests in other processes and for people with `curl`.
//!
//! It has no key, so it is for a loopback address or a socket only.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::admin::Admin;
use crate::faults::Rule;
use crate::sim::Sim;
use crate::world::Kind;

type Refusal = (StatusCode, String);
type Answer = Result<Json, Refusal>;

/// A JSON answer.
struct Json(Value);

impl IntoResponse for Json {
    fn into_response(self) -> Response {
        ([(header::CONTENT_TYPE, "application/json")], self.0.to_string()).into_response()
    }
}

/// A JSON body, whatever its content type: `curl -d` does not set the right one.
fn read<T: DeserializeOwned>(body: &Bytes) -> Result<T, Refusal> {
    serde_json::from_slice(body).map_err(|e| (StatusCode::BAD_REQUEST, e.to_string()))
}

/// The routes of the control interface of a simulator.
pub fn control(sim: Arc<Sim>) -> Router {
    Router::new()
        .route("/status", get(status))
        .route("/faults", get(faults).post(fault).delete(no_faults))
        .route("/traffic", get(traffic).delete(no_traffic))
        .route("/admin", post(admin))
        .route("/advance", post(advance))
        .route("/key", post(key))
        .route("/restart", post(restart))
        .route("/exports", get(exports))
        .route("/objects/{kind}", get(objects))
        .with_state(sim)
}

async fn status(State(sim): State<Arc<Sim>>) -> Json {
    let traffic = sim.traffic();
    Json(json!({"url": sim.url, "connections_open": traffic.open, "connections_most": traffic.most,
        "connections_ever": traffic.ever, "requests": traffic.log.len()}))
}

async fn faults(State(sim): State<Arc<Sim>>) -> Json {
    Json(json!(sim.faults()))
}

async fn fault(State(sim): State<Arc<Sim>>, body: Bytes) -> Answer {
    let rule: Rule = read(&body)?;
    if rule.op != "*" && crate::table::Table::get().operation(&rule.op).is_none() {
        return Err((
            StatusCode::BAD_REQUEST,
            format!("op {:?} is not an operation; name it as in the table", rule.op),
        ));
    }
    sim.fault(rule);
    Ok(Json(json!({})))
}

async fn no_faults(State(sim): State<Arc<Sim>>) -> Json {
    sim.clear_faults();
    Json(json!({}))
}

async fn traffic(State(sim): State<Arc<Sim>>) -> Json {
    Json(json!(sim.traffic()))
}

async fn no_traffic(State(sim): State<Arc<Sim>>) -> Json {
    sim.clear_traffic();
    Json(json!({}))
}

async fn admin(State(sim): State<Arc<Sim>>, body: Bytes) -> Answer {
    sim.admin(read::<Admin>(&body)?).map_err(|e| (StatusCode::CONFLICT, e))?;
    Ok(Json(json!({})))
}

#[derive(Deserialize)]
struct Advance {
    ms: u64,
}

async fn advance(State(sim): State<Arc<Sim>>, body: Bytes) -> Answer {
    let by: Advance = read(&body)?;
    sim.advance(Duration::from_millis(by.ms));
    Ok(Json(json!({})))
}

#[derive(Deserialize)]
struct Key {
    key: String,
}

async fn key(State(sim): State<Arc<Sim>>, body: Bytes) -> Answer {
    sim.set_key(&read::<Key>(&body)?.key);
    Ok(Json(json!({})))
}

async fn restart(State(sim): State<Arc<Sim>>) -> Answer {
    sim.restart().map_err(|e| (StatusCode::INTERNAL_SERVER_ERROR, e.to_string()))?;
    Ok(Json(json!({})))
}

async fn exports(State(sim): State<Arc<Sim>>) -> Json {
    let all = sim
        .exports()
        .into_iter()
        .map(|e| json!({"path": e.path, "dir": e.dir, "clients": e.clients, "nfs_version": e.nfs_version}));
    Json(all.collect())
}

async fn objects(State(sim): State<Arc<Sim>>, Path(kind): Path<String>) -> Answer {
    let kind: Kind =
        serde_json::from_value(json!(kind)).map_err(|e| (StatusCode::NOT_FOUND, e.to_string()))?;
    Ok(Json(Value::Array(sim.objects(kind))))
}
