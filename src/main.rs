//! The thin binary: parse, run, print the error chain.

use std::process::ExitCode;

use offshoot::cli;

#[allow(clippy::print_stderr, reason = "the one place where a person is told why it failed")]
fn main() -> ExitCode {
    offshoot::tls::install_provider();
    match cli::start(std::env::args_os()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
