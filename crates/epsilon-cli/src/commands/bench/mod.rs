//! `epsilon bench`: compares methods on the same features, tuned the same way, in one table.

mod table;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Context, bail};
use epsilon::Experiment;
use epsilon::burn::tensor::Device;
use epsilon::comparison::{Comparison, Point, Row};
use epsilon::experiment::{Figures, Layout, RunEvent};
use epsilon::model::Model;
use epsilon::recipe::Recipe;
use epsilon_data::files;
use serde::{Deserialize, Serialize};

use super::Place;
use super::train::View;
use crate::memory::{self, Peak};
use crate::{Outcome, console};
use table::{Line, Table};

/// Train and evaluate the methods of a comparison, and write the table.
///
/// Each method is tuned over its grid on the validation images, with the first seed: by the seen-label mAP, or with
/// `validation-labels` by trainings that leave seen labels out. The best setting is then trained with every seed. With
/// `label-folds`, every set of labels is unseen in turn. Finished trainings are reused: run it again to resume.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Comparison file (TOML), such as recipes/tables/corel5k.toml.
    comparison: PathBuf,
    #[command(flatten)]
    place: Place,
    /// Run only these methods, by their names in the comparison.
    #[arg(long, value_name = "NAME,NAME", value_delimiter = ',')]
    only: Vec<String>,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

/// The result of one training, kept in `result.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Trained {
    seed: u64,
    /// The recipe it was trained with.
    recipe: serde_json::Value,
    /// mAP of the seen labels on the validation images, as a fraction.
    validation_map: Option<f64>,
    figures: Figures,
    /// Number of trained parameters.
    parameters: usize,
    /// Training time, without extraction and evaluation.
    seconds: f64,
    /// Peak resident memory while training, in 10^6 bytes.
    peak_mb: Option<f64>,
    /// With label folds one training for each, of which this has the means, the figures of all folds, and the highest peak.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    folds: Vec<Trained>,
}

impl Trained {
    /// One seed's trainings on all label folds as one.
    fn over_folds(folds: Vec<Self>) -> Option<Self> {
        let figures: Vec<&Figures> = folds.iter().map(|fold| &fold.figures).collect();
        let figures = Figures::over_folds(&figures)?;
        let seconds: Vec<f64> = folds.iter().map(|fold| fold.seconds).collect();
        let peaks: Option<Vec<f64>> = folds.iter().map(|fold| fold.peak_mb).collect();
        let first = folds.first()?.clone();
        Some(Self {
            validation_map: mean(folds.iter().map(|fold| fold.validation_map)),
            figures,
            seconds: super::mean_and_deviation(&seconds).0,
            peak_mb: peaks.map(|peaks| peaks.into_iter().fold(0.0, f64::max)),
            folds,
            ..first
        })
    }
}

/// The mean of values that are all there.
fn mean(values: impl Iterator<Item = Option<f64>>) -> Option<f64> {
    let values: Vec<f64> = values.collect::<Option<_>>()?;
    Some(super::mean_and_deviation(&values).0)
}

pub(crate) fn run(args: Args) -> anyhow::Result<Outcome> {
    let mut comparison = Comparison::read(&args.comparison)?;
    if !args.only.is_empty() {
        comparison.only(&args.only).map_err(|name| {
            let names: Vec<&str> = comparison
                .rows
                .iter()
                .map(|row| row.name.as_str())
                .collect();
            anyhow::anyhow!("--only {name}: no such row; there are {}", names.join(", "))
        })?;
    }
    let folder = args.place.folder(&args.comparison);
    Job {
        comparison: &comparison,
        place: &args.place,
        folder: &folder,
        results: &folder,
        jobs: 1,
        compares_rows: false,
        json: args.json,
    }
    .run()
}

/// A comparison to run.
pub(crate) struct Job<'a> {
    pub comparison: &'a Comparison,
    pub place: &'a Place,
    /// Folder of the tokens.
    pub folder: &'a Path,
    /// Folder of the trainings and tables.
    pub results: &'a Path,
    /// Maximum number of rows trained at the same time.
    pub jobs: usize,
    /// Whether the rows are settings of one recipe, of which the best is told where seen labels are left out to choose.
    pub compares_rows: bool,
    pub json: bool,
}

impl Job<'_> {
    /// Trains what is missing, then writes and prints the table.
    pub(crate) fn run(&self) -> anyhow::Result<Outcome> {
        let rows = &self.comparison.rows;
        let shared = self.comparison.shared();
        let mut experiment = self.place.open(shared.clone(), self.folder)?;
        experiment.check()?;
        for row in rows {
            check(row, shared, experiment.device())?;
        }
        let failed = super::extract(&mut experiment)?;
        let (prepared, store) = (experiment.prepare()?, experiment.tokens()?);
        let dims = prepared.dims(&store.manifest().header.backbone);
        for row in rows {
            for point in &row.points {
                let specs = point.recipe.method.specs(&dims);
                specs.with_context(|| row.name.clone())?;
            }
        }
        let bench = Bench {
            experiment: &experiment,
            folder: self.results,
            alone: self.jobs == 1,
            compares_rows: self.compares_rows,
        };
        let lines = bench.lines(rows, self.jobs)?;
        if self.json {
            console::print_json(&lines)?;
        } else {
            console::print(Table(&lines).markdown())?;
            console::print(format_args!(
                "\nwritten to {}/table.md, table.csv and table.tex",
                self.results.display()
            ))?;
        }
        Ok(if failed {
            Outcome::SomeFailed
        } else {
            Outcome::Done
        })
    }
}

/// Checks everything that can be checked before a long computation starts.
fn check(row: &Row, shared: &Recipe, device: &Device) -> anyhow::Result<()> {
    for Point { recipe, .. } in &row.points {
        recipe.training.check_device(device)?;
        if row.points.len() > 1 && recipe.training.validation == 0.0 {
            bail!(
                "{}: a grid chooses by the validation images: give validation = 0.1 in [training]",
                row.name
            );
        }
        if recipe.training.validation != shared.training.validation {
            bail!(
                "{}: validation = {}, but the other methods keep {} of the training images",
                row.name,
                recipe.training.validation,
                shared.training.validation
            );
        }
        let left_out = |recipe: &Recipe| {
            let training = &recipe.training;
            (training.validation_labels, training.validation_folds)
        };
        if left_out(recipe) != left_out(shared) {
            bail!(
                "{}: validation-labels and validation-folds are {:?}, but {:?} for the other methods",
                row.name,
                left_out(recipe),
                left_out(shared)
            );
        }
    }
    Ok(())
}

struct Bench<'a> {
    /// The data and tokens that all rows share.
    experiment: &'a Experiment,
    folder: &'a Path,
    /// Whether rows are trained one at a time, so that peak memory can be attributed to a row.
    alone: bool,
    /// Whether the rows are chosen from.
    compares_rows: bool,
}

impl Bench<'_> {
    /// Trains all rows, at most `jobs` at once and no more than fit in memory, judged by the first one. The table is rewritten
    /// after each.
    fn lines(&self, rows: &[Row], jobs: usize) -> anyhow::Result<Vec<Line>> {
        let made = Mutex::new(vec![None; rows.len()]);
        let make = |place: usize| -> anyhow::Result<()> {
            let line = self.line(&rows[place]);
            let line = line.with_context(|| rows[place].name.clone())?;
            let mut made = made.lock().unwrap_or_else(PoisonError::into_inner);
            made[place] = Some(line);
            let lines: Vec<Line> = made.iter().flatten().cloned().collect();
            Table(&lines).write(self.folder)
        };
        let peak = Peak::start();
        make(0)?;
        let took = peak.and_then(|peak| peak.megabytes());
        let jobs = match (took, memory::available()) {
            (Some(took), Some(available)) => jobs.min((available / took) as usize).max(1),
            _ => 1,
        };
        let next = AtomicUsize::new(1);
        let work = || -> anyhow::Result<()> {
            loop {
                let place = next.fetch_add(1, Ordering::Relaxed);
                if place >= rows.len() {
                    return Ok(());
                }
                make(place)?;
            }
        };
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..jobs).map(|_| scope.spawn(work)).collect();
            let ended = workers.into_iter().map(|worker| match worker.join() {
                Ok(result) => result,
                Err(panic) => std::panic::resume_unwind(panic),
            });
            // Every worker ends before the first error is passed on.
            let ended: Vec<anyhow::Result<()>> = ended.collect();
            ended.into_iter().collect::<anyhow::Result<()>>()
        })?;
        let made = made.into_inner().unwrap_or_else(PoisonError::into_inner);
        let mut lines: Vec<Line> = made.into_iter().flatten().collect();
        if self.compares_rows && lines.iter().any(|line| line.choose.is_some()) {
            let values: Vec<Option<f64>> = lines.iter().map(|line| line.tuned[0].1).collect();
            if let Some(best) = best(&values) {
                let line = &mut lines[best];
                line.chosen.clone_from(&line.name);
            }
            Table(&lines).write(self.folder)?;
        }
        Ok(lines)
    }

    /// Tunes and trains a row, on each label fold if there are any.
    fn line(&self, row: &Row) -> anyhow::Result<Line> {
        let folder = self.folder.join(row.folder());
        let folds = row.points[0].recipe.evaluation.folds();
        if folds.is_empty() {
            return self.tune(row, self.experiment, None, &folder);
        }
        let lines = folds.map(|fold| {
            let experiment = self.experiment.clone().fold(fold)?;
            self.tune(row, &experiment, Some(fold), &Layout(&folder).fold(fold))
        });
        Line::over_folds(lines.collect::<anyhow::Result<_>>()?).context("no label fold")
    }

    /// Tunes a row with the first seed, and trains the best setting with every seed.
    fn tune(
        &self,
        row: &Row,
        experiment: &Experiment,
        fold: Option<usize>,
        folder: &Path,
    ) -> anyhow::Result<Line> {
        let points = row.points.iter().map(|point| {
            let mut point = point.clone();
            if fold.is_some() {
                point.recipe.evaluation.label_fold = fold;
            }
            point
        });
        let points: Vec<Point> = points.collect();
        let place = |point: &Point| match point.label.is_empty() {
            true => folder.to_path_buf(),
            false => folder.join(point.folder()),
        };
        let (seeds, training) = (&points[0].recipe.seeds, &points[0].recipe.training);
        let chooses = points.len() > 1 || self.compares_rows;
        let choose = (chooses && training.leaves_labels_out()).then(|| training.figure());
        let mut tuned = Vec::new();
        for point in &points {
            let at = place(point);
            let value = match choose {
                Some(_) => self.choose(experiment, point, seeds[0], &at, &row.name)?,
                None => {
                    let trained = self.train(experiment, point, seeds[0], &at, &row.name)?;
                    trained.validation_map
                }
            };
            let label = match self.compares_rows {
                true => row.name.clone(),
                false => point.label.clone(),
            };
            tuned.push((label, value));
        }
        let values: Vec<Option<f64>> = tuned.iter().map(|(_, value)| *value).collect();
        let point = &points[best(&values).context("a row without a recipe")?];
        let trained = seeds
            .iter()
            .map(|&seed| self.train(experiment, point, seed, &place(point), &row.name));
        Ok(Line {
            name: row.name.clone(),
            published: row.published.clone(),
            chosen: point.label.clone(),
            choose,
            tuned,
            trained: trained.collect::<anyhow::Result<_>>()?,
        })
    }

    /// The figure that chooses, of the trainings that leave seen labels out.
    fn choose(
        &self,
        experiment: &Experiment,
        point: &Point,
        seed: u64,
        folder: &Path,
        name: &str,
    ) -> anyhow::Result<Option<f64>> {
        let begun = Layout(folder).seed(seed).join("choosing.json").exists();
        let mut experiment = experiment
            .variant(point.recipe.clone(), folder)?
            .with_resume(!begun);
        let mut view = None;
        let named = experiment.clone();
        let choice = experiment.choose(seed, &mut |event| {
            let view = view.get_or_insert_with(|| {
                console::tell(format_args!("{name} {} seed {seed}: choosing", point.label));
                View::new(&named, seed)
            });
            view.show(&RunEvent::Training(event));
        })?;
        if let Some(view) = view {
            view.finish();
        }
        Ok(choice.value(point.recipe.training.figure()))
    }

    /// The result of one training, read from its folder if it is there already.
    fn train(
        &self,
        experiment: &Experiment,
        point: &Point,
        seed: u64,
        folder: &Path,
        name: &str,
    ) -> anyhow::Result<Trained> {
        let recipe = &point.recipe;
        let identity = serde_json::to_value(recipe)?;
        let path = Layout(folder).seed(seed).join("result.json");
        let kept = kept(&path)?;
        if let Some(kept) = kept.as_ref().filter(|kept| kept.recipe == identity) {
            return Ok(kept.clone());
        }
        console::tell(format_args!("{name} {} seed {seed}", point.label));
        // A checkpoint of another recipe cannot be resumed.
        let mut experiment = experiment
            .variant(recipe.clone(), folder)?
            .with_resume(kept.is_none());
        let same = |kept: &&Trained| same_training(recipe, &kept.recipe, &identity);
        if let Some(kept) = kept.as_ref().filter(same) {
            let model = Layout(folder).model(seed);
            if model.exists() {
                let model = Model::load(&model, experiment.device())?;
                let cost = (kept.seconds, kept.peak_mb);
                return result(&mut experiment, &model, cost, &path);
            }
        }
        let peak = if self.alone { Peak::start() } else { None };
        let start = Instant::now();
        let mut view = View::new(&experiment, seed);
        let model = experiment.train(seed, &mut |event| view.show(&RunEvent::Training(event)))?;
        view.finish();
        let seconds = start.elapsed().as_secs_f64();
        let peak_mb = peak.and_then(|peak| peak.megabytes());
        result(&mut experiment, &model, (seconds, peak_mb), &path)
    }
}

/// Evaluates a trained model, and writes the result to `path`.
fn result(
    experiment: &mut Experiment,
    model: &Model,
    (seconds, peak_mb): (f64, Option<f64>),
    path: &Path,
) -> anyhow::Result<Trained> {
    let trained = Trained {
        seed: model.card().seed(),
        recipe: serde_json::to_value(experiment.recipe())?,
        validation_map: experiment.validate(model)?,
        figures: super::measuring(|progress| experiment.measure(model, progress))?,
        parameters: model.weights().count(),
        seconds,
        peak_mb,
        folds: Vec::new(),
    };
    files::write(path, &serde_json::to_vec_pretty(&trained)?)
        .with_context(|| path.display().to_string())?;
    Ok(trained)
}

/// The place of the greatest value; of equals the first, so that the grid's order decides. A value that is missing is the least.
fn best(values: &[Option<f64>]) -> Option<usize> {
    let value = |place: usize| values[place].unwrap_or(f64::NEG_INFINITY);
    (0..values.len()).reduce(|best, next| match value(next) > value(best) {
        true => next,
        false => best,
    })
}

/// Whether two recipes differ at most in the evaluation and in what chooses settings, and these do not affect training.
fn same_training(recipe: &Recipe, kept: &serde_json::Value, now: &serde_json::Value) -> bool {
    let trained = |of: &serde_json::Value| {
        let mut of = of.clone();
        // A label fold says which labels are trained on.
        let fold = ["label-folds", "label-fold"].map(|key| of["evaluation"][key].take());
        of["evaluation"] = fold.to_vec().into();
        if let Some(training) = of["training"].as_object_mut() {
            for key in ["validation-labels", "validation-folds", "choose"] {
                training.remove(key);
            }
        }
        of
    };
    recipe.training.patience.is_none() && trained(kept) == trained(now)
}

/// The result in this file, if this version can read it.
fn kept(path: &Path) -> anyhow::Result<Option<Trained>> {
    match files::read(path, files::LIST) {
        Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok()),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e).with_context(|| path.display().to_string()),
    }
}
