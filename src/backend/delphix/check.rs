//! What `offshoot doctor` says about a Data Control Tower.

use std::time::Duration;

use jiff::Timestamp;

use super::dct::Dct;
use super::fault::{Fault, Result};
use super::filter::{Filter, Sort};
use super::model::Engine;
use super::transport::Ask;

/// How far the clocks may be apart: certificates and timestamps of snapshots are compared.
const APART: Duration = Duration::from_secs(60);

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// What it is.
    pub name: &'static str,
    /// How it stands.
    pub health: Health,
    /// What was found.
    pub detail: String,
    /// What to do about it; empty when nothing is needed.
    pub mend: String,
}

/// How a check stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// As it should be.
    Ok,
    /// Works, with something to know.
    Warn,
    /// Does not work.
    Fail,
}

impl Check {
    fn ok(name: &'static str, detail: impl Into<String>) -> Check {
        Check { name, health: Health::Ok, detail: detail.into(), mend: String::new() }
    }

    fn bad(name: &'static str, health: Health, detail: impl Into<String>, mend: impl Into<String>) -> Check {
        Check { name, health, detail: detail.into(), mend: mend.into() }
    }
}

impl Dct {
    /// Looks at everything that has to be right before a volume can be made: way, certificate, key, clock, what the release can do,
    /// engines. Stops where the DCT is not reached.
    pub async fn check(&self) -> Vec<Check> {
        let mut checks = Vec::new();
        let transport = &self.0.transport;
        let mut ask = Ask::read("GET /management/engines", &[]);
        ask.query = vec![("limit", "1".to_owned())];
        let asked = transport.send(&ask).await;
        let denied = matches!(&asked, Err(failure) if *failure.fault() == Fault::Denied);
        match &asked {
            Err(failure) if !denied => {
                let mend = "see the detail: it names the setting";
                checks.push(Check::bad("reachable", Health::Fail, failure.to_string(), mend));
                checks.push(self.certificate());
                return checks;
            }
            _ => checks.push(Check::ok("reachable", transport.shown())),
        }
        checks.push(self.certificate());
        match &asked {
            Err(failure) => {
                let mend = "put a key of the DCT that may see engines, VDBs and environments into key-file";
                checks.push(Check::bad("key", Health::Fail, failure.to_string(), mend));
                return checks;
            }
            Ok(answer) => {
                let file = self.settings().key_file.display().to_string();
                checks.push(Check::ok("key", format!("the key in {file} is accepted")));
                checks.extend(answer.date().map(|date| clock(date, Timestamp::now())));
            }
        }
        checks.push(self.can().await);
        checks.extend(engines(self.all(Filter::all(), Sort::Any).await));
        checks
    }

    fn certificate(&self) -> Check {
        let settings = self.settings();
        if settings.insecure_skip_verify {
            return Check::bad(
                "certificate",
                Health::Warn,
                "insecure-skip-verify is set: anybody on the way can read the API key",
                "give the authority of the DCT by ca-file and take insecure-skip-verify out",
            );
        }
        let by = match &settings.ca_file {
            Some(path) => format!("the authorities in {}", path.display()),
            None => "the authorities of this machine".to_owned(),
        };
        let name = settings.server_name.as_ref().map(|name| format!(", as {name}")).unwrap_or_default();
        Check::ok("certificate", format!("checked by {by}{name}"))
    }

    async fn can(&self) -> Check {
        match self.capabilities().await {
            Ok(can) if can.exported_data_directory => Check::ok("capabilities", can.to_string()),
            Ok(can) => Check::bad(
                "capabilities",
                Health::Fail,
                can.to_string(),
                "this release does not say where the data of a VDB is exported; use DCT 21.0.0 or newer",
            ),
            Err(failure) => {
                let mend = "see the detail";
                Check::bad("capabilities", Health::Fail, failure.to_string(), mend)
            }
        }
    }
}

fn clock(theirs: Timestamp, ours: Timestamp) -> Check {
    let apart = theirs.duration_since(ours).unsigned_abs();
    if apart <= APART {
        return Check::ok("clock", format!("within {}s of the DCT's", APART.as_secs()));
    }
    let detail = format!("the DCT's clock shows {theirs}, ours {ours}: {}s apart", apart.as_secs());
    Check::bad("clock", Health::Warn, detail, "set both by the same time service")
}

fn engines(all: Result<Vec<Engine>>) -> Vec<Check> {
    let all = match all {
        Ok(all) => all,
        Err(failure) => {
            return vec![Check::bad("engines", Health::Fail, failure.to_string(), "see the detail")];
        }
    };
    if all.is_empty() {
        let mend = "register an engine on the DCT, and let the account of the key see it";
        return vec![Check::bad("engines", Health::Fail, "the DCT shows no engine to this key", mend)];
    }
    let one = |engine: &Engine| {
        let name = engine.name.as_deref().unwrap_or(&engine.id);
        let detail = format!("{name}, release {}", engine.version.as_deref().unwrap_or("not said"));
        if engine.online() == Some(false) {
            let why = engine.engine_connection_status_details.as_deref().unwrap_or("no reason is given");
            let status = engine.engine_connection_status.as_deref().unwrap_or("OFFLINE");
            let detail = format!("{detail}: {status}: {}", super::text::shorten(why, 200));
            return Check::bad(
                "engine",
                Health::Fail,
                detail,
                "mend the connection on the DCT, under Engines",
            );
        }
        Check::ok("engine", format!("{detail}: online"))
    };
    all.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_that_are_a_minute_apart_are_warned_of() {
        fn check(theirs: &str, expect: Health) {
            let ours = "2026-01-01T00:00:00Z".parse().unwrap();
            assert_eq!(clock(theirs.parse().unwrap(), ours).health, expect, "{theirs}");
        }
        check("2026-01-01T00:01:00Z", Health::Ok);
        check("2026-01-01T00:01:01Z", Health::Warn);
        check("2025-12-31T23:58:00Z", Health::Warn);
    }

    #[test]
    fn an_engine_that_is_away_is_named_with_the_reason() {
        let engine = Engine {
            id: "1".to_owned(),
            name: Some("e1".to_owned()),
            engine_connection_status: Some("CONNECTION_ERROR".to_owned()),
            engine_connection_status_details: Some("no route".to_owned()),
            ..Engine::default()
        };
        let found = engines(Ok(vec![engine]));
        assert_eq!(found[0].health, Health::Fail);
        assert_eq!(found[0].detail, "e1, release not said: CONNECTION_ERROR: no route");
        assert_eq!(engines(Ok(Vec::new()))[0].health, Health::Fail);
    }
}
