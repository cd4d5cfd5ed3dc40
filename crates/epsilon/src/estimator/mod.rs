//! Methods on features in memory: training without recipe, data set or files, and scores of any labels from what comes of it.
//!
//! The same features, labels, vectors, settings and seed give the weights of an experiment's training bit for bit.

mod fitted;
mod settings;

use std::ops::ControlFlow;
use std::sync::Arc;

use burn::tensor::Device;
use epsilon_data::dataset::SparseLabels;
use epsilon_data::labels::{LabelError, LabelVectors};
use epsilon_metrics::{MetricsError, Protocol};
use epsilon_vision::tokens::TokenSource;

pub use fitted::FittedEstimator;
pub use settings::{Setting, settings};

use crate::batch::Dims;
use crate::methods::{Fitting, Kind, MethodError, Vocabulary};
use crate::model::{Scorer, map_of};
use crate::parameters::Weights;
use crate::ranks::Alone;
use crate::training::{Event, Example, Examples, Trainer, TrainingError, TrainingSettings, split};

/// What can go wrong when a method is trained on features in memory, or scores them.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EstimatorError {
    /// In the training.
    #[error(transparent)]
    Training(TrainingError),
    /// In the method.
    #[error(transparent)]
    Method(MethodError),
    /// Label vectors that are none.
    #[error("{what}: {source}")]
    Vectors {
        /// Which ones: `label vectors` or `unseen vectors`.
        what: &'static str,
        /// What is wrong with them.
        source: LabelError,
    },
    /// Sizes that do not fit each other.
    #[error("{what}: {found}, where {expected}")]
    Shape {
        /// What has the wrong size.
        what: &'static str,
        /// Its size.
        found: String,
        /// What it should be, and why.
        expected: String,
    },
    /// No label vectors for a method that goes by them.
    #[error("the method `{method}` goes by the vectors of the labels: give the label vectors")]
    NoVectors {
        /// The method.
        method: &'static str,
    },
    /// Label vectors to score for a method that does not go by them.
    #[error(
        "the method `{method}` scores only the {known} labels it was trained with, by their numbers, and no others by their vectors: \
         take a method that goes by label vectors"
    )]
    Closed {
        /// The method.
        method: &'static str,
        /// Labels that it knows.
        known: usize,
    },
    /// The number of a label that is not known.
    #[error("label {label} of {known} that the method `{method}` was trained with, counted from 0")]
    NoSuchLabel {
        /// The method.
        method: &'static str,
        /// The number.
        label: usize,
        /// Labels that it knows.
        known: usize,
    },
    /// No image has a positive label.
    #[error("no image has a positive label, so that there is nothing to train on")]
    NoPositives,
    /// The validation images are so many that none is left to train on.
    #[error(
        "validation = {share} leaves no image with a positive label to train on: give a smaller share"
    )]
    Validation {
        /// The share of the images.
        share: f64,
    },
    /// Scores and labels that cannot be measured.
    #[error(transparent)]
    Metrics(#[from] MetricsError),
    /// The observer has broken off.
    #[error("stopped: the same call begins anew")]
    Stopped,
    /// Bytes that hold no fitted estimator.
    #[error("no fitted estimator: {0}")]
    Bytes(String),
}

impl From<TrainingError> for EstimatorError {
    fn from(error: TrainingError) -> Self {
        match error {
            TrainingError::Stopped => Self::Stopped,
            TrainingError::Method(error) => error.into(),
            error => Self::Training(error),
        }
    }
}

impl From<MethodError> for EstimatorError {
    fn from(error: MethodError) -> Self {
        match error {
            MethodError::Stopped => Self::Stopped,
            error => Self::Method(error),
        }
    }
}

/// A method with the settings of its training.
///
/// ```
/// use std::ops::ControlFlow;
///
/// use epsilon::dataset::SparseLabels;
/// use epsilon::device::device;
/// use epsilon::estimator::{Estimator, TrainingData};
/// use epsilon::labels::LabelVectors;
/// use epsilon::tokens::TokenArrays;
///
/// // Four images of one vector each, two labels; a third one is never trained on.
/// let features = [1.0, 0.0, 0.9, 0.1, 0.0, 1.0, 0.1, 0.9];
/// let images = TokenArrays::global(&features, [4, 2])?;
/// let labels = SparseLabels::from_dense(2, &[1, -1, 1, -1, -1, 1, -1, 1])?;
/// let vectors = LabelVectors::numbered(2, vec![1.0, 0.0, 0.0, 1.0])?;
/// let estimator = Estimator::new(serde_json::from_str(r#"{ "kind": "ridge" }"#)?);
/// let data = TrainingData { images: &images, labels: &labels, vectors: Some(&vectors), unseen: None };
/// let cpu = device("cpu")?;
/// let fitted = estimator.fit(&data, &cpu, &mut |_| ControlFlow::Continue(()))?;
///
/// let between = LabelVectors::numbered(2, vec![1.0, 0.5])?;
/// let scores = fitted.score(&images, &between, &cpu, &mut |_| ControlFlow::Continue(()))?;
/// assert!(scores[0] > scores[2]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Estimator {
    /// The method with its settings.
    pub method: Kind,
    /// How a method that follows gradients is trained; the others have no use for it. Labels are not left out here:
    /// `validation-labels`, `validation-folds` and `choose` are refused.
    pub training: TrainingSettings,
    /// Seed of everything that is drawn.
    pub seed: u64,
    /// The protocol of the mAP on validation images.
    pub protocol: Protocol,
}

/// What a method is trained on.
#[derive(Clone, Copy)]
pub struct TrainingData<'a> {
    /// Features of n images.
    pub images: &'a dyn TokenSource,
    /// Their labels `[n, L]`, +1, -1 or 0 for unknown. Images without a positive one are not trained on.
    pub labels: &'a SparseLabels,
    /// Vectors `[L, d_w]` of the labels; none for a method that does not [read them](crate::methods::Method::reads_label_vectors).
    pub vectors: Option<&'a LabelVectors>,
    /// Vectors `[U, d_w]` of labels that no image is trained on, for a method that wants to know them beforehand.
    pub unseen: Option<&'a LabelVectors>,
}

impl Estimator {
    /// A method with the default settings, seed 1 and the default protocol of recipes.
    pub fn new(method: Kind) -> Self {
        Self {
            method,
            training: TrainingSettings::default(),
            seed: 1,
            protocol: Protocol::epsilon(),
        }
    }

    /// Trains the method; `observe` is told of every step, and can break off: [`EstimatorError::Stopped`].
    ///
    /// # Errors
    /// [`EstimatorError`]: settings out of range, sizes that do not fit each other, no image with a positive label, a training that
    /// fails, and a method that is not trained at all.
    pub fn fit(
        &self,
        data: &TrainingData<'_>,
        device: &Device,
        observe: &mut dyn FnMut(Event) -> ControlFlow<()>,
    ) -> Result<FittedEstimator, EstimatorError> {
        self.check()?;
        let vectors = self.vectors(data)?;
        let count = vectors.len();
        let unit = Arc::new(vectors.unit());
        let (items, validation) = self.split(data)?;
        let unseen = data.unseen.map_or(0, LabelVectors::len);
        let examples = Examples::new(data.images, data.labels, items, unit.clone(), unseen);
        let dims = examples.dims();
        self.method.specs(&dims)?;
        let rows: Vec<usize> = validation.iter().map(|item| item.store_row).collect();
        let targets = data.labels.dense(rows.iter().copied(), count);
        let has_one = |row: &&usize| data.labels.positives(**row).next().is_some();
        let labelled = rows.iter().filter(has_one).count();
        if let Fitting::Gradient(_) = self.method.fitting() {
            self.training.check_stop(labelled)?;
        }
        let map = |weights: &Weights, progress: &mut dyn FnMut(usize, usize) -> ControlFlow<()>| {
            let columns = (0..count).collect();
            let scorer = Scorer::new(&self.method, weights, dims, unit.clone(), columns, device);
            let mut told = |done| progress(done, rows.len());
            let scores = scorer.score_rows(data.images, &rows, &mut told)?;
            let map = map_of(scores, &targets, count, &self.protocol, false);
            ControlFlow::Continue(map.unwrap_or_else(|error| {
                log::warn!("no validation figure: {error}");
                0.0
            }))
        };
        let trainer = Trainer {
            settings: &self.training,
            seed: self.seed,
            examples: &examples,
            device,
            folder: None,
            resume: false,
            identity: serde_json::Value::Null,
            validate: (labelled > 0).then_some(&map),
            last_epoch: None,
            ranks: &Alone,
        };
        let known = data
            .unseen
            .map_or_else(|| vectors.first(0), LabelVectors::unit);
        let fitted = trainer.fit_kind(&self.method, &known, observe)?;
        let all = match data.unseen {
            Some(unseen) => vectors.followed_by(unseen).map_err(unseen_error)?,
            None => vectors,
        };
        let method = self.method.clone();
        Ok(FittedEstimator::new(
            method,
            dims,
            all,
            fitted.weights,
            fitted.best_epoch,
        ))
    }

    /// What is refused before anything is looked at.
    fn check(&self) -> Result<(), EstimatorError> {
        let Fitting::Gradient(_) = self.method.fitting() else {
            return Ok(());
        };
        let training = &self.training;
        training.check()?;
        if training.leaves_labels_out() {
            let what = "validation-labels: only a recipe's training leaves labels out to choose settings; leave it at 0";
            return Err(TrainingError::Setting(what.into()).into());
        }
        Ok(())
    }

    /// Vectors of the labels that are trained on, as they are given.
    fn vectors(&self, data: &TrainingData<'_>) -> Result<LabelVectors, EstimatorError> {
        let labels = data.labels.columns();
        check_rows(data.images, data.labels)?;
        let vectors = match data.vectors {
            Some(vectors) => vectors.clone(),
            None if self.method.reads_label_vectors() => {
                let method = self.method.name();
                return Err(EstimatorError::NoVectors { method });
            }
            // They are not read.
            None => LabelVectors::numbered(1, vec![1.0; labels]).map_err(vectors_error)?,
        };
        if vectors.len() != labels {
            return Err(EstimatorError::Shape {
                what: "label vectors",
                found: format!("{} vectors", vectors.len()),
                expected: format!("there are {labels} labels"),
            });
        }
        match data.unseen {
            Some(unseen) if unseen.dim() != vectors.dim() => Err(EstimatorError::Shape {
                what: "unseen vectors",
                found: format!("{} wide", unseen.dim()),
                expected: format!("the label vectors are {} wide", vectors.dim()),
            }),
            _ => Ok(vectors),
        }
    }

    /// The images to train on and those to validate on.
    fn split(
        &self,
        data: &TrainingData<'_>,
    ) -> Result<(Vec<Example>, Vec<Example>), EstimatorError> {
        let all: Vec<Example> = (0..data.labels.rows())
            .map(|row| Example {
                store_row: row,
                label_row: row,
            })
            .collect();
        let positive = |items: &[Example]| {
            let mut items = items.iter();
            items.any(|item| data.labels.positives(item.label_row).next().is_some())
        };
        if !positive(&all) {
            return Err(EstimatorError::NoPositives);
        }
        let share = match self.method.fitting() {
            Fitting::Gradient(_) => self.training.validation,
            _ => 0.0,
        };
        let (items, validation) = split(all, share);
        match positive(&items) {
            true => Ok((items, validation)),
            false => Err(EstimatorError::Validation { share }),
        }
    }
}

/// Whether there is a row of labels for every image.
fn check_rows(images: &dyn TokenSource, labels: &SparseLabels) -> Result<(), EstimatorError> {
    if labels.rows() == images.images() {
        return Ok(());
    }
    Err(EstimatorError::Shape {
        what: "labels",
        found: format!("{} rows", labels.rows()),
        expected: format!("the features are of {} images", images.images()),
    })
}

fn vectors_error(source: LabelError) -> EstimatorError {
    EstimatorError::Vectors {
        what: "label vectors",
        source,
    }
}

fn unseen_error(source: LabelError) -> EstimatorError {
    EstimatorError::Vectors {
        what: "unseen vectors",
        source,
    }
}

/// How many of the labels that it was trained with a method knows, seen ones first.
fn known(vocabulary: Vocabulary, dims: &Dims) -> usize {
    match vocabulary {
        Vocabulary::Seen => dims.labels,
        Vocabulary::Open | Vocabulary::Closed => dims.labels + dims.unseen,
    }
}
