//! The `epsilon` program: multi-label zero-shot learning from photographs and words to ranked labels.
//!
//! A library with one function, so that what is not the program itself, such as the Python package, can be the program too.

mod commands;
mod console;
mod memory;
mod ranks;
mod tensorboard;

use std::ffi::OsString;

use clap::{Parser, Subcommand};

/// Multi-label zero-shot learning: train on seen labels, and rank any label, also unseen ones, for photographs.
#[derive(Parser)]
#[command(name = "epsilon", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Number of compute threads [default: one per core].
    #[arg(long, global = true, value_name = "N")]
    threads: Option<usize>,
    /// Memory that photographs are decoded in, all at once, in megabytes [default: 1024]. Larger ones go one by one.
    #[arg(long, global = true, value_name = "MB", value_parser = clap::value_parser!(u32).range(1..))]
    decode_memory: Option<u32>,
}

#[derive(Subcommand)]
enum Command {
    Quickstart(commands::quickstart::Args),
    Prepare(commands::prepare::Args),
    Embed(commands::embed::Args),
    Backbone(commands::backbone::Args),
    Extract(commands::extract::Args),
    Formats(commands::formats::Args),
    Store(commands::store::Args),
    Train(commands::train::Args),
    Eval(commands::eval::Args),
    Compare(commands::compare::Args),
    Predict(commands::predict::Args),
    Models(commands::models::Args),
    Bundle(commands::bundle::Args),
    Explain(commands::explain::Args),
    Calibrate(commands::calibrate::Args),
    Learn(commands::learn::Args),
    Tag(commands::tag::Args),
    Review(commands::review::Args),
    Search(commands::search::Args),
    Index(commands::index::Args),
    Serve(commands::serve::Args),
    Bench(commands::bench::Args),
    Sweep(commands::sweep::Args),
    Rehearse(commands::rehearse::Args),
    Report(commands::report::Args),
    Licences(commands::licences::Args),
    Completions(commands::completions::Args),
    Man(commands::man::Args),
}

/// The result of a command that ran to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// Everything succeeded.
    Done,
    /// Some inputs failed; each was named on stderr.
    SomeFailed,
}

/// Runs the program with a command line, whose first word is what the program was called by, and returns its exit status: 0 done,
/// 1 done but some inputs failed, 2 could not start or go on. Help, the version and a wrong argument end the process.
///
/// The process's logger and its pool of compute threads are set up here, so it is called once.
pub fn run_program(arguments: Vec<OsString>) -> u8 {
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("warn"))
        .format_timestamp(None)
        .init();
    let called = arguments.first().cloned();
    let cli = Cli::parse_from(&arguments);
    commands::shell::set_called(called);
    // Held to the end: where it is dropped, the processes of a job leave each other.
    let _job = match ranks::join(&cli.command) {
        Ok(job) => job,
        Err(error) => return failed(&error),
    };
    match ranks::agree(&arguments).and_then(|()| run(cli)) {
        Ok(Outcome::Done) => 0,
        Ok(Outcome::SomeFailed) => 1,
        // A reader such as `head` closed the pipe: no error.
        Err(error) if console::is_closed_pipe(&error) => 0,
        Err(error) => failed(&error),
    }
}

/// Reports an error that ends the program; in a job of several processes it ends them all.
fn failed(error: &anyhow::Error) -> u8 {
    const STATUS: u8 = 2;
    console::report(error);
    ranks::abandon(STATUS);
    STATUS
}

fn run(cli: Cli) -> anyhow::Result<Outcome> {
    epsilon::cpu::level()?;
    anyhow::ensure!(cli.threads != Some(0), "--threads 0: give at least 1");
    if let Some(threads) = cli.threads.or_else(ranks::threads) {
        rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build_global()?;
    }
    if let Some(megabytes) = cli.decode_memory {
        epsilon::image::set_decode_memory(u64::from(megabytes) << 20);
    }
    match cli.command {
        Command::Quickstart(args) => commands::quickstart::run(args),
        Command::Prepare(args) => commands::prepare::run(args),
        Command::Embed(args) => commands::embed::run(args),
        Command::Backbone(args) => commands::backbone::run(args),
        Command::Extract(args) => commands::extract::run(args),
        Command::Formats(args) => commands::formats::run(&args),
        Command::Store(args) => commands::store::run(args),
        Command::Train(args) => commands::train::run(args),
        Command::Eval(args) => commands::eval::run(args),
        Command::Compare(args) => commands::compare::run(args),
        Command::Predict(args) => commands::predict::run(args),
        Command::Models(args) => commands::models::run(&args),
        Command::Bundle(args) => commands::bundle::run(args),
        Command::Explain(args) => commands::explain::run(args),
        Command::Calibrate(args) => commands::calibrate::run(args),
        Command::Learn(args) => commands::learn::run(args),
        Command::Tag(args) => commands::tag::run(args),
        Command::Review(args) => commands::review::run(args),
        Command::Search(args) => commands::search::run(args),
        Command::Index(args) => commands::index::run(args),
        Command::Serve(args) => commands::serve::run(args),
        Command::Bench(args) => commands::bench::run(args),
        Command::Sweep(args) => commands::sweep::run(args),
        Command::Rehearse(args) => commands::rehearse::run(args),
        Command::Report(args) => commands::report::run(args),
        Command::Licences(args) => commands::licences::run(&args),
        Command::Completions(args) => commands::completions::run(args),
        Command::Man(args) => commands::man::run(args),
    }
}
