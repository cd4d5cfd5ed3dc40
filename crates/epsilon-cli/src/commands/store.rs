//! `epsilon store`: merges token stores, and imports published features.

use std::ops::ControlFlow::Continue;
use std::path::PathBuf;

use anyhow::Context;
use clap::{Subcommand, ValueEnum};
use epsilon::labels;
use epsilon::published_features::{ImportEvent, ImportOptions, ImportReport, Zeros, import};
use epsilon::tokens::{self, TokenType};

use crate::{Outcome, console};

/// Merge token stores, or import published features as one.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    ImportH5(ImportH5),
    Merge(Merge),
}

/// Merge the parts made by `epsilon extract --shard` into one store, after checking that they belong together.
#[derive(clap::Args)]
struct Merge {
    /// Token stores of all parts, in any order.
    #[arg(required = true, value_name = "PART")]
    parts: Vec<PathBuf>,
    /// Folder of the merged store; `epsilon train` expects it at `runs/RECIPE/tokens`.
    #[arg(long, value_name = "FOLDER")]
    out: PathBuf,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

/// Import published HDF5 features (LESA, BiAM) as a token store and a table of labels.
#[derive(clap::Args)]
struct ImportH5 {
    /// HDF5 files of training images.
    #[arg(required = true, value_name = "FILE")]
    train: Vec<PathBuf>,
    /// HDF5 file of test images; may be given several times.
    #[arg(long, value_name = "FILE")]
    test: Vec<PathBuf>,
    /// Names of the seen labels, one per line, in the order of the files' columns.
    #[arg(long, value_name = "LIST")]
    seen: PathBuf,
    /// Names of the unseen labels, one per line, in the order of the files' columns.
    #[arg(long, value_name = "LIST")]
    unseen: PathBuf,
    /// Meaning of 0 in the labels: unknown, or negative for files that hold only 0 and 1.
    #[arg(long, value_enum, default_value_t = ZerosArgument::Unknown, value_name = "MEANING")]
    zeros: ZerosArgument,
    /// Store values in single instead of half precision.
    #[arg(long)]
    f32: bool,
    /// Folder for the store (`tokens`) and the table (`labels.parquet`).
    #[arg(long, value_name = "FOLDER")]
    out: PathBuf,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum ZerosArgument {
    Unknown,
    Negative,
}

pub(crate) fn run(args: Args) -> anyhow::Result<Outcome> {
    match args.command {
        Command::ImportH5(args) => import_h5(args),
        Command::Merge(args) => merge(args),
    }
}

fn import_h5(args: ImportH5) -> anyhow::Result<Outcome> {
    let (names, seen) = labels::read_seen_unseen(&args.seen, &args.unseen)?;
    let options = ImportOptions {
        train: args.train,
        test: args.test,
        seen: names[..seen].to_vec(),
        unseen: names[seen..].to_vec(),
        zeros: match args.zeros {
            ZerosArgument::Unknown => Zeros::Unknown,
            ZerosArgument::Negative => Zeros::Negative,
        },
        dtype: if args.f32 {
            TokenType::F32
        } else {
            TokenType::F16
        },
    };
    let bar = console::bar(0, "import");
    let report = import(&options, &args.out, &mut |event| {
        if let ImportEvent::Features(progress) = event {
            bar.set_length(progress.total as u64);
            bar.set_position((progress.done + progress.failed) as u64);
        }
        Continue(())
    })
    .context("import")?;
    bar.finish_and_clear();
    let failed = &report.images.failed;
    for failure in failed {
        console::name_failure(format_args!("{}: {}", failure.id, failure.reason));
    }
    print(&report, args.json)?;
    Ok(match failed.is_empty() {
        true => Outcome::Done,
        false => Outcome::SomeFailed,
    })
}

fn print(report: &ImportReport, json: bool) -> anyhow::Result<()> {
    let (tokens, dim) = report.shape;
    let [negative, zero, positive] = report.values;
    if json {
        return console::print_json(&serde_json::json!({
            "store": report.store,
            "table": report.table,
            "images": report.images.images,
            "tokens": tokens,
            "dim": dim,
            "failed": report.images.failed,
            "labels": { "negative": negative, "zero": zero, "positive": positive },
        }));
    }
    console::print(format_args!(
        "{}: {} images, {tokens} tokens of {dim} values each, {} failed",
        report.store.display(),
        report.images.images,
        report.images.failed.len(),
    ))?;
    console::print(format_args!(
        "{}: {positive} labels of +1, {zero} of 0, {negative} of -1",
        report.table.display()
    ))?;
    Ok(())
}

fn merge(args: Merge) -> anyhow::Result<Outcome> {
    let whole = tokens::merge(&args.parts, &args.out)?;
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
