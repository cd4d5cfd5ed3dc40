//! `epsilon store`: what is done with token stores beside extracting them.

use std::path::PathBuf;

use clap::{Args as ClapArgs, Subcommand};
use epsilon::features;

use crate::{Outcome, console};

/// Join token stores.
#[derive(ClapArgs)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Merge(Merge),
}

/// Join the parts that `epsilon extract --shard` made into one store, after checking that they belong together.
#[derive(ClapArgs)]
struct Merge {
    /// Folders of all parts, in any order.
    #[arg(required = true, value_name = "PART")]
    parts: Vec<PathBuf>,
    /// Folder of the whole, such as `runs/RECIPE/tokens`, where `epsilon train` looks for it.
    #[arg(long, value_name = "FOLDER")]
    out: PathBuf,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args) -> anyhow::Result<Outcome> {
    match args.command {
        Command::Merge(args) => merge(args),
    }
}

fn merge(args: Merge) -> anyhow::Result<Outcome> {
    let whole = features::merge(&args.parts, &args.out)?;
    if args.json {
        console::print_json(&serde_json::json!({
            "store": args.out,
            "parts": args.parts.len(),
            "images": whole.ids.len(),
            "failed": whole.failed,
        }))?;
    } else {
        console::print(format_args!(
            "{}: {} images of {} parts, {} failed",
            args.out.display(),
            whole.ids.len(),
            args.parts.len(),
            whole.failed.len(),
        ))?;
    }
    Ok(Outcome::Done)
}
