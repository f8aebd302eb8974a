//! An authority: who says that a key belongs to a role.
//!
//! A request to sign carries names, lifetimes and rights that its sender would like to have. Nothing of it is used but the key, and
//! the proof that the sender has it; everything else is chosen here, so that no field of a request can be forgotten
//! in a check. What is signed ends no later than its authority.

use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData,
    date_time_ymd,
};
use rustls::pki_types::{CertificateDer, CertificateSigningRequestDer, pem::PemObject as _};

use super::keys::{Bundle, Refused, SecretText, validity};
use super::role::Role;

/// Clocks of nodes differ: a certificate is good from a little before it was made.
const SKEW: Duration = Duration::from_secs(300);

/// The largest request to sign, in bytes. Ours have under 300.
const MAX_REQUEST: usize = 8 << 10;

/// From when to when something is valid: seconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lifetime {
    /// The first moment.
    pub from: Duration,
    /// The last moment.
    pub until: Duration,
}

impl Lifetime {
    /// From a little before `now` for as long as `lasts`.
    pub fn starting(now: Duration, lasts: Duration) -> Lifetime {
        // In proportion, so that what was just made is never within the third of its life in which it is renewed.
        Lifetime { from: now.saturating_sub(SKEW.min(lasts / 10)), until: now.saturating_add(lasts) }
    }
}

/// A certificate that signs others, and its key.
pub struct Authority {
    certificate: String,
    key: SecretText,
    lifetime: Lifetime,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// Makes an authority with a new key.
    pub fn make(lifetime: Lifetime) -> Result<Authority, Refused> {
        let key = new_key()?;
        let mut params = params(lifetime);
        // Two authorities may be trusted at once: a name of its own tells a verifier which one signed.
        let id = params.key_identifier(&key);
        let id: String = id.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        params.distinguished_name.push(DnType::CommonName, format!("offshoot authority {id}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key).map_err(|error| failed("make an authority", &error))?;
        let secret = SecretText::from(key.serialize_pem());
        Ok(Authority {
            certificate: certificate.pem(),
            key: secret,
            lifetime,
            issuer: Issuer::new(params, key),
        })
    }

    /// Reads an authority from its certificate and key, both PEM.
    ///
    /// Refuses a key that is not the certificate's: what it signs would be trusted by nobody.
    pub fn load(certificate: &str, key: &SecretText) -> Result<Authority, Refused> {
        let der = CertificateDer::from_pem_slice(certificate.as_bytes())
            .map_err(|_| Refused::new("the authority's certificate is not PEM".to_owned()))?;
        let pair = KeyPair::from_pem(key.expose())
            .map_err(|_| Refused::new("the authority's key cannot be read".to_owned()))?;
        let lifetime = validity(&der)?;
        let (_, parsed) = x509_parser::parse_x509_certificate(&der)
            .map_err(|_| Refused::new("the authority's certificate cannot be read".to_owned()))?;
        if parsed.public_key().subject_public_key.data.as_ref() != pair.der_bytes() {
            return Err(Refused::new("the authority's key is not that of its certificate".to_owned()));
        }
        if !parsed.is_ca() {
            return Err(Refused::new("the authority's certificate may not sign others".to_owned()));
        }
        let issuer =
            Issuer::from_ca_cert_der(&der, pair).map_err(|error| failed("use the authority", &error))?;
        Ok(Authority { certificate: certificate.to_owned(), key: key.clone(), lifetime, issuer })
    }

    /// Its certificate, PEM.
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// Its key, PEM.
    pub fn key(&self) -> &SecretText {
        &self.key
    }

    /// How long it is valid.
    pub fn lifetime(&self) -> Lifetime {
        self.lifetime
    }

    /// A new key for `role` with its certificate, both PEM. `trusted` is what its holder will trust (PEM).
    pub fn issue(&self, role: &Role, lifetime: Lifetime, trusted: String) -> Result<Bundle, Refused> {
        let key = SigningKey::make()?;
        let certificate = self.certify(role, lifetime, &key.0)?;
        Ok(key.bundle(certificate, trusted))
    }

    /// The certificate (PEM) of the key in a PKCS#10 request (DER), for `role` whatever the request says.
    ///
    /// Refuses a request that is not signed by its own key, and keys of a kind that we do not make.
    pub fn sign(&self, request: &[u8], role: &Role, lifetime: Lifetime) -> Result<String, Refused> {
        if request.len() > MAX_REQUEST {
            return Err(Refused::new(format!("signing_request: has over {MAX_REQUEST} bytes")));
        }
        let request = CertificateSigningRequestParams::from_der(&CertificateSigningRequestDer::from(request))
            .map_err(|error| failed("read signing_request", &error))?;
        if request.public_key.algorithm() != &PKCS_ECDSA_P256_SHA256 {
            return Err(Refused::new("signing_request: its key is not ECDSA P-256".to_owned()));
        }
        self.certify(role, lifetime, &request.public_key)
    }

    fn certify(&self, role: &Role, lifetime: Lifetime, key: &impl PublicKeyData) -> Result<String, Refused> {
        let mut params = params(Lifetime { until: lifetime.until.min(self.lifetime.until), ..lifetime });
        let name = role.name().try_into().map_err(|error| failed("name the certificate", &error))?;
        params.subject_alt_names = vec![rcgen::SanType::DnsName(name)];
        params.distinguished_name.push(DnType::CommonName, format!("offshoot {}", role.kind()));
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        // Each end calls the other at times: a node reads snapshots from nodes.
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        let signed =
            params.signed_by(key, &self.issuer).map_err(|error| failed("sign the certificate", &error))?;
        Ok(signed.pem())
    }
}

/// A private key that has no certificate yet.
pub struct SigningKey(KeyPair);

impl SigningKey {
    /// Makes one.
    pub fn make() -> Result<SigningKey, Refused> {
        new_key().map(SigningKey)
    }

    /// A PKCS#10 request (DER) to sign it. It asks for no name: the authority would not take it.
    pub fn request(&self) -> Result<Vec<u8>, Refused> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        let request = params.serialize_request(&self.0).map_err(|error| failed("make a request", &error))?;
        Ok(request.der().to_vec())
    }

    /// The key with its certificate and what its holder trusts, all PEM.
    pub fn bundle(&self, certificate: String, authorities: String) -> Bundle {
        Bundle { certificate, key: SecretText::from(self.0.serialize_pem()), authorities }
    }
}

fn new_key() -> Result<KeyPair, Refused> {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(|error| failed("make a key", &error))
}

fn params(lifetime: Lifetime) -> CertificateParams {
    let epoch = date_time_ymd(1970, 1, 1);
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.not_before = epoch + lifetime.from;
    params.not_after = epoch + lifetime.until;
    params
}

fn failed(what: &str, error: &rcgen::Error) -> Refused {
    Refused::new(format!("cannot {what}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(1_800_000_000);
    const DAY: Duration = Duration::from_secs(86_400);

    fn authority() -> Authority {
        Authority::make(Lifetime::starting(NOW, 10 * DAY)).unwrap()
    }

    fn read(pem: &str) -> (Role, Lifetime) {
        let der = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
        (Role::of_certificate(&der).unwrap(), validity(&der).unwrap())
    }

    #[test]
    fn a_request_gets_the_name_that_was_chosen_and_not_the_one_it_asks_for() {
        let key = new_key().unwrap();
        let mut greedy = CertificateParams::new(vec!["controller.offshoot".to_owned()]).unwrap();
        greedy.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        greedy.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let request = greedy.serialize_request(&key).unwrap();
        let role = Role::node("a").unwrap();
        let signed = authority().sign(request.der(), &role, Lifetime::starting(NOW, DAY)).unwrap();
        assert_eq!(read(&signed), (role, Lifetime { from: NOW - SKEW, until: NOW + DAY }));
        let der = CertificateDer::from_pem_slice(signed.as_bytes()).unwrap();
        let (_, parsed) = x509_parser::parse_x509_certificate(&der).unwrap();
        assert!(!parsed.is_ca());
        assert!(!parsed.key_usage().unwrap().unwrap().value.key_cert_sign());
    }

    #[test]
    fn nothing_outlives_the_authority_that_signed_it() {
        let bundle =
            authority().issue(&Role::Controller, Lifetime::starting(NOW, 100 * DAY), String::new()).unwrap();
        assert_eq!(
            read(&bundle.certificate),
            (Role::Controller, Lifetime { from: NOW - SKEW, until: NOW + 10 * DAY })
        );
    }

    #[test]
    fn a_request_without_proof_of_its_key_is_refused() {
        let authority = authority();
        let check = |request: &[u8], expect: &str| {
            let error = authority
                .sign(request, &Role::Controller, Lifetime::starting(NOW, DAY))
                .unwrap_err()
                .to_string();
            assert!(error.contains(expect), "{error}");
        };
        let good = SigningKey::make().unwrap().request().unwrap();
        let mut broken = good.clone();
        let last = broken.len() - 1;
        broken[last] ^= 1;
        check(&broken, "signing_request");
        check(&good[..good.len() / 2], "signing_request");
        check(b"", "signing_request");
        check(&vec![0x30; MAX_REQUEST + 1], "has over 8192 bytes");
        let other = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        let request = CertificateParams::default().serialize_request(&other).unwrap();
        check(request.der(), "not ECDSA P-256");
    }

    #[test]
    fn an_authority_is_read_back_as_it_was_and_only_with_its_own_key() {
        let made = authority();
        let read_back = Authority::load(made.certificate(), made.key()).unwrap();
        assert_eq!(read_back.lifetime(), made.lifetime());
        let bundle = read_back.issue(
            &Role::Controller,
            Lifetime::starting(super::super::now(), DAY),
            made.certificate().to_owned(),
        );
        assert!(bundle.is_ok());
        let error = Authority::load(made.certificate(), authority().key()).err().unwrap().to_string();
        assert!(error.contains("not that of its certificate"), "{error}");
        let leaf = made.issue(&Role::Controller, Lifetime::starting(NOW, DAY), String::new()).unwrap();
        let error = Authority::load(&leaf.certificate, &leaf.key).err().unwrap().to_string();
        assert!(error.contains("may not sign"), "{error}");
        assert!(!format!("{:?}", leaf).contains("PRIVATE"), "{leaf:?}");
    }
}
