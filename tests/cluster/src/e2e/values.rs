//! What our chart is told in the end-to-end cluster.

use serde_json::{Value, json};

use crate::setup::POOL;

/// How long a certificate of an agent is good for: they are exchanged again and again while the scenarios run.
const CERTIFICATES: &str = "90s";

/// The values for an image with this tag; the metadata sidecar's certificate is of this authority. `content` stands for what is in the image:
/// another program under the same tag has to be started.
pub(crate) fn of(tag: &str, content: &str, authority: &[u8]) -> Value {
    let image =
        |name: &str| json!({"image": format!("localhost/offshoot-test/{name}:1"), "pullPolicy": "Never"});
    let mut sidecars = json!({"provisioner": image("csi-provisioner"), "resizer": image("csi-resizer"),
            "snapshotter": image("csi-snapshotter"), "snapshotMetadata": image("csi-snapshot-metadata")});
    sidecars["provisioner"]["capacityPollInterval"] = json!("3s");
    // One object a second is its default: a new class would wait behind the others for minutes.
    sidecars["provisioner"]["extraArgs"] =
        json!(["--kube-api-capacity-qps=50", "--kube-api-capacity-burst=50"]);
    sidecars["snapshotMetadata"]["enabled"] = json!(true);
    sidecars["snapshotMetadata"]["caBundle"] = json!(base64(authority));
    let class = |name: &str, fs: &str, binding: &str, more: Value| {
        let mut parameters = json!({"csi.storage.k8s.io/fstype": fs, "pool": "fast"});
        for (key, value) in more.as_object().into_iter().flatten() {
            parameters[key] = value.clone();
        }
        json!({"name": name, "volumeBindingMode": binding, "parameters": parameters})
    };
    let later = "WaitForFirstConsumer";
    json!({
        "image": {"repository": "localhost/offshoot", "tag": tag, "pullPolicy": "Never"},
        "podAnnotations": {"offshoot.dev/e2e-image": content},
        "pools": [{"name": "fast", "directory": format!("{POOL}/pool")}, {"name": "small", "file": "/var/lib/offshoot/small.img", "size": "400Mi"}],
        "tls": {"certificateLifetime": CERTIFICATES},
        "sidecars": sidecars,
        "storageClasses": [
            class("e2e", "ext4", later, json!({})),
            class("e2e-xfs", "xfs", later, json!({})),
            class("e2e-now", "ext4", "Immediate", json!({})),
            class("e2e-thick", "ext4", later, json!({"provisioning": "thick"})),
            class("e2e-small", "ext4", later, json!({"pool": "small", "provisioning": "thick"})),
        ],
        "volumeSnapshotClasses": [{"name": "e2e"}],
        "volumeGroupSnapshotClasses": [{"name": "e2e"}],
        "volumeAttributesClasses": [
            {"name": "e2e-ahead", "parameters": {"readAheadKiB": "4096"}},
            {"name": "e2e-behind", "parameters": {"readAheadKiB": "64"}},
        ],
    })
}

/// Base64 with padding.
fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let word =
            chunk.iter().fold(0_u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for place in 0..4 {
            let letter = LETTERS[(word >> (18 - 6 * place)) as usize & 63];
            text.push(if place > chunk.len() { '=' } else { char::from(letter) });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_padded() {
        fn check(text: &str, expect: &str) {
            assert_eq!(base64(text.as_bytes()), expect);
        }
        check("", "");
        check("a", "YQ==");
        check("ab", "YWI=");
        check("abc", "YWJj");
        check("abcd", "YWJjZA==");
    }
}
