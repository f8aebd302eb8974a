//! `offshoot import`: virtual databases that somebody else made, as static PersistentVolumes.
//!
//! Adopting changes one thing on the engine: the VDB gets this driver's tags, by which it is ours from then on. What
//! Kubernetes needs is printed and not applied: which namespace, which size and which access are a person's decision.

use std::fmt::Write as _;

use anyhow::Result;
use clap::Args;
use serde::Serialize;

use super::output::clean;
use super::session::{Common, said};
use crate::proto::csi::GetPluginInfoRequest;
use crate::proto::csi::identity_client::IdentityClient;
use crate::proto::offshoot::ImportVolumeRequest;
use crate::volume::quantity::Bytes;

/// Take virtual databases into the Delphix driver's care, and print PersistentVolumes for them
///
/// Each VDB gets the driver's tags; its bytes and its name stay as they are. Until a claim is bound to its volume and a
/// pod uses it, nothing else happens. The volumes are printed with reclaim policy Retain: deleting the claim leaves the VDB.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:\n\
\x20 offshoot import --socket /run/offshoot/delphix.sock orders-dev\n\
\x20 offshoot import --dct prod --namespace shop orders-dev orders-test | kubectl apply -f -")]
pub(super) struct Import {
    /// The VDBs: names or ids
    #[arg(value_name = "VDB", required = true)]
    vdbs: Vec<String>,
    /// Name of the DCT that has them, as in the controller's settings [default: the only one]
    #[arg(long, value_name = "NAME")]
    dct: Option<String>,
    /// Namespace of the claims
    #[arg(long, value_name = "NAME", default_value = "default")]
    namespace: String,
    /// Access mode of the volumes
    #[arg(long, value_name = "MODE", default_value = "ReadWriteOncePod")]
    access_mode: String,
    #[command(flatten)]
    common: Common,
}

/// One adopted VDB.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Imported {
    id: String,
    name: String,
    size_bytes: u64,
    driver: String,
    volume_context: std::collections::BTreeMap<String, String>,
}

impl Import {
    pub(super) fn run(self) -> Result<()> {
        let common = self.common.clone();
        common.run(async |session| {
            let info = IdentityClient::new(session.channel()).get_plugin_info(GetPluginInfoRequest {}).await;
            let driver = info.map_err(said)?.into_inner().name;
            let mut all = Vec::new();
            for vdb in &self.vdbs {
                let connection = self.dct.clone().unwrap_or_default();
                let request = ImportVolumeRequest { connection, object: vdb.clone() };
                let answer = session.copies().import_volume(request).await.map_err(said)?.into_inner();
                let volume = answer.volume.unwrap_or_default();
                all.push(Imported {
                    id: volume.volume_id,
                    name: answer.name,
                    size_bytes: u64::try_from(volume.capacity_bytes).unwrap_or(0),
                    driver: driver.clone(),
                    volume_context: volume.volume_context.into_iter().collect(),
                });
            }
            let ids: Vec<&str> = all.iter().map(|one| one.id.as_str()).collect();
            common.output.print(&all, &ids, |_| {
                all.iter().map(|one| manifests(one, &self.namespace, &self.access_mode)).collect()
            })
        })
    }
}

/// A PersistentVolume and the claim that is bound to it.
fn manifests(volume: &Imported, namespace: &str, mode: &str) -> String {
    let name = object_name(&volume.name, &volume.id);
    let size = Bytes(volume.size_bytes.max(1));
    let mut text = format!(
        "---\napiVersion: v1\nkind: PersistentVolume\nmetadata:\n  name: {name}\n  annotations:\n    pv.kubernetes.io/provisioned-by: {driver}\nspec:\n  \
         accessModes: [{mode}]\n  capacity:\n    storage: {size}\n  persistentVolumeReclaimPolicy: Retain\n  storageClassName: \"\"\n  \
         claimRef:\n    namespace: {namespace}\n    name: {name}\n  csi:\n    driver: {driver}\n    volumeHandle: {id}\n",
        driver = volume.driver,
        id = text_of(&volume.id),
        mode = clean(mode),
        namespace = clean(namespace),
    );
    if !volume.volume_context.is_empty() {
        text += "    volumeAttributes:\n";
        for (key, value) in &volume.volume_context {
            let _never_fails = writeln!(text, "      {}: {}", text_of(key), text_of(value));
        }
    }
    let _never_fails = write!(
        text,
        "---\napiVersion: v1\nkind: PersistentVolumeClaim\nmetadata:\n  name: {name}\n  namespace: {namespace}\nspec:\n  \
         accessModes: [{mode}]\n  resources:\n    requests:\n      storage: {size}\n  storageClassName: \"\"\n  volumeName: {name}\n",
        mode = clean(mode),
        namespace = clean(namespace),
    );
    text
}

/// A string of YAML, in the form that JSON has too.
fn text_of(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// A name that Kubernetes takes, made of the VDB's. What had to be changed gets the end of the id, so that two stay two.
fn object_name(name: &str, id: &str) -> String {
    let fit = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let made: String = name.chars().map(fit).collect();
    let made = made.trim_matches('-');
    if made == name && !name.is_empty() && name.len() <= 63 {
        return made.to_owned();
    }
    let end: String = id.chars().rev().take(16).collect::<Vec<_>>().into_iter().rev().map(fit).collect();
    let short: String = made.chars().take(40).collect();
    format!("{}-{}", short.trim_matches('-'), end.trim_matches('-')).trim_matches('-').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_adopted_vdb_is_a_volume_that_outlives_its_claim() {
        let volume = Imported {
            id: "main:1-APPDATA_CONTAINER-7".into(),
            name: "orders-dev".into(),
            size_bytes: 5 << 30,
            driver: "delphix.csi.offshoot.dev".into(),
            volume_context: [("note".to_owned(), "a \"b\"".to_owned())].into(),
        };
        insta::assert_snapshot!("import", manifests(&volume, "shop", "ReadWriteOncePod"));
    }

    #[test]
    fn a_name_that_kubernetes_does_not_take_is_changed_and_stays_its_own() {
        fn check(name: &str, expect: &str) {
            assert_eq!(object_name(name, "main:1-APPDATA_CONTAINER-7"), expect);
        }
        check("orders-dev", "orders-dev");
        check("Orders Dev", "orders-dev-data-container-7");
        check("--", "data-container-7");
        check(&"x".repeat(80), &format!("{}-data-container-7", "x".repeat(40)));
    }
}
