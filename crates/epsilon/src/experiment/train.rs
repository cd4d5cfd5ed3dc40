//! One training of a recipe with one seed.
//!
//! Where the recipe leaves labels out to choose the number of epochs, those trainings come first (`choose.rs`).

use std::ops::ControlFlow;
use std::sync::Arc;

use burn::tensor::Device;
use epsilon_data::dataset::Split;
use epsilon_data::files::sha256;
use epsilon_data::labels::LabelVectors;
use epsilon_kernels::Level;
use epsilon_metrics::{MetricsError, Standardise};
use epsilon_vision::tokens::TokenStore;

use super::prepare::dense;
use super::score::score_rows;
use super::{ExperimentError, Prepared, anchor, sums};
use crate::batch::Dims;
use crate::methods::anchor::Anchored;
use crate::methods::{Fitting, GradientMethod};
use crate::model::{Anchoring, Card, Model, ModelAnchor, Provenance, Scorer, map_of};
use crate::parameters::Weights;
use crate::ranks::Ranks;
use crate::recipe::Recipe;
use crate::training::{
    self, Event, Example, Examples, RunFolder, Trainer, TrainingSettings, split,
};

/// Is told the images scored and to score, and can break off.
type Scoring<'a> = dyn FnMut(usize, usize) -> ControlFlow<()> + 'a;

/// What a training is for.
#[derive(Clone, Copy)]
pub(super) enum Goal {
    /// A model.
    Model,
    /// A model after so many epochs, which were chosen before.
    Epochs(Option<usize>),
    /// To choose by the labels that are unseen to it.
    Choice,
}

impl Goal {
    /// The settings to train with: early stopping was done where the epochs were chosen before.
    fn settings(self, given: &TrainingSettings) -> TrainingSettings {
        let mut settings = given.clone();
        if matches!(self, Self::Epochs(_)) {
            settings.patience = None;
        }
        settings
    }
}

/// What a training gave.
pub(super) struct Fitted {
    pub(super) model: Model,
    /// The epoch, from 1, that early stopping took.
    pub(super) best_epoch: Option<usize>,
}

/// One training of a recipe.
pub struct Training<'a> {
    /// The recipe.
    pub recipe: &'a Recipe,
    /// Its data.
    pub prepared: &'a Prepared,
    /// Its tokens.
    pub store: &'a TokenStore,
    /// Seed of this training.
    pub seed: u64,
    /// The device to compute on.
    pub device: &'a Device,
    /// Folder for metrics and checkpoints, if any.
    pub folder: Option<&'a RunFolder>,
    /// Whether to resume from the folder's checkpoint, if it has one.
    pub resume: bool,
    /// Who train it together. The first rank alone has the folder.
    pub ranks: &'a dyn Ranks,
}

impl Training<'_> {
    /// Trains on the seen labels of the training images without the validation images. Where the recipe leaves labels out and stops
    /// early, [`choose`](Self::choose) gives the number of epochs first. `observe` can break off; with a folder and `resume` the same
    /// training then goes on from there.
    ///
    /// # Errors
    /// [`ExperimentError::Training`], [`ExperimentError::Stopped`] and [`ExperimentError::Method`]; no training image with tokens; those of
    /// [`choose`](Self::choose).
    pub fn run(
        &self,
        observe: &mut dyn FnMut(Event) -> ControlFlow<()>,
    ) -> Result<Model, ExperimentError> {
        let settings = &self.recipe.training;
        let stops = matches!(self.recipe.method.fitting(), Fitting::Gradient(_))
            && settings.patience.is_some()
            && settings.leaves_labels_out();
        let goal = match stops {
            true => Goal::Epochs(self.choose(observe)?.epochs()),
            false => Goal::Model,
        };
        Ok(self.fit(goal, observe)?.model)
    }

    /// Trains on the seen labels of `prepared`.
    pub(super) fn fit(
        &self,
        goal: Goal,
        observe: &mut dyn FnMut(Event) -> ControlFlow<()>,
    ) -> Result<Fitted, ExperimentError> {
        let (items, validation) = self.split()?;
        let labels = &self.prepared.dataset.labels;
        let vectors = self.prepared.seen_vectors();
        let unseen = labels.columns() - vectors.len();
        let examples = Examples::new(self.store, labels, items, vectors, unseen);
        let dims = examples.dims();
        let settings = goal.settings(&self.recipe.training);
        let anchor = anchor::anchor(self.recipe, self.prepared, Some(self.store))?.map(Arc::new);
        let anchor = anchor.as_ref();
        let anchoring = self.anchoring(anchor.map(|anchor| &**anchor))?;
        let seen_map = |weights: &Weights, progress: &mut Scoring<'_>| {
            self.seen_map(weights, dims, anchoring.as_ref(), &validation, progress)
        };
        let chosen_by = |weights: &Weights, progress: &mut Scoring<'_>| {
            let model = self.model(dims, weights.clone(), anchor);
            self.choice_figure(&model, &validation, progress)
        };
        let mut trainer = Trainer {
            settings: &settings,
            seed: self.seed,
            examples: &examples,
            device: self.device,
            folder: self.folder,
            resume: self.resume,
            identity: self.identity(anchor.map(|anchor| &**anchor))?,
            validate: None,
            last_epoch: None,
            ranks: self.ranks,
        };
        match goal {
            // Without early stopping the figures after the last epoch are enough.
            Goal::Choice if settings.patience.is_some() => trainer.validate = Some(&chosen_by),
            Goal::Choice => {}
            Goal::Model | Goal::Epochs(_) if !self.is_labelled(&validation) => {}
            Goal::Model | Goal::Epochs(_) => trainer.validate = Some(&seen_map),
        }
        if let Goal::Epochs(last) = goal {
            trainer.last_epoch = last;
        }
        let along = anchor.filter(|anchor| anchor.card().settings.trained);
        let method = &self.recipe.method;
        let fitted = match (method.fitting(), along) {
            (Fitting::Gradient(method), Some(anchor)) => {
                self.fit_along(anchor, method, &trainer, observe)?
            }
            _ => trainer.fit_kind(method, &self.unseen_vectors()?, observe)?,
        };
        Ok(Fitted {
            model: self.model(dims, fitted.weights, anchor),
            best_epoch: fitted.best_epoch,
        })
    }

    /// A training with an anchor beside the method's own scores.
    fn fit_along(
        &self,
        anchor: &ModelAnchor,
        method: &dyn GradientMethod,
        trainer: &Trainer<'_>,
        observe: &mut dyn FnMut(Event) -> ControlFlow<()>,
    ) -> Result<training::Fitted, ExperimentError> {
        let scores = anchor.on(trainer.examples.vectors(), self.device)?;
        let settings = &anchor.card().settings;
        Ok(trainer.fit(&Anchored::new(method, settings, scores), observe)?)
    }

    /// Unit vectors of the unseen labels.
    fn unseen_vectors(&self) -> Result<LabelVectors, ExperimentError> {
        let dataset = &self.prepared.dataset;
        let unseen: Vec<usize> = (dataset.seen..dataset.names.len()).collect();
        Ok(self.prepared.vectors.select(&unseen)?.unit())
    }

    /// The training and the validation images, the same for every seed.
    pub(super) fn split(&self) -> Result<(Vec<Example>, Vec<Example>), ExperimentError> {
        let items = self.prepared.examples(self.store, Split::Train);
        if items.is_empty() {
            return Err(self.no_images());
        }
        let (items, validation) = split(items, self.recipe.training.validation);
        let seen = self.prepared.dataset.seen;
        let labels = &self.prepared.dataset.labels;
        let has_seen = |item: &&Example| labels.positives(item.label_row).any(|label| label < seen);
        let held_out = validation.iter().filter(has_seen).count();
        let settings = &self.recipe.training;
        if held_out > 0 && !items.iter().any(|item| has_seen(&item)) {
            return Err(ExperimentError::Validation {
                validation: settings.validation,
                images: held_out,
            });
        }
        // Trainings that leave labels out stop by those, and say themselves what is missing.
        let follows = matches!(self.recipe.method.fitting(), Fitting::Gradient(_));
        if follows && !settings.leaves_labels_out() {
            settings.check_stop(held_out)?;
        }
        Ok((items, validation))
    }

    /// Whether some of the images has a seen label.
    fn is_labelled(&self, images: &[Example]) -> bool {
        let dataset = &self.prepared.dataset;
        let mut labels = images
            .iter()
            .flat_map(|item| dataset.labels.positives(item.label_row));
        labels.any(|label| label < dataset.seen)
    }

    /// Whether some validation image has a seen label.
    pub(super) fn can_validate(&self) -> Result<bool, ExperimentError> {
        let (_, validation) = self.split()?;
        Ok(self.is_labelled(&validation))
    }

    /// mAP of the seen labels on the validation images, as a fraction; `None` where none of them has one. `progress` is told the
    /// images scored and to score, and can break off.
    ///
    /// # Errors
    /// No image with tokens; [`ExperimentError::Stopped`].
    pub fn validate(
        &self,
        model: &Model,
        progress: &mut dyn FnMut(usize, usize) -> ControlFlow<()>,
    ) -> Result<Option<f64>, ExperimentError> {
        let (_, validation) = self.split()?;
        let (weights, dims) = (model.weights(), model.card().dims());
        if !self.is_labelled(&validation) {
            return Ok(None);
        }
        let anchoring = self.anchoring(model.anchor())?;
        let map = self.seen_map(weights, dims, anchoring.as_ref(), &validation, progress);
        map.continue_value()
            .map(Some)
            .ok_or(ExperimentError::Stopped)
    }

    /// An anchor's scores of the seen labels, by which it is validated.
    fn anchoring(
        &self,
        anchor: Option<&ModelAnchor>,
    ) -> Result<Option<Arc<Anchoring>>, ExperimentError> {
        let seen = self.prepared.seen_vectors();
        let columns = (0..seen.len()).collect();
        let on = |anchor| Anchoring::new(anchor, &seen, &seen, columns, self.device);
        Ok(anchor.map(on).transpose()?.map(Arc::new))
    }

    fn no_images(&self) -> ExperimentError {
        ExperimentError::NoImages {
            store: self.store.dir().into(),
            split: "train",
        }
    }

    /// Seen-label mAP on validation images of which some has such a label; 0 where the scores are no numbers. Breaks off where
    /// `progress` does.
    fn seen_map(
        &self,
        weights: &Weights,
        dims: Dims,
        anchoring: Option<&Arc<Anchoring>>,
        images: &[Example],
        progress: &mut Scoring<'_>,
    ) -> ControlFlow<(), f64> {
        let vectors = self.prepared.seen_vectors();
        let labels = vectors.len();
        let (method, columns) = (&self.recipe.method, (0..labels).collect());
        let mut scorer = Scorer::new(method, weights, dims, vectors, columns, self.device);
        if let Some(anchoring) = anchoring {
            scorer = scorer.anchored(anchoring.clone());
        }
        let rows: Vec<usize> = images.iter().map(|item| item.store_row).collect();
        let scores = score_rows(&scorer, self.store, &rows, self.ranks, progress)?;
        // The seen labels are all that is ranked here, and all of the table.
        let standardised = self.recipe.evaluation.standardise != Standardise::None;
        let targets = dense(&self.prepared.dataset, images, labels);
        let figures = move || -> Result<f64, MetricsError> {
            let protocol = self.recipe.evaluation.protocol.parse()?;
            map_of(scores, &targets, labels, &protocol, standardised)
        };
        ControlFlow::Continue(figures().unwrap_or_else(|error| {
            log::warn!("no validation figure: {error}");
            0.0
        }))
    }

    /// All that the weights follow from: what must match for a checkpoint to be resumed.
    fn identity(&self, anchor: Option<&ModelAnchor>) -> Result<serde_json::Value, ExperimentError> {
        let recipe = self.recipe;
        let mut identity = serde_json::json!({
            "method": recipe.method,
            "training": recipe.training,
            "seed": self.seed,
            "backbone": self.store.manifest().header.backbone,
            "images, labels and vectors": sums::seen(self.prepared),
            "tokens": sha256(sums::shards(self.store)?.as_bytes()),
            "threads": (self.ranks.size() == 1).then(rayon::current_num_threads),
        });
        if let Fitting::Staged(_) = recipe.method.fitting() {
            identity["unseen labels"] = sums::unseen(self.prepared, &self.unseen_vectors()?).into();
        }
        if recipe.training.patience.is_some() {
            identity["evaluation"] = serde_json::json!(recipe.evaluation.map_alone());
        }
        if let Some(anchor) = anchor.filter(|anchor| anchor.card().settings.trained) {
            // Its weight where images are scored has no part in the training.
            let mut along = serde_json::json!(anchor.card().settings);
            along["weight"] = serde_json::Value::Null;
            identity["anchor"] = along;
            identity["anchor's values"] = anchor.sum(self.prepared.dataset.seen).into();
        }
        Ok(identity)
    }

    fn model(&self, dims: Dims, weights: Weights, anchor: Option<&Arc<ModelAnchor>>) -> Model {
        let recipe = self.recipe;
        let backbone = recipe.backbone.as_ref();
        let provenance = Provenance {
            backbone: self.store.manifest().header.backbone.clone(),
            backbone_weights: backbone.map(|b| b.weights.clone()).unwrap_or_default(),
            recipe: serde_json::json!(recipe),
            protocol: recipe.evaluation.protocol.clone(),
            seed: self.seed,
            cpu: Some(Level::current().to_string()),
        };
        let dataset = &self.prepared.dataset;
        let (labels, seen) = (dataset.names.clone(), dataset.seen);
        let card = Card::new(recipe.method.clone(), dims, labels, seen, provenance);
        let model = Model::new(card, self.prepared.vectors.clone(), weights);
        match anchor {
            None => model,
            Some(anchor) => model.with_anchor(anchor.clone()),
        }
    }
}
