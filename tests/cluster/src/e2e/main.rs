//! The end-to-end scenarios: what Offshoot promises on Kubernetes, tried on a real one. `make e2e` runs them all.
//!
//! One cluster serves all. A scenario has a namespace of its own; those that disturb nobody run side by side, those that kill, reboot or upgrade
//! run alone afterwards. Each ends with its namespace deleted and nothing of it left anywhere.

mod bench;
mod evidence;
mod leaks;
mod objects;
mod run;
mod scenarios;
mod setup;
mod space;
mod values;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::{Parser, ValueEnum};
use offshoot_cluster::Layout;

/// Try what Offshoot promises on a real Kubernetes
#[derive(Parser)]
#[command(version, about)]
struct Cli {
    /// Names of scenarios, or beginnings of names; all if none is given
    names: Vec<String>,
    /// List the scenarios and do nothing
    #[arg(long, short)]
    list: bool,
    /// How many scenarios run side by side
    #[arg(long, short, default_value_t = 5)]
    jobs: usize,
    /// How often each scenario runs
    #[arg(long, default_value_t = 1)]
    repeat: u32,
    #[command(flatten)]
    bench: bench::Options,
    /// How to print the results
    #[arg(long, short, value_enum, default_value_t = Output::Text)]
    output: Output,
    /// Where evidence of failures goes [default: e2e in the cargo target directory]
    #[arg(long, value_name = "DIR")]
    evidence: Option<PathBuf>,
    /// Where the cluster keeps its things
    #[arg(long, env = "OFFSHOOT_CLUSTER_DIR", value_name = "DIR")]
    dir: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    Text,
    Json,
}

/// One thread: scenarios wait most of the time, and what blocks (killing a node) is done when no other runs.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match scenarios(Cli::parse()).await {
        Ok(code) => code,
        Err(error) => {
            run::say(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

async fn scenarios(cli: Cli) -> Result<ExitCode> {
    let wanted = chosen(&cli.names)?;
    if cli.list {
        run::list(&wanted);
        return Ok(ExitCode::SUCCESS);
    }
    let layout = match &cli.dir {
        Some(dir) => Layout::at(dir),
        None => Layout::from_env()?,
    };
    let evidence = match &cli.evidence {
        Some(dir) => std::path::absolute(dir)?,
        None => default_evidence()?,
    };
    std::fs::create_dir_all(&evidence).with_context(|| format!("cannot make {}", evidence.display()))?;
    if cli.bench.wanted() {
        cli.bench.run(&layout, evidence, cli.output == Output::Json).await?;
        return Ok(ExitCode::SUCCESS);
    }
    let results = tokio::task::LocalSet::new()
        .run_until(run::all(&layout, evidence, wanted, cli.jobs, cli.repeat))
        .await?;
    run::print(&results, cli.output == Output::Json);
    Ok(if results.iter().all(|one| one.failure.is_none()) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The scenarios of these names, in the order of the list.
fn chosen(names: &[String]) -> Result<Vec<run::Scenario>> {
    let all = scenarios::all();
    for name in names {
        if !all.iter().any(|one| one.name.starts_with(name.as_str())) {
            bail!("no scenario is named {name}: see --list");
        }
    }
    // A whole name means that one, even if others begin with it.
    let is = |one: &run::Scenario, name: &String| {
        one.name == name
            || (one.name.starts_with(name.as_str()) && !all.iter().any(|other| other.name == name))
    };
    Ok(all.iter().filter(|one| names.is_empty() || names.iter().any(|name| is(one, name))).copied().collect())
}

/// Beside the program: `target/debug/e2e` gives `target/e2e`.
fn default_evidence() -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    let target =
        own.ancestors().nth(2).context("this program lies in no target directory: say --evidence")?;
    Ok(target.join("e2e-evidence"))
}
