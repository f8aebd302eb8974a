//! Events: what people see in `kubectl describe`.
//!
//! A claim that waits says why to whoever describes it, and not to those who can read the controller's log. Events are a
//! courtesy: one that cannot be written is logged and never fails what it speaks of. Repeated ones become one with a
//! count.

use anyhow::Result;
use async_trait::async_trait;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder as Kube, Reporter};

use super::kinds::{self, Claim};
use crate::router::Tell;

/// Writes events.
pub struct Recorder {
    client: Client,
    kube: Kube,
    /// The controller's own pod, or its namespace where the pod's name is not known.
    own: ObjectReference,
}

impl Recorder {
    /// A recorder for the controller of `driver`, which runs in `pod` of `namespace`.
    pub fn new(client: Client, driver: &str, namespace: &str, pod: Option<&str>) -> Recorder {
        let reporter = Reporter { controller: driver.to_owned(), instance: pod.map(str::to_owned) };
        let own = ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some(if pod.is_some() { "Pod" } else { "Namespace" }.to_owned()),
            name: Some(pod.unwrap_or(namespace).to_owned()),
            namespace: Some(namespace.to_owned()),
            ..ObjectReference::default()
        };
        Recorder { kube: Kube::new(client.clone(), reporter), client, own }
    }

    /// A warning about the controller itself.
    pub async fn controller(&self, reason: &str, message: &str) {
        self.publish(&self.own, EventType::Warning, reason, message).await;
    }

    async fn publish(&self, about: &ObjectReference, type_: EventType, reason: &str, message: &str) {
        let event = Event {
            type_,
            reason: reason.to_owned(),
            note: Some(shortened(message, MAX_NOTE)),
            // Events that differ in their note alone would be counted as one, with the note of the first.
            action: shortened(message, MAX_ACTION),
            secondary: None,
        };
        if let Err(error) = self.kube.publish(&event, about).await {
            tracing::debug!(%error, reason, "cannot write an event");
        }
    }

    /// With its uid, by which `kubectl describe` finds the events of an object.
    async fn reference(&self, namespace: &str, claim: &str) -> Result<ObjectReference, kube::Error> {
        let found = kinds::within::<Claim>(&self.client, namespace).get(claim).await?;
        Ok(ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("PersistentVolumeClaim".to_owned()),
            name: Some(claim.to_owned()),
            namespace: Some(namespace.to_owned()),
            uid: found.metadata.uid,
            ..ObjectReference::default()
        })
    }
}

#[async_trait]
impl Tell for Recorder {
    async fn claim(&self, namespace: &str, claim: &str, reason: &str, message: &str) {
        match self.reference(namespace, claim).await {
            Ok(about) => self.publish(&about, EventType::Normal, reason, message).await,
            Err(error) => {
                tracing::debug!(%error, namespace, claim, reason, "cannot write an event about a claim")
            }
        }
    }
}

/// How many bytes a note and an action may have, nearly: an event with a longer one is refused.
const MAX_NOTE: usize = 1000;
const MAX_ACTION: usize = 120;

fn shortened(text: &str, most: usize) -> String {
    if text.len() <= most {
        return text.to_owned();
    }
    format!("{}…", &text[..text.floor_char_boundary(most)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::testing::FakeApi;
    use serde_json::json;

    #[tokio::test]
    async fn an_event_is_about_the_claim_that_is_there_now() {
        let claim = json!({
            "apiVersion": "v1", "kind": "PersistentVolumeClaim", "spec": {},
            "metadata": { "name": "db", "namespace": "shop", "uid": "u-1" },
        });
        let api = FakeApi::with([claim]);
        let recorder = Recorder::new(api.client(), "csi.offshoot.dev", "offshoot", Some("controller-1"));
        recorder.claim("shop", "db", "Copying", &"é".repeat(600)).await;
        recorder.claim("shop", "gone", "Copying", "10 %").await;
        recorder.controller("OrphansFound", "2 volumes").await;
        let names = api.names("events");
        assert_eq!(names.len(), 2, "{names:?}");
        let event = |start: &str| {
            api.get("events", names.iter().find(|name| name.starts_with(start)).unwrap()).unwrap()
        };
        let claim = event("shop/db");
        assert_eq!(claim["regarding"]["uid"], "u-1");
        assert!(claim["note"].as_str().unwrap().len() < 1024);
        assert_eq!(event("offshoot/controller-1")["type"], "Warning");
        // What is said again is counted; what is new is said.
        for message in ["2 volumes", "3 volumes"] {
            recorder.controller("OrphansFound", message).await;
        }
        let names = api.names("events");
        assert_eq!(names.len(), 3, "{names:?}");
    }
}
