//! What a broken request means for whoever has to mend it.
//!
//! The libraries below report in their own words, several layers deep. Here each becomes one of a few cases, by the type of the
//! error within and not by its text.

use std::error::Error as StdError;
use std::io;

use super::settings::DctSettings;

/// A request that got no answer.
#[derive(Debug)]
pub(super) struct Broken {
    /// Whether the request surely never left.
    pub(super) unsent: bool,
    /// Whether it is of use to try again.
    pub(super) passing: bool,
    /// One word for the metric.
    pub(super) outcome: &'static str,
    /// What happened and what to do.
    pub(super) message: String,
}

/// What `error` means for a request to `shown`.
pub(super) fn diagnose(error: &reqwest::Error, settings: &DctSettings, shown: &str) -> Broken {
    let unsent = error.is_connect() || error.is_builder();
    let broken = |passing, outcome, message| Broken { unsent, passing, outcome, message };
    let via = settings.proxy.as_deref().map(|proxy| format!(" through proxy {proxy}")).unwrap_or_default();
    if let Some(tls) = find::<rustls::Error>(error) {
        return broken(false, "untrusted", certificate(tls, settings, shown));
    }
    if error.is_dns() {
        return broken(
            true,
            "unknown_host",
            format!(
                "the host of {shown} is not known to the name service; check url and the name service of this machine"
            ),
        );
    }
    let io = find::<io::Error>(error).map(io::Error::kind);
    if unsent && io == Some(io::ErrorKind::ConnectionRefused) {
        return broken(
            true,
            "refused_connection",
            format!("{shown}{via} refuses connections; check that the DCT runs, and the port in url"),
        );
    }
    if error.is_timeout() {
        let limit = if unsent { settings.timing.connect_timeout } else { settings.timing.request_timeout };
        return broken(true, "timeout", format!("{shown}{via} does not answer within {limit:?}"));
    }
    let why = innermost(error);
    if unsent {
        let message = format!("{shown}{via} cannot be connected to: {why}");
        return broken(true, "unreachable", message);
    }
    broken(true, "lost", format!("the connection to {shown}{via} broke before the answer: {why}"))
}

fn certificate(error: &rustls::Error, settings: &DctSettings, shown: &str) -> String {
    use rustls::CertificateError as Bad;
    let rustls::Error::InvalidCertificate(bad) = error else {
        return format!("{shown} does not speak TLS as it should: {error}; check url");
    };
    let ca = match &settings.ca_file {
        Some(path) => format!("the authorities in ca-file {}", path.display()),
        None => "the authorities of this machine".to_owned(),
    };
    match bad {
        Bad::NotValidForName | Bad::NotValidForNameContext { .. } => format!(
            "the certificate of {shown} is for another name; give the certificate's name by server-name, or put it into url"
        ),
        Bad::Expired | Bad::ExpiredContext { .. } => {
            format!(
                "the certificate of {shown} has expired; renew it on the DCT, and check the clock of this machine"
            )
        }
        Bad::NotValidYet | Bad::NotValidYetContext { .. } => {
            format!(
                "the certificate of {shown} is not valid yet; check the clocks of the DCT and of this machine"
            )
        }
        Bad::UnknownIssuer | Bad::BadSignature => {
            format!(
                "the certificate of {shown} is not from {ca}; put the authority that signed it into ca-file"
            )
        }
        other => format!("the certificate of {shown} is not trusted by {ca}: {other:?}; check ca-file"),
    }
}

/// The first error of type `T` within `error`.
fn find<'a, T: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a T> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<T>() {
            return Some(found);
        }
        // An I/O error passes over what it wraps when it is asked for its source.
        let wrapped = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        if let Some(found) = wrapped.and_then(|wrapped| find::<T>(wrapped)) {
            return Some(found);
        }
        next = error.source();
    }
    None
}

/// The text of the error at the bottom.
pub(super) fn innermost(error: &(dyn StdError + 'static)) -> String {
    let mut last = error;
    while let Some(next) = last.source() {
        last = next;
    }
    super::text::shorten(&last.to_string(), 200)
}
