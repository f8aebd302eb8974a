//! The controller's side of enrolment: which node asks, and a certificate for that node.
//!
//! Anybody in the cluster can call this, so nothing that a caller says is believed. The API server is asked whose the token
//! is; the node's name is in its answer, bound to the pod that the token was made for, so that a pod gets a
//! certificate for the node it runs on and for no other. Each question costs the API server something, so there are only so many
//! at a time and in a second.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, TokenReviewStatus};
use kube::Client;
use kube::api::{Api, PostParams};
use tokio::time::Instant;
use tonic::{Request, Response, Status};

use super::secret::Signer;
use crate::csi::rpc::Rpc;
use crate::csi::status::{denied, status};
use crate::proto::agent::enrolment_server;
use crate::proto::agent::{EnrolRequest, EnrolResponse};
use crate::tls::{Lifetime, Role, now};
use crate::volume::{Error, Kind};

/// Whom the token must be for.
const AUDIENCE: &str = "offshoot";

/// Where the API server says which node a token's pod is on.
const NODE_NAME: &str = "authentication.kubernetes.io/node-name";

/// The longest token, in bytes. Those of service accounts have about a thousand.
const MAX_TOKEN: usize = 16 << 10;

/// Reviews in a second, and how many may come at once after a quiet time.
const REVIEWS: (f64, f64) = (10.0, 40.0);

/// The largest request, in bytes.
pub const MAX_ENROL: usize = 64 << 10;

/// Signs certificates for nodes.
pub struct Enrolment {
    reviews: Api<TokenReview>,
    signer: Signer,
    /// `system:serviceaccount:NAMESPACE:NAME` of the node agents.
    account: String,
    lasts: Duration,
    budget: Budget,
}

impl Enrolment {
    /// Signs with what `signer` has, for pods of the service account `account` in `namespace`.
    pub fn new(client: Client, namespace: &str, account: &str, lasts: Duration, signer: Signer) -> Enrolment {
        Enrolment {
            reviews: Api::all(client),
            signer,
            account: format!("system:serviceaccount:{namespace}:{account}"),
            lasts,
            budget: Budget::new(),
        }
    }

    /// The node that a token proves.
    async fn node(&self, token: String) -> Result<Role, Status> {
        let unavailable = |why: String| status(Rpc::Enrol, &Error::new(Kind::Unavailable, why));
        if token.is_empty() || token.len() > MAX_TOKEN {
            let why = format!("token: has to have 1 to {MAX_TOKEN} bytes");
            return Err(status(Rpc::Enrol, &Error::new(Kind::Invalid, why)));
        }
        if !self.budget.take() {
            return Err(unavailable("too many nodes enrol at once; call again".to_owned()));
        }
        let spec = TokenReviewSpec { token: Some(token), audiences: Some(vec![AUDIENCE.to_owned()]) };
        let review = TokenReview { spec, ..TokenReview::default() };
        let reviewed = self.reviews.create(&PostParams::default(), &review).await;
        // The answer holds the token: only its status is looked at, and an error's own text is left out.
        let found = reviewed.map(|review| review.status.unwrap_or_default()).map_err(|error| {
            tracing::warn!(error = brief(&error), "the API server does not say whose a token is");
            unavailable("the API server does not say whose the token is; call again".to_owned())
        })?;
        proven(&found, &self.account).map_err(|why| denied(&why))
    }
}

/// What an error of the API server is, without what was sent.
fn brief(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => format!("{} {}", status.code, status.reason),
        other => other.to_string(),
    }
}

/// The node that the API server's answer proves, for a pod of `account`.
fn proven(found: &TokenReviewStatus, account: &str) -> Result<Role, String> {
    if found.authenticated != Some(true) {
        return Err("the token is not valid: the API server does not know it, or it has ended".to_owned());
    }
    // An API server that knows no audiences says yes to tokens for anybody.
    if !found.audiences.iter().flatten().any(|audience| audience == AUDIENCE) {
        return Err(format!("the token is not for the audience {AUDIENCE}"));
    }
    let user = found.user.as_ref();
    if user.and_then(|user| user.username.as_deref()) != Some(account) {
        return Err("the token is of another service account than that of the node agents; see --node-service-account".to_owned());
    }
    let names = user.and_then(|user| user.extra.as_ref()).and_then(|extra| extra.get(NODE_NAME));
    match names.map(Vec::as_slice) {
        Some([node]) => Role::node(node).map_err(|error| error.to_string()),
        _ => Err("the token does not say on which node its pod is; it has to be a projected one, of Kubernetes 1.32 or later".to_owned()),
    }
}

#[tonic::async_trait]
impl enrolment_server::Enrolment for Enrolment {
    async fn enrol(&self, request: Request<EnrolRequest>) -> Result<Response<EnrolResponse>, Status> {
        let EnrolRequest { signing_request, token } = request.into_inner();
        let Some(vault) = self.signer.borrow().clone() else {
            let why = "the controller has no authority yet; call again";
            return Err(status(Rpc::Enrol, &Error::new(Kind::Unavailable, why)));
        };
        let role = self.node(token).await?;
        let lifetime = Lifetime::starting(now(), self.lasts);
        let certificate = vault
            .sign(&signing_request, &role, lifetime)
            .map_err(|error| status(Rpc::Enrol, &Error::new(Kind::Invalid, error.to_string())))?;
        tracing::info!(name = %role, "a certificate was signed");
        Ok(Response::new(EnrolResponse { certificate, authorities: vault.trusted() }))
    }
}

/// So many in a second, and a few more after a quiet time.
struct Budget(Mutex<(f64, Instant)>);

impl Budget {
    fn new() -> Budget {
        Budget(Mutex::new((REVIEWS.1, Instant::now())))
    }

    fn take(&self) -> bool {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (left, since) = *state;
        let left = (left + since.elapsed().as_secs_f64() * REVIEWS.0).min(REVIEWS.1);
        let enough = left >= 1.0;
        *state = (if enough { left - 1.0 } else { left }, Instant::now());
        enough
    }
}

/// The service, with its limit.
pub fn server(enrolment: Enrolment) -> enrolment_server::EnrolmentServer<Enrolment> {
    enrolment_server::EnrolmentServer::from_arc(Arc::new(enrolment)).max_decoding_message_size(MAX_ENROL)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const ACCOUNT: &str = "system:serviceaccount:offshoot:offshoot-node";

    #[test]
    fn a_certificate_is_for_the_node_that_the_api_server_names_and_for_no_other() {
        fn check(status: serde_json::Value, expect: Result<&str, &str>) {
            let status: TokenReviewStatus = serde_json::from_value(status).unwrap();
            match (proven(&status, ACCOUNT), expect) {
                (Ok(role), Ok(name)) => assert_eq!(role.name(), name),
                (Err(error), Err(text)) => assert!(error.contains(text), "{error}"),
                (found, expect) => panic!("{found:?} and not {expect:?}"),
            }
        }
        let good = json!({
            "authenticated": true,
            "audiences": ["offshoot"],
            "user": {
                "username": ACCOUNT,
                "extra": {
                    "authentication.kubernetes.io/node-name": ["worker-1"],
                    "authentication.kubernetes.io/pod-name": ["offshoot-node-x"]
                }
            }
        });
        let but = |path: &str, value: serde_json::Value| {
            let mut changed = good.clone();
            *changed.pointer_mut(path).unwrap() = value;
            changed
        };
        check(good.clone(), Ok("worker-1.node.offshoot"));
        check(but("/authenticated", json!(false)), Err("not valid"));
        check(json!({}), Err("not valid"));
        check(but("/audiences", json!(["https://kubernetes.default.svc"])), Err("audience"));
        check(but("/audiences", json!(null)), Err("audience"));
        check(
            but("/user/username", json!("system:serviceaccount:other:offshoot-node")),
            Err("another service account"),
        );
        check(but("/user/username", json!("system:node:worker-1")), Err("another service account"));
        check(but("/user/extra", json!({})), Err("on which node"));
        let names = "/user/extra/authentication.kubernetes.io~1node-name";
        check(but(names, json!(["a", "b"])), Err("on which node"));
        check(but(names, json!([])), Err("on which node"));
        check(but(names, json!(["A"])), Err("cannot be the name of a node"));
        check(but(names, json!(["x/../controller.offshoot"])), Err("cannot be the name of a node"));
    }

    #[tokio::test(start_paused = true)]
    async fn questions_to_the_api_server_are_limited() {
        let budget = Budget::new();
        let burst = std::iter::from_fn(|| budget.take().then_some(())).count();
        assert_eq!(burst, 40);
        tokio::time::advance(Duration::from_secs(1)).await;
        let later = std::iter::from_fn(|| budget.take().then_some(())).count();
        assert_eq!(later, 10);
    }
}
