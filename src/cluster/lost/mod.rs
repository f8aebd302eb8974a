//! A node that does not come back, and what Kubernetes still holds of it.
//!
//! Its volumes were on its disks and nowhere else. Claims, PersistentVolumes and snapshots of it cannot be deleted in the
//! ordinary way, for that needs the node's agent; people then take finalizers away by hand, and take away too many. This
//! finds exactly the objects whose bytes were there, and lets go of them in an order that may be broken off and repeated.
//! It refuses while the node may still be alive, and never touches a pool that answers from somewhere else.

mod plan;
mod read;
mod release;

pub use plan::{Claim, Group, Kept, Loss, Snapshot, Volume};
pub use read::{refusal, survey};
pub use release::{Outcome, release};
