//! What the controller is told about its Data Control Towers.
//!
//! Read from a TOML file. A key that is not known is an error with its line: a misspelt `ca-file` that is ignored would
//! be found out at the worst time. What parsed is not yet good: [`Settings::check`] says what is wrong with a value, by
//! the name of its key.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Deserializer};

use crate::volume::{Error, Kind, Result};

/// The Data Control Towers that a controller knows.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Settings {
    /// Tells apart clusters that share a DCT: it goes into a tag of everything that is made.
    #[serde(default = "default_cluster")]
    pub cluster: String,
    /// Every DCT, in the order of the file.
    #[serde(default, rename = "dct")]
    pub dcts: Vec<DctSettings>,
}

impl Default for Settings {
    fn default() -> Self {
        Settings { cluster: default_cluster(), dcts: Vec::new() }
    }
}

fn default_cluster() -> String {
    "default".to_owned()
}

/// One DCT.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct DctSettings {
    /// Its name here, which stands in the ids of its volumes.
    pub name: String,
    /// Where it is, such as `https://dct.example`. `/dct/v3` is added.
    pub url: String,
    /// The file that holds the API key. It is read anew when it changes.
    pub key_file: PathBuf,
    /// The authorities that are trusted for it, PEM; those of the machine if none is given. Read anew when it changes.
    pub ca_file: Option<PathBuf>,
    /// An HTTP proxy on the way, such as `http://proxy.example:3128`. Those of the environment are not used.
    pub proxy: Option<String>,
    /// The name that its certificate has, where that is not the one in `url`.
    pub server_name: Option<String>,
    /// Takes any certificate. Whoever is on the way gets the API key.
    #[serde(default)]
    pub insecure_skip_verify: bool,
    /// What is special about an engine, by its id, name or host name.
    #[serde(default)]
    pub engines: BTreeMap<String, EngineSettings>,
    /// How long things may take, and how many at once.
    #[serde(default)]
    pub timing: Timing,
}

impl DctSettings {
    /// A DCT of which only the needful is said.
    pub fn new(name: impl Into<String>, url: impl Into<String>, key_file: impl Into<PathBuf>) -> Self {
        DctSettings {
            name: name.into(),
            url: url.into(),
            key_file: key_file.into(),
            ca_file: None,
            proxy: None,
            server_name: None,
            insecure_skip_verify: false,
            engines: BTreeMap::new(),
            timing: Timing::default(),
        }
    }
}

/// What is special about an engine.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct EngineSettings {
    /// The address that nodes mount from, where it is not the one that the DCT reaches the engine by.
    pub data_address: Option<String>,
}

/// How long things may take, and how many at once.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Timing {
    /// Longest time of one request, its connection included.
    #[serde(deserialize_with = "span")]
    pub request_timeout: Duration,
    /// Longest time of making a connection.
    #[serde(deserialize_with = "span")]
    pub connect_timeout: Duration,
    /// How long a request that may be repeated is, after it failed.
    #[serde(deserialize_with = "span")]
    pub retry_for: Duration,
    /// Wait before the first repetition; doubles with each.
    #[serde(deserialize_with = "span")]
    pub retry_first: Duration,
    /// Time to the first look at a job; grows with each.
    #[serde(deserialize_with = "span")]
    pub poll_first: Duration,
    /// Longest time between two looks at a job.
    #[serde(deserialize_with = "span")]
    pub poll_max: Duration,
    /// How long an object may lag the job that changed it.
    #[serde(deserialize_with = "span")]
    pub lag: Duration,
    /// How long a job is waited for.
    #[serde(deserialize_with = "span")]
    pub job_timeout: Duration,
    /// How long what was found out about a DCT's capabilities is believed.
    #[serde(deserialize_with = "span")]
    pub capabilities_for: Duration,
    /// Most requests at once, and so most connections.
    pub max_connections: usize,
    /// Objects per page of a list, 1 to 1000.
    pub page_size: u16,
}

impl Default for Timing {
    fn default() -> Self {
        Timing {
            request_timeout: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(5),
            // Shorter than the time that the sidecars of Kubernetes give a call, so that they get the reason.
            retry_for: Duration::from_secs(8),
            retry_first: Duration::from_millis(200),
            poll_first: Duration::from_millis(250),
            poll_max: Duration::from_secs(5),
            lag: Duration::from_secs(90),
            job_timeout: Duration::from_secs(3600),
            capabilities_for: Duration::from_secs(3600),
            max_connections: 8,
            page_size: 500,
        }
    }
}

fn span<'de, D: Deserializer<'de>>(from: D) -> std::result::Result<Duration, D::Error> {
    let text = String::deserialize(from)?;
    humantime::parse_duration(&text).map_err(|_| {
        serde::de::Error::custom(format!("`{text}` is not a time; give one such as 30s or 250ms"))
    })
}

impl Settings {
    /// Reads and checks the text of a file of settings.
    pub fn parse(text: &str) -> Result<Settings> {
        let settings: Settings = toml::from_str(text)
            .map_err(|error| Error::new(Kind::Invalid, error.to_string().trim_end().to_owned()))?;
        settings.check()?;
        Ok(settings)
    }

    /// Says what is wrong with a value, by the name of its key.
    pub fn check(&self) -> Result<()> {
        check_name("cluster", &self.cluster)?;
        let mut names = BTreeSet::new();
        for dct in &self.dcts {
            check_name("dct.name", &dct.name)?;
            if !names.insert(dct.name.as_str()) {
                return Err(Error::invalid("dct.name", format!("`{}` is there twice", dct.name)));
            }
            dct.check().map_err(|error| error.context(format!("dct `{}`", dct.name)))?;
        }
        Ok(())
    }
}

impl DctSettings {
    fn check(&self) -> Result<()> {
        if self.key_file.as_os_str().is_empty() {
            return Err(Error::invalid(
                "key-file",
                "is empty; give the path of a file that holds the API key",
            ));
        }
        if self.server_name.is_some() && self.proxy.is_some() {
            return Err(Error::invalid(
                "server-name",
                "does not go with proxy, which resolves names itself; give the certificate's name in url",
            ));
        }
        if let Some(name) = &self.server_name {
            let good = !name.is_empty()
                && name.parse::<std::net::IpAddr>().is_err()
                && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b));
            if !good {
                return Err(Error::invalid(
                    "server-name",
                    format!("`{}` is not a host name", name.escape_debug()),
                ));
            }
        }
        for (engine, special) in &self.engines {
            if let Some(address) = &special.data_address
                && !is_host(address)
            {
                let why = format!("`{}` is neither an address nor a host name", address.escape_debug());
                return Err(Error::invalid(&format!("engines.{engine:?}.data-address"), why));
            }
        }
        let timing = &self.timing;
        let spans = [
            ("timing.request-timeout", timing.request_timeout),
            ("timing.connect-timeout", timing.connect_timeout),
            ("timing.poll-first", timing.poll_first),
            ("timing.job-timeout", timing.job_timeout),
        ];
        for (key, span) in spans {
            if span.is_zero() {
                return Err(Error::invalid(key, "is zero; give a time such as 5s"));
            }
        }
        if timing.poll_max < timing.poll_first {
            return Err(Error::invalid("timing.poll-max", "is shorter than timing.poll-first"));
        }
        if !(1..=1000).contains(&timing.page_size) {
            return Err(Error::invalid("timing.page-size", "is not between 1 and 1000"));
        }
        if !(1..=1000).contains(&timing.max_connections) {
            return Err(Error::invalid("timing.max-connections", "is not between 1 and 1000"));
        }
        Ok(())
    }
}

/// A name that can stand in an id and in a tag.
fn check_name(key: &str, name: &str) -> Result<()> {
    let bytes = name.as_bytes();
    let ends = [bytes.first(), bytes.last()];
    let good = bytes.len() <= 63
        && ends.iter().all(|end| end.is_some_and(u8::is_ascii_alphanumeric))
        && bytes.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-');
    if good {
        return Ok(());
    }
    let why = format!("`{}` is not a name; give at most 63 of a-z, 0-9 and `-`", name.escape_debug());
    Err(Error::invalid(key, why))
}

fn is_host(text: &str) -> bool {
    text.parse::<std::net::IpAddr>().is_ok()
        || (!text.is_empty()
            && text.len() <= 253
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.".contains(&b)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "cluster = \"prod-eu1\"\n[[dct]]\nname = \"prod\"\nurl = \"https://dct.example\"\nkey-file = \"/etc/key\"\n";

    #[test]
    fn the_needful_is_enough_and_the_rest_has_defaults() {
        let settings = Settings::parse(GOOD).unwrap();
        assert_eq!(settings.cluster, "prod-eu1");
        assert_eq!(settings.dcts, [DctSettings::new("prod", "https://dct.example", "/etc/key")]);
        assert_eq!(Settings::parse("").unwrap().cluster, "default");
    }

    #[test]
    fn everything_can_be_said() {
        let more = "ca-file = \"/ca\"\nserver-name = \"dct\"\ninsecure-skip-verify = true\n\
                    [dct.timing]\npoll-max = \"2s\"\nmax-connections = 3\n\
                    [dct.engines.\"engine1.example\"]\ndata-address = \"10.1.2.3\"\n";
        let settings = Settings::parse(&format!("{GOOD}{more}")).unwrap();
        let dct = &settings.dcts[0];
        assert_eq!(dct.timing.poll_max, Duration::from_secs(2));
        assert_eq!(dct.timing.max_connections, 3);
        assert_eq!(dct.engines["engine1.example"].data_address.as_deref(), Some("10.1.2.3"));
        assert!(dct.insecure_skip_verify);
    }

    #[test]
    fn what_is_wrong_is_named_by_its_key() {
        fn check(more: &str, expect: &str) {
            let error = Settings::parse(&format!("{GOOD}{more}")).unwrap_err().to_string();
            assert!(error.contains(expect), "{more}: {error}");
        }
        check("ca-fil = \"/ca\"\n", "ca-fil");
        check("[dct.timing]\npoll-max = \"soon\"\n", "is not a time");
        check("[dct.timing]\npoll-max = \"1ms\"\n", "timing.poll-max");
        check("[dct.timing]\npage-size = 0\n", "timing.page-size");
        check("[dct.timing]\nmax-connections = 0\n", "timing.max-connections");
        check("[dct.timing]\nrequest-timeout = \"0s\"\n", "timing.request-timeout");
        check("server-name = \"10.0.0.1\"\n", "server-name");
        check("server-name = \"dct\"\nproxy = \"http://p\"\n", "server-name: does not go with proxy");
        check("[dct.engines.e1]\ndata-address = \"a b\"\n", "data-address");
        check("[[dct]]\nname = \"prod\"\nurl = \"https://b\"\nkey-file = \"/k\"\n", "is there twice");
        check("[[dct]]\nname = \"a:b\"\nurl = \"https://b\"\nkey-file = \"/k\"\n", "dct.name");
    }
}
