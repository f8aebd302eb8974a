//! Runs scenarios, and says how each went.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use offshoot_cluster::Layout;
use serde_json::json;

use crate::objects::text;
use crate::setup::{Env, OFFSHOOT};
use crate::space::Space;
use crate::{evidence, leaks};

/// No scenario needs so long.
const LIMIT: Duration = Duration::from_secs(900);

type Running = Pin<Box<dyn Future<Output = Result<()>>>>;

/// A promise, and how it is tried.
#[derive(Clone, Copy)]
pub(crate) struct Scenario {
    /// Its name, which is also that of its namespace.
    pub(crate) name: &'static str,
    /// The promise.
    pub(crate) about: &'static str,
    /// Whether it disturbs others, or is disturbed by them.
    pub(crate) alone: bool,
    /// What is done.
    pub(crate) run: fn(Rc<Space>) -> Running,
}

/// How one went.
pub(crate) struct Outcome {
    /// The scenario's name.
    pub(crate) name: String,
    /// How long it took, with its cleaning up.
    pub(crate) took: Duration,
    /// Why it failed, if it did.
    pub(crate) failure: Option<String>,
}

/// Runs scenarios on a cluster that is there or is made.
///
/// # Errors
/// If there can be no cluster, or Offshoot cannot be installed. Failures of scenarios are results.
pub(crate) async fn all(
    layout: &Layout,
    evidence: PathBuf,
    wanted: Vec<Scenario>,
    jobs: usize,
    repeat: u32,
) -> Result<Vec<Outcome>> {
    let start = Instant::now();
    let env = Env::up(layout, evidence, say).await?;
    leaks::begin(&env)?;
    let ended_before = ended(&env).await?;
    let watch = tokio::task::spawn_local(leaks::watch(env.clone()));
    let mut results =
        vec![Outcome { name: "(cluster and installation)".into(), took: start.elapsed(), failure: None }];

    let repeated = |alone: bool| {
        wanted
            .iter()
            .filter(move |one| one.alone == alone)
            .flat_map(move |one| (0..repeat).map(move |round| (*one, round)))
    };
    let queue = Rc::new(RefCell::new(repeated(false).collect::<VecDeque<_>>()));
    let done = Rc::new(RefCell::new(Vec::new()));
    let together = !queue.borrow().is_empty();
    let workers: Vec<_> = (0..jobs.max(1))
        .map(|_| {
            let (env, queue, done) = (env.clone(), queue.clone(), done.clone());
            tokio::task::spawn_local(async move {
                loop {
                    let next = queue.borrow_mut().pop_front();
                    let Some((scenario, round)) = next else { break };
                    let outcome = one(&env, scenario, round).await;
                    done.borrow_mut().push(outcome);
                }
            })
        })
        .collect();
    for worker in workers {
        worker.await.context("a scenario has panicked")?;
    }
    results.append(&mut done.borrow_mut());
    if together {
        results.push(step(&env, "(nothing left of those side by side)", leaks::none_at_all(&env)).await);
    }
    for (scenario, round) in repeated(true) {
        let outcome = one(&env, scenario, round).await;
        let clean = outcome.failure.is_none();
        results.push(outcome);
        // After a failure more is left than there is to say.
        if clean {
            let name = format!("(nothing left of {})", scenario.name);
            results.extend(
                Some(step(&env, &name, leaks::none_at_all(&env)).await).filter(|one| one.failure.is_some()),
            );
        }
    }
    results.push(step(&env, "(no crash of the driver)", no_crash(&env, &ended_before)).await);
    watch.abort();
    Ok(results)
}

/// Runs one scenario and removes what it made.
async fn one(env: &Rc<Env>, scenario: Scenario, round: u32) -> Outcome {
    say(&format!("{}: starts", scenario.name));
    let again = if round == 0 { String::new() } else { format!("-{round}") };
    let work = async {
        let space = Rc::new(Space::create(env, &format!("e2e-{}{again}", scenario.name)).await?);
        let ended = tokio::time::timeout(LIMIT, (scenario.run)(space.clone())).await;
        ended.map_err(|_| anyhow!("it has not ended after {} s", LIMIT.as_secs())).flatten()?;
        space.delete().await?;
        leaks::none_of(env, &space.name).await
    };
    let outcome = step(env, scenario.name, work).await;
    if outcome.failure.is_some() {
        // So that it is in nobody's way; it may not want to go.
        let _ = env
            .objects
            .delete(crate::objects::NAMESPACE, "", &format!("e2e-{}{again}", scenario.name), None)
            .await;
    }
    outcome
}

async fn step(env: &Env, name: &str, work: impl Future<Output = Result<()>>) -> Outcome {
    let start = Instant::now();
    let failure = work.await.err().map(|error| format!("{error:#}"));
    let took = start.elapsed();
    match &failure {
        None => say(&format!("{name}: ok, {:.1} s", took.as_secs_f32())),
        Some(why) => {
            let folder = name.trim_matches(['(', ')']).replace(' ', "-");
            let found =
                evidence::collect(env, &folder).await.unwrap_or_else(|error| format!("none: {error:#}"));
            say(&format!("{name}: FAILED after {:.1} s: {why}\n  evidence: {found}", took.as_secs_f32()));
        }
    }
    Outcome { name: name.to_owned(), took, failure }
}

/// Whether a container of the driver has ended that no scenario has killed, or has panicked.
async fn no_crash(env: &Env, ended_before: &BTreeMap<String, String>) -> Result<()> {
    // Not those of hooks, which have no such container.
    let selector =
        "--selector=app.kubernetes.io/name=offshoot,app.kubernetes.io/component in (controller,node)";
    let logs = [
        "logs",
        "--namespace",
        OFFSHOOT,
        selector,
        "--container=offshoot",
        "--prefix",
        "--tail=-1",
        "--max-log-requests=20",
    ];
    let said = env.kubectl(&logs).await?;
    let bad: Vec<_> = said.lines().filter(|line| line.contains("panicked")).collect();
    anyhow::ensure!(bad.is_empty(), "a part of the driver has panicked: {}", bad.join("\n"));
    if env.kills.get() == 0 {
        let mut now = ended(env).await?;
        now.retain(|container, _| !ended_before.contains_key(container));
        anyhow::ensure!(now.is_empty(), "containers of the driver have ended: {now:#?}");
    }
    Ok(())
}

/// The driver's containers that have ended and were started again, by their ids, with how.
async fn ended(env: &Env) -> Result<BTreeMap<String, String>> {
    let mut found = BTreeMap::new();
    for component in ["node", "controller"] {
        for pod in env.pods_of(component).await? {
            for status in pod["status"]["containerStatuses"].as_array().into_iter().flatten() {
                let how = &status["lastState"]["terminated"];
                // A sidecar ends itself where its socket breaks off, which is its way to begin anew.
                if text(status, "/name") == "offshoot" && !how.is_null() {
                    found.insert(text(how, "/containerID"), format!("{component}: {how}"));
                }
            }
        }
    }
    Ok(found)
}

/// One line of progress.
#[allow(clippy::print_stderr, reason = "this is what the program is for")]
pub(crate) fn say(line: &str) {
    thread_local!(static START: Instant = Instant::now());
    let since = START.with(Instant::elapsed).as_secs();
    eprintln!("e2e {:3}:{:02} {line}", since / 60, since % 60);
}

/// Prints the names and promises.
#[allow(clippy::print_stdout, reason = "this is what the program is for")]
pub(crate) fn list(scenarios: &[Scenario]) {
    for one in scenarios {
        println!("{:24} {}{}", one.name, one.about, if one.alone { " (alone)" } else { "" });
    }
}

/// Prints the results, one a line or as JSON.
#[allow(clippy::print_stdout, reason = "this is what the program is for")]
pub(crate) fn print(results: &[Outcome], as_json: bool) {
    if as_json {
        let all: Vec<_> = results
            .iter()
            .map(|one| json!({"name": one.name, "seconds": (one.took.as_secs_f64() * 10.0).round() / 10.0, "failure": one.failure}))
            .collect();
        println!("{}", json!({"scenarios": all}));
        return;
    }
    for one in results {
        println!(
            "{:44} {:>8.1} s  {}",
            one.name,
            one.took.as_secs_f32(),
            if one.failure.is_none() { "ok" } else { "FAILED" }
        );
    }
    let failed = results.iter().filter(|one| one.failure.is_some()).count();
    println!("{} of {} failed", failed, results.len());
}
