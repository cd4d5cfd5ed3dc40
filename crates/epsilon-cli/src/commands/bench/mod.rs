//! `epsilon bench`: compares methods on the same features, tuned the same way, in one table.

pub(super) mod marks;
mod table;
mod trial;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, bail};
use epsilon::Experiment;
use epsilon::burn::tensor::Device;
use epsilon::comparison::{Comparison, Point, Row, file_name};
use epsilon::experiment::{Figures, Layout, Resamples};
use epsilon::recipe::Recipe;
use epsilon_data::files;
use serde::{Deserialize, Serialize};

use super::Place;
use crate::memory::{self, Peak};
use crate::{Outcome, console};
use table::{Line, Table};
use trial::{Missing, Trial};

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
    /// Run only these methods, by their names in the comparison, which may have commas in them; may be given again. The others'
    /// finished rows stay in the table.
    #[arg(long, value_name = "NAME,NAME")]
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
    /// [`Experiment::data_sum`] of what it was trained and measured on.
    #[serde(default)]
    data: String,
    /// Resamples of its mAP, for the marks of the table: kept beside in a file of their own.
    #[serde(skip)]
    resamples: Resamples,
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
            resamples: marks::over_folds(
                &folds
                    .iter()
                    .map(|fold| (&fold.resamples, &fold.figures))
                    .collect::<Vec<_>>(),
            ),
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
    let comparison = Comparison::read(&args.comparison)?;
    let wanted = match &args.only[..] {
        [] => (0..comparison.rows.len()).collect(),
        lists => comparison.places(lists).map_err(|name| {
            let names: Vec<&str> = comparison
                .rows
                .iter()
                .map(|row| row.name.as_str())
                .collect();
            anyhow::anyhow!("--only {name}: no such row; there are {}", names.join(", "))
        })?,
    };
    let folder = args.place.folder(&args.comparison);
    Job {
        comparison: &comparison,
        wanted: &wanted,
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
    /// Its rows that are to be trained and printed, ascending.
    pub wanted: &'a [usize],
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
        let rows = self.wanted.iter();
        let rows: Vec<&Row> = rows.map(|&place| &self.comparison.rows[place]).collect();
        let shared = self.comparison.shared();
        let mut experiment = self.place.open(shared.clone(), self.folder)?;
        experiment.check()?;
        for row in &rows {
            let chosen_among = match self.compares_rows {
                true => shared,
                false => &row.points[0].recipe,
            };
            check(row, shared, chosen_among, experiment.device())?;
            let first = &row.points[0].recipe;
            if first.anchor.is_some() {
                let checked = experiment.variant(first.clone(), self.results)?.check();
                checked.with_context(|| row.name.clone())?;
            }
        }
        let failed = super::extract(&mut experiment)?;
        let (prepared, store) = (experiment.prepare()?, experiment.tokens()?);
        let dims = prepared.dims(&store.manifest().header.backbone);
        for row in &rows {
            for point in &row.points {
                let specs = point.recipe.method.specs(&dims);
                specs.with_context(|| row.name.clone())?;
            }
        }
        let bench = Bench {
            experiment: &experiment,
            rows: &self.comparison.rows,
            folder: self.results,
            alone: self.jobs == 1,
            compares_rows: self.compares_rows,
        };
        let lines = bench.lines(self.wanted, self.jobs)?;
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

/// Checks everything that can be checked before a long computation starts. Its settings are chosen among those of another recipe
/// and their like, by the same figure.
fn check(row: &Row, shared: &Recipe, chosen_among: &Recipe, device: &Device) -> anyhow::Result<()> {
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
        let figures = [recipe, chosen_among].map(|recipe| recipe.training.figure());
        if figures[0] != figures[1] {
            bail!(
                "{}: a grid over `choose` would compare different figures: {} and {}",
                row.name,
                figures[1],
                figures[0]
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

/// The setting of a tuned row that was chosen, kept in the row's folder.
#[derive(Serialize, Deserialize)]
pub(crate) struct Chosen {
    /// Its keys and values, such as `learning-rate=0.001`.
    pub setting: String,
}

impl Chosen {
    /// The choice in a row's folder, if the row was tuned.
    pub(crate) fn read(row: &Path) -> anyhow::Result<Option<Self>> {
        let path = Self::path(row);
        match files::read(&path, files::LIST) {
            Ok(bytes) => {
                let chosen = serde_json::from_slice(&bytes);
                chosen.with_context(|| path.display().to_string()).map(Some)
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e).with_context(|| path.display().to_string()),
        }
    }

    /// Notes the choice; where there is none, an earlier one is forgotten.
    fn write(&self, row: &Path) -> anyhow::Result<()> {
        let path = Self::path(row);
        let done = match self.setting.is_empty() {
            true => match std::fs::remove_file(&path) {
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
                removed => removed,
            },
            false => files::write(&path, &serde_json::to_vec_pretty(self)?),
        };
        done.with_context(|| path.display().to_string())
    }

    fn path(row: &Path) -> PathBuf {
        row.join("chosen.json")
    }

    /// The name of the setting's folder in the row's.
    pub(crate) fn folder(&self) -> String {
        file_name(&self.setting)
    }
}

struct Bench<'a> {
    /// The data and tokens that all rows share.
    experiment: &'a Experiment,
    rows: &'a [Row],
    folder: &'a Path,
    /// Whether rows are trained one at a time, so that peak memory can be attributed to a row.
    alone: bool,
    /// Whether the rows are chosen from.
    compares_rows: bool,
}

impl Bench<'_> {
    /// Trains the wanted rows, at most `jobs` at once and no more than fit in memory, judged by the first one, and gives their lines.
    /// The table is rewritten after each, with the finished ones of the other rows.
    fn lines(&self, wanted: &[usize], jobs: usize) -> anyhow::Result<Vec<Line>> {
        let others = self.rows.iter().enumerate().map(|(place, row)| {
            let line = match wanted.contains(&place) {
                true => Ok(None),
                false => self.line(row, Missing::Left),
            };
            line.with_context(|| row.name.clone())
        });
        let made = Mutex::new(others.collect::<anyhow::Result<Vec<Option<Line>>>>()?);
        let make = |place: usize| -> anyhow::Result<()> {
            let row = &self.rows[wanted[place]];
            let line = self.line(row, Missing::Made);
            let line = line.with_context(|| row.name.clone())?;
            let mut made = made.lock().unwrap_or_else(PoisonError::into_inner);
            made[wanted[place]] = line;
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
                if place >= wanted.len() {
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
        let mut made = made.into_inner().unwrap_or_else(PoisonError::into_inner);
        let lines = wanted.iter().filter_map(|&place| made[place].take());
        let mut lines: Vec<Line> = lines.collect();
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

    /// Tunes and trains a row, on each label fold if there are any; `None` where a result is missing and left so.
    fn line(&self, row: &Row, missing: Missing) -> anyhow::Result<Option<Line>> {
        let folder = self.folder.join(row.folder());
        let folds = row.points[0].recipe.evaluation.folds();
        if folds.is_empty() {
            return self.tune(row, self.experiment, None, &folder, missing);
        }
        let mut lines = Vec::new();
        for fold in folds {
            let experiment = self.experiment.clone().fold(fold)?;
            let folder = Layout(&folder).fold(fold);
            let Some(line) = self.tune(row, &experiment, Some(fold), &folder, missing)? else {
                return Ok(None);
            };
            lines.push(line);
        }
        Line::over_folds(lines).context("no label fold").map(Some)
    }

    /// Tunes a row with the first seed, and trains the best setting with every seed.
    fn tune(
        &self,
        row: &Row,
        experiment: &Experiment,
        fold: Option<usize>,
        folder: &Path,
        missing: Missing,
    ) -> anyhow::Result<Option<Line>> {
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
        let job = |point, seed| Trial {
            experiment,
            point,
            seed,
            folder: place(point),
            name: &row.name,
            missing,
            alone: self.alone,
        };
        let mut tuned = Vec::new();
        for point in &points {
            let job = job(point, seeds[0]);
            let value = match choose {
                Some(_) => job.choose()?,
                None => job.train()?.map(|trained| trained.validation_map),
            };
            let Some(value) = value else { return Ok(None) };
            let label = match self.compares_rows {
                true => row.name.clone(),
                false => point.label.clone(),
            };
            tuned.push((label, value));
        }
        let values: Vec<Option<f64>> = tuned.iter().map(|(_, value)| *value).collect();
        let point = &points[best(&values).context("a row without a recipe")?];
        let mut trained = Vec::new();
        for &seed in seeds {
            let Some(next) = job(point, seed).train()? else {
                return Ok(None);
            };
            trained.push(next);
        }
        let setting = point.label.clone();
        Chosen { setting }.write(folder)?;
        Ok(Some(Line {
            name: row.name.clone(),
            published: row.published.clone(),
            chosen: point.label.clone(),
            choose,
            tuned,
            trained,
        }))
    }
}

/// The place of the greatest value; of equals the first, so that the grid's order decides. A value that is missing is the least.
fn best(values: &[Option<f64>]) -> Option<usize> {
    let value = |place: usize| values[place].unwrap_or(f64::NEG_INFINITY);
    (0..values.len()).reduce(|best, next| match value(next) > value(best) {
        true => next,
        false => best,
    })
}
