//! Which agents there are, from the EndpointSlices of their Service and the labels of the nodes.
//!
//! A slice lists pods, and a pod that is being replaced is in none; a router that took that for "no such node" would
//! show lists that look whole and are not. Kubelet puts our topology label on each node that ever had an agent, and
//! leaves it there: such a node stays known without an address until it or the label goes. Whether an agent
//! answers is found by connecting to it, so pods that are not ready are listed as well.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Node;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{Api, PartialObjectMeta};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Client, ResourceExt as _};
use tokio::sync::watch;
use tokio_stream::StreamExt as _;
use tokio_util::sync::CancellationToken;

use crate::router::{AgentAddress, Discovery, Known};
use crate::volume::topology::TOPOLOGY_NODE;

/// The name of the agents' port in their Service.
const PORT: &str = "agent";

/// The agents of a cluster, as the API server says.
#[derive(Debug)]
pub struct Slices {
    known: watch::Receiver<Known>,
}

/// One address of an agent in a slice, worst first in order.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    ready: bool,
    staying: bool,
    address: String,
}

/// The agents in one slice, by node.
type Slice = Vec<(String, Place)>;

impl Slices {
    /// Watches the slices of `service` in `namespace`, and the nodes, until `stop`.
    pub fn watch(client: Client, namespace: &str, service: &str, stop: CancellationToken) -> Slices {
        let (send, known) = watch::channel(None);
        let slices = Api::<EndpointSlice>::namespaced(client.clone(), namespace);
        let labels = format!("kubernetes.io/service-name={service}");
        tokio::spawn(async move {
            stop.run_until_cancelled(follow(slices, Api::all(client), labels, send)).await
        });
        Slices { known }
    }
}

impl Discovery for Slices {
    fn agents(&self) -> watch::Receiver<Known> {
        self.known.clone()
    }
}

async fn follow(
    slices: Api<EndpointSlice>,
    nodes: Api<PartialObjectMeta<Node>>,
    labels: String,
    send: watch::Sender<Known>,
) {
    let slices = watcher(slices, watcher::Config::default().labels(&labels)).default_backoff();
    let nodes = watcher(nodes, watcher::Config::default().labels(TOPOLOGY_NODE)).default_backoff();
    let (mut slices, mut nodes) = (pin!(slices), pin!(nodes));
    let (mut places, mut labelled) = (Mirror::<Slice>::default(), Mirror::<()>::default());
    loop {
        let error = tokio::select! {
            Some(event) = slices.next() => match event {
                Ok(event) => { places.apply(event, |slice| (slice.name_any(), places_in(slice))); None }
                Err(error) => Some(error),
            },
            Some(event) = nodes.next() => match event {
                Ok(event) => { labelled.apply(event, |node| (node.name_any(), ())); None }
                Err(error) => Some(error),
            },
            else => return,
        };
        if let Some(error) = error {
            tracing::warn!(%error, "the API server does not say which agents there are; those from before are used");
        }
        // Not before both are whole: a node that is missing would be taken for gone.
        if let (Some(places), Some(labelled)) = (places.whole(), labelled.whole()) {
            let now = Some(Arc::new(agents(places.values().flatten(), labelled.keys())));
            send.send_if_modified(|known| {
                let changed = *known != now;
                *known = now;
                changed
            });
        }
    }
}

/// What a watch has said so far: objects by name.
struct Mirror<T> {
    whole: Option<BTreeMap<String, T>>,
    coming: BTreeMap<String, T>,
}

impl<T> Default for Mirror<T> {
    fn default() -> Self {
        Mirror { whole: None, coming: BTreeMap::new() }
    }
}

impl<T> Mirror<T> {
    fn apply<K>(&mut self, event: watcher::Event<K>, of: impl Fn(&K) -> (String, T)) {
        match event {
            watcher::Event::Init => self.coming.clear(),
            watcher::Event::InitApply(object) => self.coming.extend([of(&object)]),
            watcher::Event::InitDone => self.whole = Some(std::mem::take(&mut self.coming)),
            watcher::Event::Apply(object) => self.whole.get_or_insert_default().extend([of(&object)]),
            watcher::Event::Delete(object) => {
                self.whole.get_or_insert_default().remove(&of(&object).0);
            }
        }
    }

    fn whole(&self) -> Option<&BTreeMap<String, T>> {
        self.whole.as_ref()
    }
}

/// The agents in a slice. An endpoint without a node is no agent.
fn places_in(slice: &EndpointSlice) -> Slice {
    let ports = slice.ports.as_deref().unwrap_or_default();
    let named = ports.iter().find(|port| port.name.as_deref() == Some(PORT));
    let only = if ports.len() == 1 { ports.first() } else { None };
    let Some(port) = named.or(only).and_then(|port| port.port) else { return Vec::new() };
    let endpoints = slice.endpoints.iter().filter_map(|endpoint| {
        let node = endpoint.node_name.clone()?;
        let host = endpoint.addresses.first()?;
        let conditions = endpoint.conditions.as_ref();
        let place = Place {
            ready: conditions.and_then(|conditions| conditions.ready).unwrap_or(true),
            staying: !conditions.and_then(|conditions| conditions.terminating).unwrap_or(false),
            address: if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") },
        };
        Some((node, place))
    });
    endpoints.collect()
}

/// One agent per node: where a node has several pods (one is being replaced) or addresses, the best of them; a node that
/// only has the label, without an address.
fn agents<'a>(
    places: impl Iterator<Item = &'a (String, Place)>,
    labelled: impl Iterator<Item = &'a String>,
) -> BTreeSet<AgentAddress> {
    let mut best: BTreeMap<&str, Option<&Place>> = labelled.map(|node| (node.as_str(), None)).collect();
    for (node, place) in places {
        let slot = best.entry(node).or_default();
        *slot = (*slot).max(Some(place));
    }
    let agent = |(node, place): (&str, Option<&Place>)| AgentAddress {
        node: node.to_owned(),
        address: place.map(|place| place.address.clone()).unwrap_or_default(),
    };
    best.into_iter().map(agent).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn slice(endpoints: Value) -> EndpointSlice {
        serde_json::from_value(json!({
            "metadata": { "name": "s" },
            "addressType": "IPv4",
            "ports": [{ "name": "metrics", "port": 9810 }, { "name": "agent", "port": 9811 }],
            "endpoints": endpoints
        }))
        .unwrap()
    }

    #[test]
    fn each_node_has_one_agent_the_best_of_its_pods_and_labelled_nodes_stay_known() {
        fn check(endpoints: Value, labelled: &[&str], expect: &[(&str, &str)]) {
            let places = places_in(&slice(endpoints));
            let labelled: Vec<String> = labelled.iter().map(ToString::to_string).collect();
            let found = agents(places.iter(), labelled.iter());
            let found: Vec<_> = found.iter().map(|a| (a.node.as_str(), a.address.as_str())).collect();
            assert_eq!(found, expect);
        }
        let pod = |node: &str, address: &str, ready: bool, terminating: bool| {
            json!({
                "nodeName": node,
                "addresses": [address],
                "conditions": { "ready": ready, "serving": ready, "terminating": terminating }
            })
        };
        check(json!([pod("a", "10.0.0.1", true, false)]), &[], &[("a", "10.0.0.1:9811")]);
        check(json!([pod("a", "fd00::1", true, false)]), &["a"], &[("a", "[fd00::1]:9811")]);
        // Not ready is still an address: whether it answers is found by asking.
        check(json!([pod("a", "10.0.0.1", false, false)]), &[], &[("a", "10.0.0.1:9811")]);
        let both = json!([pod("a", "10.0.0.9", false, true), pod("a", "10.0.0.1", true, false)]);
        check(both, &[], &[("a", "10.0.0.1:9811")]);
        let both = json!([pod("a", "10.0.0.9", false, true), pod("a", "10.0.0.1", false, false)]);
        check(both, &[], &[("a", "10.0.0.1:9811")]);
        // A pod that is being replaced is in no slice, and its node is not gone.
        check(json!([pod("b", "10.0.0.2", true, false)]), &["a", "b"], &[("a", ""), ("b", "10.0.0.2:9811")]);
        check(json!([{ "addresses": ["10.0.0.3"] }]), &[], &[]);
        check(json!([]), &[], &[]);
    }

    #[test]
    fn nothing_is_known_before_a_list_is_whole_and_a_new_list_replaces_the_old() {
        let mut mirror = Mirror::<()>::default();
        let of = |name: &&'static str| (name.to_string(), ());
        let names =
            |mirror: &Mirror<()>| mirror.whole().map(|whole| whole.keys().cloned().collect::<Vec<_>>());
        mirror.apply(watcher::Event::Init, of);
        mirror.apply(watcher::Event::InitApply("a"), of);
        assert_eq!(names(&mirror), None);
        mirror.apply(watcher::Event::InitDone, of);
        mirror.apply(watcher::Event::Apply("b"), of);
        assert_eq!(names(&mirror).unwrap(), ["a", "b"]);
        mirror.apply(watcher::Event::Delete("a"), of);
        assert_eq!(names(&mirror).unwrap(), ["b"]);
        // The watch begins anew: what was there stays until the new list is whole.
        mirror.apply(watcher::Event::Init, of);
        mirror.apply(watcher::Event::InitApply("c"), of);
        assert_eq!(names(&mirror).unwrap(), ["b"]);
        mirror.apply(watcher::Event::InitDone, of);
        assert_eq!(names(&mirror).unwrap(), ["c"]);
    }
}
