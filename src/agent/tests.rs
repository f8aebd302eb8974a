//! Who gets in, over real handshakes in one process: the listener, the admission and the router's connections.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::service::Routes;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Response, Status};

use super::{Peer, listen};
use crate::csi::calls::CallLayer;
use crate::csi::server;
use crate::metrics::Metrics;
use crate::proto::csi::identity_client::IdentityClient;
use crate::proto::csi::identity_server::{Identity, IdentityServer};
use crate::proto::csi::*;
use crate::router::secure::Secure;
use crate::router::{AgentAddress, Connect as _};
use crate::tls::{Authority, Bundle, Keys, Lifetime, Role, now};

const DAY: Duration = Duration::from_secs(86_400);

/// Says who called.
struct Mirror;

#[tonic::async_trait]
impl Identity for Mirror {
    async fn get_plugin_info(
        &self,
        request: Request<GetPluginInfoRequest>,
    ) -> Result<Response<GetPluginInfoResponse>, Status> {
        let name = format!("{:?}", request.extensions().get::<Peer>());
        Ok(Response::new(GetPluginInfoResponse { name, ..GetPluginInfoResponse::default() }))
    }

    async fn get_plugin_capabilities(
        &self,
        _: Request<GetPluginCapabilitiesRequest>,
    ) -> Result<Response<GetPluginCapabilitiesResponse>, Status> {
        tokio::time::sleep(Duration::from_millis(20)).await;
        Ok(Response::new(GetPluginCapabilitiesResponse::default()))
    }

    async fn probe(&self, _: Request<ProbeRequest>) -> Result<Response<ProbeResponse>, Status> {
        Ok(Response::new(ProbeResponse::default()))
    }
}

struct Agent {
    keys: Arc<Keys>,
    addr: SocketAddr,
    _stop: DropGuard,
}

impl Agent {
    async fn start(keys: Arc<Keys>) -> Agent {
        let stop = CancellationToken::new();
        let listener = listen::bind("[::1]:0".parse().unwrap(), "").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (send, connections) = mpsc::channel(4);
        tokio::spawn(listen::accept(listener, keys.clone(), send, stop.clone()));
        let mut services = Routes::builder();
        services.add_service(IdentityServer::new(Mirror));
        let calls = CallLayer::new(Metrics::new("d", "n"), stop.clone()).admitting(Peer::admit);
        tokio::spawn(server::on_connections(connections, services.routes(), calls, stop.clone()));
        Agent { keys, addr, _stop: stop.drop_guard() }
    }

    async fn new(authority: &Authority, node: &str) -> Agent {
        Agent::start(keys(authority, &role(node))).await
    }

    fn address(&self, node: &str) -> AgentAddress {
        AgentAddress { node: node.to_owned(), address: self.addr.to_string() }
    }
}

fn role(node: &str) -> Role {
    Role::node(node).unwrap()
}

fn authority() -> Authority {
    Authority::make(Lifetime::starting(now(), 10 * DAY)).unwrap()
}

fn bundle(authority: &Authority, role: &Role) -> Bundle {
    authority.issue(role, Lifetime::starting(now(), DAY), authority.certificate().to_owned()).unwrap()
}

fn keys_of(role: &Role, bundle: &Bundle) -> Arc<Keys> {
    let keys = Arc::new(Keys::new(role.clone(), Metrics::new("d", "n")));
    keys.replace(bundle).unwrap();
    keys
}

fn keys(authority: &Authority, role: &Role) -> Arc<Keys> {
    keys_of(role, &bundle(authority, role))
}

/// One connection with those keys, to whoever is at the address and proves to be the node.
async fn connect(keys: &Arc<Keys>, agent: AgentAddress) -> Result<IdentityClient<Channel>, String> {
    let connect = Secure::new(keys.clone());
    let connector = tower::service_fn(move |_| {
        let (connect, agent) = (connect.clone(), agent.clone());
        async move { connect.connect(&agent).await.map(TokioIo::new) }
    });
    let endpoint = Endpoint::from_static("http://agent");
    let channel = endpoint.connect_with_connector(connector).await.map_err(|error| format!("{error:?}"))?;
    Ok(IdentityClient::new(channel))
}

/// What a call gets: the name of the peer, the code, or why there is no connection.
async fn call(keys: &Arc<Keys>, agent: AgentAddress) -> String {
    match connect(keys, agent).await {
        Err(error) => error,
        Ok(mut client) => match client.get_plugin_info(GetPluginInfoRequest {}).await {
            Ok(answer) => answer.into_inner().name,
            // TLS 1.3 tells a client that it is refused after the client's side of the handshake.
            Err(status) => format!("{:?} {status:?}", status.code()),
        },
    }
}

#[tokio::test]
async fn the_controller_is_let_in_and_a_node_is_refused_all_but_reading() {
    let authority = authority();
    let agent = Agent::new(&authority, "a").await;
    let controller = keys(&authority, &Role::Controller);
    assert_eq!(call(&controller, agent.address("a")).await, "Some(Controller)");
    let refused = call(&keys(&authority, &role("b")), agent.address("a")).await;
    assert!(refused.starts_with(&format!("{:?}", Code::PermissionDenied)), "{refused}");
    // Not even its own key is worth more on the same node.
    let refused = call(&agent.keys, agent.address("a")).await;
    assert!(refused.starts_with("PermissionDenied"), "{refused}");
}

#[tokio::test]
async fn nobody_without_a_certificate_that_is_trusted_and_valid_gets_in() {
    let ours = authority();
    let agent = Agent::new(&ours, "a").await;

    let foreign = authority();
    let mut stolen_trust = bundle(&foreign, &Role::Controller);
    // Trusts our agents, but is signed by another: refused by the agent.
    stolen_trust.authorities += ours.certificate();
    let answer = call(&keys_of(&Role::Controller, &stolen_trust), agent.address("a")).await;
    assert!(answer.contains("UnknownCA") || answer.contains("DecryptError"), "{answer}");

    let past = Lifetime { from: now() - 2 * DAY, until: now() - Duration::from_secs(1) };
    let expired = ours.issue(&Role::Controller, past, ours.certificate().to_owned()).unwrap();
    let answer = call(&keys_of(&Role::Controller, &expired), agent.address("a")).await;
    assert!(answer.contains("CertificateExpired"), "{answer}");

    // No certificate at all: the handshake is not finished by the agent.
    let roots = crate::tls::client_trusting(ours.certificate()).unwrap();
    let stream = TcpStream::connect(agent.addr).await.unwrap();
    let name = role("a").name().try_into().unwrap();
    let mut stream = tokio_rustls::TlsConnector::from(roots).connect(name, stream).await.unwrap();
    let _ = stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    let error = stream.read(&mut [0; 64]).await.unwrap_err().to_string();
    assert!(error.contains("CertificateRequired"), "{error}");

    // No TLS at all.
    let mut plain = TcpStream::connect(agent.addr).await.unwrap();
    plain.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer).await;
    assert!(!answer.windows(4).any(|bytes| bytes == b"HTTP"), "{answer:?}");
}

#[tokio::test]
async fn an_agent_cannot_pose_as_another_nor_as_one_of_another_authority() {
    let ours = authority();
    let controller = keys(&ours, &Role::Controller);
    let a = Agent::new(&ours, "a").await;
    let answer = call(&controller, a.address("b")).await;
    assert!(answer.contains("NotValidForName"), "{answer}");
    let foreign = Agent::new(&authority(), "b").await;
    let answer = call(&controller, foreign.address("b")).await;
    assert!(answer.contains("UnknownIssuer"), "{answer}");
    // A controller's certificate does not make an agent.
    let posing = Agent::start(keys(&ours, &Role::Controller)).await;
    let answer = call(&controller, posing.address("b")).await;
    assert!(answer.contains("NotValidForName"), "{answer}");
}

#[tokio::test]
async fn what_does_not_fit_together_leaves_the_old_keys_in_use() {
    let authority = authority();
    let agent = Agent::new(&authority, "a").await;
    let controller = keys(&authority, &Role::Controller);
    let good = bundle(&authority, &role("a"));
    let check = |bundle: Bundle, expect: &str| {
        let error = agent.keys.replace(&bundle).unwrap_err().to_string();
        assert!(error.contains(expect), "{error}");
    };
    let other = bundle(&authority, &role("a"));
    check(Bundle { key: other.key.clone(), ..good.clone() }, "not that of the certificate");
    check(bundle(&authority, &role("b")), "is for b.node.offshoot, and this is a.node.offshoot");
    check(Bundle { authorities: self::authority().certificate().to_owned(), ..good.clone() }, "vouch");
    check(Bundle { authorities: String::new(), ..good.clone() }, "no authority");
    check(Bundle { certificate: String::new(), ..good.clone() }, "empty");
    let half = good.certificate[..good.certificate.len() / 2].to_owned();
    check(Bundle { certificate: half, ..good }, "PEM");
    assert_eq!(call(&controller, agent.address("a")).await, "Some(Controller)");
}

#[tokio::test]
async fn keys_and_authorities_are_exchanged_while_calls_run_and_none_fails() {
    let (old, new) = (authority(), authority());
    let agent = Agent::new(&old, "a").await;
    let controller = keys(&old, &Role::Controller);
    let done = CancellationToken::new();
    let calls: Vec<_> = (0..50)
        .map(|n| {
            let (controller, address, done) = (controller.clone(), agent.address("a"), done.clone());
            tokio::spawn(async move {
                let mut client = connect(&controller, address.clone()).await.unwrap();
                let mut count = 0;
                while !done.is_cancelled() {
                    client.get_plugin_capabilities(GetPluginCapabilitiesRequest {}).await.unwrap();
                    // Some keep their connection over the exchange, some make new ones all the time.
                    if n % 2 == 0 {
                        client = connect(&controller, address.clone()).await.unwrap();
                    }
                    count += 1;
                }
                count
            })
        })
        .collect();
    let both = format!("{}{}", old.certificate(), new.certificate());
    let lifetime = Lifetime::starting(now(), DAY);
    // First trusted, then signing, then alone: in any order of the two processes within a step.
    let steps: [(&Authority, &str); 3] = [(&old, &both), (&new, &both), (&new, new.certificate())];
    for (signs, trusted) in steps {
        for (keys, role) in [(&agent.keys, role("a")), (&controller, Role::Controller)] {
            tokio::time::sleep(Duration::from_millis(100)).await;
            keys.replace(&signs.issue(&role, lifetime, trusted.to_owned()).unwrap()).unwrap();
        }
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    done.cancel();
    for call in calls {
        assert!(call.await.unwrap() > 0);
    }
    // What the old authority signed is worth nothing now.
    let mut left = bundle(&old, &Role::Controller);
    left.authorities += new.certificate();
    let answer = call(&keys_of(&Role::Controller, &left), agent.address("a")).await;
    assert!(answer.contains("UnknownCA") || answer.contains("DecryptError"), "{answer}");
}

#[tokio::test]
async fn slow_handshakes_stop_nobody_else_and_are_bounded() {
    let authority = authority();
    let agent = Agent::new(&authority, "a").await;
    let controller = keys(&authority, &Role::Controller);
    let mut silent = Vec::new();
    for _ in 0..40 {
        silent.push(TcpStream::connect(agent.addr).await.unwrap());
    }
    assert_eq!(call(&controller, agent.address("a")).await, "Some(Controller)");
    // More than one address may have are closed at once, and the agent goes on.
    let mut more = Vec::new();
    for _ in 0..40 {
        more.push(TcpStream::connect(agent.addr).await.unwrap());
    }
    let last = more.last_mut().unwrap();
    assert_eq!(last.read(&mut [0; 1]).await.unwrap_or(0), 0);
    drop((silent, more));
    while call(&controller, agent.address("a")).await != "Some(Controller)" {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn an_agent_without_a_certificate_yet_closes_connections_and_serves_when_it_has_one() {
    let authority = authority();
    let agent = Agent::start(Arc::new(Keys::new(role("a"), Metrics::new("d", "n")))).await;
    let controller = keys(&authority, &Role::Controller);
    assert_ne!(call(&controller, agent.address("a")).await, "Some(Controller)");
    agent.keys.replace(&bundle(&authority, &role("a"))).unwrap();
    assert_eq!(call(&controller, agent.address("a")).await, "Some(Controller)");
}
