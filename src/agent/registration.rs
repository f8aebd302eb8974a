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
    let served = server::on_socket(socket, services.routes(), calls, over.clone());
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
