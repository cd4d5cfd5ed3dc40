//! `epsilon train`: extraction, training and evaluation of a recipe, once per seed.

use std::ops::ControlFlow::Continue;
use std::path::PathBuf;

use epsilon::Experiment;
use epsilon::experiment::{Figures, FoldFigures, LabelSet, Layout, RunEvent};
use epsilon::methods::Fitting;
use epsilon::recipe::Recipe;
use epsilon::training::{EpochRecord, Event};
use indicatif::ProgressBar;
use serde::Serialize;

use super::{Place, mean_and_deviation};
use crate::tensorboard::Events;
use crate::{Outcome, console};

/// Run a recipe: extract missing tokens, train once per seed, and evaluate on the test images; with `label-folds`, once per seed
/// and set of unseen labels.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Recipe file (TOML).
    recipe: PathBuf,
    #[command(flatten)]
    place: Place,
    /// Train with this seed only, instead of the recipe's seeds.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Resume from the checkpoints of an earlier run.
    #[arg(long)]
    resume: bool,
    /// Also write TensorBoard event files to every seed's folder.
    #[arg(long)]
    tensorboard: bool,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

/// The figures of one seed.
#[derive(Serialize)]
struct Row {
    seed: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<PathBuf>,
    /// With label folds those over all of them.
    figures: Figures,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    folds: Vec<FoldRow>,
}

/// The figures of one seed on one label fold.
#[derive(Serialize)]
struct FoldRow {
    model: PathBuf,
    #[serde(flatten)]
    figures: FoldFigures,
}

pub(crate) fn run(args: Args) -> anyhow::Result<Outcome> {
    let experiment = args.place.experiment(&args.recipe)?;
    let mut experiment = experiment.with_resume(args.resume);
    if let Some(seed) = args.seed {
        experiment = experiment.with_seeds(vec![seed]);
    }
    experiment.check()?;
    let failed = super::extract(&mut experiment)?;
    let mut rows = Vec::new();
    for seed in experiment.recipe().seeds.clone() {
        let folded = !experiment.recipe().evaluation.folds().is_empty();
        rows.push(match folded {
            true => all_folds(&mut experiment, seed, &args)?,
            false => {
                let events = EventFile::of(&args, experiment.layout().seed(seed));
                Row {
                    seed,
                    figures: one_seed(&mut experiment, seed, events)?,
                    model: Some(experiment.layout().model(seed)),
                    folds: Vec::new(),
                }
            }
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

/// Trains and evaluates with one seed on every label fold.
fn all_folds(experiment: &mut Experiment, seed: u64, args: &Args) -> anyhow::Result<Row> {
    let (recipe, folder) = (
        experiment.recipe().clone(),
        experiment.layout().0.to_path_buf(),
    );
    let fold_folder = |fold: usize| Layout(&folder).fold(fold);
    let mut current: Option<(usize, View, Option<EventFile>)> = None;
    let mut written = Ok(());
    let folded = experiment.run_folds(seed, &mut |fold, event| {
        if let Some((_, view, _)) = current.take_if(|(shown, ..)| *shown != fold) {
            view.finish();
        }
        let (_, view, events) = current.get_or_insert_with(|| {
            let folder = Layout(&fold_folder(fold)).seed(seed);
            let view = View::of(
                &recipe,
                folder.clone(),
                &format!("fold {fold}, seed {seed}"),
            );
            (fold, view, EventFile::of(args, folder))
        });
        if let (Some(events), Ok(())) = (events, &written) {
            written = events.tell(&event);
        }
        view.show(&event);
        Continue(())
    })?;
    if let Some((_, view, _)) = current {
        view.finish();
    }
    written?;
    let row = |figures: FoldFigures| FoldRow {
        model: Layout(&fold_folder(figures.fold)).model(seed),
        figures,
    };
    Ok(Row {
        seed,
        model: None,
        figures: folded.figures,
        folds: folded.folds.into_iter().map(row).collect(),
    })
}

/// TensorBoard's event file of a seed. It is made when the training has begun: until then another one may be writing into the
/// folder.
pub(crate) struct EventFile {
    folder: PathBuf,
    resume: bool,
    events: Option<Events>,
}

impl EventFile {
    /// The event file in this folder, if one is asked for.
    fn of(args: &Args, folder: PathBuf) -> Option<Self> {
        let writes = args.tensorboard && crate::ranks::of_job().is_first();
        writes.then_some(Self {
            folder,
            resume: args.resume,
            events: None,
        })
    }

    fn tell(&mut self, event: &RunEvent) -> anyhow::Result<()> {
        let events = match self.events.take() {
            Some(events) => events,
            None => Events::create(&self.folder, self.resume)?,
        };
        let events = self.events.insert(events);
        match event {
            RunEvent::Training(event) => events.tell(event),
            _ => Ok(()),
        }
    }
}

/// Trains and evaluates with one seed, with a progress bar, and writes TensorBoard events if `events` is given.
pub(crate) fn one_seed(
    experiment: &mut Experiment,
    seed: u64,
    mut events: Option<EventFile>,
) -> anyhow::Result<Figures> {
    let mut view = View::new(experiment, seed);
    let mut written = Ok(());
    let figures = experiment.run(seed, &mut |event| {
        if let (Some(events), Ok(())) = (&mut events, &written) {
            written = events.tell(&event);
        }
        view.show(&event);
        Continue(())
    })?;
    view.finish();
    written?;
    Ok(figures)
}

/// The progress of a training: a bar and one line per epoch on a terminal, otherwise only the lines.
pub(crate) struct View {
    bar: ProgressBar,
    folder: PathBuf,
    /// Where the recipe says how many there are.
    epochs: Option<usize>,
    best: Option<f64>,
}

impl View {
    /// The progress of a seed's training.
    pub(crate) fn new(experiment: &Experiment, seed: u64) -> Self {
        let folder = experiment.layout().seed(seed);
        Self::of(experiment.recipe(), folder, &format!("seed {seed}"))
    }

    /// The progress of a training of the recipe in this folder.
    fn of(recipe: &Recipe, folder: PathBuf, name: &str) -> Self {
        Self {
            bar: console::bar(0, name),
            folder,
            epochs: match recipe.method.fitting() {
                // Its own settings say how it trains.
                Fitting::Staged(_) => None,
                _ => Some(recipe.training.epochs),
            },
            best: None,
        }
    }

    /// Updates the bar, or prints the line of an epoch.
    pub(crate) fn show(&mut self, event: &RunEvent) {
        match event {
            RunEvent::Training(Event::Step {
                done,
                total,
                loss,
                learning_rate,
            }) => {
                self.set(*done, *total);
                let best = self.best;
                let best = best.map_or(String::new(), |best| format!(", best {best:.2}"));
                let message = format!("loss {loss:.4}, rate {learning_rate:.1e}{best}");
                self.bar.set_message(message);
            }
            RunEvent::Training(Event::Resumed {
                done,
                total,
                before,
            }) => {
                self.set(*done, *total);
                if let (Some(before), Some(epochs)) = (before, self.epochs) {
                    self.say(format_args!(
                        "goes on from a training of {before} epochs: the same as one of {epochs}"
                    ));
                }
            }
            RunEvent::Training(Event::Epoch(record)) => {
                let map = record.validation_map.map(|map| 100.0 * map);
                self.best = map.into_iter().chain(self.best).reduce(f64::max);
                self.say(epoch_line(record, self.epochs));
            }
            RunEvent::Training(Event::Choosing { fold, folds, event }) => {
                self.show_choosing(&format!("choosing, {fold} of {folds}"), event);
            }
            RunEvent::Measuring { done, total } => {
                self.bar.set_prefix("measure");
                self.bar.set_message("");
                self.set(*done, *total);
            }
            _ => {}
        }
    }

    /// The progress of a training that chooses, named by `what`.
    fn show_choosing(&self, what: &str, event: &Event) {
        match event {
            Event::Step { done, total, .. } => {
                self.set(*done, *total);
                self.bar.set_message(what.to_string());
            }
            Event::Epoch(record) => {
                self.say(format_args!("{what}: {}", epoch_line(record, self.epochs)));
            }
            _ => {}
        }
    }

    /// A line on stderr, above the bar where there is one.
    fn say(&self, line: impl std::fmt::Display) {
        match console::is_terminal() {
            true => self.bar.println(line.to_string()),
            // Several trainings may run at once: the folder says which one this is.
            false => console::complain(format_args!("{}: {line}", self.folder.display())),
        }
    }

    /// Removes the bar.
    pub(crate) fn finish(self) {
        self.bar.finish_and_clear();
    }

    fn set(&self, done: usize, total: usize) {
        self.bar.set_length(total as u64);
        self.bar.set_position(done as u64);
    }
}

/// The line of an epoch: loss, validation mAP, speed.
fn epoch_line(record: &EpochRecord, epochs: Option<usize>) -> String {
    let of = epochs.map_or(String::new(), |epochs| format!(" of {epochs}"));
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
    format!("epoch {epoch}{of}: loss {loss:.4}{map}, {images_per_second:.0} images/s")
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
    for FoldRow { model, figures } in &last.folds {
        let maps = maps(&figures.figures).into_iter();
        let maps: Vec<String> = maps
            .map(|(set, map)| format!("{set} mAP {map:.2}"))
            .collect();
        let (fold, maps) = (figures.fold, maps.join(", "));
        console::print(format_args!(
            "fold {fold}: {maps}; model: {}",
            model.display()
        ))?;
    }
    if let Some(model) = &last.model {
        console::print(format_args!("model: {}", model.display()))?;
    }
    Ok(())
}

/// The mAP of each label set that was measured, in percent.
fn maps(figures: &Figures) -> Vec<(LabelSet, f64)> {
    let parts = figures.parts();
    parts.map(|(set, part)| (set, 100.0 * part.map)).collect()
}
