//! `offshoot changed`: which bytes of a snapshot are there, or differ from an earlier one.

use anyhow::Result;
use clap::Args;
use serde::Serialize;
use tonic::Streaming;

use super::output::human;
use super::session::{Common, bytes, said};
use crate::proto::csi::{
    BlockMetadata, GetMetadataAllocatedRequest, GetMetadataAllocatedResponse, GetMetadataDeltaRequest,
    GetMetadataDeltaResponse,
};

/// Print which bytes of a snapshot are there, or differ from an earlier snapshot of the same volume
///
/// What a backup program reads to copy only what changed. Offsets and lengths are in bytes. A range that is printed
/// may hold the same bytes all the same; one that is not printed never differs.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:\n\
\x20 offshoot changed tuesday\n\
\x20 offshoot changed tuesday --base monday")]
pub(super) struct Changed {
    /// The snapshot: its name or id
    #[arg(value_name = "SNAPSHOT")]
    snapshot: String,
    /// An earlier snapshot of the same volume: its name or id
    #[arg(long, value_name = "SNAPSHOT")]
    base: Option<String>,
    #[command(flatten)]
    common: Common,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Ranges {
    snapshot_id: String,
    base_snapshot_id: Option<String>,
    size_bytes: u64,
    ranges: Vec<Range>,
}

#[derive(Serialize)]
struct Range {
    offset: u64,
    length: u64,
}

/// A message of either stream.
trait Part {
    fn size(&self) -> i64;
    fn blocks(self) -> Vec<BlockMetadata>;
}

impl Part for GetMetadataAllocatedResponse {
    fn size(&self) -> i64 {
        self.volume_capacity_bytes
    }

    fn blocks(self) -> Vec<BlockMetadata> {
        self.block_metadata
    }
}

impl Part for GetMetadataDeltaResponse {
    fn size(&self) -> i64 {
        self.volume_capacity_bytes
    }

    fn blocks(self) -> Vec<BlockMetadata> {
        self.block_metadata
    }
}

impl Changed {
    pub(super) fn run(self) -> Result<()> {
        let common = self.common.clone();
        common.run(async |session| {
            let snapshot_id = session.snapshot(&self.snapshot).await?;
            let mut found = Ranges {
                snapshot_id: snapshot_id.clone(),
                base_snapshot_id: None,
                size_bytes: 0,
                ranges: Vec::new(),
            };
            match &self.base {
                Some(base) => {
                    let base_snapshot_id = session.snapshot(base).await?;
                    found.base_snapshot_id = Some(base_snapshot_id.clone());
                    let request = GetMetadataDeltaRequest {
                        base_snapshot_id,
                        target_snapshot_id: snapshot_id,
                        ..GetMetadataDeltaRequest::default()
                    };
                    let answer = session.metadata().get_metadata_delta(request).await.map_err(said)?;
                    found.read(answer.into_inner()).await?;
                }
                None => {
                    let request =
                        GetMetadataAllocatedRequest { snapshot_id, ..GetMetadataAllocatedRequest::default() };
                    let answer = session.metadata().get_metadata_allocated(request).await.map_err(said)?;
                    found.read(answer.into_inner()).await?;
                }
            }
            common.output.print(&found, &[], |_| found.draw())
        })
    }
}

impl Ranges {
    async fn read<P: Part>(&mut self, mut parts: Streaming<P>) -> Result<()> {
        while let Some(part) = parts.message().await.map_err(said)? {
            self.size_bytes = bytes(part.size());
            let range = |block: BlockMetadata| Range {
                offset: bytes(block.byte_offset),
                length: bytes(block.size_bytes),
            };
            self.ranges.extend(part.blocks().into_iter().map(range));
        }
        Ok(())
    }

    /// Lines and not a table: there may be millions.
    fn draw(&self) -> String {
        let mut text = format!("{:>20} {:>20}\n", "OFFSET", "LENGTH");
        for range in &self.ranges {
            text += &format!("{:>20} {:>20}\n", range.offset, range.length);
        }
        let total = human(self.ranges.iter().map(|range| range.length).sum());
        let what = if self.base_snapshot_id.is_some() { "changed" } else { "allocated" };
        text += &format!("{} ranges, {total} of {} {what}\n", self.ranges.len(), human(self.size_bytes));
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_lines_with_their_sum() {
        let ranges = Ranges {
            snapshot_id: "s-2".into(),
            base_snapshot_id: Some("s-1".into()),
            size_bytes: 1 << 30,
            ranges: vec![Range { offset: 0, length: 4096 }, Range { offset: 1 << 20, length: 1 << 20 }],
        };
        insta::assert_snapshot!("ranges", ranges.draw());
    }
}
