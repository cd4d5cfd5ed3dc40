//! `epsilon man`: manual pages of the program and of its commands, from what `--help` says.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Command, CommandFactory};
use clap_mangen::Man;
use epsilon_data::files;

use crate::{Cli, Outcome, console};

/// Write manual pages: epsilon(1), and one for each command, such as epsilon-train(1).
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Folder for the pages; made if need be.
    #[arg(long, value_name = "FOLDER")]
    out: PathBuf,
}

pub(crate) fn run(args: Args) -> anyhow::Result<Outcome> {
    files::folder(&args.out).with_context(|| args.out.display().to_string())?;
    let mut program = Cli::command().disable_help_subcommand(true);
    program.build();
    let mut written = Vec::new();
    write(&program, &args.out, &mut written)?;
    // Printed when all are there: a reader that closes the pipe ends the printing alone.
    for path in written {
        console::print(path.display())?;
    }
    Ok(Outcome::Done)
}

/// Writes the page of a command and those of the commands below it.
fn write(command: &Command, folder: &Path, written: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    let source = concat!("epsilon ", env!("CARGO_PKG_VERSION"));
    let man = Man::new(command.clone()).source(source);
    let path = folder.join(man.get_filename());
    files::replace(&path, |file| man.render(file)).with_context(|| path.display().to_string())?;
    written.push(path);
    for below in command.get_subcommands() {
        write(below, folder, written)?;
    }
    Ok(())
}
