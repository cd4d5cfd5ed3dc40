//! `epsilon eval`: evaluates a trained model, or the scores of any program, under any protocol.

use std::ops::ControlFlow::Continue;
use std::path::{Path, PathBuf};

use anyhow::{bail, ensure};
use epsilon::Predictor;
use epsilon::backbone::{Engine, by_name, is_hub_id};
use epsilon::experiment::{self, Figures, LabelSet, Scored};
use epsilon::labels::VectorFile;
use epsilon::model::Model;
use epsilon::predictor::is_bundle;
use epsilon::recipe::{EvaluationSettings, Recipe};
use epsilon_metrics::files::{write_per_label, write_scores};
use epsilon_metrics::{Evaluation, Protocol, Protocols, Standardise, Table, TopKTies};

use super::score_files::{self, ScoreFiles};
use super::trained::{check_parts, with_option};
use super::{EngineArgs, output};
use crate::{Outcome, console};

/// Evaluate a model on its recipe's test images, or the scores of any program.
#[derive(clap::Args)]
#[command(group(clap::ArgGroup::new("what").required(true).args(["model", "scores"])))]
pub(crate) struct Args {
    /// Model file (.safetensors) or bundle; or, with --data, the weights of a network that ranks words without training, as `--model` of
    /// `epsilon predict` takes them.
    model: Option<PathBuf>,
    /// The words' vectors for a classifier in place of a model.
    #[arg(long, value_name = "FILE", requires = "data")]
    vectors: Option<PathBuf>,
    /// A list of the vector file's words, where it holds numbers alone; one for each of its arrays.
    #[arg(long, value_name = "FILE", requires = "vectors")]
    vector_names: Vec<PathBuf>,
    /// The names of its classes, a line for each, its names between commas [default: ImageNet's 1,000].
    #[arg(long, value_name = "FILE", requires = "data")]
    classes: Option<PathBuf>,
    /// Token store [default: `tokens` in the model's run folder; none for a bundle with --data, which looks at the photographs].
    #[arg(long, value_name = "FOLDER", conflicts_with = "scores")]
    store: Option<PathBuf>,
    /// Evaluate on the test images of this recipe instead of the model's own.
    #[arg(long, value_name = "RECIPE", conflicts_with = "scores")]
    data: Option<PathBuf>,
    /// Evaluate these scores instead of a model: .npy, .safetensors or .csv, images x labels.
    #[arg(long, value_name = "FILE", requires = "labels")]
    scores: Option<PathBuf>,
    /// Ground truth of the scores: .npy, .safetensors or .csv with 1, -1 and 0 (unknown), or a data set's table (.tsv, .jsonl),
    /// whose test images are evaluated.
    #[arg(long, value_name = "FILE", requires = "scores")]
    labels: Option<PathBuf>,
    /// List of the seen labels, one per line [default: all that are not unseen].
    #[arg(long, value_name = "LIST", requires = "scores")]
    seen: Option<PathBuf>,
    /// List of the unseen labels, one per line [default: all that are not seen].
    #[arg(long, value_name = "LIST", requires = "scores")]
    unseen: Option<PathBuf>,
    /// Meaning of 0 in the ground truth; needed unless it also contains -1, where 0 is unknown.
    #[arg(long, value_parser = ["negative", "unknown"], requires = "scores")]
    zero: Option<String>,
    /// Evaluation protocol, or `all` for a table of all but those with a published bug [default: the recipe's; `epsilon` for scores].
    #[arg(long, value_parser = [&Protocol::NAMES[..], &["all"]].concat())]
    protocol: Option<String>,
    /// K of the top-K figures, such as 3,5 [default: the recipe's; the protocol's for scores].
    #[arg(long, value_name = "K,K", value_delimiter = ',')]
    k: Option<Vec<usize>>,
    /// Bootstrap resamples for the error of the mAP; 0 for none [default: the recipe's; 200 for scores].
    #[arg(long, value_name = "N")]
    bootstrap: Option<usize>,
    /// Which of an image's labels with equal scores come first in its top K: the first or the last of the table [default: first].
    #[arg(long, value_name = "WHICH", value_parser = ["first", "last"])]
    top_k_ties: Option<String>,
    #[command(flatten)]
    normalise: NormaliseArgs,
    /// Write per-label figures to this CSV file.
    #[arg(long, value_name = "FILE", value_parser = output::file())]
    per_label: Option<PathBuf>,
    /// Write the model's scores to this file: .npy or .safetensors, with names in files beside it, or .csv.
    #[arg(long, value_name = "FILE", value_parser = output::file(), conflicts_with = "scores")]
    save_scores: Option<PathBuf>,
    /// Device to compute on.
    #[arg(long, default_value = "cpu", value_parser = epsilon::device::NAMES.to_vec())]
    device: String,
    #[command(flatten)]
    engine: EngineArgs,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

/// What is done to scores before they are ranked.
#[derive(clap::Args)]
pub(super) struct NormaliseArgs {
    /// Standardise the scores of every image to mean 0 and standard deviation 1: over all labels of the table (`table`, where nothing
    /// else is said), over those that are ranked (`ranked`), or not (`none`) [default: the recipe's setting; none for scores].
    #[arg(long, value_name = "LABELS", num_args = 0..=1, default_missing_value = "table", value_parser = Standardise::NAMES)]
    standardise: Option<String>,
    /// Take from every label's scores their mean over the test images first. Transductive: the figures then use all test images to
    /// judge one.
    #[arg(long)]
    centre_labels: bool,
}

impl NormaliseArgs {
    /// Overrides what was asked for.
    pub(super) fn put_into(&self, settings: &mut EvaluationSettings) {
        // Clap takes the names alone.
        if let Some(Ok(standardise)) = self.standardise.as_deref().map(str::parse) {
            settings.standardise = standardise;
        }
        settings.centre_labels |= self.centre_labels;
    }
}

impl Args {
    /// Refuses an engine where tokens or scores are there.
    fn looks_at_no_photographs(&self) -> anyhow::Result<()> {
        ensure!(
            self.engine.get() == Engine::Own,
            "--engine: no backbone runs here; the option is for a network or a bundle that looks at the photographs of --data"
        );
        Ok(())
    }
}

/// What is evaluated without a token store is not shared out.
fn in_one_process() -> anyhow::Result<()> {
    let count = crate::ranks::of_job().size();
    ensure!(
        count == 1,
        "a model on its token store is evaluated by several processes; photographs and scores are by one, and {count} were started"
    );
    Ok(())
}

pub(crate) fn run(args: Args) -> anyhow::Result<Outcome> {
    match (&args.model, &args.scores, &args.labels) {
        (Some(model), ..) => return of_model(&args, model),
        (None, Some(scores), Some(labels)) => {
            args.looks_at_no_photographs()?;
            of_scores(&args, scores, labels)?;
        }
        // The argument group requires one of the two.
        (None, ..) => bail!("give a model, or --scores and --labels"),
    }
    Ok(Outcome::Done)
}

fn of_model(args: &Args, path: &Path) -> anyhow::Result<Outcome> {
    if is_hub_id(&by_name(path)) || !Model::is_at(path)? {
        return of_photographs(args, path);
    }
    if args.data.is_some() && args.store.is_none() && is_bundle(path)? {
        return of_photographs(args, path);
    }
    args.looks_at_no_photographs()?;
    ensure!(
        args.vectors.is_none(),
        "--vectors: the labels' vectors are the recipe's; the option is for a network in place of a model"
    );
    ensure!(
        args.classes.is_none(),
        "--classes: a model has its own; the option is for a classifier in place of a model"
    );
    let device = epsilon::device::device(&args.device)?;
    let model = Model::load(path, &device)?;
    let (other, store) = (args.data.as_deref(), args.store.as_deref());
    let experiment = super::of_model(&model, path, other, store)?;
    let mut experiment = experiment
        .with_device(device)
        .with_ranks(crate::ranks::of_job());
    let prepared = experiment.prepare()?;
    super::warn_of_known(path, &model, prepared.dataset.unseen_names());
    let mut settings = experiment.recipe().evaluation.clone();
    let protocols = protocols(args, &settings.protocol)?;
    settings.bootstrap = args.bootstrap.unwrap_or(settings.bootstrap);
    args.normalise.put_into(&mut settings);
    if let Some(ks) = &args.k {
        let dataset = &prepared.dataset;
        settings.k_zsl = fitting(ks, dataset.names.len() - dataset.seen);
        settings.k_gzsl.clone_from(ks);
    }
    let scored = super::measuring(|progress| experiment.score(&model, progress))?;
    // Every rank has all scores; what is written and printed is the first one's.
    if !experiment.ranks().is_first() {
        return Ok(Outcome::Done);
    }
    show(args, &scored, &protocols, &settings)?;
    Ok(Outcome::Done)
}

/// Measures a network without training, or a bundle, on the test photographs of a recipe.
fn of_photographs(args: &Args, path: &Path) -> anyhow::Result<Outcome> {
    in_one_process()?;
    let Some(data) = &args.data else {
        bail!(
            "{}: is no model of this program; a network without training is evaluated on the data of a recipe: --data RECIPE",
            path.display()
        );
    };
    ensure!(
        args.store.is_none(),
        "--store: a network without training is evaluated on photographs"
    );
    let recipe = Recipe::read(data)?;
    let mut options = Predictor::options(by_name(path))
        .device(epsilon::device::device(&args.device)?)
        .engine(args.engine.get())
        .progress(console::is_terminal());
    if let Some(vectors) = &args.vectors {
        options = options.vectors(VectorFile {
            path: vectors.clone(),
            names: args.vector_names.clone(),
        });
    }
    if let Some(classes) = &args.classes {
        options = options.classes(classes);
    }
    let predictor = options.load().map_err(with_option)?;
    check_parts(&predictor, args.classes.as_deref(), args.vectors.as_deref())?;
    let mut settings = recipe.evaluation.clone();
    let protocols = protocols(args, &settings.protocol)?;
    settings.bootstrap = args.bootstrap.unwrap_or(settings.bootstrap);
    args.normalise.put_into(&mut settings);
    let (scored, failed) =
        super::measuring(|progress| experiment::score_photographs(&predictor, &recipe, progress))?;
    failed.iter().for_each(console::name_failure);
    let (labels, seen) = (scored.labels.len(), scored.seen);
    let ks = args.k.as_ref().unwrap_or(&settings.k_gzsl).clone();
    settings.k_zsl = fitting(args.k.as_ref().unwrap_or(&settings.k_zsl), labels - seen);
    settings.k_gzsl = ks;
    show(args, &scored, &protocols, &settings)?;
    Ok(match failed.is_empty() {
        true => Outcome::Done,
        false => Outcome::SomeFailed,
    })
}

/// Writes what was asked for, and prints the figures.
fn show(
    args: &Args,
    scored: &Scored,
    protocols: &[Protocol],
    settings: &EvaluationSettings,
) -> anyhow::Result<()> {
    if let Some(path) = &args.save_scores {
        write_scores(path, &scored.scores, &scored.images, &scored.labels)?;
    }
    let figures = ByProtocol(scored.measure(protocols, settings, &mut || Continue(()))?);
    figures.write_per_label(args, |column| scored.labels[column].clone())?;
    figures.print(args.json)
}

fn of_scores(args: &Args, scores: &Path, labels: &Path) -> anyhow::Result<()> {
    in_one_process()?;
    let protocols = protocols(args, "epsilon")?;
    let mut settings = EvaluationSettings::default();
    args.normalise.put_into(&mut settings);
    let files = ScoreFiles {
        labels,
        seen: args.seen.as_deref(),
        unseen: args.unseen.as_deref(),
        zero: args.zero.as_deref(),
        normalisation: settings.normalisation(),
    };
    let (joined, seen) = files.read(scores)?;
    let ks = match &args.k {
        Some(ks) => ks.clone(),
        None => fitting(protocols[0].ks(), joined.labels()),
    };
    settings.k_zsl = fitting(&ks, joined.labels() - seen);
    settings.k_gzsl = ks;
    settings.bootstrap = args.bootstrap.unwrap_or(settings.bootstrap);
    let measured = experiment::figures(&joined, seen, &protocols, &settings).map(ByProtocol);
    let figures = measured.map_err(|error| joined.name(error))?;
    figures.write_per_label(args, |column| joined.label(column))?;
    if !args.json {
        console::print(format_args!("{}\n", score_files::matched(&joined)))?;
    }
    figures.print(args.json)
}

/// The protocols that were asked for, or that of this name, with the ties in the top K that were asked for.
fn protocols(args: &Args, usual: &str) -> anyhow::Result<Vec<Protocol>> {
    let chosen = match args.protocol.as_deref().unwrap_or(usual) {
        "all" => Protocol::all().to_vec(),
        name => vec![name.parse()?],
    };
    let ties = match args.top_k_ties.as_deref() {
        None => return Ok(chosen),
        Some("last") => TopKTies::LastLabel,
        Some(_) => TopKTies::FirstLabel,
    };
    Ok(chosen
        .into_iter()
        .map(|p| p.with_top_k_ties(ties))
        .collect())
}

/// The K that do not exceed the number of labels.
fn fitting(ks: &[usize], labels: usize) -> Vec<usize> {
    ks.iter().copied().filter(|&k| k <= labels).collect()
}

/// Figures under one or more protocols.
struct ByProtocol(Vec<Figures>);

impl ByProtocol {
    /// Each label set that was measured, with its name, every protocol in turn.
    fn parts(&self) -> Vec<(&str, Vec<&Evaluation>)> {
        let split = self.0.iter().any(|figures| figures.split().is_some());
        let sets = LabelSet::ALL.into_iter().map(|set| {
            let name = if split { set.name() } else { "all" };
            let figures = self.0.iter().filter_map(|figures| figures.part(set));
            (name, figures.collect::<Vec<_>>())
        });
        sets.filter(|(_, figures)| !figures.is_empty()).collect()
    }

    fn write_per_label(&self, args: &Args, label: impl Fn(usize) -> String) -> anyhow::Result<()> {
        let Some(path) = &args.per_label else {
            return Ok(());
        };
        let parts = self.parts();
        let evaluations: Vec<(&str, &Evaluation)> = parts
            .iter()
            .flat_map(|(part, figures)| figures.iter().map(|figures| (*part, *figures)))
            .collect();
        Ok(write_per_label(path, &evaluations, label)?)
    }

    /// Prints the figures of one protocol as they are, those of several as one table or JSON list.
    fn print(&self, json: bool) -> anyhow::Result<()> {
        match (&self.0[..], json) {
            ([only], true) => console::print_json(only),
            (all, true) => console::print_json(&all),
            ([only], false) => Ok(console::print(only)?),
            (all, false) => {
                console::print(Protocols(&self.parts()))?;
                let splits = || all.iter().filter_map(Figures::split);
                if splits().next().is_some() {
                    console::print("\nharmonic mean of the seen and the unseen (ZSL) mAP (%):")?;
                }
                for split in splits() {
                    let (name, map) = (&split.gzsl.protocol, 100.0 * split.harmonic_map);
                    console::print(format_args!("  {name:<16}  {map:5.1}"))?;
                }
                for figures in all {
                    let name = &figures.seen().protocol;
                    if let Some(classes) = figures.backbone_classes() {
                        console::print(format_args!("\n{name}: {classes}"))?;
                    }
                }
                Ok(())
            }
        }
    }
}
