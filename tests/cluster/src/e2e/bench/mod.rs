//! `make bench-k8s`: how long pods with volumes take on a real Kubernetes, and what the driver costs meanwhile.
//!
//! What a pod costs without any volume of a driver is measured in the same run, since most of the time is Kubernetes' own: the scheduler,
//! kubelet's loops, containers. All kinds of volumes take turns, so that a machine that gets slower is slower for all of them. Every pod is
//! told its node, one after the other, since a restored volume can only be where its snapshot is.

mod cost;
mod report;

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use offshoot_cluster::Layout;
use serde_json::{Value, json};

use crate::objects::{CLAIM, POD, VOLUME, text};
use crate::run::say;
use crate::setup::Env;
use crate::space::{Claim, Pod, Space, until};

/// Nothing takes so long, however many pods there are.
const LIMIT: Duration = Duration::from_secs(900);

/// The size of every claim.
const SIZE: &str = "256Mi";

/// What is measured.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Measure instead of trying promises
    #[arg(long, conflicts_with_all = ["names", "list", "repeat"])]
    bench: bool,
    /// How many pods at once, one measurement each
    #[arg(long, value_delimiter = ',', default_value = "1,20,100", requires = "bench")]
    pods: Vec<usize>,
    /// How often each is measured; the median is shown
    #[arg(long, default_value_t = 3, requires = "bench")]
    rounds: usize,
    /// A StorageClass of another driver, installed in the cluster by hand, to compare with in the same run
    #[arg(long, value_name = "CLASS", requires = "bench")]
    peer: Option<String>,
}

/// Where the pods' volumes come from.
#[derive(Clone, PartialEq, Eq)]
enum Kind {
    /// No driver at all: an emptyDir.
    Nothing,
    /// A new claim each.
    Blank,
    /// A claim each, restored from one snapshot with data.
    Restored,
    /// A new claim each of another driver.
    Peer(String),
}

impl Kind {
    fn title(&self) -> String {
        match self {
            Self::Nothing => "no driver (emptyDir)".into(),
            Self::Blank => "offshoot, blank".into(),
            Self::Restored => "offshoot, restored".into(),
            Self::Peer(class) => format!("class {class}, blank"),
        }
    }

    fn is_ours(&self) -> bool {
        matches!(self, Self::Blank | Self::Restored)
    }
}

/// One measurement.
struct Shot {
    kind: String,
    pods: usize,
    /// Seconds from `kubectl apply` until all run.
    running: f64,
    /// Seconds from `kubectl delete` until pods, claims and volumes are gone.
    deleted: f64,
    /// What the driver's processes cost meanwhile; for volumes of ours only.
    cost: Option<cost::Cost>,
}

impl Options {
    /// Whether to measure at all.
    pub(crate) fn wanted(&self) -> bool {
        self.bench
    }

    /// Measures on a cluster that is there or is made, and prints what was found.
    ///
    /// # Errors
    /// If pods do not start.
    pub(crate) async fn run(&self, layout: &Layout, evidence: PathBuf, as_json: bool) -> Result<()> {
        let env = Env::up(layout, evidence, say).await?;
        let space = Space::create(&env, "bench").await?;
        sources(&space).await?;
        let mut kinds = vec![Kind::Nothing, Kind::Blank, Kind::Restored];
        kinds.extend(self.peer.clone().map(Kind::Peer));
        // The first pods of a cluster load what the others find loaded.
        shot(&space, layout, &Kind::Blank, 2).await?;
        let mut shots = Vec::new();
        for &pods in &self.pods {
            for round in 0..self.rounds.max(1) {
                for kind in &kinds {
                    let one = shot(&space, layout, kind, pods).await?;
                    say(&format!(
                        "{pods} pods, round {}: {}: run after {:.1} s, gone after {:.1} s",
                        round + 1,
                        one.kind,
                        one.running,
                        one.deleted
                    ));
                    shots.push(one);
                }
            }
        }
        space.delete().await?;
        report::print(&shots, as_json);
        Ok(())
    }
}

/// The claim on a node that restored ones are copies of, and its snapshot.
fn source(node: &str) -> String {
    format!("source-{node}")
}

/// On each node a claim with 64 MiB in it, and its snapshot.
async fn sources(space: &Space) -> Result<()> {
    for node in Env::nodes() {
        let name = source(node);
        space.claim(Claim::new(&name, "e2e", SIZE)).await?;
        let fill =
            Pod::new(&name).script("head -c 64M /dev/urandom >/v/data; sync").claim(&name, "/v").on(node);
        space.once(fill).await?;
        space.snapshot(&name, &name).await?;
    }
    Ok(())
}

/// Makes so many pods at once, waits until all run, deletes all and waits until nothing is left.
async fn shot(space: &Space, layout: &Layout, kind: &Kind, pods: usize) -> Result<Shot> {
    let file = space.env.file("bench.json");
    fs::write(&file, serde_json::to_vec(&objects(kind, pods))?)?;
    let file = file.to_string_lossy();
    let before = if kind.is_ours() { Some(cost::Meter::start(&space.env, layout).await?) } else { None };

    let begun = Instant::now();
    space.kubectl(&["apply", "--filename", &file]).await?;
    until(&format!("{pods} pods run"), LIMIT, async || {
        let all = bench_pods(space).await?;
        let run = all.iter().filter(|pod| text(pod, "/status/phase") == "Running").count();
        Ok((run == pods).then_some(()))
    })
    .await?;
    let running = begun.elapsed().as_secs_f64();
    let claims = if *kind == Kind::Nothing { 0 } else { pods };
    let volumes = space.env.objects.list(CLAIM, &space.name).await?;
    let bound = volumes.iter().filter(|claim| text(claim, "/metadata/labels/bench") == "yes").count();
    ensure!(bound == claims, "there are {bound} claims instead of {claims}");

    let begun = Instant::now();
    space.kubectl(&["delete", "--wait=false", "--filename", &file]).await?;
    // Those that restored ones are copies of stay.
    let left = Env::nodes().len();
    until("pods, claims and volumes are gone", LIMIT, async || {
        if !bench_pods(space).await?.is_empty() {
            return Ok(None);
        }
        let volumes = space.env.objects.list(VOLUME, "").await?;
        let ours = volumes.iter().filter(|one| text(one, "/spec/claimRef/namespace") == space.name).count();
        Ok((ours == left).then_some(()))
    })
    .await?;
    let deleted = begun.elapsed().as_secs_f64();
    let cost = match before {
        Some(meter) => Some(meter.stop(&space.env, layout, pods).await?),
        None => None,
    };
    Ok(Shot { kind: kind.title(), pods, running, deleted, cost })
}

async fn bench_pods(space: &Space) -> Result<Vec<Value>> {
    let mut all = space.env.objects.list(POD, &space.name).await?;
    all.retain(|pod| text(pod, "/metadata/labels/bench") == "yes");
    Ok(all)
}

/// A list of pods, each with what it needs.
fn objects(kind: &Kind, pods: usize) -> Value {
    let mut items = Vec::new();
    for (number, node) in (0..pods).zip(Env::nodes().into_iter().cycle()) {
        let name = format!("bench-{number}");
        let pod = Pod::new(&name).on(node);
        let pod = match kind {
            Kind::Nothing => pod.volume(json!({"emptyDir": {}}), "/v"),
            _ => pod.claim(&name, "/v"),
        };
        let claim = match kind {
            Kind::Nothing => None,
            Kind::Blank => Some(Claim::new(&name, "e2e", SIZE)),
            Kind::Restored => Some(Claim::new(&name, "e2e", SIZE).of_snapshot(&source(node))),
            Kind::Peer(class) => Some(Claim::new(&name, class, SIZE)),
        };
        items.extend(claim.map(Claim::object));
        items.push(pod.object());
    }
    for item in &mut items {
        item["metadata"]["labels"]["bench"] = json!("yes");
    }
    json!({"apiVersion": "v1", "kind": "List", "items": items})
}
