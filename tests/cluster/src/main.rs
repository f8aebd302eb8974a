//! The test cluster by hand: `make cluster`, `make cluster-down`.

use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand, ValueEnum};
use offshoot_cluster::{Cluster, Layout, Spec, control, dns};
use serde_json::{Value, json};

/// A real Kubernetes of several nodes on this machine, without an image registry
#[derive(Parser)]
#[command(version, about)]
struct Cli {
    /// How to print what a command found or did
    #[arg(long, short, global = true, value_enum, default_value_t = Output::Text)]
    output: Output,
    /// Where the cluster keeps its things
    #[arg(long, global = true, env = "OFFSHOOT_CLUSTER_DIR", value_name = "DIR")]
    dir: Option<PathBuf>,
    #[command(subcommand)]
    command: Action,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    Text,
    Json,
}

#[derive(Subcommand)]
enum Action {
    /// Start the cluster, or what is missing of it, and print its kubeconfig's path
    Up {
        /// How many nodes a new cluster gets
        #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=20))]
        nodes: u8,
    },
    /// Remove the cluster and everything that it made
    Down,
    /// List the machines and their processes
    Status,
    /// Print the path of the administrator's kubeconfig
    Kubeconfig,
    /// Bring the images of an archive to all nodes
    LoadImage {
        /// An archive as `docker save` or scripts/image.sh make them
        archive: PathBuf,
    },
    /// Pull a node's plug
    KillNode {
        /// Its name
        node: String,
    },
    /// Switch a node on again
    StartNode {
        /// Its name
        node: String,
    },
    /// Kill one process with SIGKILL
    Kill {
        /// `control` or a node
        machine: String,
        /// For example kubelet, containerd, kube-apiserver
        process: String,
    },
    /// Serve the names of Services; the cluster starts it itself
    #[command(hide = true)]
    Dns {
        /// Where to listen
        #[arg(long)]
        listen: std::net::SocketAddr,
        /// Who to ask
        #[arg(long)]
        kubeconfig: PathBuf,
    },
    /// Start one process again
    Start {
        /// `control` or a node
        machine: String,
        /// For example kubelet, containerd, kube-apiserver
        process: String,
    },
}

fn main() -> Result<()> {
    let cli = Cli::parse();
    if let Action::Dns { listen, kubeconfig } = &cli.command {
        return dns::serve(*listen, kubeconfig);
    }
    let layout = match &cli.dir {
        Some(dir) => Layout::at(dir),
        None => Layout::from_env()?,
    };
    let found = || Cluster::find(&layout)?.context("there is no cluster: run make cluster");
    let done = match &cli.command {
        Action::Up { nodes } => {
            let cluster = Cluster::up(&layout, (1..=*nodes).map(Spec::usual).collect(), progress)?;
            json!({"kubeconfig": cluster.layout().kubeconfig(), "tools": cluster.tools()})
        }
        Action::Down => {
            Cluster::down(&layout, progress)?;
            json!({})
        }
        Action::Status => status(&found()?)?,
        Action::Kubeconfig => json!({"kubeconfig": found()?.layout().kubeconfig()}),
        Action::LoadImage { archive } => {
            found()?.load_image(archive)?;
            json!({"loaded": archive})
        }
        Action::KillNode { node } => {
            found()?.kill_node(node)?;
            json!({"off": node})
        }
        Action::StartNode { node } => {
            found()?.start_node(node)?;
            json!({"on": node})
        }
        Action::Kill { machine, process } => {
            found()?.kill(machine, process)?;
            json!({"killed": process})
        }
        Action::Dns { .. } => json!({}),
        Action::Start { machine, process } => {
            found()?.start(machine, process)?;
            json!({"started": process})
        }
    };
    print(cli.output, &done);
    Ok(())
}

/// The machines, whether they are on, and the processes that run.
fn status(cluster: &Cluster) -> Result<Value> {
    let mut machines = vec![control::machine(cluster.layout())?];
    machines.extend(cluster.nodes()?.iter().map(|node| node.machine().clone()));
    let mut all = Vec::new();
    for machine in machines {
        let processes: serde_json::Map<_, _> =
            machine.processes()?.into_iter().map(|(name, one)| (name, json!(one.pid))).collect();
        all.push(json!({"machine": machine.name(), "on": machine.init()?.is_some(), "processes": processes}));
    }
    Ok(json!({"kubeconfig": cluster.layout().kubeconfig(), "tools": cluster.tools(), "machines": all}))
}

#[allow(clippy::print_stderr, reason = "this is what the program is for")]
fn progress(line: &str) {
    eprintln!("cluster: {line}");
}

/// Whoever reads may stop reading.
fn print(output: Output, value: &Value) {
    let mut out = std::io::stdout();
    if output == Output::Json {
        let _ = writeln!(out, "{value}");
        return;
    }
    for (key, value) in value.as_object().into_iter().flatten() {
        match value {
            Value::Array(items) => items.iter().for_each(|item| drop(writeln!(out, "{}", words(item)))),
            other => drop(writeln!(out, "{key}: {}", words(other))),
        }
    }
}

/// A value as a person reads it.
fn words(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Object(fields) => {
            fields.iter().map(|(key, value)| format!("{key} {}", words(value))).collect::<Vec<_>>().join(", ")
        }
        other => other.to_string(),
    }
}
