//! Pods: whether they answer, what they use, and what runs in them.

use kube::core::NotUsed;
use serde::Deserialize;

use super::{Condition, Pod};

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(in crate::cluster) struct PodSpec {
    pub(in crate::cluster) node_name: String,
    pub(in crate::cluster) containers: Vec<Container>,
    pub(in crate::cluster) volumes: Vec<PodVolume>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(in crate::cluster) struct Container {
    pub(in crate::cluster) name: String,
    pub(in crate::cluster) image: String,
    pub(in crate::cluster) args: Vec<String>,
    pub(in crate::cluster) env: Vec<EnvVar>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(in crate::cluster) struct EnvVar {
    pub(in crate::cluster) name: String,
    pub(in crate::cluster) value: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(in crate::cluster) struct PodVolume {
    name: String,
    persistent_volume_claim: Option<ClaimName>,
    ephemeral: Option<NotUsed>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ClaimName {
    claim_name: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(in crate::cluster) struct PodStatus {
    pub(in crate::cluster) phase: String,
    conditions: Vec<Condition>,
    pub(in crate::cluster) container_statuses: Vec<ContainerStatus>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(in crate::cluster) struct ContainerStatus {
    pub(in crate::cluster) name: String,
    pub(in crate::cluster) ready: bool,
    pub(in crate::cluster) restart_count: i64,
}

/// Whether all containers of a pod answer.
pub(in crate::cluster) fn pod_is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| &status.conditions);
    pod.metadata.deletion_timestamp.is_none()
        && conditions.clone().any(|condition| condition.r#type == "Ready" && condition.status == "True")
}

/// Whether a pod uses a claim of its namespace, or will as soon as it runs.
pub(in crate::cluster) fn pod_uses(pod: &Pod, claim: &str) -> bool {
    let phase = pod.status.as_ref().map_or("", |status| status.phase.as_str());
    if matches!(phase, "Succeeded" | "Failed") {
        return false;
    }
    let pod_name = pod.metadata.name.as_deref().unwrap_or_default();
    pod.spec.volumes.iter().any(|volume| {
        let named = volume.persistent_volume_claim.as_ref().is_some_and(|named| named.claim_name == claim);
        // A generic ephemeral volume's claim is named after its pod.
        named || volume.ephemeral.is_some() && claim == format!("{pod_name}-{}", volume.name)
    })
}
