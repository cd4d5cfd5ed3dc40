//! The commands, one file each, and what they share.

pub(crate) mod backbone;
pub(crate) mod bench;
pub(crate) mod bundle;
pub(crate) mod calibrate;
pub(crate) mod compare;
pub(crate) mod completions;
pub(crate) mod embed;
pub(crate) mod eval;
pub(crate) mod explain;
pub(crate) mod extract;
pub(crate) mod formats;
pub(crate) mod index;
mod keep;
pub(crate) mod learn;
pub(crate) mod licences;
mod limits;
pub(crate) mod man;
pub(crate) mod models;
mod output;
pub(crate) mod predict;
pub(crate) mod prepare;
pub(crate) mod quickstart;
pub(crate) mod rehearse;
pub(crate) mod report;
pub(crate) mod review;
mod score_files;
pub(crate) mod search;
pub(crate) mod serve;
pub(crate) mod shell;
pub(crate) mod store;
pub(crate) mod sweep;
pub(crate) mod tag;
pub(crate) mod train;
mod trained;
mod words;

use std::ops::ControlFlow::{self, Continue};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use epsilon::Experiment;
use epsilon::backbone::Engine;
use epsilon::experiment::{ExperimentError, Layout};
use epsilon::model::Model;
use epsilon::recipe::Recipe;
use epsilon::tokens::{ExtractReport, Part, Progress, TokenStore};
use indicatif::HumanDuration;

use crate::console;

/// The output folder and the device of an experiment.
#[derive(Args)]
pub(crate) struct Place {
    /// Output folder for tokens, checkpoints, models and figures [default: runs/RECIPE].
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    /// Device to compute on.
    #[arg(long, default_value = "cpu", value_parser = epsilon::device::NAMES.to_vec())]
    device: String,
    #[command(flatten)]
    engine: EngineArgs,
}

/// What runs the backbone.
#[derive(Args)]
pub(crate) struct EngineArgs {
    /// What runs the backbone: this program's own engine, on the device; or ONNX Runtime, whose library ORT_DYLIB_PATH names.
    #[cfg(feature = "onnxruntime")]
    #[arg(long, default_value = "own", value_name = "ENGINE", value_parser = engine())]
    engine: Engine,
}

/// Parses the name of an engine.
#[cfg(feature = "onnxruntime")]
fn engine() -> impl clap::builder::TypedValueParser<Value = Engine> {
    use clap::builder::{PossibleValuesParser, TypedValueParser};
    PossibleValuesParser::new(Engine::NAMES)
        .try_map(|name| Engine::by_name(&name).ok_or("no engine has this name"))
}

impl EngineArgs {
    pub(crate) fn get(&self) -> Engine {
        #[cfg(feature = "onnxruntime")]
        return self.engine;
        #[cfg(not(feature = "onnxruntime"))]
        Engine::Own
    }
}

impl Place {
    /// The folder of the experiment that this recipe file describes.
    pub(crate) fn folder(&self, recipe: &Path) -> PathBuf {
        run_folder(self.out.as_deref(), recipe)
    }

    /// The experiment of the recipe in this file.
    pub(crate) fn experiment(&self, path: &Path) -> anyhow::Result<Experiment> {
        self.open(Recipe::read(path)?, &self.folder(path))
    }

    /// The experiment of a recipe, with its files in `folder`.
    pub(crate) fn open(&self, recipe: Recipe, folder: &Path) -> anyhow::Result<Experiment> {
        let device = epsilon::device::device(&self.device)?;
        let experiment = Experiment::open(recipe, folder)?.with_device(device);
        let experiment = experiment
            .with_engine(self.engine.get())
            .with_ranks(crate::ranks::of_job());
        Ok(experiment.with_download_bar(console::is_terminal()))
    }
}

/// The folder of a recipe's experiment: the one asked for, or `runs/RECIPE`.
pub(crate) fn run_folder(out: Option<&Path>, recipe: &Path) -> PathBuf {
    out.map_or_else(|| Layout::default_folder(recipe), PathBuf::from)
}

/// [`Experiment::of_model`]; its error for missing tokens mentions the option `--store`.
pub(crate) fn of_model(
    model: &Model,
    path: &Path,
    other: Option<&Path>,
    store: Option<&Path>,
) -> anyhow::Result<Experiment> {
    if other.is_none() && model.card().seen_labels().is_empty() {
        anyhow::bail!(
            "{}: a model without training has no photographs of its own: name a recipe of some (`eval --data RECIPE`, `calibrate --on \
             RECIPE`)",
            path.display()
        );
    }
    Experiment::of_model(model, path, other, store).map_err(|error| match error {
        ExperimentError::Store(_) => {
            anyhow::Error::from(error).context("give the images' token store with --store")
        }
        error => error.into(),
    })
}

/// Warns where a model was trained on labels that count as unseen.
pub(crate) fn warn_of_known(path: &Path, model: &Model, unseen: &[String]) {
    let trained = model.card().seen_labels();
    let known: Vec<&String> = unseen
        .iter()
        .filter(|name| trained.contains(name))
        .collect();
    if let Some(first) = known.first() {
        console::warn(format_args!(
            "{}: the model was trained on {} of the labels that count as unseen here, such as {first}",
            path.display(),
            known.len()
        ));
    }
}

/// Extracts an experiment's missing tokens with a progress bar, or lines in a log, and names the images that failed; returns whether there are any.
pub(crate) fn extract(experiment: &mut Experiment) -> anyhow::Result<bool> {
    let report = with_bar(|progress| experiment.extract(progress))?;
    Ok(name_failures(&report))
}

/// [`extract`] for one part of the images; returns its token store as well.
pub(crate) fn extract_part(
    experiment: &mut Experiment,
    part: Part,
) -> anyhow::Result<(TokenStore, bool)> {
    let (store, report) = with_bar(|progress| experiment.extract_part(part, progress))?;
    Ok((store, name_failures(&report)))
}

fn with_bar<T>(extract: impl FnOnce(&mut dyn FnMut(Progress) -> ControlFlow<()>) -> T) -> T {
    let mut bar = None;
    let mut log = console::Log::start();
    let extracted = extract(&mut |progress| {
        // Created late, so that it does not appear beside the bar of a backbone's download.
        let bar = bar.get_or_insert_with(|| console::bar(0, "extract"));
        bar.set_length(progress.total as u64);
        bar.set_position((progress.done + progress.failed) as u64);
        if log.is_due() {
            console::complain(line(&progress));
        }
        if progress.failed > 0 {
            bar.set_message(format!("{} failed", progress.failed));
        }
        Continue(())
    });
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
    extracted
}

/// How far an extraction is, for a log.
fn line(progress: &Progress) -> String {
    let seen = progress.done + progress.failed;
    let left = progress.total.saturating_sub(seen) as f64 / progress.rate;
    let left = Duration::try_from_secs_f64(left).unwrap_or(Duration::MAX);
    let failed = match progress.failed {
        0 => String::new(),
        failed => format!(", {failed} failed"),
    };
    format!(
        "extract: {seen} of {} images{failed}; {:.1} images/s, {} left",
        progress.total,
        progress.rate,
        HumanDuration(left)
    )
}

fn name_failures(report: &ExtractReport) -> bool {
    for failure in &report.failed {
        console::name_failure(format_args!("{}: {}", failure.id, failure.reason));
    }
    for flaw in &report.flawed {
        console::warn(format_args!("{}: {}", flaw.id, flaw.reason));
    }
    !report.failed.is_empty()
}

/// Scores test images with a progress bar.
pub(crate) fn measuring<T>(
    score: impl FnOnce(&mut dyn FnMut(usize, usize) -> ControlFlow<()>) -> T,
) -> T {
    let bar = console::bar(0, "measure");
    let scored = score(&mut |done, total| {
        bar.set_length(total as u64);
        bar.set_position(done as u64);
        Continue(())
    });
    bar.finish_and_clear();
    scored
}

/// Mean and unbiased standard deviation; the latter is 0 for one value.
pub(crate) fn mean_and_deviation(values: &[f64]) -> (f64, f64) {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let squares: f64 = values.iter().map(|v| (v - mean).powi(2)).sum();
    (mean, (squares / (count - 1.0).max(1.0)).sqrt())
}
