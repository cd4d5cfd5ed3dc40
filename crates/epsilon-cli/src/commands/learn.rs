//! `epsilon learn`: a model from the keywords and corrections of a folder of photographs.

use std::ops::ControlFlow::Continue;
use std::path::{Path, PathBuf};

use epsilon::learning::{
    AT_LEAST, Anchored, KeptLabels, LearnEvent, LearnOptions, LearnReport, Learner, earlier_network,
};
use epsilon::library::Library;
use epsilon::paths::plain;
use indicatif::ProgressBar;

use super::trained::ModelArgs;
use super::{EngineArgs, line, output, shell};
use crate::{Outcome, console};

/// Learn a model from the keywords that photographs have already, and from what you said of their labels.
///
/// Keywords are read from the pictures (XMP, IPTC) and from XMP sidecars; what this program wrote there itself and nobody approved
/// does not count. What you approve, reject or add (`epsilon review`, `epsilon serve --library`) holds where keywords say otherwise.
/// About a sixth of the photographs, whole scenes, is held out: probabilities, thresholds and all figures rest on these.
///
/// The model then tags and searches the library, and still ranks any other word. Run it again when the library has grown: only what
/// is new is looked at.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The folder of photographs.
    #[arg(value_name = "PHOTOS")]
    folder: PathBuf,
    /// The network to learn with is named as a model that needs no training; without it the one of the time before is taken.
    #[command(flatten)]
    model: ModelArgs,
    /// The library folder [default: .epsilon in the folder of photographs].
    #[arg(long, value_name = "LIBRARY")]
    library: Option<PathBuf>,
    /// The model's file [default: model.safetensors in the library folder, where `epsilon tag` finds it].
    #[arg(short, long, value_name = "FILE", value_parser = output::file())]
    out: Option<PathBuf>,
    /// Photographs to train on that a label needs to be learnt. Rarer ones are ranked by their word vectors, as any word.
    #[arg(long, value_name = "N", default_value_t = AT_LEAST, value_parser = at_least)]
    at_least: usize,
    /// The names of the folders that a photograph lies in are keywords, too; dates and what cameras name folders are not.
    #[arg(long)]
    folders: bool,
    /// Leave out the files and folders that this fits, a pattern in the form of .gitignore; may be given again.
    #[arg(long, value_name = "PATTERN")]
    exclude: Vec<String>,
    #[command(flatten)]
    engine: EngineArgs,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

fn at_least(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(count) if count > 0 => Ok(count),
        _ => Err("give a number of photographs, at least 1".into()),
    }
}

pub(crate) fn run(args: Args) -> anyhow::Result<Outcome> {
    let library = args.library.clone();
    let library = library.unwrap_or_else(|| Library::beside(&args.folder));
    let network = args.model.network(|| earlier_network(&library))?;
    let asked = (args.library.clone(), args.out.clone());
    let options = LearnOptions {
        library: args.library,
        model: args.out,
        at_least: args.at_least,
        folders: args.folders,
        exclude: args.exclude,
        engine: args.engine.get(),
        show_downloads: console::is_terminal(),
    };
    let learner = Learner::open(&args.folder, network, options)?;
    let mut told = Told::default();
    let report = learner.learn(&mut |event| {
        told.tell(event);
        Continue(())
    })?;
    told.end();
    for reason in &report.failed {
        console::name_failure(reason);
    }
    match args.json {
        true => console::print_json(&report)?,
        false => print(&report, &next(&report, &args.folder, asked.0, asked.1))?,
    }
    Ok(match report.failed.is_empty() {
        true => Outcome::Done,
        false => Outcome::SomeFailed,
    })
}

/// The command that tags with what was learnt.
fn next(
    report: &LearnReport,
    folder: &Path,
    library: Option<PathBuf>,
    model: Option<PathBuf>,
) -> String {
    let mut command = format!("{} tag {}", shell::program(), shell::quoted(folder));
    for (option, path) in [("--model", model), ("--out", library)] {
        if let Some(path) = path {
            command += &format!(" {option} {}", shell::quoted(&path));
        }
    }
    // Without thresholds it has to be told how many labels to keep.
    if report.uncalibrated.is_some() {
        command += " --top 5";
    }
    command
}

/// How far it is, on stderr.
#[derive(Default)]
struct Told {
    bar: Option<ProgressBar>,
    log: Option<console::Log>,
    training: bool,
}

impl Told {
    fn tell(&mut self, event: LearnEvent<'_>) {
        match event {
            LearnEvent::Reading(photos) => {
                console::tell(format_args!("reading the keywords of {photos} photographs"));
            }
            LearnEvent::Flaw(flaw) => console::warn(flaw),
            LearnEvent::Extracting(progress) => {
                let bar = self.bar.get_or_insert_with(|| console::bar(0, "extract"));
                bar.set_length(progress.total as u64);
                bar.set_position((progress.done + progress.failed) as u64);
                if self.log.get_or_insert_with(console::Log::start).is_due() {
                    console::complain(line(&progress));
                }
            }
            LearnEvent::Training(_) if !self.training => {
                self.end();
                self.training = true;
                console::tell("training");
            }
            _ => {}
        }
    }

    fn end(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

fn print(report: &LearnReport, next: &str) -> anyhow::Result<()> {
    console::print(format_args!(
        "{} photographs, {} with keywords, {} corrected; {} new ones were looked at",
        report.photographs, report.keyworded, report.corrected, report.extracted
    ))?;
    console::print(format_args!(
        "of {} scenes; learnt from {} photographs, {} held out",
        report.scenes, report.trained_on, report.held_out
    ))?;
    if report.alone > 0 {
        console::warn(format_args!(
            "{} photographs have no capture time and lie in few folders, so each was taken for a scene of its own: where there are \
             bursts among them, the figures are too good",
            report.alone
        ));
    }
    if let Anchored::Without(reason) = &report.anchored {
        console::warn(format_args!(
            "learnt without what the backbone's own classes say of a label: {reason}"
        ));
    }
    print_labels(report)?;
    print_left_out(report)?;
    match report.map {
        Some(map) => console::print(format_args!(
            "\nmAP on the photographs held out: {:.1} %",
            100.0 * map
        ))?,
        None => console::warn(
            "no photograph that was held out has a label that was learnt: there is nothing to measure on",
        ),
    }
    if let Some(reason) = &report.uncalibrated {
        console::warn(format_args!(
            "no probabilities and thresholds yet: {reason}"
        ));
    }
    console::print(format_args!("model: {}", report.model.display()))?;
    Ok(console::print(format_args!("next:  {next}"))?)
}

fn print_labels(report: &LearnReport) -> anyhow::Result<()> {
    let percent = |of: Option<f64>| of.map_or("-".into(), |of| format!("{:.0}", 100.0 * of));
    let row = |name: &str, photographs: &str, kept: Option<&KeptLabels>| {
        let precision = percent(kept.and_then(|kept| kept.precision));
        let recall = percent(kept.and_then(|kept| kept.recall));
        let name = plain(name).to_string();
        console::print(format_args!(
            "{name:<32}{photographs:>12}{precision:>12}{recall:>10}"
        ))
    };
    console::print(format_args!(
        "\n{:<32}{:>12}{:>12}{:>10}",
        "label", "photographs", "precision %", "recall %"
    ))?;
    for label in &report.labels {
        row(
            &label.name,
            &label.photographs.to_string(),
            label.kept.as_ref(),
        )?;
    }
    Ok(row("all", "", report.kept.as_ref())?)
}

/// Names what was not learnt.
fn print_left_out(report: &LearnReport) -> anyhow::Result<()> {
    if !report.rare.is_empty() {
        let rare = report.rare.iter();
        let rare: Vec<String> = rare
            .map(|(name, n)| format!("{} ({n})", plain(name)))
            .collect();
        console::print(format_args!(
            "\ntoo rare, or held out with all their photographs: {}",
            rare.join(", ")
        ))?;
    }
    if !report.wordless.is_empty() {
        let names = report.wordless.iter();
        let names: Vec<String> = names.map(|name| plain(name).to_string()).collect();
        console::print(format_args!(
            "\nwithout a word vector: {}",
            names.join(", ")
        ))?;
    }
    Ok(())
}
