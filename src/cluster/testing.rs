//! An API server in memory, for the tests of everything that talks to one.
//!
//! It keeps JSON objects and promises what the code here relies on: lists by pages from one state, continue tokens that
//! can expire, label and field selectors, resource versions and conflicts, preconditions of deletes, and that an object
//! with finalizers only gets a deletion time until the last of them is taken away. No controller runs in it: what kubelet
//! or a sidecar would do, a test does itself. Kinds are not checked against a schema.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::body::Body;
use http::{Method, Request, Response, StatusCode};
use kube::Client;
use serde_json::{Value, json};

/// Where an object is: the path of its kind (`/api/v1/pods`), its namespace (empty for none) and its name.
type Place = (String, String, String);

/// What a request is to fail with.
type Fault = (Method, String, u16);

/// The API server.
#[derive(Clone, Default)]
pub(crate) struct FakeApi {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    objects: BTreeMap<Place, Value>,
    version: u64,
    /// The rest of lists that were begun.
    lists: BTreeMap<String, Vec<Value>>,
    /// Groups that are not installed.
    absent: Vec<String>,
    faults: Vec<Fault>,
    log: Vec<String>,
    page: Option<usize>,
}

impl FakeApi {
    /// One with these objects, each with `apiVersion`, `kind` and `metadata.name`.
    pub(crate) fn with(objects: impl IntoIterator<Item = Value>) -> FakeApi {
        let api = FakeApi::default();
        objects.into_iter().for_each(|object| api.put(object));
        api
    }

    /// A client of it, whose namespace is `default`.
    pub(crate) fn client(&self) -> Client {
        let api = self.clone();
        let service = tower::service_fn(move |request: Request<kube::client::Body>| {
            let api = api.clone();
            async move {
                let (head, body) = request.into_parts();
                let body = axum::body::to_bytes(Body::new(body), usize::MAX).await.unwrap_or_default();
                let content = head.headers.get(http::header::CONTENT_TYPE);
                let content = content.and_then(|value| value.to_str().ok()).unwrap_or_default();
                let (code, answer) = api.answer(&head.method, &head.uri, content, &body);
                let text = match answer {
                    Value::String(text) => text,
                    other => other.to_string(),
                };
                Ok::<_, std::convert::Infallible>(
                    Response::builder().status(code).body(Body::from(text)).unwrap_or_default(),
                )
            }
        });
        Client::new(service, "default")
    }

    /// Puts an object in, or over another.
    pub(crate) fn put(&self, mut object: Value) {
        let mut state = self.state.lock().unwrap();
        let place = place_of(&object);
        state.stamp(&mut object);
        let uid = format!("00000000-0000-4000-8000-{:012x}", state.version);
        default(&mut object["metadata"], "uid", json!(uid));
        default(&mut object["metadata"], "creationTimestamp", json!("2026-01-01T00:00:00Z"));
        if !place.1.is_empty() {
            object["metadata"]["namespace"] = json!(place.1);
        }
        state.objects.insert(place, object);
    }

    /// The object, if it is there. `kind` is the plural, such as `pods`; a namespace may stand before the name.
    pub(crate) fn get(&self, kind: &str, name: &str) -> Option<Value> {
        let (namespace, name) = name.split_once('/').unwrap_or(("", name));
        let state = self.state.lock().unwrap();
        let found = state
            .objects
            .iter()
            .find(|((path, ns, n), _)| path.ends_with(&format!("/{kind}")) && ns == namespace && n == name);
        found.map(|(_, object)| object.clone())
    }

    /// The names of all objects of a kind, with their namespaces before them.
    pub(crate) fn names(&self, kind: &str) -> Vec<String> {
        let state = self.state.lock().unwrap();
        let of_kind = state.objects.keys().filter(|(path, ..)| path.ends_with(&format!("/{kind}")));
        of_kind
            .map(|(_, ns, name)| if ns.is_empty() { name.clone() } else { format!("{ns}/{name}") })
            .collect()
    }

    /// From now on, requests of this method whose path holds `path` fail with this code.
    pub(crate) fn fail(&self, method: Method, path: &str, code: u16) {
        self.state.lock().unwrap().faults.push((method, path.to_owned(), code));
    }

    /// No request fails any more.
    pub(crate) fn mend(&self) {
        self.state.lock().unwrap().faults.clear();
    }

    /// Takes a group's kinds away.
    pub(crate) fn uninstall(&self, group: &str) {
        self.state.lock().unwrap().absent.push(group.to_owned());
    }

    /// Pages have at most so many objects, whatever was asked for.
    pub(crate) fn pages_of(&self, count: usize) {
        self.state.lock().unwrap().page = Some(count);
    }

    /// The requests so far, as `GET /api/v1/pods`.
    pub(crate) fn log(&self) -> Vec<String> {
        self.state.lock().unwrap().log.clone()
    }

    fn answer(&self, method: &Method, uri: &http::Uri, content: &str, body: &[u8]) -> (StatusCode, Value) {
        let mut state = self.state.lock().unwrap();
        state.log.push(format!("{method} {}", uri.path()));
        let query = Query::parse(uri.query().unwrap_or_default());
        let fault =
            state.faults.iter().find(|(m, path, _)| m == method && uri.path().contains(path.as_str()));
        if let Some(&(_, _, code)) = fault {
            return failure(code, "InternalError", "a fault of the test");
        }
        if uri.path() == "/version" {
            return (StatusCode::OK, version());
        }
        if uri.path().ends_with("/log") {
            return (StatusCode::OK, json!("a line\n"));
        }
        let Some(target) = Target::parse(uri.path()) else {
            return failure(404, "NotFound", "no such path");
        };
        if state.absent.iter().any(|group| target.kind.contains(group.as_str())) {
            return failure(404, "NotFound", "404 page not found");
        }
        let object: Value = serde_json::from_slice(body).unwrap_or(Value::Null);
        match (method.as_str(), &target.name) {
            ("GET", None) => state.list(&target, &query),
            ("GET", Some(name)) => {
                state.found(&target.place(name), |object| (StatusCode::OK, object.clone()))
            }
            ("POST", None) => state.create(&target, object),
            ("PUT", Some(name)) => state.replace(target.place(name), object),
            ("PATCH", Some(name)) => state.patch(target.place(name), content, &object),
            ("DELETE", Some(name)) => state.delete(target.place(name), &object),
            _ => failure(405, "MethodNotAllowed", "the fake does not know this method here"),
        }
    }
}

impl State {
    fn stamp(&mut self, object: &mut Value) {
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
    }

    fn found(&self, place: &Place, then: impl FnOnce(&Value) -> (StatusCode, Value)) -> (StatusCode, Value) {
        match self.objects.get(place) {
            Some(object) => then(object),
            None => failure(404, "NotFound", &format!("{} {:?} not found", place.0, place.2)),
        }
    }

    fn list(&mut self, target: &Target, query: &Query) -> (StatusCode, Value) {
        let mut items = match query.get("continue") {
            Some(token) => match self.lists.remove(token) {
                Some(rest) => rest,
                None => return failure(410, "Expired", "the provided continue parameter is too old"),
            },
            None => {
                let of_kind = self.objects.iter().filter(|((path, ns, _), object)| {
                    *path == target.kind
                        && target.namespace.as_ref().is_none_or(|namespace| namespace == ns)
                        && query.selects(object)
                });
                of_kind.map(|(_, object)| object.clone()).collect()
            }
        };
        let limit = query.get("limit").and_then(|limit| limit.parse().ok()).unwrap_or(usize::MAX);
        let limit = limit.min(self.page.unwrap_or(usize::MAX)).max(1);
        let mut metadata = json!({ "resourceVersion": self.version.to_string() });
        if items.len() > limit {
            let token = format!("c{}", self.lists.len() + self.log.len());
            metadata["continue"] = json!(token);
            self.lists.insert(token, items.split_off(limit));
        }
        (StatusCode::OK, json!({ "kind": "List", "apiVersion": "v1", "metadata": metadata, "items": items }))
    }

    fn create(&mut self, target: &Target, mut object: Value) -> (StatusCode, Value) {
        let metadata = &mut object["metadata"];
        if metadata["name"].is_null() {
            let prefix = metadata["generateName"].as_str().unwrap_or_default();
            metadata["name"] = json!(format!("{prefix}{}", self.version));
        }
        if let Some(namespace) = &target.namespace {
            metadata["namespace"] = json!(namespace);
        }
        let place = target.place(metadata["name"].as_str().unwrap_or_default());
        if self.objects.contains_key(&place) {
            return failure(409, "AlreadyExists", &format!("{:?} already exists", place.2));
        }
        let uid = format!("00000000-0000-4000-9000-{:012x}", self.version);
        default(metadata, "uid", json!(uid));
        default(metadata, "creationTimestamp", json!("2026-01-01T00:00:00Z"));
        self.stamp(&mut object);
        self.objects.insert(place, object.clone());
        (StatusCode::CREATED, object)
    }

    fn replace(&mut self, place: Place, mut object: Value) -> (StatusCode, Value) {
        let Some(old) = self.objects.get(&place) else {
            return failure(404, "NotFound", &format!("{:?} not found", place.2));
        };
        let asked = &object["metadata"]["resourceVersion"];
        if !asked.is_null() && *asked != old["metadata"]["resourceVersion"] {
            return failure(409, "Conflict", "the object has been modified");
        }
        self.stamp(&mut object);
        self.settle(place, object)
    }

    fn patch(&mut self, place: Place, content: &str, patch: &Value) -> (StatusCode, Value) {
        let Some(old) = self.objects.get(&place) else {
            if content.contains("apply-patch") {
                let (kind, namespace) = (place.0, Some(place.1).filter(|namespace| !namespace.is_empty()));
                return self.create(&Target { kind, namespace, name: None }, patch.clone());
            }
            return failure(404, "NotFound", &format!("{:?} not found", place.2));
        };
        let mut object = old.clone();
        let asked = &patch["metadata"]["resourceVersion"];
        if !asked.is_null() && *asked != object["metadata"]["resourceVersion"] {
            return failure(409, "Conflict", "the object has been modified");
        }
        merge(&mut object, patch);
        self.stamp(&mut object);
        self.settle(place, object)
    }

    fn delete(&mut self, place: Place, options: &Value) -> (StatusCode, Value) {
        let Some(mut object) = self.objects.get(&place).cloned() else {
            return failure(404, "NotFound", &format!("{:?} not found", place.2));
        };
        for field in ["uid", "resourceVersion"] {
            let asked = &options["preconditions"][field];
            if !asked.is_null() && *asked != object["metadata"][field] {
                return failure(409, "Conflict", "the precondition does not hold");
            }
        }
        if object["metadata"]["deletionTimestamp"].is_null() {
            object["metadata"]["deletionTimestamp"] = json!("2026-01-02T00:00:00Z");
            self.stamp(&mut object);
        }
        self.settle(place, object)
    }

    /// Keeps the object, or lets it go where nothing holds it any more.
    fn settle(&mut self, place: Place, object: Value) -> (StatusCode, Value) {
        let held = object["metadata"]["finalizers"].as_array().is_some_and(|held| !held.is_empty());
        if held || object["metadata"]["deletionTimestamp"].is_null() {
            self.objects.insert(place, object.clone());
        } else {
            self.objects.remove(&place);
        }
        (StatusCode::OK, object)
    }
}

fn version() -> Value {
    json!({
        "major": "1", "minor": "36", "gitVersion": "v1.36.0", "gitCommit": "", "gitTreeState": "", "buildDate": "",
        "goVersion": "", "compiler": "", "platform": "",
    })
}

/// Merges as RFC 7396 says.
fn merge(object: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *object = patch.clone();
        return;
    };
    if !object.is_object() {
        *object = json!({});
    }
    for (key, value) in patch {
        if value.is_null() {
            object.as_object_mut().unwrap().remove(key);
        } else {
            merge(&mut object[key], value);
        }
    }
}

fn default(object: &mut Value, key: &str, value: Value) {
    if object[key].is_null() {
        object[key] = value;
    }
}

fn failure(code: u16, reason: &str, message: &str) -> (StatusCode, Value) {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure",
        "code": code, "reason": reason, "message": message,
    });
    (StatusCode::from_u16(code).unwrap(), status)
}

/// Where an object that says its kind belongs.
fn place_of(object: &Value) -> Place {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (version, kind) = (text(&object["apiVersion"]), text(&object["kind"]).to_lowercase());
    let root = if version.contains('/') { "apis" } else { "api" };
    let plural = match kind.as_str() {
        "networkpolicy" => "networkpolicies".to_owned(),
        kind if kind.ends_with("class") => format!("{kind}es"),
        kind => format!("{kind}s"),
    };
    let cluster =
        ["persistentvolumes", "volumesnapshotcontents", "volumegroupsnapshotcontents", "nodes", "namespaces"];
    let cluster = cluster.contains(&plural.as_str())
        || plural.ends_with("classes")
        || ["csinodes", "csidrivers"].contains(&plural.as_str());
    let namespace = match text(&object["metadata"]["namespace"]) {
        _ if cluster => String::new(),
        empty if empty.is_empty() => "default".to_owned(),
        namespace => namespace,
    };
    (format!("/{root}/{version}/{plural}"), namespace, text(&object["metadata"]["name"]))
}

/// What a path names. A subresource counts as its object.
struct Target {
    kind: String,
    namespace: Option<String>,
    name: Option<String>,
}

impl Target {
    fn parse(path: &str) -> Option<Target> {
        let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        let (root, rest) = match parts.as_slice() {
            ["api", version, rest @ ..] => (format!("/api/{version}"), rest),
            ["apis", group, version, rest @ ..] => (format!("/apis/{group}/{version}"), rest),
            _ => return None,
        };
        let (namespace, rest) = match rest {
            ["namespaces", namespace, rest @ ..] if !rest.is_empty() => (Some((*namespace).to_owned()), rest),
            rest => (None, rest),
        };
        let kind = format!("{root}/{}", rest.first()?);
        Some(Target { kind, namespace, name: rest.get(1).map(|name| (*name).to_owned()) })
    }

    fn place(&self, name: &str) -> Place {
        (self.kind.clone(), self.namespace.clone().unwrap_or_default(), name.to_owned())
    }
}

struct Query(Vec<(String, String)>);

impl Query {
    fn parse(text: &str) -> Query {
        let decode = |text: &str| {
            let mut bytes = Vec::new();
            let mut rest = text.bytes();
            while let Some(byte) = rest.next() {
                bytes.push(match byte {
                    b'+' => b' ',
                    b'%' => {
                        let hex = [rest.next().unwrap_or(b'0'), rest.next().unwrap_or(b'0')];
                        u8::from_str_radix(std::str::from_utf8(&hex).unwrap_or("0"), 16).unwrap_or(b'?')
                    }
                    byte => byte,
                });
            }
            String::from_utf8_lossy(&bytes).into_owned()
        };
        let pairs = text.split('&').filter_map(|pair| pair.split_once('='));
        Query(pairs.map(|(key, value)| (decode(key), decode(value))).collect())
    }

    fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(k, value)| k == key && !value.is_empty()).map(|(_, value)| value.as_str())
    }

    fn selects(&self, object: &Value) -> bool {
        let wanted = |selector: &str| -> Vec<(String, String)> {
            let pairs =
                self.get(selector).unwrap_or_default().split(',').filter_map(|pair| pair.split_once('='));
            pairs.map(|(key, value)| (key.to_owned(), value.trim_start_matches('=').to_owned())).collect()
        };
        let labels = &object["metadata"]["labels"];
        let field = |path: &str| path.split('.').fold(object, |value, part| &value[part]);
        wanted("labelSelector").iter().all(|(key, value)| labels[key] == json!(value))
            && wanted("fieldSelector").iter().all(|(path, value)| *field(path) == json!(value))
    }
}
