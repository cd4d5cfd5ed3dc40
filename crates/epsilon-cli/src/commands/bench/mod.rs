//! `epsilon bench`: compares methods on the same features, tuned the same way, in one table.

pub(super) mod marks;
mod table;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Context, bail};
use epsilon::Experiment;
use epsilon::burn::tensor::Device;
use epsilon::comparison::{Comparison, Point, Row};
use epsilon::experiment::{Figures, Layout, Resamples, RunEvent};
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
/// Each method is tuned over its grid by the seen-label mAP on the validation images, with the first seed; the best setting is
/// then trained with every seed. Finished trainings are reused: run it again to resume.
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
    /// Resamples of its mAP, for the marks of the table: kept beside in a file of their own.
    #[serde(skip)]
    resamples: Resamples,
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
    }
    Ok(())
}

struct Bench<'a> {
    /// The data and tokens that all rows share.
    experiment: &'a Experiment,
    folder: &'a Path,
    /// Whether rows are trained one at a time, so that peak memory can be attributed to a row.
    alone: bool,
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
        Ok(made.into_iter().flatten().collect())
    }

    /// Tunes a row with the first seed, and trains the best setting with the others.
    fn line(&self, row: &Row) -> anyhow::Result<Line> {
        let folder = self.folder.join(row.folder());
        let place = |point: &Point| match point.label.is_empty() {
            true => folder.clone(),
            false => folder.join(point.folder()),
        };
        let seeds = &row.points[0].recipe.seeds;
        let mut tried = Vec::new();
        for point in &row.points {
            let trained = self.train(point, seeds[0], &place(point), &row.name)?;
            tried.push((point, trained));
        }
        let score = |trained: &Trained| trained.validation_map.unwrap_or(f64::NEG_INFINITY);
        let tuned = tried
            .iter()
            .map(|(point, trained)| (point.label.clone(), trained.validation_map));
        let tuned = tuned.collect();
        // The first of equals, so that the grid's order decides and not the iterator's.
        let best = tried.into_iter().reduce(|best, next| {
            if score(&next.1) > score(&best.1) {
                next
            } else {
                best
            }
        });
        let (point, first) = best.context("a row without a recipe")?;
        let mut trained = vec![first];
        for &seed in &seeds[1..] {
            trained.push(self.train(point, seed, &place(point), &row.name)?);
        }
        Ok(Line {
            name: row.name.clone(),
            published: row.published.clone(),
            chosen: point.label.clone(),
            tuned,
            trained,
        })
    }

    /// The result of one training, read from its folder if it is there already.
    fn train(
        &self,
        point: &Point,
        seed: u64,
        folder: &Path,
        name: &str,
    ) -> anyhow::Result<Trained> {
        let recipe = &point.recipe;
        let identity = serde_json::to_value(recipe)?;
        let path = Layout(folder).seed(seed).join("result.json");
        let mut kept = kept(&path)?;
        if let Some(kept) = &mut kept {
            kept.resamples = marks::read(&path)?;
        }
        let model = Layout(folder).model(seed);
        let is_whole = |kept: &&Trained| {
            let marked = !kept.resamples.is_empty() || recipe.evaluation.bootstrap == 0;
            kept.recipe == identity && (marked || !model.exists())
        };
        if let Some(kept) = kept.as_ref().filter(is_whole) {
            return Ok(kept.clone());
        }
        console::tell(format_args!("{name} {} seed {seed}", point.label));
        // A checkpoint of another recipe cannot be resumed.
        let mut experiment = self
            .experiment
            .variant(recipe.clone(), folder)?
            .with_resume(kept.is_none());
        let same = |kept: &&Trained| {
            kept.recipe == identity || same_training(recipe, &kept.recipe, &identity)
        };
        if let Some(kept) = kept.as_ref().filter(same)
            && model.exists()
        {
            let model = Model::load(&model, experiment.device())?;
            let cost = (kept.seconds, kept.peak_mb);
            return result(&mut experiment, &model, cost, &path);
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
    let scored = super::measuring(|progress| experiment.score(model, progress))?;
    let settings = &experiment.recipe().evaluation;
    let protocol = settings.protocol.parse()?;
    let resamples = marks::write(&scored, &protocol, settings, path)?;
    let trained = Trained {
        figures: scored.measure(&[protocol], settings)?.remove(0),
        resamples,
        seed: model.card().seed(),
        recipe: serde_json::to_value(experiment.recipe())?,
        validation_map: experiment.validate(model)?,
        parameters: model.weights().count(),
        seconds,
        peak_mb,
    };
    files::write(path, &serde_json::to_vec_pretty(&trained)?)
        .with_context(|| path.display().to_string())?;
    Ok(trained)
}

/// Whether two recipes differ at most in the evaluation settings, and these do not affect training.
fn same_training(recipe: &Recipe, kept: &serde_json::Value, now: &serde_json::Value) -> bool {
    let trained = |of: &serde_json::Value| {
        let mut of = of.clone();
        of["evaluation"] = serde_json::Value::Null;
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
