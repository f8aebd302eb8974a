//! The cluster's certificates and the kubeconfigs made from them.
//!
//! One authority signs all. Who a client is says its certificate: the common name is the user, the organisation the group.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use serde_json::json;

/// An authority that signs for the whole cluster.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// Makes an authority and writes `ca.crt` and `ca.key`, or takes up the one that is in the folder.
    ///
    /// # Errors
    /// If no key can be made or a file not written or read.
    pub fn at(dir: &Path) -> Result<Self> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "offshoot test cluster");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages =
            vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
        let file = dir.join("ca.key");
        let key = if file.exists() {
            let text =
                fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
            KeyPair::from_pem(&text).with_context(|| format!("{} is not a key", file.display()))?
        } else {
            let key = KeyPair::generate()?;
            write(&dir.join("ca.crt"), &params.self_signed(&key)?.pem())?;
            write(&file, &key.serialize_pem())?;
            key
        };
        Ok(Self { issuer: Issuer::new(params, key) })
    }

    /// Signs a certificate for a user, or for a server with names and addresses; writes `NAME.crt` and `NAME.key`.
    ///
    /// # Errors
    /// If no key can be made or a file not written.
    pub fn sign(
        &self,
        dir: &Path,
        name: &str,
        user: &str,
        group: Option<&str>,
        hosts: &[&str],
    ) -> Result<()> {
        let mut params = CertificateParams::new(hosts.iter().map(ToString::to_string).collect::<Vec<_>>())?;
        params.distinguished_name.push(DnType::CommonName, user);
        if let Some(group) = group {
            params.distinguished_name.push(DnType::OrganizationName, group);
        }
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        write(&dir.join(format!("{name}.crt")), &certificate.pem())?;
        write(&dir.join(format!("{name}.key")), &key.serialize_pem())
    }
}

/// Writes a key pair for signing service account tokens: `NAME.key` and `NAME.pub`.
///
/// # Errors
/// If no key can be made or a file not written.
pub(crate) fn signing_key(dir: &Path, name: &str) -> Result<()> {
    let key = KeyPair::generate()?;
    write(&dir.join(format!("{name}.key")), &key.serialize_pem())?;
    write(&dir.join(format!("{name}.pub")), &key.public_key_pem())
}

/// Writes a kubeconfig with the certificate `NAME` of a folder as its reader sees that folder.
///
/// # Errors
/// If the file cannot be written.
pub(crate) fn kubeconfig(file: &Path, server: &str, folder: &Path, name: &str) -> Result<()> {
    let at = |file: &str| folder.join(file);
    let text = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "offshoot",
        "clusters": [{"name": "offshoot", "cluster": {"server": server, "certificate-authority": at("ca.crt")}}],
        "users": [{"name": name, "user": {
            "client-certificate": at(&format!("{name}.crt")),
            "client-key": at(&format!("{name}.key")),
        }}],
        "contexts": [{"name": "offshoot", "context": {"cluster": "offshoot", "user": name}}],
    });
    write(file, &serde_json::to_string_pretty(&text)?)
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}
