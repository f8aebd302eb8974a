//! How kubelet hears of this driver: what the sidecar node-driver-registrar does, without the sidecar.
//!
//! Kubelet watches a directory. It dials each socket that appears in it, asks `GetInfo`, calls `NodeGetInfo` on the CSI
//! socket, and says how that went; when the socket disappears it forgets the driver. Where `NodeGetInfo` failed it has
//! noted the socket as known and never asks again: the socket has to be made anew, which the sidecar does by ending and
//! being restarted. A kubelet that restarts looks through the directory. Files whose name begins with a dot it passes over,
//! so a socket in the making is not seen.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::{Request, Response, Status};

use super::authority::Named;
use crate::csi::calls::CallLayer;
use crate::csi::server;
use crate::csi::socket::Socket;
use crate::metrics::Metrics;
use crate::proto::kubelet::registration_server::{Registration, RegistrationServer};
use crate::proto::kubelet::{InfoRequest, PluginInfo, RegistrationStatus, RegistrationStatusResponse};

/// What kubelet calls a plugin for storage.
const PLUGIN: &str = "CSIPlugin";

/// The version that kubelet compares; it is not that of the CSI specification in `proto/`.
const VERSION: &str = "1.0.0";

/// How long to wait before the first and between later attempts where kubelet could not register us.
const RETRY: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(60));

/// How often to see whether the socket is still there.
const LOOK: Duration = Duration::from_secs(15);

/// Who registers where.
#[derive(Debug, Clone)]
pub struct Plugin {
    /// The driver's name.
    pub driver: String,
    /// The CSI socket, as kubelet sees it.
    pub endpoint: PathBuf,
    /// Kubelet's directory, as we see it.
    pub directory: PathBuf,
}

impl Plugin {
    /// The socket that kubelet finds.
    pub fn socket(&self) -> PathBuf {
        self.directory.join(format!("{}-reg.sock", self.driver))
    }
}

/// Registers until `stop`, again whenever kubelet could not or the socket is gone.
///
/// Fails where the first socket cannot be made: a wrong directory is an error of configuration. Later failures are
/// tried again.
pub async fn run(plugin: Plugin, metrics: Arc<Metrics>, stop: CancellationToken) -> Result<()> {
    let mut socket = Some(Socket::bind(&plugin.socket())?);
    let mut wait = RETRY.0;
    while !stop.is_cancelled() {
        let bound = match socket.take().map_or_else(|| Socket::bind(&plugin.socket()), Ok) {
            Ok(bound) => bound,
            Err(error) => {
                tracing::warn!(
                    error = format!("{error:#}"),
                    "cannot offer this driver to kubelet; trying again"
                );
                stop.run_until_cancelled(tokio::time::sleep(RETRY.1)).await;
                continue;
            }
        };
        match offer(&plugin, bound, metrics.clone(), &stop).await? {
            Ended::Refused { after_success } => {
                if after_success {
                    wait = RETRY.0;
                }
                stop.run_until_cancelled(tokio::time::sleep(wait)).await;
                wait = (wait * 2).min(RETRY.1);
            }
            Ended::Gone => tracing::warn!(
                socket = %plugin.socket().display(),
                "the socket for kubelet was removed by somebody else; made anew"
            ),
            Ended::Stopped => {}
        }
    }
    Ok(())
}

/// Why a socket is not served any longer.
enum Ended {
    Stopped,
    Gone,
    Refused { after_success: bool },
}

/// Serves one socket until it has to be another one.
async fn offer(
    plugin: &Plugin,
    socket: Socket,
    metrics: Arc<Metrics>,
    stop: &CancellationToken,
) -> Result<Ended> {
    let (told, mut hear) = mpsc::channel(4);
    let mut services = Routes::builder();
    services.add_service(RegistrationServer::new(Registrar { plugin: plugin.clone(), told }));
    let over = stop.child_token();
    let calls = CallLayer::new(metrics, over.clone());
    let served = server::on_socket_as(socket, services.routes(), calls, over.clone(), Named::new);
    tokio::pin!(served);
    let path = plugin.socket();
    let mut after_success = false;
    let ended = loop {
        tokio::select! {
            served = &mut served => {
                served?;
                return Ok(Ended::Stopped);
            }
            status = hear.recv() => match status {
                Some(Ok(())) => {
                    after_success = true;
                    tracing::info!(driver = plugin.driver, "kubelet has registered the driver");
                }
                Some(Err(error)) => {
                    tracing::warn!(driver = plugin.driver, error, "kubelet could not register the driver; offered again");
                    break Ended::Refused { after_success };
                }
                None => break Ended::Stopped,
            },
            () = tokio::time::sleep(LOOK) => {
                // A directory that cannot be read says nothing.
                if !path.try_exists().unwrap_or(true) {
                    break Ended::Gone;
                }
            }
        }
    };
    // Kubelet's call is answered, and the socket removed, before the next one is made.
    over.cancel();
    let limit = Duration::from_secs(5);
    if tokio::time::timeout(limit, served).await.is_err() {
        tracing::debug!("kubelet keeps its connection");
    }
    Ok(ended)
}

/// The service that kubelet calls.
struct Registrar {
    plugin: Plugin,
    told: mpsc::Sender<Result<(), String>>,
}

#[tonic::async_trait]
impl Registration for Registrar {
    async fn get_info(&self, _: Request<InfoRequest>) -> Result<Response<PluginInfo>, Status> {
        Ok(Response::new(PluginInfo {
            r#type: PLUGIN.to_owned(),
            name: self.plugin.driver.clone(),
            endpoint: self.plugin.endpoint.to_string_lossy().into_owned(),
            supported_versions: vec![VERSION.to_owned()],
        }))
    }

    async fn notify_registration_status(
        &self,
        request: Request<RegistrationStatus>,
    ) -> Result<Response<RegistrationStatusResponse>, Status> {
        let RegistrationStatus { plugin_registered, error } = request.into_inner();
        let status = if plugin_registered { Ok(()) } else { Err(error) };
        // Full or closed: what was said before it is being acted upon.
        let _ = self.told.try_send(status);
        Ok(Response::new(RegistrationStatusResponse {}))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::csi::identity_client::IdentityClient;
    use crate::proto::csi::identity_server::{Identity, IdentityServer};
    use crate::proto::csi::node_client::NodeClient;
    use crate::proto::csi::node_server::{Node, NodeServer};
    use crate::proto::csi::*;
    use crate::proto::kubelet::registration_client::RegistrationClient;
    use std::os::unix::fs::MetadataExt as _;
    use std::path::Path;
    use std::sync::atomic::{AtomicU32, Ordering};
    use tonic::transport::{Channel, Endpoint};

    /// The driver as kubelet sees it: NodeGetInfo fails as often as it is told to.
    #[derive(Clone, Default)]
    struct Driver {
        failures: Arc<AtomicU32>,
    }

    #[tonic::async_trait]
    impl Identity for Driver {
        async fn get_plugin_info(
            &self,
            _: Request<GetPluginInfoRequest>,
        ) -> Result<Response<GetPluginInfoResponse>, Status> {
            let name = "csi.offshoot.dev".to_owned();
            Ok(Response::new(GetPluginInfoResponse { name, ..GetPluginInfoResponse::default() }))
        }

        async fn get_plugin_capabilities(
            &self,
            _: Request<GetPluginCapabilitiesRequest>,
        ) -> Result<Response<GetPluginCapabilitiesResponse>, Status> {
            Ok(Response::new(Default::default()))
        }

        async fn probe(&self, _: Request<ProbeRequest>) -> Result<Response<ProbeResponse>, Status> {
            Ok(Response::new(Default::default()))
        }
    }

    macro_rules! not_asked {
        ($($method:ident($request:ident) -> $response:ident;)+) => {
            #[tonic::async_trait]
            impl Node for Driver {
                $(async fn $method(&self, _: Request<$request>) -> Result<Response<$response>, Status> {
                    Ok(Response::new(Default::default()))
                })+

                async fn node_get_info(
                    &self,
                    _: Request<NodeGetInfoRequest>,
                ) -> Result<Response<NodeGetInfoResponse>, Status> {
                    let left = |n: u32| n.checked_sub(1);
                    if self.failures.fetch_update(Ordering::SeqCst, Ordering::SeqCst, left).is_ok() {
                        return Err(Status::unavailable("starting"));
                    }
                    let node_id = "a".to_owned();
                    Ok(Response::new(NodeGetInfoResponse { node_id, ..NodeGetInfoResponse::default() }))
                }
            }
        };
    }

    not_asked! {
        node_stage_volume(NodeStageVolumeRequest) -> NodeStageVolumeResponse;
        node_unstage_volume(NodeUnstageVolumeRequest) -> NodeUnstageVolumeResponse;
        node_publish_volume(NodePublishVolumeRequest) -> NodePublishVolumeResponse;
        node_unpublish_volume(NodeUnpublishVolumeRequest) -> NodeUnpublishVolumeResponse;
        node_get_volume_stats(NodeGetVolumeStatsRequest) -> NodeGetVolumeStatsResponse;
        node_get_volume_health(NodeGetVolumeHealthRequest) -> NodeGetVolumeHealthResponse;
        node_get_storage_health(NodeGetStorageHealthRequest) -> NodeGetStorageHealthResponse;
        node_expand_volume(NodeExpandVolumeRequest) -> NodeExpandVolumeResponse;
        node_get_capabilities(NodeGetCapabilitiesRequest) -> NodeGetCapabilitiesResponse;
    }

    async fn dial(path: &Path) -> Option<Channel> {
        Endpoint::from_shared(format!("unix://{}", path.display())).unwrap().connect().await.ok()
    }

    /// Kubelet's side of one socket: asks as kubelet asks, in its order and with its limits, and remembers a socket by its inode,
    /// since one that it knows it does not ask again.
    #[derive(Default)]
    struct Kubelet {
        known: Option<u64>,
        registered: bool,
    }

    impl Kubelet {
        /// One look at the directory: whether something was new.
        async fn look(&mut self, directory: &Path) -> bool {
            let mut sockets: Vec<_> =
                std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
            sockets.retain(|path| !path.file_name().unwrap().to_string_lossy().starts_with('.'));
            let Some(path) = sockets.first() else {
                // The socket is gone, and the driver with it.
                *self = Kubelet::default();
                return false;
            };
            let Ok(found) = std::fs::metadata(path) else { return false };
            if self.known == Some(found.ino()) {
                return false;
            }
            let Some(channel) = dial(path).await else { return false };
            let mut plugin = RegistrationClient::new(channel);
            let limit = Duration::from_secs(1);
            let Ok(Ok(info)) = tokio::time::timeout(limit, plugin.get_info(InfoRequest {})).await else {
                return false;
            };
            let info = info.into_inner();
            assert_eq!(info.r#type, "CSIPlugin");
            assert_eq!(info.supported_versions, ["1.0.0"]);
            let csi = dial(Path::new(&info.endpoint)).await.expect("the endpoint that was named answers");
            let name =
                IdentityClient::new(csi.clone()).get_plugin_info(GetPluginInfoRequest {}).await.unwrap();
            assert_eq!(name.into_inner().name, info.name);
            let node = NodeClient::new(csi).node_get_info(NodeGetInfoRequest {}).await;
            self.known = Some(found.ino());
            self.registered = node.is_ok();
            let error = node.err().map(|status| status.to_string()).unwrap_or_default();
            let status = RegistrationStatus { plugin_registered: self.registered, error };
            let _ = plugin.notify_registration_status(status).await;
            true
        }

        async fn until_registered(&mut self, directory: &Path) -> u32 {
            let mut asked = 0;
            while !self.registered {
                asked += u32::from(self.look(directory).await);
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            asked
        }
    }

    struct Running {
        dir: tempfile::TempDir,
        driver: Driver,
        stop: CancellationToken,
        ended: tokio::task::JoinHandle<Result<()>>,
    }

    impl Running {
        fn plugin(dir: &Path) -> Plugin {
            Plugin {
                driver: "csi.offshoot.dev".to_owned(),
                endpoint: dir.join("csi/csi.sock"),
                directory: dir.join("registry"),
            }
        }

        fn start(failures: u32) -> Running {
            let dir = tempfile::tempdir().unwrap();
            std::fs::create_dir(dir.path().join("registry")).unwrap();
            let driver = Driver { failures: Arc::new(AtomicU32::new(failures)) };
            let stop = CancellationToken::new();
            let metrics = Metrics::new("d", "n");
            let mut services = Routes::builder();
            services.add_service(IdentityServer::new(driver.clone()));
            services.add_service(NodeServer::new(driver.clone()));
            let plugin = Running::plugin(dir.path());
            let csi = Socket::bind(&plugin.endpoint).unwrap();
            let calls = CallLayer::new(metrics.clone(), stop.clone());
            tokio::spawn(server::on_socket(csi, services.routes(), calls, stop.clone()));
            let ended = tokio::spawn(run(plugin, metrics, stop.clone()));
            Running { dir, driver, stop, ended }
        }

        fn registry(&self) -> PathBuf {
            self.dir.path().join("registry")
        }
    }

    #[tokio::test]
    async fn kubelet_registers_the_driver_and_forgets_it_when_it_stops() {
        let running = Running::start(0);
        let mut kubelet = Kubelet::default();
        assert_eq!(kubelet.until_registered(&running.registry()).await, 1);
        // A kubelet that restarts finds the same socket.
        let mut restarted = Kubelet::default();
        assert_eq!(restarted.until_registered(&running.registry()).await, 1);
        running.stop.cancel();
        running.ended.await.unwrap().unwrap();
        assert!(!restarted.look(&running.dir.path().join("registry")).await);
        assert!(!restarted.registered);
    }

    #[tokio::test(start_paused = true)]
    async fn a_driver_that_kubelet_could_not_register_is_offered_again_on_a_new_socket() {
        let running = Running::start(2);
        let mut kubelet = Kubelet::default();
        assert_eq!(kubelet.until_registered(&running.registry()).await, 3);
        assert_eq!(running.driver.failures.load(Ordering::SeqCst), 0);
    }

    #[tokio::test]
    async fn the_socket_of_a_dead_predecessor_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("registry")).unwrap();
        let plugin = Running::plugin(dir.path());
        drop(std::os::unix::net::UnixListener::bind(plugin.socket()).unwrap());
        let stop = CancellationToken::new();
        let ended = tokio::spawn(run(plugin.clone(), Metrics::new("d", "n"), stop.clone()));
        let channel = loop {
            match dial(&plugin.socket()).await {
                Some(channel) => break channel,
                None => tokio::task::yield_now().await,
            }
        };
        let info = RegistrationClient::new(channel).get_info(InfoRequest {}).await.unwrap().into_inner();
        assert_eq!(info.endpoint, plugin.endpoint.to_str().unwrap());
        stop.cancel();
        ended.await.unwrap().unwrap();
        assert!(!plugin.socket().exists());
    }
}
