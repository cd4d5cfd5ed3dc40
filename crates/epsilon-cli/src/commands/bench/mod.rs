//! `epsilon bench`: many methods on the same features, tuned alike, in one table.

mod table;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Context, bail};
use epsilon::burn::tensor::Device;
use epsilon::comparison::{Comparison, Point, Row};
use epsilon::experiment::{self, Figures, Layout, Prepared};
use epsilon::model::Model;
use epsilon::recipe::Recipe;
use epsilon::tokens::TokenStore;
use serde::{Deserialize, Serialize};

use super::Place;
use super::train::OneSeed;
use crate::memory::{self, Peak};
use crate::{Outcome, console};
use table::{Line, Table};

/// Train and measure the methods of a comparison, and write their table.
///
/// Each method is tuned over the comparison's grid by the mAP of the seen labels on its validation images, with the first
/// seed, and the best setting is trained with every seed. What is finished is kept: run it again to go on.
#[derive(clap::Args)]
pub struct Args {
    /// The comparison, such as recipes/tables/corel5k.toml.
    comparison: PathBuf,
    #[command(flatten)]
    place: Place,
    /// Only these methods, by their names in the comparison.
    #[arg(long, value_name = "NAME,NAME", value_delimiter = ',')]
    only: Vec<String>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// What came of one training.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Trained {
    seed: u64,
    /// The recipe it was trained with.
    recipe: serde_json::Value,
    /// mAP of the seen labels on the validation images, as a fraction.
    validation_map: Option<f64>,
    figures: Figures,
    /// Trained values.
    parameters: usize,
    /// Of training, without reading and measuring.
    seconds: f64,
    /// Largest resident memory while training, in 10^6 bytes.
    peak_mb: Option<f64>,
}

pub fn run(args: Args) -> anyhow::Result<Outcome> {
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

/// A comparison to be made.
pub struct Job<'a> {
    pub comparison: &'a Comparison,
    pub place: &'a Place,
    /// Where the tokens are kept.
    pub folder: &'a Path,
    /// Where trainings and tables go.
    pub results: &'a Path,
    /// The most rows at once.
    pub jobs: usize,
    pub json: bool,
}

impl Job<'_> {
    /// Trains what is missing, and writes and prints the table.
    pub fn run(&self) -> anyhow::Result<Outcome> {
        let rows = &self.comparison.rows;
        let device = self.place.device()?;
        let shared = self.comparison.shared().clone();
        let prepared = experiment::prepare_in(&shared, self.folder)?;
        prepared.check(&shared.evaluation)?;
        for row in rows {
            check(row, &shared, &device)?;
        }
        let (store, failed) = super::tokens(&shared, &prepared, self.place, self.folder, None)?;
        let dims = prepared.dims(&store.manifest().header.backbone);
        for row in rows {
            for point in &row.points {
                let specs = point.recipe.method.specs(&dims);
                specs.with_context(|| row.name.clone())?;
            }
        }
        let bench = Bench {
            prepared: &prepared,
            store: &store,
            device: &device,
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

/// Everything that can be known to fail before anything long starts.
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
    prepared: &'a Prepared,
    store: &'a TokenStore,
    device: &'a Device,
    folder: &'a Path,
    /// Whether one row is made at a time, so that the memory is its own.
    alone: bool,
}

impl Bench<'_> {
    /// All rows, at most `jobs` at once and no more than memory allows by what the first one took. The table is written anew
    /// with each.
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

    /// Tunes a row with the first seed, and trains what is best with the others.
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

    /// One training, or what is kept of it.
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
        let kept = kept(&path)?;
        if let Some(kept) = kept.as_ref().filter(|kept| kept.recipe == identity) {
            return Ok(kept.clone());
        }
        console::tell(format_args!("{name} {} seed {seed}", point.label));
        let same = |kept: &&Trained| same_training(recipe, &kept.recipe, &identity);
        if let Some(kept) = kept.as_ref().filter(same) {
            let model = Layout(folder).model(seed);
            if model.exists() {
                let model = Model::load(&model, self.device)?;
                let cost = (kept.seconds, kept.peak_mb);
                return self.result(recipe, seed, &model, cost, &path);
            }
        }
        let one = self.one(recipe, seed);
        let peak = if self.alone { Peak::start() } else { None };
        let start = Instant::now();
        // What is kept of another recipe is no start for this one.
        let model = one.train(folder, kept.is_none())?;
        let seconds = start.elapsed().as_secs_f64();
        let peak_mb = peak.and_then(|peak| peak.megabytes());
        self.result(recipe, seed, &model, (seconds, peak_mb), &path)
    }

    fn one<'a>(&'a self, recipe: &'a Recipe, seed: u64) -> OneSeed<'a> {
        OneSeed {
            recipe,
            prepared: self.prepared,
            store: self.store,
            device: self.device,
            seed,
            tensorboard: false,
        }
    }

    /// Measures a trained model, and keeps what came of it in a file.
    fn result(
        &self,
        recipe: &Recipe,
        seed: u64,
        model: &Model,
        (seconds, peak_mb): (f64, Option<f64>),
        path: &Path,
    ) -> anyhow::Result<Trained> {
        let one = self.one(recipe, seed);
        let trained = Trained {
            seed,
            recipe: serde_json::to_value(recipe)?,
            validation_map: one.training(None, false).validate(model)?,
            figures: one.measure(model)?,
            parameters: model.weights().count(),
            seconds,
            peak_mb,
        };
        std::fs::write(path, serde_json::to_vec_pretty(&trained)?)
            .with_context(|| path.display().to_string())?;
        Ok(trained)
    }
}

/// Whether two recipes differ at most in how results are measured, and that changes nothing in the training.
fn same_training(recipe: &Recipe, kept: &serde_json::Value, now: &serde_json::Value) -> bool {
    let trained = |of: &serde_json::Value| {
        let mut of = of.clone();
        of["evaluation"] = serde_json::Value::Null;
        of
    };
    recipe.training.patience.is_none() && trained(kept) == trained(now)
}

/// The result in this file, if it was written whole by this version.
fn kept(path: &Path) -> anyhow::Result<Option<Trained>> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok()),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e).with_context(|| path.display().to_string()),
    }
}
