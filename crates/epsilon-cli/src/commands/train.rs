//! `epsilon train`: a recipe from photographs to figures, one training per seed.

use std::path::{Path, PathBuf};

use epsilon::burn::tensor::Device;
use epsilon::experiment::{self, Figures, Layout, Prepared, Training};
use epsilon::model::Model;
use epsilon::recipe::Recipe;
use epsilon::tokens::TokenStore;
use epsilon::training::{EpochRecord, Event, RunFolder};
use indicatif::ProgressBar;
use serde::Serialize;

use super::Place;
use crate::tensorboard::Events;
use crate::{Outcome, console};

/// Run a recipe: extract the tokens that are missing, train once per seed, measure on the test images.
#[derive(clap::Args)]
pub struct Args {
    /// The recipe.
    recipe: PathBuf,
    #[command(flatten)]
    place: Place,
    /// Train with this seed alone instead of the recipe's.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Go on from the checkpoints of an earlier run.
    #[arg(long)]
    resume: bool,
    /// Also write TensorBoard event files into the folder of every seed.
    #[arg(long)]
    tensorboard: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// The figures of one seed.
#[derive(Serialize)]
struct Row {
    seed: u64,
    model: PathBuf,
    figures: Figures,
}

pub fn run(args: Args) -> anyhow::Result<Outcome> {
    let mut recipe = Recipe::read(&args.recipe)?;
    if let Some(seed) = args.seed {
        recipe.seeds = vec![seed];
    }
    let device = args.place.device()?;
    recipe.training.check_device(&device)?;
    let folder = args.place.folder(&args.recipe);
    let prepared = experiment::prepare_in(&recipe, &folder)?;
    prepared.check(&recipe.evaluation)?;
    let (store, failed) = super::tokens(&recipe, &prepared, &args.place, &folder, None)?;
    let mut rows = Vec::new();
    for &seed in &recipe.seeds {
        let one = OneSeed {
            recipe: &recipe,
            prepared: &prepared,
            store: &store,
            device: &device,
            seed,
            tensorboard: args.tensorboard,
        };
        let figures = one.run(&folder, args.resume)?;
        rows.push(Row {
            seed,
            model: Layout(&folder).model(seed),
            figures,
        });
    }
    if args.json {
        console::print_json(&rows)?;
    } else {
        print_rows(&rows)?;
    }
    Ok(if failed {
        Outcome::SomeFailed
    } else {
        Outcome::Done
    })
}

/// A training with one of a recipe's seeds.
pub struct OneSeed<'a> {
    pub recipe: &'a Recipe,
    pub prepared: &'a Prepared,
    pub store: &'a TokenStore,
    pub device: &'a Device,
    pub seed: u64,
    /// Whether the training also writes TensorBoard event files.
    pub tensorboard: bool,
}

impl OneSeed<'_> {
    /// Trains, writes the model and its figures into the seed's folder, and returns the figures.
    pub fn run(&self, folder: &Path, resume: bool) -> anyhow::Result<Figures> {
        let model = self.train(folder, resume)?;
        let figures = self.measure(&model)?;
        RunFolder::create(&Layout(folder).seed(self.seed))?.write(
            "figures.json",
            serde_json::to_string_pretty(&figures)?.as_bytes(),
        )?;
        Ok(figures)
    }

    /// The training, with its files in this folder where one is given.
    pub fn training<'a>(&'a self, folder: Option<&'a RunFolder>, resume: bool) -> Training<'a> {
        Training {
            recipe: self.recipe,
            prepared: self.prepared,
            store: self.store,
            seed: self.seed,
            device: self.device,
            folder,
            resume,
        }
    }

    /// Trains, and writes the model into the seed's folder.
    pub fn train(&self, folder: &Path, resume: bool) -> anyhow::Result<Model> {
        let layout = Layout(folder);
        let place = layout.seed(self.seed);
        let run = RunFolder::create(&place)?;
        run.write("recipe.toml", toml::to_string(self.recipe)?.as_bytes())?;
        let mut view = View::new(&place, self.recipe.training.epochs, self.seed);
        let mut events = match self.tensorboard {
            true => Some(Events::create(&place, resume)?),
            false => None,
        };
        let mut written = Ok(());
        let model = self.training(Some(&run), resume).run(&mut |event| {
            if let (Some(events), Ok(())) = (&mut events, &written) {
                written = events.tell(&event);
            }
            view.show(&event);
        })?;
        written?;
        view.bar.finish_and_clear();
        model.save(&layout.model(self.seed))?;
        Ok(model)
    }

    /// The figures of a model on the test images.
    pub fn measure(&self, model: &Model) -> anyhow::Result<Figures> {
        let bar = console::bar(0, "measure");
        let settings = &self.recipe.evaluation;
        let figures = experiment::measure(
            model,
            self.prepared,
            self.store,
            settings,
            self.device,
            &mut |done, total| {
                bar.set_length(total as u64);
                bar.set_position(done as u64);
            },
        )?;
        bar.finish_and_clear();
        Ok(figures)
    }
}

/// What is shown of a training while it runs: a bar and a line an epoch on a terminal, elsewhere the lines alone.
struct View {
    bar: ProgressBar,
    folder: PathBuf,
    epochs: usize,
    best: Option<f64>,
}

impl View {
    fn new(folder: &Path, epochs: usize, seed: u64) -> Self {
        Self {
            bar: console::bar(0, &format!("seed {seed}")),
            folder: folder.into(),
            epochs,
            best: None,
        }
    }

    fn show(&mut self, event: &Event) {
        match event {
            Event::Step {
                done,
                total,
                loss,
                learning_rate,
            } => {
                self.bar.set_length(*total as u64);
                self.bar.set_position(*done as u64);
                let best = self.best;
                let best = best.map_or(String::new(), |best| format!(", best {best:.2}"));
                let message = format!("loss {loss:.4}, rate {learning_rate:.1e}{best}");
                self.bar.set_message(message);
            }
            Event::Resumed { done, .. } => self.bar.set_position(*done as u64),
            Event::Epoch(record) => {
                let map = record.validation_map.map(|map| 100.0 * map);
                self.best = map.into_iter().chain(self.best).reduce(f64::max);
                let line = epoch_line(record, self.epochs);
                match console::is_terminal() {
                    true => self.bar.println(line),
                    // Several trainings may run at once: their folder tells them apart.
                    false => console::complain(format_args!("{}: {line}", self.folder.display())),
                }
            }
        }
    }
}

/// What an epoch came to.
fn epoch_line(record: &EpochRecord, epochs: usize) -> String {
    let map = record.validation_map;
    let map = map.map_or(String::new(), |map| {
        format!(", validation mAP {:.2}", 100.0 * map)
    });
    let EpochRecord {
        epoch,
        loss,
        images_per_second,
        ..
    } = record;
    format!("epoch {epoch} of {epochs}: loss {loss:.4}{map}, {images_per_second:.0} images/s")
}

fn print_rows(rows: &[Row]) -> anyhow::Result<()> {
    let Some(last) = rows.last() else {
        return Ok(());
    };
    if rows.len() > 1 {
        let print = |name: &str, cells: Vec<String>| {
            let cells: Vec<String> = cells.iter().map(|cell| format!("{cell:>11}")).collect();
            console::print(format_args!("{name:<7}{}", cells.concat()))
        };
        let names = maps(&last.figures).into_iter().map(|(name, _)| name);
        print("seed", names.map(|name| format!("{name} mAP")).collect())?;
        let two = |value: f64| format!("{value:.2}");
        for row in rows {
            let maps = maps(&row.figures).into_iter();
            print(&row.seed.to_string(), maps.map(|(_, v)| two(v)).collect())?;
        }
        let columns = 0..maps(&last.figures).len();
        let spread: Vec<(f64, f64)> = columns
            .map(|column| {
                let values = rows.iter().map(|row| maps(&row.figures)[column].1);
                mean_and_deviation(&values.collect::<Vec<_>>())
            })
            .collect();
        print("mean", spread.iter().map(|s| two(s.0)).collect())?;
        print("s.d.", spread.iter().map(|s| two(s.1)).collect())?;
        console::print(format_args!("\nseed {}:", last.seed))?;
    }
    console::print(&last.figures)?;
    console::print(format_args!("model: {}", last.model.display()))?;
    Ok(())
}

/// The mAP of each part that was measured, in percent, with its name.
fn maps(figures: &Figures) -> Vec<(&'static str, f64)> {
    let parts = [
        ("ZSL", figures.zsl()),
        ("seen", Some(figures.seen())),
        ("GZSL", figures.gzsl()),
    ];
    let measured = parts.into_iter();
    measured
        .filter_map(|(name, part)| Some((name, 100.0 * part?.map)))
        .collect()
}

/// Mean and unbiased standard deviation; the latter is 0 for one value.
pub fn mean_and_deviation(values: &[f64]) -> (f64, f64) {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let squares: f64 = values.iter().map(|v| (v - mean).powi(2)).sum();
    (mean, (squares / (count - 1.0).max(1.0)).sqrt())
}
