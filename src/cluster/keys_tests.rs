//! The Secret, the ConfigMap and enrolment, against an API server in memory that keeps versions.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::{Body, to_bytes};
use http::{Method, Request, Response};
use kube::Client;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

use super::enrol;
use super::secret::Keeper;
use crate::agent::enrol::Enrolment;
use crate::agent::listen;
use crate::csi::calls::CallLayer;
use crate::csi::server;
use crate::metrics::Metrics;
use crate::tls::vault::Vault;
use crate::tls::{Authority, Keys, Lifetime, Role, now};

const SECRET: &str = "/api/v1/namespaces/offshoot/secrets/offshoot-tls";
const MAP: &str = "/api/v1/namespaces/offshoot/configmaps/offshoot-ca";
const DAY: Duration = Duration::from_secs(86_400);

/// Objects by path, each with its version; and what it says of tokens.
#[derive(Clone, Default)]
struct Api(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    objects: BTreeMap<String, Value>,
    version: u64,
    /// The next writes that another one comes before.
    races: u32,
    writes: u32,
    review: Value,
}

impl Api {
    fn client(&self) -> Client {
        let api = self.clone();
        let service = tower::service_fn(move |request: Request<kube::client::Body>| {
            let api = api.clone();
            async move {
                let (head, body) = request.into_parts();
                let body = to_bytes(Body::new(body), usize::MAX).await.unwrap();
                let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
                let (code, answer) = api.0.lock().unwrap().answer(&head.method, head.uri.path(), body);
                let answer = Response::builder().status(code).body(Body::from(answer.to_string())).unwrap();
                Ok::<_, Infallible>(answer)
            }
        });
        Client::new(service, "offshoot")
    }

    fn data(&self, path: &str) -> Value {
        self.0.lock().unwrap().objects[path]["data"].clone()
    }

    fn keeper(&self, keys: &Arc<Keys>) -> Keeper {
        Keeper::new(self.client(), "offshoot", "offshoot-tls", "offshoot-ca", 30 * DAY, keys.clone())
    }
}

impl State {
    fn put(&mut self, path: String, mut object: Value) -> (u16, Value) {
        self.version += 1;
        self.writes += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        self.objects.insert(path, object.clone());
        (200, object)
    }

    fn answer(&mut self, method: &Method, path: &str, mut object: Value) -> (u16, Value) {
        let failed = |code: u16, reason: &str| {
            (
                code,
                json!({ "kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": reason }),
            )
        };
        match method.as_str() {
            "GET" => match self.objects.get(path) {
                Some(object) => (200, object.clone()),
                None => failed(404, "NotFound"),
            },
            "POST" if path.ends_with("/tokenreviews") => {
                object["status"] = self.review.clone();
                (201, object)
            }
            "POST" => {
                let path = format!("{path}/{}", object["metadata"]["name"].as_str().unwrap());
                if self.objects.contains_key(&path) {
                    failed(409, "AlreadyExists")
                } else {
                    self.put(path, object)
                }
            }
            _ => {
                if self.races > 0 {
                    self.races -= 1;
                    let there = self.objects[path].clone();
                    self.put(path.to_owned(), there);
                }
                if self.objects[path]["metadata"]["resourceVersion"] == object["metadata"]["resourceVersion"]
                {
                    self.put(path.to_owned(), object)
                } else {
                    failed(409, "Conflict")
                }
            }
        }
    }
}

fn keys(role: Role) -> Arc<Keys> {
    Arc::new(Keys::new(role, Metrics::new("d", "n")))
}

#[tokio::test]
async fn what_is_absent_or_empty_is_made_once_and_then_only_read() {
    for empty in [false, true] {
        let api = Api::default();
        if empty {
            let object = |name: &str| json!({ "metadata": { "name": name, "labels": { "kept": "yes" } } });
            let mut state = api.0.lock().unwrap();
            state.put(SECRET.to_owned(), object("offshoot-tls"));
            state.put(MAP.to_owned(), object("offshoot-ca"));
            state.races = 2;
        }
        let (first, second) = (keys(Role::Controller), keys(Role::Controller));
        api.keeper(&first).step().await.unwrap();
        let (secret, map) = (api.data(SECRET), api.data(MAP));
        assert!(map["ca.crt"].as_str().unwrap().contains("BEGIN CERTIFICATE"));
        assert_eq!(map.as_object().unwrap().len(), 1, "the ConfigMap holds what is trusted and no key");
        let writes = api.0.lock().unwrap().writes;
        // Another controller, and this one again: nothing to do.
        api.keeper(&second).step().await.unwrap();
        api.keeper(&first).step().await.unwrap();
        assert_eq!((api.data(SECRET), api.data(MAP), api.0.lock().unwrap().writes), (secret, map, writes));
        assert_eq!(first.lifetime(), second.lifetime());
        if empty {
            assert_eq!(api.0.lock().unwrap().objects[SECRET]["metadata"]["labels"]["kept"], "yes");
        }
    }
}

#[tokio::test]
async fn two_controllers_that_begin_together_end_with_the_same_authority() {
    let api = Api::default();
    let (first, second) = (keys(Role::Controller), keys(Role::Controller));
    let (a, b) = (api.keeper(&first), api.keeper(&second));
    let (a, b) = tokio::join!(a.step(), b.step());
    a.unwrap();
    b.unwrap();
    assert_eq!(first.lifetime(), second.lifetime());
}

#[tokio::test]
async fn half_a_secret_is_refused_and_left_as_it_is_and_a_changed_config_map_is_put_right() {
    let api = Api::default();
    let keys = keys(Role::Controller);
    api.keeper(&keys).step().await.unwrap();
    api.0.lock().unwrap().objects.get_mut(MAP).unwrap()["data"]["ca.crt"] = json!("somebody else's");
    api.keeper(&keys).step().await.unwrap();
    assert!(api.data(MAP)["ca.crt"].as_str().unwrap().contains("BEGIN CERTIFICATE"));

    api.0.lock().unwrap().objects.get_mut(SECRET).unwrap()["data"]
        .as_object_mut()
        .unwrap()
        .remove("authority.key");
    let before = api.data(SECRET);
    let error = format!("{:#}", api.keeper(&keys).step().await.unwrap_err());
    assert!(error.contains("is damaged") && error.contains("authority.key"), "{error}");
    assert_eq!(api.data(SECRET), before);
    assert!(keys.lifetime().is_some(), "what was in use stays in use");
}

/// A controller that signs, over TCP.
async fn controller(api: &Api) -> (Arc<Keys>, String, CancellationToken) {
    let keys = keys(Role::Controller);
    let keeper = api.keeper(&keys);
    keeper.step().await.unwrap();
    let stop = CancellationToken::new();
    let listener = listen::bind("127.0.0.1:0".parse().unwrap(), "").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (send, connections) = mpsc::channel(4);
    tokio::spawn(listen::accept_strangers(listener, keys.clone(), send, stop.clone()));
    let mut services = Routes::builder();
    let enrolment =
        enrol::Enrolment::new(api.client(), "offshoot", "offshoot-node", 30 * DAY, keeper.signer());
    services.add_service(enrol::server(enrolment));
    let calls = CallLayer::new(Metrics::new("d", "n"), stop.clone());
    tokio::spawn(server::on_connections(connections, services.routes(), calls, stop.clone()));
    (keys, address, stop)
}

fn review(node: &str) -> Value {
    json!({
        "authenticated": true,
        "audiences": ["offshoot"],
        "user": {
            "username": "system:serviceaccount:offshoot:offshoot-node",
            "extra": { "authentication.kubernetes.io/node-name": [node] }
        }
    })
}

#[tokio::test]
async fn a_node_gets_the_certificate_of_its_own_node_and_of_no_other() {
    let api = Api::default();
    let (_keys, address, _stop) = controller(&api).await;
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("ca.crt"), api.data(MAP)["ca.crt"].as_str().unwrap()).unwrap();
    std::fs::write(dir.path().join("token"), "t\n").unwrap();
    let node = keys(Role::node("a").unwrap());
    let enrolment = Enrolment { address: address.clone(), dir: dir.path().to_owned(), keys: node.clone() };

    // A pod on another node asks: what it is given does not make it this node.
    api.0.lock().unwrap().review = review("b");
    let error = format!("{:#}", enrolment.once().await.unwrap_err());
    assert!(error.contains("is for b.node.offshoot"), "{error}");
    api.0.lock().unwrap().review = json!({ "authenticated": false });
    let error = format!("{:#}", enrolment.once().await.unwrap_err());
    assert!(error.contains("PermissionDenied"), "{error}");
    assert!(node.lifetime().is_none());

    api.0.lock().unwrap().review = review("a");
    enrolment.once().await.unwrap();
    assert!(node.lifetime().unwrap().until <= now() + 30 * DAY);

    // Whoever is not vouched for by the published authorities is given no token.
    let foreign = Authority::make(Lifetime::starting(now(), DAY)).unwrap();
    std::fs::write(dir.path().join("ca.crt"), foreign.certificate()).unwrap();
    let error = format!("{:#}", enrolment.once().await.unwrap_err());
    assert!(error.contains("UnknownIssuer"), "{error}");
}

#[test]
fn the_parts_of_a_vault_are_those_that_a_secret_keeps() {
    let vault = Vault::make(now(), DAY).unwrap();
    let names: Vec<_> = vault.parts().into_keys().collect();
    assert_eq!(names, ["authority.crt", "authority.key", "ca.crt", "tls.crt", "tls.key"]);
}
