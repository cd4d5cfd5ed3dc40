//! Choosing settings by labels that a training has not seen: some of the seen labels are left out of it and ranked on the
//! validation images.

use std::ops::ControlFlow;

use epsilon_data::files::sha256;
use serde::{Deserialize, Serialize};

use super::train::Goal;
use super::{ExperimentError, Figures, Training, anchor, sums};
use crate::model::Model;
use crate::training::{Choose, Event, Example, RunFolder, TrainingError};

/// The file of a choice in a seed's folder.
const FILE: &str = "choosing.json";

/// What the trainings that leave seen labels out gave.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Choice {
    /// One for each set of labels that was left out.
    pub folds: Vec<ChoiceFold>,
}

/// What one training without some seen labels gave.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ChoiceFold {
    /// The labels left out.
    pub left_out: Vec<String>,
    /// Figures on the validation images: of the labels left out as ZSL, of the others as seen, and of both as GZSL.
    pub figures: Figures,
    /// The epoch, from 1, that early stopping took, where the recipe has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<usize>,
}

impl Choice {
    /// The mean of a figure over the sets, as a fraction; `None` where it was not measured.
    pub fn value(&self, figure: Choose) -> Option<f64> {
        let values = self.folds.iter().map(|fold| value(&fold.figures, figure));
        let values: Option<Vec<f64>> = values.collect();
        let values = values.filter(|values| !values.is_empty())?;
        Some(values.iter().sum::<f64>() / values.len() as f64)
    }

    /// The number of epochs that early stopping chose: the mean of those of the sets, rounded.
    pub fn epochs(&self) -> Option<usize> {
        let epochs: Option<Vec<usize>> = self.folds.iter().map(|fold| fold.epoch).collect();
        let epochs = epochs.filter(|epochs| !epochs.is_empty())?;
        let mean = epochs.iter().sum::<usize>() as f64 / epochs.len() as f64;
        Some(mean.round() as usize)
    }
}

/// A figure as a fraction.
fn value(figures: &Figures, figure: Choose) -> Option<f64> {
    match figure {
        Choose::Seen => Some(figures.seen().map),
        Choose::Gzsl => Some(figures.split()?.gzsl.map),
        Choose::Harmonic => Some(figures.split()?.harmonic_map),
    }
}

/// A choice with all that it follows from.
#[derive(Serialize, Deserialize)]
struct Kept {
    of: serde_json::Value,
    choice: Choice,
}

impl Training<'_> {
    /// Trains once for each set of labels that the recipe leaves out, on the training images and with the other seen labels alone,
    /// and ranks the labels left out and the others on the validation images. The folder keeps the result, and a later call with
    /// the same data and settings reads it.
    ///
    /// Neither test images nor unseen labels are in the data that this works on. `observe` can break off, as in [`Training::run`].
    ///
    /// # Errors
    /// As [`Training::run`], and [`ExperimentError::LeftOut`] and [`ExperimentError::Choosing`] for a recipe that leaves no label
    /// or too many out, or that keeps no validation image with one.
    pub fn choose(
        &self,
        observe: &mut dyn FnMut(Event) -> ControlFlow<()>,
    ) -> Result<Choice, ExperimentError> {
        let sets = self.prepared.left_out(&self.recipe.training)?;
        let of = self.follows_from(&sets)?;
        if let Some(choice) = self.kept_choice(&of)? {
            return Ok(choice);
        }
        let count = sets.len();
        let (mut folds, mut folders) = (Vec::new(), Vec::new());
        for (place, left_out) in sets.iter().enumerate() {
            let prepared = self.prepared.without(left_out)?;
            let fold = place + 1;
            let folder = self.folder.map(|f| f.within(&format!("choosing-{fold}")));
            let folder = folder.transpose()?;
            let training = Training {
                prepared: &prepared,
                folder: folder.as_ref(),
                ..*self
            };
            folds.push(training.choose_here(&mut |event| {
                observe(Event::Choosing {
                    fold,
                    folds: count,
                    event: &event,
                })
            })?);
            folders.extend(folder);
        }
        let choice = Choice { folds };
        self.keep_choice(of, &choice, &folders)?;
        Ok(choice)
    }

    /// The result of [`choose`](Self::choose) that the folder keeps, if it is of the same data and settings.
    ///
    /// # Errors
    /// As [`choose`](Self::choose) for the recipe, and a file that cannot be read.
    pub fn chosen(&self) -> Result<Option<Choice>, ExperimentError> {
        let sets = self.prepared.left_out(&self.recipe.training)?;
        self.kept_choice(&self.follows_from(&sets)?)
    }

    /// Trains on the seen labels of `prepared`, of which the unseen ones are those left out.
    fn choose_here(
        &self,
        observe: &mut dyn FnMut(Event) -> ControlFlow<()>,
    ) -> Result<ChoiceFold, ExperimentError> {
        let (_, validation) = self.split()?;
        let settings = self.recipe.evaluation.map_alone();
        let measurable = self.prepared.measurable(&validation, &settings);
        measurable.map_err(ExperimentError::Choosing)?;
        let fitted = self.fit(Goal::Choice, observe)?;
        Ok(ChoiceFold {
            left_out: self.prepared.dataset.unseen_names().to_vec(),
            figures: self.choice_figures(&fitted.model, &validation, &mut |done, total| {
                observe(Event::Validating { done, total })
            })?,
            epoch: fitted.best_epoch,
        })
    }

    /// The figure that chooses, of a model on validation images; 0 where it cannot be had, which `choose_here` has ruled out. Breaks
    /// off where `progress` does.
    pub(super) fn choice_figure(
        &self,
        model: &Model,
        images: &[Example],
        progress: &mut dyn FnMut(usize, usize) -> ControlFlow<()>,
    ) -> ControlFlow<(), f64> {
        let figure = self.recipe.training.figure();
        let figures = match self.choice_figures(model, images, progress) {
            Err(ExperimentError::Stopped) => return ControlFlow::Break(()),
            figures => figures.ok(),
        };
        let value = figures.and_then(|figures| value(&figures, figure));
        ControlFlow::Continue(value.unwrap_or_else(|| {
            log::warn!("no validation figure");
            0.0
        }))
    }

    fn choice_figures(
        &self,
        model: &Model,
        images: &[Example],
        progress: &mut dyn FnMut(usize, usize) -> ControlFlow<()>,
    ) -> Result<Figures, ExperimentError> {
        let settings = self.recipe.evaluation.map_alone();
        let (prepared, store) = (self.prepared, self.store);
        let device = self.device;
        let scored = super::score::score_images(
            model,
            prepared,
            store,
            images,
            (device, self.ranks),
            progress,
        )?;
        let (protocol, all) = ([settings.protocol.parse()?], images.len());
        let mut figures = scored.measure(&protocol, &settings, &mut || progress(all, all))?;
        Ok(figures.remove(0))
    }

    /// All that a choice follows from; the figure that chooses only where it ends the trainings.
    fn follows_from(&self, sets: &[Vec<usize>]) -> Result<serde_json::Value, ExperimentError> {
        let mut training = self.recipe.training.clone();
        if training.patience.is_none() {
            training.choose = None;
        }
        let anchor = anchor::anchor(self.recipe, self.prepared, None)?;
        Ok(serde_json::json!({
            "method": self.recipe.method,
            "anchor": self.recipe.anchor,
            "anchor's values": anchor.map(|anchor| anchor.sum(self.prepared.dataset.seen)),
            "training": training,
            "evaluation": self.recipe.evaluation.map_alone(),
            "seed": self.seed,
            "backbone": self.store.manifest().header.backbone,
            "left out": sets,
            "data": sums::seen(self.prepared),
            "tokens": sha256(sums::shards(self.store)?.as_bytes()),
        }))
    }

    fn kept_choice(&self, of: &serde_json::Value) -> Result<Option<Choice>, ExperimentError> {
        let bytes = self.folder.map(|folder| folder.read(FILE)).transpose()?;
        let bytes = self.ranks.share(0, bytes.flatten().unwrap_or_default());
        // A file of another version is written anew.
        let kept = serde_json::from_slice::<Kept>(&bytes).ok();
        let kept = kept.filter(|kept| kept.of == *of);
        Ok(kept.map(|kept| kept.choice))
    }

    /// Writes the choice, and removes the checkpoints of the trainings that it came of.
    fn keep_choice(
        &self,
        of: serde_json::Value,
        choice: &Choice,
        folders: &[RunFolder],
    ) -> Result<(), ExperimentError> {
        let Some(folder) = self.folder else {
            return Ok(());
        };
        let kept = Kept {
            of,
            choice: choice.clone(),
        };
        let text = serde_json::to_vec_pretty(&kept).map_err(ExperimentError::Json)?;
        folder.write(FILE, &text)?;
        let removed = folders.iter().map(RunFolder::forget_checkpoint);
        Ok(removed.collect::<Result<(), TrainingError>>()?)
    }
}
