//! `epsilon tag`: labels for all photographs of a folder, kept beside them and in sidecars.

mod watch;

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, anyhow};
use epsilon::library::{Entry, Labelled, Library, Outcome as Tags};
use epsilon::paths::{plain, shown};
use epsilon::tagger::{self, TagError, TagEvent, TagOptions, TagReport, Tagger};
use indicatif::ProgressBar;

use super::keep::KeepArgs;
use super::output;
use super::trained::{TrainedArgs, with_option};
use super::words::WordArgs;
use crate::{Outcome, console};

/// Tag all photographs of a folder and of the folders in it, with any words or the model's own labels. Without --model, with what
/// `epsilon learn` has learnt from it, if it has. Of the words to tag with,
/// `animal|dog` is the word dog below animal.
///
/// What is known is kept in the library folder: tags.jsonl has a line for every photograph, with its labels, when it was taken and,
/// with a calibrated model, how unsure the model is (doubt). `epsilon search` finds photographs by any word, by likeness or by
/// criteria. Photographs that are tagged and have not changed are left alone, so run it again for new ones.
/// What you said of labels with `epsilon review` holds: those that you rejected do not come back, those that you approved stay.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The folder of photographs.
    #[arg(value_name = "PHOTOS")]
    folder: PathBuf,
    #[command(flatten)]
    trained: TrainedArgs,
    #[command(flatten)]
    words: WordArgs,
    #[command(flatten)]
    keep: KeepArgs,
    /// The library folder [default: .epsilon in the folder of photographs].
    #[arg(long, value_name = "LIBRARY")]
    out: Option<PathBuf>,
    /// Also write the labels into XMP sidecars: PHOTO.jpg.xmp, as darktable and digiKam have it, or PHOTO.xmp. What others
    /// wrote there stays; labels that an earlier run wrote and that are not kept any more are taken out.
    #[arg(long, value_name = "NAME", num_args = 0..=1, default_missing_value = "full", require_equals = true, value_enum)]
    xmp: Option<SidecarName>,
    /// Take our labels out of sidecars whose photographs are gone, and remove those that nobody else wrote into. Without it
    /// they are only named.
    #[arg(long)]
    prune: bool,
    /// Forget photographs that are gone however many they are. Without it a folder that holds no photographs any more, or fewer
    /// than half of those that are known (of 8 or more), is taken for a mount that is away.
    #[arg(long)]
    forget_missing: bool,
    /// Also write all tags into this CSV file: photo, label, parents, score, probability, seen, state.
    #[arg(long, value_name = "FILE", value_parser = output::file())]
    csv: Option<PathBuf>,
    /// Leave out the files and folders that this fits, a pattern in the form of .gitignore; may be given again. Hidden files
    /// and folders and those of file servers and systems (@eaDir, lost+found, recycle bins) are left out in any case.
    #[arg(long, value_name = "PATTERN")]
    exclude: Vec<String>,
    /// Go on and tag photographs as they come into the folder, until stopped.
    #[arg(long)]
    watch: bool,
    /// Print a line of JSON for every photograph.
    #[arg(long)]
    json: bool,
}

/// How a sidecar is named.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum SidecarName {
    /// PHOTO.jpg.xmp.
    Full,
    /// PHOTO.xmp.
    Stem,
}

pub(crate) fn run(args: Args) -> anyhow::Result<Outcome> {
    args.keep.check()?;
    let words = args.words.read()?.map(|lines| args.words.subjects(lines));
    let words = words.transpose()?;
    let names = words.as_ref().map(|words| {
        let names = words.iter().map(|word| word.name.clone());
        names.collect::<Vec<String>>()
    });
    std::fs::read_dir(&args.folder).with_context(|| shown(&args.folder))?;
    let is_beside = args.out.is_none();
    let library = args.out.clone();
    let library = library.unwrap_or_else(|| Library::beside(&args.folder));
    let predictor = args.trained.load_learnt(&library, names.as_deref())?;
    args.trained.check_words(&predictor, names.as_deref())?;
    let ranks = crate::ranks::of_job();
    if !ranks.is_first() {
        return match tagger::assist(&predictor, &*ranks) {
            Ok(()) => Ok(Outcome::Done),
            Err(error) => Err(with_option(error)),
        };
    }
    let options = TagOptions {
        keep: args.keep.of(predictor.model(), None)?,
        words,
        library: args.out,
        sidecars: args.xmp.map(|name| match name {
            SidecarName::Full => epsilon::tagger::SidecarName::Full,
            SidecarName::Stem => epsilon::tagger::SidecarName::Stem,
        }),
        forget_missing: args.forget_missing,
        prune: args.prune,
        csv: args.csv,
        exclude: args.exclude,
    };
    let tagger = Tagger::open(&predictor, &args.folder, options);
    let tagger = tagger.map_err(|error| match error {
        TagError::Predict(error) => with_option(error),
        TagError::Library(error) if is_beside && error.is_read_only() => {
            anyhow!("{error}; give a library elsewhere with --out LIBRARY")
        }
        other => other.into(),
    })?;
    let mut tagger = tagger.with_ranks(ranks.clone());
    let report = match args.watch {
        true => watch::run(&mut tagger, args.json)?,
        false => {
            let report = round(&mut tagger, Duration::ZERO, args.json)?;
            name_others(&report);
            report
        }
    };
    tagger::dismiss(&*ranks);
    Ok(match report.failed {
        0 => Outcome::Done,
        _ => Outcome::SomeFailed,
    })
}

/// One round over the folder, with what it does told as it goes on.
fn round(tagger: &mut Tagger<'_>, settle: Duration, json: bool) -> anyhow::Result<TagReport> {
    let bar = console::bar(0, "tag");
    let mut printed = Ok(());
    let report = tagger.tag_settled(settle, &mut |event| {
        if let Err(error) = tell(event, &bar, json) {
            printed = Err(error);
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    });
    bar.finish_and_clear();
    printed?;
    let report = report?;
    summarise(&report);
    Ok(report)
}

fn tell(event: TagEvent<'_>, bar: &ProgressBar, json: bool) -> anyhow::Result<()> {
    match event {
        TagEvent::Begin(photos) => bar.set_length(photos as u64),
        TagEvent::Tagged(entry) => bar.suspend(|| print(entry, json))?,
        TagEvent::Failed(reason) => bar.suspend(|| console::name_failure(reason)),
        TagEvent::Flawed(what) => bar.suspend(|| console::warn(what)),
        TagEvent::Orphan(sidecar) => bar.suspend(|| name_orphan(sidecar)),
        TagEvent::Done(photos) => bar.inc(photos as u64),
        _ => {}
    }
    Ok(())
}

fn name_orphan(sidecar: &str) {
    let sidecar = plain(sidecar);
    console::complain(format_args!(
        "left behind: {sidecar}: its photograph is gone and it holds labels of ours; --prune takes them out"
    ));
}

fn print(entry: &Entry<Labelled>, json: bool) -> anyhow::Result<()> {
    if json {
        return Ok(console::print(serde_json::to_string(entry)?)?);
    }
    if let Tags::Labels(labels) = &entry.outcome {
        let kept = labels.iter().filter(|labelled| labelled.is_kept());
        let names: Vec<&str> = kept.map(|kept| kept.label.name.as_str()).collect();
        console::print(format_args!(
            "{}\t{}",
            plain(&entry.photo),
            names.join(", ")
        ))?;
    }
    Ok(())
}

/// Says how a round went: what was not right in any case, the rest where somebody watches.
fn summarise(report: &TagReport) {
    let seen = report.tagged + report.unchanged + report.failed + report.fresh;
    if seen == 0 && report.others.is_empty() {
        console::warn("the folder holds no photographs");
    }
    if report.flawed > 0 {
        console::warn(format_args!(
            "{} photographs were read although their files are not quite right",
            report.flawed
        ));
    }
    let orphans = match report.orphans {
        0 => String::new(),
        orphans => format!(
            "; of {orphans} sidecars left behind, {} cleared",
            report.pruned
        ),
    };
    if report.followed > 0 {
        console::tell(format_args!(
            "{} photographs with corrections have a new name and keep them",
            report.followed
        ));
    }
    console::tell(format_args!(
        "{} tagged, {} as they were, {} failed{orphans}",
        report.tagged, report.unchanged, report.failed
    ));
}

/// Says which pictures were not looked at, whoever watches.
fn name_others(report: &TagReport) {
    if report.others.is_empty() {
        return;
    }
    let count: usize = report.others.values().sum();
    let kinds = report.others.iter();
    let kinds: Vec<String> = kinds.map(|(kind, n)| format!("{n} {kind}")).collect();
    console::warn(format_args!(
        "not read, as `epsilon formats` does not list them: {count} pictures ({})",
        kinds.join(", ")
    ));
}
