//! `offshoot doctor`: what is missing or wrong, each with the command that mends it.
//!
//! A server that runs is asked, for it sees its own machine, pools and rights. Without one the same checks of the
//! machine run here, so that the command helps before the first start.

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::Args;
use serde::Serialize;

use super::client::Client;
use super::output::{Output, Style, clean};
use super::session::{Session, block_on, said};
use crate::config::DEFAULT_STATE_DIR;
use crate::host::linux::Linux;
use crate::proto::offshoot::{self, DiagnoseRequest, check};
use crate::service::api::{self, CheckStatus};
use crate::service::{host_checks, state_dir_check};

/// Check this machine and the server, and say how to mend what is wrong
///
/// Looks at the kernel, filesystems, programs, loop devices and rights; with a server running, also at its pools,
/// records and left-overs. Changes nothing. Ends with 1 if a check fails; a warning is no failure.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:\n  offshoot doctor\n  offshoot doctor --output json")]
pub(super) struct Doctor {
    #[command(flatten)]
    client: Client,
    /// Directory of the server's state, looked at if no server runs
    #[arg(long, env = "OFFSHOOT_STATE_DIR", value_name = "DIR", default_value = DEFAULT_STATE_DIR)]
    state_dir: PathBuf,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, Serialize)]
pub(super) struct Checks {
    ok: bool,
    checks: Vec<Check>,
}

#[derive(Debug, Serialize)]
struct Check {
    name: String,
    status: &'static str,
    detail: String,
    mend: String,
}

const OK: &str = "ok";
const WARN: &str = "warn";
pub(super) const FAIL: &str = "fail";

impl From<api::Check> for Check {
    fn from(check: api::Check) -> Self {
        let status = match check.status {
            CheckStatus::Ok => OK,
            CheckStatus::Warn => WARN,
            CheckStatus::Fail => FAIL,
        };
        Check { name: check.name, status, detail: check.detail, mend: check.mend }
    }
}

impl From<offshoot::Check> for Check {
    fn from(check: offshoot::Check) -> Self {
        let status = match check.status() {
            check::Status::Ok => OK,
            check::Status::Warn | check::Status::UnknownStatus => WARN,
            check::Status::Fail => FAIL,
        };
        Check { name: check.name, status, detail: check.detail, mend: check.mend }
    }
}

impl Doctor {
    pub(super) fn run(self) -> Result<()> {
        block_on(async {
            let checks = match Session::open(&self.client).await {
                Ok(session) => {
                    let answer =
                        session.copies().diagnose(DiagnoseRequest {}).await.map_err(said)?.into_inner();
                    let mut checks = vec![self.server(OK, "answers", "")];
                    checks.extend(answer.checks.into_iter().map(Check::from));
                    checks
                }
                Err(_) => {
                    let host = Linux::new();
                    let mut checks: Vec<Check> = host_checks(&host).into_iter().map(Check::from).collect();
                    checks.push(state_dir_check(&host, &self.state_dir).into());
                    checks.push(self.server(
                        WARN,
                        "does not answer",
                        "start it with `offshoot serve`, or name its socket with --socket",
                    ));
                    checks
                }
            };
            let checks = Checks { ok: checks.iter().all(|check| check.status != FAIL), checks };
            self.output.print(&checks, &[], |style| checks.draw(style))?;
            let failed = checks.count(FAIL);
            if failed > 0 {
                bail!("{failed} of {} checks failed", checks.checks.len());
            }
            Ok(())
        })
    }

    fn server(&self, status: &'static str, how: &str, mend: &str) -> Check {
        let detail = format!("{how} on {}", self.client.socket.0.display());
        Check { name: "server".into(), status, detail, mend: mend.into() }
    }
}

impl Checks {
    /// These.
    pub(super) fn of(checks: Vec<api::Check>) -> Checks {
        let checks: Vec<Check> = checks.into_iter().map(Check::from).collect();
        Checks { ok: checks.iter().all(|check| check.status != FAIL), checks }
    }

    /// How many ended so.
    pub(super) fn count(&self, status: &str) -> usize {
        self.checks.iter().filter(|check| check.status == status).count()
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.checks.len()
    }

    pub(super) fn draw(&self, style: &Style) -> String {
        let width = self.checks.iter().map(|check| check.name.chars().count()).max().unwrap_or(0);
        let arrow = if style.utf8 { "→" } else { "->" };
        let mut text = String::new();
        for check in &self.checks {
            text += &format!("{:4}  {:width$}  {}\n", check.status, clean(&check.name), clean(&check.detail));
            if !check.mend.is_empty() {
                text += &format!("{:4}  {:width$}  {arrow} {}\n", "", "", clean(&check.mend));
            }
        }
        text + &format!("{} ok, {} warnings, {} failed\n", self.count(OK), self.count(WARN), self.count(FAIL))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_stands_above_what_mends_it() {
        let check = |name: &str, status, detail: &str, mend: &str| {
            Check::from(api::Check { name: name.into(), status, detail: detail.into(), mend: mend.into() })
        };
        let checks = Checks {
            ok: false,
            checks: vec![
                check("kernel", CheckStatus::Ok, "6.18", ""),
                check(
                    "filesystem xfs",
                    CheckStatus::Warn,
                    "mkfs.xfs not installed",
                    "apt-get install xfsprogs",
                ),
                check("loop devices", CheckStatus::Fail, "/dev/loop-control is missing", "modprobe loop"),
            ],
        };
        insta::assert_snapshot!("doctor_plain", checks.draw(&Style::PLAIN));
        insta::assert_snapshot!("doctor_json", serde_json::to_string_pretty(&checks).unwrap());
    }
}
