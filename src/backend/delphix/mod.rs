//! The client of Data Control Towers (DCT): the only code that knows HTTP and the shapes of their answers.
//!
//! A DCT sits before the engines that hold the bytes. Its API answers at once with a *job*, and the objects that the job changed
//! show the change up to a minute later; answers get lost; other people use it at the same time. This client hides the wire
//! and nothing else: it never decides what to do about an object. In return it says exactly what became of each
//! request ([`Fault`]), waits for jobs and objects by one loop for all that wait ([`Dct::finish`], [`Dct::until_vdb`]), and
//! finds out what a release can do ([`Dct::capabilities`]) instead of assuming it.
//!
//! Nobody who built this could ask a real DCT. Facts come from the published interface; where it leaves a choice open, the client takes
//! the one that is harmless if it is wrong.

mod capabilities;
mod change;
mod check;
mod connect;
mod dct;
mod diagnose;
mod fault;
mod filter;
mod key;
mod kinds;
mod model;
mod poll;
mod request;
mod settings;
mod text;
mod transport;
mod watched;

#[cfg(test)]
mod tests;

pub use capabilities::Capabilities;
pub use check::{Check, Health};
pub use dct::{Dct, Dcts};
pub use fault::{Failure, Fault, Result};
pub use filter::{Filter, Sort};
pub use kinds::Object;
pub use model::{
    Bookmark, BookmarkPoint, Containerization, DSource, Dependency, Engine, Environment, EnvironmentUser,
    Group, Host, Job, JobStatus, JobTask, Repository, Snapshot, Tag, Timeflow, Toolkit, Vdb,
};
pub use request::{BookmarkOf, Enable, Hook, NewBookmark, Point, Provision, ProvisionFrom, Started};
pub use settings::{DctSettings, EngineSettings, Settings, Timing};
