//! The command line: one file per command.
//!
//! `serve` and `controller` run servers; every other command is a client of their socket, or needs no server at all.
//! Exit codes: 0 when it worked, 1 when it did not (one line on standard error says why and what to do), 2 when the
//! command line was not understood. Answers go to standard output and nothing else does.

mod certificates;
mod changed;
pub mod client;
mod completions;
mod controller;
mod delphix;
mod doctor;
mod group;
mod import;
mod kubectl;
mod machine;
mod node;
mod orphans;
mod output;
mod pool;
mod pool_local;
mod progress;
mod replace;
mod role;
mod serve;
mod session;
mod snapshot;
mod tree;
mod view;
mod volume;
mod volume_change;
mod volume_make;
mod volume_mount;

#[cfg(test)]
mod tests_samples;

use std::ffi::OsString;

use anyhow::Result;
use clap::{CommandFactory as _, Parser, Subcommand};

pub use kubectl::Plugin;

/// Gives everyone their own writable copy of real data in seconds: a CSI driver that snapshots, clones, rewinds and
/// refreshes volumes on the disks that are there.
#[derive(Debug, Parser)]
#[command(name = "offshoot", version, propagate_version = true, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Serve(Box<serve::Serve>),
    Node(Box<node::Node>),
    Controller(Box<controller::Controller>),
    Delphix(delphix::Delphix),
    Doctor(doctor::Doctor),
    Pool(pool::Pool),
    #[command(visible_alias = "vol")]
    Volume(Box<volume::Volume>),
    #[command(visible_alias = "snap")]
    Snapshot(snapshot::Snapshot),
    Group(group::Group),
    Tree(tree::Tree),
    Rewind(replace::Rewind),
    Refresh(replace::Refresh),
    Changed(changed::Changed),
    Import(import::Import),
    Orphans(orphans::Orphans),
    Certificates(certificates::Certificates),
    Completions(completions::Completions),
    Kubectl(Box<kubectl::Plugin>),
}

impl Cli {
    /// Runs the command to its end.
    pub fn run(self) -> Result<()> {
        match self.command {
            Command::Serve(serve) => serve.run(),
            Command::Node(node) => node.run(),
            Command::Controller(controller) => controller.run(),
            Command::Delphix(delphix) => delphix.run(),
            Command::Doctor(doctor) => doctor.run(),
            Command::Pool(pool) => pool.run(),
            Command::Volume(volume) => volume.run(),
            Command::Snapshot(snapshot) => snapshot.run(),
            Command::Group(group) => group.run(),
            Command::Tree(tree) => tree.run(),
            Command::Rewind(rewind) => rewind.run(),
            Command::Refresh(refresh) => refresh.run(),
            Command::Changed(changed) => changed.run(),
            Command::Import(import) => import.run(),
            Command::Orphans(orphans) => orphans.run(),
            Command::Certificates(certificates) => certificates.run(),
            Command::Completions(completions) => completions.run(&mut Cli::command()),
            Command::Kubectl(plugin) => plugin.run(),
        }
    }
}

/// Runs what the command line asks for. Under the name `kubectl-offshoot` the program is kubectl's plugin.
pub fn start(args: impl IntoIterator<Item = OsString>) -> Result<()> {
    let args: Vec<OsString> = args.into_iter().collect();
    if kubectl::is_plugin(args.first()) {
        return Plugin::parse_from(args).run();
    }
    Cli::parse_from(args).run()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound_and_every_argument_has_help() {
        Cli::command().debug_assert();
        for command in Cli::command().get_subcommands() {
            assert!(command.get_about().is_some(), "{}", command.get_name());
            for arg in command.get_arguments() {
                assert!(arg.get_help().is_some(), "{} {}", command.get_name(), arg.get_id());
            }
        }
    }
}
