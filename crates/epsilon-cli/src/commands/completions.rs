//! `epsilon completions`: the script that makes a shell complete the program's commands and options.

use std::io::{self, Write};

use clap::CommandFactory;
use clap_complete::Shell;

use crate::{Cli, Outcome};

/// Print a shell's completion script: how to install it is in docs/installing.md.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The shell.
    shell: Shell,
}

pub(crate) fn run(args: Args) -> anyhow::Result<Outcome> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "epsilon", &mut script);
    io::stdout().lock().write_all(&script)?;
    Ok(Outcome::Done)
}
