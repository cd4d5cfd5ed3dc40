//! `epsilon eval`: evaluates a trained model, or the scores of any program, under any protocol.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use epsilon::Predictor;
use epsilon::backbone::is_hub_id;
use epsilon::dataset::{Split, table};
use epsilon::experiment::{self, Figures, LabelSet, Scored};
use epsilon::labels::{VectorFile, read_list};
use epsilon::model::Model;
use epsilon::predictor::is_bundle;
use epsilon::recipe::{EvaluationSettings, Recipe};
use epsilon_data::files;
use epsilon_metrics::files::{Joined, LabelTable, ScoreTable, Zero, write_per_label, write_scores};
use epsilon_metrics::{Evaluation, Protocol, Protocols, Table};

use super::output;
use super::trained::{by_name, with_option};
use crate::{Outcome, console};

/// Maximum number of names in a message.
const FEW: usize = 3;

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
    /// Evaluation protocol, or `all` for a table of all of them [default: the recipe's; `epsilon` for scores].
    #[arg(long, value_parser = [&Protocol::NAMES[..], &["all"]].concat())]
    protocol: Option<String>,
    /// K of the top-K figures, such as 3,5 [default: the recipe's; the protocol's for scores].
    #[arg(long, value_name = "K,K", value_delimiter = ',')]
    k: Option<Vec<usize>>,
    /// Bootstrap resamples for the error of the mAP; 0 for none [default: the recipe's; 200 for scores].
    #[arg(long, value_name = "N")]
    bootstrap: Option<usize>,
    /// Standardise the scores of every image to mean 0 and standard deviation 1 over its labels [default: the recipe's setting].
    #[arg(long, conflicts_with = "scores")]
    standardise: bool,
    /// Write per-label figures to this CSV file.
    #[arg(long, value_name = "FILE", value_parser = output::file())]
    per_label: Option<PathBuf>,
    /// Write the model's scores to this file: .npy or .safetensors, with names in files beside it, or .csv.
    #[arg(long, value_name = "FILE", value_parser = output::file(), conflicts_with = "scores")]
    save_scores: Option<PathBuf>,
    /// Device to compute on.
    #[arg(long, default_value = "cpu", value_parser = epsilon::device::NAMES.to_vec())]
    device: String,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: Args) -> anyhow::Result<Outcome> {
    match (&args.model, &args.scores, &args.labels) {
        (Some(model), ..) => return of_model(&args, model),
        (None, Some(scores), Some(labels)) => of_scores(&args, scores, labels)?,
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
    ensure!(
        args.vectors.is_none(),
        "--vectors: the labels' vectors are the recipe's; the option is for a network in place of a model"
    );
    let device = epsilon::device::device(&args.device)?;
    let model = Model::load(path, &device)?;
    let (other, store) = (args.data.as_deref(), args.store.as_deref());
    let mut experiment = super::of_model(&model, path, other, store)?;
    let (prepared, store) = (experiment.prepare()?, experiment.tokens()?);
    let mut settings = experiment.recipe().evaluation.clone();
    let protocols = protocols(args.protocol.as_deref().unwrap_or(&settings.protocol))?;
    settings.bootstrap = args.bootstrap.unwrap_or(settings.bootstrap);
    settings.standardise |= args.standardise;
    if let Some(ks) = &args.k {
        let dataset = &prepared.dataset;
        settings.k_zsl = fitting(ks, dataset.names.len() - dataset.seen);
        settings.k_gzsl.clone_from(ks);
    }
    let scored = super::measuring(|progress| {
        experiment::score(&model, &prepared, &store, &device, progress)
    })?;
    show(args, &scored, &protocols, &settings)?;
    Ok(Outcome::Done)
}

/// Measures a network without training, or a bundle, on the test photographs of a recipe.
fn of_photographs(args: &Args, path: &Path) -> anyhow::Result<Outcome> {
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
    let mut settings = recipe.evaluation.clone();
    let protocols = protocols(args.protocol.as_deref().unwrap_or(&settings.protocol))?;
    settings.bootstrap = args.bootstrap.unwrap_or(settings.bootstrap);
    settings.standardise |= args.standardise;
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
    let figures = ByProtocol(scored.measure(protocols, settings)?);
    figures.write_per_label(args, |column| scored.labels[column].clone())?;
    figures.print(args.json)
}

/// Whether a file of labels is a list of photographs (path, split, labels) and no matrix of images and labels.
fn is_photo_table(labels: &Path) -> anyhow::Result<bool> {
    let extension = labels.extension().unwrap_or_default().to_ascii_lowercase();
    match extension.to_str() {
        Some("tsv" | "jsonl" | "ndjson") => return Ok(true),
        Some("csv") => {}
        _ => return Ok(false),
    }
    let file = files::open(labels, u64::MAX).with_context(|| labels.display().to_string())?;
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .from_reader(file);
    let (mut records, mut splits) = (0, 0);
    // A label may be called `train`, but the line below it then holds a number there.
    for (place, record) in reader.byte_records().take(2).enumerate() {
        let record = record.with_context(|| labels.display().to_string())?;
        let cells: Vec<&[u8]> = record.iter().map(<[u8]>::trim_ascii).collect();
        let named = |name: &[u8]| cells.iter().any(|cell| cell.eq_ignore_ascii_case(name));
        if place == 0
            && ["path", "split", "labels"]
                .iter()
                .all(|name| named(name.as_bytes()))
        {
            return Ok(true);
        }
        records += 1;
        splits += usize::from(matches!(cells.get(1), Some(&(b"train" | b"test"))));
    }
    Ok(splits > 0 && splits == records)
}

fn of_scores(args: &Args, scores: &Path, labels: &Path) -> anyhow::Result<()> {
    let protocols = protocols(args.protocol.as_deref().unwrap_or("epsilon"))?;
    let scores = ScoreTable::read(scores)?;
    let zero = args.zero.as_deref().map(|zero| match zero {
        "negative" => Zero::Negative,
        _ => Zero::Unknown,
    });
    let mut joined = match is_photo_table(labels)? {
        true => join_data_set(args, scores, labels)?,
        false => Joined::new(scores, &LabelTable::read(labels)?, zero)?,
    };
    let (images, all) = (joined.images(), joined.labels());
    let seen = split(args, &mut joined)?;
    let ks = match &args.k {
        Some(ks) => ks.clone(),
        None => fitting(protocols[0].ks(), joined.labels()),
    };
    let resamples = args
        .bootstrap
        .unwrap_or(EvaluationSettings::default().bootstrap);
    let seen = seen.unwrap_or_else(|| joined.labels());
    let settings = EvaluationSettings {
        k_zsl: fitting(&ks, joined.labels() - seen),
        k_gzsl: ks,
        bootstrap: resamples,
        ..Default::default()
    };
    let measured = experiment::figures(&joined, seen, &protocols, &settings).map(ByProtocol);
    let figures = measured.map_err(|error| joined.name(error))?;
    figures.write_per_label(args, |column| joined.label(column))?;
    if !args.json {
        let by = |by_name| if by_name { "name" } else { "place" };
        console::print(format_args!(
            "{images} images matched by {}, {all} labels matched by {}{}\n",
            by(joined.images_by_name()),
            by(joined.labels_by_name()),
            match all - joined.labels() {
                0 => String::new(),
                out => format!(", {out} in neither list left out"),
            }
        ))?;
    }
    figures.print(args.json)
}

/// Joins scores with the test images of a data set's table.
fn join_data_set(args: &Args, scores: ScoreTable, path: &Path) -> anyhow::Result<Joined> {
    let Some(seen) = &args.seen else {
        bail!("{}: a data set's table needs --seen", path.display());
    };
    let (dataset, _) = table::read(&table::TableOptions {
        outside: true,
        table: path.into(),
        images: PathBuf::new(),
        seen: seen.clone(),
        unseen: args.unseen.clone(),
    })?;
    let rows = dataset.rows(Split::Test);
    let ids = rows.iter().map(|&row| dataset.records[row].id.clone());
    let labels =
        LabelTable::from_rows(path, ids.collect(), dataset.names.clone(), |image, out| {
            dataset.labels.dense_row(rows[image], out);
        })?;
    Ok(Joined::new(scores, &labels, Some(Zero::Unknown))?)
}

/// Moves the seen labels to the front and returns their number; `None` if no list was given.
fn split(args: &Args, joined: &mut Joined) -> anyhow::Result<Option<usize>> {
    if args.seen.is_none() && args.unseen.is_none() {
        return Ok(None);
    }
    let Some(names) = joined.label_names().map(<[String]>::to_vec) else {
        bail!(
            "--seen and --unseen need the labels' names: put them beside the scores, one a line, in NAME.labels.txt"
        );
    };
    let columns = |list: &Option<PathBuf>| -> anyhow::Result<Option<Vec<bool>>> {
        let Some(path) = list else { return Ok(None) };
        let listed = read_list(path)?;
        let strange = listed.iter().filter(|name| !names.contains(name));
        let strange: Vec<String> = strange.map(|name| format!("{name:?}")).collect();
        if !strange.is_empty() {
            bail!(
                "{}: {} names are no labels of the scores: {}{}",
                path.display(),
                strange.len(),
                strange[..strange.len().min(FEW)].join(", "),
                if strange.len() > FEW { ", ..." } else { "" }
            );
        }
        Ok(Some(
            names.iter().map(|name| listed.contains(name)).collect(),
        ))
    };
    let (seen, unseen) = (columns(&args.seen)?, columns(&args.unseen)?);
    let rest = |of: &[bool]| of.iter().map(|is| !is).collect::<Vec<bool>>();
    let (seen, unseen) = match (seen, unseen) {
        (Some(seen), Some(unseen)) => (seen, unseen),
        (Some(seen), None) => (seen.clone(), rest(&seen)),
        (None, Some(unseen)) => (rest(&unseen), unseen),
        (None, None) => return Ok(None),
    };
    if let Some(both) = (0..names.len()).find(|&column| seen[column] && unseen[column]) {
        bail!("{:?} is both seen and unseen", names[both]);
    }
    let of = |side: &[bool]| {
        (0..names.len())
            .filter(|&c| side[c])
            .collect::<Vec<usize>>()
    };
    let (mut chosen, unseen) = (of(&seen), of(&unseen));
    let count = chosen.len();
    chosen.extend(unseen);
    joined.choose(chosen);
    Ok(Some(count))
}

fn protocols(name: &str) -> anyhow::Result<Vec<Protocol>> {
    match name {
        "all" => Ok(Protocol::all().to_vec()),
        name => Ok(vec![name.parse()?]),
    }
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
