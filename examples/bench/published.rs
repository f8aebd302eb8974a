//! Figures of csi-driver-host-path that were published by an earlier run on another machine state.
//!
//! Only for the reader's eye and for targets where the peer itself was not measured in this run; never mixed with it.

use crate::sizes::{Fill, row};

/// The heading of their column.
pub(crate) const COLUMN: &str = "host-path (another run, another machine state)";

/// Whole lives per second, 8 in parallel.
pub(crate) const LIVES: f64 = 20.0;
/// CreateVolume in milliseconds.
pub(crate) const CREATE: f64 = 0.74;
/// NodePublishVolume in milliseconds, which is all that it does on the node.
pub(crate) const PUBLISH: f64 = 16.5;

/// The figure for a row of any section, where there is one.
pub(crate) fn figure(name: &str) -> Option<f64> {
    let full = |call| row(call, 256, Fill::Full);
    Some(match name {
        "CreateVolume" => CREATE,
        "NodePublishVolume" | "NodeStage + NodePublish, blank" | "NodeStage + NodePublish, formatted" => {
            PUBLISH
        }
        "NodeUnpublishVolume" => 19.8,
        "DeleteVolume" => 4.7,
        "8 in parallel" => LIVES,
        "resident at start, no volumes (MiB)" => 17.6,
        name if name == full("CreateSnapshot") => 7600.0,
        name if name == full("CreateVolume from a snapshot") => 1350.0,
        name if name == full("CreateVolume from a volume") => 118.0,
        _ => return None,
    })
}
