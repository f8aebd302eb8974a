//! How a Data Control Tower is reached: its address, whom to trust, proxy, and how many connections.
//!
//! The certificate is checked always, unless that was switched off by a setting whose name says what it is. Redirects are
//! not followed: they would carry the key elsewhere. Proxies come from the settings and not from the environment, so that what
//! `doctor` shows is what is used.

use std::time::Duration;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::{Certificate, Client, Proxy, Url, redirect, retry};

use super::settings::DctSettings;
use crate::volume::{Error, Result};

/// Longest that an unused connection is kept. Servers close them after a minute or so, and a request that meets that is lost.
const IDLE: Duration = Duration::from_secs(20);

/// Where a DCT is.
#[derive(Debug, Clone)]
pub(super) struct Place {
    /// `https://host:port/dct/v3`, the host being the one of the certificate.
    pub(super) base: Url,
    /// The host and port that were asked for, for people.
    pub(super) shown: String,
    /// The name to look up in place of the host in `base`.
    lookup: Option<String>,
}

impl Place {
    /// Checks `url`, `proxy` and `server-name`.
    pub(super) fn new(settings: &DctSettings) -> Result<Place> {
        let url = &settings.url;
        let bad = |why: &str| Error::invalid("url", format!("`{}` {why}", shown(url)));
        let mut base =
            Url::parse(url).map_err(|_| bad("is not an address; give one such as https://dct.example"))?;
        if base.scheme() != "https" {
            return Err(bad("does not begin with https://; the API key goes over TLS only"));
        }
        if !base.username().is_empty() || base.password().is_some() {
            return Err(bad("holds a user; give the API key by key-file"));
        }
        let path = base.path().trim_end_matches('/');
        if !(matches!(path, "" | "/dct" | "/dct/v3") && base.query().is_none() && base.fragment().is_none()) {
            return Err(bad("has a path; /dct/v3 is added by itself"));
        }
        let host = base.host_str().ok_or_else(|| bad("names no host"))?.to_owned();
        let shown = match base.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.clone(),
        };
        let lookup = settings.server_name.as_ref().map(|_| host.trim_matches(['[', ']']).to_owned());
        if let Some(name) = &settings.server_name {
            base.set_host(Some(name)).map_err(|_| Error::invalid("server-name", "is not a host name"))?;
        }
        base.set_path("/dct/v3");
        if let Some(proxy) = &settings.proxy {
            check_proxy(proxy)?;
        }
        Ok(Place { base, shown, lookup })
    }
}

fn check_proxy(proxy: &str) -> Result<()> {
    let bad = |why: &str| Error::invalid("proxy", why);
    let url = Url::parse(proxy)
        .map_err(|_| bad("is not an address; give one such as http://proxy.example:3128"))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return Err(bad("does not begin with http:// or https://"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(bad(
            "holds a user and a password, which settings may not; use a proxy that knows this host by its address",
        ));
    }
    Ok(())
}

/// An address without what may be secret in it.
fn shown(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let rest = rest.rsplit_once('@').map_or(rest, |(_, rest)| rest);
    super::text::shorten(&if scheme.is_empty() { rest.to_owned() } else { format!("{scheme}://{rest}") }, 100)
}

/// A client for a DCT that trusts `authorities` (PEM), or those of the machine.
pub(super) fn client(
    place: &Place,
    settings: &DctSettings,
    authorities: Option<&[u8]>,
) -> Result<Client, String> {
    let timing = &settings.timing;
    let mut builder = Client::builder()
        .user_agent(concat!("offshoot/", env!("CARGO_PKG_VERSION")))
        .http1_only()
        .https_only(true)
        .redirect(redirect::Policy::none())
        .retry(retry::never())
        .connect_timeout(timing.connect_timeout)
        .pool_idle_timeout(IDLE)
        .pool_max_idle_per_host(timing.max_connections)
        .tcp_nodelay(true)
        .no_proxy();
    if let Some(proxy) = &settings.proxy {
        builder =
            builder.proxy(Proxy::all(proxy.as_str()).map_err(|_| "proxy: is not an address".to_owned())?);
    }
    if let Some(host) = &place.lookup {
        builder = builder.dns_resolver(Elsewhere(host.clone()));
    }
    if settings.insecure_skip_verify {
        builder = builder.tls_danger_accept_invalid_certs(true);
    }
    if let Some(pem) = authorities {
        let certificates = Certificate::from_pem_bundle(pem).map_err(|_| "is not PEM".to_owned())?;
        if certificates.is_empty() {
            return Err("holds no certificate; give the authority of the DCT as PEM".to_owned());
        }
        builder = builder.tls_certs_only(certificates);
    }
    builder.build().map_err(|error| {
        let why = super::diagnose::innermost(&error);
        format!("no connection can be prepared: {why}; give the authority of the DCT by ca-file")
    })
}

/// Looks up one host whatever name is asked for.
struct Elsewhere(String);

impl Resolve for Elsewhere {
    fn resolve(&self, _: Name) -> Resolving {
        let host = self.0.clone();
        Box::pin(async move {
            let found: Vec<_> = tokio::net::lookup_host((host.as_str(), 0)).await?.collect();
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_becomes_the_base_of_the_api() {
        fn check(url: &str, server_name: Option<&str>, expect: Result<&str, &str>) {
            let mut settings = DctSettings::new("d", url, "/key");
            settings.server_name = server_name.map(str::to_owned);
            match (Place::new(&settings), expect) {
                (Ok(place), Ok(expect)) => {
                    assert_eq!(format!("{} {} {:?}", place.base, place.shown, place.lookup), expect);
                }
                (Err(error), Err(expect)) => {
                    let error = error.to_string();
                    assert!(error.starts_with("url: ") && error.contains(expect), "{error}");
                    assert!(!error.contains("secret"), "{error}");
                }
                (got, _) => panic!("{url}: {got:?}"),
            }
        }
        check("https://dct.example", None, Ok("https://dct.example/dct/v3 dct.example None"));
        check("https://dct.example/dct/v3/", None, Ok("https://dct.example/dct/v3 dct.example None"));
        check("https://[::1]:8443", Some("dct"), Ok("https://dct:8443/dct/v3 [::1]:8443 Some(\"::1\")"));
        check("http://dct.example", None, Err("https://"));
        check("dct.example", None, Err("is not an address"));
        check("https://me:secret@dct.example", None, Err("key-file"));
        check("https://dct.example/v3", None, Err("has a path"));
        check("https://dct.example/?key=x", None, Err("has a path"));
    }

    #[test]
    fn a_proxy_is_an_address_without_a_password() {
        fn check(proxy: &str, expect: &str) {
            let mut settings = DctSettings::new("d", "https://dct.example", "/key");
            settings.proxy = Some(proxy.to_owned());
            let error = Place::new(&settings).err().map(|error| error.to_string()).unwrap_or_default();
            assert!(error.contains(expect) && !error.contains("secret"), "{error}");
        }
        check("http://proxy.example:3128", "");
        check("proxy.example:3128", "proxy: ");
        check("http://me:secret@proxy.example", "proxy: holds a user");
    }
}
