//! `offshoot completions`: what a shell needs to complete the command line.

use std::io::{self, Write as _};

use anyhow::{Context as _, Result};
use clap_complete::Shell;

/// Print completions for a shell, for example: offshoot completions bash > /etc/bash_completion.d/offshoot
#[derive(Debug, clap::Args)]
pub(super) struct Completions {
    /// The shell to print for
    #[arg(value_enum)]
    shell: Shell,
}

impl Completions {
    pub(super) fn run(self, command: &mut clap::Command) -> Result<()> {
        let name = command.get_name().to_owned();
        // Through a buffer: the generator panics when it cannot write, as into a closed pipe.
        let mut script = Vec::new();
        clap_complete::generate(self.shell, command, name, &mut script);
        io::stdout().write_all(&script).context("cannot write the completions")
    }
}
