//! `epsilon bench`: compares methods on the same features, tuned the same way, in one table.

pub(super) mod marks;
mod table;
mod trial;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, bail};
use epsilon::Experiment;
use epsilon::burn::tensor::Device;
use epsilon::comparison::{Comparison, Point, Row, file_name};
use epsilon::experiment::{Figures, Layout, Resamples};
use epsilon::ranks::{Alone, Deal, Ranks};
use epsilon::recipe::Recipe;
use epsilon::training::Choose;
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
    /// [`Model::identity`](epsilon::model::Model::identity) of the model; not known of results of earlier versions.
    #[serde(default)]
    model: Option<String>,
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
        check_grids(&rows, &mut experiment)?;
        for row in &rows {
            for point in &row.points {
                let specs = point.recipe.method.specs(&dims);
                specs.with_context(|| row.name.clone())?;
            }
        }
        let ranks = crate::ranks::of_job();
        let alone = experiment.clone().with_ranks(Arc::new(Alone));
        let bench = Bench {
            experiment: &alone,
            rows: &self.comparison.rows,
            folder: self.results,
            alone: self.jobs == 1,
            compares_rows: self.compares_rows,
            dealing: Dealing::default(),
        };
        if ranks.size() > 1 {
            bench.deal(self.wanted, &*ranks)?;
            if !ranks.is_first() {
                return Ok(Outcome::Done);
            }
        }
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

/// Whether the validation images tell the points of a grid apart, where they are what chooses.
fn check_grids(rows: &[&Row], experiment: &mut Experiment) -> anyhow::Result<()> {
    let chooses =
        |row: &&&Row| row.points.len() > 1 && !row.points[0].recipe.training.leaves_labels_out();
    match rows.iter().find(chooses) {
        Some(row) if !experiment.can_validate()? => bail!(
            "{}: validation = {} keeps no image with a seen label, so that a grid has nothing to choose by: give a greater share",
            row.name,
            row.points[0].recipe.training.validation
        ),
        _ => Ok(()),
    }
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
    dealing: Dealing<'a>,
}

impl<'a> Bench<'a> {
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
        let mut lines = Vec::new();
        for task in self.tasks(row, missing)? {
            let Some(line) = task.line()? else {
                return Ok(None);
            };
            lines.push(line);
        }
        match row.points[0].recipe.evaluation.folds().is_empty() {
            true => Ok(lines.pop()),
            false => Line::over_folds(lines).context("no label fold").map(Some),
        }
    }

    /// A row, once for each label fold if there are any.
    fn tasks<'b>(&'b self, row: &'b Row, missing: Missing) -> anyhow::Result<Vec<Task<'b, 'a>>> {
        let folder = self.folder.join(row.folder());
        let task = |experiment: Experiment, folder, points| Task {
            bench: self,
            row,
            experiment,
            folder,
            points,
            missing,
        };
        let folds = row.points[0].recipe.evaluation.folds();
        if folds.is_empty() {
            let points = row.points.clone();
            return Ok(vec![task(self.experiment.clone(), folder, points)]);
        }
        let of_fold = |fold| {
            let mut points = row.points.clone();
            for point in &mut points {
                point.recipe.evaluation.label_fold = Some(fold);
            }
            let experiment = self.experiment.clone().fold(fold)?;
            Ok(task(experiment, Layout(&folder).fold(fold), points))
        };
        folds.map(of_fold).collect()
    }

    /// Deals the trainings of some rows, one by one, to the ranks of a job: those that choose settings, then those with the settings
    /// that were chosen. Their results are read from their files afterwards.
    fn deal(&self, wanted: &[usize], ranks: &'a dyn Ranks) -> anyhow::Result<()> {
        let mut tasks = Vec::new();
        for &place in wanted {
            tasks.extend(self.tasks(&self.rows[place], Missing::Made)?);
        }
        let pieces = |of: &dyn Fn(&Task<'_, '_>) -> usize| -> Vec<(usize, usize)> {
            let tasks = tasks.iter().enumerate();
            tasks
                .flat_map(|(task, tuned)| (0..of(tuned)).map(move |piece| (task, piece)))
                .collect()
        };
        let tunings = pieces(&|task| match task.chooses() {
            true => task.points.len(),
            false => 0,
        });
        self.deal_pieces(&tunings, ranks, |task, point| {
            tasks[task].tuned(point).map(drop)
        })?;
        let trainings = pieces(&|task| task.seeds().len());
        self.deal_pieces(&trainings, ranks, |task, seed| {
            let task = &tasks[task];
            match task.best()? {
                Some(best) => task.train(best, task.seeds()[seed]).map(drop),
                None => Ok(()),
            }
        })
    }

    /// Works on the pieces that this rank is dealt, until all ranks are done.
    fn deal_pieces(
        &self,
        pieces: &[(usize, usize)],
        ranks: &'a dyn Ranks,
        work: impl Fn(usize, usize) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        self.dealing.begin(ranks, pieces.len());
        while let Some(next) = self.dealing.next() {
            let (task, piece) = pieces[next];
            work(task, piece)?;
        }
        ranks.wait();
        Ok(())
    }
}

/// A setting with the figure that it is chosen by.
type Tuned = (String, Option<f64>);

/// A row to tune and to train, on one label fold if there are any.
struct Task<'b, 'a> {
    bench: &'b Bench<'a>,
    row: &'b Row,
    experiment: Experiment,
    folder: PathBuf,
    points: Vec<Point>,
    missing: Missing,
}

impl Task<'_, '_> {
    fn seeds(&self) -> &[u64] {
        &self.points[0].recipe.seeds
    }

    /// Whether there is anything to choose.
    fn chooses(&self) -> bool {
        self.points.len() > 1 || self.bench.compares_rows
    }

    /// The figure that chooses among trainings that leave seen labels out, where these do.
    fn choose(&self) -> Option<Choose> {
        let training = &self.points[0].recipe.training;
        (self.chooses() && training.leaves_labels_out()).then(|| training.figure())
    }

    fn trial<'b>(&'b self, point: &'b Point, seed: u64) -> Trial<'b> {
        let folder = match point.label.is_empty() {
            true => self.folder.clone(),
            false => self.folder.join(point.folder()),
        };
        Trial {
            experiment: &self.experiment,
            point,
            seed,
            folder,
            name: &self.row.name,
            missing: self.missing,
            alone: self.bench.alone,
            between: &self.bench.dealing,
        }
    }

    /// A setting with the figure that it is chosen by; `None` where a result is missing and left so.
    fn tuned(&self, point: usize) -> anyhow::Result<Option<Tuned>> {
        let point = &self.points[point];
        let trial = self.trial(point, self.seeds()[0]);
        let value = match self.choose() {
            Some(_) => trial.choose()?,
            None => trial.train()?.map(|trained| trained.validation_map),
        };
        let label = match self.bench.compares_rows {
            true => &self.row.name,
            false => &point.label,
        };
        Ok(value.map(|value| (label.clone(), value)))
    }

    fn all_tuned(&self) -> anyhow::Result<Option<Vec<Tuned>>> {
        let tuned = (0..self.points.len()).map(|point| self.tuned(point));
        tuned.collect()
    }

    /// The setting that is chosen; the only one without a training, which another rank may be making.
    fn best(&self) -> anyhow::Result<Option<&Point>> {
        if !self.chooses() {
            return Ok(self.points.first());
        }
        let tuned = self.all_tuned()?;
        tuned.map(|tuned| self.best_of(&tuned)).transpose()
    }

    fn best_of(&self, tuned: &[Tuned]) -> anyhow::Result<&Point> {
        let values: Vec<Option<f64>> = tuned.iter().map(|(_, value)| *value).collect();
        if values.len() > 1 && values.iter().all(Option::is_none) {
            bail!(
                "none of the grid's settings has a figure on the validation images, so that there is nothing to choose by"
            );
        }
        Ok(&self.points[best(&values).context("a row without a recipe")?])
    }

    fn train(&self, point: &Point, seed: u64) -> anyhow::Result<Option<Trained>> {
        self.trial(point, seed).train()
    }

    /// Tunes with the first seed, and trains the best setting with every seed.
    fn line(&self) -> anyhow::Result<Option<Line>> {
        let Some(tuned) = self.all_tuned()? else {
            return Ok(None);
        };
        let point = self.best_of(&tuned)?;
        let mut trained = Vec::new();
        for &seed in self.seeds() {
            let Some(next) = self.train(point, seed)? else {
                return Ok(None);
            };
            trained.push(next);
        }
        let setting = point.label.clone();
        Chosen { setting }.write(&self.folder)?;
        Ok(Some(Line {
            name: self.row.name.clone(),
            published: self.row.published.clone(),
            chosen: point.label.clone(),
            choose: self.choose(),
            tuned,
            trained,
        }))
    }
}

/// The deal of a job's trainings that is under way, if there is one.
#[derive(Default)]
struct Dealing<'a>(Mutex<Option<Box<dyn Deal + Send + 'a>>>);

impl<'a> Dealing<'a> {
    fn deal(&self) -> MutexGuard<'_, Option<Box<dyn Deal + Send + 'a>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self, ranks: &'a dyn Ranks, count: usize) {
        *self.deal() = Some(ranks.deal(count));
    }

    fn next(&self) -> Option<usize> {
        self.deal().as_mut()?.next()
    }
}

/// What is to be done now and then during a training.
pub(super) trait Between {
    fn serve(&self);
}

impl Between for Dealing<'_> {
    fn serve(&self) {
        if let Some(deal) = &mut *self.deal() {
            deal.serve();
        }
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
