//! The use cases on a Data Control Tower, against the simulator: what each does and with how few requests, what is left when the
//! process is killed at any of them, two controllers at once, and other people's doings.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr, unreachable_pub, reason = "a test")]

#[path = "delphix/cases.rs"]
mod cases;
#[path = "delphix/crash.rs"]
mod crash;
#[path = "delphix/drift.rs"]
mod drift;
#[path = "delphix/golden.rs"]
mod golden;
#[path = "delphix/people.rs"]
mod people;
#[path = "delphix/sweep.rs"]
mod sweep;
#[path = "delphix/world.rs"]
mod world;
