//! The gRPC server: what is served, within which limits, and how it stops.
//!
//! One socket is shared by sidecars, kubelet and people, so a caller that is slow, silent or greedy must cost the
//! others nothing: streams per connection, header and message sizes are bounded, dead peers are found by keepalive,
//! and a lack of file descriptors pauses accepting instead of spinning or ending the server. A stop takes no new
//! connections, lets calls and the work behind them finish within a limit, and then leaves: what is cut off there is
//! what a crash would cut off, and recovery knows it.

use std::future::Future;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tonic::service::{Routes, RoutesBuilder};
use tonic::transport::Server;
use tonic::transport::server::Connected;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use super::calls::CallLayer;
use super::rpc::Rpc;
use super::socket::Socket;
use crate::proto::DESCRIPTOR;

/// The largest request. CSI asks for 4 MiB at least in neither direction; the sidecars' own limit is this.
pub const MAX_REQUEST: usize = 4 << 20;

/// Calls that one connection can have under way; more wait at the caller.
const MAX_STREAMS: u32 = 256;

/// Bytes of headers of one request.
const MAX_HEADERS: u32 = 16 << 10;

/// How long a connection may be silent before it is asked whether it lives, and how long it may take to say so.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(20));

/// How long accepting rests when there are no file descriptors left.
pub(crate) const REST: Duration = Duration::from_millis(200);

/// Adds server reflection (both versions that clients speak) and health to the services, and hands out the switch
/// of the latter.
pub fn with_reflection_and_health(services: &mut RoutesBuilder) -> Result<HealthReporter> {
    let reflection =
        || tonic_reflection::server::Builder::configure().register_encoded_file_descriptor_set(DESCRIPTOR);
    services.add_service(reflection().build_v1().context("the descriptor of the protocol is damaged")?);
    services.add_service(reflection().build_v1alpha().context("the descriptor of the protocol is damaged")?);
    let (reporter, health) = tonic_health::server::health_reporter();
    services.add_service(health);
    Ok(reporter)
}

/// Says the same health for the whole server and for each of its services.
pub async fn report_health(reporter: &HealthReporter, serving: bool) {
    let status = if serving { ServingStatus::Serving } else { ServingStatus::NotServing };
    let mut services: Vec<&str> = Rpc::public().map(Rpc::service).collect();
    services.dedup();
    services.push("");
    for service in services {
        reporter.set_service_status(service, status).await;
    }
}

/// Serves until `stop`, then waits up to `grace` for calls and then for `drain` (the work that calls have begun), and
/// removes the socket.
///
/// Fails only if it could not serve at all. Work that outlasts `grace` is logged and left to recovery.
pub async fn serve(
    socket: Socket,
    routes: Routes,
    calls: CallLayer,
    drain: impl Future<Output = ()>,
    stop: CancellationToken,
    grace: Duration,
) -> Result<()> {
    let finished = async {
        let served = on_socket(socket, routes, calls, stop.clone()).await;
        drain.await;
        served
    };
    within(grace, stop.clone(), finished).await
}

/// Waits for `finished`, but no longer than `grace` after `stop`.
pub async fn within(
    grace: Duration,
    stop: CancellationToken,
    finished: impl Future<Output = Result<()>>,
) -> Result<()> {
    let deadline = async {
        stop.cancelled().await;
        tokio::time::sleep(grace).await;
    };
    tokio::select! {
        served = finished => served,
        () = deadline => {
            tracing::warn!(limit = ?grace, "calls or their work outlasted the shutdown limit; the next start finishes or undoes them");
            Ok(())
        }
    }
}

/// Serves on a unix socket until `stop` and the end of the calls that run then, and removes the socket.
pub async fn on_socket(
    socket: Socket,
    routes: Routes,
    calls: CallLayer,
    stop: CancellationToken,
) -> Result<()> {
    on_socket_as(socket, routes, calls, stop, |stream| stream).await
}

/// As [`on_socket`], with something between each connection and the server.
pub async fn on_socket_as<IO>(
    socket: Socket,
    routes: Routes,
    calls: CallLayer,
    stop: CancellationToken,
    between: fn(UnixStream) -> IO,
) -> Result<()>
where
    IO: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
{
    let (listener, _name) = socket.into_parts();
    let listener = UnixListener::from_std(listener).context("cannot listen on the socket")?;
    let (send, connections) = mpsc::channel(1);
    let accepting = AbortOnDropHandle::new(tokio::spawn(accept(listener, send, stop.clone(), between)));
    let served = on_connections(connections, routes, calls, stop).await;
    drop(accepting);
    served
}

/// Serves on every connection that is sent, until `stop` and the end of the calls that run then.
pub async fn on_connections<IO>(
    connections: mpsc::Receiver<std::io::Result<IO>>,
    routes: Routes,
    calls: CallLayer,
    stop: CancellationToken,
) -> Result<()>
where
    IO: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
{
    Server::builder()
        .layer(calls)
        .max_concurrent_streams(MAX_STREAMS)
        .http2_max_header_list_size(MAX_HEADERS)
        .http2_keepalive_interval(Some(KEEPALIVE.0))
        .http2_keepalive_timeout(Some(KEEPALIVE.1))
        .add_routes(routes)
        .serve_with_incoming_shutdown(ReceiverStream::new(connections), stop.cancelled_owned())
        .await
        .context("the gRPC server ended")
}

async fn accept<IO: Send + 'static>(
    listener: UnixListener,
    send: mpsc::Sender<std::io::Result<IO>>,
    stop: CancellationToken,
    between: fn(UnixStream) -> IO,
) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => return,
        };
        match accepted {
            Ok((stream, _)) => {
                if send.send(Ok(between(stream))).await.is_err() {
                    return;
                }
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection; trying again");
                tokio::time::sleep(REST).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::csi::calls::REQUEST_ID;
    use crate::csi::status::status;
    use crate::metrics::Metrics;
    use crate::proto::csi::identity_client::IdentityClient;
    use crate::proto::csi::identity_server::{Identity, IdentityServer};
    use crate::proto::csi::*;
    use crate::volume::Error;
    use std::path::{Path, PathBuf};
    use std::sync::Arc;
    use tokio::sync::Notify;
    use tokio_util::task::TaskTracker;
    use tonic::transport::{Channel, Endpoint};
    use tonic::{Code, Request, Response, Status};

    /// Panics on one call, waits on another, fails on the third.
    struct Fake {
        begun: Arc<Notify>,
        go_on: Arc<Notify>,
    }

    #[tonic::async_trait]
    impl Identity for Fake {
        async fn get_plugin_info(
            &self,
            _: Request<GetPluginInfoRequest>,
        ) -> Result<Response<GetPluginInfoResponse>, Status> {
            panic!("the marker of a bug");
        }

        async fn get_plugin_capabilities(
            &self,
            _: Request<GetPluginCapabilitiesRequest>,
        ) -> Result<Response<GetPluginCapabilitiesResponse>, Status> {
            self.begun.notify_one();
            self.go_on.notified().await;
            Ok(Response::new(GetPluginCapabilitiesResponse::default()))
        }

        async fn probe(&self, _: Request<ProbeRequest>) -> Result<Response<ProbeResponse>, Status> {
            Err(status(Rpc::Probe, &Error::precondition("pool fast is gone")))
        }
    }

    struct Running {
        dir: tempfile::TempDir,
        metrics: Arc<Metrics>,
        begun: Arc<Notify>,
        go_on: Arc<Notify>,
        work: TaskTracker,
        stop: CancellationToken,
        ended: tokio::task::JoinHandle<Result<()>>,
    }

    impl Running {
        fn start(grace: Duration) -> Running {
            let dir = tempfile::tempdir().unwrap();
            let metrics = Metrics::new("d", "n");
            let (begun, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
            let (work, stop) = (TaskTracker::new(), CancellationToken::new());
            let socket = Socket::bind(&dir.path().join("csi.sock")).unwrap();
            let mut services = Routes::builder();
            services.add_service(IdentityServer::new(Fake { begun: begun.clone(), go_on: go_on.clone() }));
            let _health = with_reflection_and_health(&mut services).unwrap();
            let calls = CallLayer::new(metrics.clone(), stop.clone());
            let (tracked, stopped) = (work.clone(), stop.clone());
            let drain = async move {
                tracked.close();
                tracked.wait().await;
            };
            let ended =
                tokio::spawn(
                    async move { serve(socket, services.routes(), calls, drain, stopped, grace).await },
                );
            Running { dir, metrics, begun, go_on, work, stop, ended }
        }

        fn path(&self) -> PathBuf {
            self.dir.path().join("csi.sock")
        }

        async fn client(&self) -> IdentityClient<Channel> {
            IdentityClient::new(connect(&self.path()).await)
        }
    }

    async fn connect(path: &Path) -> Channel {
        Endpoint::from_shared(format!("unix://{}", path.display())).unwrap().connect().await.unwrap()
    }

    const LONG: Duration = Duration::from_secs(3600);

    #[tokio::test]
    async fn a_panic_fails_its_own_call_and_no_other() {
        let running = Running::start(LONG);
        let mut client = running.client().await;
        let panicked = client.get_plugin_info(GetPluginInfoRequest {}).await.unwrap_err();
        assert_eq!(panicked.code(), Code::Internal);
        assert!(!panicked.message().contains("marker"), "{panicked}");
        let failed = client.probe(ProbeRequest {}).await.unwrap_err();
        assert_eq!((failed.code(), failed.message()), (Code::FailedPrecondition, "pool fast is gone"));
        let text = running.metrics.scrape().await.unwrap();
        for sample in [
            "offshoot_rpc_calls_total{rpc=\"csi.v1.Identity/GetPluginInfo\",code=\"INTERNAL\"} 1\n",
            "offshoot_rpc_calls_total{rpc=\"csi.v1.Identity/Probe\",code=\"FAILED_PRECONDITION\"} 1\n",
            "offshoot_rpc_in_flight{rpc=\"csi.v1.Identity/Probe\"} 0\n",
        ] {
            assert!(text.contains(sample), "{text}");
        }
    }

    #[tokio::test]
    async fn a_call_carries_its_id_there_and_back() {
        let running = Running::start(LONG);
        let mut request = Request::new(ProbeRequest {});
        request.metadata_mut().insert(REQUEST_ID, "mine-1".parse().unwrap());
        let failed = running.client().await.probe(request).await.unwrap_err();
        assert_eq!(failed.metadata().get(REQUEST_ID).unwrap(), "mine-1");
    }

    #[tokio::test]
    async fn a_caller_that_hangs_up_is_counted_as_cancelled() {
        let running = Running::start(LONG);
        let mut client = running.client().await;
        let call =
            tokio::spawn(
                async move { client.get_plugin_capabilities(GetPluginCapabilitiesRequest {}).await },
            );
        running.begun.notified().await;
        call.abort();
        let sample = "{rpc=\"csi.v1.Identity/GetPluginCapabilities\",code=\"CANCELLED\"} 1\n";
        while !running.metrics.scrape().await.unwrap().contains(sample) {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_stop_waits_for_calls_and_their_work_and_takes_the_socket_away() {
        let running = Running::start(LONG);
        let mut client = running.client().await;
        let call =
            tokio::spawn(
                async move { client.get_plugin_capabilities(GetPluginCapabilitiesRequest {}).await },
            );
        running.begun.notified().await;
        let (hold, held) = tokio::sync::oneshot::channel::<()>();
        running.work.spawn(held);
        running.stop.cancel();
        assert!(!running.ended.is_finished());
        running.go_on.notify_one();
        call.await.unwrap().unwrap();
        tokio::task::yield_now().await;
        assert!(!running.ended.is_finished());
        hold.send(()).unwrap();
        let path = running.path();
        running.ended.await.unwrap().unwrap();
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_stop_does_not_wait_for_ever_nor_for_a_watcher() {
        let running = Running::start(Duration::ZERO);
        let mut client = running.client().await;
        let _call =
            tokio::spawn(
                async move { client.get_plugin_capabilities(GetPluginCapabilitiesRequest {}).await },
            );
        running.begun.notified().await;
        running.stop.cancel();
        running.ended.await.unwrap().unwrap();

        let running = Running::start(LONG);
        let channel = connect(&running.path()).await;
        let mut health = tonic_health::pb::health_client::HealthClient::new(channel);
        let service = String::new();
        let mut watch =
            health.watch(tonic_health::pb::HealthCheckRequest { service }).await.unwrap().into_inner();
        assert!(watch.message().await.unwrap().is_some());
        running.stop.cancel();
        assert_eq!(watch.message().await.unwrap_err().code(), Code::Unavailable);
        running.ended.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn silent_connections_do_not_keep_others_from_being_served() {
        let running = Running::start(LONG);
        let mut silent = Vec::new();
        for _ in 0..50 {
            silent.push(UnixStream::connect(running.path()).await.unwrap());
        }
        let failed = running.client().await.probe(ProbeRequest {}).await.unwrap_err();
        assert_eq!(failed.code(), Code::FailedPrecondition);
    }
}
