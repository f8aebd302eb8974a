//! Jobs: what DCT answers with instead of a result, and how they pass from PENDING to their end.
//!
//! A job is PENDING, then STARTED while it works, then STARTED with `is_waiting_for_telemetry`, then COMPLETED; the objects it
//! changed become visible some time after that. Two jobs of one target do not work at once: the later is WAITING. Its fate can
//! be ordered beforehand, see [`crate::faults`].

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::actions::Action;
use crate::clock::{self, Millis};
use crate::dct::Dct;
use crate::faults::Fate;
use crate::world::{Doc, Event, Kind, Ref, doc};

/// How often a job that waits for another looks again.
const WAIT: Millis = 50;

/// A job under way.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Run {
    action: Action,
    target: Ref,
    job_type: String,
    phase: Phase,
    fate: Fate,
    touched: Vec<Ref>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Phase {
    Pending,
    Running,
    Telemetry,
}

impl Dct {
    /// Starts a job and returns it as DCT shows it now.
    pub(crate) fn start_job(&mut self, job_type: &str, target: Ref, name: &str, action: Action) -> Doc {
        let id = uuid::Uuid::new_v4().simple().to_string();
        let engine = target.1.split('-').next().unwrap_or_default().to_owned();
        let engine_name = self.world.text(Kind::Engine, &engine, "name");
        let fate = self.faults.take_fate();
        let now = clock::text(self.world.now);
        let job = doc(json!({
            "id": id, "status": "PENDING", "type": job_type, "target_id": target.1, "target_name": name,
            "start_time": now, "update_time": now, "is_waiting_for_telemetry": false, "percent_complete": 0,
            "engine_ids": engine_name.as_ref().map(|_| [&engine]),
            "engines": engine_name.as_ref().map(|n| [json!({"engine_id": engine, "engine_name": n})]),
            "account_id": 1, "work_source_type": "DIRECT", "tags": [], "tasks": [],
        }));
        self.world.add_shown(Kind::Job, &id, job.clone());
        if fate.vanish {
            self.world.remove(Kind::Job, &id);
            self.world.sync(Kind::Job, &id);
        }
        let job_type = job_type.to_owned();
        let run = Run { action, target, job_type, phase: Phase::Pending, fate, touched: Vec::new() };
        self.world.runs.insert(id.clone(), run);
        self.world.schedule(clock::millis(self.config.pending), Event::Job(id));
        job
    }

    pub(crate) fn job_step(&mut self, id: &str) {
        let Some(mut run) = self.world.runs.remove(id) else { return };
        match run.phase {
            Phase::Pending if self.busy(&run.target) => {
                self.status(id, "WAITING");
                self.world.schedule(WAIT, Event::Job(id.to_owned()));
            }
            Phase::Pending => {
                run.phase = Phase::Running;
                let work = self.config.running_by_type.get(&run.job_type).unwrap_or(&self.config.running);
                let work = clock::millis(*work).saturating_add(run.fate.slower);
                let status = run.fate.meanwhile.clone().unwrap_or_else(|| "STARTED".to_owned());
                self.status(id, &status);
                self.world.schedule(work, Event::Job(id.to_owned()));
            }
            Phase::Running => return self.work(id, run),
            Phase::Telemetry => return self.end(id, run, "COMPLETED", None),
        }
        self.world.runs.insert(id.to_owned(), run);
    }

    fn work(&mut self, id: &str, mut run: Run) {
        let _ = self.world.take_touched();
        let done = match &run.fate.end {
            Some(_) if !run.fate.commit => Ok(None),
            _ => self.act(&run.action),
        };
        run.touched = self.world.take_touched();
        match (done, run.fate.end.clone()) {
            (Err(details), _) => self.end(id, run, "FAILED", Some(details)),
            (Ok(_), Some(status)) => {
                let details = run.fate.details.clone();
                self.end(id, run, &status, details);
            }
            (Ok(result), None) => {
                if let Some(result) = result {
                    self.world.set_shown(Kind::Job, id, "result", result);
                }
                if self.config.telemetry.is_zero() {
                    return self.end(id, run, "COMPLETED", None);
                }
                self.status(id, "STARTED");
                self.world.set_shown(Kind::Job, id, "is_waiting_for_telemetry", true);
                run.phase = Phase::Telemetry;
                self.world.schedule(clock::millis(self.config.telemetry), Event::Job(id.to_owned()));
                self.world.runs.insert(id.to_owned(), run);
            }
        }
    }

    fn end(&mut self, id: &str, run: Run, status: &str, details: Option<String>) {
        self.status(id, status);
        self.world.set_shown(Kind::Job, id, "is_waiting_for_telemetry", false);
        if status == "COMPLETED" {
            self.world.set_shown(Kind::Job, id, "percent_complete", 100);
        }
        if let Some(details) = details {
            self.world.set_shown(Kind::Job, id, "error_details", details);
        }
        // A bookmark is DCT's own: its state is not learnt by telemetry.
        let (own, learnt): (Vec<Ref>, Vec<Ref>) =
            run.touched.into_iter().partition(|(kind, _)| matches!(kind, Kind::Bookmark));
        for (kind, id) in own {
            self.world.sync(kind, &id);
        }
        if self.config.lag.is_zero() {
            for (kind, id) in learnt {
                self.world.sync(kind, &id);
            }
        } else if !learnt.is_empty() {
            self.world.schedule(clock::millis(self.config.lag), Event::Sync(learnt));
        }
    }

    fn status(&mut self, id: &str, status: &str) {
        let now = clock::text(self.world.now);
        self.world.set_shown(Kind::Job, id, "status", status);
        self.world.set_shown(Kind::Job, id, "update_time", now);
    }

    fn busy(&self, target: &Ref) -> bool {
        self.world.runs.values().any(|r| r.target == *target && r.phase == Phase::Running)
    }

    /// DCT gives up following a job. The work it has not done by now is not done.
    pub(crate) fn abandon(&mut self, id: &str) -> bool {
        let Some(run) = self.world.runs.remove(id) else { return false };
        self.end(id, run, "ABANDONED", Some("the job was abandoned".to_owned()));
        true
    }

    /// Gives up on all jobs under way.
    pub(crate) fn abandon_all(&mut self) {
        let ids: Vec<String> = self.world.runs.keys().cloned().collect();
        for id in ids {
            self.abandon(&id);
        }
    }
}

/// The answer of an operation that starts a job.
pub(crate) fn answer(job: Doc) -> Value {
    json!({ "job": job })
}
