//! What the driver counts, and how it is shown to Prometheus.
//!
//! Every metric stands in one table (`table.rs`) with its unit and labels, and is registered from its row: the page of
//! metrics in `docs/` and the scrape cannot drift apart. Labels come from closed sets or from the names of pools. A
//! name says whose bytes it counts (`pool`) and which (`size`, `allocated`, `logical` …): others had to rename
//! theirs when one figure turned out to mean two things.

mod dct;
mod pools;
mod registry;
mod router;
mod source;
pub mod table;

pub use dct::DctFigures;
pub use pools::{Observe, PoolReading, Reading};
pub use registry::{Call, Metrics};
pub use router::{AgentState, RouterFigures};
pub use source::PoolFigures;
