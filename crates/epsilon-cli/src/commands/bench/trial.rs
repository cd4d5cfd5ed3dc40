//! A training of a table's row: made, or read from its folder, with its result beside it; and the trainings that choose settings.

use std::ops::ControlFlow::Continue;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Context;
use epsilon::Experiment;
use epsilon::comparison::Point;
use epsilon::experiment::{ExperimentError, Layout};
use epsilon::model::Model;
use epsilon::recipe::Recipe;
use epsilon::training::TrainingError;
use epsilon_data::files;

use super::{Between, Trained, marks};
use crate::commands::measuring;
use crate::commands::train::View;
use crate::console;
use crate::memory::Peak;

/// What becomes of a result that is not there.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Missing {
    /// It is made by a training.
    Made,
    /// The row has no line.
    Left,
}

/// A training to make, or to look for.
pub(super) struct Trial<'a> {
    pub experiment: &'a Experiment,
    pub point: &'a Point,
    pub seed: u64,
    /// The setting's folder.
    pub folder: PathBuf,
    /// The row's name.
    pub name: &'a str,
    pub missing: Missing,
    /// Whether it is the only one at a time, so that peak memory can be attributed to it.
    pub alone: bool,
    /// Is served at every event.
    pub between: &'a dyn Between,
}

impl Trial<'_> {
    /// The figure that chooses, of the trainings that leave seen labels out; `None` where they were not made and are left so.
    pub(super) fn choose(&self) -> anyhow::Result<Option<Option<f64>>> {
        let Trial { point, seed, .. } = *self;
        let mut experiment = self
            .experiment
            .variant(point.recipe.clone(), &self.folder)?;
        let figure = point.recipe.training.figure();
        if self.missing == Missing::Left {
            let choice = experiment.chosen(seed)?;
            return Ok(choice.map(|choice| choice.value(figure)));
        }
        let mut view = None;
        let named = experiment.clone();
        let choice = resumed(&mut experiment, &mut |experiment| {
            experiment.choose(seed, &mut |event| {
                let view = view.get_or_insert_with(|| {
                    let (name, label) = (self.name, &point.label);
                    console::tell(format_args!("{name} {label} seed {seed}: choosing"));
                    View::new(&named, seed)
                });
                view.show(&event);
                self.between.serve();
                Continue(())
            })
        })?;
        if let Some(view) = view {
            view.finish();
        }
        Ok(Some(choice.value(figure)))
    }

    /// The result of one training, read from its folder if it is there already; `None` where it is not and is left so.
    pub(super) fn train(&self) -> anyhow::Result<Option<Trained>> {
        let Trial {
            point, seed, name, ..
        } = *self;
        let folder = &self.folder;
        let recipe = &point.recipe;
        let identity = of_any_seed(&serde_json::to_value(recipe)?);
        let path = Layout(folder).seed(seed).join("result.json");
        let mut experiment = self.experiment.variant(recipe.clone(), folder)?;
        let data = experiment.data_sum()?;
        let mut kept = kept(&path)?;
        if let Some(kept) = &mut kept {
            kept.resamples = marks::read(&path)?;
        }
        let model = Layout(folder).model(seed);
        let is_whole = |kept: &&Trained| {
            let marked = !kept.resamples.is_empty() || recipe.evaluation.bootstrap == 0;
            let enough = marked || !model.exists() || self.missing == Missing::Left;
            of_any_seed(&kept.recipe) == identity && kept.data == data && enough
        };
        if let Some(kept) = kept.as_ref().filter(is_whole) {
            return Ok(Some(kept.clone()));
        }
        if self.missing == Missing::Left {
            return Ok(None);
        }
        console::tell(format_args!("{name} {} seed {seed}", point.label));
        let same = |kept: &&Trained| {
            let kept_recipe = of_any_seed(&kept.recipe);
            kept.data == data
                && (kept_recipe == identity || same_training(recipe, &kept_recipe, &identity))
        };
        if let Some(kept) = kept.as_ref().filter(same)
            && model.exists()
        {
            let model = Model::load(&model, experiment.device())?;
            // Another recipe may have been trained since, and stopped before its result was written.
            if kept.model.as_ref().is_none_or(|of| *of == model.identity()) {
                let cost = (kept.seconds, kept.peak_mb);
                return result(&mut experiment, &model, data, cost, &path).map(Some);
            }
        }
        let peak = if self.alone { Peak::start() } else { None };
        let start = Instant::now();
        let model = resumed(&mut experiment, &mut |experiment| {
            let mut view = View::new(experiment, seed);
            let model = experiment.train(seed, &mut |event| {
                view.show(&event);
                self.between.serve();
                Continue(())
            })?;
            view.finish();
            Ok(model)
        })?;
        let seconds = start.elapsed().as_secs_f64();
        let peak_mb = peak.and_then(|peak| peak.megabytes());
        result(&mut experiment, &model, data, (seconds, peak_mb), &path).map(Some)
    }
}

/// Goes on from a checkpoint, if there is one; where it was made with other settings or data, the work begins anew.
fn resumed<T>(
    experiment: &mut Experiment,
    work: &mut dyn FnMut(&mut Experiment) -> Result<T, ExperimentError>,
) -> Result<T, ExperimentError> {
    *experiment = experiment.clone().with_resume(true);
    match work(experiment) {
        Err(ExperimentError::Training(
            TrainingError::OtherRun { .. } | TrainingError::OtherLength { .. },
        )) => {
            *experiment = experiment.clone().with_resume(false);
            work(experiment)
        }
        done => done,
    }
}

/// Evaluates a trained model, and writes the result to `path`.
fn result(
    experiment: &mut Experiment,
    model: &Model,
    data: String,
    (seconds, peak_mb): (f64, Option<f64>),
    path: &Path,
) -> anyhow::Result<Trained> {
    let scored = measuring(|progress| experiment.score(model, progress))?;
    let settings = &experiment.recipe().evaluation;
    let protocol = settings.protocol.parse()?;
    let resamples = marks::resample(&scored, &protocol, settings)?;
    let trained = Trained {
        figures: scored
            .measure(&[protocol], settings, &mut || Continue(()))?
            .remove(0),
        resamples,
        seed: model.card().seed(),
        model: Some(model.identity()),
        data,
        recipe: serde_json::to_value(experiment.recipe())?,
        validation_map: experiment.validate(model, &mut |_, _| Continue(()))?,
        parameters: model.weights().count(),
        seconds,
        peak_mb,
        folds: Vec::new(),
    };
    marks::forget(path)?;
    files::write(path, &serde_json::to_vec_pretty(&trained)?)
        .with_context(|| path.display().to_string())?;
    marks::write(&trained.resamples, path)?;
    Ok(trained)
}

/// A recipe without its list of seeds: each training has one of them.
fn of_any_seed(recipe: &serde_json::Value) -> serde_json::Value {
    let mut recipe = recipe.clone();
    if let Some(recipe) = recipe.as_object_mut() {
        recipe.remove("seeds");
    }
    recipe
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
