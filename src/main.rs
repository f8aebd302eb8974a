//! The thin binary: parse, run, print the error chain.

use std::process::ExitCode;

use clap::Parser as _;
use offshoot::cli::Cli;

#[allow(clippy::print_stderr, reason = "the one place where a person is told why it failed")]
fn main() -> ExitCode {
    offshoot::tls::install_provider();
    match Cli::parse().run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
