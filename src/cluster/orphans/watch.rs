//! The rounds: look, look again, tell, and delete where that is switched on.
//!
//! An object must be an orphan in two rounds in a row. Between rounds only the ids of the last one's orphans are kept, so a
//! controller that is killed merely starts with a first look. Before a delete the lists are read once more for that one
//! object: a PersistentVolume that came meanwhile keeps it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use clap::ValueEnum;
use kube::Client;
use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use super::decide::{Finding, Held, is_suspicious, judge, orphans};
use super::driver::Objects;
use super::known::{read, want};
use crate::cluster::events::Recorder;
use crate::metrics::Metrics;
use crate::volume::ObjectId;

/// So many are deleted in one round at most: each needs the lists to be read once more.
const REAPED_PER_ROUND: usize = 20;

/// What is done about orphans.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Count them and say so
    Report,
    /// Delete them too
    Reap,
    /// Do not look
    Off,
}

/// How orphans are looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// What is done about them.
    pub mode: Mode,
    /// Age from which an object that nothing names counts as forgotten.
    pub grace: Duration,
    /// Time between two looks; an object must be forgotten in two of them.
    pub every: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Options { mode: Mode::Report, grace: Duration::from_secs(3600), every: Duration::from_secs(600) }
    }
}

/// What one round found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Round {
    /// Forgotten in this round and the one before.
    pub orphans: Vec<ObjectId>,
    /// Those of them that were deleted.
    pub reaped: Vec<ObjectId>,
    /// Why none was deleted, where that was switched on.
    pub refused: Option<String>,
}

/// Looks for orphans until it is stopped.
pub struct Watch {
    client: Client,
    objects: Arc<dyn Objects>,
    options: Options,
    metrics: Arc<Metrics>,
    recorder: Option<Arc<Recorder>>,
    last: BTreeSet<ObjectId>,
}

impl Watch {
    /// A watch that has seen nothing yet. Without a recorder there are no events.
    pub fn new(
        client: Client,
        objects: Arc<dyn Objects>,
        options: Options,
        metrics: Arc<Metrics>,
        recorder: Option<Arc<Recorder>>,
    ) -> Watch {
        Watch { client, objects, options, metrics, recorder, last: BTreeSet::new() }
    }

    /// Runs until `stop`. A round that fails is logged, and the next one is a first one again.
    pub async fn run(mut self, stop: CancellationToken) {
        if self.options.mode == Mode::Off {
            return;
        }
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(self.options.every) => {}
            }
            tokio::select! {
                () = stop.cancelled() => return,
                round = self.round() => match round {
                    Ok(round) => self.tell(&round).await,
                    Err(error) => tracing::warn!(error = format!("{error:#}"), "cannot look for orphans; nothing is concluded, tried again later"),
                }
            }
        }
    }

    /// One round.
    ///
    /// # Errors
    /// Where a list did not come whole.
    pub async fn round(&mut self) -> Result<Round> {
        // Whatever goes wrong on the way, the next round has none before it.
        let last = std::mem::take(&mut self.last);
        // The driver first: what it makes while the API is read is in neither list.
        let held = self.objects.all().await?;
        let mut known = read(&self.client).await?;
        let grace = self.options.grace;
        let first = orphans(&held, &known, grace);
        want(&self.client, &mut known, &first).await?;
        let found: Vec<&Held> =
            first.into_iter().filter(|held| judge(held, &known, grace) == Finding::Orphan).collect();
        self.last = found.iter().map(|held| held.id).collect();
        let found: Vec<&Held> = found.into_iter().filter(|held| last.contains(&held.id)).collect();
        let mut round = Round { orphans: found.iter().map(|held| held.id).collect(), ..Round::default() };
        if self.options.mode == Mode::Reap {
            if is_suspicious(found.len(), held.len()) {
                round.refused = Some(format!(
                    "{} of {} objects look forgotten: has the cluster been restored or set up anew?",
                    found.len(),
                    held.len()
                ));
            } else {
                for orphan in found.into_iter().filter(|orphan| !orphan.in_use).take(REAPED_PER_ROUND) {
                    if self.reap(orphan).await? {
                        round.reaped.push(orphan.id);
                    }
                }
            }
        }
        Ok(round)
    }

    /// Deletes one, if the lists of this very moment agree. One that cannot be deleted does not stop the others.
    async fn reap(&self, orphan: &Held) -> Result<bool> {
        let mut known = read(&self.client).await?;
        want(&self.client, &mut known, &[orphan]).await?;
        if judge(orphan, &known, self.options.grace) != Finding::Orphan {
            return Ok(false);
        }
        match self.objects.delete(orphan.id).await {
            Ok(()) => {
                tracing::info!(id = %orphan.id, name = orphan.name, "deleted an orphan: nothing in Kubernetes named it");
                Ok(true)
            }
            Err(error) => {
                tracing::warn!(id = %orphan.id, error = format!("{error:#}"), "cannot delete an orphan; tried again later");
                Ok(false)
            }
        }
    }

    async fn tell(&self, round: &Round) {
        let left = || round.orphans.iter().filter(|id| !round.reaped.contains(id));
        let volumes = left().filter(|id| matches!(id, ObjectId::Volume(_))).count();
        let snapshots = left().count() - volumes;
        self.metrics.orphans("volume", volumes);
        self.metrics.orphans("snapshot", snapshots);
        if volumes + snapshots == 0 {
            return;
        }
        let why = round.refused.as_deref().map(|why| format!("; none is deleted: {why}")).unwrap_or_default();
        tracing::warn!(
            volumes,
            snapshots,
            "Kubernetes has forgotten volumes or snapshots, see `kubectl offshoot orphans`{why}"
        );
        if let Some(recorder) = &self.recorder {
            let text = format!(
                "{volumes} volumes and {snapshots} snapshots have no PersistentVolume or VolumeSnapshotContent; list them with `kubectl offshoot orphans`{why}"
            );
            recorder.controller("OrphansFound", &text).await;
        }
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
