//! `offshoot rewind` and `offshoot refresh`: other bytes in the same volume, and the way back.

use std::time::Instant;

use anyhow::Result;
use clap::Args;
use serde::Serialize;

use super::progress::watched;
use super::session::Common;
use super::view::some;
use super::volume_make::took;
use crate::proto::offshoot::refresh_volume_request::From;
use crate::proto::offshoot::{RefreshVolumeRequest, RewindVolumeRequest};

/// Take a volume back, in place, to one of its own snapshots
///
/// The volume keeps its id, its name and its place in Kubernetes; what it held before is kept as an undo snapshot, so
/// that a rewind can be rewound. It must not be mounted or published: stop what uses it first.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:\n\
\x20 offshoot rewind db monday\n\
\x20 offshoot rewind db s-k3v9xq2m-0190c7a51b7c7e0d8f6a3b2c1d0e9f8a")]
pub(super) struct Rewind {
    /// The volume: its name or id
    #[arg(value_name = "VOLUME")]
    volume: String,
    /// One of its snapshots: its name or id
    #[arg(value_name = "SNAPSHOT")]
    snapshot: String,
    #[command(flatten)]
    common: Common,
}

/// Bring a copy up to date, in place, from what it was copied from
///
/// Without --from, the copy gets what its source holds now. It keeps its id, its name and its place in Kubernetes;
/// what it held before is kept as an undo snapshot. It must not be mounted or published: stop what uses it first.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:\n\
\x20 offshoot refresh db-anna\n\
\x20 offshoot refresh db-anna --from tuesday")]
pub(super) struct Refresh {
    /// The copy: its name or id
    #[arg(value_name = "VOLUME")]
    volume: String,
    /// A snapshot of its source, by name or id [default: the source as it is now]
    #[arg(long, value_name = "SNAPSHOT")]
    from: Option<String>,
    #[command(flatten)]
    common: Common,
}

/// What was done, and how to undo it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Replaced {
    id: String,
    /// What the volume holds now; `null` if that is no snapshot.
    snapshot_id: Option<String>,
    undo_snapshot_id: String,
}

impl Replaced {
    fn draw(&self, what: &str, took: &str) -> String {
        let from = self.snapshot_id.as_ref().map_or("its source as it was just now", |id| id.as_str());
        let (id, undo) = (&self.id, &self.undo_snapshot_id);
        format!(
            "{what} volume {id} to {from} in {took}\n\
             before that it held {undo}\n\
             to go back:     offshoot rewind {id} {undo}\n\
             to forget that: offshoot snapshot delete {undo}\n"
        )
    }
}

impl Rewind {
    pub(super) fn run(self) -> Result<()> {
        let common = self.common.clone();
        common.run(async |session| {
            let volume_id = session.volume(&self.volume).await?;
            let snapshot_id = session.snapshot(&self.snapshot).await?;
            let request = RewindVolumeRequest {
                volume_id: volume_id.clone(),
                snapshot_id: snapshot_id.clone(),
                ..RewindVolumeRequest::default()
            };
            let start = Instant::now();
            let mut copies = session.copies();
            let quiet = !common.output.is_for_people();
            let answer = watched(&session, quiet, Some(&volume_id), copies.rewind_volume(request)).await?;
            let done = Replaced {
                id: answer.volume_id,
                snapshot_id: Some(snapshot_id),
                undo_snapshot_id: answer.undo_snapshot_id,
            };
            common.output.print(&done, &[&done.undo_snapshot_id], |_| done.draw("rewound", &took(start)))
        })
    }
}

impl Refresh {
    pub(super) fn run(self) -> Result<()> {
        let common = self.common.clone();
        common.run(async |session| {
            let volume_id = session.volume(&self.volume).await?;
            let from = match &self.from {
                Some(snapshot) => From::SnapshotId(session.snapshot(snapshot).await?),
                None => From::SourceNow(true),
            };
            let request = RefreshVolumeRequest {
                volume_id: volume_id.clone(),
                from: Some(from),
                ..RefreshVolumeRequest::default()
            };
            let start = Instant::now();
            let mut copies = session.copies();
            let quiet = !common.output.is_for_people();
            let answer = watched(&session, quiet, Some(&volume_id), copies.refresh_volume(request)).await?;
            let done = Replaced {
                id: answer.volume_id,
                snapshot_id: some(answer.source_snapshot_id),
                undo_snapshot_id: answer.undo_snapshot_id,
            };
            common.output.print(&done, &[&done.undo_snapshot_id], |_| done.draw("refreshed", &took(start)))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_person_is_told_the_way_back() {
        let mut done =
            Replaced { id: "v-1".into(), snapshot_id: Some("s-1".into()), undo_snapshot_id: "s-undo".into() };
        insta::assert_snapshot!("rewound", done.draw("rewound", "0.012 s"));
        done.snapshot_id = None;
        assert!(
            done.draw("refreshed", "1 s")
                .starts_with("refreshed volume v-1 to its source as it was just now")
        );
    }
}
