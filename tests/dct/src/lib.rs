//! A simulator of Delphix Data Control Tower (DCT), to try and to test a driver without an engine.
//!
//! It serves the part of DCT's API that such a driver uses, over TLS and with an API key, checked in both directions against
//! the table of the published interface; it keeps the data of datasets as real directory trees; and it fails on order. What it
//! does was put together from public documents. It was never compared with a real DCT.
//!
//! ```no_run
//! # async fn f() -> std::io::Result<()> {
//! use offshoot_dct_sim::{Clock, Sim};
//! let sim = Sim::builder("/tmp/dct".as_ref()).clock(Clock::virtual_clock()).engine("engine.example").start().await?;
//! println!("{} {}", sim.url, sim.key());
//! # Ok(()) }
//! ```

mod actions;
mod admin;
mod clock;
mod config;
mod control;
mod data;
mod dct;
mod engine;
mod export;
mod faults;
mod filter;
mod http;
mod jobs;
mod openapi;
mod ops;
mod page;
mod release;
mod schema;
mod seed;
mod server;
mod sim;
mod state;
mod table;
mod tls;
mod world;

pub use admin::Admin;
pub use clock::{Clock, Millis};
pub use config::{Config, OnRestart};
pub use control::control;
pub use export::{Export, Exported, Exportfs, NoExport};
pub use faults::{Fault, Rule};
pub use release::Release;
pub use schema::check_model;
pub use seed::Seeded;
pub use sim::{Builder, Sim, Traffic};
pub use table::{Field, Operation, Route, Table, Type};
pub use tls::private as write_private;
pub use world::Kind;
