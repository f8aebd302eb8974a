//! Names of Services: what a cluster's DNS answers, and no more.
//!
//! An agent finds its controller by the name of a Service, as any program in a cluster does. Every cluster has a DNS server for that; this
//! one is a process of the control plane's machine, so that killing a node takes no names away. It knows `SERVICE.NAMESPACE.svc.cluster.local`
//! with its cluster address or, if it is headless, with those of its pods, over UDP and IPv4. Everything else does not exist.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::ListParams;
use kube::{Api, Client, Config};
use tokio::net::UdpSocket;

/// What all names end with.
pub const DOMAIN: &str = "cluster.local";

/// How long what the API server said counts.
const AGE: Duration = Duration::from_secs(1);

const HEADER: usize = 12;
const TYPE_A: [u8; 2] = [0, 1];
/// So many addresses fit into an answer.
const MOST: usize = 20;
const NO_SUCH_NAME: u8 = 3;
const FAILED: u8 = 2;

/// Answers until it is killed.
///
/// # Errors
/// If the address is taken, or the kubeconfig not usable.
pub fn serve(listen: SocketAddr, kubeconfig: &Path) -> Result<()> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(answer(listen, kubeconfig))
}

async fn answer(listen: SocketAddr, kubeconfig: &Path) -> Result<()> {
    let file = kube::config::Kubeconfig::read_from(kubeconfig)?;
    let config = Config::from_custom_kubeconfig(file, &kube::config::KubeConfigOptions::default()).await?;
    let client = Client::try_from(config)?;
    let mut names = Names {
        services: Api::all(client.clone()),
        slices: Api::all(client),
        known: HashMap::new(),
        read: None,
    };
    let socket = UdpSocket::bind(listen).await.with_context(|| format!("cannot listen on {listen}"))?;
    let mut buffer = [0; 1500];
    loop {
        let (length, from) = socket.recv_from(&mut buffer).await?;
        let Some(question) = Question::of(&buffer[..length]) else { continue };
        let answer = match names.find(&question.name).await {
            Ok(found) => question.answer(found),
            Err(_) => question.reply(FAILED, &[]),
        };
        // Whoever asked asks again.
        let _ = socket.send_to(&answer, from).await;
    }
}

/// The `cluster` program beside the one that runs: it serves the names, see [`serve`].
///
/// # Errors
/// If it was not built.
pub(crate) fn program() -> Result<PathBuf> {
    let own = std::env::current_exe().context("cannot find this program")?;
    let mut folders = own.ancestors().skip(1);
    // Tests lie one folder deeper than programs.
    let found = folders.by_ref().take(2).map(|folder| folder.join("cluster")).find(|path| path.is_file());
    found.with_context(|| {
        format!("there is no program named cluster beside {}: build the package with --bins", own.display())
    })
}

/// The Services and their addresses.
struct Names {
    services: Api<Service>,
    slices: Api<EndpointSlice>,
    known: HashMap<String, Vec<Ipv4Addr>>,
    read: Option<Instant>,
}

impl Names {
    /// The addresses of a name; `None` if there is no such name.
    async fn find(&mut self, name: &str) -> Result<Option<Vec<Ipv4Addr>>> {
        if self.read.is_none_or(|read| read.elapsed() > AGE) {
            let services = self.services.list(&ListParams::default()).await?;
            let slices = self.slices.list(&ListParams::default()).await?;
            self.known = services.items.iter().filter_map(|service| named(service, &slices.items)).collect();
            self.read = Some(Instant::now());
        }
        Ok(self.known.get(name).cloned())
    }
}

/// The name and the addresses of a Service.
fn named(service: &Service, slices: &[EndpointSlice]) -> Option<(String, Vec<Ipv4Addr>)> {
    let (name, namespace) = (service.metadata.name.as_ref()?, service.metadata.namespace.as_ref()?);
    let own = service.spec.as_ref()?.cluster_ip.as_ref()?.parse();
    let addresses = own.map_or_else(|_| ready(name, namespace, slices), |address| vec![address]);
    Some((format!("{name}.{namespace}.svc.{DOMAIN}"), addresses))
}

/// The addresses of a headless Service's pods that are ready.
fn ready(service: &str, namespace: &str, slices: &[EndpointSlice]) -> Vec<Ipv4Addr> {
    let of_service = |slice: &&EndpointSlice| {
        let labels = slice.metadata.labels.as_ref();
        let label = labels.and_then(|labels| labels.get("kubernetes.io/service-name"));
        slice.metadata.namespace.as_deref() == Some(namespace) && label.is_some_and(|label| label == service)
    };
    let endpoints = slices.iter().filter(of_service).flat_map(|slice| &slice.endpoints);
    let ready =
        endpoints.filter(|one| one.conditions.as_ref().is_none_or(|state| state.ready != Some(false)));
    ready.flat_map(|one| &one.addresses).filter_map(|address| address.parse().ok()).collect()
}

/// The first question of a query.
#[derive(Debug)]
struct Question<'a> {
    /// In lower case, without a dot at the end.
    name: String,
    id: &'a [u8],
    recursion: u8,
    kind: &'a [u8],
    /// As it came.
    bytes: &'a [u8],
}

impl<'a> Question<'a> {
    /// `None` if these bytes are no query.
    fn of(query: &'a [u8]) -> Option<Self> {
        let header = query.get(..HEADER)?;
        // A query of the standard kind, with one question.
        if header[2] & 0xf8 != 0 || header[4..6] != [0, 1] {
            return None;
        }
        let (mut at, mut labels) = (HEADER, Vec::new());
        loop {
            let length = usize::from(*query.get(at)?);
            at += 1;
            if length == 0 {
                break;
            }
            labels.push(String::from_utf8_lossy(query.get(at..at + length)?).to_ascii_lowercase());
            at += length;
        }
        let bytes = query.get(HEADER..at + 4)?;
        Some(Self {
            name: labels.join("."),
            id: &header[..2],
            recursion: header[2] & 1,
            kind: &query[at..at + 2],
            bytes,
        })
    }

    fn answer(&self, found: Option<Vec<Ipv4Addr>>) -> Vec<u8> {
        match found {
            None => self.reply(NO_SUCH_NAME, &[]),
            Some(addresses) if self.kind == TYPE_A => {
                // The name as in the question, an address in the internet, for two seconds, four bytes long.
                let record = |address: &Ipv4Addr| {
                    [&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 2, 0, 4], &address.octets()[..]].concat()
                };
                let records: Vec<_> = addresses.iter().take(MOST).map(record).collect();
                self.reply(0, &records)
            }
            // The name exists, but has nothing of this kind (IPv6).
            Some(_) => self.reply(0, &[]),
        }
    }

    fn reply(&self, code: u8, records: &[Vec<u8>]) -> Vec<u8> {
        let answers = u8::try_from(records.len()).unwrap_or(u8::MAX);
        // An answer, with authority; recursion is not available.
        [self.id, &[0x84 | self.recursion, code, 0, 1, 0, answers, 0, 0, 0, 0], self.bytes, &records.concat()]
            .concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(name: &str, kind: u8) -> Vec<u8> {
        let mut bytes = vec![7, 9, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in name.split('.') {
            bytes.push(u8::try_from(label.len()).unwrap());
            bytes.extend(label.as_bytes());
        }
        bytes.extend([0, 0, kind, 0, 1]);
        bytes
    }

    #[test]
    fn a_name_has_an_address_or_is_not_there() {
        let ask = query("Controller.offshoot.svc.cluster.local", 1);
        let question = Question::of(&ask).unwrap();
        assert_eq!(question.name, "controller.offshoot.svc.cluster.local");
        let answer = question.answer(Some(vec![Ipv4Addr::LOCALHOST, Ipv4Addr::new(10, 1, 2, 3)]));
        assert_eq!((&answer[..4], &answer[6..8]), (&[7, 9, 0x85, 0][..], &[0, 2][..]));
        assert_eq!(answer[answer.len() - 4..], [10, 1, 2, 3]);
        assert_eq!(question.answer(None)[3], NO_SUCH_NAME);
        let six = query("controller.offshoot.svc.cluster.local", 28);
        let answer = Question::of(&six).unwrap().answer(Some(vec![Ipv4Addr::LOCALHOST]));
        assert_eq!((answer[3], answer[7]), (0, 0));
    }

    #[test]
    fn what_is_no_query_is_left_alone() {
        let good = query("a.b", 1);
        for length in 0..good.len() {
            assert!(Question::of(&good[..length]).is_none(), "{length}");
        }
        let mut answer = good.clone();
        answer[2] |= 0x80;
        assert!(Question::of(&answer).is_none());
    }
}
