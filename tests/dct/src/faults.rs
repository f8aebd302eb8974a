//! What goes wrong on order.
//!
//! A rule names an operation (as in the interface table, or `*`), the n-th request of it from now, how often, and what happens.
//! Faults of the connection and of the answer happen around the operation; faults of a job decide the fate of the job that
//! the operation starts.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::clock::Millis;

/// What goes wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Fault {
    /// The operation is done, then the connection is reset instead of an answer.
    LoseAnswer,
    /// The connection is reset before the operation is done.
    LoseRequest,
    /// The operation is not done; this status is answered, such as 429 or 503.
    Status {
        /// HTTP status.
        code: u16,
        /// Seconds of a `Retry-After` header.
        #[serde(default)]
        retry_after: Option<u32>,
    },
    /// The operation is done, then this status is answered all the same.
    StatusAfter {
        /// HTTP status.
        code: u16,
    },
    /// The key is not accepted, 401.
    Unauthorized,
    /// The request waits before it is looked at.
    Delay {
        /// Milliseconds by the simulator's clock.
        ms: u64,
    },
    /// The job ends FAILED with this text. The work is not done.
    JobFailed {
        /// `error_details`.
        details: String,
    },
    /// The job ends in this status: CANCELED, TIMEDOUT, ABANDONED.
    JobEnds {
        /// The status.
        status: String,
        /// Whether the work is done all the same.
        #[serde(default)]
        done: bool,
    },
    /// The job is not known (404) from the start. The work is done.
    JobVanishes,
    /// The job works longer, and meanwhile has a status of choice.
    JobSlow {
        /// Milliseconds more.
        ms: u64,
        /// RUNNING, WAITING, SUSPENDED; STARTED without it.
        #[serde(default)]
        status: Option<String>,
    },
    /// After the operation, another writer appends this address to the `nfs_addresses` of every host.
    RivalAddress {
        /// The address.
        address: String,
    },
}

/// When a fault happens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// `POST /vdbs/{vdbId}/enable`, or `*` for any.
    pub op: String,
    /// The first request it happens to, counted from 1 from when the rule was made.
    #[serde(default = "one")]
    pub nth: u32,
    /// To how many requests it happens from there on.
    #[serde(default = "one")]
    pub times: u32,
    /// What happens.
    pub fault: Fault,
}

fn one() -> u32 {
    1
}

impl Rule {
    /// The next request of an operation goes wrong in this way.
    pub fn next(op: &str, fault: Fault) -> Rule {
        Rule { op: op.to_owned(), nth: 1, times: 1, fault }
    }

    /// The same from the n-th request on.
    pub fn nth(mut self, nth: u32) -> Rule {
        self.nth = nth;
        self
    }

    /// The same this many times.
    pub fn times(mut self, times: u32) -> Rule {
        self.times = times;
        self
    }
}

/// What will become of a job.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Fate {
    pub(crate) slower: Millis,
    pub(crate) meanwhile: Option<String>,
    pub(crate) end: Option<String>,
    pub(crate) details: Option<String>,
    pub(crate) commit: bool,
    pub(crate) vanish: bool,
}

/// Rules in force and requests counted.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    rules: Vec<Rule>,
    fate: Fate,
    /// Requests by operation since the counts were last cleared.
    pub(crate) counts: BTreeMap<String, u64>,
    /// The same in order.
    pub(crate) log: Vec<String>,
}

impl Faults {
    pub(crate) fn add(&mut self, rule: Rule) {
        self.rules.push(rule);
    }

    pub(crate) fn clear(&mut self) {
        self.rules.clear();
    }

    pub(crate) fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// Counts a request and returns what happens to it.
    pub(crate) fn strike(&mut self, op: &str) -> Vec<Fault> {
        *self.counts.entry(op.to_owned()).or_default() += 1;
        self.log.push(op.to_owned());
        let mut all = Vec::new();
        for rule in self.rules.iter_mut().filter(|r| r.op == "*" || r.op == op) {
            if rule.nth > 1 {
                rule.nth -= 1;
            } else if rule.times > 0 {
                rule.times -= 1;
                all.push(rule.fault.clone());
            }
        }
        self.rules.retain(|r| r.times > 0);
        self.fate = Fate::default();
        for fault in &all {
            self.fate.add(fault);
        }
        all
    }

    /// The fate of the job that the present request starts.
    pub(crate) fn take_fate(&mut self) -> Fate {
        std::mem::take(&mut self.fate)
    }
}

impl Fate {
    fn add(&mut self, fault: &Fault) {
        match fault {
            Fault::JobFailed { details } => {
                self.end = Some("FAILED".to_owned());
                self.details = Some(details.clone());
            }
            Fault::JobEnds { status, done } => {
                self.end = Some(status.clone());
                self.commit = *done;
                self.details = Some(format!("the job is {status}"));
            }
            Fault::JobVanishes => self.vanish = true,
            Fault::JobSlow { ms, status } => {
                self.slower = Millis::try_from(*ms).unwrap_or(Millis::MAX);
                self.meanwhile.clone_from(status);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_strikes_the_nth_request_of_its_operation_as_often_as_it_says() {
        let mut faults = Faults::default();
        faults.add(Rule::next("GET /vdbs", Fault::LoseAnswer).nth(2).times(2));
        let mut struck = Vec::new();
        for op in ["GET /vdbs", "GET /jobs", "GET /vdbs", "GET /vdbs", "GET /vdbs"] {
            struck.push(faults.strike(op).len());
        }
        assert_eq!(struck, [0, 0, 1, 1, 0]);
        assert_eq!(faults.counts["GET /vdbs"], 4);
        assert!(faults.rules().is_empty());
    }

    #[test]
    fn a_rule_is_read_from_json_and_a_word_it_does_not_know_is_refused() {
        fn check(text: &str, expect: Option<Rule>) {
            assert_eq!(serde_json::from_str::<Rule>(text).ok(), expect, "{text}");
        }
        let slow = Fault::Status { code: 429, retry_after: Some(3) };
        check(
            r#"{"op":"*","times":2,"fault":{"kind":"status","code":429,"retry_after":3}}"#,
            Some(Rule::next("*", slow).times(2)),
        );
        check(r#"{"op":"*","fault":{"kind":"lose_answer"}}"#, Some(Rule::next("*", Fault::LoseAnswer)));
        check(r#"{"op":"*","fault":{"kind":"explode"}}"#, None);
        check(r#"{"op":"*","fault":{"kind":"status","code":429,"after":3}}"#, None);
    }
}
