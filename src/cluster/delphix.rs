//! Claims, for the Delphix driver: the annotations that the vendor's driver 1.0 took as parameters, and events.
//!
//! The stock provisioner passes a claim's name and not its annotations, so they are read here, one claim at a time and only
//! where that is switched on: `get` on PersistentVolumeClaims is the one right that it takes.

use std::collections::BTreeMap;

use async_trait::async_trait;
use kube::Client;

use super::controller::Cluster;
use super::events::Recorder;
use super::kinds::{self, Claim};
use crate::delphix::{Annotations, Tell};
use crate::router::Tell as _;
use crate::volume::{Error, Kind, Result};

/// The claims of a cluster.
pub struct Claims {
    client: Client,
    recorder: Recorder,
}

impl Claims {
    /// Those of `cluster`, for the controller of `driver` in the pod of that name.
    pub fn new(cluster: &Cluster, driver: &str, pod: Option<&str>) -> Claims {
        let (client, namespace) = cluster.parts();
        Claims { recorder: Recorder::new(client.clone(), driver, namespace, pod), client: client.clone() }
    }
}

#[async_trait]
impl Annotations for Claims {
    async fn of(&self, namespace: &str, claim: &str) -> Result<BTreeMap<String, String>> {
        match kinds::within::<Claim>(&self.client, namespace).get(claim).await {
            Ok(found) => Ok(found.metadata.annotations.unwrap_or_default()),
            // Deleted meanwhile: the provisioner will be told to delete what it made.
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(BTreeMap::new()),
            Err(kube::Error::Api(status)) if status.code == 403 => Err(Error::new(
                Kind::Unavailable,
                format!(
                    "the annotations of claim {namespace}/{claim} may not be read: let the controller get persistentvolumeclaims, \
                     or switch vendor annotations off"
                ),
            )),
            Err(error) => Err(Error::new(
                Kind::Unavailable,
                format!("the annotations of claim {namespace}/{claim} cannot be read now: {error}"),
            )),
        }
    }
}

#[async_trait]
impl Tell for Claims {
    async fn claim(&self, namespace: &str, claim: &str, reason: &str, message: &str) {
        self.recorder.claim(namespace, claim, reason, message).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::testing::FakeApi;
    use serde_json::json;

    #[tokio::test]
    async fn annotations_are_those_of_the_claim_and_none_of_one_that_is_gone() {
        let claim = json!({
            "apiVersion": "v1", "kind": "PersistentVolumeClaim", "spec": {},
            "metadata": { "name": "db", "namespace": "shop", "annotations": { "sourceDBName": "orders" } },
        });
        let api = FakeApi::with([claim]);
        let recorder = Recorder::new(api.client(), "delphix.csi.offshoot.dev", "offshoot", None);
        let claims = Claims { client: api.client(), recorder };
        assert_eq!(claims.of("shop", "db").await.unwrap()["sourceDBName"], "orders");
        assert!(claims.of("shop", "gone").await.unwrap().is_empty());
        Tell::claim(&claims, "shop", "db", "SnapshotGone", "retention deleted it").await;
        assert_eq!(api.names("events").len(), 1);
    }
}
