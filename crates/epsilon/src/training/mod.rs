//! Training: mini-batches from a token store, gradients from a method, an optimiser, checkpoints that resume bit for bit.

mod batches;
mod checkpoint;
mod choose;
mod fit;
mod schedule;

use std::path::PathBuf;

use burn::tensor::Device;
use serde::{Deserialize, Serialize};

pub use batches::{Example, Examples, split};
pub use checkpoint::Sums;
pub use choose::Choose;
pub(crate) use fit::Fitted;
pub use fit::{EpochRecord, Event, RunFolder, Trainer, Validate, part, step};
pub use schedule::{Schedule, StepPosition};

use crate::batch::TrainingPrecision;
use crate::fields::fields;
use crate::methods::varied::Variation;
use crate::methods::{MOST_EPOCHS, MethodError};
use crate::optimiser::OptimiserSettings;
use epsilon_kernels::bf16;

/// What can go wrong in training.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainingError {
    /// A setting out of its range.
    #[error("training setting {0}")]
    Setting(String),
    /// The method refuses its settings.
    #[error(transparent)]
    Method(MethodError),
    /// No image to train on.
    #[error(
        "no training image has a seen positive label: check the split column and the seen list"
    )]
    NoImages,
    /// The loss is not a number any more.
    #[error(
        "the loss became {value} at epoch {epoch}, step {step}: lower the learning rate or clip gradients"
    )]
    Diverged {
        /// The loss.
        value: f64,
        /// Epoch, from 1.
        epoch: usize,
        /// Step within the epoch, from 1.
        step: usize,
    },
    /// Several ranks were to train a method that does not share its batches out.
    #[error(
        "this method trains in one process: it looks at batches as a whole, or trains by steps of its own; start it without mpirun, \
         or let `epsilon bench` or `epsilon sweep` give each process trainings of its own"
    )]
    OneProcess,
    /// The observer has broken off.
    #[error(
        "the training was stopped; in a run folder its checkpoint is kept, and the same call with resuming goes on from there"
    )]
    Stopped,
    /// A file of the run folder cannot be written or read.
    #[error("{path}: {reason}")]
    File {
        /// The file.
        path: PathBuf,
        /// What went wrong and what to do.
        reason: String,
    },
    /// Another training writes into the folder.
    #[error(
        "{folder}: another training writes into this folder: wait for its end, or give another folder"
    )]
    Busy {
        /// The run folder of a seed.
        folder: PathBuf,
    },
    /// A checkpoint of a training with another number of epochs, and a schedule that depends on it.
    #[error(
        "{path}: the checkpoint is of a training of {before} epochs, and this one has {after}: its schedule depends on the number \
         of epochs, so that going on would be neither; start anew without resuming, or train with the schedule constant, step \
         or plateau, which can be made longer"
    )]
    OtherLength {
        /// The checkpoint.
        path: PathBuf,
        /// Its epochs.
        before: u64,
        /// Those asked for.
        after: u64,
    },
    /// A checkpoint of the same training with another number of threads.
    #[error(
        "{path}: the checkpoint is of a training with {before} threads, on whose number rounding depends, and this one has {after}: \
         give the same number, another folder, or delete it"
    )]
    OtherThreads {
        /// The checkpoint.
        path: PathBuf,
        /// Its threads.
        before: u64,
        /// Those of now.
        after: u64,
    },
    /// A checkpoint of another training.
    #[error(
        "{path}: the checkpoint was made with other settings or data ({difference}); give another folder or delete it"
    )]
    OtherRun {
        /// The checkpoint.
        path: PathBuf,
        /// What differs.
        difference: String,
    },
}

impl From<MethodError> for TrainingError {
    fn from(error: MethodError) -> Self {
        match error {
            MethodError::Stopped => Self::Stopped,
            error => Self::Method(error),
        }
    }
}

/// How to train; the defaults are the paper's.
///
/// ```
/// use epsilon::training::TrainingSettings;
///
/// let settings: TrainingSettings = toml::from_str("epochs = 20\nvalidation = 0.1\npatience = 3")?;
/// assert!(settings.check().is_ok());
/// let wrong = TrainingSettings { validation: 0.0, ..settings };
/// assert!(wrong.check().unwrap_err().to_string().contains("patience"));
/// # Ok::<(), toml::de::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct TrainingSettings {
    /// Passes over the training images. The last one is the model, unless `patience` is set.
    pub epochs: usize,
    /// Images a step.
    pub batch: usize,
    /// The learning rate before the schedule.
    pub learning_rate: f64,
    /// How the learning rate changes.
    pub schedule: Schedule,
    /// Epochs over which the learning rate rises from 0.
    pub warm_up: f64,
    /// The optimiser and its constants.
    pub optimiser: OptimiserSettings,
    /// Greatest length of a step's gradient.
    pub clip: Option<f64>,
    /// What the method's large products are computed in; scores are always computed in f32.
    pub precision: TrainingPrecision,
    /// Share of the training images that is kept for validation.
    pub validation: f64,
    /// Share of the seen labels that is left out of the trainings that choose settings, and ranked on the validation images;
    /// the model is then trained on all seen labels.
    #[serde(skip_serializing_if = "is_zero")]
    pub validation_labels: f64,
    /// Disjoint sets of labels that are left out in turn; the figure that chooses is their mean.
    #[serde(skip_serializing_if = "is_one")]
    pub validation_folds: usize,
    /// The figure that chooses; [`TrainingSettings::figure`] says which where it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub choose: Option<Choose>,
    /// Early stopping: training ends after so many epochs without a better mAP on the validation images, and the epoch
    /// that was best is the model. Left out, the last epoch is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub patience: Option<usize>,
    /// A running average of the weights over the steps, `average * before + (1 - average) * now`, is validated and becomes the
    /// model; in the first steps it forgets faster. Left out, the weights of the last step are the model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub average: Option<f64>,
    /// Share of the labels that a step leaves out of its loss; the papers have none.
    #[serde(skip_serializing_if = "is_zero")]
    pub label_dropout: f64,
    /// Length, about, of the random vector that a step adds to each label's unit vector, which is then brought back to unit length;
    /// the papers have none.
    #[serde(skip_serializing_if = "is_zero")]
    pub label_noise: f64,
    /// Weight of a loss that ranks the images of a label beside that of the labels of an image; the papers have none.
    #[serde(skip_serializing_if = "is_zero")]
    pub image_ranking: f64,
    /// Steps between two checkpoints within an epoch; one is always written at an epoch's end.
    pub checkpoint_steps: usize,
}

fn is_zero(value: &f64) -> bool {
    *value == 0.0
}

fn is_one(value: &usize) -> bool {
    *value == 1
}

impl Default for TrainingSettings {
    fn default() -> Self {
        Self {
            epochs: 7,
            batch: 96,
            learning_rate: 1e-5,
            schedule: Schedule::default(),
            warm_up: 0.0,
            optimiser: OptimiserSettings::default(),
            clip: None,
            precision: TrainingPrecision::F32,
            validation: 0.0,
            validation_labels: 0.0,
            validation_folds: 1,
            choose: None,
            patience: None,
            average: None,
            label_dropout: 0.0,
            label_noise: 0.0,
            image_ranking: 0.0,
            checkpoint_steps: 500,
        }
    }
}

impl TrainingSettings {
    /// The names of the settings in recipes.
    pub fn fields() -> &'static [&'static str] {
        fields::<Self>()
    }

    /// Whether settings are chosen by trainings of their own that leave seen labels out.
    ///
    /// ```
    /// use epsilon::training::{Choose, TrainingSettings};
    ///
    /// let settings: TrainingSettings = toml::from_str("validation = 0.1\nvalidation-labels = 0.2")?;
    /// assert!(settings.check().is_ok() && settings.leaves_labels_out());
    /// assert_eq!(settings.figure(), Choose::Harmonic);
    ///
    /// let plain = TrainingSettings { validation_labels: 0.0, ..settings };
    /// assert!(!plain.leaves_labels_out());
    /// assert_eq!(plain.figure(), Choose::Seen);
    /// # Ok::<(), toml::de::Error>(())
    /// ```
    pub fn leaves_labels_out(&self) -> bool {
        self.validation_labels > 0.0
    }

    /// The figure that chooses: the one that is set, or the harmonic mean where labels are left out and that of the seen labels
    /// where none are.
    pub fn figure(&self) -> Choose {
        match self.choose {
            Some(figure) => figure,
            None if self.leaves_labels_out() => Choose::Harmonic,
            None => Choose::Seen,
        }
    }

    /// Rules of the settings that say how others are chosen: whether each holds, and what to say where it does not.
    fn choice_rules(&self) -> [(bool, String); 5] {
        let (share, folds) = (self.validation_labels, self.validation_folds);
        let figure = self.figure();
        [
            (
                (0.0..1.0).contains(&share),
                format!("validation-labels = {share}: give a share from 0 to below 1"),
            ),
            (
                share == 0.0 || self.validation > 0.0,
                "validation-labels: the labels left out are ranked on validation images: give validation = 0.1"
                    .into(),
            ),
            (
                folds >= 1 && (folds == 1 || share > 0.0),
                format!(
                    "validation-folds = {folds}: give at least 1, and above 1 only with validation-labels = 0.2"
                ),
            ),
            (
                folds as f64 * share <= 1.0 + 1e-9,
                format!(
                    "validation-folds = {folds}: no label is left out twice, so give at most {} with validation-labels = {share}",
                    (1.0 / share + 1e-9).floor()
                ),
            ),
            (
                figure == Choose::Seen || share > 0.0,
                format!("choose = \"{figure}\": needs labels that are left out: give validation-labels = 0.2"),
            ),
        ]
    }

    /// What varies in a step.
    pub fn variation(&self) -> Variation {
        Variation {
            label_dropout: self.label_dropout,
            label_noise: self.label_noise,
            image_ranking: self.image_ranking,
        }
    }

    /// Checks that this machine can train so on the device.
    ///
    /// # Errors
    /// [`TrainingError::Setting`] when the precision is bf16 and the device is no CPU with instructions for it.
    pub fn check_device(&self, device: &Device) -> Result<(), TrainingError> {
        if self.precision == TrainingPrecision::Bf16
            && (*device != Device::flex() || !bf16::available())
        {
            let what = "precision = \"bf16\": needs `--device cpu` on a CPU with AVX-512 bf16 instructions; \
                        give \"f32\" here";
            return Err(TrainingError::Setting(what.into()));
        }
        Ok(())
    }

    /// Checks that early stopping has something to go by, among validation images of which so many have a label that is trained on.
    ///
    /// # Errors
    /// [`TrainingError::Setting`].
    pub(crate) fn check_stop(&self, labelled: usize) -> Result<(), TrainingError> {
        match self.patience {
            Some(_) if labelled == 0 => Err(TrainingError::Setting(format!(
                "patience: validation = {} keeps no image that has a label of the training, so nothing says when to stop; give a \
                 greater share",
                self.validation
            ))),
            _ => Ok(()),
        }
    }

    /// Checks every range.
    ///
    /// # Errors
    /// [`TrainingError::Setting`] names the first setting that is out of range and the range.
    pub fn check(&self) -> Result<(), TrainingError> {
        let unit = |value: f64| (0.0..1.0).contains(&value);
        let rules = [
            (
                (1..=MOST_EPOCHS).contains(&self.epochs),
                format!("epochs = {}: give 1 to {MOST_EPOCHS}", self.epochs),
            ),
            (
                self.batch >= 1,
                format!("batch = {}: give at least 1", self.batch),
            ),
            (
                self.checkpoint_steps >= 1,
                "checkpoint-steps = 0: give at least 1".into(),
            ),
            (
                self.learning_rate > 0.0 && self.learning_rate.is_finite(),
                format!(
                    "learning-rate = {}: give a value above 0",
                    self.learning_rate
                ),
            ),
            (
                self.warm_up >= 0.0 && self.warm_up < self.epochs as f64,
                format!(
                    "warm-up = {}: give epochs from 0 to below epochs",
                    self.warm_up
                ),
            ),
            (
                unit(self.validation),
                format!(
                    "validation = {}: give a share from 0 to below 1",
                    self.validation
                ),
            ),
            (
                self.patience != Some(0),
                "patience = 0: give at least 1".into(),
            ),
            (
                self.patience.is_none() || self.validation > 0.0,
                "patience: early stopping needs validation images: give validation = 0.1".into(),
            ),
            (
                self.average.is_none_or(unit),
                format!(
                    "average = {:?}: give a share from 0 to below 1",
                    self.average.unwrap_or_default()
                ),
            ),
            (
                self.clip
                    .is_none_or(|limit| limit > 0.0 && limit.is_finite()),
                format!("clip = {:?}: give a length above 0", self.clip),
            ),
        ];
        let rules = rules.into_iter().chain(self.choice_rules());
        let wrong = rules.into_iter().find(|(holds, _)| !holds);
        let wrong = wrong.map(|(_, what)| what);
        match wrong
            .or_else(|| self.variation().check().err())
            .or_else(|| self.schedule.wrong())
            .or_else(|| self.optimiser.wrong())
        {
            Some(what) => Err(TrainingError::Setting(what)),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_valid_and_bad_ranges_are_named() {
        let paper = TrainingSettings::default();
        assert!(paper.check().is_ok());
        let wrong = TrainingSettings {
            validation: 1.0,
            ..paper.clone()
        };
        assert!(
            wrong
                .check()
                .unwrap_err()
                .to_string()
                .contains("validation")
        );
        let says = |text: &str| {
            let settings: TrainingSettings = toml::from_str(text).unwrap();
            settings.check().map_err(|error| error.to_string())
        };
        let both = "validation = 0.1\nvalidation-labels = 0.25";
        assert!(says(both).is_ok());
        assert!(says(&format!("{both}\nvalidation-folds = 4")).is_ok());
        for (text, said) in [
            (format!("{both}\nvalidation-folds = 5"), "at most 4"),
            (format!("{both}\nvalidation-folds = 0"), "at least 1"),
            ("validation-folds = 2".into(), "validation-labels = 0.2"),
            ("validation-labels = 0.2".into(), "validation = 0.1"),
            ("validation-labels = 1.0".into(), "below 1"),
            ("choose = \"harmonic\"".into(), "validation-labels = 0.2"),
        ] {
            let error = says(&text).unwrap_err();
            assert!(error.contains(said), "{text}: {error}");
        }
        let wrong = TrainingSettings {
            learning_rate: f64::NAN,
            ..paper
        };
        assert!(
            wrong
                .check()
                .unwrap_err()
                .to_string()
                .contains("learning-rate")
        );
    }
}
